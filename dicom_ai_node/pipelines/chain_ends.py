"""Names for bodies beyond the ends of a chain, by counting on: the neck, which no heatmap knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import SUPERNUMERARY, USUAL_LEVELS, Level, order
from dicom_ai_node.pipelines.labelling import TYPICAL_SPACING_MM, NamedCentre

Floats = npt.NDArray[np.float64]

_FOLLOWS: Final = (0.5, 1.6)
"""How far the next body lies, as a share of the typical distance: fractures shorten it."""


def with_ends(chain: Sequence[NamedCentre], centers_mm: Sequence[Floats]) -> list[NamedCentre]:
    """The chain with the bodies above and below it that no heatmap knows, named by counting on.

    A body that was seen on several slices and follows at the distance of a vertebra is one, also where the
    network that names has little to say: in the neck, or at the edge of the slices.

    Args:
        chain: head to tail, at least one link.
        centers_mm: of all bodies, patient LPS millimetres.
    """
    links = counted_up(chain, centers_mm, Level.C1)
    while (below := _following(links[-1], 1, centers_mm)) is not None:
        links.append(below)
    return links


def counted_up(
    chain: Sequence[NamedCentre], centers_mm: Sequence[Floats], highest: Level = Level.C3
) -> list[NamedCentre]:
    """The chain with the bodies above it, as `with_ends`; nothing above `highest` is named.

    Above C3 no body is like those below: what is seen there may be the dens, the arch of C1 or the skull.
    """
    links = list(chain)
    while (above := _following(links[0], -1, centers_mm)) is not None:
        if order(above.level) < order(highest):
            break
        links.insert(0, above)
    return links


def _following(end: NamedCentre, step: int, centers_mm: Sequence[Floats]) -> NamedCentre | None:
    """The link above (-1) or below (1) this one; None where no body lies there, or none that is sure."""
    level = _next(end.level, step)
    if level is None:
        return None
    typical = TYPICAL_SPACING_MM[level if step < 0 else end.level]
    near, far = (share * typical for share in _FOLLOWS)
    following = [
        center
        for center in centers_mm
        if near < float(np.linalg.norm(center - end.center_mm)) < far
        and step * (end.center_mm[2] - center[2]) > 0.5 * near
    ]
    if not following:
        return None
    center = min(following, key=lambda place: float(np.linalg.norm(place - end.center_mm)))
    others = {
        str(other): share
        for name, share in end.alternatives.items()
        if (other := _next(Level(name), step)) is not None
    }
    return NamedCentre(level, center, end.confidence, others)


def _next(level: Level, step: int) -> Level | None:
    """The level above (-1) or below (1); None where there is none that is reported, or none that is sure."""
    if level in SUPERNUMERARY:
        return None
    place = USUAL_LEVELS.index(level) + step
    found = USUAL_LEVELS[place] if 0 <= place < len(USUAL_LEVELS) else None
    return found if found in TYPICAL_SPACING_MM else None
