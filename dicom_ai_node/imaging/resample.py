"""Arrays with affines to other grids: the whole volume coarser, a crop, a plane, single points, and back.

Pure torch, the same on CPU and CUDA. An affine is 4x4 and maps (axis 0, axis 1, axis 2, 1) to LPS
millimetres; it may be oblique, mirrored or sheared. A voxel reaches half a step to each side of its
centre: what lies outside the outermost voxels' edges gets the fill value. Only the needed part of the
source is touched, piece by piece, so that memory stays bounded for a source of any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

Affine = npt.NDArray[np.float64]
Voxels = npt.NDArray[Any] | torch.Tensor

LPS_AXES: Final = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
"""Columns: the direction of axis 0 (to superior), axis 1 (to posterior), axis 2 (to the patient's left)."""

SAGITTAL_AXES: Final = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""The same of sagittal slices: they run to the left, their rows foot-ward, their columns back-ward."""

_POINTS_AT_ONCE: Final = 1 << 21
_EDGE: Final = 1e-3
"""Voxels: what float32 may lose where a point lies on the source's very edge."""


class HasGrid(Protocol):
    """Anything with voxels on a grid, such as `Volume`."""

    @property
    def voxels(self) -> Any:
        """Shape (slices, rows, columns)."""

    @property
    def affine(self) -> Affine:
        """4x4, indices to LPS millimetres."""


class Grid(NamedTuple):
    """Voxels with their affine, where there is no `Volume`."""

    voxels: Voxels
    affine: Affine


def resample_to_grid(
    voxels: Voxels,
    affine: Affine,
    target_affine: Affine,
    target_shape: Sequence[int],
    *,
    antialias: bool = True,
    fill: float = -1024.0,
    mode: Literal["linear", "nearest"] = "linear",
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Values of `voxels` at the voxel centres of another grid.

    Args:
        voxels: shape (slices, rows, columns), any real type.
        affine: of `voxels`.
        target_affine: of the result.
        target_shape: three sizes.
        antialias: average source voxels over the size of a target voxel first where that is coarser.
        fill: value outside the source.
        mode: trilinear, or the nearest voxel (label maps; then `antialias` is ignored).
        device: where to compute; None stays where `voxels` are.

    Returns:
        float32, shape `target_shape`, on `device`.
    """
    source = _as_tensor(voxels)
    place = torch.device(device) if device is not None else source.device
    shape = (int(target_shape[0]), int(target_shape[1]), int(target_shape[2]))
    to_source = np.linalg.inv(affine) @ target_affine
    pool = _pool_sizes(to_source, source.shape) if antialias and mode == "linear" else (1, 1, 1)
    out = torch.empty(shape, dtype=torch.float32, device=place)
    planes = max(1, _POINTS_AT_ONCE // max(1, shape[1] * shape[2]))
    for first in range(0, shape[0], planes):
        count = min(planes, shape[0] - first)
        part_to_source = to_source.copy()
        part_to_source[:3, 3] += to_source[:3, 0] * first
        corners = _corners((count, *shape[1:])) @ part_to_source[:3, :3].T + part_to_source[:3, 3]
        piece = _Piece.of(source, corners.min(axis=0), corners.max(axis=0), pool, place)
        if piece is None:
            out[first : first + count] = fill
        else:
            unit = _unit_grid(piece, part_to_source, (count, *shape[1:]), place)
            out[first : first + count] = piece.sample(unit, fill, mode)
    return out


def isotropic_grid(
    affine: Affine, shape: Sequence[int], spacing_mm: float, *, axes: Affine = LPS_AXES
) -> tuple[Affine, tuple[int, int, int]]:
    """Affine and shape of the smallest cubic-voxel grid along `axes` that holds a whole volume.

    Args:
        affine: of the volume.
        shape: of the volume.
        spacing_mm: edge of a voxel.
        axes: 3x3, orthonormal; column k is the direction of axis k. Default: axis 0 to superior, axis 1 to
            posterior, axis 2 to the patient's left.
    """
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=np.float64)
    edges = corners * np.asarray(shape, dtype=np.float64) - 0.5
    along = (edges @ affine[:3, :3].T + affine[:3, 3]) @ axes
    low, high = along.min(axis=0), along.max(axis=0)
    sizes = np.maximum(1, np.ceil((high - low) / spacing_mm - 1e-6)).astype(int)
    # The remainder is shared by both sides, so that the centre stays the centre.
    start = (low + high) / 2 - (sizes - 1) / 2 * spacing_mm
    target = np.eye(4)
    target[:3, :3] = axes * spacing_mm
    target[:3, 3] = axes @ start
    return target, (int(sizes[0]), int(sizes[1]), int(sizes[2]))


def resample_isotropic(
    voxels: Voxels,
    affine: Affine,
    spacing_mm: float,
    *,
    axes: Affine = LPS_AXES,
    antialias: bool = True,
    fill: float = -1024.0,
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, Affine]:
    """The whole volume on a cubic-voxel grid along `axes`.

    Returns:
        float32 of shape (to superior, to posterior, to left) for the default axes, and its affine.
    """
    target, size = isotropic_grid(affine, voxels.shape, spacing_mm, axes=axes)
    out = resample_to_grid(voxels, affine, target, size, antialias=antialias, fill=fill, device=device)
    return out, target


def grid_around(
    center_mm: npt.ArrayLike, shape: Sequence[int], spacing_mm: npt.ArrayLike, *, axes: Affine = LPS_AXES
) -> Affine:
    """Affine of a grid of `shape` whose middle is `center_mm`; `spacing_mm` is one number or three."""
    affine = np.eye(4)
    affine[:3, :3] = axes * np.broadcast_to(np.asarray(spacing_mm, dtype=np.float64), (3,))
    middle = (np.asarray(shape, dtype=np.float64) - 1) / 2
    affine[:3, 3] = np.asarray(center_mm, dtype=np.float64) - affine[:3, :3] @ middle
    return affine


def crop_around(
    voxels: Voxels,
    affine: Affine,
    center_mm: npt.ArrayLike,
    shape: Sequence[int],
    spacing_mm: npt.ArrayLike,
    *,
    axes: Affine = LPS_AXES,
    antialias: bool = True,
    fill: float = -1024.0,
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, Affine]:
    """A box around a point in patient space, along `axes`; the crop and its affine."""
    target = grid_around(center_mm, shape, spacing_mm, axes=axes)
    out = resample_to_grid(voxels, affine, target, shape, antialias=antialias, fill=fill, device=device)
    return out, target


def plane_affine(
    origin: npt.ArrayLike, row_dir: npt.ArrayLike, col_dir: npt.ArrayLike, spacing: tuple[float, float]
) -> Affine:
    """Affine of a picture (one slice, rows, columns) whose first pixel's centre is `origin`.

    Args:
        origin: LPS millimetres.
        row_dir: unit vector in which the row index grows (down the picture).
        col_dir: unit vector in which the column index grows (to the right).
        spacing: distance of rows, distance of columns.
    """
    down, right = np.asarray(row_dir, dtype=np.float64), np.asarray(col_dir, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(right, down) * min(spacing)
    affine[:3, 1] = down * spacing[0]
    affine[:3, 2] = right * spacing[1]
    affine[:3, 3] = origin
    return affine


def sample_plane(  # noqa: PLR0917 - the six that say where the plane is
    volume: HasGrid,
    origin: npt.ArrayLike,
    row_dir: npt.ArrayLike,
    col_dir: npt.ArrayLike,
    shape: tuple[int, int],
    spacing: tuple[float, float],
    *,
    antialias: bool = True,
    fill: float = -1024.0,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """An oblique plane of a volume; arguments as `plane_affine`. float32 of `shape` (rows, columns)."""
    target = plane_affine(origin, row_dir, col_dir, spacing)
    picture = resample_to_grid(
        volume.voxels, volume.affine, target, (1, *shape), antialias=antialias, fill=fill, device=device
    )
    return picture[0]


def sample_points(
    voxels: Voxels,
    affine: Affine,
    points_mm: npt.NDArray[np.float64] | torch.Tensor,
    *,
    fill: float = -1024.0,
    mode: Literal["linear", "nearest"] = "linear",
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Values at points in patient space, such as those of a curved plane.

    Args:
        points_mm: shape (..., 3), LPS millimetres.

    Returns:
        float32, shape (...).
    """
    source = _as_tensor(voxels)
    place = torch.device(device) if device is not None else source.device
    points = torch.as_tensor(points_mm, dtype=torch.float64).to(place)
    inverse = torch.as_tensor(np.linalg.inv(affine)[:3], device=place)
    flat = points.reshape(-1, 3)
    out = torch.empty(flat.shape[0], dtype=torch.float32, device=place)
    for first in range(0, flat.shape[0], _POINTS_AT_ONCE):
        index = flat[first : first + _POINTS_AT_ONCE] @ inverse[:, :3].T + inverse[:, 3]
        low, high = index.amin(dim=0).cpu().numpy(), index.amax(dim=0).cpu().numpy()
        piece = _Piece.of(source, low, high, (1, 1, 1), place)
        if piece is None:
            out[first : first + _POINTS_AT_ONCE] = fill
        else:
            scale = torch.as_tensor(piece.scale, device=place)
            unit = index * scale + torch.as_tensor(piece.offset, device=place)
            unit = unit.flip(-1).to(torch.float32)
            out[first : first + _POINTS_AT_ONCE] = piece.sample(unit[None, None], fill, mode)[0, 0]
    return out.reshape(points.shape[:-1])


def resample_labels_to(
    labels: Voxels, affine: Affine, target_shape: Sequence[int], target_affine: Affine
) -> npt.NDArray[np.uint8]:
    """A label map (values to 255) on another grid, nearest voxel; 0 outside. uint8 of `target_shape`."""
    out = resample_to_grid(
        labels, affine, target_affine, target_shape, antialias=False, fill=0.0, mode="nearest"
    )
    result: npt.NDArray[np.uint8] = out.to(torch.uint8).cpu().numpy()
    return result


def _as_tensor(voxels: Voxels) -> torch.Tensor:
    if isinstance(voxels, torch.Tensor):
        return voxels
    if not voxels.flags.writeable or any(stride < 0 for stride in voxels.strides):
        # torch shares memory with writable arrays only and knows no negative strides.
        voxels = voxels.copy()
    return torch.from_numpy(voxels)


def _pool_sizes(to_source: Affine, shape: Sequence[int]) -> tuple[int, int, int]:
    # Row k: how far a target voxel reaches along source axis k. The quarter keeps 1.5 mm from 1 mm unpooled.
    reach = np.linalg.norm(to_source[:3, :3], axis=1)
    sizes = [max(1, min(int(step + 0.25), size)) for step, size in zip(reach, shape, strict=True)]
    return sizes[0], sizes[1], sizes[2]


def _corners(shape: Sequence[int]) -> Affine:
    ends = [(0, size - 1) for size in shape]
    return np.array([[i, j, k] for i in ends[0] for j in ends[1] for k in ends[2]], dtype=np.float64)


@dataclass(frozen=True)
class _Piece:
    """The part of a source that a bounded set of points needs, averaged over windows, ready to sample."""

    part: torch.Tensor
    scale: Affine
    """Shape (3,): with `offset`, from source indices to the units of `grid_sample`."""
    offset: Affine
    inside: tuple[Affine, Affine] | None
    """Source's edges in those units; None where all points lie within."""

    @classmethod
    def of(
        cls,
        source: torch.Tensor,
        low: Affine,
        high: Affine,
        pool: tuple[int, int, int],
        device: torch.device,
    ) -> _Piece | None:
        """For points with source indices from `low` to `high`; None where none of them lies in the source."""
        size, window = np.array(source.shape), np.array(pool)
        if (high < -0.5).any() or (low > size - 0.5).any():
            return None
        # Windows begin at multiples of their size from the first voxel on, wherever the piece begins.
        last_window = (size - 1) // window
        first = np.clip(np.floor((low - window) / window), 0, last_window).astype(int)
        last = np.clip(np.floor((high + window) / window) + 1, first, last_window).astype(int)
        box = tuple(slice(a * w, (b + 1) * w) for a, b, w in zip(first, last, window, strict=True))
        part = _average(source[box], pool, device)
        # grid_sample counts -1..1 from the first to the last voxel's centre; a single voxel is everywhere.
        steps = np.array(part.shape) - 1
        scale = 2 / (np.maximum(steps, 1) * window)
        offset = -(first * window + (window - 1) / 2) * scale - np.minimum(steps, 1)
        inside = None
        if (low < -0.5).any() or (high > size - 0.5).any():
            inside = ((-0.5 - _EDGE) * scale + offset, (size - 0.5 + _EDGE) * scale + offset)
        return cls(part, scale, offset, inside)

    def sample(self, unit: torch.Tensor, fill: float, mode: Literal["linear", "nearest"]) -> torch.Tensor:
        """Values at `unit`, shape (a, b, c, 3) in grid_sample's order; float32 of shape (a, b, c)."""
        values = F.grid_sample(
            self.part[None, None],
            unit[None],
            mode="bilinear" if mode == "linear" else "nearest",
            padding_mode="border",
            align_corners=True,
        )[0, 0]
        if self.inside is None:
            return values
        low, high = (
            torch.as_tensor(edge[::-1].copy(), dtype=torch.float32, device=unit.device)
            for edge in self.inside
        )
        return values.masked_fill_(~((unit >= low) & (unit <= high)).all(dim=-1), fill)


def _unit_grid(
    piece: _Piece, to_source: Affine, shape: tuple[int, int, int], device: torch.device
) -> torch.Tensor:
    matrix = (to_source[:3, :3] * piece.scale[:, None])[::-1]
    start = (to_source[:3, 3] * piece.scale + piece.offset)[::-1]
    terms = [
        torch.as_tensor(np.arange(size)[:, None] * matrix[:, axis], dtype=torch.float32, device=device)
        for axis, size in enumerate(shape)
    ]
    terms[2] = terms[2] + torch.as_tensor(start.copy(), dtype=torch.float32, device=device)
    return terms[0][:, None, None] + (terms[1][:, None] + terms[2])


def _average(part: torch.Tensor, pool: tuple[int, int, int], device: torch.device) -> torch.Tensor:
    """Means over windows of `pool` voxels, the last of each axis over what is left; float32 on `device`."""
    if pool == (1, 1, 1):
        return part.to(device).to(torch.float32)
    shape = [-(-size // window) for size, window in zip(part.shape, pool, strict=True)]
    out = torch.empty(shape, dtype=torch.float32, device=device)
    slab = max(1, _POINTS_AT_ONCE // max(1, pool[0] * part.shape[1] * part.shape[2]))
    for first in range(0, shape[0], slab):
        planes = part[first * pool[0] : (first + slab) * pool[0]].to(device).to(torch.float32)
        # torch refuses a window that is longer than the image, as the last slab may be short of one.
        window = [min(step, length) for step, length in zip(pool, planes.shape, strict=True)]
        pooled = F.avg_pool3d(planes[None, None], window, window, ceil_mode=True, count_include_pad=False)
        out[first : first + slab] = pooled[0, 0]
    return out
