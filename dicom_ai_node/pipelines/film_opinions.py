"""What the detector of a bundle says of a body that it saw, or did not see.

P0's detector knows fractures alone: a body that it does not see is, to it, a sound one. The default knows
every vertebra, healthy or broken: what it does not see it has not judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final, Self

from dicom_ai_node.anatomy import Level
from dicom_ai_node.networks.film_classes import class_of_name, fractures_only
from dicom_ai_node.pipelines.film_chain import FilmBody
from dicom_ai_node.report import Reason, Vertebra

AGREEMENT: Final = 0.5
"""Probability from which on the detector says that a body is broken."""

PLAINLY_SOUND: Final = 0.2
"""A body is plainly sound by its heights where they give a fracture less than this probability."""

_ENOUGH: Final = 3
"""Fewer bodies do not tell what a network makes of sound ones."""

_NOTHING: Final = 0.5
"""An opinion that says nothing."""

_LEAST: Final = 0.001
"""No opinion is surer than this before it is held against others."""


@dataclass(frozen=True)
class DetectorKnowledge:
    """What a detector tells apart.

    Attributes:
        levels: of which it sees fractures.
        healthy: whether it sees healthy bodies too.
        taught: share of fractured bodies in what it was taught; an opinion that repeats it says nothing.
        least: places that it gives less are dropped.
    """

    levels: frozenset[Level]
    healthy: bool
    taught: float
    least: float

    @classmethod
    def of(cls, channels: Iterable[str], taught: float, least: float) -> Self:
        """From a bundle's output channels."""
        names = tuple(channels)
        healthy = not fractures_only(names)
        levels = frozenset(item.level for item in map(class_of_name, names) if item.fractured)
        return cls(levels, healthy, taught if healthy else _NOTHING, least)

    def overlooked(self, body: FilmBody) -> bool:
        """Whether a detector that sees healthy bodies too did not see a body that the other network saw.

        Half of a body, or two of them, look like one to the other network now and then: of four such bodies
        at levels that the detector knows, on 101 phantom films, none was broken, and three were called so. Of
        twelve above T4, which it does not know and the shoulders hide, heights were 14 % off on average, on
        34 films, and none of the three that had a grade was broken.
        """
        return self.healthy and body.seen is None and body.outlined is not None

    def fractured(self, body: FilmBody) -> float | None:
        """Probability that a body is broken; None where the detector has no opinion."""
        if self.healthy:
            return None if body.seen is None else body.seen.fractured
        if body.seen is not None:
            return body.seen.score
        # Somewhere below the score from which on it would have been told.
        return self.least / 2 if body.link.level in self.levels else None


def held_against_sound(
    opinions: Sequence[float | None], by_heights: Sequence[float | None]
) -> list[float | None]:
    """A network's opinions on the bodies of one film, as far as they set them apart from its sound ones.

    Where a network calls most bodies broken that are plainly sound by their heights, it speaks of the film,
    which is unlike those it was taught with, and not of the body. What it says too much of those (the
    median of their log odds, if that is for broken) is taken from what it says of all.

    Args:
        opinions: probability of a fracture, body by body; None where there is none.
        by_heights: the same by the heights alone; None where a body was not graded.
    """
    sound = [
        _log_odds(opinion)
        for opinion, height in zip(opinions, by_heights, strict=True)
        if opinion is not None and _plainly_sound(height)
    ]
    surplus = max(0.0, median(sound)) if len(sound) >= _ENOUGH else 0.0
    if not surplus:
        return list(opinions)
    return [
        None if opinion is None else 1 / (1 + math.exp(surplus - _log_odds(opinion))) for opinion in opinions
    ]


def sound_enough(by_heights: Iterable[float | None]) -> bool:
    """Whether a film shows enough plainly sound bodies to hold a network's opinions against.

    Args:
        by_heights: see `held_against_sound`.
    """
    return sum(map(_plainly_sound, by_heights)) >= _ENOUGH


def _plainly_sound(by_heights: float | None) -> bool:
    return by_heights is not None and by_heights < PLAINLY_SOUND


def _log_odds(probability: float) -> float:
    bounded = min(max(probability, _LEAST), 1 - _LEAST)
    return math.log(bounded / (1 - bounded))


def with_dissent(vertebra: Vertebra, fractured: float | None) -> Vertebra:
    """The vertebra, and a reason where the detector says otherwise than its heights do, or says it alone."""
    if fractured is None:
        return vertebra
    word = "broken" if fractured >= AGREEMENT else "sound"
    told = f"The detector calls {vertebra.level} {word} ({fractured:.0%} fractured)"
    if vertebra.genant_grade is None:
        if vertebra.fractured or fractured < AGREEMENT:
            return vertebra
        told += ", but it was not measured: it is not reported as a fracture. Look at it."
    elif (fractured >= AGREEMENT) == bool(vertebra.genant_grade):
        return vertebra
    else:
        told += f", its heights say grade {vertebra.genant_grade} ({vertebra.height_loss:.0%} lost)."
    return replace(vertebra, reasons=(*vertebra.reasons, Reason("disagreement", told)))
