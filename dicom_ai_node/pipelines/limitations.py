"""What the reader of every report must know, whatever was imaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import Thresholds
from dicom_ai_node.report import Reason, Vertebra

RESEARCH_USE: Final = Reason(
    "research-use", "For research use. Made by software without clinical validation."
)


def every_limitation(
    vertebrae: Sequence[Vertebra], cuts: Thresholds, min_level_confidence: float
) -> list[Reason]:
    """Research use, the thresholds of the grades, an unusual and an uncertain numbering.

    Args:
        vertebrae: of the report, head to tail.
        cuts: thresholds of the grades.
        min_level_confidence: below it the numbering is called uncertain.
    """
    return [
        RESEARCH_USE,
        Reason(
            "thresholds",
            f"Genant grades by height loss: mild from {cuts.mild:.0%}, "
            f"moderate above {cuts.moderate:.0%}, severe above {cuts.severe:.0%}.",
        ),
        *numbering_variants(vertebrae),
        *uncertain_levels(vertebrae, min_level_confidence),
    ]


def numbering_variants(vertebrae: Sequence[Vertebra]) -> list[Reason]:
    """That a spine was named with a T13 or an L6, or without T12, and how sure these names are.

    Args:
        vertebrae: of the report, head to tail; one that must be there and was not seen stands among them.
    """
    named = {item.level: item.level_confidence for item in vertebrae}
    variants = []
    if Level.T13 in named:
        variants.append(
            "A thirteenth thoracic vertebra (T13) was named between T12 and L1 (certainty "
            f"{named[Level.T13]:.0%}), which few people have: compare with the last ribs."
        )
    if Level.L6 in named:
        variants.append(
            "A sixth lumbar vertebra (L6) was named between L5 and the sacrum (certainty "
            f"{named[Level.L6]:.0%}), which few people have: compare with the last ribs."
        )
    if {Level.T11, Level.L1} <= named.keys() and not {Level.T12, Level.T13} & named.keys():
        sure = min(named[Level.T11], named[Level.L1])
        variants.append(
            f"No T12 was named: L1 follows T11 (certainty {sure:.0%}), as in few people: compare with the "
            "last ribs."
        )
    return [Reason("numbering-variant", words) for words in variants]


def uncertain_levels(vertebrae: Sequence[Vertebra], min_level_confidence: float) -> list[Reason]:
    """That the numbering may be shifted, where the confidence of a level is below this."""
    unsure = [item for item in vertebrae if item.level_confidence < min_level_confidence]
    if not unsure:
        return []
    least = min(unsure, key=lambda item: item.level_confidence)
    others = sorted(least.level_alternatives.items(), key=lambda item: -item[1])
    said = " or ".join(f"{level} ({share:.0%})" for level, share in others if share >= _WORTH_NAMING)
    return [
        Reason(
            "level-uncertain",
            f"The numbering is uncertain from {unsure[0].level} to {unsure[-1].level}: "
            + (f"{least.level} may be {said}" if said else "it may be shifted")
            + ". Compare with the sacrum or the last ribs.",
        )
    ]


_WORTH_NAMING: Final = 0.05
"""Less likely names are not told: they would hide those that matter."""


def disease_limitation(threshold: float) -> Reason:
    """From which probability on a disease of P2's is reported."""
    return Reason(
        "thresholds",
        f"A disease is reported from a probability of {threshold:.0%} on, the mean of the two neighbouring "
        "sagittal slices that show it best.",
    )
