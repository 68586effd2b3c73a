"""Fit the spine statistics that the phantom draws from to real body and pedicle points.

Promises one file of means, covariances and frequencies (`statistics.json`); no single spine can be read
back from it. The points are those of the ImFusion VID data set (2,116 CT spines, CC BY-SA 4.0), a JSON
``{split: {spine: [[level | null, "body" | "left" | "right", [x, y, z] mm], ...]}}`` in patient LPS axes.

    python -m dicom_ai_node.phantom.fit_statistics keypoints.json.gz statistics.json
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

CHAIN: Final = (
    *(f"C{n}" for n in range(3, 8)),
    *(f"T{n}" for n in range(1, 13)),
    *(f"L{n}" for n in range(1, 6)),
)
"""Levels whose joint statistics are fitted; L5-L6 stands apart because few spines have it."""

FEATURES: Final = ("log_spacing", "sagittal_angle", "coronal_angle")
"""Per pair of neighbours: log of the centre distance in mm; angles in radians of the step downwards,
positive to posterior (sagittal) and to the left (coronal)."""

SOURCE: Final = "ImFusion VID, 2,116 CT spines, CC BY-SA 4.0"


def read_spines(path: Path) -> Iterator[list[tuple[str, Array, Array, Array]]]:
    """Each spine as [(level, body, left pedicle, right pedicle), ...], head to tail, points in mm.

    Spines whose three kinds of points cannot be paired are passed over.
    """
    with gzip.open(path, "rt") as file:
        splits = json.load(file)
    for spines in splits.values():
        for points in spines.values():
            body = [(level, np.array(p)) for level, kind, p in points if kind == "body"]
            left = [np.array(p) for _, kind, p in points if kind == "left"]
            right = [np.array(p) for _, kind, p in points if kind == "right"]
            if len(body) == len(left) == len(right) and len(body) > 2:
                yield [(level, p, q, r) for (level, p), q, r in zip(body, left, right, strict=True)]


def squared_up(spine: list[tuple[str, Array, Array, Array]]) -> list[tuple[str, Array, Array, Array]]:
    """The spine turned about the long axis so that its mean left-right axis is x."""
    across = np.mean([left - right for _, _, left, right in spine], axis=0)
    angle = -np.arctan2(across[1], across[0])
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0.0], [np.sin(angle), np.cos(angle), 0.0], [0.0, 0.0, 1.0]]
    )
    return [(level, turn @ body, turn @ left, turn @ right) for level, body, left, right in spine]


def step_features(upper: Array, lower: Array) -> Array:
    """Shape (3,): `FEATURES` of the step from one body centre to the next below."""
    step = lower - upper
    length = float(np.linalg.norm(step))
    return np.array([np.log(length), np.arctan2(step[1], -step[2]), np.arctan2(step[0], -step[2])])


def gaussian_with_gaps(samples: Array, rounds: int = 40, ridge: float = 1e-5) -> tuple[Array, Array]:
    """Mean and covariance of rows with missing entries (NaN), by expectation maximisation.

    Source: Little and Rubin, Statistical Analysis with Missing Data, section 11.2.
    """
    count, size = samples.shape
    seen = ~np.isnan(samples)
    mean = np.nanmean(samples, axis=0)
    covariance = np.diag(np.nanvar(samples, axis=0)) + ridge * np.eye(size)
    patterns, member = np.unique(seen, axis=0, return_inverse=True)
    for _ in range(rounds):
        total = np.zeros(size)
        square = np.zeros((size, size))
        for index, pattern in enumerate(patterns):
            rows = samples[member == index]
            known, unknown = np.flatnonzero(pattern), np.flatnonzero(~pattern)
            filled = np.empty_like(rows)
            filled[:, known] = rows[:, known]
            spread = np.zeros((size, size))
            if unknown.size:
                gain = np.linalg.solve(covariance[np.ix_(known, known)], covariance[np.ix_(known, unknown)]).T
                filled[:, unknown] = mean[unknown] + (rows[:, known] - mean[known]) @ gain.T
                spread[np.ix_(unknown, unknown)] = (
                    covariance[np.ix_(unknown, unknown)] - gain @ covariance[np.ix_(known, unknown)]
                )
            total += filled.sum(axis=0)
            square += filled.T @ filled + rows.shape[0] * spread
        mean = total / count
        covariance = square / count - np.outer(mean, mean)
        covariance = (covariance + covariance.T) / 2 + ridge * np.eye(size)
    return mean, covariance


def fit(path: Path) -> dict[str, Any]:
    """All statistics as plain JSON types."""
    spines = [squared_up(spine) for spine in read_spines(path)]
    size = 3 * (len(CHAIN) - 1)
    samples = np.full((len(spines), size), np.nan)
    last: list[Array] = []
    pedicles: dict[str, list[Array]] = {level: [] for level in (*CHAIN, "L6")}
    for row, spine in enumerate(spines):
        for (upper, p, _, _), (lower, q, _, _) in itertools.pairwise(spine):
            if upper in CHAIN and lower in CHAIN and CHAIN.index(lower) == CHAIN.index(upper) + 1:
                column = 3 * CHAIN.index(upper)
                samples[row, column : column + 3] = step_features(p, q)
            elif (upper, lower) == ("L5", "L6"):
                last.append(step_features(p, q))
        for index in range(1, len(spine) - 1):
            level, body, left, right = spine[index]
            if level in pedicles:
                pedicles[level].append(
                    _pedicle_offset(spine[index - 1][1], spine[index + 1][1], body, left, right)
                )
    centre, scale = np.nanmedian(samples, axis=0), np.nanstd(samples, axis=0)
    samples[np.abs(samples - centre) > 4 * scale] = np.nan
    samples = samples[~np.isnan(samples).all(axis=1)]
    mean, covariance = gaussian_with_gaps(samples)
    levels = [level for spine in spines for level, *_ in spine]
    with_l5 = sum(any(level == "L5" for level, *_ in spine) for spine in spines)
    return {
        "source": SOURCE,
        "spines": len(spines),
        "chain": list(CHAIN),
        "features": list(FEATURES),
        "mean": np.round(mean, 5).tolist(),
        "covariance": np.round(covariance, 7).tolist(),
        "l5_l6": np.round(np.mean(last, axis=0), 5).tolist(),
        "frequency_l6": round(levels.count("L6") / with_l5, 5),
        "pedicles": {
            level: {
                "median": np.round(np.median(values, axis=0), 2).tolist(),
                "deviation": np.round(
                    1.4826 * np.median(np.abs(values - np.median(values, axis=0)), axis=0), 2
                ).tolist(),
            }
            for level, values in pedicles.items()
            if len(values) > 20
        },
    }


def _pedicle_offset(above: Array, below: Array, body: Array, left: Array, right: Array) -> Array:
    # (separation, posterior, superior) of the pedicle points in the body's own frame: the superior axis
    # is the tangent of the spine curve, the left axis runs through both pedicles.
    superior = (above - below) / np.linalg.norm(above - below)
    across = left - right
    across = across - superior * (across @ superior)
    across /= np.linalg.norm(across)
    posterior = np.cross(superior, across)
    middle = (left + right) / 2 - body
    return np.array([np.linalg.norm(left - right), middle @ posterior, middle @ superior])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("keypoints", type=Path)
    parser.add_argument("statistics", type=Path)
    arguments = parser.parse_args()
    arguments.statistics.write_text(json.dumps(fit(arguments.keypoints), indent=None) + "\n")


if __name__ == "__main__":
    main()
