"""Grades follow Genant's cuts, whatever the size of the spine and wherever the fracture sits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import (
    P3_THRESHOLDS,
    TYPICAL_POSTERIOR_HEIGHT_MM,
    Heights,
    Thresholds,
    grade_spine,
)

LUMBAR = (Level.T11, Level.T12, Level.L1, Level.L2, Level.L3, Level.L4, Level.L5)


def spine(scale: float = 1.0) -> dict[Level, Heights]:
    typical = TYPICAL_POSTERIOR_HEIGHT_MM
    return {level: Heights(*(typical[level] * scale,) * 3) for level in LUMBAR}


@pytest.mark.parametrize(
    ("loss", "grade"), [(0.0, 0), (0.199, 0), (0.21, 1), (0.25, 1), (0.26, 2), (0.39, 2), (0.41, 3), (0.7, 3)]
)
@pytest.mark.parametrize("deformity", ["wedge", "biconcave", "crush"])
def test_loss_and_type_that_were_put_in_come_out(loss: float, grade: int, deformity: str) -> None:
    heights = spine()
    own = heights[Level.L2].posterior
    left = own * (1 - loss)
    heights[Level.L2] = {
        "wedge": Heights(left, (left + own) / 2, own),
        "biconcave": Heights(own, left, own),
        "crush": Heights(left, left, left),
    }[deformity]
    graded = grade_spine(heights)
    assert graded[Level.L2].grade == grade
    if grade == 0 and deformity == "crush":  # below the cut a body is measured against itself alone
        assert graded[Level.L2].loss == 0
    else:
        assert graded[Level.L2].loss == pytest.approx(loss, abs=1e-9)
    assert graded[Level.L2].deformity == (deformity if grade else "none")
    assert all(graded[level].grade == 0 for level in LUMBAR if level is not Level.L2)


def test_low_posterior_wall_of_a_healthy_l5_is_no_fracture() -> None:
    heights = spine()
    heights[Level.L5] = Heights(27.0, 25.0, 21.0)
    assert grade_spine(heights)[Level.L5].grade == 0


def test_two_crushed_neighbours_are_measured_against_sound_ones_only() -> None:
    heights = spine()
    for level in (Level.T12, Level.L1):
        heights[level] = Heights(*(heights[level].posterior * 0.5,) * 3)
    graded = grade_spine(heights)
    assert (graded[Level.T12].grade, graded[Level.L1].grade) == (3, 3)
    assert graded[Level.L2].grade == graded[Level.T11].grade == 0


def test_a_lone_vertebra_has_only_itself_to_be_measured_against() -> None:
    graded = grade_spine({Level.L1: Heights(15.0, 18.0, 20.0)})[Level.L1]
    assert (graded.grade, graded.deformity, graded.reference_mm) == (1, "wedge", 20.0)


def test_neck_and_sacrum_are_not_graded() -> None:
    heights = {Level.C7: Heights(10, 6, 10), Level.T1: Heights(14, 14, 14), Level.S1: Heights(20, 9, 9)}
    assert set(grade_spine(heights)) == {Level.T1}


def test_p3_calls_a_ratio_between_074_and_080_mild() -> None:
    assert [P3_THRESHOLDS.grade(1 - ratio) for ratio in (0.81, 0.79, 0.745, 0.735)] == [0, 1, 1, 2]


@given(scale=st.floats(0.5, 20), losses=st.lists(st.floats(0, 0.7), min_size=7, max_size=7))
def test_grading_depends_on_ratios_only(scale: float, losses: list[float]) -> None:
    heights = {
        level: Heights(own.anterior * (1 - loss), own.middle * (1 - loss / 2), own.posterior)
        for (level, own), loss in zip(spine().items(), losses, strict=True)
    }
    scaled = {
        level: Heights(own.anterior * scale, own.middle * scale, own.posterior * scale)
        for level, own in heights.items()
    }
    for level, graded in grade_spine(heights).items():
        again = grade_spine(scaled)[level]
        assert again.loss == pytest.approx(graded.loss, abs=1e-9)
        assert again.deformity == graded.deformity or graded.loss == pytest.approx(0.2, abs=1e-6)


@given(st.floats(-0.5, 1))
def test_grades_never_fall_as_the_loss_grows(loss: float) -> None:
    assert Thresholds().grade(loss) <= Thresholds().grade(loss + 0.05)
