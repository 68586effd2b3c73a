"""What a detector of radiographs tells apart: levels in a state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dicom_ai_node.anatomy import LEVELS, Level, order

HEALTHY, FRACTURED = "healthy", "fractured"


@dataclass(frozen=True)
class DetectClass:
    """One class of a detector: a level in a state; class number 1 is the first of them."""

    level: Level
    fractured: bool

    @property
    def name(self) -> str:
        """``"L1 fractured"``, as bundles name the channel."""
        return f"{self.level.value} {FRACTURED if self.fractured else HEALTHY}"


PUBLISHED_CLASSES: Final = tuple(
    DetectClass(level, True) for level in (Level.T11, Level.T12, Level.L1, Level.L2, Level.L3, Level.L4)
)
"""P0's six: fractures of T11 to L4."""

EVERY_VERTEBRA: Final = tuple(
    DetectClass(level, state)
    for level in LEVELS
    if order(Level.T4) <= order(level) <= order(Level.L6)
    for state in (False, True)
)
"""Every vertebra from T4 to L5, T13 and L6 among them, healthy or fractured."""


def class_of_name(name: str) -> DetectClass:
    """The class that a bundle's output channel names."""
    level, state = name.split(" ")
    return DetectClass(Level(level), state == FRACTURED)


def fractures_only(names: Iterable[str]) -> bool:
    """Whether a detector with these output channels knows no healthy vertebra, as P0's."""
    return all(class_of_name(name).fractured for name in names)
