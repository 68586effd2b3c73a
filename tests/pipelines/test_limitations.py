"""A vertebra more or less than most people have is said in one sentence, and how sure it is."""

from __future__ import annotations

import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import GENANT_THRESHOLDS
from dicom_ai_node.pipelines.limitations import every_limitation
from dicom_ai_node.report import Vertebra

SURE = 0.7


def _said(*names: str) -> list[str]:
    vertebrae = [Vertebra(level=Level(name), level_confidence=0.83) for name in names]
    limitations = every_limitation(vertebrae, GENANT_THRESHOLDS, SURE)
    return [reason.text for reason in limitations if reason.code == "numbering-variant"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("T11", "T12", "T13", "L1"), "T13"),
        (("L4", "L5", "L6"), "L6"),
        (("T10", "T11", "L1", "L2"), "No T12"),
    ],
)
def test_an_unusual_count_is_said_with_its_certainty(names: tuple[str, ...], words: str) -> None:
    (sentence,) = _said(*names)
    assert words in sentence
    assert "83 %" in sentence or "83%" in sentence
    assert "last ribs" in sentence


@pytest.mark.parametrize("names", [("T11", "T12", "L1"), ("T10", "T11"), ("L1", "L5"), ("T8", "L1"), ()])
def test_a_usual_count_and_a_part_of_a_spine_are_not(names: tuple[str, ...]) -> None:
    assert _said(*names) == []
