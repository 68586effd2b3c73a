"""The spinal cord in the canal behind a body: told from the fluid about it by the profile from front to back.

In the middle plane the canal is fluid, cord, fluid. On T1 the cord is the brighter, on T2 and wherever fat
alone is suppressed the darker of the two. Below its end (L1 in most people) roots lie in the fluid; a bundle
of them is thinner than the cord and, with fluid between its threads, stands out less.

Sources: Frostell et al., Front Neurol 2016; 7:238 (the cord is 6 to 9 mm thick from front to back, most
at the neck and above its end); Soleiman et al., Spine 2005; 30:1875 (it ends between T11 and L3,
at L1 mostly).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.imaging.mr_pairing import Role

LAST_LEVEL: Final = Level.L1
"""Below this few people have a cord, and roots that lie together would be taken for one."""

Floats = npt.NDArray[np.float64]

_STEP_MM: Final = 0.25
_REACH_MM: Final = 20.0
"""So far behind the posterior wall the profile ends: the canal does, too."""

_MIDDLE_MM: Final = (4.0, 12.5)
"""The middle of the cord lies so far behind the posterior wall."""

_ASIDE_MM: Final = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""Beside the middle of the body the profile is taken, too: the one with the clearest cord counts, which lies
nearest to the middle of a slice that the cord fills."""

_TALL_MM: Final = 5.0
"""A profile is the mean over so much up and down."""

_CORE_MM: Final = 3.0
_FLANK_MM: Final = 7.0
"""The cord's inside, and how far from its middle fluid is looked for."""

_THICK_MM: Final = (4.5, 12.0)
_THICK_LOW_MM: Final = 6.0
"""How thick a cord is from front to back, at half its contrast; and how thick at least from T11 on, where it
swells before it ends."""

_EDGE_MM: Final = 1.0
"""So much of the cord's edge does not count: partial volume."""

_SEEN: Final = 0.9


@dataclass(frozen=True)
class _Contrast:
    """Cord against fluid: which way, and the ratio that both sides, and the better side, must reach."""

    sign: float
    both: float
    better: float


_CONTRASTS: Final[dict[Role, _Contrast]] = {
    "t1": _Contrast(1.0, 1.15, 1.4),
    "t2": _Contrast(-1.0, 1.3, 1.7),
    "stir": _Contrast(-1.0, 1.25, 1.55),
}
"""The ratio is that of the brighter to the darker. On a Dixon fat image neither of the two has signal."""


def body_axes(points: Floats) -> tuple[Floats, Floats]:
    """A body's own directions to the left and to the back, unit vectors in LPS.

    Args:
        points: six points of the body, shape (6, 3), in the order of `report.SIX_POINT_NAMES`.
    """
    back = (points[4] + points[5]) / 2 - (points[0] + points[1]) / 2
    back /= np.linalg.norm(back)
    up = (points[0] + points[2] + points[4]) - (points[1] + points[3] + points[5])
    left = np.cross(up, back)
    # Up x back points to the right in patient coordinates (left, posterior, superior).
    left *= -1 / np.linalg.norm(left)
    return left, back


def cord_signal(
    image: npt.NDArray[np.floating],
    seen: npt.NDArray[np.bool_],
    affine: Floats,
    points: Floats,
    *,
    level: Level,
    role: Role,
) -> float | None:
    """Signal of the cord behind one body.

    Args:
        image: shape (slices, rows, columns).
        seen: where the image reaches, same shape.
        affine: 4x4, index to LPS millimetres.
        points: six points of the body, shape (6, 3), LPS.
        level: of the body.
        role: what the image is.

    Returns:
        None where there is no cord (below `LAST_LEVEL`), or where it does not stand out from the fluid.
    """
    contrast = _CONTRASTS.get(role)
    if contrast is None or order(level) > order(LAST_LEVEL):
        return None
    found = [
        cord
        for profile in _profiles(image, seen, affine, points)
        if (cord := _cord_in(profile, contrast, level))
    ]
    return max(found)[1] if found else None


def _profiles(
    image: npt.NDArray[np.floating], seen: npt.NDArray[np.bool_], affine: Floats, points: Floats
) -> list[Floats]:
    """Mean signal from the posterior wall backwards, at each of `_ASIDE_MM` that is seen."""
    left, back = body_axes(points)
    up = np.cross(left, back)
    depth = np.arange(0.0, _REACH_MM + _STEP_MM, _STEP_MM)
    tall = np.linspace(-_TALL_MM, _TALL_MM, 9)
    places = (
        0.5 * (points[4] + points[5])
        + np.array(_ASIDE_MM)[:, None, None, None] * left
        + depth[None, :, None, None] * back
        + tall[None, None, :, None] * up
    )
    inverse = np.linalg.inv(affine)
    index = np.moveaxis(places @ inverse[:3, :3].T + inverse[:3, 3], -1, 0)
    # Whole series are not copied for the few places of one body.
    there = ndimage.map_coordinates(seen.view(np.uint8), index, output=np.uint8, order=0) > 0
    values = ndimage.map_coordinates(image, index, output=np.float64, order=1, mode="nearest")
    return [
        np.average(own, axis=1, weights=np.maximum(known, 1e-6))
        for own, known in zip(values, there, strict=True)
        if known.mean(axis=1).min() >= _SEEN
    ]


def _cord_in(profile: Floats, contrast: _Contrast, level: Level) -> tuple[float, float] | None:
    """How far the plateau between two flanks of fluid stands out, and its signal; None for no cord."""
    raised = contrast.sign * profile
    core, flank, edge = (round(length / _STEP_MM) for length in (_CORE_MM / 2, _FLANK_MM, _EDGE_MM))
    best = (0.0, 0, 0.0, 0.0)
    for middle in range(*(round(place / _STEP_MM) for place in _MIDDLE_MM)):
        own = float(raised[middle - core : middle + core + 1].mean())
        ahead = float(raised[max(0, middle - flank) : middle - core].min())
        behind = float(raised[middle + core + 1 : middle + flank + 1].min())
        weaker = max(ahead, behind)
        best = max(best, (own - weaker, middle, own, weaker))
    if best[0] <= 0:
        return None
    above, middle, own, weaker = best
    half = 0.5 * (own + weaker)
    below = raised < half
    if below[middle]:
        return None
    first = middle - int(np.argmax(below[middle::-1]))
    last = middle + int(np.argmax(below[middle:]))
    thickness = (last - first - 1) * _STEP_MM
    least = _THICK_LOW_MM if order(level) >= order(Level.T11) else _THICK_MM[0]
    inside = profile[first + 1 + edge : last - edge]
    if not least <= thickness <= _THICK_MM[1] or not inside.size:
        return None
    cord = float(np.median(inside))
    flanks = (raised[max(0, middle - flank) : first + 1], raised[last : middle + flank + 1])
    ratios = sorted(_ratio(cord, abs(float(part.min())), contrast.sign) for part in flanks)
    clear = ratios[0] >= contrast.both and ratios[1] >= contrast.better
    return (above, cord) if clear else None


def _ratio(cord: float, fluid: float, sign: float) -> float:
    brighter, darker = (cord, fluid) if sign > 0 else (fluid, cord)
    return brighter / max(darker, 1e-6)
