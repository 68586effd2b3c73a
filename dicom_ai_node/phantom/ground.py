"""Where things are in a torso: the spine's places, the wall's ellipse at each height, random matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.randomness import around, between

Array = npt.NDArray[np.float64]

PROFILE_STEP_MM: Final = 2.0
PROFILE_COLUMNS: Final = (
    "center_x", "center_y", "half_width", "half_depth", "fat", "wall", "cavity_back", "spine_x", "spine_y",
)  # fmt: skip
"""Columns of a torso's profile, all in mm of the torso frame."""


@dataclass(frozen=True)
class Ground:
    """What organs are placed by; all in the torso frame (left, posterior, superior; mm).

    Attributes:
        frame: 4x4, torso frame -> patient LPS millimetres.
        places: body centre of each level.
        bodies: body shape of each level.
        profile: shape (n, 9), `PROFILE_COLUMNS`, at heights `bottom + k * PROFILE_STEP_MM`.
        bottom: height of the first row.
        size: overall size, 1 for the mean.
        sacrum: body centres of the segments below S1.
    """

    frame: Array
    places: Mapping[Level, Array]
    bodies: Mapping[Level, BodyShape]
    profile: Array
    bottom: float
    size: float
    sacrum: Sequence[Array]

    def at(self, z: float) -> dict[str, float]:
        """The profile at a height."""
        row = float(np.clip((z - self.bottom) / PROFILE_STEP_MM, 0, len(self.profile) - 1.001))
        k = int(row)
        values = self.profile[k] + (row - k) * (self.profile[k + 1] - self.profile[k])
        return dict(zip(PROFILE_COLUMNS, map(float, values), strict=True))

    def height(self, level: Level) -> float:
        """Z of a level's body centre (T12 where this spine lacks it: that of T11 and L1)."""
        if level in self.places:
            return float(self.places[level][2])
        return 0.5 * float(self.places[Level.T11][2] + self.places[Level.L1][2])

    def beside_spine(self, x: float, y: float, z: float) -> Array:
        """Shape (3,): the point x mm to the left and y mm behind the spine at height z."""
        here = self.at(z)
        return np.array([here["spine_x"] + x, here["spine_y"] + y, z])

    def on_wall(self, angle: float, z: float, inset: float) -> Array:
        """Shape (3,): a point of the torso wall at height z.

        Args:
            angle: radians from straight behind (0) over the left side (pi/2) to the front (pi).
            z: height in mm.
            inset: depth below the skin in mm, beyond the fat.
        """
        here = self.at(z)
        a = here["half_width"] - here["fat"] - inset
        b = here["half_depth"] - here["fat"] - inset
        return np.array([here["center_x"] + a * np.sin(angle), here["center_y"] + b * np.cos(angle), z])

    def to_patient(self, points: Array) -> Array:
        """Points of the torso frame, shape (n, 3), in patient LPS millimetres."""
        moved: Array = points @ self.frame[:3, :3].T + self.frame[:3, 3]
        return moved

    def frame_at(self, point: Array, turn: Array | None = None) -> Array:
        """4x4 frame with its origin at a point of the torso frame, turned by a 3x3 rotation."""
        own = np.eye(4)
        own[:3, 3] = point
        if turn is not None:
            own[:3, :3] = turn
        placed: Array = self.frame @ own
        return placed


def torso_profile(
    places: Mapping[Level, Array],
    sacrum: Sequence[Array],
    girth: float,
    fat: float,
    generator: np.random.Generator,
) -> tuple[Array, float]:
    """(profile, bottom) of a torso about the spine: `PROFILE_COLUMNS` every `PROFILE_STEP_MM`.

    Args:
        places: body centres of C3 to S1 in the torso frame.
        sacrum: centres of the segments below.
        girth: 1 for the mean body.
        fat: thickness in mm of the fat below the skin of the belly.
    """
    spine = np.array([*places.values(), *sacrum])[::-1]
    spine = spine[np.argsort(spine[:, 2])]
    hip = places[Level.S1][2] - 115.0 * girth
    bottom, top = hip - 120.0, places[Level.C3][2] + 60.0
    z = np.arange(bottom, top, PROFILE_STEP_MM)
    spine_x, spine_y = np.interp(z, spine[:, 2], spine[:, 0]), np.interp(z, spine[:, 2], spine[:, 1])
    kernel = np.hanning(61)
    kernel /= kernel.sum()
    smooth_x = np.convolve(np.pad(spine_x, 30, mode="edge"), kernel, "valid")
    smooth_y = np.convolve(np.pad(spine_y, 30, mode="edge"), kernel, "valid")

    above = (
        Level.S1,
        Level.L4,
        Level.L2,
        Level.T11,
        Level.T8,
        Level.T5,
        Level.T2,
        Level.T1,
        Level.C6,
        Level.C3,
    )
    marks = [hip - 120, hip, *(places[level][2] for level in above)]
    thin = girth * between(generator, 0.9, 1.1)

    def along(values: Sequence[float], spread: float) -> Array:
        jitter = np.array([around(generator, 1.0, spread) for _ in values])
        line = np.interp(z, marks, np.array(values) * jitter)
        smoothed: Array = np.convolve(np.pad(line, 30, mode="edge"), kernel, "valid")
        return smoothed

    wide = along([150, 162, 150, 135, 133, 143, 152, 158, 150, 120, 58, 62], 0.03) * thin
    deep = along([85, 92, 92, 90, 92, 100, 104, 98, 84, 74, 55, 62], 0.03) * girth
    cover = along([1.0, 1.0, 1.0, 0.9, 0.7, 0.45, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], 0.1) * fat + 2.0
    wall = along([45, 40, 24, 14, 13, 13, 14, 16, 20, 24, 26, 26], 0.06) * girth
    behind = along([45, 45, 60, 74, 74, 66, 60, 58, 58, 62, 52, 50], 0.03) * girth
    hollow = along([-22, -22, -20, 0, 4, 12, 20, 22, 14, -10, -30, -30], 0.05)
    back = 0.5 * (smooth_y + behind) + 0.5 * float((smooth_y + behind).mean()) + cover
    back = np.maximum(back, spine_y + behind * 0.75 + 2.0)
    center_y = back - (deep + cover)
    profile = np.stack(
        [
            smooth_x * 0.7,
            center_y,
            wide + cover,
            deep + cover,
            cover,
            wall,
            spine_y + hollow,
            spine_x,
            spine_y,
        ],
        axis=1,
    )
    return profile, float(bottom)
