"""Sagittal and coronal series computed from an axial one, as workstations do."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.ct import CtPhantom
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.truth import truth

Array = npt.NDArray[np.float64]
Plane = Literal["sagittal", "coronal"]


def reformat_grid(
    source: CtPhantom, plane: Plane, spacing_mm: tuple[float, float, float], about: Array, slices: int
) -> tuple[tuple[int, int, int], Array]:
    """(shape, affine) of a reformat that covers the source from head to feet.

    Args:
        source: an axial series.
        plane: sagittal slices run from right to left, coronal ones from anterior to posterior.
        spacing_mm: of slices, rows, columns.
        about: LPS mm, shape (3,), in the middle slice.
        slices: how many.
    """
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in source.hu.shape], indexing="ij")).reshape(3, -1)
    places = source.affine[:3, :3] @ corners + source.affine[:3, 3:]
    low, high = places.min(axis=1), places.max(axis=1)
    normal, across = (0, 1) if plane == "sagittal" else (1, 0)
    rows = max(1, int((high[2] - low[2]) / spacing_mm[1]) + 1)
    columns = max(1, int((high[across] - low[across]) / spacing_mm[2]) + 1)
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    affine[normal, 0], affine[2, 1], affine[across, 2] = spacing_mm[0], -spacing_mm[1], spacing_mm[2]
    affine[2, 3] = high[2]
    affine[across, 3] = low[across]
    affine[normal, 3] = about[normal] - 0.5 * (slices - 1) * spacing_mm[0]
    return (slices, rows, columns), affine


def reformatted(
    source: CtPhantom,
    spine: Spine,
    shape: tuple[int, int, int],
    affine: Array,
    *,
    thickness_mm: float,
    padding_hu: int = -1024,
) -> CtPhantom:
    """Another series of the same scan: noise, streaks and blur are those of the source.

    Args:
        source: the series that was reconstructed first.
        spine: whose it is.
        shape: (slices, rows, columns).
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres.
        thickness_mm: over which values are averaged across the slices; labels are those of the middle plane.
        padding_hu: where the source has nothing.
    """
    volume = torch.from_numpy(source.hu.astype(np.float32))
    inside = (np.linalg.inv(source.affine) @ np.asarray(affine)).astype(np.float64)
    step = float(np.linalg.norm(affine[:3, 0]))
    finest = float(np.linalg.norm(source.affine[:3, :3], axis=0).min())
    count = max(1, round(thickness_mm / finest))
    planes = (np.arange(count) - 0.5 * (count - 1)) * (thickness_mm / count / step)
    hu = np.empty(shape, dtype=np.int16)
    names = ("labels", "whole_labels", "structures", "lesions")
    maps = {name: np.zeros(shape, dtype=np.uint8) for name in names}
    for k in range(shape[0]):
        total = torch.zeros(shape[1:])
        for plane in planes:
            total += _trilinear(volume, _indices(inside, k + float(plane), shape), padding_hu)
        hu[k] = (total / count).round_().clamp_(-32768, 32767).to(torch.int16).numpy()
        index = _indices(inside, float(k), shape).round().to(torch.int64).numpy()
        there = ((index >= 0) & (index < np.array(source.hu.shape)[:, None, None])).all(axis=0)
        for name in names:
            maps[name][k][there] = getattr(source, name)[tuple(index[:, there])]
    grid = Grid(shape, np.asarray(affine, dtype=np.float64), torch.device("cpu"))
    return CtPhantom(hu=hu, affine=np.asarray(affine), truth=truth(spine, grid), **maps)


def _indices(inside: Array, k: float, shape: tuple[int, int, int]) -> Tensor:
    """Source indices, (3, rows, columns), of one plane."""
    rows = torch.arange(shape[1], dtype=torch.float64)[None, :, None]
    columns = torch.arange(shape[2], dtype=torch.float64)[None, None, :]
    matrix = torch.from_numpy(inside)
    at: Tensor = (
        matrix[:3, 0, None, None] * k
        + matrix[:3, 1, None, None] * rows
        + matrix[:3, 2, None, None] * columns
        + matrix[:3, 3, None, None]
    )
    return at


def _trilinear(volume: Tensor, index: Tensor, padding: int) -> Tensor:
    size = torch.tensor(volume.shape)[:, None, None]
    there = ((index > -0.5) & (index < size - 0.5)).all(dim=0)
    held = torch.minimum(index.clamp(min=0.0), (size - 1).to(index.dtype))
    low = torch.minimum(held.floor().to(torch.int64), (size - 2).clamp(min=0))
    share = (held - low).to(torch.float32)
    high = torch.minimum(low + 1, size - 1)
    out = torch.zeros(index.shape[1:])
    for corner in range(8):
        bits = [(corner >> axis) & 1 for axis in range(3)]
        weight = torch.ones(index.shape[1:])
        for axis, bit in enumerate(bits):
            weight = weight * (share[axis] if bit else 1.0 - share[axis])
        place = [high[axis] if bit else low[axis] for axis, bit in enumerate(bits)]
        out += weight * volume[place[0], place[1], place[2]]
    return out.masked_fill(~there, float(padding))
