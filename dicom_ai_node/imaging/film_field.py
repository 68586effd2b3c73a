"""The part of a film that the collimator left open.

A body under a blade of the collimator is cut off, as one at the edge of the film is. Stations black the
shadow of the blades out, or leave it as white as the least exposure is; its edges are straight, and nearly
along the film's. Lungs and the air behind a patient may be as black and reach the film's edge too: they are
not straight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]

_LONG_EDGE: Final = 512
"""The edges are sought on a picture of about so many rows or columns."""

_FLAT: Final = 0.01
"""So near to the darkest or the brightest value are unexposed pixels, a share of the range."""

_STEEPEST_DEGREES: Final = 4.0
_STEP_DEGREES: Final = 0.25
_STRAIGHT: Final = 2.0
"""Pixels of the picture within which the points of one edge lie."""

_STEEPER_IS_BETTER_BY: Final = 1.05
"""A steeper edge must hold so many times the points of a flatter one: without tilt is the rule."""

_LEAST_SUPPORT: Final = 0.3
"""An edge runs along this share of its side of the film at least."""

_DEEPEST: Final = 0.5
"""What is flat to beyond the middle of the film tells no edge: it may be air."""


@dataclass(frozen=True)
class Blade:
    """How far a blade reaches in from its side: at the middle of the side, and more by so much a pixel."""

    depth: float = 0.0
    slope: float = 0.0


@dataclass(frozen=True)
class ExposedField:
    """The exposed part of a film, bounded by its edges or by blades of the collimator.

    Attributes:
        shape: rows, columns of the film.
        blades: at the first row, the first column, the last row, the last column; depths in film pixels.
    """

    shape: tuple[int, int]
    blades: tuple[Blade, Blade, Blade, Blade] = (Blade(), Blade(), Blade(), Blade())

    @classmethod
    def of(cls, pixels: npt.NDArray[Any]) -> Self:
        """The field of a film.

        Args:
            pixels: 0 to 1, shape (rows, columns).
        """
        rows, columns = pixels.shape
        step = max(1, max(rows, columns) // _LONG_EDGE)
        high, wide = rows // step, columns // step
        picture = pixels[: high * step, : wide * step].reshape(high, step, wide, step).mean(axis=(1, 3))
        sides = (picture, picture.T, picture[::-1], picture[:, ::-1].T)
        blades = []
        for side in sides:
            found = max(_blade(side <= _FLAT), _blade(side >= 1 - _FLAT), key=lambda blade: blade.depth)
            blades.append(Blade(found.depth * step, found.slope))
        first_row, first_column, last_row, last_column = blades
        return cls((rows, columns), (first_row, first_column, last_row, last_column))

    def about(self, place: Floats) -> Floats:
        """First row, first column, last row, last column that are exposed beside a place, shape (4,).

        Args:
            place: [row, column]; how far the field reaches is told along its row and its column.
        """
        last = np.array(self.shape, dtype=np.float64) - 1
        along = (place - last / 2)[[1, 0, 1, 0]]
        depths = np.array(
            [blade.depth + blade.slope * at for blade, at in zip(self.blades, along, strict=True)]
        ).clip(min=0.0)
        return np.concatenate([depths[:2], last - depths[2:]])


def _blade(flat: _Flags) -> Blade:
    """The blade at the first row of a picture, from where it is flat; of no depth where there is none."""
    rows, columns = flat.shape
    depths = np.where(flat.all(axis=0), rows, flat.argmin(axis=0))
    telling = depths < _DEEPEST * rows
    along = (np.arange(columns) - (columns - 1) / 2)[telling]
    best, support = Blade(), _LEAST_SUPPORT * columns
    angles = np.arange(0.0, _STEEPEST_DEGREES + _STEP_DEGREES / 2, _STEP_DEGREES)
    for angle in (sign * angle for angle in angles for sign in (1.0, -1.0)):
        slope = float(np.tan(np.radians(angle)))
        ordered = np.sort(depths[telling] - slope * along)
        ends = np.searchsorted(ordered, ordered + _STRAIGHT, side="right")
        counts = ends - np.arange(len(ordered))
        if counts.size and counts.max() > support:
            first = int(counts.argmax())
            best = Blade(float(ordered[first : ends[first]].mean()), slope)
            support = _STEEPER_IS_BETTER_BY * float(counts.max())
    return best
