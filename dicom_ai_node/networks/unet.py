"""U-Net (Ronneberger 2015; Cicek 2016), the segmentation network of P3 section 2.3.1."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dicom_ai_node.networks.blocks import (
    AttentionGate,
    Dimensions,
    DoubleConvolution,
    Projection,
    halve,
    memory_format,
    upsampling,
)


class Encoder(nn.Module):
    """The contracting path: one double convolution per level, maximum pooling between."""

    def __init__(
        self, in_channels: int, dimensions: Dimensions, channels: Sequence[int], residual: bool
    ) -> None:
        super().__init__()
        inputs = (in_channels, *channels[:-1])
        self.blocks = nn.ModuleList(
            DoubleConvolution(dimensions, before, after, residual)
            for before, after in zip(inputs, channels, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features of every level, finest first."""
        features: list[Tensor] = []
        for block in self.blocks:
            features.append(block(halve(features[-1]) if features else x))
        return features


class Decoder(nn.Module):
    """The expanding path: transposed convolution, skip connection (gated or not), double convolution."""

    def __init__(
        self, dimensions: Dimensions, channels: Sequence[int], residual: bool, attention: bool
    ) -> None:
        super().__init__()
        coarse_to_fine = list(reversed(channels))
        pairs = list(itertools.pairwise(coarse_to_fine))
        self.upsamplings = nn.ModuleList(upsampling(dimensions, coarse, fine) for coarse, fine in pairs)
        self.gates = nn.ModuleList(AttentionGate(fine) for _, fine in pairs if attention)
        self.blocks = nn.ModuleList(
            DoubleConvolution(dimensions, 2 * fine, fine, residual) for _, fine in pairs
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """From the encoder's features (finest first) to the decoder's, coarsest first; no bottleneck."""
        x = features[-1]
        decoded: list[Tensor] = []
        for level, (upsampling_, block) in enumerate(zip(self.upsamplings, self.blocks, strict=True)):
            skip, x = features[-2 - level], upsampling_(x)
            if len(self.gates):
                skip = self.gates[level](skip, x)
            x = block(torch.cat([skip, x], dim=1))
            decoded.append(x)
        return decoded


class UNet(nn.Module):
    """U-shaped network that gives one logit per class and voxel.

    Args:
        in_channels: channels of the input.
        out_channels: classes (P3: background, normal, fractured).
        dimensions: 2 or 3.
        channels: features per level, finest first.

    Inputs have shape (batch, in_channels, *size), every size a multiple of ``2 ** (len(channels) - 1)``;
    outputs (batch, out_channels, *size).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dimensions: Dimensions = 3,
        channels: Sequence[int] = (16, 32, 64, 128),
    ) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.multiple = 2 ** (len(channels) - 1)
        self.encoder = Encoder(in_channels, dimensions, channels, residual=False)
        self.decoder = Decoder(dimensions, channels, residual=False, attention=False)
        self.head = Projection(channels[0], out_channels)
        self.to(memory_format=memory_format(dimensions))  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = x.contiguous(memory_format=memory_format(self.dimensions))
        logits: Tensor = self.head(self.decoder(self.encoder(x))[-1])
        return logits
