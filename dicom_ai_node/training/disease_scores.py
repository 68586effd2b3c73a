"""How a classifier of diseases does: P2's measures of every class (eq. 1 to 5), per slice and per vertebra.

Every class is judged against all others together (P2, "Evaluation of the VCModule"); where the truth of a
class is not known, its answer is not judged. Intervals are bootstrap intervals over patients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.networks.ct_diseases import AVERAGED, DISEASES, NORMAL, OUTPUTS
from dicom_ai_node.networks.slice_opinions import over_slices
from dicom_ai_node.training.classification_metrics import area_under_roc
from dicom_ai_node.training.metrics import clustered_intervals

Floats = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int8]
Values = dict[str, float]
Intervals = dict[str, tuple[float, float]]

UNKNOWN: Final = -1

MEAN: Final = "mean"
"""Name of the mean over `AVERAGED`, as P2 reports it."""

MEASURES: Final = ("sensitivity", "specificity", "ppv", "npv", "f1", "accuracy", "auc")
"""P2's table 3; beside it accuracy and the area under the ROC (Figure 3F)."""

_NORMAL_COLUMN: Final = OUTPUTS.index(NORMAL)


def truth_of(diseases: npt.ArrayLike) -> Truth:
    """The truth of all outputs, (n, 6), from that of the diseases, (n, 5): 1, 0 or `UNKNOWN`.

    A vertebra is normal if all diseases are known to be absent, and not normal if one is there.
    """
    known = np.asarray(diseases, dtype=np.int8).reshape(-1, len(DISEASES))
    ill, sound = (known == 1).any(axis=1), (known == 0).all(axis=1)
    normal = np.where(ill, 0, np.where(sound, 1, UNKNOWN)).astype(np.int8)
    return np.concatenate([known, normal[:, None]], axis=1)


@dataclass(frozen=True)
class DiseaseAnswers:
    """What was said of vertebrae, and what is true.

    Attributes:
        said: probabilities, (n, 6), in the order of `OUTPUTS`.
        truth: (n, 6), see `truth_of`.
        patients: whose they are, n.
        levels: of the vertebrae, n; "" where not known.
    """

    said: Floats
    truth: Truth
    patients: tuple[str, ...]
    levels: tuple[str, ...]

    def per_vertebra(self) -> DiseaseAnswers:
        """One answer for all slices of a vertebra; vertebrae without a level are left out.

        By the rule of the node's reports, `networks.slice_opinions`; rows of one vertebra stand in the order
        of its slices.
        """
        rows: dict[tuple[str, str], list[int]] = {}
        for row, (patient, level) in enumerate(zip(self.patients, self.levels, strict=True)):
            if level:
                rows.setdefault((patient, level), []).append(row)
        groups = list(rows.values())
        return DiseaseAnswers(
            np.array([over_slices(self.said[group]) for group in groups]).reshape(-1, len(OUTPUTS)),
            np.array([_true_together(self.truth[group]) for group in groups]).reshape(-1, len(OUTPUTS)),
            tuple(patient for patient, _ in rows),
            tuple(level for _, level in rows),
        )


def joined(parts: Sequence[DiseaseAnswers]) -> DiseaseAnswers:
    """All answers, one after the other."""
    empty = np.zeros((0, len(OUTPUTS)))
    return DiseaseAnswers(
        np.concatenate([empty, *(part.said for part in parts)]),
        np.concatenate([empty.astype(np.int8), *(part.truth for part in parts)]),
        tuple(patient for part in parts for patient in part.patients),
        tuple(level for part in parts for level in part.levels),
    )


def disease_scores(
    answers: DiseaseAnswers, *, threshold: float = 0.5, resamples: int = 1000
) -> tuple[Values, Intervals]:
    """`MEASURES` of every class and their mean over `AVERAGED`, with 95 % bootstrap intervals over patients.

    Args:
        answers: to be judged.
        threshold: a class is said to be there from this probability on.
        resamples: of the bootstrap; 0 for no intervals.

    Returns:
        Values and intervals by name, ``sensitivity_OVCF`` to ``auc_normal`` and ``sensitivity_mean``; NaN
        where nothing can tell: a class of which there is no case or none is said, and the mean with it.
    """
    owners = np.array(answers.patients)
    patients = [np.flatnonzero(owners == patient) for patient in dict.fromkeys(answers.patients)]
    if not patients:
        return {}, {}
    names = [f"{measure}_{name}" for measure in MEASURES for name in (*OUTPUTS, MEAN)]

    def measured(chosen: Sequence[npt.NDArray[np.int64]]) -> Floats:
        return _measured(answers, np.concatenate(list(chosen)), threshold).ravel()

    values = dict(zip(names, measured(patients).tolist(), strict=True))
    if not resamples:
        return values, {}
    spans = clustered_intervals(patients, measured, resamples=resamples)
    return values, dict(zip(names, spans, strict=True))


def confusions(answers: DiseaseAnswers, threshold: float = 0.5) -> dict[str, list[list[int]]]:
    """One-against-all counts of every class (P2, Figure 3E).

    Rows are the truth, columns what was said; first comes "another", then the class.
    """
    counts = _counts(answers, np.arange(len(answers.said)), threshold)
    return {
        name: [
            [int(counts[column, 3]), int(counts[column, 1])],
            [int(counts[column, 2]), int(counts[column, 0])],
        ]
        for column, name in enumerate(OUTPUTS)
    }


def _true_together(truth: Truth) -> Truth:
    shown, absent = (truth == 1).any(axis=0), (truth == 0).all(axis=0)
    answer = np.where(shown, 1, np.where(absent, 0, UNKNOWN)).astype(np.int8)
    normal = truth[:, _NORMAL_COLUMN]
    answer[_NORMAL_COLUMN] = 0 if (normal == 0).any() else 1 if (normal == 1).all() else UNKNOWN
    return answer


def _counts(answers: DiseaseAnswers, rows: npt.NDArray[np.int64], threshold: float) -> npt.NDArray[np.int64]:
    """True and false positives, false and true negatives of every class: (6, 4)."""
    said, truth = answers.said[rows] >= threshold, answers.truth[rows]
    there, absent = truth == 1, truth == 0
    kinds = (said & there, said & absent, ~said & there, ~said & absent)
    return np.stack([kind.sum(axis=0) for kind in kinds], axis=1)


def _measured(answers: DiseaseAnswers, rows: npt.NDArray[np.int64], threshold: float) -> Floats:
    """`MEASURES` (rows) of every class and of their mean (columns)."""
    hit, false, missed, rest = _counts(answers, rows, threshold).T.astype(np.float64)
    with np.errstate(invalid="ignore"):  # no case: not a number
        rates = [
            hit / (hit + missed),
            rest / (rest + false),
            hit / (hit + false),
            rest / (rest + missed),
            2 * hit / (2 * hit + false + missed),
            (hit + rest) / (hit + rest + false + missed),
        ]
    areas = []
    for column in range(len(OUTPUTS)):
        truth = answers.truth[rows, column]
        known = truth != UNKNOWN
        areas.append(area_under_roc(answers.said[rows[known], column], truth[known] == 1))
    table = np.array([*rates, areas])
    averaged = table[:, [OUTPUTS.index(name) for name in AVERAGED]].mean(axis=1)
    return np.column_stack([table, averaged])
