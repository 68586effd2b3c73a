"""What the reader of every report must know, whatever was imaged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_ai_node.genant import Thresholds
from dicom_ai_node.report import Reason, Vertebra

RESEARCH_USE: Final = Reason(
    "research-use", "For research use. Made by software without clinical validation."
)


def every_limitation(
    vertebrae: Sequence[Vertebra], cuts: Thresholds, min_level_confidence: float
) -> list[Reason]:
    """Research use, the thresholds of the grades, and an uncertain numbering.

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
        *uncertain_levels(vertebrae, min_level_confidence),
    ]


def uncertain_levels(vertebrae: Sequence[Vertebra], min_level_confidence: float) -> list[Reason]:
    """That the numbering may be shifted, where the confidence of a level is below this."""
    unsure = [item for item in vertebrae if item.level_confidence < min_level_confidence]
    if not unsure:
        return []
    return [
        Reason(
            "level-uncertain",
            f"The numbering is uncertain from {unsure[0].level} to {unsure[-1].level}: "
            "it may be shifted by one level. Compare with the sacrum or the last ribs.",
        )
    ]


def disease_limitation(threshold: float) -> Reason:
    """From which probability on a disease of P2's is reported."""
    return Reason(
        "thresholds",
        f"A disease is reported from a probability of {threshold:.0%} on, the mean of the two neighbouring "
        "sagittal slices that show it best.",
    )
