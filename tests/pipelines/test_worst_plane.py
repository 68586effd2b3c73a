"""A body that is lower beside its middle is graded by that; one plane alone breaks no body."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import GENANT_THRESHOLDS
from dicom_ai_node.pipelines.bodies import Body
from dicom_ai_node.pipelines.ct_heights import MeasuredBody, PlanePoints
from dicom_ai_node.pipelines.morphometry import six_point_heights
from dicom_ai_node.pipelines.worst_plane import CountedPlane, counted_planes
from dicom_ai_node.report import Reason

LEVELS = (Level.T11, Level.T12, Level.L1, Level.L2, Level.L3)
BODY = Body(np.ones((1, 1, 1), np.float32), 0.0, np.eye(4))
SOUND = (20.0, 19.0, 20.0)

Three = tuple[float, float, float]


def plane(aside: float, heights: Three) -> PlanePoints:
    """A plane of a body 30 mm deep with these heights: its lower endplate is flat."""
    points = [
        (aside, y, up) for y, height in zip((-15.0, 0.0, 15.0), heights, strict=True) for up in (height, 0.0)
    ]
    return PlanePoints(aside, np.array(points))


def body(right: Three | None, middle: Three, left: Three | None) -> MeasuredBody:
    return MeasuredBody(
        BODY,
        plane(0.0, middle),
        None if right is None else plane(-10.0, right),
        None if left is None else plane(10.0, left),
        None,
    )


def counted(**bodies: MeasuredBody) -> dict[Level, CountedPlane]:
    """A sound spine but for the bodies that are given."""
    spine = {level: bodies.get(level.value, body(SOUND, SOUND, SOUND)) for level in LEVELS}
    return counted_planes(spine, GENANT_THRESHOLDS, error=0.025)


def test_a_body_that_is_deeper_to_one_side_is_graded_between_that_side_and_the_middle() -> None:
    found = counted(L1=body((20.0, 19.0, 20.0), (17.0, 18.0, 20.0), (13.0, 15.0, 20.0)))[Level.L1]
    assert found.grading is not None
    assert (found.grading.grade, found.grading.deformity) == (1, "wedge")
    assert found.grading.loss == pytest.approx(0.25)
    assert [item.counts for item in found.planes] == [False, True, True]
    assert [item.height_loss for item in found.planes] == pytest.approx([0.05, 0.15, 0.35])
    # Points, heights and loss belong together: they lie in the plane between the two.
    points = found.points.to_array()
    np.testing.assert_allclose(points[:, 0], 5.0)
    assert found.spine[Level.L1] == six_point_heights(points)
    assert 1 - found.spine[Level.L1].anterior / found.grading.reference_mm == pytest.approx(0.25)


def test_one_misplaced_point_beside_the_middle_breaks_no_body() -> None:
    found = counted(L1=body(SOUND, SOUND, (13.0, 19.0, 20.0)))[Level.L1]
    assert found.grading is not None
    assert found.grading.grade == 0
    assert found.probability is not None
    assert found.probability < 0.5
    assert [item.height_loss for item in found.planes] == pytest.approx([0.05, 0.05, 0.35])


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_grade_never_falls_where_a_side_is_lower(side: str) -> None:
    grades = []
    for lower in np.arange(0.0, 14.0, 0.5):
        broken = (20.0 - float(lower), 19.0, 20.0)
        middle = (16.5, 18.5, 20.0)
        one = body(broken, middle, SOUND) if side == "right" else body(SOUND, middle, broken)
        grading = counted(L1=one)[Level.L1].grading
        assert grading is not None
        grades.append((grading.grade, grading.loss))
    assert grades == sorted(grades)
    assert {grade for grade, _ in grades} == {0, 1, 2, 3}


def test_a_sound_body_is_told_by_its_middle() -> None:
    found = counted(L1=body((18.0, 19.0, 20.0), (19.0, 19.0, 20.0), SOUND))[Level.L1]
    assert [item.counts for item in found.planes] == [False, True, False]
    np.testing.assert_array_equal(found.points.to_array()[:, 0], 0.0)
    assert found.spine[Level.L1].anterior == pytest.approx(19.0)


def test_a_scoliotic_spine_that_is_lower_on_one_side_throughout_is_not_crushed() -> None:
    low: Three = (14.0, 13.3, 14.0)
    bent = {level.value: body(low, SOUND, SOUND) for level in LEVELS}
    assert all(found.grading and found.grading.grade == 0 for found in counted(**bent).values())
    # Against the neighbours' same side one body that is low there on its own is.
    alone = counted(L1=body(low, (16.0, 15.2, 16.0), SOUND))[Level.L1]
    assert alone.grading is not None
    assert alone.grading.deformity == "crush"


def test_the_middle_alone_counts_where_no_side_could_be_measured() -> None:
    found = counted(L1=body(None, (14.0, 17.0, 20.0), None), T11=body(None, SOUND, SOUND))
    assert [item.counts for item in found[Level.L1].planes] == [True]
    assert found[Level.L1].grading is not None
    assert found[Level.L1].grading.loss == pytest.approx(0.3)
    assert len(found[Level.T11].planes) == 2


def test_a_body_that_was_refused_and_a_level_without_grade_take_no_part() -> None:
    refused = MeasuredBody(BODY, None, None, None, Reason("coverage", "cut off"))
    measured = {Level.C7: body(SOUND, SOUND, SOUND), Level.L1: refused}
    found = counted_planes(measured, GENANT_THRESHOLDS, error=0.025)
    assert list(found) == [Level.C7]
    assert found[Level.C7].grading is None
    assert [item.height_loss for item in found[Level.C7].planes] == [None] * 3
