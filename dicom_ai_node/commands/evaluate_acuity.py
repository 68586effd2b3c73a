"""radiograph-acuity as P1 tells it: accuracy, area per class with intervals, ROC, confusion, readers."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table
from torch import nn

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.training.classification_metrics import (
    classification_scores,
    confusion,
    roc_curve,
)
from dicom_ai_node.training.film_classify import FilmAcuityOptions, FilmAcuityTask, leave_one_out
from dicom_ai_node.training.films import ACUITIES, Film, load_films
from dicom_ai_node.training.loop import LoopOptions, train

Floats = npt.NDArray[np.float64]

READERS: Final[dict[str, tuple[float, float, float, float]]] = {
    "P1, deep learning": (0.764, 0.780, 0.809, 0.734),
    "P1, trainee": (0.707, 0.573, 0.618, 0.541),
    "P1, competent": (0.769, 0.701, 0.782, 0.665),
    "P1, expert": (0.782, 0.707, 0.732, 0.667),
    "P1, trainee with deep learning": (0.778, 0.722, 0.744, 0.610),
    "P1, competent with deep learning": (0.816, 0.767, 0.779, 0.729),
    "P1, expert with deep learning": (0.853, 0.801, 0.825, 0.751),
}
"""Accuracy and areas (acute, chronic, pathologic) on P1's collaboration set ("Human and deep learning
collaboration" and table 3): other fractures than those judged here."""


def judged(
    bundle: Path, films: Sequence[Film], say: Callable[[str], None], *, fine_tune: int = 0, pool: Path | None
) -> tuple[Floats, npt.NDArray[np.int64], list[str]]:
    """Probabilities (n, 3), true classes (n,) and patients of all fractures of known age.

    Args:
        bundle: of radiograph-acuity.
        films: to judge.
        say: gets a line per patient.
        fine_tune: steps for which the bundle's network learns from all other patients before it judges one;
            0 takes it as it is.
        pool: folder of phantom films that are learned from beside the other patients.

    Raises:
        ConfigurationError: no film shows a fracture of known age.
        ModelError: the bundle is missing or was changed.
    """
    loaded = load_bundle(bundle, torch.device("cpu"))
    seen = loaded.metadata.film
    options = FilmAcuityOptions(size=seen.size, margin=seen.margin or FilmAcuityOptions().margin)
    task = FilmAcuityTask([], [], options)
    if not fine_tune:
        probabilities, truth, owners = task.answers(loaded.network, films)
    else:
        phantoms = load_films(pool) if pool is not None else []
        known = [film for film in films if any(item.acuity for item in film.vertebrae)]
        probabilities, truth, owners = _in_turn(loaded.network, known, phantoms, options, fine_tune, say)
    if not len(truth):
        raise ConfigurationError("no film shows a fracture that is known to be acute, chronic or pathologic")
    return probabilities, truth, owners


def tables(probabilities: Floats, truth: npt.NDArray[np.int64], owners: Sequence[str]) -> dict[str, Any]:
    """Values and intervals, the confusion matrix, and the paper's readers beside them."""
    values, intervals = classification_scores(probabilities, truth, ACUITIES, groups=owners)
    names = ("accuracy", *(f"auc_{name}" for name in ACUITIES))
    beside = {"this": [_rounded(values[name]) for name in names]}
    return {
        "together": {name: _rounded(value) for name, value in values.items()},
        "together_intervals": {
            name: [_rounded(end) for end in interval] for name, interval in intervals.items()
        },
        "confusion_truth_found": confusion(probabilities.argmax(axis=1), truth, len(ACUITIES)).tolist(),
        "accuracy_and_areas": beside | {name: list(row) for name, row in READERS.items()},
    }


def paper_table(found: Mapping[str, Any]) -> Table:
    """Accuracy and the area of each class with their intervals, and P1's readers below.

    Args:
        found: what `tables` gave.
    """
    table = Table("judged by", "accuracy", *(f"AUC {name}" for name in ACUITIES), box=None)
    intervals = found["together_intervals"]
    names = ("accuracy", *(f"auc_{name}" for name in ACUITIES))
    for who, values in found["accuracy_and_areas"].items():
        ours = who == "this"
        cells = [
            _words(value, intervals[name] if ours else None)
            for name, value in zip(names, values, strict=True)
        ]
        table.add_row("this bundle (95 %, over patients)" if ours else f"{who}, on P1's own images", *cells)
    return table


def _words(value: float | None, interval: Sequence[float | None] | None) -> str:
    if value is None:
        return "-"
    low, high = interval or (None, None)
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.2f} to {high:.2f})"


def draw(file: Path, probabilities: Floats, truth: npt.NDArray[np.int64]) -> None:
    """ROC of each class and the confusion matrix."""
    import matplotlib as mpl  # noqa: PLC0415 - only where plots are asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5))
    for number, name in enumerate(ACUITIES):
        false, true, _ = roc_curve(probabilities[:, number], truth == number)
        left.plot(false, true, label=name, drawstyle="steps-post")
    left.plot([0, 1], [0, 1], linewidth=0.6, color="grey")
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"{len(truth)} fractures")
    left.legend(loc="lower right")
    counts = confusion(probabilities.argmax(axis=1), truth, len(ACUITIES))
    right.imshow(counts, cmap="Blues")
    for (row, column), count in np.ndenumerate(counts):
        dark = 2 * count > counts.max()
        right.text(column, row, str(count), ha="center", va="center", color="white" if dark else "black")
    right.set(
        xticks=range(3), xticklabels=ACUITIES, yticks=range(3), yticklabels=ACUITIES, xlabel="found",
        ylabel="true",
    )  # fmt: skip
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _in_turn(  # noqa: PLR0917 - all of it is given once
    network: nn.Module,
    films: Sequence[Film],
    phantoms: Sequence[Film],
    options: FilmAcuityOptions,
    steps: int,
    say: Callable[[str], None],
) -> tuple[Floats, npt.NDArray[np.int64], list[str]]:
    def fit(others: Sequence[Film]) -> nn.Module:
        task = _FromWeights([*others, *phantoms], network, options)
        say(f"learning from {len(others)} films of other patients and {len(phantoms)} phantoms")
        with tempfile.TemporaryDirectory() as folder:
            return train(
                task,
                Path(folder),
                minutes=1e6,
                device=torch.device("cpu"),
                options=LoopOptions(learning_rate=1e-4, warmup_steps=5),
                say=lambda _line: None,
                max_steps=steps,
            ).eval()

    _, _, probabilities = leave_one_out(films, fit, options, resamples=1)
    order = [
        film for group in dict.fromkeys(film.group for film in films) for film in films if film.group == group
    ]
    pairs = [
        (ACUITIES.index(item.acuity), film.group) for film in order for item in film.vertebrae if item.acuity
    ]
    return probabilities, np.array([number for number, _ in pairs]), [owner for _, owner in pairs]


class _FromWeights(FilmAcuityTask):
    """The task with a network that has learned already."""

    def __init__(self, training: Sequence[Film], network: nn.Module, options: FilmAcuityOptions) -> None:
        super().__init__(training, [], options)
        self._network = network

    def build(self) -> Any:
        """A copy of the network as it is."""
        return copy.deepcopy(self._network).train()


def _rounded(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 4)
