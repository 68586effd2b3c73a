"""Measures of a classifier: accuracy, confusion, ROC, areas under it (P1, "Statistical analysis")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from dicom_ai_node.training.metrics import clustered_interval

Floats = npt.NDArray[np.float64]


def area_under_roc(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Chance that a positive scores above a negative, ties half (Mann-Whitney); NaN without both."""
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    first, second = int(truth.sum()), int((~truth).sum())
    if not first or not second:
        return float("nan")
    ranks = rankdata(values)
    return float((ranks[truth].sum() - first * (first + 1) / 2) / (first * second))


def roc_curve(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """False positive rates, sensitivities and thresholds, from the strictest (nothing is positive) on.

    A score counts as positive where it reaches the threshold; the first one is infinite.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    thresholds = np.concatenate([[np.inf], np.unique(values)[::-1]])
    said = values[None] >= thresholds[:, None]
    rates = [(said & kind).sum(axis=1) / max(1, int(kind.sum())) for kind in (~truth, truth)]
    return rates[0].astype(np.float64), rates[1].astype(np.float64), thresholds


def precision_recall_curve(scores: npt.ArrayLike, positive: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Precisions and sensitivities from the strictest threshold on, one per score; see `roc_curve`.

    Both are empty without any positive.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(positive, dtype=bool)
    if not truth.any():
        return np.empty(0), np.empty(0)
    said = values[None] >= np.unique(values)[::-1, None]
    hits = (said & truth).sum(axis=1).astype(np.float64)
    return hits / said.sum(axis=1), hits / truth.sum()


def average_precision(scores: npt.ArrayLike, positive: npt.ArrayLike) -> float:
    """Area under the precision-recall curve as a sum of steps; NaN without any positive."""
    precisions, sensitivities = precision_recall_curve(scores, positive)
    if not precisions.size:
        return float("nan")
    return float((np.diff(sensitivities, prepend=0.0) * precisions).sum())


def weighted_kappa(counts: npt.ArrayLike) -> float:
    """Agreement beyond chance, a disagreement weighing as its square (Cohen 1968, Psychol Bull 70:213).

    Args:
        counts: confusion of ordered classes, shape (classes, classes).

    Returns:
        1 for full agreement, 0 for that of chance; NaN where all are of one class for both.
    """
    table = np.asarray(counts, dtype=np.float64)
    place = np.arange(len(table))
    weights = (place[:, None] - place[None]) ** 2
    by_chance = np.outer(table.sum(axis=1), table.sum(axis=0)) / max(table.sum(), 1.0)
    expected = float((weights * by_chance).sum())
    return 1 - float((weights * table).sum()) / expected if expected else float("nan")


def confusion(said: npt.ArrayLike, truth: npt.ArrayLike, classes: int) -> npt.NDArray[np.int64]:
    """Counts, shape (classes, classes): rows are the truth, columns what was said."""
    answer = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(answer, (np.asarray(truth, dtype=np.int64), np.asarray(said, dtype=np.int64)), 1)
    return answer


def classification_scores(
    probabilities: npt.ArrayLike,
    truth: npt.ArrayLike,
    names: Sequence[str],
    *,
    groups: Sequence[str] | None = None,
    resamples: int = 1000,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Accuracy and one-against-all area per class, each with its 95 % bootstrap interval.

    Args:
        probabilities: shape (n, classes).
        truth: class numbers, shape (n,).
        names: of the classes.
        groups: of whom each one is; whole patients are drawn, as theirs are not independent.
        resamples: of the bootstrap.

    Returns:
        Values and intervals by name: ``accuracy``, ``auc_<class>``.
    """
    values, numbers = np.asarray(probabilities, dtype=np.float64), np.asarray(truth, dtype=np.int64)
    owners = np.asarray(groups if groups is not None else np.arange(len(numbers)).astype(str))
    parts = [np.flatnonzero(owners == owner) for owner in dict.fromkeys(owners.tolist())]

    def accuracy(chosen: Sequence[Any]) -> float:
        rows = np.concatenate(list(chosen))
        return float((values[rows].argmax(axis=1) == numbers[rows]).mean())

    answers, intervals = {"accuracy": accuracy(parts)}, {}
    intervals["accuracy"] = clustered_interval(parts, accuracy, resamples=resamples)
    for column, name in enumerate(names):

        def area(chosen: Sequence[Any], column: int = column) -> float:
            rows = np.concatenate(list(chosen))
            return area_under_roc(values[rows, column], numbers[rows] == column)

        answers[f"auc_{name}"] = area(parts)
        intervals[f"auc_{name}"] = clustered_interval(parts, area, resamples=resamples)
    return answers, intervals
