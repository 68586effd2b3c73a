"""The whole MR pipeline against phantom patients, and its bodies against labelled real series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import LEVELS, Level, order, verse_label
from dicom_ai_node.commands.ct_volume_answers import MARGIN_MM
from dicom_ai_node.commands.mri_cases import labelled_cases
from dicom_ai_node.commands.outline_sheet import draw_outlines
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.mr_pairing import Role
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.phantom.mr import MrPhantom, render_mr
from dicom_ai_node.phantom.mr_study import Region, sample_mr_study
from dicom_ai_node.pipelines.mri import MriPipeline
from dicom_ai_node.pipelines.mri_study import MriStudyPipeline
from dicom_ai_node.report import Analysis, SpineReport
from dicom_ai_node.training.metrics import dice
from dicom_ai_node.training.mri_cases import UNLABELLED
from dicom_ai_node.training.mri_people import evaluation_person
from dicom_ai_node.training.mri_scores import diagnostic_scores

Rows = list[Mapping[str, Sequence[float]]]
Say = Callable[[str], None]

ROLES: Final[tuple[Role, ...]] = ("t2", "t1", "stir")

FOUND_DICE: Final = 0.5
"""A body counts as found by one that covers it so far, whatever its name."""

SEEN_SHARE: Final = 0.2
"""A body that covers less of any true one is a false one."""

MIN_VOXELS: Final = 60
"""Of a true body in the image; less is a rim at its edge."""

_SHOWN_PERCENTILES: Final = (1.0, 99.7)
"""What is black and white in pictures of outlines."""


def evaluate_studies(
    models: Path, seeds: Iterable[int], say: Say, plots: Path | None = None
) -> tuple[Rows, dict[str, Any]]:
    """Rows per patient (quantity -> values per vertebra, and per patient), and P4's scores with intervals.

    Every second patient (odd seeds) has a malignant vertebra. A patient is called malignant as the worst of
    the bodies that the pipeline chose to judge; one in whom it chose none is called benign.

    Args:
        models: folder of the bundles.
        seeds: of the patients.
        say: gets a line per patient.
        plots: folder for a picture of the outlines on each T2.
    """
    pipeline = MriStudyPipeline.load(models, torch.device("cpu"))
    rows: Rows = []
    said: list[float] = []
    truth: list[bool] = []
    for seed in seeds:
        spine, chosen = evaluation_person(seed)
        study = sample_mr_study(seed, spine, region=region_of(chosen))
        wanted = {one.series: one for one in study if one.series in ROLES}
        made = {role: render_mr(spine, wanted[role]) for role in ROLES}
        series = {role: volume_of_phantom(made[role], role) for role in ROLES}
        truth.append(seed % 2 == 1)
        try:
            analysis = pipeline.analyse(series)
        except NotAnalysable as refusal:
            rows.append({"not_analysable_case": [1.0]})
            said.append(0.0)
            say(f"patient {seed}: not analysable: {refusal}")
            continue
        labels = made["t2"].labels.astype(np.uint8)
        _drawn(plots, f"patient-{seed}", analysis, labels, series["t2"])
        row = bodies_row(analysis, labels, series["t2"])
        row |= heights_row(analysis.report, made["t2"].truth, series["t2"])
        judged = {item.level: item.malignancy for item in analysis.report if item.malignancy is not None}
        said.append(max((float(value) for value in judged.values()), default=0.0))
        right = float((said[-1] >= pipeline.settings.malignant_threshold) == truth[-1])
        row |= {"accuracy": [right], "chosen_judged": [float(chosen in judged)], "not_analysable_case": [0.0]}
        rows.append(row)
        say(
            f"patient {seed}: {sum(row['found']):.0f} of {len(row['found'])} bodies, malignant {said[-1]:.2f}"
        )
    values, intervals = diagnostic_scores(said, truth, threshold=pipeline.settings.malignant_threshold)
    return rows, {
        "per_patient": {name: _finite(value) for name, value in values.items()},
        "per_patient_intervals": {name: [_finite(end) for end in span] for name, span in intervals.items()},
    }


def evaluate_real(
    models: Path, folder: Path, say: Say, plots: Path | None = None
) -> tuple[Rows, dict[str, Any]]:
    """Rows per labelled series: bodies found, overlap, names, false bodies.

    Args:
        models: folder of the bundles.
        folder: as `mri_cases.labelled_cases` reads it.
        say: gets a line per case.
        plots: folder for a picture of the outlines on each series.
    """
    pipeline = MriPipeline.load(models, torch.device("cpu"))
    rows: Rows = []
    names: dict[str, dict[str, Any]] = {}
    for case in labelled_cases(folder):
        volume = _volume(case.image.numpy(), case.affine, case.name)
        try:
            analysis = pipeline.analyse(volume)
        except NotAnalysable as refusal:
            rows.append({"not_analysable_case": [1.0]})
            say(f"{case.name}: not analysable: {refusal}")
            continue
        _drawn(plots, case.name, analysis, case.labels.numpy(), volume)
        row = bodies_row(analysis, case.labels.numpy(), volume)
        rows.append({"not_analysable_case": [0.0], **row})
        names[case.name] = {key: _finite(float(np.mean(row[key]))) if row[key] else None for key in row}
        say(
            f"{case.name}: {sum(row['found']):.0f} of {len(row['found'])} bodies, "
            f"{sum(row['false_bodies']):.0f} false, {sum(row['level_right']):.0f} named right"
        )
    return rows, {"cases": names}


def region_of(level: Level) -> Region:
    """What is examined where a vertebra hurts."""
    if order(level) >= order(Level.T12):
        return "lumbar"
    return "thoracolumbar" if order(level) >= order(Level.T9) else "thoracic"


def volume_of_phantom(made: MrPhantom, name: str) -> Volume:
    """The phantom's series as the pipeline gets it, without the way over DICOM."""
    return _volume(made.pixels, made.affine, name)


def bodies_row(analysis: Analysis, truth: npt.NDArray[np.uint8], volume: Volume) -> dict[str, list[float]]:
    """`found` and `level_right` per whole true body, `dice` and `volume_ratio` (found by true) per found one,
    `false_bodies` once.

    Args:
        analysis: with a label map on the grid of the volume.
        truth: VerSe labels, `UNLABELLED` where nobody labelled.
        volume: that was analysed.
    """
    assert analysis.label_map is not None
    mine = analysis.label_map.labels
    row: dict[str, list[float]] = {"found": [], "level_right": [], "dice": [], "volume_ratio": []}
    for level in LEVELS:
        body = truth == verse_label(level)
        if level is Level.S1 or int(body.sum()) < MIN_VOXELS or not _whole(body, volume):
            continue
        covering = np.bincount(mine[body], minlength=256)
        covering[0] = 0
        label = int(covering.argmax())
        overlap = dice(mine == label, body) if covering[label] else 0.0
        row["found"].append(float(overlap >= FOUND_DICE))
        row["level_right"].append(float(overlap >= FOUND_DICE and label == verse_label(level)))
        if overlap >= FOUND_DICE:
            row["dice"].append(overlap)
            row["volume_ratio"].append(float((mine == label).sum() / body.sum()))
    false = 0
    for label in set(np.unique(mine).tolist()) - {0}:
        own = truth[mine == label]
        # What nobody labelled may well be a body.
        known = own != UNLABELLED
        false += bool(known.mean() > 0.5 and (known & (own > 0)).mean() < SEEN_SHARE)
    row["false_bodies"] = [float(false)]
    return row


def heights_row(report: SpineReport, truth: Mapping[str, Any], volume: Volume) -> dict[str, list[float]]:
    """`height_error_mm` per height of whole bodies with the right name, `grade_right`, `fracture_found`,
    `false_alarm`.
    """
    row: dict[str, list[float]] = {
        name: [] for name in ("height_error_mm", "not_judged", "grade_right", "fracture_found", "false_alarm")
    }
    found = {item.level: item for item in report}
    for entry in truth["vertebrae"]:
        vertebra = found.get(Level(entry["level"]))
        if vertebra is None or entry["six_points"] is None or vertebra.center_mm is None:
            continue
        away = np.linalg.norm(np.array(vertebra.center_mm)[1:] - np.array(entry["center_mm"])[1:])
        points = np.array(list(entry["six_points"].values()))
        if away > 12.0 or not _inside(points, volume):
            continue
        row["not_judged"].append(float(vertebra.heights_mm is None))
        if vertebra.heights_mm is None or vertebra.genant_grade is None:
            continue
        for name in ("anterior", "middle", "posterior"):
            difference = float(entry["heights_mm"][name]) - float(getattr(vertebra.heights_mm, name))
            row["height_error_mm"].append(abs(difference))
        grade = int(entry["genant_grade"])
        row["grade_right"].append(float(grade == vertebra.genant_grade))
        row["fracture_found" if grade else "false_alarm"].append(float(bool(vertebra.fractured)))
    return row


def _drawn(
    plots: Path | None, name: str, analysis: Analysis, truth: npt.NDArray[np.uint8], volume: Volume
) -> None:
    if plots is None:
        return
    assert analysis.label_map is not None
    low, high = np.percentile(volume.voxels, _SHOWN_PERCENTILES)
    window = (float(low), float(high))
    draw_outlines(plots / f"{name}.png", volume, analysis.label_map.labels, truth, window)


def _inside(points: npt.NDArray[np.float64], volume: Volume) -> bool:
    """Whether points lie well within the slices; how far aside does not matter."""
    to_index = np.linalg.inv(volume.affine)
    index = (points @ to_index[:3, :3].T + to_index[:3, 3])[:, 1:]
    margin = MARGIN_MM / volume.spacing_mm[1:]
    return bool((index > margin).all() and (index < np.array(volume.shape[1:]) - 1 - margin).all())


def _whole(body: npt.NDArray[np.bool_], volume: Volume) -> bool:
    """Whether a body is not cut off by the upper or lower, front or back edge of its slices."""
    margin = np.ceil(2.0 / volume.spacing_mm[1:]).astype(int)
    inner = np.zeros(body.shape[1:], bool)
    inner[margin[0] : -margin[0], margin[1] : -margin[1]] = True
    return not bool(body[:, ~inner].any())


def _volume(voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64], name: str) -> Volume:
    refs = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.4", f"1.2.{k + 1}", 1, Path(name)) for k in range(len(voxels))
    )
    return Volume(voxels.astype(np.float32), affine, refs, "1.2", f"1.3.{sum(name.encode())}", "1.4", "MR")


def _finite(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
