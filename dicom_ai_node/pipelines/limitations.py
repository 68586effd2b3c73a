"""What the reader of every report must know, whatever was imaged."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_ai_node.genant import Thresholds
from dicom_ai_node.report import Reason, Vertebra


def every_limitation(
    vertebrae: Sequence[Vertebra], cuts: Thresholds, min_level_confidence: float
) -> list[Reason]:
    """Research use, the thresholds of the grades, and an uncertain numbering.

    Args:
        vertebrae: of the report, head to tail.
        cuts: thresholds of the grades.
        min_level_confidence: below it the numbering is called uncertain.
    """
    limitations = [
        Reason("research-use", "For research use. Made by software without clinical validation."),
        Reason(
            "thresholds",
            f"Genant grades by height loss: mild from {cuts.mild:.0%}, "
            f"moderate above {cuts.moderate:.0%}, severe above {cuts.severe:.0%}.",
        ),
    ]
    unsure = [item for item in vertebrae if item.level_confidence < min_level_confidence]
    if unsure:
        limitations.append(
            Reason(
                "level-uncertain",
                f"The numbering is uncertain from {unsure[0].level} to {unsure[-1].level}: "
                "it may be shifted by one level. Compare with the sacrum or the last ribs.",
            )
        )
    return limitations
