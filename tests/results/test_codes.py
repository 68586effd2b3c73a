"""Codes are what PS3.16 says, or private and declared; colours are what the standard's scale says."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from pydicom.sr._concepts_dict import concepts

from conformance.required_attributes import TARGET, table, written
from dicom_ai_node.anatomy import LEVELS, PRIVATE_CODING_SCHEME, SUPERNUMERARY, Code, code
from dicom_ai_node.colours import GRADE_COLOURS, UNGRADED_COLOUR, pcs_cielab
from dicom_ai_node.report import DISEASES, NO_DISEASE, REASON_CODES
from dicom_ai_node.results import codes

# Not in PS3.16's context groups, so not in pydicom's dictionary.
ELSEWHERE = {
    ("RFC5646", "en"),
    ("UCUM", "%"),
    ("UCUM", "{pixels}"),
    ("UMLS", "C0034375"),
    ("SCT", "3572006"),
    ("SCT", "42942008"),
    ("SCT", "268029009"),
    ("SCT", "443165006"),
    ("I10", "M51.4"),
}


def _all_codes() -> list[Code]:
    found = []
    for value in vars(codes).values():
        items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
        found += [item for item in items if isinstance(item, Code)]
        if isinstance(value, Code):
            found.append(value)
    return list(dict.fromkeys([*found, *map(code, LEVELS)]))


STANDARD = [item for item in _all_codes() if item.scheme != PRIVATE_CODING_SCHEME]


@pytest.mark.parametrize("item", STANDARD, ids=lambda item: f"{item.scheme}-{item.value}")
def test_a_standard_code_means_what_ps3_16_says(item):
    if (item.scheme, item.value) in ELSEWHERE:
        return
    meanings = {
        found[item.value][0].lower() for found in concepts[item.scheme].values() if item.value in found
    }
    assert meanings
    stem = item.meaning.lower()
    assert any(stem == meaning or meaning.startswith(stem) for meaning in meanings), meanings


def test_private_codes_fit_their_attributes_and_are_used_once():
    values = [item.value for item in codes.PRIVATE_CONCEPTS]
    assert len(values) == len(set(values))
    for item in codes.PRIVATE_CONCEPTS:
        assert item.scheme == PRIVATE_CODING_SCHEME
        assert 0 < len(item.value) <= 16
        assert 0 < len(item.meaning) <= 64


def test_only_supernumerary_levels_are_private():
    private = {level for level in LEVELS if code(level).scheme == PRIVATE_CODING_SCHEME}
    assert private == SUPERNUMERARY


def test_every_reason_of_a_report_has_a_code():
    assert codes.REASONS.keys() == REASON_CODES.keys()


def test_every_disease_of_a_report_has_a_code():
    assert set(codes.DISEASES) == {*DISEASES, NO_DISEASE}


def test_an_object_with_private_codes_declares_the_scheme(encoded):
    declared = encoded("axial").read("sr").CodingSchemeIdentificationSequence
    assert [item.CodingSchemeDesignator for item in declared] == [PRIVATE_CODING_SCHEME]
    # T11 to L5 have SNOMED codes: the segmentation needs no scheme of ours.
    assert "CodingSchemeIdentificationSequence" not in encoded("axial").read("seg")


def test_white_and_black_are_the_ends_of_the_scale():
    assert pcs_cielab((255, 255, 255)) == pytest.approx([65535, 32896, 32896], abs=12)
    assert pcs_cielab((0, 0, 0)) == pytest.approx([0, 32896, 32896], abs=12)


def test_grades_can_be_told_apart_also_without_red_or_green():
    def lab(rgb):
        lightness, a, b = pcs_cielab(rgb)
        return lightness / 655.35, a / 257 - 128, b / 257 - 128

    for first, second in combinations([*GRADE_COLOURS, UNGRADED_COLOUR], 2):
        (l1, _, b1), (l2, _, b2) = lab(first), lab(second)
        # Without the red-green axis: lightness and blue-yellow alone.
        assert math.hypot(l1 - l2, b1 - b2) > 15, (first, second)


def test_the_table_of_required_attributes_is_the_standard_s():
    assert TARGET.read_text(encoding="utf-8") == written(table())
