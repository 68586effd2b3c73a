"""What is done to intensities before any network sees them: the same in training and in inference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dicom_ai_node.networks.heatmaps import gaussian_heatmaps


def standardise(image: Tensor, clip_hu: tuple[float, float]) -> Tensor:
    """Clipped to `clip_hu`, then standard score over the last three axes (P3 eq. 19)."""
    clipped = image.float().clamp(*clip_hu)
    axes = (-3, -2, -1)
    deviation, mean = torch.std_mean(clipped, dim=axes, keepdim=True, correction=0)
    return (clipped - mean) / (deviation + 1e-3)


def marker(size: Sequence[int], sigma: float) -> Tensor:
    """A Gaussian at the middle of a crop, which says what is meant; shape `size`, sigma in voxels."""
    middle = (torch.tensor(size, dtype=torch.float32) - 1) / 2
    return gaussian_heatmaps(middle[None, None], size, sigma)[0, 0]
