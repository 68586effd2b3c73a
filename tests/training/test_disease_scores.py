"""P2's measures, per slice and per vertebra."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dicom_ai_node.networks.ct_diseases import AVERAGED, OUTPUTS
from dicom_ai_node.training.disease_scores import (
    MEASURES,
    DiseaseAnswers,
    confusions,
    disease_scores,
    joined,
    truth_of,
)


def answers(said: list[float], truth: list[int], patients: str, levels: str = "") -> DiseaseAnswers:
    """The same answer and truth for every output."""
    return DiseaseAnswers(
        np.repeat(np.array(said)[:, None], len(OUTPUTS), axis=1),
        np.repeat(np.array(truth, dtype=np.int8)[:, None], len(OUTPUTS), axis=1),
        tuple(patients),
        tuple(levels or "a" * len(said)),
    )


def test_a_vertebra_is_normal_only_where_all_diseases_are_known_to_be_absent() -> None:
    truth = truth_of([[0, 0, 0, 0, 0], [1, 0, 0, -1, 0], [0, 0, -1, 0, 0]])
    assert truth[:, 5].tolist() == [1, 0, -1]
    assert truth[:, :5].tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, -1, 0], [0, 0, -1, 0, 0]]
    assert truth_of(np.zeros((0, 5))).shape == (0, 6)


def test_measures_are_those_of_the_papers_equations() -> None:
    # Three hits, one miss, one false alarm, four rightly passed over, and one of which nothing is known.
    told = answers(
        [0.9, 0.8, 0.5, 0.2, 0.7, 0.1, 0.1, 0.3, 0.4, 0.99], [1, 1, 1, 1, 0, 0, 0, 0, 0, -1], "abcdefghij"
    )
    values, _ = disease_scores(told, resamples=0)
    expected = {
        "sensitivity": 3 / 4,
        "specificity": 4 / 5,
        "ppv": 3 / 4,
        "npv": 4 / 5,
        "f1": 2 * 0.75 * 0.75 / 1.5,
        "accuracy": 7 / 9,
        "auc": 16 / 20,
    }
    assert set(values) == {f"{measure}_{name}" for measure in MEASURES for name in (*OUTPUTS, "mean")}
    for measure, value in expected.items():
        assert values[f"{measure}_KD"] == values[f"{measure}_mean"] == pytest.approx(value)
    assert confusions(told)["OF"] == [[4, 1], [1, 3]]
    strict, _ = disease_scores(told, threshold=0.85, resamples=0)
    assert (strict["sensitivity_SN"], strict["ppv_SN"]) == (0.25, 1.0)


def test_the_mean_is_over_four_diseases_and_says_so_where_one_cannot_tell() -> None:
    told = answers([0.9, 0.1, 0.2, 0.8], [1, 1, 0, 0], "abcd")
    for column, name in enumerate(OUTPUTS):
        if name not in AVERAGED:
            told.said[:, column] = 0.0
    values, _ = disease_scores(told, resamples=0)
    assert values["sensitivity_mean"] == 0.5
    assert values["sensitivity_SN"] == values["sensitivity_normal"] == 0.0
    assert math.isnan(values["ppv_SN"])
    told.truth[:, OUTPUTS.index("KD")] = -1
    assert math.isnan(disease_scores(told, resamples=0)[0]["sensitivity_mean"])


def test_intervals_are_over_patients_not_over_slices() -> None:
    one_patient = answers([0.9, 0.1] * 50, [1, 1] * 50, "a" * 100)
    _, spans = disease_scores(one_patient, resamples=20)
    assert spans["sensitivity_OVCF"] == (0.5, 0.5)
    many = answers([0.9, 0.1] * 50, [1, 1] * 50, "".join(chr(200 + k) for k in range(100)))
    values, spans = disease_scores(many, resamples=50)
    low, high = spans["sensitivity_OVCF"]
    assert low < values["sensitivity_OVCF"] < high
    assert 0.1 < high - low < 0.3


def test_a_vertebra_has_what_two_neighbouring_slices_show_on_average() -> None:
    told = joined(
        [answers([0.2, 0.9, 0.4], [0, 1, -1], "aaa", "xxy"), answers([0.1, 0.3], [0, 0], "bb", "xx")]
    )
    for one in (told.said, told.truth):
        # Normal is what the diseases are not.
        one[:, -1] = [0.8, 0.1, 0.6, 0.9, 0.7] if one is told.said else [1, 0, -1, 1, 1]
    whole = told.per_vertebra()
    assert list(zip(whole.patients, whole.levels, strict=True)) == [("a", "x"), ("a", "y"), ("b", "x")]
    assert whole.said[:, 0] == pytest.approx([0.55, 0.4, 0.2])
    assert whole.said[:, -1] == pytest.approx([0.45, 0.6, 0.8])
    assert whole.truth[:, 0].tolist() == [1, -1, 0]
    assert whole.truth[:, -1].tolist() == [0, -1, 1]


def test_vertebrae_without_a_name_are_judged_slice_by_slice_alone() -> None:
    told = DiseaseAnswers(np.full((2, 6), 0.5), np.zeros((2, 6), dtype=np.int8), ("a", "a"), ("", ""))
    assert told.per_vertebra().said.shape == (0, 6)
    assert disease_scores(told.per_vertebra()) == ({}, {})
