"""mri-classify as P4 tells it: per patient with intervals, ROC and confusion; per feature; rivals beside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.bundle import Bundle, bundle_of, read_metadata
from dicom_ai_node.networks.mri_classes import CLASSES
from dicom_ai_node.training.classification_metrics import confusion, roc_curve
from dicom_ai_node.training.mri_classify_recipes import task_of
from dicom_ai_node.training.mri_crops import MrExample, load_patients
from dicom_ai_node.training.mri_people import mri_patient
from dicom_ai_node.training.mri_scores import (
    VertebraAnswer,
    diagnostic_scores,
    feature_areas,
    per_patient,
)

Rows = list[Mapping[str, Sequence[float]]]
Progress = Callable[[str, float], None]

TASK: Final = "mri-classify"

MEASURES: Final = ("accuracy", "sensitivity", "specificity")

PUBLISHED: Final[Mapping[str, tuple[float, float, float]]] = {
    "P4, ResNet-50": (0.92, 0.94, 0.91),
    "P4, first-year resident": (0.66, 0.78, 0.61),
    "P4, fourth-year resident": (0.96, 0.94, 0.96),
    "P4, senior radiologist": (0.98, 0.94, 0.99),
}
"""Accuracy, sensitivity and specificity per patient (P4, table 2): other patients than those judged here."""


def evaluate(  # noqa: PLR0917 - the options of the command
    bundle: Path, data: str, count: int, threshold: float, progress: Progress, plots: Path | None
) -> tuple[Rows, dict[str, Any]]:
    """Rows of the first bundle, one per patient, and the tables of all.

    Args:
        bundle: a bundle of mri-classify, or a folder of some: they are compared on the same patients.
        data: "phantom", or a folder of ``patient-*.npz``.
        count: how many phantom patients; every second one has a malignant vertebra.
        threshold: of malignancy.
        progress: is told how far it is.
        plots: folder for a picture.

    Raises:
        ConfigurationError: there is no such data or no such bundle.
        ModelError: a bundle was changed.
    """
    bundles = _bundles(bundle)
    answers: dict[str, list[VertebraAnswer]] = {name: [] for name in bundles}
    for words, share, examples in _patients(data, count):
        judged = [example for example in examples if example.fractured]
        for name, loaded in bundles.items():
            seen = loaded.metadata.mri_patch
            task = task_of(seen.series, seen.size, seen.margin, seen.behind)
            answers[name] += task.answers(loaded.network, judged)
        progress(words, share)
    if plots is not None:
        draw(plots / f"{TASK}.png", answers, threshold)
    first = next(iter(answers.values()))
    return patient_rows(first, threshold), tables(answers, threshold)


def patient_rows(answers: Sequence[VertebraAnswer], threshold: float) -> Rows:
    """Per patient: whether the answer is right, among all, the malignant and the benign."""
    rows: Rows = []
    for said, malignant in zip(*per_patient(answers)[:2], strict=True):
        right = float((said >= threshold) == malignant)
        missing = float("nan")
        rows.append(
            {
                "accuracy": [right],
                "sensitivity": [right if malignant else missing],
                "specificity": [missing if malignant else right],
            }
        )
    return rows


def tables(answers: Mapping[str, Sequence[VertebraAnswer]], threshold: float) -> dict[str, Any]:
    """What JSON and terminal show beside the rows: all bundles and the paper, areas, confusion."""
    compared: dict[str, list[float | None]] = {}
    areas: dict[str, Any] = {}
    intervals: dict[str, Any] = {}
    features: dict[str, Any] = {}
    counts: dict[str, Any] = {}
    for name, told in answers.items():
        said, truth, _ = per_patient(told)
        values, spans = diagnostic_scores(said, truth, threshold=threshold)
        compared[name] = [_rounded(values[measure]) for measure in MEASURES]
        intervals[name] = {key: [_rounded(end) for end in span] for key, span in spans.items()}
        areas[name] = _rounded(values["auc"])
        counts[name] = confusion(said >= threshold, truth, 2).tolist()
        known, known_spans = feature_areas(told)
        features[name] = {
            key: [_rounded(value), *(_rounded(end) for end in known_spans[key])]
            for key, value in known.items()
        }
    return {
        "threshold": threshold,
        "accuracy_sensitivity_specificity": compared | {key: list(row) for key, row in PUBLISHED.items()},
        "compared_intervals": intervals,
        "auc": areas,
        "confusion_truth_found": counts,
        "feature_auc": features,
    }


def draw(file: Path, answers: Mapping[str, Sequence[VertebraAnswer]], threshold: float) -> None:
    """ROC of all bundles, confusion of the first, and its areas per feature."""
    import matplotlib as mpl  # noqa: PLC0415 - only where plots are asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(15, 4.5))
    for name, told in answers.items():
        said, truth, _ = per_patient(told)
        false, true, _ = roc_curve(said, truth)
        left.plot(false, true, label=name, drawstyle="steps-post")
    for name, (_, sensitivity, specificity) in PUBLISHED.items():
        left.plot(1 - specificity, sensitivity, "x", label=name)
    left.plot([0, 1], [0, 1], linewidth=0.6, color="grey")
    first = next(iter(answers.values()))
    said, truth, _ = per_patient(first)
    left.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"{len(truth)} patients")
    left.legend(loc="lower right", fontsize="x-small")
    counts = confusion(said >= threshold, truth, 2)
    middle.imshow(counts, cmap="Blues")
    for (row, column), number in np.ndenumerate(counts):
        dark = 2 * number > counts.max()
        middle.text(column, row, str(number), ha="center", va="center", color="white" if dark else "black")
    middle.set(
        xticks=range(2), xticklabels=CLASSES, yticks=range(2), yticklabels=CLASSES, xlabel="found",
        ylabel="true",
    )  # fmt: skip
    areas, _ = feature_areas(first, resamples=0)
    right.barh(list(areas), [0.0 if np.isnan(area) else area for area in areas.values()])
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="area under the ROC")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _bundles(path: Path) -> dict[str, Bundle]:
    """The bundle, or those of the task in a folder, by the names of their folders."""
    if (path / "metadata.json").is_file():
        folders = [path]
    else:
        found = sorted(place.parent for place in path.glob("*/metadata.json"))
        folders = [folder for folder in found if read_metadata(folder).task == TASK]
    if not folders:
        raise ConfigurationError(f"{path} is no bundle of {TASK}, and holds none")
    return {folder.name: bundle_of(TASK, folder) for folder in folders}


def _patients(data: str, count: int) -> Iterator[tuple[str, float, list[MrExample]]]:
    if data == "phantom":
        for seed in range(count):
            yield f"patient {seed + 1} of {count}", (seed + 1) / count, mri_patient(seed, training=False)
        return
    if not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of patient-*.npz files; {data} is neither")
    yield "all patients", 1.0, load_patients(Path(data))


def _rounded(value: float) -> float | None:
    return None if not np.isfinite(value) else round(float(value), 4)
