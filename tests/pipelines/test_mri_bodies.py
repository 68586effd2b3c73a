"""Outlines on slices: holes and specks go, bodies and their lips stay."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.pipelines.mri_bodies import MIN_PIECE_MM2, without_specks


def test_holes_are_filled_and_specks_go() -> None:
    body = np.full((2, 60, 80), 0.1, np.float32)
    body[0, 10:40, 20:60] = 0.9
    body[0, 20:24, 30:36] = 0.2  # a hole
    body[0, 36:40, 60:66] = 0.9  # a lip, on the body
    body[0, 50:55, 5:10] = 0.9  # 25 pixels alone
    body[1, 30:38, 20:28] = 0.9  # 64 pixels: the side of a body
    settled = without_specks(body, 1.0) >= 0.5
    assert settled[0, 10:40, 20:60].all()
    assert settled[0, 36:40, 60:66].all()
    assert settled[0].sum() == 30 * 40 + 4 * 6
    assert settled[1].sum() == 64


def test_what_was_clear_keeps_its_probability() -> None:
    body = np.full((1, 40, 40), 0.1, np.float32)
    body[0, 10:30, 10:30] = 0.9
    np.testing.assert_array_equal(without_specks(body, 1.0), body)


def test_a_speck_is_measured_in_millimetres() -> None:
    body = np.zeros((1, 40, 40), np.float32)
    body[0, 10:18, 10:18] = 0.9
    assert 64 > MIN_PIECE_MM2 > 64 * 0.25
    assert (without_specks(body, 1.0) >= 0.5).sum() == 64
    assert (without_specks(body, 0.5) >= 0.5).sum() == 0


def test_nothing_stays_nothing() -> None:
    assert not without_specks(np.zeros((3, 8, 8), np.float32), 1.0).any()
