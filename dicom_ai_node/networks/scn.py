"""The SpatialConfiguration-Net (Payer 2019, Med Image Anal 54:207), which P3 improves on and compares with.

One part draws heatmaps that are exact but take neighbours for each other; a few convolutions with kernels
of 7, on those heatmaps alone and much coarser, say which of them can be meant. Widths, strides and
activations are those of the authors' network for vertebrae on CT (Payer 2020, VISAPP); it has no
normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.networks.blocks import Dimensions, Projection, convolution, memory_format
from dicom_ai_node.networks.mscn import Heatmaps, begin_at, enlarged, halved

_NEGATIVE_SLOPE = 0.1
_SPATIAL_LAYERS = 3


class SCN(nn.Module):
    """Heatmap regression network whose spatial part sees nothing but the local part's heatmaps.

    Args:
        in_channels: channels of the input.
        out_channels: landmarks.
        dimensions: 2 or 3.
        channels: features of the local part per level, finest first; 64 everywhere as published.
        global_channels: features of the spatial part.
        global_stride: how much coarser the spatial part is, a power of two.
        kernel: of the spatial part.

    Inputs have shape (batch, in_channels, *size), every size a multiple of ``multiple``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: Dimensions = 3,
        channels: Sequence[int] = (64, 64, 64, 64),
        *,
        global_channels: int = 64,
        global_stride: int = 4,
        kernel: int = 7,
    ) -> None:
        super().__init__()
        if global_stride < 1 or global_stride & (global_stride - 1):
            raise ValueError(f"global_stride is a power of two, not {global_stride}")
        self.dimensions = dimensions
        self.multiple = max(2 ** (len(channels) - 1), global_stride)
        self.global_stride = global_stride
        self.first = convolution(dimensions, in_channels, channels[0], 3)
        before = (channels[0], *channels[:-1])
        self.contracting = nn.ModuleList(
            _Plain(dimensions, inputs, outputs) for inputs, outputs in zip(before, channels, strict=True)
        )
        self.expanding = nn.ModuleList(
            _Plain(dimensions, fine + coarse, fine)
            for fine, coarse in zip(channels[-2::-1], channels[:0:-1], strict=True)
        )
        self.local_head = Projection(channels[0], out_channels)
        widths = (out_channels, *[global_channels] * _SPATIAL_LAYERS)
        self.spatial = nn.ModuleList(
            convolution(dimensions, inputs, global_channels, kernel) for inputs in widths[:-1]
        )
        self.global_head = Projection(global_channels, out_channels)
        begin_at(self.local_head, 0.0)
        # The hyperbolic tangent of it is not small: a product of two small random maps has no gradient.
        begin_at(self.global_head, 1.0)
        self.to(memory_format=memory_format(dimensions))  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Heatmaps:
        """The product and its factors; the global one lies between -1 and 1."""
        x = x.contiguous(memory_format=memory_format(self.dimensions))
        local_factor = self.local_head(self._local(_activated(self.first(x))))
        spatial = local_factor
        for _ in range(self.global_stride.bit_length() - 1):
            spatial = halved(spatial)
        for layer in self.spatial:
            spatial = _activated(layer(spatial))
        global_factor = enlarged(torch.tanh(self.global_head(spatial)), local_factor)
        return Heatmaps(local_factor * global_factor, local_factor, global_factor)

    def _local(self, x: Tensor) -> Tensor:
        features: list[Tensor] = []
        for block in self.contracting:
            features.append(block(halved(features[-1]) if features else x))
        x = features.pop()
        for block in self.expanding:
            skip = features.pop()
            x = block(torch.cat([skip, enlarged(x, skip)], dim=1))
        return x


class _Plain(nn.Module):
    """Two convolutions without normalisation."""

    def __init__(self, dimensions: Dimensions, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = convolution(dimensions, inputs, outputs, 3)
        self.second = convolution(dimensions, outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return _activated(self.second(_activated(self.first(x))))


def _activated(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, _NEGATIVE_SLOPE, inplace=True)
