"""A network that computes in half the bits and answers in float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dicom_ai_node.networks.answers import each_tensor


class InHalfTheBits(nn.Module):
    """A network under autocast: what follows its answer adds up many small numbers, and does so in float32.

    Args:
        network: whose weights stay as they are.
        kind: bfloat16, which processors and GPUs know and which has float32's range; float16 is exacter, for
            answers that are peaks or points, and GPUs alone are fast with it.
    """

    def __init__(self, network: nn.Module, kind: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.network = network
        self.kind = kind

    @property
    def multiple(self) -> int:
        """Of the network, where sizes of its input must be multiples."""
        return int(self.network.multiple)  # type: ignore[arg-type]

    def forward(self, x: Tensor, *others: Any) -> Any:
        """As the network."""
        with torch.autocast(x.device.type, dtype=self.kind):
            return each_tensor(_as_float, self.network(x, *others))


def _as_float(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor
