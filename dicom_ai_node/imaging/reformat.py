"""The whole spine in one sagittal picture: a plane through the bodies, or a sheet that follows them.

Both look at the patient from the left side: columns run to posterior, rows run to the feet. The flat one is
a true image plane with an affine, fit for a derived DICOM image. The curved one shows every body at its
middle even in scoliosis: at each height its left-right position is that of the spine. It has no single plane
in patient space, so it is for looking at only.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from dicom_ai_node.imaging.resample import plane_affine, sample_points
from dicom_ai_node.imaging.volume import Volume

FloatArray = npt.NDArray[np.float64]

ANTERIOR_MARGIN_MM: Final = 70.0
POSTERIOR_MARGIN_MM: Final = 80.0
HEAD_FEET_MARGIN_MM: Final = 45.0
LONE_BODY_MARGIN_MM: Final = 150.0
"""How far the picture reaches beyond the outermost body centres, as far as there is an image."""

_MAX_TURN: Final = 0.35
"""Sideways per posterior, and per height beyond the last body: more is no spine but a wrong centre."""


class Reformat(Protocol):
    """A sagittal picture with its way to patient space and back."""

    @property
    def pixels(self) -> npt.NDArray[Any]:
        """Shape (rows, columns), in the unit of the volume."""

    @property
    def spacing_mm(self) -> float:
        """Edge of a pixel."""

    def to_mm(self, pixels: npt.ArrayLike) -> FloatArray:
        """(row, column) of shape (..., 2) to LPS millimetres of shape (..., 3)."""

    def to_pixels(self, points_mm: npt.ArrayLike) -> FloatArray:
        """LPS millimetres of shape (..., 3), brought into the picture, to (row, column) of shape (..., 2)."""


@dataclass(frozen=True, eq=False)
class FlatReformat:
    """An image plane in patient space."""

    pixels: npt.NDArray[np.int16]
    affine: FloatArray
    """4x4, (0, row, column, 1) to LPS millimetres; the first column is the plane's normal."""

    @property
    def spacing_mm(self) -> float:
        """Edge of a pixel."""
        return float(np.linalg.norm(self.affine[:3, 1]))

    def to_mm(self, pixels: npt.ArrayLike) -> FloatArray:
        """(row, column) of shape (..., 2) to LPS millimetres of shape (..., 3)."""
        at = np.asarray(pixels, dtype=np.float64)
        points: FloatArray = at @ self.affine[:3, 1:3].T + self.affine[:3, 3]
        return points

    def to_pixels(self, points_mm: npt.ArrayLike) -> FloatArray:
        """LPS millimetres of shape (..., 3), dropped onto the plane, to (row, column) of shape (..., 2)."""
        inverse = np.linalg.inv(self.affine)
        at: FloatArray = np.asarray(points_mm, dtype=np.float64) @ inverse[1:3, :3].T + inverse[1:3, 3]
        return at


@dataclass(frozen=True, eq=False)
class CurvedReformat:
    """A sheet along the head-feet and the anterior-posterior axis that follows the spine sideways."""

    pixels: npt.NDArray[np.float32]
    spacing_mm: float
    corner_mm: tuple[float, float]
    """Posterior (y) and superior (z) coordinate of the first pixel."""
    heights_mm: FloatArray
    """Superior coordinates, rising, at which `sideways_mm` is known; straight on beyond them."""
    sideways_mm: FloatArray

    def to_mm(self, pixels: npt.ArrayLike) -> FloatArray:
        """(row, column) of shape (..., 2) to LPS millimetres of shape (..., 3)."""
        at = np.asarray(pixels, dtype=np.float64)
        y = self.corner_mm[0] + at[..., 1] * self.spacing_mm
        z = self.corner_mm[1] - at[..., 0] * self.spacing_mm
        return np.stack([_sideways(self.heights_mm, self.sideways_mm, z), y, z], axis=-1)

    def to_pixels(self, points_mm: npt.ArrayLike) -> FloatArray:
        """LPS millimetres of shape (..., 3), moved sideways onto the sheet, to (row, column)."""
        points = np.asarray(points_mm, dtype=np.float64)
        row = (self.corner_mm[1] - points[..., 2]) / self.spacing_mm
        column = (points[..., 1] - self.corner_mm[0]) / self.spacing_mm
        return np.stack([row, column], axis=-1)


def sagittal_reformat(
    volume: Volume,
    centers_mm: Sequence[Sequence[float]] | FloatArray,
    *,
    spacing_mm: float | None = None,
    thickness_mm: float = 0.0,
) -> FlatReformat:
    """The plane, sagittal but for a turn and a lean, that passes best through the body centres.

    Args:
        volume: any orientation.
        centers_mm: body centres, shape (n, 3), LPS millimetres; with none, the middle of the volume.
        spacing_mm: edge of a pixel; None takes the volume's finest step, between 0.5 and 1 mm.
        thickness_mm: mean over a slab of this thickness; 0 for a plane.
    """
    centers = np.asarray(centers_mm, dtype=np.float64).reshape(-1, 3)
    spacing = spacing_mm or _spacing(volume)
    path = _path(volume, centers)
    middle = path.mean(axis=0)
    turn, lean = _turn_and_lean(path - middle)
    to_posterior = np.array([turn, 1.0, 0.0]) / np.hypot(turn, 1.0)
    to_superior = np.array([lean, 0.0, 1.0])
    to_superior -= to_posterior * (to_posterior @ to_superior)
    to_superior /= np.linalg.norm(to_superior)
    low, high = shown_extent(volume, centers)
    rows, columns = _shape(low, high, spacing)
    # The first pixel lies in the plane, at the posterior coordinate of `low` and the height of `high`.
    away = turn * (low[1] - middle[1]) + lean * (high[2] - middle[2])
    origin = np.array([middle[0] + away, low[1], high[2]])
    affine = plane_affine(origin, -to_superior, to_posterior, (spacing, spacing))
    picture = FlatReformat(np.zeros((rows, columns), np.int16), affine)
    points = picture.to_mm(_grid(rows, columns))
    normal = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    units = np.rint(_slab(volume, points, normal, thickness_mm)).astype(np.int16)
    return FlatReformat(units, affine)


def _turn_and_lean(offsets: FloatArray) -> tuple[float, float]:
    """How far to the left the spine runs per millimetre to posterior, and per millimetre to the head.

    Least squares with a ridge: where centres do not differ in a direction nothing turns the plane.
    """
    directions = offsets[:, 1:]
    ridge = np.diag([20.0**2, 10.0**2]) * len(offsets)
    slopes = np.linalg.solve(directions.T @ directions + ridge, directions.T @ offsets[:, 0])
    turn, lean = np.clip(slopes, -_MAX_TURN, _MAX_TURN)
    return float(turn), float(lean)


def curved_sagittal_reformat(
    volume: Volume,
    centers_mm: Sequence[Sequence[float]] | FloatArray,
    *,
    spacing_mm: float | None = None,
    thickness_mm: float = 0.0,
) -> CurvedReformat:
    """The sheet that passes through every body centre; arguments as for `sagittal_reformat`."""
    centers = np.asarray(centers_mm, dtype=np.float64).reshape(-1, 3)
    spacing = spacing_mm or _spacing(volume)
    low, high = shown_extent(volume, centers)
    rows, columns = _shape(low, high, spacing)
    heights, sideways = _spine(_path(volume, centers))
    blank = np.zeros((rows, columns), np.float32)
    sheet = CurvedReformat(blank, spacing, (float(low[1]), float(high[2])), heights, sideways)
    points = sheet.to_mm(_grid(rows, columns))
    pixels = _slab(volume, points, np.array([1.0, 0.0, 0.0]), thickness_mm)
    return CurvedReformat(pixels, spacing, sheet.corner_mm, heights, sideways)


def shown_extent(volume: Volume, centers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest LPS corner of the box to show, as far as the volume reaches.

    Around the centres; around one alone, further up and down; without any, the whole volume.
    """
    corners = _corners(volume)
    if len(centers) == 0:
        return corners.min(axis=0), corners.max(axis=0)
    along = HEAD_FEET_MARGIN_MM if len(centers) > 1 else LONE_BODY_MARGIN_MM
    low = np.subtract(centers.min(axis=0), [0.0, ANTERIOR_MARGIN_MM, along])
    high = np.add(centers.max(axis=0), [0.0, POSTERIOR_MARGIN_MM, along])
    low = np.maximum(low, corners.min(axis=0))
    return low, np.maximum(low, np.minimum(high, corners.max(axis=0)))


def _corners(volume: Volume) -> FloatArray:
    ends = [(0, size - 1) for size in volume.shape]
    corners: FloatArray = np.array(list(itertools.product(*ends))) @ volume.affine[:3, :3].T
    return corners + volume.affine[:3, 3]


def _path(volume: Volume, centers: FloatArray) -> FloatArray:
    """The centres that the picture follows: without any, the middle of the volume."""
    return centers if len(centers) else _corners(volume).mean(axis=0)[None]


def _spacing(volume: Volume) -> float:
    return float(np.clip(volume.spacing_mm.min(), 0.5, 1.0))


def _shape(low: FloatArray, high: FloatArray, spacing: float) -> tuple[int, int]:
    size = (high - low) / spacing
    return max(2, int(size[2]) + 1), max(2, int(size[1]) + 1)


def _grid(rows: int, columns: int) -> FloatArray:
    return np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).astype(
        np.float64
    )


def _spine(centers: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Left-right position by height, every few millimetres; heights rise."""
    heights, index = np.unique(np.round(centers[:, 2], 3), return_index=True)
    sideways = centers[index, 0]
    if len(heights) < 2:
        return heights, sideways
    fine = np.linspace(heights[0], heights[-1], max(2, int((heights[-1] - heights[0]) / 3)))
    return fine, np.asarray(PchipInterpolator(heights, sideways)(fine), dtype=np.float64)


def _sideways(heights: FloatArray, sideways: FloatArray, z: FloatArray) -> FloatArray:
    inside = np.interp(z, heights, sideways)
    if len(heights) < 2:
        return inside
    slopes = np.clip(np.diff(sideways)[[0, -1]] / np.diff(heights)[[0, -1]], -_MAX_TURN, _MAX_TURN)
    below, above = np.minimum(z - heights[0], 0), np.maximum(z - heights[-1], 0)
    return np.asarray(inside + slopes[0] * below + slopes[1] * above)


def _slab(
    volume: Volume, points: FloatArray, normal: FloatArray, thickness_mm: float
) -> npt.NDArray[np.float32]:
    """Mean along `normal` over points every millimetre of the slab."""
    planes = max(1, round(thickness_mm))
    offsets = (np.arange(planes) - (planes - 1) / 2) * (thickness_mm / planes)
    total = np.zeros(points.shape[:-1])
    for offset in offsets:
        total += sample_points(volume.voxels, volume.affine, points + normal * offset).numpy()
    return np.asarray(total / planes, dtype=np.float32)
