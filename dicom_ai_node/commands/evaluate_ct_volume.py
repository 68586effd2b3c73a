"""The whole CT pipeline against realistic phantoms, told as P3 tells it (section 3.3, tables 2 to 4).

Where a vertebra is, how it is called and how it is judged are told apart: position and outline are those of
the vertebra of that name, heights, grades and fractures those of what was found in that place, whatever it
is called. What the node says that it cannot judge is counted as such and takes no part in the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import torch
from rich.table import Table

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.genant import Heights, grade_spine
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.phantom import CtPhantom, render_ct, sample_ct_acquisition, sample_spine
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline
from dicom_ai_node.report import Analysis, Vertebra
from dicom_ai_node.training.classification_metrics import (
    area_under_roc,
    average_precision,
    confusion,
    weighted_kappa,
)
from dicom_ai_node.training.metrics import (
    clustered_intervals,
    dice,
    localisation_values,
    precision,
    recall,
    summarise,
    surface_distances,
)

if TYPE_CHECKING:
    from rich.console import Console

IDENTIFIED_MM: Final = 20.0
"""A vertebra is identified when its name is right and its centre this near (P3 eq. 27)."""

MARGIN_MM: Final = 8.0
"""Bodies whose points come nearer than this to the edge of the image are not counted: they are cut off."""

GRADES: Final = 4
TYPES: Final = ("none", "wedge", "biconcave", "crush")

PUBLISHED: Final[Mapping[str, float]] = {
    "error_over_4mm": 0.0531,
    "error_over_10mm": 0.0091,
    "error_over_20mm": 0.0045,
    "dice": 0.9350,
    "assd_mm": 0.262,
    "mssd_mm": 4.962,
    "precision": 0.9576,
    "recall": 0.9146,
}
"""P3, table 4 (M-SCN) and table 2 (30,000 iterations): whole vertebrae of VerSe and of the authors' hospital,
while bodies of phantoms are judged here."""

TABLES: Final[Mapping[str, Mapping[str, str]]] = {
    "Localisation (P3 table 4)": {
        "error_over_4mm": "vertebrae farther than 4 mm",
        "error_over_10mm": "farther than 10 mm",
        "error_over_20mm": "farther than 20 mm, or not found",
        "identified": "identified (name right, within 20 mm)",
        "level_wrong": "found, but called by another name",
        "no_vertebra_there": "reported where there is none",
        "centre_error_mm": "error of the centre, mm",
    },
    "Segmentation of bodies (P3 tables 2 and 3)": {
        "dice": "Dice",
        "assd_mm": "ASSD, mm",
        "mssd_mm": "MSSD, mm",
        "precision": "precision",
        "recall": "recall",
    },
    "Genant grades and fractures (P3 section 2.3.3)": {
        "height_error_mm": "error of a height, mm",
        "grade_right": "grade right",
        "grade_kappa": "grade, weighted kappa",
        "grade_kappa_worst_plane": "the same against the worst true plane",
        "type_right": "type of deformity right",
        "sensitivity_grade_1": "fractures of grade 1 found",
        "sensitivity_grade_2": "fractures of grade 2 found",
        "sensitivity_grade_3": "fractures of grade 3 found",
        "fracture_found": "all fractures found",
        "false_alarm": "sound bodies called broken",
        "false_positives_per_patient": "false fractures per patient",
        "fracture_auc": "fracture, area under the ROC",
        "fracture_ap": "fracture, average precision",
    },
    "Not judged": {
        "not_analysable_case": "series that were refused",
        "not_judged": "bodies found, but not measured",
        "level_not_taught": "levels that the bundle does not know",
    },
}
"""Measures in the order in which they are shown, with what they are called."""


@dataclass(frozen=True)
class BodyAnswer:
    """What was said of one body that was measured, and what is true of it.

    Attributes:
        grades: true in the middle plane, true in the worst of its planes, found.
        types: of the deformity, true and found.
        fracture: probability that was told.
        broken: whether it truly is.
        heights_mm: true and found, (3, 2).
    """

    grades: tuple[int, int, int]
    types: tuple[str, str]
    fracture: float
    broken: bool
    heights_mm: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CaseAnswer:
    """One case: values that are averaged (quantity -> one per vertebra), and the bodies that were graded."""

    values: Mapping[str, Sequence[float]]
    bodies: Sequence[BodyAnswer] = field(default=())


def evaluate(
    models: Path, seeds: Iterable[int], say: Callable[[str], None], plots: Path | None = None
) -> dict[str, Any]:
    """What ``--json`` writes: `n` cases, `metrics` and their `intervals`, and the counts beside them.

    Args:
        models: folder of the bundles.
        seeds: of the phantoms.
        say: gets a line per phantom.
        plots: folder for pictures.

    Raises:
        ModelError: a bundle is missing or was changed.
    """
    pipeline = CtVolumePipeline.load(models, torch.device("cpu"))
    cases = []
    for seed in seeds:
        spine = sample_spine(seed)
        phantom = render_ct(spine, sample_ct_acquisition(seed, spine))
        volume = volume_of_phantom(phantom)
        try:
            analysis = pipeline.analyse(volume)
        except NotAnalysable as refusal:
            cases.append(CaseAnswer({"not_analysable_case": [1.0]}))
            say(f"phantom {seed}: not analysable: {refusal}")
            continue
        cases.append(answer_of(analysis, pipeline.levels, phantom, volume))
        identified = cases[-1].values["identified"]
        say(f"phantom {seed}: {sum(identified):.0f} of {len(identified)} identified")
    if plots is not None:
        from dicom_ai_node.commands.ct_volume_plots import draw  # noqa: PLC0415 - loads matplotlib

        draw(plots / "ct-volume.png", [body for case in cases for body in case.bodies])
    return scores(cases)


def scores(cases: Sequence[CaseAnswer]) -> dict[str, Any]:
    """All measures of cases with their 95 % bootstrap intervals; whole cases are drawn."""
    metrics, intervals = summarise([case.values for case in cases])
    found = clustered_intervals([case.bodies for case in cases], _together)
    whole = _together([case.bodies for case in cases])
    for name, value, interval in zip(_TOGETHER, whole, found, strict=True):
        metrics[name], intervals[name] = value, interval
    bodies = [body for case in cases for body in case.bodies]
    return {
        "n": len(cases),
        "bodies": len(bodies),
        "metrics": {name: _finite(value) for name, value in metrics.items()},
        "intervals": {name: [_finite(end) for end in span] for name, span in intervals.items()},
        "grades_truth_found": grade_confusion(bodies).tolist(),
        "grades_worst_plane_truth_found": grade_confusion(bodies, worst_plane=True).tolist(),
        "types_truth_found": {
            true: {said: sum(body.types == (true, said) for body in bodies) for said in TYPES}
            for true in TYPES
        },
        "published": dict(PUBLISHED),
    }


def grade_confusion(bodies: Sequence[BodyAnswer], *, worst_plane: bool = False) -> npt.NDArray[np.int64]:
    """Counts, (4, 4): rows are the true grade, columns the one found."""
    truth = [body.grades[1 if worst_plane else 0] for body in bodies]
    return confusion([body.grades[2] for body in bodies], truth, GRADES)


def show(console: Console, found: Mapping[str, Any]) -> None:
    """The tables of P3 of what `scores` gives."""
    for title, names in TABLES.items():
        table = Table("measure", "value", "95 % interval", "P3", box=None, title=title, title_justify="left")
        for name, words in names.items():
            span = found["intervals"].get(name, [None, None])
            published = PUBLISHED.get(name)
            table.add_row(
                words,
                _words(found["metrics"].get(name)),
                f"{_words(span[0])} to {_words(span[1])}",
                "" if published is None else _words(published),
            )
        console.print(table)
    for title, counts in (
        ("true grade (rows), grade found", found["grades_truth_found"]),
        ("the same, true in the worst plane", found["grades_worst_plane_truth_found"]),
    ):
        table = Table(
            "", *(str(grade) for grade in range(GRADES)), box=None, title=title, title_justify="left"
        )
        for grade, row in enumerate(counts):
            table.add_row(str(grade), *map(str, row))
        console.print(table)
    console.print(
        f"{found['n']} phantoms, {found['bodies']} bodies graded; intervals are over phantoms; "
        "P3 judged whole vertebrae of other patients"
    )


def volume_of_phantom(phantom: CtPhantom) -> Volume:
    """The phantom as the pipeline gets it, without the way over DICOM."""
    refs = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k + 1}", 1, Path("phantom"))
        for k in range(len(phantom.hu))
    )
    return Volume(phantom.hu, phantom.affine, refs, "1.2", "1.3", "1.4", "CT")


def answer_of(analysis: Analysis, taught: Sequence[Level], phantom: CtPhantom, volume: Volume) -> CaseAnswer:
    """What an analysis says of a phantom, beside what is true."""
    assert analysis.label_map is not None
    values: dict[str, list[float]] = {name: [] for names in TABLES.values() for name in names}
    for name in _TOGETHER:
        del values[name]
    values["not_analysable_case"] = [0.0]
    # A level that the report only says must lie somewhere was not found.
    drawn = set(np.unique(analysis.label_map.labels).tolist())
    found = {
        item.level: item
        for item in analysis.report
        if verse_label(item.level) in drawn and item.center_mm is not None
    }
    truth = phantom.truth["vertebrae"]
    values["no_vertebra_there"] = [
        float(min(_distance(item, entry) for entry in truth) > IDENTIFIED_MM) for item in found.values()
    ]
    values["false_positives_per_patient"] = [
        float(sum(bool(item.fractured) and not _is_broken(item, truth) for item in found.values()))
    ]
    worst = _worst_grades(truth)
    errors, bodies = [], []
    for entry in truth:
        level = Level(entry["level"])
        if entry["six_points"] is None or not _whole(entry, volume):
            continue
        values["level_not_taught"].append(float(level not in taught))
        if level not in taught:
            continue
        named = found.get(level)
        errors.append(_distance(named, entry))
        identified = errors[-1] <= IDENTIFIED_MM
        values["identified"].append(float(identified))
        if identified:
            values["centre_error_mm"].append(errors[-1])
            outlined = _outlined(analysis.label_map.labels, phantom.labels, level, volume)
            for name, value in outlined.items():
                values[name].append(value)
        there = min(found.values(), key=lambda item: _distance(item, entry), default=None)
        if there is None or _distance(there, entry) > IDENTIFIED_MM:
            if entry["genant_grade"]:
                _count_fracture(values, entry, fractured=False)
            continue
        values["level_wrong"].append(float(there.level is not level))
        values["not_judged"].append(float(there.heights_mm is None))
        body = _judged(there, entry, worst.get(level, 0))
        if body is not None:
            bodies.append(body)
            values["height_error_mm"] += np.abs(np.diff(body.heights_mm, axis=1)).ravel().tolist()
            values["grade_right"].append(float(body.grades[0] == body.grades[2]))
            if body.grades[0] and body.grades[2]:
                values["type_right"].append(float(body.types[0] == body.types[1]))
            _count_fracture(values, entry, fractured=bool(there.fractured))
    values |= {name: found.tolist() for name, found in localisation_values(errors).items() if name in values}
    return CaseAnswer(values, bodies)


def _count_fracture(values: dict[str, list[float]], entry: Mapping[str, Any], *, fractured: bool) -> None:
    grade = int(entry["genant_grade"] or 0)
    values["fracture_found" if grade else "false_alarm"].append(float(fractured))
    if grade:
        values[f"sensitivity_grade_{grade}"].append(float(fractured))


def _judged(vertebra: Vertebra, entry: Mapping[str, Any], worst: int) -> BodyAnswer | None:
    """None where the body was not measured, or has no grade."""
    if vertebra.heights_mm is None or vertebra.genant_grade is None or entry["genant_grade"] is None:
        return None
    middle = next((plane for plane in vertebra.planes if plane.aside_mm == 0), None)
    # The true heights are those of the middle.
    own = vertebra.heights_mm if middle is None else middle.heights_mm
    names = ("anterior", "middle", "posterior")
    return BodyAnswer(
        (int(entry["genant_grade"]), worst, vertebra.genant_grade),
        (str(entry["deformity"] or "none"), str(vertebra.deformity or "none")),
        float(vertebra.fracture_probability or 0.0),
        bool(entry["genant_grade"]),
        np.array([(float(entry["heights_mm"][name]), float(getattr(own, name))) for name in names]),
    )


def _worst_grades(truth: Sequence[Mapping[str, Any]]) -> dict[Level, int]:
    """The true grade of each body in the worst of its planes, graded among the neighbours' same plane."""
    planes: list[dict[Level, Heights]] = [{}, {}, {}]
    for entry in truth:
        if entry["six_points"] is None:
            continue
        beside = entry.get("beside") or [entry, entry]
        for spine, plane in zip(planes, (entry, *beside), strict=True):
            told = plane["heights_mm"]
            spine[Level(entry["level"])] = Heights(told["anterior"], told["middle"], told["posterior"])
    gradings = [grade_spine(spine) for spine in planes]
    return {level: max(graded[level].grade for graded in gradings) for level in gradings[0]}


_TOGETHER: Final = ("grade_kappa", "grade_kappa_worst_plane", "fracture_auc", "fracture_ap")
"""Measures that are no means over vertebrae."""


def _together(cases: Sequence[Sequence[BodyAnswer]]) -> list[float]:
    bodies = [body for case in cases for body in case]
    said, truth = [body.fracture for body in bodies], [body.broken for body in bodies]
    return [
        weighted_kappa(grade_confusion(bodies)),
        weighted_kappa(grade_confusion(bodies, worst_plane=True)),
        area_under_roc(said, truth),
        average_precision(said, truth),
    ]


def _is_broken(vertebra: Vertebra, truth: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the true vertebra in that place is."""
    entry = min(truth, key=lambda item: _distance(vertebra, item))
    return _distance(vertebra, entry) <= IDENTIFIED_MM and bool(entry["genant_grade"])


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


def _outlined(
    found: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8], level: Level, volume: Volume
) -> dict[str, float]:
    """P3's measures of one body (eq. 20 to 26)."""
    label = verse_label(level)
    both = (found == label) | (truth == label)
    window = tuple(slice(max(0, int(w.min()) - 2), int(w.max()) + 3) for w in np.nonzero(both))
    mine, true = found[window] == label, truth[window] == label
    spacing = [float(value) for value in volume.spacing_mm]
    average, largest = surface_distances(mine, true, spacing)
    return {
        "dice": dice(mine, true),
        "assd_mm": average if math.isfinite(average) else math.nan,
        "mssd_mm": largest if math.isfinite(largest) else math.nan,
        "precision": precision(mine, true),
        "recall": recall(mine, true),
    }


def _finite(value: float) -> float | None:
    # JSON knows neither NaN nor infinity.
    return value if math.isfinite(value) else None


def _words(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
