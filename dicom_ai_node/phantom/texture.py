"""Correlated noise bound to the anatomy (trabeculae, faeces, lung vessels): the same in every image."""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.phantom.randomness import stream

TILE: Final = 64
CELL_MM: Final = 0.75
"""Size of the cells of the finest texture; coarser ones are the same tile, scaled."""


@functools.cache
def _tile(device: torch.device) -> Tensor:
    """Shape (64**3,), periodic, mean 0, deviation 1, correlated over about two cells."""
    noise = stream(0, "texture").standard_normal((TILE, TILE, TILE))
    for axis in range(3):
        noise = 0.5 * noise + 0.25 * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
    coarse = stream(1, "texture").standard_normal((TILE, TILE, TILE))
    for axis in range(3):
        for _ in range(6):
            coarse = 0.5 * coarse + 0.25 * (np.roll(coarse, 1, axis) + np.roll(coarse, -1, axis))
    mixed = 0.75 * noise / noise.std() + 0.66 * coarse / coarse.std()
    mixed /= mixed.std()
    return torch.from_numpy(mixed.astype(np.float32).reshape(-1)).to(device)


def grain(
    seed: int, points: tuple[Tensor, Tensor, Tensor], device: torch.device, cell_mm: float = CELL_MM
) -> Tensor:
    """Noise of deviation 1 at points in mm (broadcastable), individual for every `seed`."""
    shift = stream(seed, "grain").integers(0, TILE, 3)
    index = None
    for coordinate, offset, stride in zip(points, shift, (1, TILE, TILE * TILE), strict=True):
        cell = torch.floor(coordinate * (1.0 / cell_mm)).to(torch.int32)
        part = (cell + int(offset)).bitwise_and(TILE - 1) * stride
        index = part if index is None else index + part
    assert index is not None
    return _tile(device)[index.to(torch.int64)]
