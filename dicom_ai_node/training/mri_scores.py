"""How a benign/malignant classifier does, per patient (P4, "Statistical analysis") and per feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dicom_ai_node.networks.mri_classes import FEATURES
from dicom_ai_node.training.classification_metrics import area_under_roc
from dicom_ai_node.training.metrics import clustered_interval

Floats = npt.NDArray[np.float64]
Values = dict[str, float]
Intervals = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class VertebraAnswer:
    """What was said of one vertebra, and what is true.

    Attributes:
        patient: whose it is.
        malignant: the truth; None of a look-alike, of which it is not asked.
        features: the truth, (15,), NaN where not known.
        slices: probabilities per slice, (slices, 16), `mri_classes.OUTPUTS`.
        together: of the vertebra, (16,), see `mri_classifier.over_slices`.
    """

    patient: str
    malignant: bool | None
    features: Floats
    slices: Floats
    together: Floats


def per_patient(answers: Sequence[VertebraAnswer]) -> tuple[Floats, npt.NDArray[np.bool_], list[str]]:
    """(probability of malignancy, truth, patient), each once: the highest of all slices (P4).

    A patient of whom several vertebrae were looked at is malignant if one of them is.
    """
    found: dict[str, tuple[float, bool]] = {}
    for answer in answers:
        if answer.malignant is not None:
            said, true = found.get(answer.patient, (0.0, False))
            found[answer.patient] = (max(said, float(answer.together[0])), true or answer.malignant)
    return (
        np.array([said for said, _ in found.values()], dtype=np.float64),
        np.array([true for _, true in found.values()], dtype=np.bool_),
        list(found),
    )


def diagnostic_scores(
    probabilities: npt.ArrayLike, malignant: npt.ArrayLike, *, threshold: float = 0.5, resamples: int = 1000
) -> tuple[Values, Intervals]:
    """Accuracy, sensitivity, specificity and area under the ROC with 95 % bootstrap intervals over patients.

    Args:
        probabilities: of malignancy, one per patient.
        malignant: the truth.
        threshold: a patient counts as malignant from here on (P4: 0.5).
        resamples: of the bootstrap; 0 for no intervals.

    Returns:
        Values and intervals by name; NaN where there is no patient of a kind.
    """
    said = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(malignant, dtype=bool)

    def share(rows: npt.NDArray[np.int64]) -> float:
        return float(((said[rows] >= threshold) == truth[rows]).mean()) if rows.size else float("nan")

    measures: dict[str, Callable[[Sequence[int]], float]] = {
        "accuracy": lambda chosen: share(np.asarray(chosen)),
        "sensitivity": lambda chosen: share(np.asarray(chosen)[truth[chosen]]),
        "specificity": lambda chosen: share(np.asarray(chosen)[~truth[chosen]]),
        "auc": lambda chosen: area_under_roc(said[chosen], truth[chosen]),
    }
    return _with_intervals(measures, list(range(len(truth))), resamples)


def feature_areas(answers: Sequence[VertebraAnswer], *, resamples: int = 1000) -> tuple[Values, Intervals]:
    """Area under the ROC of every feature over all vertebrae for which its truth is known."""
    owners = list(dict.fromkeys(answer.patient for answer in answers))
    groups = [
        [number for number, answer in enumerate(answers) if answer.patient == owner] for owner in owners
    ]
    truth = np.array([answer.features for answer in answers]).reshape(-1, len(FEATURES))
    said = np.array([answer.together[1:] for answer in answers]).reshape(-1, len(FEATURES))

    def area(column: int) -> Callable[[Sequence[Sequence[int]]], float]:
        def of(chosen: Sequence[Sequence[int]]) -> float:
            rows = np.array([row for group in chosen for row in group], dtype=np.int64)
            rows = rows[~np.isnan(truth[rows, column])]
            return area_under_roc(said[rows, column], truth[rows, column] > 0.5)

        return of

    return _with_intervals({name: area(column) for column, name in enumerate(FEATURES)}, groups, resamples)


def _with_intervals(
    measures: Mapping[str, Callable[[Sequence[Any]], float]], cases: Sequence[Any], resamples: int
) -> tuple[Values, Intervals]:
    if not cases:
        return dict.fromkeys(measures, float("nan")), {}
    values = {name: measure(cases) for name, measure in measures.items()}
    if not resamples:
        return values, {}
    return values, {
        name: clustered_interval(cases, measure, resamples=resamples) for name, measure in measures.items()
    }
