"""Stitched films of the whole spine, read in overlapping parts.

The networks know films as one exposure shows them. Fitted into their pictures a stitched film's bodies would
be half as large as any that they were taught. So it is looked at in parts, each as long as an ordinary film,
and every place is answered by the part whose ends lie furthest away. Places are pixels [row, column] of the
upright film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.inference.film import LevelMaps, OutlinedBody, SeenVertebra
from dicom_ai_node.networks.film_geometry import FittedMask, box_overlap

Film = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Found = TypeVar("Found", SeenVertebra, OutlinedBody)
Rows = tuple[int, int]
"""First row of a part, and the row after its last."""

LONG: Final = 2.0
"""A film is taken for a stitched one where it is so many times as long as it is wide,"""

LONG_MM: Final = 550.0
"""and, where the header tells the size of a pixel, so long: one exposure holds 430 mm."""

_PART: Final = 1.6
"""Length of a part over its width: that of an ordinary film of the spine."""

_STEP: Final = 0.6
"""Beginnings of neighbouring parts lie so much of their length apart, at most: three bodies are in both."""

_MOST: Final = 5
_SLACK: Final = 0.04
"""Of a part's length: a body so close to the middle of an overlap may be answered by either part."""

_SAME: Final = 0.4
"""Overlap from which on two boxes are one body."""


def parts_of(shape: tuple[int, int], row_mm: float | None) -> tuple[Rows, ...]:
    """The parts of an upright film, head to tail; all of it where it is no stitched one.

    Args:
        shape: rows, columns.
        row_mm: distance of neighbouring rows, None where it is not known.
    """
    rows, columns = shape
    if rows < LONG * columns or (row_mm is not None and rows * row_mm < LONG_MM):
        return ((0, rows),)
    # Not so short that there would be more parts than are looked at.
    length = min(rows, int(np.ceil(max(_PART * columns, rows / (1 + (_MOST - 1) * _STEP)))))
    return overlapping_parts(rows, length)


def overlapping_parts(rows: int, length: int) -> tuple[Rows, ...]:
    """Parts of a length, evenly spread over so many rows; all of them in one where there are no more."""
    if rows <= length:
        return ((0, rows),)
    count = 1 + int(np.ceil((rows - length) / (_STEP * length)))
    firsts = np.rint(np.linspace(0, rows - length, count)).astype(int).tolist()
    return tuple((first, first + length) for first in firsts)


@dataclass(frozen=True)
class PartMaps:
    """Heatmaps of levels over the parts of a film; answers as `LevelMaps` of a whole film does.

    Attributes:
        maps: of each part, their places those of the film.
        parts: of the film.
    """

    maps: tuple[LevelMaps, ...]
    parts: tuple[Rows, ...]

    @property
    def levels(self) -> tuple[Level, ...]:
        """One map each."""
        return self.maps[0].levels

    def evidence(self, place: Floats, reach: float) -> Floats:
        """See `LevelMaps.evidence`."""
        return self.maps[_owner(self.parts, float(place[0]))].evidence(place, reach)

    def peaks(self, at_least: float) -> list[tuple[Floats, float]]:
        """See `LevelMaps.peaks`."""
        found = [
            peak
            for number, maps in enumerate(self.maps)
            for peak in maps.peaks(at_least)
            if _owner(self.parts, float(peak[0][0])) == number
        ]
        return sorted(found, key=lambda item: -item[1])


def detect(bundle: Bundle, film: Film, parts: Sequence[Rows], *, score: float) -> list[SeenVertebra]:
    """As `inference.film.detect`, part by part."""
    found: list[tuple[int, SeenVertebra]] = []
    for number, rows in enumerate(parts):
        for item in networks.detect(bundle, film[slice(*rows)], score=score):
            box = _below(item.box, rows[0])
            if answers(parts, number, box):
                mask = None if item.mask is None else _mask_below(item.mask, rows[0])
                found.append((number, replace(item, box=box, mask=mask)))
    return without_repetitions(found)


def localise(
    bundle: Bundle, film: Film, parts: Sequence[Rows]
) -> tuple[LevelMaps | PartMaps, list[OutlinedBody]]:
    """As `inference.film.localise`, part by part."""
    maps: list[LevelMaps] = []
    found: list[tuple[int, OutlinedBody]] = []
    for number, rows in enumerate(parts):
        own, outlined = networks.localise(bundle, film[slice(*rows)])
        maps.append(replace(own, center=own.center + torch.tensor([float(rows[0]), 0.0])))
        for item in outlined:
            box = _below(item.box, rows[0])
            if answers(parts, number, box):
                found.append((number, replace(item, box=box, mask=_mask_below(item.mask, rows[0]))))
    bodies = head_to_tail(without_repetitions(found))
    return (maps[0] if len(maps) == 1 else PartMaps(tuple(maps), tuple(parts))), bodies


def head_to_tail(bodies: Sequence[OutlinedBody]) -> list[OutlinedBody]:
    """By their first row."""
    return sorted(bodies, key=lambda item: float(item.box[0]))


def _owner(parts: Sequence[Rows], row: float) -> int:
    """The part whose ends lie furthest from a row; where the film itself ends, no part does."""
    return max(range(len(parts)), key=lambda number: _depth(parts, number, row))


def _depth(parts: Sequence[Rows], number: int, row: float) -> float:
    first, after = parts[number]
    above = float("inf") if number == 0 and row < after else row - first
    below = float("inf") if number == len(parts) - 1 and row >= first else after - 1 - row
    return min(above, below)


def answers(parts: Sequence[Rows], number: int, box: Floats) -> bool:
    """Whether a part answers for a body: no other one shows more about it, or hardly so."""
    row = float(box[0] + box[2]) / 2
    first, after = parts[number]
    slack = _SLACK * (after - first)
    return any(_owner(parts, row + moved) == number for moved in (-slack, 0.0, slack))


def without_repetitions(found: Sequence[tuple[int, Found]]) -> list[Found]:
    """The surest first, each body once; bodies that one part shows are not compared with each other."""
    kept: list[tuple[int, Found]] = []
    for part, item in sorted(found, key=lambda one: -one[1].score):
        others = (one for other, one in kept if other != part)
        if all(box_overlap(item.box, one.box) < _SAME for one in others):
            kept.append((part, item))
    return [item for _, item in kept]


def _below(box: Floats, rows: int) -> Floats:
    moved: Floats = box + np.array([rows, 0, rows, 0], dtype=np.float64)
    return moved


def _mask_below(mask: FittedMask, rows: int) -> FittedMask:
    return replace(mask, frame=mask.frame.below(float(rows)))
