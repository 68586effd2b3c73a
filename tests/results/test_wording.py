"""The impression: the worst first, in plain words, never more certain than the data."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.findings import in_one_line
from dicom_ai_node.prior import PriorReport, PriorVertebra
from dicom_ai_node.report import Reason, Source, SpineReport, Vertebra
from dicom_ai_node.results.labels import label_text
from dicom_ai_node.results.wording import finding, impression

SOUND = Vertebra(
    Level.L2,
    0.97,
    height_loss=0.04,
    genant_grade=0,
    deformity="none",
    fractured=False,
    fracture_probability=0.03,
)
WEDGE = replace(
    SOUND,
    level=Level.L1,
    height_loss=0.31,
    genant_grade=2,
    deformity="wedge",
    fractured=True,
    fracture_probability=0.93,
    classes={"radiograph-acuity": {"acute": 0.85, "chronic": 0.1, "pathologic": 0.05}},
)


def report(*vertebrae: Vertebra, limitations: tuple[Reason, ...] = ()) -> SpineReport:
    return SpineReport("analysed", Source("1.2", ("1.3",), "CT", "1.4"), (), limitations, (), vertebrae)


def test_a_fracture_is_said_in_one_sentence() -> None:
    assert finding(WEDGE) == (
        "L1: moderate wedge fracture, 31 % loss of height, Genant grade 2, likely acute (85 %), fracture "
        "probability 93 %."
    )


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.95, "L1: moderate wedge fracture,"),
        (0.8, "L1: moderate wedge"),
        (0.79, "L1: possible moderate wedge"),
    ],
)
def test_a_fracture_that_is_not_sure_is_called_possible(probability: float, words: str) -> None:
    assert finding(replace(WEDGE, fracture_probability=probability)).startswith(words)


def test_an_age_that_is_not_sure_is_called_possible() -> None:
    doubtful = {"radiograph-acuity": {"acute": 0.5, "chronic": 0.3, "pathologic": 0.2}}
    assert "possibly acute (50 %)" in finding(replace(WEDGE, classes=doubtful))


def test_a_deformity_that_no_model_calls_a_fracture_is_not_called_one() -> None:
    assert "moderate wedge deformity, not called a fracture" in finding(replace(WEDGE, fractured=False))
    unjudged = finding(replace(WEDGE, fractured=None, fracture_probability=None))
    assert unjudged.startswith("L1: moderate wedge deformity, 31 %")


def test_a_fracture_without_loss_of_height_is_told_as_one() -> None:
    looks = replace(WEDGE, height_loss=0.17, genant_grade=0, deformity="none")
    assert in_one_line(report(looks, SOUND)).endswith("; L1 fractured, grade 0")


def test_a_fracture_without_a_grade_is_said_to_have_none() -> None:
    looks = Vertebra(Level.T12, 0.9, fractured=True, fracture_probability=0.85)
    assert finding(looks) == "T12: vertebral fracture, not graded, fracture probability 85 %."
    assert label_text(looks) == "T12 fractured"
    assert in_one_line(report(looks, SOUND)) == "2 vertebrae, T12 to L2; T12 fractured, not graded"
    # Of what the diseases of a body say there is more to tell than that it has no grade.
    ill = replace(looks, diseases=("OVCF",))
    assert "not graded" not in finding(ill)
    assert label_text(ill) == "T12 OVCF"


def test_the_worst_comes_first() -> None:
    severe = replace(WEDGE, level=Level.L4, height_loss=0.5, genant_grade=3)
    deformed = replace(WEDGE, level=Level.T11, fractured=False, height_loss=0.45, genant_grade=3)
    malignant = replace(
        SOUND,
        level=Level.L5,
        malignant=True,
        abnormal=("dark on T1: 0.41 of its neighbours",),
        classes={"mri-classify": {"benign": 0.1, "malignant": 0.9}},
    )
    sentences = impression(report(deformed, WEDGE, SOUND, severe, malignant))
    assert [words.partition(":")[0] for words in sentences[:4]] == ["L5", "L4", "L1", "T11"]
    assert "likely malignant (90 %)" in sentences[0]
    assert sentences[4] == "No fracture found in L2."
    assert sentences[-1].startswith("RESEARCH USE ONLY.")


def test_what_could_not_be_judged_is_said_and_that_names_are_unsure() -> None:
    cut = Vertebra(Level.L3, 0.9, status="not-analysable", reasons=(Reason("coverage", "L3 is cut off."),))
    unsure = Reason("level-uncertain", "The numbering is uncertain.")
    sentences = impression(report(WEDGE, cut, limitations=(unsure,)))
    assert sentences[1:3] == ["L3 could not be judged: L3 is cut off.", "The numbering is uncertain."]


def test_an_unusual_count_stands_with_the_names_it_concerns() -> None:
    variant = Reason("numbering-variant", "No T12 was named.")
    assert "No T12 was named." in impression(report(WEDGE, limitations=(variant,)))


def test_a_sound_spine_is_said_to_be_one() -> None:
    sound = [replace(SOUND, level=level) for level in (Level.T12, Level.L1, Level.L2, Level.L3)]
    assert impression(report(*sound))[0] == "No vertebral fracture found in T12 to L3."
    assert impression(report())[0] == "No vertebra was found."


def prior_of(*vertebrae: PriorVertebra) -> PriorReport:
    return PriorReport("1.2", "1.3", "1.4", "1.5", date(2023, 5, 1), "CT", False, vertebrae)


@pytest.mark.parametrize(
    ("before", "fractured_before", "words"),
    [
        (0.30, True, "loss of height unchanged since 2023-05-01"),
        (0.20, True, "11 percentage points more loss of height than on 2023-05-01"),
        (
            0.45,
            True,
            "14 percentage points less loss of height than on 2023-05-01, which a fracture does not do",
        ),
        (0.03, False, "new since 2023-05-01 (3 % loss of height then), likely acute"),
        (None, False, "new since 2023-05-01, likely acute"),
    ],
)
def test_the_change_since_the_earlier_report_is_said(
    before: float | None, fractured_before: bool, words: str
) -> None:
    prior = prior_of(PriorVertebra(Level.L1, "1.9", before, fractured_before))
    assert words in impression(report(WEDGE), prior=prior)[0]


def test_a_fracture_that_is_no_longer_seen_is_not_passed_over() -> None:
    prior = prior_of(PriorVertebra(Level.L2, "1.9", 0.3, True))
    first = impression(report(SOUND), prior=prior)[0]
    assert first.startswith(
        "L2: no fracture, 4 % loss of height, called a fracture in the report of 2023-05-01"
    )


def test_a_loss_that_grew_is_told_of_a_vertebra_that_is_not_called_fractured() -> None:
    prior = prior_of(PriorVertebra(Level.L2, "1.9", 0.02, False))
    grown = impression(report(replace(SOUND, height_loss=0.14)), prior=prior)[0]
    assert grown == (
        "L2: no fracture, 14 % loss of height, 12 percentage points more loss of height than on 2023-05-01."
    )
    # What measuring alone may do is not told of a sound body, nor that it became higher.
    little = impression(report(replace(SOUND, height_loss=0.09)), prior=prior)
    assert little[0] == "No vertebral fracture found in L2."
    higher = prior_of(PriorVertebra(Level.L2, "1.9", 0.16, False))
    assert impression(report(SOUND), prior=higher)[0] == "No vertebral fracture found in L2."


def test_a_vertebra_without_a_change_to_tell_reads_as_before() -> None:
    prior = prior_of(PriorVertebra(Level.T9, "1.9", 0.3, True))
    assert impression(report(WEDGE, SOUND), prior=prior) == impression(report(WEDGE, SOUND))
