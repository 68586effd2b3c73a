"""P2's measures of a detector: hits by intersection over minimum, rates, counts, intervals by patient."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.training.detection_metrics import shares_of_smaller
from dicom_ai_node.training.slice_scores import (
    Matched,
    SliceBoxes,
    average_precision,
    count_correlation,
    detection_scores,
    fn_rate,
    fp_rate,
    matched,
    precision_recall,
    scores_with_intervals,
)

COLUMN = np.array([[10.0, 0, 30, 20], [10, 25, 30, 45], [10, 50, 30, 70]])


def _found(boxes: np.ndarray, *scores: float, patient: str = "a") -> SliceBoxes:
    return SliceBoxes(patient, np.asarray(boxes, dtype=np.float64), np.array(scores))


def _compared(boxes: np.ndarray, *scores: float, patient: str = "a") -> Matched:
    return matched(_found(boxes, *scores, patient=patient), SliceBoxes(patient, COLUMN))


def test_intersection_is_taken_over_the_smaller_box() -> None:
    inner = np.array([[12.0, 2, 16, 6]])
    assert shares_of_smaller(inner, COLUMN).tolist() == [[1.0, 0.0, 0.0]]
    assert shares_of_smaller(COLUMN, inner).tolist() == [[1.0], [0.0], [0.0]]
    assert matched(_found(inner, 0.9), SliceBoxes("a", COLUMN)).right.tolist() == [True]


def test_half_of_the_smaller_box_is_no_hit_and_a_little_more_is_one() -> None:
    for shift, hit in ((10, False), (9, True)):
        moved = COLUMN[:1] + np.array([shift, 0, shift, 0])
        assert _compared(moved, 0.9).right.tolist() == [hit]


def test_truth_found_as_it_is_has_no_errors() -> None:
    one = _compared(COLUMN, 0.9, 0.8, 0.95)
    assert average_precision([one]) == 1.0
    assert fp_rate([one]) == fn_rate([one]) == 0.0
    assert one.overlaps.tolist() == [1.0, 1.0, 1.0]


def test_second_box_on_one_vertebra_is_false() -> None:
    one = _compared(np.vstack([COLUMN[:1], COLUMN[:1] + 1, COLUMN[1:]]), 0.9, 0.99, 0.8, 0.8)
    assert one.scores.tolist() == [0.99, 0.9, 0.8, 0.8]
    assert one.right.tolist() == [True, False, True, True]
    assert fp_rate([one]) == 0.25
    assert fn_rate([one]) == 0.0


def test_rates_count_detections_from_the_published_score_on() -> None:
    elsewhere = [[50.0, 0, 70, 20]]
    one = _compared(np.vstack([COLUMN, elsewhere]), 0.9, 0.5, 0.75, 0.8)
    # Of three detections one is nowhere; of three vertebrae one is not detected.
    assert fp_rate([one]) == pytest.approx(1 / 3)
    assert fn_rate([one]) == pytest.approx(1 / 3)
    assert fn_rate([one], 0.5) == 0.0


def test_average_precision_is_the_area_under_the_falling_curve() -> None:
    elsewhere = [[50.0, 0, 70, 20]]
    one = _compared(np.vstack([COLUMN[:2], elsewhere]), 0.9, 0.5, 0.7)
    recall, precision, score = precision_recall([one])
    assert recall == pytest.approx([1 / 3, 1 / 3, 2 / 3])
    assert precision == pytest.approx([1, 1 / 2, 2 / 3])
    assert score.tolist() == [0.9, 0.7, 0.5]
    assert average_precision([one]) == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)


def test_counts_that_go_together_correlate() -> None:
    many, few = (
        _compared(COLUMN, 0.9, 0.9, 0.9),
        matched(_found(COLUMN[:1], 0.9), SliceBoxes("a", COLUMN[:1])),
    )
    assert count_correlation([many, few]) == pytest.approx(1.0)
    assert np.isnan(count_correlation([many]))


def test_slices_without_anything_cannot_tell() -> None:
    empty = SliceBoxes("a", np.zeros((0, 4)))
    values = detection_scores([empty], [empty])
    assert all(np.isnan(value) for value in values.values())


def test_intervals_draw_whole_patients() -> None:
    good = [_compared(COLUMN, 0.9, 0.9, 0.9, patient="a") for _ in range(4)]
    bad = [_compared(COLUMN[:0], patient="b") for _ in range(4)]
    values, intervals = scores_with_intervals([*good, *bad], resamples=200)
    assert values["fn_rate"] == 0.5
    # Either patient may be drawn twice: slices alone would never stray so far.
    assert intervals["fn_rate"] == (0.0, 1.0)
    alike, narrow = scores_with_intervals(good, resamples=50)
    assert narrow["fn_rate"] == (alike["fn_rate"], alike["fn_rate"]) == (0.0, 0.0)
