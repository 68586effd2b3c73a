"""Platt's scaling gives back the odds that a logit was moved away from."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.training.calibration import platt


def test_a_moved_and_stretched_logit_is_brought_back() -> None:
    rng = np.random.default_rng(4)
    logits = rng.normal(0.0, 2.0, 40_000)
    truth = rng.random(40_000) < 1 / (1 + np.exp(-logits))
    found = platt(3.0 * logits + 2.0, truth)
    assert found is not None
    assert found == pytest.approx((1 / 3, -2 / 3), abs=0.03)


def test_how_frequent_a_class_is_plays_no_part() -> None:
    rng = np.random.default_rng(5)
    rare, frequent = rng.normal(3.0, 1.0, 200), rng.normal(1.0, 1.0, 20_000)
    truth = np.arange(20_200) < 200
    found = platt(np.concatenate([rare, frequent]), truth)
    assert found is not None
    slope, offset = found
    assert -offset / slope == pytest.approx(2.0, abs=0.15), "the cut lies in the middle between both"


def test_classes_that_come_apart_entirely_get_a_slope_that_ends() -> None:
    logits = np.concatenate([np.full(30, -1.0), np.full(30, 4.0)])
    found = platt(logits, logits > 0)
    assert found is not None
    slope, offset = found
    assert slope < 10
    assert -offset / slope == pytest.approx(1.5, abs=0.05)


def test_too_few_cases_say_nothing() -> None:
    assert platt(np.zeros(30), np.arange(30) < 9) is None
