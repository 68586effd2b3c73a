"""Levels are in order, coded as DICOM codes them, and numbered as VerSe numbers them."""

from __future__ import annotations

import json

import pytest
from pydicom.sr.codedict import codes

from dicom_ai_node.anatomy import (
    LEVELS,
    PRIVATE_CODING_SCHEME,
    SUPERNUMERARY,
    USUAL_LEVELS,
    Level,
    code,
    level_of_verse_label,
    may_follow,
    order,
    verse_label,
)


@pytest.mark.parametrize("level", [level for level in USUAL_LEVELS if level is not Level.S1])
def test_every_usual_level_has_the_code_of_pydicoms_dictionary(level: Level) -> None:
    known = getattr(codes.SCT, f"{level.value}Vertebra")
    assert code(level) == (known.value, known.scheme_designator, known.meaning)


def test_the_sacrum_and_the_supernumerary_levels_are_coded_too() -> None:
    assert code(Level.S1).value == codes.SCT.Sacrum.value
    assert {code(level).scheme for level in SUPERNUMERARY} == {PRIVATE_CODING_SCHEME}


def test_codes_and_labels_are_never_shared() -> None:
    assert len({code(level).value for level in LEVELS}) == len(LEVELS)
    assert len({verse_label(level) for level in LEVELS}) == len(LEVELS)


@pytest.mark.parametrize("level", LEVELS)
def test_label_numbers_come_back_as_levels(level: Level) -> None:
    assert level_of_verse_label(verse_label(level)) is level


def test_labels_are_those_of_a_real_verse_file(shared_data) -> None:  # type: ignore[no-untyped-def]
    centroids = json.loads((shared_data / "ct/verse004/sub-verse004_seg-subreg_ctd.json").read_text())
    labels = sorted(entry["label"] for entry in centroids if "label" in entry)
    named = [level_of_verse_label(label) for label in labels]
    assert named == [level for level in USUAL_LEVELS if order(Level.T9) <= order(level) <= order(Level.L5)]


@pytest.mark.parametrize(
    ("upper", "lower", "may"),
    [
        (Level.T12, Level.L1, True),
        (Level.T12, Level.T13, True),
        (Level.T13, Level.L1, True),
        (Level.T11, Level.L1, True),
        (Level.L5, Level.S1, True),
        (Level.L5, Level.L6, True),
        (Level.L6, Level.S1, True),
        (Level.L4, Level.S1, False),
        (Level.T10, Level.T12, False),
        (Level.L2, Level.L1, False),
        (Level.L1, Level.L1, False),
    ],
)
def test_what_may_stand_below_what(upper: Level, lower: Level, may: bool) -> None:
    assert may_follow(upper, lower) is may
