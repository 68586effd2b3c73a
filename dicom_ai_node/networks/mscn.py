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
            finest one (ablation).
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
        filtered = list(reversed(channels[:-1]))[-_FILTERED_LEVELS if multiple_filtering else -1 :]
        self.refeature = nn.ModuleList(
            ConvolutionBlock(dimensions, out_channels if last else global_channels, global_channels, kernel)
            for last in [False] * (len(filtered) - 1) + [True]
        )
        self.project = nn.ModuleList(Projection(width, global_channels) for width in filtered)
        self.reconvolve = nn.ModuleList(
            ConvolutionBlock(dimensions, global_channels, global_channels, kernel) for _ in filtered
        )
        self.global_head = Projection(global_channels, out_channels)
        # Both factors start near a constant: a product of two small random maps has no gradient.
        _begin_at(self.local_head, 0.0)
        _begin_at(self.global_head, 1.0)
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
            decoded = [*coarser, _average(finest)]
            features = _average(local_factor)
        else:
            features = local_factor
        filters: list[Tensor] = []
        for refeature, level in zip(reversed(self.refeature), reversed(decoded), strict=True):
            if features.shape[2:] != level.shape[2:]:
                features = _average(features)
            features = refeature(features)
            filters.insert(0, features)
        x: Tensor | None = None
        for filter_, level, project, reconvolve in zip(
            filters, decoded, self.project, self.reconvolve, strict=True
        ):
            filtered = project(level) * filter_
            if x is not None:
                filtered = filtered + _enlarge(x, filtered)
            x = reconvolve(filtered)
        assert x is not None
        answer = self.global_head(x)
        return _enlarge(answer, local_factor)


def _average(x: Tensor) -> Tensor:
    pooled = functional.avg_pool3d(x, 2) if x.ndim == 5 else functional.avg_pool2d(x, 2)
    return pooled.contiguous(memory_format=memory_format(x.ndim - 2))


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    if x.shape[2:] == like.shape[2:]:
        return x
    mode = "trilinear" if x.ndim == 5 else "bilinear"
    larger = functional.interpolate(x, size=like.shape[2:], mode=mode, align_corners=False)
    return larger.contiguous(memory_format=memory_format(x.ndim - 2))


def _begin_at(head: Projection, value: float) -> None:
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.fill_(value)
