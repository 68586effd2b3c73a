"""Average precision of detections by COCO's definition, and P0's measures of whole images.

COCO (Lin 2014; pycocotools' evaluator): detections of one class are taken over all images in the order of
their scores; each takes, within its image, the free truth with which it overlaps most, if by the threshold
at least; precision is made falling and read at 101 recalls; classes without any truth do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

THRESHOLDS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
_RECALLS: Final = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Instances:
    """What was found, or what is true, on one image.

    Attributes:
        labels: class numbers, shape (n,).
        boxes: first row, first column, last row, last column as edges, shape (n, 4).
        scores: shape (n,); of the truth, empty.
        masks: n masks of one shape, or empty where there are none.
    """

    labels: npt.NDArray[np.int64]
    boxes: Floats
    scores: Floats = field(default_factory=lambda: np.empty(0))
    masks: Sequence[Mask] = ()


def box_overlaps(first: Floats, second: Floats) -> Floats:
    """Intersection over union of every box of one set with every box of another, shape (n, m)."""
    common, sizes = _common(first, second)
    return _share_of(common, sizes[0][:, None] + sizes[1][None] - common)


def shares_of_smaller(first: Floats, second: Floats) -> Floats:
    """Intersection over the smaller box (P2's IoM) of every box of one set with all of another, (n, m)."""
    common, sizes = _common(first, second)
    return _share_of(common, np.minimum(sizes[0][:, None], sizes[1][None]))


def mask_overlaps(first: Sequence[Mask], second: Sequence[Mask]) -> Floats:
    """Intersection over union of every mask of one set with every mask of another, shape (n, m)."""
    answer = np.zeros((len(first), len(second)))
    windows, sizes = [_window(mask) for mask in second], [int(mask.sum()) for mask in second]
    for row, mask in enumerate(first):
        size = int(mask.sum())
        for column, (window, other) in enumerate(zip(windows, sizes, strict=True)):
            if window is not None:
                common = int((mask[window] & second[column][window]).sum())
                answer[row, column] = common / (size + other - common)
    return answer


def average_precision(
    found: Sequence[Instances],
    truth: Sequence[Instances],
    classes: Sequence[int],
    *,
    masks: bool = False,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Floats:
    """Average precision by threshold and class, shape (thresholds, classes); NaN for a class without truth.

    Args:
        found, truth: one entry per image.
        classes: the class numbers.
        masks: compare masks instead of boxes.
        thresholds: overlaps from which on a detection is right.
    """
    answer = np.full((len(thresholds), len(classes)), np.nan)
    for column, number in enumerate(classes):
        total = sum(int((image.labels == number).sum()) for image in truth)
        if total == 0:
            continue
        pairs = [_of_class(a, b, number, masks) for a, b in zip(found, truth, strict=True)]
        scores = np.concatenate([scores for scores, _ in pairs])
        # As COCO's: equal scores stay in the order of the images.
        ranks = np.argsort(-scores, kind="stable")
        for row, threshold in enumerate(thresholds):
            right = np.concatenate([_matched(overlaps, threshold) for _, overlaps in pairs])[ranks]
            answer[row, column] = _interpolated(right, total)
    return answer


def mean_average_precision(
    found: Sequence[Instances], truth: Sequence[Instances], classes: Sequence[int], *, masks: bool = False
) -> dict[str, float]:
    """``map_50`` and ``map_50_95``, over the classes that occur; NaN where none does."""
    table = average_precision(found, truth, classes, masks=masks)
    known = table[:, ~np.isnan(table[0])]
    if known.shape[1] == 0:
        return {"map_50": float("nan"), "map_50_95": float("nan")}
    return {"map_50": float(known[0].mean()), "map_50_95": float(known.mean())}


def image_measures(said: Sequence[bool], true: Sequence[bool]) -> dict[str, float]:
    """Sensitivity, specificity and accuracy over whole images (P0): fractured or not; NaN where none is."""
    first, second = np.asarray(said, dtype=bool), np.asarray(true, dtype=bool)
    return {
        "sensitivity": _share(first[second]),
        "specificity": _share(~first[~second]),
        "accuracy": _share(first == second),
    }


def _common(first: Floats, second: Floats) -> tuple[Floats, tuple[Floats, Floats]]:
    """(intersection of every pair of boxes, areas of both sets)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    areas = [np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1) for boxes in (first, second)]
    return np.clip(high - low, 0, None).prod(axis=2), (areas[0], areas[1])


def _share_of(common: Floats, whole: Floats) -> Floats:
    shares: Floats = np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)
    return shares


def _of_class(found: Instances, truth: Instances, number: int, masks: bool) -> tuple[Floats, Floats]:
    mine = np.flatnonzero(found.labels == number)
    mine = mine[np.argsort(-found.scores[mine], kind="stable")]
    theirs = np.flatnonzero(truth.labels == number)
    if masks:
        overlaps = mask_overlaps([found.masks[int(i)] for i in mine], [truth.masks[int(i)] for i in theirs])
    else:
        overlaps = box_overlaps(found.boxes[mine].reshape(-1, 4), truth.boxes[theirs].reshape(-1, 4))
    return found.scores[mine], overlaps


def _matched(overlaps: Floats, threshold: float) -> Mask:
    right = np.zeros(overlaps.shape[0], dtype=bool)
    free = np.ones(overlaps.shape[1], dtype=bool)
    for row, values in enumerate(overlaps):
        allowed = np.where(free & (values >= threshold), values, -1.0)
        if allowed.size and allowed.max() >= 0:
            free[int(allowed.argmax())] = False
            right[row] = True
    return right


def _interpolated(right: Mask, total: int) -> float:
    hits = np.cumsum(right)
    recall = hits / total
    precision = hits / np.arange(1, len(right) + 1)
    # The best precision at this recall or a larger one.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, _RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(places, len(precision))].mean())


def _window(mask: Mask) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _share(values: Mask) -> float:
    return float(values.mean()) if values.size else float("nan")
