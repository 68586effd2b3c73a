"""What is done to an MR series before a network sees it: the same in training and in inference."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

PERCENTILES = (1.0, 99.5)
EMPTY = -1.0
"""What lies outside the image is shown to the networks as: no signal."""

_COUNTED = 200_000


def signal_range(image: Tensor, percentiles: tuple[float, float] = PERCENTILES) -> tuple[float, float]:
    """Two percentiles of a series; no unit is shared by scanners, so the series itself is all there is.

    Args:
        image: any shape and real type; the whole series, so that its slices keep one scale.
        percentiles: of its values.
    """
    flat = image.reshape(-1)
    # A step that shares no factor with the rows' length meets every column.
    flat = flat[:: max(1, flat.numel() // _COUNTED) | 1].float()
    low, high = torch.quantile(flat, torch.tensor([p / 100 for p in percentiles], device=flat.device))
    return float(low), max(float(high), float(low) + 1e-6)


def mr_contrast(image: Tensor, low: float, high: float) -> Tensor:
    """Signal from `low` to `high` as -1 to 1, on a square-root scale; what lies beyond is cut off.

    Next to a surface coil fat is several times as bright as marrow: the root keeps marrow apart from nothing.
    """
    share = ((image.float() - low) / (high - low)).clamp(0.0, 1.0)
    return 2.0 * share.sqrt() - 1.0


def with_neighbours(slices: Tensor) -> Tensor:
    """Every slice between its neighbours; the outermost ones stand for the neighbours they lack.

    Args:
        slices: shape (slices, rows, columns).

    Returns:
        Shape (slices, 3, rows, columns).
    """
    before = torch.cat([slices[:1], slices[:-1]])
    after = torch.cat([slices[1:], slices[-1:]])
    return torch.stack([before, slices, after], dim=1)


def filled_up(image: Tensor, multiple: int) -> Tensor:
    """The image continued downwards and to the right by no signal until both sizes are multiples."""
    rows, columns = image.shape[-2:]
    return functional.pad(image, (0, -columns % multiple, 0, -rows % multiple), value=EMPTY)
