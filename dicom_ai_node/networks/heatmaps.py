"""Landmarks as heatmaps and heatmaps as landmarks (P3 eq. 1, 2 and 16).

Positions are voxel coordinates in the order of the array's axes; voxel centres lie at whole numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_KEPT_ABOVE = 0.2


def gaussian_heatmaps(positions: Tensor, size: Sequence[int], sigma: float, peak: float = 1.0) -> Tensor:
    """One Gaussian per landmark (P3 eq. 1, scaled to `peak` instead of unit area).

    Args:
        positions: shape (batch, landmarks, axes); a landmark with a NaN is absent and its map is zero.
        size: spatial size of the maps, one number per axis.
        sigma: standard deviation in voxels.
        peak: value at the landmark.

    Returns:
        float32, shape (batch, landmarks, *size).
    """
    answer = torch.full(positions.shape[:2], float(peak), device=positions.device)
    answer = answer.reshape(*answer.shape, *[1] * len(size))
    for axis, length in enumerate(size):
        grid = torch.arange(length, device=positions.device, dtype=torch.float32)
        factor = torch.exp(-0.5 * ((grid - positions[..., axis, None].float()) / sigma) ** 2)
        shape = [*positions.shape[:2], *[1] * len(size)]
        shape[2 + axis] = length
        answer = answer * factor.reshape(shape)
    return torch.nan_to_num(answer, nan=0.0)


def peak_positions(heatmaps: Tensor, radius: int = 3) -> tuple[Tensor, Tensor]:
    """Where each heatmap is brightest, between the voxels.

    The maximum (P3 eq. 2) says which voxel; the centroid of what stands out within `radius` voxels of it
    says where between the voxels.

    Args:
        heatmaps: shape (batch, landmarks, *size).
        radius: reach of the centroid in voxels.

    Returns:
        Positions, shape (batch, landmarks, axes), and the maxima, shape (batch, landmarks).
    """
    batch, landmarks, *size = heatmaps.shape
    flat = heatmaps.reshape(batch, landmarks, -1).float()
    values, indices = flat.max(dim=2)
    corner = torch.stack(torch.unravel_index(indices, tuple(size)), dim=2)
    steps = torch.arange(-radius, radius + 1, device=heatmaps.device)
    offsets = torch.cartesian_prod(*[steps] * len(size)).reshape(-1, len(size))
    places = corner[:, :, None, :] + offsets
    limit = torch.tensor(size, device=heatmaps.device) - 1
    inside = ((places >= 0) & (places <= limit)).all(dim=3)
    places = places.clamp(min=torch.zeros_like(limit), max=limit)
    strides = torch.tensor([_product(size[axis + 1 :]) for axis in range(len(size))], device=heatmaps.device)
    window = flat.gather(2, (places * strides).sum(dim=3).reshape(batch, landmarks, -1))
    weight = (window - _KEPT_ABOVE * values[..., None]).clamp(min=0) * inside
    total = weight.sum(dim=2, keepdim=True)
    centroid = (weight[..., None] * places).sum(dim=2) / total.clamp(min=1e-12)
    return torch.where(total > 0, centroid, corner.to(centroid.dtype)), values


def _product(numbers: Sequence[int]) -> int:
    answer = 1
    for number in numbers:
        answer *= number
    return answer
