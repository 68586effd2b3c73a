"""How P2 judges a detector of vertebrae: hits by intersection over minimum, AP, FP and FN rate, counts.

A detection is a hit where its intersection with an annotated box is more than half of the smaller of the two
(P2, "Evaluation of the VDModule"). Each annotation is hit once, by the surest detection: a second one beside
it is false.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.training.detection_metrics import box_overlaps, shares_of_smaller
from dicom_ai_node.training.metrics import clustered_interval

Floats = npt.NDArray[np.float64]

HIT: Final = 0.5
"""Intersection over minimum above which a detection hits an annotation."""

PUBLISHED_SCORE: Final = 0.75
"""P2 counts detections from this probability on."""


@dataclass(frozen=True)
class SliceBoxes:
    """What was found, or what is true, on one slice.

    Attributes:
        patient: whose slice it is.
        boxes: left, top, right, bottom as edges, shape (n, 4).
        scores: shape (n,); of the truth, empty.
    """

    patient: str
    boxes: Floats
    scores: Floats = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class Matched:
    """One slice compared with its truth.

    Attributes:
        patient: whose it is.
        scores: of the detections, falling, shape (n,).
        right: whether each is a hit, shape (n,).
        annotated: boxes of the truth.
        hit_by: score of the detection that hits each of them, -1 where none does, shape (annotated,).
        overlaps: intersection over union of each hit with its annotation, NaN for others, shape (n,).
    """

    patient: str
    scores: Floats
    right: npt.NDArray[np.bool_]
    annotated: int
    hit_by: Floats
    overlaps: Floats


def matched(found: SliceBoxes, truth: SliceBoxes) -> Matched:
    """Each detection, the surest first, takes the free annotation with which it has the most in common."""
    ranks = np.argsort(-found.scores, kind="stable")
    scores, boxes = found.scores[ranks], found.boxes[ranks].reshape(-1, 4)
    true = truth.boxes.reshape(-1, 4)
    minimum, union = shares_of_smaller(boxes, true), box_overlaps(boxes, true)
    annotated = minimum.shape[1]
    right, hit_by = np.zeros(len(scores), dtype=bool), np.full(annotated, -1.0)
    overlaps = np.full(len(scores), np.nan)
    for row in range(len(scores)):
        allowed = np.where((hit_by < 0) & (minimum[row] > HIT), union[row] + minimum[row], -1.0)
        if allowed.size and allowed.max() >= 0:
            taken = int(allowed.argmax())
            right[row], hit_by[taken], overlaps[row] = True, scores[row], union[row, taken]
    return Matched(found.patient, scores, right, annotated, hit_by, overlaps)


def precision_recall(slices: Sequence[Matched]) -> tuple[Floats, Floats, Floats]:
    """(recall, precision, score) after each detection of all slices, the surest first."""
    scores = np.concatenate([one.scores for one in slices]) if slices else np.empty(0)
    right = np.concatenate([one.right for one in slices]) if slices else np.empty(0, dtype=bool)
    ranks = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[ranks])
    total = sum(one.annotated for one in slices)
    recall = hits / total if total else np.full(len(hits), np.nan)
    return recall, hits / np.arange(1, len(hits) + 1), scores[ranks]


def average_precision(slices: Sequence[Matched]) -> float:
    """Area under the precision-recall curve, precision made falling (P2's AUC and mAP); NaN without truth."""
    recall, precision, _ = precision_recall(slices)
    if not any(one.annotated for one in slices):
        return float("nan")
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * falling).sum())


def fp_rate(slices: Sequence[Matched], score: float = PUBLISHED_SCORE) -> float:
    """Share of the detections from `score` on that are no vertebrae."""
    said = sum(int((one.scores >= score).sum()) for one in slices)
    right = sum(int(one.right[one.scores >= score].sum()) for one in slices)
    return (said - right) / said if said else float("nan")


def fn_rate(slices: Sequence[Matched], score: float = PUBLISHED_SCORE) -> float:
    """Share of the annotated vertebrae that no detection from `score` on hits."""
    annotated = sum(one.annotated for one in slices)
    hit = sum(int((one.hit_by >= score).sum()) for one in slices)
    return (annotated - hit) / annotated if annotated else float("nan")


def counts(slices: Sequence[Matched], score: float = PUBLISHED_SCORE) -> npt.NDArray[np.int64]:
    """(annotated, detected) per slice, shape (n, 2)."""
    rows = [(one.annotated, int((one.scores >= score).sum())) for one in slices]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def count_correlation(slices: Sequence[Matched], score: float = PUBLISHED_SCORE) -> float:
    """Pearson's correlation of annotated and detected counts per slice (P2, figure 2D), or NaN."""
    pairs = counts(slices, score).astype(np.float64)
    if len(pairs) < 2 or (np.ptp(pairs, axis=0) == 0).any():
        return float("nan")
    table = np.asarray(np.corrcoef(pairs, rowvar=False))
    return float(table[0, 1])


def mean_overlap(slices: Sequence[Matched], score: float = PUBLISHED_SCORE) -> float:
    """Mean intersection over union of the hits: how exact boxes are, of which P2's hits say little."""
    values = [one.overlaps[one.right & (one.scores >= score)] for one in slices]
    together = np.concatenate(values) if values else np.empty(0)
    return float(together.mean()) if together.size else float("nan")


def detection_scores(
    found: Sequence[SliceBoxes], truth: Sequence[SliceBoxes], *, score: float = PUBLISHED_SCORE
) -> dict[str, float]:
    """`ap`, `fp_rate`, `fn_rate`, `count_correlation` and `overlap` over all slices."""
    slices = [matched(a, b) for a, b in zip(found, truth, strict=True)]
    return {name: measure(slices) for name, measure in _measures(score).items()}


def scores_with_intervals(
    slices: Sequence[Matched], *, score: float = PUBLISHED_SCORE, resamples: int = 1000
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """As `detection_scores`, with 95 % bootstrap intervals for which whole patients are drawn."""
    owners = list(dict.fromkeys(one.patient for one in slices))
    groups = [[one for one in slices if one.patient == owner] for owner in owners]
    values, intervals = {}, {}
    for name, measure in _measures(score).items():

        def of(
            chosen: Sequence[Sequence[Matched]], measure: Callable[[Sequence[Matched]], float] = measure
        ) -> float:
            return measure([one for group in chosen for one in group])

        values[name] = of(groups)
        intervals[name] = clustered_interval(groups, of, resamples=resamples)
    return values, intervals


def _measures(score: float) -> dict[str, Callable[[Sequence[Matched]], float]]:
    def at(measure: Callable[..., Any]) -> Callable[[Sequence[Matched]], float]:
        return lambda slices: float(measure(slices, score))

    return {
        "ap": average_precision,
        "fp_rate": at(fp_rate),
        "fn_rate": at(fn_rate),
        "count_correlation": at(count_correlation),
        "overlap": at(mean_overlap),
    }
