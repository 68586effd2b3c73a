"""The plane of measurement follows the body, not the table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_ai_node.pipelines.body_frame import frames_along_chain, turned_to_symmetry


def test_frames_are_right_handed_and_follow_the_chain() -> None:
    centers = [np.array([2.0 * i, 5.0 * np.sin(i / 3), -30.0 * i]) for i in range(6)]
    for frame, upper, lower in zip(frames_along_chain(centers)[1:-1], centers, centers[2:], strict=False):
        axes = np.array([frame.left, frame.posterior, frame.superior])
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(axes) == pytest.approx(1)
        chain = (upper - lower) / np.linalg.norm(upper - lower)
        assert frame.superior @ chain == pytest.approx(1, abs=1e-6)
        assert frame.posterior[1] > 0.9


def test_a_lone_vertebra_is_measured_in_the_patients_axes() -> None:
    (frame,) = frames_along_chain([np.array([1.0, 2.0, 3.0])])
    np.testing.assert_array_equal([frame.left, frame.posterior, frame.superior], np.eye(3))


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(-16, 16), seed=st.integers(0, 99))
def test_a_turned_body_is_found_turned(angle: float, seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-30, 30, (30000, 3))
    # A kidney: an ellipse with a dent at the back, as a lumbar body seen from above.
    left, posterior = points[:, 0], points[:, 1]
    body = ((left / 22) ** 2 + (posterior / 16) ** 2 < 1) & (np.hypot(left, posterior - 22) > 12)
    points = points[body & (np.abs(points[:, 2]) < 13)]
    turn = np.radians(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    center = np.array([10.0, -40.0, 300.0])
    (frame,) = frames_along_chain([center])
    turned = turned_to_symmetry(frame, points @ rotation.T + center, np.ones(len(points)))
    found = np.degrees(np.arctan2(turned.left[1], turned.left[0]))
    assert found == pytest.approx(angle, abs=2.5)
