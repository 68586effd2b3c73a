"""M-SCN (P3 section 2.2): a local network finds, a global network says which; their product is the answer.

The local network is a U-Net with attention gates and residual blocks that draws one heatmap per landmark. The
global network sees those heatmaps again, makes features of them at every decoder level, multiplies the
decoder's features by them ("multiple filtering") and carries the result up again with kernels of 7, whose
reach tells one vertebra from the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.networks.blocks import ConvolutionBlock, Dimensions, Projection, memory_format
from dicom_ai_node.networks.unet import Decoder, Encoder

_FILTERED_LEVELS = 4


class Heatmaps(NamedTuple):
    """The answer of the network and its two factors, each (batch, landmarks, *size)."""

    product: Tensor
    local_factor: Tensor
    global_factor: Tensor


class MSCN(nn.Module):
    """Heatmap regression network with a local and a global part.

    Args:
        in_channels: channels of the input.
        out_channels: landmarks.
        dimensions: 2 or 3.
        channels: features of the local network per level, finest first.
        attention: attention gates on the skip connections (ablation of P3 table 4).
        multiple_filtering: the global network filters all four finest decoder levels; without it only the
            finest one, and its own coarser levels pass unfiltered (ablation).
        residual: residual connections in the local network's blocks (ablation).
        global_channels: features in the global network.
        global_stride: 1 as published; 2 runs the global network from half the resolution down, which costs
            an eighth in three dimensions (SCN, Payer 2019, does likewise) and leaves the fine position to
            the local factor.
        kernel: kernel of the global network.

    Inputs have shape (batch, in_channels, *size), every size a multiple of ``multiple``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: Dimensions = 3,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        *,
        attention: bool = True,
        multiple_filtering: bool = True,
        residual: bool = True,
        global_channels: int = 16,
        global_stride: int = 1,
        kernel: int = 7,
    ) -> None:
        super().__init__()
        if global_stride not in (1, 2):
            raise ValueError(f"global_stride is 1 or 2, not {global_stride}")
        self.dimensions = dimensions
        self.multiple = 2 ** (len(channels) - 1)
        self.global_stride = global_stride
        self.encoder = Encoder(in_channels, dimensions, channels, residual)
        self.decoder = Decoder(dimensions, channels, residual, attention)
        self.local_head = Projection(channels[0], out_channels)
        levels = min(_FILTERED_LEVELS, len(channels) - 1)
        filtered = list(reversed(channels[: levels if multiple_filtering else 1]))
        self.refeature = refeaturing(dimensions, out_channels, global_channels, kernel, levels)
        self.project = nn.ModuleList(Projection(width, global_channels) for width in filtered)
        self.reconvolve = nn.ModuleList(
            ConvolutionBlock(dimensions, global_channels, global_channels, kernel) for _ in range(levels)
        )
        self.global_head = Projection(global_channels, out_channels)
        # Both factors start near a constant: a product of two small random maps has no gradient.
        begin_at(self.local_head, 0.0)
        begin_at(self.global_head, 1.0)
        self.to(memory_format=memory_format(dimensions))  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Heatmaps:
        """The product and its factors."""
        x = x.contiguous(memory_format=memory_format(self.dimensions))
        decoded = self.decoder(self.encoder(x))
        local_factor = self.local_head(decoded[-1])
        global_factor = self._global(local_factor, decoded[-len(self.refeature) :])
        return Heatmaps(local_factor * global_factor, local_factor, global_factor)

    def _global(self, local_factor: Tensor, decoded: list[Tensor]) -> Tensor:
        if self.global_stride == 2:
            *coarser, finest = decoded
            decoded = [*coarser, halved(finest)]
            features = halved(local_factor)
        else:
            features = local_factor
        filters = descended(features, self.refeature, [level.shape[2:] for level in decoded])
        unfiltered = len(filters) - len(self.project)
        for number, project in enumerate(self.project, start=unfiltered):
            filters[number] = project(decoded[number]) * filters[number]
        return enlarged(self.global_head(ascended(filters, self.reconvolve)), local_factor)


def refeaturing(
    dimensions: Dimensions, in_channels: int, channels: int, kernel: int, levels: int
) -> nn.ModuleList:
    """The blocks that make the global network's features on the way down, coarsest first."""
    return nn.ModuleList(
        ConvolutionBlock(dimensions, in_channels if last else channels, channels, kernel)
        for last in [False] * (levels - 1) + [True]
    )


def descended(x: Tensor, blocks: nn.ModuleList, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Features of all levels, coarsest first as `blocks` and `sizes`, each level's made of the finer's."""
    features: list[Tensor] = []
    for block, size in zip(reversed(blocks), reversed(sizes), strict=True):
        x = block(x if tuple(x.shape[2:]) == tuple(size) else halved(x))
        features.insert(0, x)
    return features


def ascended(features: Sequence[Tensor], blocks: nn.ModuleList) -> Tensor:
    """From the features of all levels, coarsest first, to those of the finest: enlarge, add, convolve."""
    x = blocks[0](features[0])
    for block, finer in zip(blocks[1:], features[1:], strict=True):
        x = block(finer + enlarged(x, finer))
    answer: Tensor = x
    return answer


def halved(x: Tensor) -> Tensor:
    """Averages of two voxels along each axis."""
    pooled = functional.avg_pool3d(x, 2) if x.ndim == 5 else functional.avg_pool2d(x, 2)
    return pooled.contiguous(memory_format=memory_format(x.ndim - 2))


def enlarged(x: Tensor, like: Tensor) -> Tensor:
    """Interpolated linearly to the size of `like`."""
    if x.shape[2:] == like.shape[2:]:
        return x
    mode = "trilinear" if x.ndim == 5 else "bilinear"
    larger = functional.interpolate(x, size=like.shape[2:], mode=mode, align_corners=False)
    return larger.contiguous(memory_format=memory_format(x.ndim - 2))


def begin_at(head: Projection, value: float) -> None:
    """Let a last layer answer with nearly `value` everywhere at first."""
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.fill_(value)
