"""The metrics of P3 section 3.3: Dice, precision, recall, surface distances, localisation errors.

Intervals are bootstrap intervals over cases: the vertebrae of one patient are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def dice(predicted: Mask, truth: Mask) -> float:
    """Dice similarity coefficient (P3 eq. 20); 1 where both are empty."""
    size = int(predicted.sum()) + int(truth.sum())
    return 1.0 if size == 0 else 2.0 * int((predicted & truth).sum()) / size


def precision(predicted: Mask, truth: Mask) -> float:
    """Share of what was predicted that is true (P3 eq. 21); NaN where nothing was predicted."""
    count = int(predicted.sum())
    return float("nan") if count == 0 else int((predicted & truth).sum()) / count


def recall(predicted: Mask, truth: Mask) -> float:
    """Share of what is true that was predicted (P3 eq. 22); NaN where nothing is true."""
    count = int(truth.sum())
    return float("nan") if count == 0 else int((predicted & truth).sum()) / count


def surface_distances(predicted: Mask, truth: Mask, spacing_mm: Sequence[float]) -> tuple[float, float]:
    """Average and maximum symmetric surface distance in millimetres (P3 eq. 23 to 26).

    Surfaces are the mask voxels with a neighbour (through a face) outside the mask; the edge of the array
    counts as outside.

    Args:
        predicted, truth: masks of one shape.
        spacing_mm: distance between voxel centres along each axis.

    Returns:
        ASSD and MSSD; both infinite where exactly one mask is empty, zero where both are.
    """
    if not predicted.any() or not truth.any():
        empty = not predicted.any() and not truth.any()
        return (0.0, 0.0) if empty else (float("inf"), float("inf"))
    first, second = _surface(predicted), _surface(truth)
    to_second = ndimage.distance_transform_edt(~second, sampling=spacing_mm)[first]
    to_first = ndimage.distance_transform_edt(~first, sampling=spacing_mm)[second]
    average = (to_second.sum() + to_first.sum()) / (to_second.size + to_first.size)
    return float(average), float(max(to_second.max(), to_first.max()))


def _surface(mask: Mask) -> Mask:
    surface: Mask = mask & ~ndimage.binary_erosion(mask)
    return surface


def localisation_errors(
    errors_mm: npt.ArrayLike, limits_mm: Sequence[float] = (4, 10, 20)
) -> dict[str, float]:
    """Share of vertebrae further away than each limit (P3 table 4) and the mean distance of the others.

    Args:
        errors_mm: distance of each true vertebra from its prediction; infinite where it was not found.
        limits_mm: the radii.

    Returns:
        ``error_over_4mm`` and so on, ``identification_rate`` (within the largest limit) and
        ``mean_error_mm`` over the vertebrae within it.
    """
    return {name: _mean([values]) for name, values in localisation_values(errors_mm, limits_mm).items()}


def localisation_values(
    errors_mm: npt.ArrayLike, limits_mm: Sequence[float] = (4, 10, 20)
) -> dict[str, Floats]:
    """What `localisation_errors` takes the means of: one value per vertebra, NaN where none applies."""
    errors = np.asarray(errors_mm, dtype=np.float64)
    found = errors <= max(limits_mm)
    return {
        **{f"error_over_{limit:g}mm": (errors > limit).astype(np.float64) for limit in limits_mm},
        "identification_rate": found.astype(np.float64),
        "mean_error_mm": np.where(found, errors, np.nan),
    }


def clustered_interval(
    cases: Sequence[Any],
    statistic: Callable[[Sequence[Any]], float],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap percentile interval of a statistic; whole cases are drawn with replacement.

    Args:
        cases: one entry per case, whatever `statistic` takes a list of.
        statistic: gives one number for a list of cases; resamples for which it gives NaN are left out.
        resamples: how many.
        level: coverage.
        seed: of the resampling.
    """
    (interval,) = clustered_intervals(
        cases, lambda chosen: [statistic(chosen)], resamples=resamples, level=level, seed=seed
    )
    return interval


def clustered_intervals(
    cases: Sequence[Any],
    statistics: Callable[[Sequence[Any]], npt.ArrayLike],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """`clustered_interval` of all numbers that `statistics` gives for a list of cases."""
    draws = np.random.default_rng(seed).integers(0, len(cases), size=(resamples, len(cases)))
    values = np.array([statistics([cases[index] for index in draw]) for draw in draws], dtype=np.float64)
    intervals = []
    for column in values.T:
        known = column[~np.isnan(column)]
        if known.size == 0:
            intervals.append((float("nan"), float("nan")))
            continue
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        intervals.append((float(low), float(high)))
    return intervals


def pooled(rows: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, float]:
    """Mean over the vertebrae of all cases for every quantity; NaN where it applies to none of them."""
    names = sorted({name for row in rows for name in row})
    return {name: _mean([np.asarray(row.get(name, ()), dtype=np.float64) for row in rows]) for name in names}


def summarise(
    rows: Sequence[Mapping[str, Sequence[float]]], **options: Any
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Mean over vertebrae and its interval over cases, for every quantity.

    Args:
        rows: per case, quantity -> one value per vertebra (NaN: does not apply).

    Returns:
        Means by quantity, intervals by quantity.
    """
    names = sorted({name for row in rows for name in row})
    means: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for name in names:
        per_case = [np.asarray(row.get(name, ()), dtype=np.float64) for row in rows]
        means[name] = _mean(per_case)
        intervals[name] = clustered_interval(per_case, _mean, **options)
    return means, intervals


def _mean(parts: Sequence[Floats]) -> float:
    values = np.concatenate(list(parts)) if len(parts) else np.empty(0)
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
