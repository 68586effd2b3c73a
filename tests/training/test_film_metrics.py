"""Average precision as COCO counts it, and the classifier's measures, on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dicom_ai_node.training.classification_metrics import (
    area_under_roc,
    classification_scores,
    confusion,
    roc_curve,
)
from dicom_ai_node.training.detection_metrics import (
    Instances,
    average_precision,
    box_overlaps,
    image_measures,
    mask_overlaps,
    mean_average_precision,
)


def _boxes(*tops: float) -> np.ndarray:
    return np.array([[top, 0, top + 10, 10] for top in tops], dtype=np.float64).reshape(-1, 4)


def _found(scores: list[float], *tops: float, label: int = 1) -> Instances:
    return Instances(np.full(len(tops), label), _boxes(*tops), np.array(scores, dtype=np.float64))


def _true(*tops: float, label: int = 1) -> Instances:
    return Instances(np.full(len(tops), label), _boxes(*tops))


def test_overlap_of_boxes_and_masks_agree() -> None:
    assert box_overlaps(_boxes(0), _boxes(0, 5, 20)).tolist() == [[1.0, pytest.approx(1 / 3), 0.0]]
    masks = [np.zeros((40, 12), dtype=bool) for _ in range(3)]
    for mask, top in zip(masks, (0, 5, 20), strict=True):
        mask[top : top + 10, :10] = True
    assert mask_overlaps(masks[:1], masks).tolist() == [[1.0, pytest.approx(1 / 3), 0.0]]
    assert mask_overlaps(masks[:1], [np.zeros((40, 12), dtype=bool)]).tolist() == [[0.0]]


def test_everything_right_is_one_and_nothing_found_is_zero() -> None:
    assert mean_average_precision([_found([0.9], 0)], [_true(0)], [1]) == {"map_50": 1.0, "map_50_95": 1.0}
    assert mean_average_precision([_found([])], [_true(0)], [1]) == {"map_50": 0.0, "map_50_95": 0.0}


def test_a_false_detection_between_two_right_ones() -> None:
    # Right, false, right of two: precision 1 up to recall 0.5 (51 recalls), then 2/3 (50 recalls).
    found = [_found([0.9, 0.7], 0, 100), _found([0.8], 50)]
    truth = [_true(0, 100), _true()]
    value = average_precision(found, truth, [1], thresholds=(0.5,))[0, 0]
    assert value == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_the_second_detection_of_one_truth_is_false() -> None:
    # Of two truths one is found twice: recall ends at 0.5.
    value = average_precision([_found([0.9, 0.8], 0, 1)], [_true(0, 100)], [1], thresholds=(0.5,))[0, 0]
    assert value == pytest.approx(51 / 101)


def test_thresholds_ask_for_more_and_more() -> None:
    # Moved by one of ten: overlap 9/11 = 0.818, right at 0.5 to 0.8, which is seven of ten thresholds.
    scores = mean_average_precision([_found([0.9], 1)], [_true(0)], [1])
    assert scores["map_50"] == 1.0
    assert scores["map_50_95"] == pytest.approx(0.7)


def test_classes_without_truth_do_not_count_and_wrong_classes_do() -> None:
    table = average_precision([_found([0.9], 0, label=2)], [_true(0, label=1)], [1, 2], thresholds=(0.5,))
    assert table[0, 0] == 0.0
    assert math.isnan(table[0, 1])
    assert math.isnan(mean_average_precision([_found([])], [_true()], [1])["map_50"])


def test_masks_are_compared_where_asked_for() -> None:
    whole, half = np.ones((10, 10), dtype=bool), np.ones((10, 10), dtype=bool)
    half[6:] = False
    box = np.array([[0.0, 0, 10, 10]])
    found = Instances(np.array([1]), box, np.array([0.9]), [half])
    truth = Instances(np.array([1]), box, masks=[whole])
    assert mean_average_precision([found], [truth], [1])["map_50_95"] == 1.0
    # An overlap of 0.6 is right at 0.5, 0.55 and 0.6.
    assert mean_average_precision([found], [truth], [1], masks=True)["map_50_95"] == pytest.approx(0.3)


def test_image_measures() -> None:
    values = image_measures([True, True, False, False, True], [True, True, True, False, False])
    assert values == {
        "sensitivity": pytest.approx(2 / 3),
        "specificity": 0.5,
        "accuracy": pytest.approx(3 / 5),
    }
    assert math.isnan(image_measures([True], [True])["specificity"])


def test_area_is_the_chance_of_the_right_order_with_ties_half() -> None:
    assert area_under_roc([0.9, 0.4, 0.4, 0.1], [True, True, False, False]) == pytest.approx(3.5 / 4)
    assert math.isnan(area_under_roc([0.1], [True]))


def test_area_is_that_under_the_curve() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random(80) < 0.4
    scores = np.round(truth * 0.5 + generator.random(80), 1)
    false, right, thresholds = roc_curve(scores, truth)
    assert (false[0], right[0], thresholds[0]) == (0.0, 0.0, np.inf)
    assert (false[-1], right[-1]) == (1.0, 1.0)
    assert float(np.trapezoid(right, false)) == pytest.approx(area_under_roc(scores, truth))


def test_scores_come_with_intervals_over_patients() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2] * 5)
    probabilities = np.full((30, 3), 0.2)
    probabilities[np.arange(30), truth] = 0.6
    probabilities[::6] = [0.2, 0.6, 0.2]
    groups = [str(number // 6) for number in range(30)]
    values, intervals = classification_scores(probabilities, truth, "abc", groups=groups, resamples=200)
    assert values["accuracy"] == pytest.approx(25 / 30)
    # Every patient is as right as any other: drawing patients anew changes nothing.
    assert intervals["accuracy"] == pytest.approx((25 / 30, 25 / 30))
    loose = classification_scores(probabilities, truth, "abc", resamples=200)[1]["accuracy"]
    assert loose[0] < 25 / 30 < loose[1]
    assert confusion(probabilities.argmax(axis=1), truth, 3).tolist() == [[5, 5, 0], [0, 10, 0], [0, 0, 10]]
