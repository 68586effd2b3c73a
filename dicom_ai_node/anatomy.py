"""The vertebral levels, their order and their codes: the words every other room speaks.

Levels run from head to tail. T13 and L6 are numbering anomalies: a level that exists in few people, so
that T12 may be followed by L1 or T13, and L5 by S1 or L6. The label numbers are those of VerSe
(Sekuboyina 2021), so that masks of that data set are read and written unchanged.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple


class Level(StrEnum):
    """One vertebral level; the members stand in order from head to tail."""

    C1 = "C1"
    C2 = "C2"
    C3 = "C3"
    C4 = "C4"
    C5 = "C5"
    C6 = "C6"
    C7 = "C7"
    T1 = "T1"
    T2 = "T2"
    T3 = "T3"
    T4 = "T4"
    T5 = "T5"
    T6 = "T6"
    T7 = "T7"
    T8 = "T8"
    T9 = "T9"
    T10 = "T10"
    T11 = "T11"
    T12 = "T12"
    T13 = "T13"
    L1 = "L1"
    L2 = "L2"
    L3 = "L3"
    L4 = "L4"
    L5 = "L5"
    L6 = "L6"
    S1 = "S1"

    @property
    def region(self) -> str:
        """``"C"``, ``"T"``, ``"L"`` or ``"S"``."""
        return self.value[0]


class Code(NamedTuple):
    """A coded concept (PS3.3 section 8.8): value, scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str


LEVELS: Final[tuple[Level, ...]] = tuple(Level)
"""All levels from head to tail."""

SUPERNUMERARY: Final[frozenset[Level]] = frozenset({Level.T13, Level.L6})
"""Levels that most people do not have."""

USUAL_LEVELS: Final[tuple[Level, ...]] = tuple(level for level in LEVELS if level not in SUPERNUMERARY)
"""The levels of a spine without a numbering anomaly, from head to tail."""

PRIVATE_CODING_SCHEME: Final = "99DAINODE"
"""Designator for the few concepts that no standard scheme has; declared in every object that uses it."""

VERTEBRA: Final = Code("51282000", "SCT", "Vertebra")

_SNOMED: Final[dict[Level, str]] = {
    Level.C1: "14806007",
    Level.C2: "39976000",
    Level.C3: "113205007",
    Level.C4: "5329002",
    Level.C5: "36978003",
    Level.C6: "36054005",
    Level.C7: "87391001",
    Level.T1: "64864005",
    Level.T2: "53733008",
    Level.T3: "1626008",
    Level.T4: "73071006",
    Level.T5: "56401006",
    Level.T6: "45296009",
    Level.T7: "62487009",
    Level.T8: "11068009",
    Level.T9: "82687006",
    Level.T10: "7610001",
    Level.T11: "12989004",
    Level.T12: "23215003",
    Level.L1: "66794005",
    Level.L2: "14293000",
    Level.L3: "36470004",
    Level.L4: "11994002",
    Level.L5: "49668003",
}

_VERSE: Final[dict[Level, int]] = {
    **{level: number for number, level in enumerate(LEVELS[:19], start=1)},
    Level.L1: 20,
    Level.L2: 21,
    Level.L3: 22,
    Level.L4: 23,
    Level.L5: 24,
    Level.L6: 25,
    Level.S1: 26,
    Level.T13: 28,
}
_FROM_VERSE: Final[dict[int, Level]] = {number: level for level, number in _VERSE.items()}
_ORDER: Final[dict[Level, int]] = {level: position for position, level in enumerate(LEVELS)}


def order(level: Level) -> int:
    """Position from head (0) to tail; two levels compare as their orders do."""
    return _ORDER[level]


def may_follow(upper: Level, lower: Level) -> bool:
    """Whether `lower` can be the next vertebra below `upper` in some human spine.

    T13 and L6 may be absent (the rule) or present; every other level may not be passed over, except T12,
    which is missing in spines with eleven ribs.
    """
    between = LEVELS[order(upper) + 1 : order(lower)]
    return order(lower) > order(upper) and all(
        level in SUPERNUMERARY or (level is Level.T12 and upper is Level.T11) for level in between
    )


def code(level: Level) -> Code:
    """The level as a coded anatomic region: SNOMED CT (PS3.16 CID 7603), else our private scheme.

    The first sacral segment has no SNOMED code of its own in DICOM's dictionaries: the sacrum's is used.
    """
    if level is Level.S1:
        return Code("54735007", "SCT", "Sacrum")
    if level in SUPERNUMERARY:
        return Code(level.value, PRIVATE_CODING_SCHEME, f"{level.value} vertebra")
    return Code(_SNOMED[level], "SCT", f"{level.value} vertebra")


def verse_label(level: Level) -> int:
    """The level's value in a VerSe label map: C1-C7 1-7, T1-T12 8-19, L1-L5 20-24, L6 25, S1 26, T13 28."""
    return _VERSE[level]


def level_of_verse_label(label: int) -> Level:
    """The level that a VerSe label map means with `label`.

    Raises:
        KeyError: no vertebral level has that label (0 is background).
    """
    return _FROM_VERSE[label]
