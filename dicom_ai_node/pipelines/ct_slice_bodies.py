"""From boxes on single sagittal slices to vertebrae: which boxes are one body, and which are none.

A body is 30 to 50 mm wide, so that neighbouring slices show it at nearly the same place; what a single slice
shows alone is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from dicom_ai_node.pipelines.ct_planes import SagittalPlanes

Floats = npt.NDArray[np.float64]

MIN_SCORE: Final = 0.75
"""A box counts from this probability on (P2, "Evaluation of the VDModule")."""

SAME_BODY: Final = 0.4
"""Overlap (intersection over union) from which on boxes of neighbouring slices show one body."""

DOUBLE: Final = 0.5
"""Overlap (intersection over the smaller box, P2's IoM) from which on two boxes of one slice are one."""

BRIDGED: Final = 2
"""A body that one slice does not show is picked up again on the next."""

NEAR_MM: Final = 4.0
"""Planes nearer to each other than this must be three that show a body; else two are enough."""

PLAUSIBLE_SIZES: Final = (0.5, 1.9)
"""Edge of a body's box as a share of the median of the series; crushed bodies are still as deep as others."""

CUT_OFF_MM: Final = 1.0
"""A box that ends nearer than this to the upper or lower edge of the slice is cut off."""


class Box(Protocol):
    """What a detector says of one vertebra on one slice; places are pixel centres."""

    @property
    def rows(self) -> tuple[float, float]:
        """First and last."""

    @property
    def columns(self) -> tuple[float, float]:
        """First and last."""

    @property
    def score(self) -> float:
        """Probability that it is one."""


@dataclass(frozen=True)
class SliceBody:
    """One vertebral body.

    Attributes:
        boxes: plane -> its box there, planes in order.
        center_mm: LPS, of its boxes.
    """

    boxes: Mapping[int, Box]
    center_mm: Floats

    @property
    def planes(self) -> tuple[int, ...]:
        """The planes that show it, in order."""
        return tuple(self.boxes)

    def gaps(self) -> tuple[int, ...]:
        """Planes between these on which it was not found."""
        return tuple(k for k in range(self.planes[0], self.planes[-1] + 1) if k not in self.boxes)


@dataclass(frozen=True)
class FoundBodies:
    """The bodies of a series, head to tail, and how many boxes belong to none."""

    bodies: tuple[SliceBody, ...]
    left_out: int


def bodies_of_boxes(boxes: Sequence[Sequence[Box]], planes: SagittalPlanes) -> FoundBodies:
    """The bodies that boxes on all planes show.

    Args:
        boxes: of each plane.
        planes: on which they were found.
    """
    counted = [_without_doubles([box for box in own if box.score >= MIN_SCORE]) for own in boxes]
    tracks: list[dict[int, Box]] = []
    for plane, own in enumerate(counted):
        _continue(tracks, plane, own)
    least = 3 if planes.step_mm < NEAR_MM else 2
    wide = [_body(track, planes) for track in tracks if len(track) >= least]
    kept = _one_at_a_place(_of_usual_size(wide, planes))
    kept.sort(key=lambda body: -body.center_mm[2])
    total = sum(len(own) for own in counted)
    return FoundBodies(tuple(kept), total - sum(len(body.boxes) for body in kept))


def cut_off(boxes: Mapping[int, Box], planes: SagittalPlanes) -> bool:
    """Whether the upper or lower edge of the slices ends a body, on most of the planes that show it.

    Args:
        boxes: of the body, by plane.
        planes: on which they lie.
    """
    margin = CUT_OFF_MM / planes.spacing_mm[0]
    last = planes.images.shape[1] - 1
    cut = [box.rows[0] <= margin or box.rows[1] >= last - margin for box in boxes.values()]
    return sum(cut) > len(cut) / 2


def _without_doubles(boxes: Sequence[Box]) -> list[Box]:
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda item: -item.score):
        if all(_common(box, other) < DOUBLE * min(_area(box), _area(other)) for other in kept):
            kept.append(box)
    return kept


def _continue(tracks: list[dict[int, Box]], plane: int, boxes: Sequence[Box]) -> None:
    """Each box goes on with the body that it is most alike, or begins one; the most alike come first."""
    open_tracks = [track for track in tracks if plane - max(track) <= BRIDGED]
    overlaps = [
        (_overlap(track[max(track)], box), first, second)
        for first, track in enumerate(open_tracks)
        for second, box in enumerate(boxes)
    ]
    taken_tracks: set[int] = set()
    taken_boxes: set[int] = set()
    for overlap, first, second in sorted(overlaps, key=lambda item: -item[0]):
        if overlap < SAME_BODY:
            break
        if first not in taken_tracks and second not in taken_boxes:
            open_tracks[first][plane] = boxes[second]
            taken_tracks.add(first)
            taken_boxes.add(second)
    tracks += [{plane: box} for number, box in enumerate(boxes) if number not in taken_boxes]


def _body(track: Mapping[int, Box], planes: SagittalPlanes) -> SliceBody:
    middles = np.array([_middle(box) for box in track.values()])
    row, column = np.median(middles, axis=0)
    plane = (min(track) + max(track)) / 2
    return SliceBody(dict(track), planes.to_mm(plane, row, column)[0])


def _of_usual_size(bodies: Sequence[SliceBody], planes: SagittalPlanes) -> list[SliceBody]:
    """Without boxes of quite another depth than the rest: neighbours of one spine are alike."""
    if len(bodies) < 3:
        return list(bodies)
    low, high = PLAUSIBLE_SIZES
    depths = np.array([_depth_mm(body, planes) for body in bodies])
    usual = float(np.median(depths))
    return [body for body, depth in zip(bodies, depths, strict=True) if low * usual <= depth <= high * usual]


def _one_at_a_place(bodies: Sequence[SliceBody]) -> list[SliceBody]:
    """Of bodies that lie over each other on all that shows them, the one that most slices show."""
    kept: list[SliceBody] = []
    for body in sorted(bodies, key=lambda item: -len(item.boxes)):
        if all(not _same_place(body, other) for other in kept):
            kept.append(body)
    return kept


def _same_place(body: SliceBody, other: SliceBody) -> bool:
    first, second = _usual_box(body), _usual_box(other)
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    smaller = min(float(np.prod(box[2:] - box[:2])) for box in (first, second))
    return bool(float(np.clip(high - low, 0, None).prod()) >= DOUBLE * smaller)


def _usual_box(body: SliceBody) -> Floats:
    """First row, first column, last row, last column."""
    boxes = [(*np.array([box.rows, box.columns]).T.ravel(),) for box in body.boxes.values()]
    usual: Floats = np.median(np.array(boxes, dtype=np.float64), axis=0)
    return usual


def _depth_mm(body: SliceBody, planes: SagittalPlanes) -> float:
    box = _usual_box(body)
    return float(box[3] - box[1] + 1) * planes.spacing_mm[1]


def _middle(box: Box) -> tuple[float, float]:
    return sum(box.rows) / 2, sum(box.columns) / 2


def _area(box: Box) -> float:
    return (box.rows[1] - box.rows[0] + 1) * (box.columns[1] - box.columns[0] + 1)


def _common(box: Box, other: Box) -> float:
    tall = min(box.rows[1], other.rows[1]) - max(box.rows[0], other.rows[0]) + 1
    deep = min(box.columns[1], other.columns[1]) - max(box.columns[0], other.columns[0]) + 1
    return max(0.0, tall) * max(0.0, deep)


def _overlap(box: Box, other: Box) -> float:
    common = _common(box, other)
    return common / (_area(box) + _area(other) - common)
