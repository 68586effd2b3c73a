"""What is done to intensities before any network sees them: the same in training and in inference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from dicom_ai_node.networks.heatmaps import gaussian_heatmaps

_LEAST_DEVIATION = 1e-3

OUTLINED: Final = 0.5
"""From this probability on a pixel belongs to the binary mask of a body (P3 section 2.1)."""


def standardise(
    image: Tensor, clip_hu: tuple[float, float], moments: tuple[float, float] | None = None
) -> Tensor:
    """Clipped to `clip_hu`, then standard score over the last three axes (P3 eq. 19).

    Args:
        image: HU.
        clip_hu: lowest and highest value.
        moments: mean and standard deviation to take instead of the image's own: those of the volume that a
            patch was cut from.
    """
    clipped = image.float().clamp(*clip_hu)
    if moments is not None:
        return (clipped - moments[0]) / (moments[1] + _LEAST_DEVIATION)
    axes = (-3, -2, -1)
    deviation, mean = torch.std_mean(clipped, dim=axes, keepdim=True, correction=0)
    return (clipped - mean) / (deviation + _LEAST_DEVIATION)


def clipped_moments(volume: Tensor, clip_hu: tuple[float, float]) -> tuple[float, float]:
    """Mean and standard deviation of a volume that is clipped to `clip_hu`; slice by slice, in little memory.

    Args:
        volume: HU, shape (slices, rows, columns), any real type.
        clip_hu: lowest and highest value.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for plane in volume:
        clipped = plane.double().clamp(*clip_hu)
        sums += torch.stack([clipped.sum(), clipped.square().sum()]).cpu()
    mean, square = (sums / volume.numel()).tolist()
    return mean, math.sqrt(max(square - mean**2, 0.0))


def reach_of(sigma: float) -> int:
    """How far `smoothed` looks, in voxels."""
    return max(1, round(2.5 * sigma))


def smoothed(image: Tensor, sigma: float, axes: Sequence[int] | None = None) -> Tensor:
    """The image through a Gaussian of `sigma` voxels along axes (None: all); edges are repeated outwards."""
    radius = reach_of(sigma)
    kernel = [math.exp(-0.5 * (step / sigma) ** 2) for step in range(-radius, radius + 1)]
    total = sum(kernel)
    for axis in range(image.ndim) if axes is None else axes:
        # Sums of shifted images: torch's convolution is slow for one channel on a CPU.
        length = image.shape[axis]
        places = torch.arange(-radius, length + radius, device=image.device).clamp(0, length - 1)
        extended = image.index_select(axis, places)
        image = extended.narrow(axis, 0, length) * (kernel[0] / total)
        for shift, weight in enumerate(kernel[1:], start=1):
            image = image.add(extended.narrow(axis, shift, length), alpha=weight / total)
    return image


def marker(size: Sequence[int], sigma: float) -> Tensor:
    """A Gaussian at the middle of a crop, which says what is meant; shape `size`, sigma in voxels."""
    middle = (torch.tensor(size, dtype=torch.float32) - 1) / 2
    return gaussian_heatmaps(middle[None, None], size, sigma)[0, 0]
