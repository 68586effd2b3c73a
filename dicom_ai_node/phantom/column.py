"""The chain of body frames: where each vertebra stands and how it is turned, as in real spines."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.randomness import around

Array = npt.NDArray[np.float64]

CERVICAL: Final = tuple(Level(f"C{n}") for n in range(3, 8))
THORACIC: Final = tuple(Level(f"T{n}") for n in range(1, 13))
LUMBAR: Final = tuple(Level(f"L{n}") for n in range(1, 6))


@functools.cache
def spine_statistics() -> Mapping[str, Any]:
    """What `fit_statistics` wrote: means, covariances and frequencies of 2,116 real spines."""
    text = resources.files("dicom_ai_node.phantom").joinpath("statistics.json").read_text()
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@functools.cache
def _mean_and_root() -> tuple[Array, Array]:
    statistics = spine_statistics()
    values, vectors = np.linalg.eigh(np.array(statistics["covariance"]))
    # Signs of eigenvectors are the library's choice: fix them, so that a seed means the same everywhere.
    vectors *= np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(len(values))])
    return np.array(statistics["mean"]), vectors * np.sqrt(values.clip(0.0))


def levels_of_spine(supernumerary: Level | None, missing: Level | None = None) -> tuple[Level, ...]:
    """C3 to S1 from head to tail with one extra level (T13, L6) or without one (T12)."""
    levels = [*CERVICAL, *THORACIC, *LUMBAR, Level.S1]
    if supernumerary is not None:
        before = {Level.T13: Level.L1, Level.L6: Level.S1}[supernumerary]
        levels.insert(levels.index(before), supernumerary)
    return tuple(level for level in levels if level is not missing)


@dataclass(frozen=True)
class Steps:
    """Steps from each level to the next below: centre distances (mm), and angles in radians.

    `sagittal` is positive where the step leads to posterior, `coronal` where it leads to the left. All have
    one entry less than there are levels. `size` is the spine's overall size, 1 for the mean.
    """

    spacing: Array
    sagittal: Array
    coronal: Array
    size: float


def sample_steps(levels: Sequence[Level], generator: np.random.Generator, scoliosis: float = 0.0) -> Steps:
    """Steps for the given levels (C3..S1), drawn from the fitted joint distribution.

    Args:
        levels: head to tail.
        generator: where the randomness comes from.
        scoliosis: amplitude in radians of a further S-shaped coronal curve.
    """
    mean, root = _mean_and_root()
    # Tails are cut: the covariance is a sum over people, scanners and errors of marking.
    draw = 0.96 * np.clip(generator.standard_normal(len(mean)), -2.4, 2.4)
    features = (mean + root @ draw).reshape(-1, 3)
    chain = [Level(name) for name in spine_statistics()["chain"]]
    usual = {pair: features[k] for k, pair in enumerate(itertools.pairwise(chain))}
    size = float(np.exp((features[:, 0] - mean.reshape(-1, 3)[:, 0])[5:].mean()))
    rows = [usual.get(pair) for pair in itertools.pairwise(levels)]
    last = usual[Level.L4, Level.L5]
    for k, (upper, lower) in enumerate(itertools.pairwise(levels)):
        if rows[k] is not None:
            continue
        if lower is Level.S1:
            above = rows[k - 1]
            assert above is not None
            rows[k] = np.array(
                [
                    last[0] + around(generator, -0.06, 0.06),
                    above[1] + around(generator, 0.30, 0.08),
                    above[2] * 0.3,
                ]
            )
        elif (upper, lower) == (Level.L5, Level.L6):
            rows[k] = np.array([last[0], last[1] + around(generator, 0.22, 0.08), last[2]])
        else:
            # T12-T13, T13-L1 and T11-L1 are steps of the kind of T12-L1.
            rows[k] = usual[Level.T12, Level.L1] * np.array([1.0, 1.0, 0.7])
    table = np.array(rows)
    lumbar = levels.index(Level.L1)
    phase = np.pi * (np.arange(len(table)) - lumbar + 2.5) / 8.0
    curve = scoliosis * np.cos(phase) * (np.arange(len(table)) > 4)
    return Steps(np.exp(table[:, 0]), table[:, 1], table[:, 2] + curve, size)


def rotation(sagittal: float, coronal: float, axial: float) -> Array:
    """Shape (3, 3), columns left, posterior, superior: for a body with these angles (radians)."""
    a, c, r = sagittal, -coronal, axial
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    turned: Array = about_y @ about_x @ about_z
    return turned


def healthy_frames(levels: Sequence[Level], steps: Steps, generator: np.random.Generator) -> Array:
    """Shape (levels, 4, 4): body frame -> spine frame (mm), before fractures; the last level at the origin.

    Columns of the rotation are left, posterior, superior of the body.
    """
    count = len(levels)
    frames = np.tile(np.eye(4), (count, 1, 1))
    upper = np.concatenate([[steps.sagittal[0]], steps.sagittal])
    lower = np.concatenate([steps.sagittal, [steps.sagittal[-1] + around(generator, 0.42, 0.10)]])
    coronal_upper = np.concatenate([[steps.coronal[0]], steps.coronal])
    coronal_lower = np.concatenate([steps.coronal, [0.3 * steps.coronal[-1]]])
    axial_drift = 0.0
    for k in range(count):
        sagittal = 0.5 * (upper[k] + lower[k]) + around(generator, 0.0, 0.025)
        coronal = 0.5 * (coronal_upper[k] + coronal_lower[k]) + around(generator, 0.0, 0.02)
        axial_drift = 0.8 * axial_drift + around(generator, 0.0, 0.02)
        frames[k, :3, :3] = rotation(sagittal, coronal, axial_drift + 0.4 * coronal)
    position = np.zeros(3)
    for k in range(count - 2, -1, -1):
        a, c = steps.sagittal[k], steps.coronal[k]
        down = np.array([np.tan(c), np.tan(a), -1.0])
        position = position - down / np.linalg.norm(down) * steps.spacing[k]
        frames[k, :3, 3] = position
    return frames
