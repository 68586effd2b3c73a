"""The posterior elements of a vertebra as smoothly joined pieces, in the frame of its body.

Sizes follow Panjabi 1991/1992 (pedicle and canal dimensions, process lengths); the distance between the
pedicles and how far they lie behind the body follow the ImFusion VID statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.column import spine_statistics
from dicom_ai_node.phantom.randomness import around

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """A tapering capsule, stretched along the axes of the body's frame.

    Attributes:
        start, end: (u, v, w) in mm of its axis.
        radius_start, radius_end: mm, before stretching.
        stretch: factors of the radius along u, v, w.
        mirrored: whether it stands on both sides (u and -u).
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius_start: float
    radius_end: float
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mirrored: bool = True


@dataclass(frozen=True)
class ArchShape:
    """All pieces of one arch, and how smoothly they are joined (mm)."""

    pieces: tuple[Piece, ...]
    blend: float = 2.5

    @property
    def extent(self) -> tuple[Array, Array]:
        """Lower and upper corner, shape (3,), of a box (u, v, w) that holds the arch."""
        lows, highs = [], []
        for piece in self.pieces:
            radius = max(piece.radius_start, piece.radius_end) * np.array(piece.stretch) + self.blend
            ends = np.array([piece.start, piece.end])
            lows.append(ends.min(axis=0) - radius)
            highs.append(ends.max(axis=0) + radius)
        low, high = np.min(lows, axis=0), np.max(highs, axis=0)
        low[0] = min(low[0], -high[0])
        high[0] = -low[0]
        return low, high


def arch_distance(shape: ArchShape, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Signed distance in mm (negative inside; approximate away from the surface)."""
    folded = u.abs()
    total: Tensor | None = None
    for piece in shape.pieces:
        distance = _capsule(piece, folded if piece.mirrored else u, v, w)
        total = distance if total is None else smooth_minimum(total, distance, shape.blend)
    if total is None:
        raise ValueError("an arch has at least one piece")
    return total


def smooth_minimum(a: Tensor, b: Tensor, width: float) -> Tensor:
    """Polynomial smooth minimum: the union of two solids with a fillet of about `width` mm."""
    gap = (width - (a - b).abs()).clamp(min=0.0)
    return torch.minimum(a, b) - gap * gap * (0.25 / width)


def _capsule(piece: Piece, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    stretch = np.array(piece.stretch)
    a = np.array(piece.start) / stretch
    d = np.array(piece.end) / stretch - a
    length2 = float(d @ d) + 1e-9
    x, y, z = u / stretch[0] - a[0], v / stretch[1] - a[1], w / stretch[2] - a[2]
    t = ((x * d[0] + y * d[1] + z * d[2]) / length2).clamp(0.0, 1.0)
    x, y, z = x - t * d[0], y - t * d[1], z - t * d[2]
    radius = piece.radius_start + (piece.radius_end - piece.radius_start) * t
    distance: Tensor = (torch.sqrt(x * x + y * y + z * z + 1e-9) - radius) * float(stretch.min())
    return distance


_ANCHORS: Final = {
    #            C5    T1    T6    T10   T12   L1    L3    L5
    "position": (0.0, 3.0, 8.0, 12.0, 14.0, 15.0, 17.0, 19.0),
    "pedicle_width": (5.5, 7.5, 5.5, 7.0, 8.0, 8.5, 10.0, 15.0),
    "pedicle_height": (6.5, 9.0, 11.0, 14.0, 16.0, 15.5, 14.5, 14.0),
    "canal_depth": (14.0, 15.5, 15.5, 15.5, 16.0, 15.5, 15.0, 15.5),
    "spinous_length": (16.0, 27.0, 28.0, 23.0, 22.0, 25.0, 27.0, 20.0),
    "spinous_fall": (0.35, 0.45, 1.05, 0.75, 0.30, 0.15, 0.10, 0.15),
    "spinous_height": (4.0, 4.0, 4.2, 5.0, 8.2, 10.4, 11.2, 8.5),
    "spinous_place": (-0.25, -0.25, -0.25, -0.25, -0.2, -0.18, -0.18, -0.18),
    "transverse_tip": (26.0, 37.0, 31.0, 27.0, 21.0, 34.0, 42.0, 42.0),
    "transverse_back": (4.0, 17.0, 25.0, 25.0, 18.0, 15.5, 13.0, 7.0),
    "transverse_root": (4.0, 5.5, 5.5, 5.0, 4.6, 4.4, 5.0, 10.0),
    "transverse_start": (9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 8.0, 0.0),
    "transverse_rise": (0.0, 3.0, 4.0, 3.0, 0.0, 0.0, 0.0, 3.0),
    "transverse_radius": (3.5, 5.0, 5.0, 4.5, 4.0, 3.4, 3.6, 5.0),
    "facet_forward": (1.0, 1.0, 1.0, 0.9, 0.4, 0.0, 0.0, 0.2),
    "facet_back": (13.0, 13.0, 13.0, 13.0, 14.0, 16.5, 17.5, 17.0),
    "isthmus_back": (0.72, 0.72, 0.72, 0.72, 0.85, 0.95, 0.95, 0.9),
    "pillar": (17.0, 17.0, 17.0, 17.0, 16.0, 15.5, 18.0, 23.5),
}
_POSITIONS: Final[dict[Level, float]] = {
    **{Level(f"C{n}"): n - 5.0 for n in range(3, 8)},
    **{Level(f"T{n}"): n + 2.0 for n in range(1, 13)},
    Level.T13: 14.5,
    **{Level(f"L{n}"): n + 14.0 for n in range(1, 6)},
    Level.L6: 19.0,
}


def pedicle_separation(level: Level) -> tuple[float, float]:
    """Mean and deviation in mm of the distance between both pedicles (ImFusion VID)."""
    stand_in = {Level.T13: Level.T12, Level.L6: Level.L5, Level.L5: Level.L5}.get(level, level)
    entry = spine_statistics()["pedicles"].get(stand_in.value)
    # L5 is mostly the last level of a spine there and has no tangent: its plain distance was measured.
    return (48.2, 5.0) if entry is None else (float(entry["median"][0]), float(entry["deviation"][0]))


def sample_arch(level: Level, body: BodyShape, size: float, generator: np.random.Generator) -> ArchShape:
    """An arch that fits the (healthy) body; `size` is the spine's overall size (1 is the mean)."""
    at = {
        name: float(np.interp(_POSITIONS[level], _ANCHORS["position"], values)) * around(generator, 1.0, 0.06)
        for name, values in _ANCHORS.items()
    }
    separation, spread = pedicle_separation(level)
    half = 0.5 * size * around(generator, separation, 0.6 * spread, 1.5)
    half = min(half, max(body.half_width_upper, body.half_width_lower) - 1.0) if level.region == "L" else half
    back = body.back_upper
    top = body.upper_back
    height = body.upper_back - body.lower_back
    pedicle_w, pedicle_h = at["pedicle_width"] * size, min(at["pedicle_height"] * size, 0.72 * height)
    pz = top - 0.5 * pedicle_h - 0.02 * height
    pr = pedicle_w / 2
    canal = at["canal_depth"] * size
    slide = at["facet_forward"]
    up, down = 0.61 * height + 1.0, -0.72 * height - 1.0
    tip_u, tip_v, tip_w = (
        at["transverse_tip"] * size,
        back + at["transverse_back"],
        pz + at["transverse_rise"],
    )
    fall, length = at["spinous_fall"], at["spinous_length"] * size
    tilt = around(generator, 0.0, 1.5)
    lamina = back + canal + 3.0
    spinous_h = at["spinous_height"] * size
    narrow = min(half, at["pillar"] * size)
    spinous_w = at["spinous_place"] * height
    pieces = [
        Piece(
            (half - 0.6, back - 4.0, pz), (half, back + 9.0, pz), pr, pr, (1.0, 1.0, pedicle_h / pedicle_w)
        ),
        # Articular pillar: superior facet, isthmus, inferior facet.
        Piece(
            (narrow + 2.0 * (1 - slide), back + at["facet_back"] - 4.0 * slide, up),
            (narrow, back + at["isthmus_back"] * canal, 0.1 * height),
            3.8 * size,
            4.4 * size,
        ),
        Piece(
            (narrow - 1.0, back + 0.78 * canal, 0.1 * height),
            (narrow - 2.5 * (1 - slide) - 1.0, back + canal + 2.0 + 1.0 * (1 - slide), down),
            4.2 * size,
            3.6 * size,
        ),
        Piece(
            (narrow - 2.0, back + 0.85 * canal, -0.05 * height),
            (0.0, lamina, -0.28 * height),
            3.0,
            2.8,
            (1.0, 1.0, 0.30 * height / 3.0),
        ),
        Piece(
            (half + 1.0, back + at["transverse_start"], pz),
            (tip_u, tip_v, tip_w),
            at["transverse_root"],
            0.85 * at["transverse_radius"],
            (1.0, 0.85, 1.25),
        ),
        Piece(
            (0.0, lamina, spinous_w),
            (tilt, lamina + length * float(np.cos(fall)), spinous_w - length * float(np.sin(fall))),
            2.8,
            2.7,
            (1.0, 1.0, max(1.0, spinous_h / 2.8 * float(np.cos(fall)))),
            mirrored=False,
        ),
    ]
    return ArchShape(tuple(pieces))
