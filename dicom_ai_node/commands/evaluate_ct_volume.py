"""The whole CT pipeline against realistic phantoms: names, outlines, heights, grades."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.phantom import CtPhantom, render_ct, sample_ct_acquisition, sample_spine
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline
from dicom_ai_node.report import Analysis, Vertebra
from dicom_ai_node.training.metrics import dice, surface_distances

IDENTIFIED_MM: Final = 20.0
"""A vertebra is identified when its name is right and its centre this near (P3 eq. 27)."""

MARGIN_MM: Final = 8.0
"""Bodies whose points come nearer than this to the edge of the image are not counted: they are cut off."""


def evaluate_pipeline(
    models: Path, seeds: Iterable[int], say: Callable[[str], None], plots: Path | None = None
) -> tuple[list[Mapping[str, Sequence[float]]], dict[str, Any]]:
    """Rows per case (quantity -> values per vertebra), and the confusion of grades and of types."""
    pipeline = CtVolumePipeline.load(models, torch.device("cpu"))
    rows: list[Mapping[str, Sequence[float]]] = []
    grades: Counter[tuple[int, int]] = Counter()
    types: Counter[tuple[str, str]] = Counter()
    heights: list[tuple[float, float]] = []
    for seed in seeds:
        spine = sample_spine(seed)
        phantom = render_ct(spine, sample_ct_acquisition(seed, spine))
        volume = volume_of_phantom(phantom)
        try:
            analysis = pipeline.analyse(volume)
        except NotAnalysable as refusal:
            rows.append({"not_analysable_case": [1.0]})
            say(f"phantom {seed}: not analysable: {refusal}")
            continue
        row = _row(analysis, pipeline.levels, phantom, volume, grades, types, heights)
        rows.append({"not_analysable_case": [0.0], **row})
        say(f"phantom {seed}: {sum(row['identified']):.0f} of {len(row['identified'])} identified")
    tables = {
        "grades_truth_found": {f"{truth}>{found}": n for (truth, found), n in sorted(grades.items())},
        "types_truth_found": {f"{truth}>{found}": n for (truth, found), n in sorted(types.items())},
    }
    if plots is not None:
        _draw(plots, grades, np.array(heights))
    return rows, tables


def volume_of_phantom(phantom: CtPhantom) -> Volume:
    """The phantom as the pipeline gets it, without the way over DICOM."""
    refs = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k + 1}", 1, Path("phantom"))
        for k in range(len(phantom.hu))
    )
    return Volume(phantom.hu, phantom.affine, refs, "1.2", "1.3", "1.4", "CT")


def _row(  # noqa: PLR0917 - the last three are filled
    analysis: Analysis,
    taught: Sequence[Level],
    phantom: CtPhantom,
    volume: Volume,
    grades: Counter[tuple[int, int]],
    types: Counter[tuple[str, str]],
    heights: list[tuple[float, float]],
) -> dict[str, list[float]]:
    row: dict[str, list[float]] = {
        name: []
        for name in (
            "identified", "centre_error_mm", "dice", "assd_mm", "height_error_mm", "grade_right",
            "fracture_found", "false_alarm", "not_judged", "level_not_taught",
        )
    }  # fmt: skip
    assert analysis.label_map is not None
    # A level that the report only says must lie somewhere was not found.
    drawn = set(np.unique(analysis.label_map.labels).tolist())
    found = {item.level: item for item in analysis.report if verse_label(item.level) in drawn}
    true_centres = np.array([entry["center_mm"] for entry in phantom.truth["vertebrae"]])
    row["no_vertebra_there"] = [
        float(np.linalg.norm(true_centres - np.array(vertebra.center_mm), axis=1).min() > IDENTIFIED_MM)
        for vertebra in found.values()
        if vertebra.center_mm is not None
    ]
    for entry in phantom.truth["vertebrae"]:
        level = Level(entry["level"])
        if entry["six_points"] is None or not _whole(entry, volume):
            continue
        row["level_not_taught"].append(float(level not in taught))
        if level not in taught:
            continue
        vertebra = found.get(level)
        distance = _distance(vertebra, entry)
        row["identified"].append(float(distance <= IDENTIFIED_MM))
        if vertebra is None or distance > IDENTIFIED_MM:
            continue
        row["centre_error_mm"].append(distance)
        overlap = _overlap(analysis.label_map.labels, phantom.labels, level, volume)
        row["dice"].append(overlap[0])
        row["assd_mm"].append(overlap[1])
        row["not_judged"].append(float(vertebra.heights_mm is None))
        if vertebra.heights_mm is None:
            continue
        for name in ("anterior", "middle", "posterior"):
            pair = (float(entry["heights_mm"][name]), float(getattr(vertebra.heights_mm, name)))
            heights.append(pair)
            row["height_error_mm"].append(abs(pair[0] - pair[1]))
        if vertebra.genant_grade is None:
            continue
        truth = int(entry["genant_grade"])
        grades[truth, vertebra.genant_grade] += 1
        row["grade_right"].append(float(truth == vertebra.genant_grade))
        if truth:
            types[str(entry["deformity"]), str(vertebra.deformity)] += 1
        row["fracture_found" if truth else "false_alarm"].append(float(bool(vertebra.fractured)))
    return row


def _whole(entry: Mapping[str, Any], volume: Volume) -> bool:
    points = np.array(list(entry["six_points"].values()))
    to_index = np.linalg.inv(volume.affine)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    margin = MARGIN_MM / volume.spacing_mm
    return bool((index > margin).all() and (index < np.array(volume.shape) - 1 - margin).all())


def _distance(vertebra: Vertebra | None, entry: Mapping[str, Any]) -> float:
    if vertebra is None or vertebra.center_mm is None:
        return float("inf")
    return float(np.linalg.norm(np.array(vertebra.center_mm) - np.array(entry["center_mm"])))


def _overlap(
    found: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], level: Level, volume: Volume
) -> tuple[float, float]:
    label = verse_label(level)
    both = (found == label) | (truth == label)
    window = tuple(slice(max(0, int(w.min()) - 2), int(w.max()) + 3) for w in np.nonzero(both))
    mine, true = found[window] == label, truth[window] == label
    if not mine.any() or not true.any():
        return 0.0, float("nan")
    spacing = [float(value) for value in volume.spacing_mm]
    return dice(mine, true), surface_distances(mine, true, spacing)[0]


def _draw(folder: Path, grades: Counter[tuple[int, int]], heights: npt.NDArray[np.float64]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only where plots are asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    confusion = np.array([[grades[truth, found] for found in range(4)] for truth in range(4)])
    left.imshow(confusion, cmap="Blues")
    for (truth, found), number in np.ndenumerate(confusion):
        left.text(found, truth, str(number), ha="center", va="center")
    left.set(xlabel="grade found", ylabel="true grade", title="Genant grade")
    if len(heights):
        difference = heights[:, 1] - heights[:, 0]
        right.scatter(heights.mean(axis=1), difference, s=8)
        for level in (difference.mean(), *(difference.mean() + 1.96 * difference.std() * np.array([-1, 1]))):
            right.axhline(level, linewidth=0.8)
    right.set(xlabel="mean of found and true height (mm)", ylabel="found - true (mm)", title="Heights")
    figure.tight_layout()
    figure.savefig(folder / "ct-volume.png", dpi=110)
    plt.close(figure)
