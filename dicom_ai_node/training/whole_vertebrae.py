"""The bodies in label maps of whole vertebrae, as VerSe has them: our networks draw bodies.

In the middle of a vertebra the canal parts the body from the arch. So its posterior wall is seen there,
height by height; a straight line through what is seen is the wall, and what lies behind it is arch. Elsewhere
the pedicles hide the wall, but it is nearly the same line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_MIDDLE_MM: Final = 5.0
"""Half the width of the part of a vertebra in which the canal is surely open."""

_STEP_MM: Final = 1.0
_CANAL_MM: Final = 2.5
_TWO_VOXELS: Final = 1.7
"""A gap is no canal if neighbouring voxels may lie so far apart, askew ones too."""

_BEHIND_MM: Final = 1.0
"""The wall bulges a little beyond its line."""

_SHALLOWEST_MM: Final = 8.0
"""Half of this lies behind the centre of every body: what ends sooner is a hole, as of a vein."""


def body_of_vertebra(vertebra: Mask, spacing_affine: Floats, center_mm: Floats, axes: Floats) -> Mask:
    """The body's part of a vertebra's mask.

    Args:
        vertebra: of one vertebra, shape (slices, rows, columns).
        spacing_affine: 4x4, index to LPS millimetres.
        center_mm: of the body, LPS.
        axes: shape (3, 3), rows are left, posterior and superior of the vertebra in LPS.

    Returns:
        Of the same shape; the whole mask where no canal is seen behind the centre.
    """
    index = np.argwhere(vertebra)
    if not len(index):
        return vertebra
    own = (index @ spacing_affine[:3, :3].T + spacing_affine[:3, 3] - center_mm) @ axes.T
    wall = _posterior_wall(own, float(np.linalg.norm(spacing_affine[:3, :3], axis=0).max()))
    if wall is None:
        return vertebra
    offset, slope = wall
    kept = own[:, 1] <= offset + slope * own[:, 2] + _BEHIND_MM
    answer = np.zeros_like(vertebra)
    answer[tuple(index[kept].T)] = True
    # Pieces of processes that reach forward beside the body hang on it by nothing.
    pieces, count = ndimage.label(answer)
    if count > 1:
        answer = pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    return answer


def _posterior_wall(own: Floats, voxel_mm: float) -> tuple[float, float] | None:
    """(offset, slope) of the wall, posterior = offset + slope * superior, mm in the vertebra's axes."""
    gap, thick = max(_CANAL_MM, _TWO_VOXELS * voxel_mm), max(_STEP_MM, voxel_mm / 2)
    middle = own[np.abs(own[:, 0]) <= _MIDDLE_MM]
    places, ends = [], []
    for height in np.arange(-12.0, 12.0, _STEP_MM):
        row = np.sort(middle[np.abs(middle[:, 2] - height) <= thick][:, 1])
        if len(row) < 2:
            continue
        # The first gap behind the body is the canal.
        gaps = np.flatnonzero((np.diff(row) > gap) & (row[:-1] > _SHALLOWEST_MM / 2))
        if len(gaps):
            places.append(height)
            ends.append(row[gaps[0]])
    if len(places) < 4:
        return None
    heights, walls = np.array(places), np.array(ends)
    # Medians of slopes and offsets: a vein's exit or a spur must not tilt the wall.
    first, second = np.triu_indices(len(heights), 1)
    slope = float(np.median((walls[second] - walls[first]) / (heights[second] - heights[first])))
    return float(np.median(walls - slope * heights)), slope


def axes_along(centers_mm: Mapping[int, Floats]) -> dict[int, Floats]:
    """Left, posterior and superior of each vertebra, rows of (3, 3), from its neighbours' centres.

    Args:
        centers_mm: by place in the column from head to tail; a place may be missing. LPS.
    """
    answer = {}
    for place, center in centers_mm.items():
        above, below = (centers_mm.get(place + step, center) for step in (-1, 1))
        superior = above - below
        length = float(np.linalg.norm(superior))
        superior = superior / length if length > 0 else np.array([0.0, 0.0, 1.0])
        left = np.array([1.0, 0.0, 0.0]) - superior[0] * superior
        left /= np.linalg.norm(left)
        answer[place] = np.stack([left, np.cross(superior, left), superior])
    return answer
