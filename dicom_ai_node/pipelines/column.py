"""From rough centres to the bodies of the whole column: segment, recentre, and walk on where one must follow.

Heatmaps at 5 mm say roughly where vertebrae are and miss some; a body that was segmented says exactly where
it is, and where its neighbours should be. So every peak is segmented about its own centroid, then the gaps
between bodies and the ends of the column are tried until nothing new is found (after the iterative walk of
Lessmann 2019, Med Image Anal 53:142, with P3's crops).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.pipelines.bodies import Body

Array = npt.NDArray[np.float64]
Segment = Callable[[Sequence[Array]], Sequence[Body | None]]
"""The body about each of some points in patient LPS millimetres, or None: a device answers many at once."""

RECENTRE_MM: Final = 3.0
"""A body this far from where it was looked for is segmented once more about its true centre."""

MIN_APART: Final = 0.45
"""Two bodies are one when their centres are closer than this share of the typical distance."""

GAP: Final = 1.45
"""Between centres further apart than this many typical distances a body is missing."""

TALL: Final = 1.2
"""A body taller than this share of its tallest neighbour may be two: a crushed one and the one beside it."""

APART_IN_TWO: Final = 0.35
"""Two are looked for so far above and below the middle of what may be both, a share of its height."""

NEAREST_MM: Final = 12.0
"""No two neighbouring centres are nearer, not even those of crushed bodies."""

STEEPEST: Final = 0.3
"""So much of the way from one body to the next leads down: a neck above a kyphosis may lie at 60 degrees."""

_PART: Final = 0.85
"""Each of two bodies is at most this share of both together."""

_NEIGHBOURS: Final = 2
"""On either side: one of them may itself be crushed."""

TOGETHER: Final = 8
"""So many seeds are asked for at once: a device is busy, and progress is told before all are done."""

MAX_STEPS: Final = 30
"""More vertebrae than this no spine has."""


def bodies_of_column(
    seeds_mm: Sequence[Array],
    segment: Segment,
    inside: Callable[[Array], bool],
    progress: Callable[[int, int], None] = lambda _done, _about: None,
) -> list[Body]:
    """All bodies of the column, head to tail.

    Args:
        seeds_mm: rough centres, patient LPS millimetres, in any order.
        segment: looks for a body about each point; `TOGETHER` seeds are asked for at once.
        inside: whether a point lies in the image, and a vertebra may be there at all.
        progress: told how many places were tried, of about how many.
    """
    found: list[Body] = []
    tried = 0
    for first in range(0, len(seeds_mm), TOGETHER):
        for body in _settled(seeds_mm[first : first + TOGETHER], segment):
            _take(found, body)
            tried += 1
        progress(tried, len(seeds_mm) + 6)
    found = _one_column(found)
    places: list[Array] = []
    for _ in range(MAX_STEPS):
        place = next(
            (item for item in _where_one_must_follow(found) if inside(item) and _new(item, places)), None
        )
        if place is None:
            break
        places.append(place)
        _take(found, _settled([place], segment)[0])
        found = _one_column(found)
        tried += 1
        progress(min(tried, len(seeds_mm) + 6), len(seeds_mm) + 6)
    return _divided(found, segment)


def looked_for_again(found: Sequence[Body], places_mm: Sequence[Array], segment: Segment) -> list[Body]:
    """The column with what lies about further places, of which the numbering says that a body must be there.

    Where every second body was missed, gaps are as long as what is next to them, and none stands out.

    Args:
        found: bodies from head to tail.
        places_mm: where to look, patient LPS millimetres.
        segment: as for `bodies_of_column`.
    """
    column = list(found)
    for body in _settled(places_mm, segment):
        _take(column, body)
    return _one_column(column)


def _divided(found: Sequence[Body], segment: Segment) -> list[Body]:
    """The column, each body that was taken together with a crushed neighbour replaced by the two.

    A body that is only tall is found again from above and from below its middle, and stays one.
    """
    column: list[Body] = []
    for number, body in enumerate(found):
        parts = _two_of(body, _around(found, number), segment) if len(found) > _NEIGHBOURS else None
        column += parts or [body]
    return column


def _around(found: Sequence[Body], number: int) -> list[Body]:
    """The bodies next to one, at most `_NEIGHBOURS` on either side."""
    return [*found[max(0, number - _NEIGHBOURS) : number], *found[number + 1 : number + 1 + _NEIGHBOURS]]


def _two_of(body: Body, around: Sequence[Body], segment: Segment) -> list[Body] | None:
    """The upper and the lower one of two bodies that were taken for one; None where it is one."""
    along = around[0].center_mm() - around[-1].center_mm()
    along /= np.linalg.norm(along)
    height = _extent(body, along)
    if height <= TALL * max(_extent(other, along) for other in around):
        return None
    # Not settled about their own centres: from there the upper one would reach over the lower one again.
    offset = APART_IN_TWO * height * along
    upper, lower = segment([body.center_mm() + offset, body.center_mm() - offset])
    if upper is None or lower is None:
        return None
    apart = float((upper.center_mm() - lower.center_mm()) @ along)
    if apart < NEAREST_MM or max(upper.volume_ml, lower.volume_ml) > _PART * body.volume_ml:
        return None
    return [upper, lower]


def _extent(body: Body, along: Array) -> float:
    """Millimetres that a body reaches in a direction; a few stray voxels do not count."""
    points, _ = body.points_mm()
    low, high = np.quantile(points @ along, [0.01, 0.99])
    return float(high - low)


def _settled(places: Sequence[Array], segment: Segment) -> list[Body | None]:
    """The body about each place, segmented about its own centre; None where there is none or it runs away."""
    about = list(places)
    bodies = list(segment(about))
    for _ in range(2):
        off = [
            number
            for number, body in enumerate(bodies)
            if body is not None and np.linalg.norm(body.center_mm() - about[number]) > RECENTRE_MM
        ]
        if not off:
            break
        for number in off:
            body = bodies[number]
            assert body is not None
            about[number] = body.center_mm()
        for number, again in zip(off, segment([about[number] for number in off]), strict=True):
            bodies[number] = again or bodies[number]
    return bodies


def _take(found: list[Body], body: Body | None) -> None:
    """Add a body unless it is one that is known; of two that are one, the larger stays."""
    if body is None:
        return
    center = body.center_mm()
    limit = MIN_APART * _typical_distance(found)
    for k, known in enumerate(found):
        if np.linalg.norm(known.center_mm() - center) < limit:
            if body.volume_ml > known.volume_ml:
                found[k] = body
            return
    found.append(body)
    found.sort(key=lambda item: -item.center_mm()[2])


def _typical_distance(found: Sequence[Body]) -> float:
    """Median distance between neighbours, millimetres; that of a mean spine where it cannot be told."""
    if len(found) < 3:
        return 28.0
    centers = np.array([body.center_mm() for body in found])
    return float(np.clip(np.median(np.linalg.norm(np.diff(centers, axis=0), axis=1)), 16.0, 40.0))


def _one_column(found: Sequence[Body]) -> list[Body]:
    """The longest chain of bodies in which each lies below the other at a distance that a spine allows."""
    if len(found) < 2:
        return list(found)
    centers = np.array([body.center_mm() for body in found])
    weight = np.array([min(body.volume_ml, 30.0) for body in found])
    best, back = weight.copy(), np.full(len(found), -1)
    for j in range(len(found)):
        for i in range(j):
            step = centers[j] - centers[i]
            distance = float(np.linalg.norm(step))
            if not NEAREST_MM <= distance <= 110.0 or -step[2] < STEEPEST * distance:
                continue
            if best[i] + weight[j] > best[j]:
                best[j], back[j] = best[i] + weight[j], i
    chain = [int(best.argmax())]
    while back[chain[-1]] >= 0:
        chain.append(int(back[chain[-1]]))
    return [found[k] for k in reversed(chain)]


def _where_one_must_follow(found: Sequence[Body]) -> list[Array]:
    """Places to look next: gaps first, then one step beyond either end."""
    if not found:
        return []
    centers = np.array([body.center_mm() for body in found])
    if len(centers) == 1:
        return [centers[0] + [0.0, 0.0, 28.0], centers[0] - [0.0, 0.0, 28.0]]
    steps = np.diff(centers, axis=0)
    lengths = np.linalg.norm(steps, axis=1)
    places: list[Array] = []
    for k, length in enumerate(lengths):
        usual = float(np.median(np.delete(lengths, k)[max(0, k - 2) : k + 2])) if len(lengths) > 1 else 28.0
        count = round(length / usual)
        if length > GAP * usual:
            places += [centers[k] + share * steps[k] for share in np.arange(1, count) / count]
    places.append(centers[0] - 0.97 * (steps[0] if len(steps) == 1 else 2 * steps[0] - steps[1]))
    places.append(centers[-1] + 1.02 * steps[-1])
    return places


def _new(place: Array, tried: Sequence[Array]) -> bool:
    return all(np.linalg.norm(place - other) > 7.0 for other in tried)
