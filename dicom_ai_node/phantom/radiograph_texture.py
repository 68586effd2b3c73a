"""Trabeculae finer than CT sees them: upright and lying plates of bone, bound to the vertebra.

Upright trabeculae carry the load; the lying ones are lost first when bone is lost, so that the upright ones
stand out as fine stripes (Singh 1970; Silva and Gibson 1997: spacing 0.7 to 1.3 mm, lying ones thinner).
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.phantom.randomness import stream

_SIZE: Final = (48, 96, 128)
"""Cells of a tile to the left, to posterior, to superior."""

_CELL_MM: Final = (0.9, 0.33, 0.33)


@functools.cache
def _tiles(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Upright, lying and cloudy texture: periodic, mean 0, deviation 1, each shape (48 * 96 * 128,)."""
    pitch = [np.fft.fftfreq(n, mm) for n, mm in zip(_SIZE, _CELL_MM, strict=True)]
    left, back, up = np.meshgrid(*pitch, indexing="ij")
    flat = np.sqrt(left**2 + back**2)
    length = np.sqrt(flat**2 + up**2)
    ring = np.exp(-(((flat - 0.75) / 0.55) ** 2))
    upright = ring * np.exp(-((up / 0.16) ** 2))
    lying = np.exp(-(((np.abs(up) - 0.8) / 0.5) ** 2)) * np.exp(-((flat / 0.3) ** 2))
    cloudy = 1.0 / (0.04 + length**2) * (length > 0)
    out = []
    for number, shape in enumerate((upright, lying, cloudy)):
        white = np.fft.fftn(stream(number, "trabeculae").standard_normal(_SIZE))
        noise = np.fft.ifftn(white * shape).real
        noise = (noise - noise.mean()) / noise.std()
        out.append(torch.from_numpy(noise.astype(np.float32).reshape(-1)).to(device))
    return out[0], out[1], out[2]


@functools.lru_cache(maxsize=8)
def _mixed(device: torch.device, upright: float, lying: float, cloudy: float) -> Tensor:
    a, b, c = _tiles(device)
    return upright * a + lying * b + cloudy * c


def trabeculae(seed: int, points: tuple[Tensor, Tensor, Tensor], density: float, step_mm: float) -> Tensor:
    """Relative deviation of the bone mineral at points in mm of a body's frame (all of one shape).

    Args:
        seed: individual for every vertebra.
        points: (left, posterior, superior).
        density: bone mineral of the cancellous core in mg/cm3: the less, the more of it stands upright.
        step_mm: distance of the samples along a ray. A ray crosses several plates between two samples; what
            they add up to deviates less than one of them.
    """
    sparse = float(np.clip((160.0 - density) / 120.0, 0.0, 1.0))
    shift = stream(seed, "trabeculae").integers(0, 48, 3)
    index = None
    stride = (_SIZE[1] * _SIZE[2], _SIZE[2], 1)
    for k in range(3):
        cell = torch.floor(points[k] * (1.0 / _CELL_MM[k]) + float(shift[k])).to(torch.int32)
        part = cell.remainder_(_SIZE[k]).mul_(stride[k])
        index = part if index is None else index.add_(part)
    assert index is not None
    tile = _mixed(points[0].device, round(0.3 + 0.15 * sparse, 2), round(0.12 - 0.07 * sparse, 2), 0.25)
    found = tile[index.to(torch.int64)]
    return found.mul_(min(1.0, float(np.sqrt(1.0 / step_mm))))
