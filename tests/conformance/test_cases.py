"""A part of `make conformance`: studies of every kind, shown to every validator."""

from __future__ import annotations

import pytest

from conformance.cases import CASES
from conformance.examine import examine
from conformance.false_positives import unexplained

PART = (
    "axial, both cosines negated",
    "axial, gantry tilted, numbered from the feet",
    "axial, two slices lost",
    "axial, twenty-four vertebrae",
    "axial, T13 and L6",
    "sagittal, pixels wider than high",
    "oblique sagittal, enhanced multi-frame",
    "MR: oblique",
    "MR: enhanced multi-frame, Philips",
    "MR: not analysable",
    "film: CR, MONOCHROME1, mirrored and turned by 90",
    "film: no label map",
)


@pytest.mark.parametrize("name", PART)
def test_every_validator_is_content_with_every_result(name, tmp_path):
    row = examine(name, tmp_path)
    assert row.complaints == ()
    assert row.missing == frozenset()
    assert "sr" in row.objects


def test_the_suite_has_sixty_studies_and_more():
    assert len(CASES) >= 60


def test_what_is_no_known_false_positive_is_a_complaint():
    said = [
        "CTImage",
        "Warning - Unrecognized defined term <99DAINODE> for value 1 of attribute <Coding Scheme Designator>",
        "Warning - Unrecognized defined term <99OTHER> for value 1 of attribute <Coding Scheme Designator>",
        "Error - Missing attribute Type 1 Required Element=<Rows> Module=<ImagePixel>",
    ]
    assert unexplained(said) == said[2:]
