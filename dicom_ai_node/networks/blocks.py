"""The convolution blocks that MSCN and UNet are built from, in two or three dimensions.

Every block works on (batch, channels, rows, columns) or (batch, channels, slices, rows, columns). Networks
run in the channels-last memory format: on CPUs torch's convolutions are several times faster in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Dimensions = Literal[2, 3]
Norm = Literal["batch", "group"]

_CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_NEGATIVE_SLOPE = 0.1


def convolution(dimensions: Dimensions, inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """A convolution that keeps the size at stride 1 (odd kernels), with He's initialisation."""
    layer = _CONVOLUTION[dimensions](
        inputs, outputs, kernel, stride=stride, padding=(kernel - stride + 1) // 2
    )
    nn.init.kaiming_normal_(layer.weight, a=_NEGATIVE_SLOPE)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def upsampling(dimensions: Dimensions, inputs: int, outputs: int) -> nn.Module:
    """A transposed convolution that doubles the size."""
    layer = _TRANSPOSED[dimensions](inputs, outputs, kernel_size=2, stride=2)
    nn.init.kaiming_normal_(layer.weight, a=_NEGATIVE_SLOPE)
    return layer


def halve(x: Tensor) -> Tensor:
    """Maximum pooling by two."""
    return functional.max_pool3d(x, 2) if x.ndim == 5 else functional.max_pool2d(x, 2)


def memory_format(dimensions: int) -> torch.memory_format:
    """The channels-last format for tensors with that many spatial dimensions."""
    return torch.channels_last_3d if dimensions == 3 else torch.channels_last


def norm_layer(norm: Norm) -> Callable[[int], nn.Module]:
    """What torchvision's networks call for every layer's normalisation: channels -> module."""
    return nn.BatchNorm2d if norm == "batch" else _group_norm


def _group_norm(channels: int) -> nn.Module:
    most = min(32, channels // 4)
    return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)


class Projection(nn.Module):
    """A convolution with kernel 1, computed as one matrix product over the channels-last layout."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.weight, a=_NEGATIVE_SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """Same size, `outputs` channels, channels last."""
        return functional.linear(x.movedim(1, -1), self.weight, self.bias).movedim(-1, 1)


class InstanceNorm(nn.Module):
    """Instance normalisation with scale and shift, for any number of dimensions.

    Sample by sample through batch normalisation, which is the same arithmetic: torch's own instance
    normalisation leaves the channels-last format, and every convolution after it would convert back.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Each channel of each sample with mean `bias` and deviation `weight`; a single value is `bias`."""
        if x[0, 0].numel() == 1:
            return torch.zeros_like(x) + self.bias.view(-1, *[1] * (x.ndim - 2))
        samples = [
            functional.batch_norm(sample, None, None, self.weight, self.bias, training=True)
            for sample in torch.split(x, 1)
        ]
        return samples[0] if len(samples) == 1 else torch.cat(samples)


def _convolved(layer: nn.Module, x: Tensor, kernel: int) -> Tensor:
    """The convolution of an image, in float32 where the kernel is larger than the image.

    There oneDNN writes and reads beyond its memory in the backward pass of bfloat16 (torch 2.12); so small an
    image costs nothing in float32.
    """
    if x.is_cpu and min(x.shape[2:]) < kernel:
        with torch.autocast("cpu", enabled=False):
            return layer(x.float())  # type: ignore[no-any-return]
    return layer(x)  # type: ignore[no-any-return]


class ConvolutionBlock(nn.Module):
    """One convolution, normalisation and leaky ReLU (P3 Fig. 5: the global network's block)."""

    def __init__(self, dimensions: Dimensions, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.convolution = convolution(dimensions, inputs, outputs, kernel)
        self.norm = InstanceNorm(outputs)
        self._kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Same size, `outputs` channels."""
        convolved = _convolved(self.convolution, x, self._kernel)
        return functional.leaky_relu(self.norm(convolved), _NEGATIVE_SLOPE, inplace=True)


class DoubleConvolution(nn.Module):
    """Two convolutions with an optional residual connection (P3 Fig. 5: the local network's block)."""

    def __init__(self, dimensions: Dimensions, inputs: int, outputs: int, residual: bool) -> None:
        super().__init__()
        self.first = ConvolutionBlock(dimensions, inputs, outputs)
        self.second = convolution(dimensions, outputs, outputs, 3)
        self.norm = InstanceNorm(outputs)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Same size, `outputs` channels; the residual connection joins the output of the first convolution.

        The block changes the number of channels in its first convolution, so the identity starts after it:
        an exact shortcut without a projection.
        """
        first = self.first(x)
        second = self.norm(_convolved(self.second, first, 3))
        return functional.leaky_relu(
            second + first if self.residual else second, _NEGATIVE_SLOPE, inplace=True
        )


class AttentionGate(nn.Module):
    """Weighs the skip connection by what the coarser decoder level looks for (P3 eq. 4-5; Oktay 2018).

    P3's equation 5 puts the ReLU outside and the sigmoid inside; the sigmoid is meant to be outermost, as in
    the cited attention U-Net: a gate lies between 0 and 1.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(channels // 2, 4)
        self.skip = Projection(channels, between)
        self.gate = Projection(channels, between)
        self.weight = Projection(between, 1)

    def forward(self, skip: Tensor, gate: Tensor) -> Tensor:
        """`skip`, each place multiplied by a number between 0 and 1; both inputs have the same shape."""
        attention = self.weight(functional.relu(self.skip(skip) + self.gate(gate)))
        weighted: Tensor = skip * torch.sigmoid(attention)
        return weighted
