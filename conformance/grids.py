"""Where the voxels of a CT may lie: every plane, order and sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a study lie: name, shape (slices, rows, columns) and affine to LPS millimetres."""

    name: str
    shape: tuple[int, int, int]
    affine: Array
    multi_frame: bool = False
    reversed_numbers: bool = False
    thickness: float | None = None
    """Of a slice in millimetres; None where slices touch."""


def _grid(
    name: str,
    steps: tuple[tuple[float, float, float], ...],
    shape: tuple[int, int, int],
    *,
    multi_frame: bool = False,
    reversed_numbers: bool = False,
    thickness: float | None = None,
) -> Grid:
    """A grid centred on the spine from its slice, row and column steps."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(steps).T
    affine[:3, 3] = np.array((1.0, 8.0, -4.0)) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(name, shape, affine, multi_frame, reversed_numbers, thickness)


def _turned(angles: tuple[float, float, float], steps: tuple[float, float, float]) -> Array:
    """Axial steps (slice, row, column) turned about x, y and z by degrees; one step per row."""
    a, b, c = np.radians(angles)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    axial = np.array([[0, 0, steps[0]], [0, steps[1], 0], [steps[2], 0, 0]], dtype=np.float64)
    turned: Array = axial @ (about_x @ about_y @ about_z).T
    return turned


def _steps(turned: Array) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in turned)


def _stood_up(angles: tuple[float, float, float], slice_mm: float) -> tuple[tuple[float, float, float], ...]:
    """Sagittal steps turned likewise: slices to the left, rows to the feet, columns to the back."""
    right, back, up = _turned(angles, (1.0, 1.0, 1.0))[::-1]
    return _steps(np.array([slice_mm * right, -1.5 * up, 1.5 * back]))


_SHEAR = 3.0 * np.tan(np.radians(15.0))
_BACK = 3.0 * np.tan(np.radians(20.0))

GRIDS: Final[tuple[Grid, ...]] = (
    _grid("axial", ((0, 0, 3), (0, 1.5, 0), (1.5, 0, 0)), (90, 72, 64)),
    _grid(
        "axial, numbered from the feet",
        ((0, 0, 3), (0, 1.5, 0), (1.5, 0, 0)),
        (90, 72, 64),
        reversed_numbers=True,
    ),
    _grid("axial, column cosine negated", ((0, 0, -3), (0, -1.5, 0), (1.5, 0, 0)), (90, 72, 64)),
    _grid("axial, row cosine negated", ((0, 0, -3), (0, 1.5, 0), (-1.5, 0, 0)), (90, 72, 64)),
    _grid("axial, both cosines negated", ((0, 0, 3), (0, -1.5, 0), (-1.5, 0, 0)), (90, 72, 64)),
    _grid("axial, odd size, unequal spacing", ((0, 0, 4.25), (0, 1.3, 0), (1.7, 0, 0)), (63, 83, 57)),
    _grid("axial, gantry tilted 15 degrees", ((0, _SHEAR, 3), (0, 1.5, 0), (1.5, 0, 0)), (90, 110, 64)),
    _grid("oblique axial", _steps(_turned((12, -8, 20), (3, 1.5, 1.5))), (96, 96, 90)),
    _grid("sagittal", ((3, 0, 0), (0, 0, -1.5), (0, 1.5, 0)), (20, 190, 72)),
    _grid("sagittal, row cosine negated", ((-3, 0, 0), (0, 0, -1.5), (0, -1.5, 0)), (20, 190, 72)),
    _grid("sagittal, column cosine negated", ((-3, 0, 0), (0, 0, 1.5), (0, 1.5, 0)), (20, 190, 72)),
    _grid("coronal", ((0, -3, 0), (0, 0, -1.5), (1.5, 0, 0)), (24, 190, 64)),
    _grid(
        "axial, enhanced multi-frame", ((0, 0, 3), (0, 1.5, 0), (1.5, 0, 0)), (90, 72, 64), multi_frame=True
    ),
    _grid(
        "sagittal, enhanced multi-frame",
        ((3, 0, 0), (0, 0, -1.5), (0, 1.5, 0)),
        (20, 190, 72),
        multi_frame=True,
    ),
)
"""The planes, and what goes wrong first."""

FURTHER_GRIDS: Final[tuple[Grid, ...]] = (
    _grid("axial, gantry tilted 20 degrees back", ((0, -_BACK, 3), (0, 1.5, 0), (1.5, 0, 0)), (90, 110, 64)),
    _grid(
        "axial, gantry tilted, numbered from the feet",
        ((0, _SHEAR, 3), (0, 1.5, 0), (1.5, 0, 0)),
        (90, 110, 64),
        reversed_numbers=True,
    ),
    _grid(
        "axial, gaps of 2 mm between slices",
        ((0, 0, 4), (0, 1.5, 0), (1.5, 0, 0)),
        (68, 72, 64),
        thickness=2.0,
    ),
    _grid("axial, overlapping slices", ((0, 0, 2), (0, 1.5, 0), (1.5, 0, 0)), (134, 72, 64), thickness=3.0),
    _grid("axial, thick slices", ((0, 0, 5), (0, 1.0, 0), (1.0, 0, 0)), (54, 100, 90)),
    _grid("axial, pixels twice as high as wide", ((0, 0, 3), (0, 2.0, 0), (1.0, 0, 0)), (90, 56, 90)),
    _grid("sagittal, both cosines negated", ((3, 0, 0), (0, 0, 1.5), (0, -1.5, 0)), (20, 190, 72)),
    _grid("sagittal, pixels wider than high", ((3, 0, 0), (0, 0, -1.0), (0, 1.7, 0)), (20, 284, 62)),
    _grid(
        "sagittal, numbered from the left",
        ((3, 0, 0), (0, 0, -1.5), (0, 1.5, 0)),
        (20, 190, 72),
        reversed_numbers=True,
    ),
    _grid("coronal, row cosine negated", ((0, 3, 0), (0, 0, -1.5), (-1.5, 0, 0)), (24, 190, 64)),
    _grid("coronal, column cosine negated", ((0, 3, 0), (0, 0, 1.5), (1.5, 0, 0)), (24, 190, 64)),
    _grid(
        "coronal, enhanced multi-frame",
        ((0, -3, 0), (0, 0, -1.5), (1.5, 0, 0)),
        (24, 190, 64),
        multi_frame=True,
    ),
    _grid("oblique axial, steep", _steps(_turned((35, 10, -15), (3, 1.5, 1.5))), (110, 130, 96)),
    _grid("oblique sagittal", _stood_up((6, -4, 12), 2.5), (30, 200, 90)),
    _grid(
        "oblique sagittal, enhanced multi-frame",
        _stood_up((-5, 3, -10), 2.5),
        (30, 200, 90),
        multi_frame=True,
    ),
    _grid(
        "oblique axial, enhanced multi-frame",
        _steps(_turned((12, -8, 20), (3, 1.5, 1.5))),
        (96, 96, 90),
        multi_frame=True,
    ),
    _grid(
        "axial, both cosines negated, enhanced multi-frame",
        ((0, 0, 3), (0, -1.5, 0), (-1.5, 0, 0)),
        (90, 72, 64),
        multi_frame=True,
    ),
)
"""Every other way in which a CT's voxels lie."""

WHOLE_SPINE: Final = _grid("axial, whole spine", ((0, 0, 2.4), (0, 1.5, 0), (1.5, 0, 0)), (110, 72, 64))
"""For all twenty-four bodies of a small patient."""
