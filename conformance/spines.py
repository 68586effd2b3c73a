"""Spines of plain blocks in patient millimetres, for studies of known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import USUAL_LEVELS, Level
from dicom_ai_node.report import Deformity

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """One vertebral body: a block with its own anterior, middle and posterior height, in LPS millimetres."""

    level: Level
    centre: tuple[float, float, float]
    anterior: float
    middle: float
    posterior: float
    deformity: Deformity
    grade: int
    half_width: float = 20.0
    half_depth: float = 15.0

    def half_height(self, y: Array) -> Array:
        """Half the height at patient y; the heights stand at front, middle and back, lines between them."""
        middle = self.centre[1]
        places = (middle - self.half_depth, middle, middle + self.half_depth)
        return np.interp(y, places, (self.anterior / 2, self.middle / 2, self.posterior / 2))

    def contains(self, points: Array) -> npt.NDArray[np.bool_]:
        """Which of the points, shape (..., 3), lie in the body."""
        offset = points - np.array(self.centre)
        inside: npt.NDArray[np.bool_] = (
            (np.abs(offset[..., 0]) <= self.half_width)
            & (np.abs(offset[..., 1]) <= self.half_depth)
            & (np.abs(offset[..., 2]) <= self.half_height(points[..., 1]))
        )
        return inside

    def six_points(self) -> Array:
        """Shape (6, 3) in the order of `report.SIX_POINT_NAMES`."""
        x, y, z = self.centre
        return np.array(
            [
                (x, y + depth, z + sign * height / 2)
                for depth, height in (
                    (-self.half_depth, self.anterior),
                    (0.0, self.middle),
                    (self.half_depth, self.posterior),
                )
                for sign in (1, -1)
            ]
        )


SPINE: Final[tuple[Block, ...]] = (
    Block(Level.T11, (4.0, 5.0, 100.0), 25, 25, 25, "none", 0),
    Block(Level.T12, (6.0, 1.0, 66.0), 14, 14, 15, "crush", 3),
    Block(Level.L1, (6.0, -4.0, 32.0), 18, 22, 26, "wedge", 2),
    Block(Level.L2, (4.0, -9.0, -3.0), 27, 26.5, 27, "none", 0),
    Block(Level.L3, (1.0, -11.0, -38.0), 27, 21, 27, "biconcave", 1),
    Block(Level.L4, (-2.0, -9.0, -73.0), 28, 28, 27, "none", 0),
    Block(Level.L5, (-4.0, -4.0, -108.0), 29, 28, 26, "none", 0),
)
"""A spine with a slight scoliosis and lordosis, and one fracture of each kind."""


ONE_BODY: Final[tuple[Block, ...]] = tuple(block for block in SPINE if block.level is Level.L1)
"""A field of view with a single vertebra in it."""

SUPERNUMERARY: Final[tuple[Block, ...]] = tuple(
    Block(level, (0.0, 0.0, 112.0 - 32.0 * place), 24, 24, 24, "none", 0, 16.0, 13.0)
    for place, level in enumerate(
        (Level.T12, Level.T13, Level.L1, Level.L2, Level.L3, Level.L4, Level.L5, Level.L6)
    )
)
"""A spine with thirteen thoracic and six lumbar vertebrae."""

WHOLE: Final[tuple[Block, ...]] = tuple(
    Block(level, (3.0 * np.sin(place / 4), 0.0, 9.6 * (11.5 - place)), 7.5, 7.5, 7.5, "none", 0, 14.0, 10.0)
    for place, level in enumerate(level for level in USUAL_LEVELS if level is not Level.S1)
)
"""All twenty-four vertebrae, in a small patient."""
