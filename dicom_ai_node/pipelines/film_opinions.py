"""What the detector of a bundle says of a body that it saw, or did not see.

P0's detector knows fractures alone: a body that it does not see is, to it, a sound one. The default knows
every vertebra, healthy or broken: what it does not see it has not judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Self

from dicom_ai_node.anatomy import Level
from dicom_ai_node.networks.film_classes import class_of_name, fractures_only
from dicom_ai_node.pipelines.film_chain import FilmBody
from dicom_ai_node.report import Reason, Vertebra

AGREEMENT: Final = 0.5
"""Probability from which on the detector says that a body is broken."""

_NOTHING: Final = 0.5
"""An opinion that says nothing."""


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
        """Whether the detector should have seen a body that only the other network saw.

        Half of a body, or two of them, look like one to the other network now and then: of four such bodies
        on 101 phantom films none was broken, and three were called so.
        """
        alone = body.seen is None and body.outlined is not None
        return self.healthy and alone and body.link.level in self.levels

    def fractured(self, body: FilmBody) -> float | None:
        """Probability that a body is broken; None where the detector has no opinion."""
        if self.healthy:
            return None if body.seen is None else body.seen.fractured
        if body.seen is not None:
            return body.seen.score
        # Somewhere below the score from which on it would have been told.
        return self.least / 2 if body.link.level in self.levels else None


def with_dissent(vertebra: Vertebra, fractured: float | None) -> Vertebra:
    """The vertebra, and a reason where the detector says otherwise than its heights do, or says it alone."""
    if fractured is None:
        return vertebra
    word = "broken" if fractured >= AGREEMENT else "sound"
    told = f"The detector calls {vertebra.level} {word} ({fractured:.0%} fractured)"
    if vertebra.genant_grade is None:
        if fractured < AGREEMENT:
            return vertebra
        told += ", but it was not measured: it is not reported as a fracture. Look at it."
    elif (fractured >= AGREEMENT) == bool(vertebra.genant_grade):
        return vertebra
    else:
        told += f", its heights say grade {vertebra.genant_grade} ({vertebra.height_loss:.0%} lost)."
    return replace(vertebra, reasons=(*vertebra.reasons, Reason("disagreement", told)))
