"""`MriDetector`: body, centre and name of every vertebra on a sagittal MR slice, densely and at once.

A 2-D U-Net over a slice and its two neighbours. At full resolution it says whether a pixel is a vertebral
body and where that body's centre lies (so that touching bodies come apart: their pixels point to different
places; after Cheng 2020, Panoptic-DeepLab). At a quarter of it, it draws one heatmap per level as M-SCN does
(P3 section 2.2): a local factor from the decoder, times a global factor from kernels of 7 on coarser levels,
whose reach is the whole slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.networks.blocks import ConvolutionBlock, Projection, memory_format
from dicom_ai_node.networks.mr_intensity import filled_up, with_neighbours
from dicom_ai_node.networks.unet import Decoder, Encoder

OFFSET_UNIT_MM = 10.0
"""Offsets are answered in this unit: numbers about 1 are learned best."""

HEATMAP_STRIDE = 4
"""Pixels of the image per pixel of the heatmaps."""

_KERNEL = 7


class MriAnswer(NamedTuple):
    """What the network says of the middle slices of a batch.

    Attributes:
        body: logit that a pixel is a vertebral body, (batch, rows, columns).
        offset: from a pixel to its body's centre [row, column], unit `OFFSET_UNIT_MM`,
            (batch, 2, rows, columns).
        heatmaps: (batch, levels, rows / 4, columns / 4); 1 is the peak that training asks for.
    """

    body: Tensor
    offset: Tensor
    heatmaps: Tensor


class MriDetector(nn.Module):
    """Dense detector of vertebral bodies.

    Args:
        levels: heatmaps.
        channels: features per level of the U-Net, finest first; four levels at least.
        global_channels: features of the part that names.
        slices: of the input: the one in question and its neighbours.

    Inputs have shape (batch, slices, rows, columns), both sizes a multiple of ``multiple``.
    """

    def __init__(
        self,
        levels: int,
        channels: Sequence[int] = (12, 24, 48, 64, 96, 96),
        global_channels: int = 32,
        slices: int = 3,
    ) -> None:
        super().__init__()
        if len(channels) < 4:
            raise ValueError(f"a detector has four levels at least, not {len(channels)}")
        self.multiple = 2 ** (len(channels) - 1)
        self.encoder = Encoder(slices, 2, channels, residual=True)
        self.decoder = Decoder(2, channels, residual=True, attention=False)
        self.dense = Projection(channels[0], 3)
        self.local_head = Projection(channels[2], levels)
        # From the coarsest level up to a quarter of the resolution.
        coarse = list(reversed(channels[2:]))
        self.project = nn.ModuleList(Projection(width, global_channels) for width in coarse)
        self.reach = nn.ModuleList(
            ConvolutionBlock(2, global_channels, global_channels, _KERNEL) for _ in coarse
        )
        self.global_head = Projection(global_channels, levels)
        # A body is rare: without a bias the first steps are spent on learning that.
        with torch.no_grad():
            self.dense.weight.mul_(0.1)
            self.dense.bias.copy_(torch.tensor([-2.0, 0.0, 0.0]))
            # As in M-SCN: a product of two small random maps has no gradient.
            self.local_head.weight.mul_(0.1)
            self.global_head.weight.mul_(0.1)
            self.global_head.bias.fill_(1.0)
        self.to(memory_format=memory_format(2))  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> MriAnswer:
        """See `MriAnswer`."""
        features = self.encoder(x.contiguous(memory_format=memory_format(2)))
        decoded = self.decoder(features)
        dense = self.dense(decoded[-1])
        levels = [features[-1], *decoded[: len(self.reach) - 1]]
        carried: Tensor | None = None
        for level, project, reach in zip(levels, self.project, self.reach, strict=True):
            own = project(level)
            if carried is not None:
                own = own + functional.interpolate(
                    carried, size=own.shape[2:], mode="bilinear", align_corners=False
                )
            carried = reach(own)
        assert carried is not None
        heatmaps = self.local_head(levels[-1]) * self.global_head(carried)
        return MriAnswer(dense[:, 0], dense[:, 1:], heatmaps)


def answer_stack(network: nn.Module, stack: Tensor, batch: int = 4) -> MriAnswer:
    """What a network says of every slice of a stack.

    Args:
        network: a `MriDetector`.
        stack: (slices, rows, columns), -1 to 1, on any device.
        batch: slices that run at once.

    Returns:
        float32 on the CPU: body and offset cut to the size of the stack, heatmaps with what was filled up.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    multiple = int(cast("int", network.multiple))
    rows, columns = stack.shape[1:]
    parts: list[MriAnswer] = []
    for slices in torch.split(with_neighbours(filled_up(stack, multiple)), batch):
        with torch.inference_mode():
            parts.append(MriAnswer(*(item.float().cpu() for item in network(slices.to(device)))))
    body, offset, heatmaps = (torch.cat(items) for items in zip(*parts, strict=True))
    return MriAnswer(body[:, :rows, :columns], offset[:, :, :rows, :columns], heatmaps)
