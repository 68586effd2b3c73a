"""The colours of the grades are told apart by everyone, also where two of them stand side by side."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest

from dicom_ai_node.colours import GRADE_COLOURS, POINT_COLOUR, UNGRADED_COLOUR

COLOURS = {
    **{f"grade {grade}": colour for grade, colour in enumerate(GRADE_COLOURS)},
    "ungraded": UNGRADED_COLOUR,
    "points": POINT_COLOUR,
}

# Machado, Oliveira and Fernandes 2009, severity 1.0: linear RGB as a dichromat sees it.
SEEN_BY = {
    "everyone else": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
LEAST: float = 15.0
"""CIE76 difference; 2.3 is just noticeable side by side."""


def lab(rgb: tuple[int, int, int], eye: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    encoded = np.array(rgb) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    seen = np.clip(eye @ linear, 0, 1)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    ratio = to_xyz @ seen / np.array([0.95047, 1.0, 1.08883])
    curve = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * curve[1] - 16, 500 * (curve[0] - curve[1]), 200 * (curve[1] - curve[2])])


@pytest.mark.parametrize("eye", sorted(SEEN_BY))
def test_no_two_colours_are_alike_to_anyone(eye: str) -> None:
    for (one, first), (other, second) in combinations(COLOURS.items(), 2):
        difference = float(np.linalg.norm(lab(first, SEEN_BY[eye]) - lab(second, SEEN_BY[eye])))
        assert difference > LEAST, f"{one} and {other} differ by {difference:.1f} in {eye}"


def test_a_usual_green_beside_a_usual_orange_would_be_found_out() -> None:
    green, orange = (110, 150, 0), (190, 90, 0)
    assert np.linalg.norm(lab(green, np.eye(3)) - lab(orange, np.eye(3))) > 40
    seen = SEEN_BY["deuteranopia"]
    assert np.linalg.norm(lab(green, seen) - lab(orange, seen)) < LEAST
