"""What a report says of names: a vertebra more or less than most people have, and names that are not sure."""

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


@pytest.mark.parametrize(
    ("alternatives", "words"),
    [
        ({"T11": 0.2, "T10": 0.35, "L1": 0.04}, "from T12 to L1: T12 may be T10 (35%) or T11 (20%)."),
        ({}, "from T12 to L1: it may be shifted."),
    ],
)
def test_an_unsure_numbering_names_what_else_it_may_be(alternatives: dict[str, float], words: str) -> None:
    vertebrae = [
        Vertebra(level=Level.T12, level_confidence=0.41, level_alternatives=alternatives),
        Vertebra(level=Level.L1, level_confidence=0.45),
        Vertebra(level=Level.L2, level_confidence=0.9),
    ]
    (reason,) = (
        item
        for item in every_limitation(vertebrae, GENANT_THRESHOLDS, SURE)
        if item.code == "level-uncertain"
    )
    assert words in reason.text
