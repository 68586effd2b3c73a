"""The metrics of P3 against cases that can be worked out on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dicom_ai_node.training.metrics import (
    clustered_interval,
    dice,
    localisation_errors,
    precision,
    recall,
    summarise,
    surface_distances,
)


def _box(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((12, 12, 12), dtype=bool)
    mask[2:6, 2:6, start:stop] = True
    return mask


def test_overlap_of_boxes_that_share_half() -> None:
    truth, predicted = _box(0, 4), _box(2, 8)
    assert dice(predicted, truth) == pytest.approx(2 * 2 / (4 + 6))
    assert precision(predicted, truth) == pytest.approx(2 / 6)
    assert recall(predicted, truth) == pytest.approx(2 / 4)


def test_empty_masks() -> None:
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert dice(empty, empty) == 1.0
    assert dice(empty, full) == 0.0
    assert math.isnan(precision(empty, full))
    assert math.isnan(recall(full, empty))
    assert surface_distances(empty, empty, (1, 1, 1)) == (0.0, 0.0)
    assert surface_distances(empty, full, (1, 1, 1)) == (math.inf, math.inf)


def test_surface_distances_of_two_plates() -> None:
    truth = np.zeros((5, 5, 9), dtype=bool)
    truth[:, :, 2] = True
    predicted = np.zeros_like(truth)
    predicted[:, :, 5] = True
    average, largest = surface_distances(predicted, truth, (1.0, 1.0, 0.5))
    assert average == pytest.approx(1.5)
    assert largest == pytest.approx(1.5)


def test_average_and_maximum_surface_distance_differ_where_a_spike_stands_out() -> None:
    truth = np.zeros((1, 1, 40), dtype=bool)
    truth[..., :10] = True
    predicted = truth.copy()
    predicted[..., 20] = True
    # Every voxel is surface (the array is one voxel thick): 10 + 11 distances, of which one is 11 mm.
    average, largest = surface_distances(predicted, truth, (1.0, 1.0, 1.0))
    assert largest == pytest.approx(11.0)
    assert average == pytest.approx(11.0 / 21)


def test_surface_distances_do_not_depend_on_the_order() -> None:
    first, second = _box(0, 4), _box(3, 9)
    assert surface_distances(first, second, (3, 1, 2)) == surface_distances(second, first, (3, 1, 2))


def test_localisation_errors_at_4_10_and_20_mm() -> None:
    found = localisation_errors([1.0, 5.0, 12.0, math.inf])
    assert found["error_over_4mm"] == 0.75
    assert found["error_over_10mm"] == 0.5
    assert found["error_over_20mm"] == 0.25
    assert found["identification_rate"] == 0.75
    assert found["mean_error_mm"] == pytest.approx(6.0)


def test_interval_is_wide_where_cases_differ_and_narrow_where_only_their_vertebrae_do() -> None:
    same_cases = [[0.0, 1.0]] * 20
    different_cases = [[0.0, 0.0], [1.0, 1.0]] * 10

    def mean(cases: object) -> float:
        return float(np.mean(np.concatenate([np.asarray(case) for case in cases])))  # type: ignore[attr-defined]

    low, high = clustered_interval(same_cases, mean)
    assert (low, high) == (0.5, 0.5)
    low, high = clustered_interval(different_cases, mean)
    # The standard error of 20 cases is 0.112; vertebrae taken as independent would give 0.079.
    assert 0.5 - low == pytest.approx(1.96 * 0.112, abs=0.04)
    assert high - 0.5 == pytest.approx(1.96 * 0.112, abs=0.04)


def test_summary_weighs_vertebrae_and_leaves_out_what_does_not_apply() -> None:
    rows = [{"dice": [0.8, 1.0], "assd": [float("nan")]}, {"dice": [0.6], "assd": [2.0]}]
    means, intervals = summarise(rows, resamples=200)
    assert means == {"assd": 2.0, "dice": pytest.approx(0.8)}
    assert intervals["dice"][0] <= 0.8 <= intervals["dice"][1]
    assert intervals["assd"] == (2.0, 2.0)
