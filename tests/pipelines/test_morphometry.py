"""Heights are distances of pairs, and six points that cannot be a body's are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.pipelines.body_frame import BodyFrame, frames_along_chain
from dicom_ai_node.pipelines.morphometry import (
    SagittalPlane,
    held_to_outline,
    implausible,
    six_point_heights,
)

BODY = np.array([[-15, 14], [-14, -13], [0, 12], [0, -12], [15, 13], [15, -12]], float)  # [back, up] mm


@pytest.fixture
def frame() -> BodyFrame:
    return frames_along_chain([np.array([5.0 * i, 9.0 * i, -30.0 * i]) for i in range(3)])[1]


def placed(body: np.ndarray, frame: BodyFrame) -> np.ndarray:
    return frame.center_mm + body[:, :1] * frame.posterior + body[:, 1:] * frame.superior


def test_heights_are_the_distances_of_the_pairs(frame: BodyFrame) -> None:
    heights = six_point_heights(placed(BODY, frame))
    assert heights.anterior == pytest.approx(np.hypot(1, 27))
    assert heights.middle == pytest.approx(24)
    assert heights.posterior == pytest.approx(25)
    assert implausible(placed(BODY, frame), frame) is None


def test_a_plane_shows_anterior_left_and_head_up(frame: BodyFrame) -> None:
    plane = SagittalPlane.through(frame, (96, 96), 0.6)
    points = plane.to_patient(np.array([[47.5, 47.5], [0.0, 47.5], [47.5, 0.0]]))
    np.testing.assert_allclose(points[0], frame.center_mm, atol=1e-9)
    assert (points[1] - points[0]) @ frame.superior == pytest.approx(28.5)
    assert (points[2] - points[0]) @ frame.posterior == pytest.approx(-28.5)
    np.testing.assert_allclose((plane.affine() @ [0, 0, 47.5, 1])[:3], points[1], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body[[1, 0, 2, 3, 4, 5]], "anterior points"),
        (lambda body: body[[4, 5, 2, 3, 0, 1]], "front to back"),
        (lambda body: body * [3, 1], "deep"),
        (lambda body: body * [1, 2.2], "height"),
    ],
)
def test_points_that_are_no_body_are_refused_with_the_reason(frame: BodyFrame, change, words: str) -> None:  # type: ignore[no-untyped-def]
    reason = implausible(placed(change(BODY), frame), frame)
    assert reason is not None
    assert words in reason


def test_only_points_far_outside_of_the_body_are_moved_back_to_it() -> None:
    outline = np.zeros((60, 60))
    outline[20:40, 15:45] = 0.9
    outline[2:4, 2:4] = 0.9  # a scrap of something else
    points = np.array([[18.5, 15], [39, 15], [20, 30], [39, 30], [19, 44], [49, 56]], float)
    held = held_to_outline(points, outline, 3.0)
    np.testing.assert_array_equal(held[:5], points[:5])
    np.testing.assert_allclose(held[5], np.array([39, 44]) + 3.0 * np.array([10, 12]) / np.hypot(10, 12))
    np.testing.assert_array_equal(held_to_outline(points, np.zeros((60, 60)), 3.0), points)
