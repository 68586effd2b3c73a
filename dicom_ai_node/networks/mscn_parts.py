"""Each half of M-SCN on its own: the rows "LN" and "GN" of P3's ablation (section 3.4.4, table 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dicom_ai_node.networks.blocks import ConvolutionBlock, Dimensions, Projection, memory_format
from dicom_ai_node.networks.mscn import Heatmaps, ascended, begin_at, descended, enlarged, halved, refeaturing
from dicom_ai_node.networks.unet import Decoder, Encoder


class LocalNetwork(nn.Module):
    """The local network alone: its heatmaps are the answer, and the global factor is 1.

    Args:
        in_channels: channels of the input.
        out_channels: landmarks.
        dimensions: 2 or 3.
        channels: features per level, finest first.
        attention: attention gates on the skip connections.
        residual: residual connections in the blocks.

    Inputs have shape (batch, in_channels, *size), every size a multiple of ``multiple``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: Dimensions = 3,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        *,
        attention: bool = False,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.multiple = 2 ** (len(channels) - 1)
        self.encoder = Encoder(in_channels, dimensions, channels, residual)
        self.decoder = Decoder(dimensions, channels, residual, attention)
        self.local_head = Projection(channels[0], out_channels)
        begin_at(self.local_head, 0.0)
        self.to(memory_format=memory_format(dimensions))  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Heatmaps:
        """The heatmaps, as product and as local factor."""
        x = x.contiguous(memory_format=memory_format(self.dimensions))
        answer = self.local_head(self.decoder(self.encoder(x))[-1])
        return Heatmaps(answer, answer, torch.ones((), device=answer.device).expand_as(answer))


class GlobalNetwork(nn.Module):
    """The global network alone: a U of single convolutions with large kernels that sees the image itself.

    P3 does not tell what its global network sees without the local one, whose heatmaps and decoder features
    are its input; here the image takes their place, and with nothing to filter its own features pass.

    Args:
        in_channels: channels of the input.
        out_channels: landmarks.
        dimensions: 2 or 3.
        global_channels: features.
        global_stride: 1 as published, 2 as in `MSCN`.
        levels: of the U, at whose finest the input lies.
        kernel: of every convolution.

    Inputs have shape (batch, in_channels, *size), every size a multiple of ``multiple``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: Dimensions = 3,
        *,
        global_channels: int = 16,
        global_stride: int = 1,
        levels: int = 4,
        kernel: int = 7,
    ) -> None:
        super().__init__()
        if global_stride not in (1, 2):
            raise ValueError(f"global_stride is 1 or 2, not {global_stride}")
        self.dimensions = dimensions
        self.global_stride = global_stride
        self.multiple = global_stride * 2 ** (levels - 1)
        self.refeature = refeaturing(dimensions, in_channels, global_channels, kernel, levels)
        self.reconvolve = nn.ModuleList(
            ConvolutionBlock(dimensions, global_channels, global_channels, kernel) for _ in range(levels)
        )
        self.global_head = Projection(global_channels, out_channels)
        begin_at(self.global_head, 0.0)
        self.to(memory_format=memory_format(dimensions))  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Heatmaps:
        """The heatmaps, as product and as global factor."""
        x = x.contiguous(memory_format=memory_format(self.dimensions))
        features = halved(x) if self.global_stride == 2 else x
        sizes = [
            [length // 2**level for length in features.shape[2:]]
            for level in reversed(range(len(self.refeature)))
        ]
        answer = self.global_head(ascended(descended(features, self.refeature, sizes), self.reconvolve))
        answer = enlarged(answer, x)
        return Heatmaps(answer, torch.ones((), device=answer.device).expand_as(answer), answer)
