"""What the CT pipeline says of one CT beside what is true of it, vertebra by vertebra.

Position and outline are those of the vertebra of that name; heights, grades and fractures those of what was
found in that place, whatever it is called. What the node says that it cannot judge is counted as such and
takes no part in the rest. Nor does what is not known: labels of others may have no grades or heights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.genant import Heights, grade_spine
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.phantom import CtPhantom
from dicom_ai_node.pipelines.ct_volume import NOT_REPORTED
from dicom_ai_node.report import Analysis, Vertebra
from dicom_ai_node.training.metrics import dice, localisation_values, precision, recall, surface_distances

IDENTIFIED_MM: Final = 20.0
"""A vertebra is identified when its name is right and its centre this near (P3 eq. 27)."""

MARGIN_MM: Final = 8.0
"""Bodies whose points come nearer than this to the edge of the image are not counted: they are cut off."""

MEASURES: Final = (
    "error_over_4mm",
    "error_over_10mm",
    "error_over_20mm",
    "identified",
    "level_wrong",
    "no_vertebra_there",
    "centre_error_mm",
    "dice",
    "assd_mm",
    "mssd_mm",
    "precision",
    "recall",
    "height_error_mm",
    "grade_right",
    "type_right",
    "sensitivity_grade_1",
    "sensitivity_grade_2",
    "sensitivity_grade_3",
    "fracture_found",
    "false_alarm",
    "false_positives_per_patient",
    "not_analysable_case",
    "not_judged",
    "level_not_taught",
)
"""What is told of a case: one value per vertebra, but for those of the whole case."""


@dataclass(frozen=True)
class BodyAnswer:
    """What was said of one body that was measured, and what is true of it.

    Attributes:
        grades: true in the middle plane, true in the worst of its planes (None: not known), found.
        types: of the deformity, true (empty: not known) and found.
        fracture: probability that was told.
        broken: whether it truly is.
        heights_mm: true (NaN: not known) and found, (3, 2).
    """

    grades: tuple[int, int | None, int]
    types: tuple[str, str]
    fracture: float
    broken: bool
    heights_mm: npt.NDArray[np.float64]


@dataclass(frozen=True)
class CaseAnswer:
    """One case: values that are averaged (quantity -> one per vertebra), and the bodies that were graded."""

    values: Mapping[str, Sequence[float]]
    bodies: Sequence[BodyAnswer] = field(default=())


def volume_of_phantom(phantom: CtPhantom) -> Volume:
    """The phantom as the pipeline gets it, without the way over DICOM."""
    return volume_of_voxels(phantom.hu, phantom.affine)


def volume_of_voxels(hu: npt.NDArray[np.int16], affine: npt.NDArray[np.float64]) -> Volume:
    """A CT as the pipeline gets it, without the way over DICOM.

    Args:
        hu: shape (slices, rows, columns).
        affine: 4x4, its index to LPS millimetres.
    """
    refs = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k + 1}", 1, Path("labelled")) for k in range(len(hu))
    )
    return Volume(hu, affine, refs, "1.2", "1.3", "1.4", "CT")


def answer_of(analysis: Analysis, taught: Sequence[Level], phantom: CtPhantom, volume: Volume) -> CaseAnswer:
    """What an analysis says of a phantom, beside what is true."""
    return answer_beside(analysis, taught, phantom.truth["vertebrae"], phantom.labels, volume)


def answer_beside(
    analysis: Analysis,
    taught: Sequence[Level],
    truth: Sequence[Mapping[str, Any]],
    labels: npt.NDArray[np.uint8],
    volume: Volume,
) -> CaseAnswer:
    """What an analysis says of a labelled CT, beside what is true.

    Args:
        analysis: of the volume.
        taught: the levels that can be named.
        truth: per vertebra `level`, `center_mm`, `six_points`, `heights_mm`, `genant_grade` as the phantom
            tells them. Without points `extent_mm` says where the body ends, its box's corners; one that has
            neither (the sacrum) is not judged. What is None or not there takes no part.
        labels: vertebral bodies as VerSe numbers, on the volume's grid.
        volume: the CT.
    """
    assert analysis.label_map is not None
    values: dict[str, list[float]] = {name: [] for name in MEASURES}
    values["not_analysable_case"] = [0.0]
    # A level that the report only says must lie somewhere was not found.
    drawn = set(np.unique(analysis.label_map.labels).tolist())
    found = {
        item.level: item
        for item in analysis.report
        if verse_label(item.level) in drawn and item.center_mm is not None
    }
    values["no_vertebra_there"] = [
        float(min(_distance(item, entry) for entry in truth) > IDENTIFIED_MM) for item in found.values()
    ]
    if any(entry["genant_grade"] is not None for entry in truth):
        values["false_positives_per_patient"] = [
            float(sum(bool(item.fractured) and not _is_broken(item, truth) for item in found.values()))
        ]
    worst = _worst_grades(truth)
    errors, bodies = [], []
    for entry in truth:
        level = Level(entry["level"])
        if level in NOT_REPORTED or not _whole(entry, volume):
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
            outlined = _outlined(analysis.label_map.labels, labels, level, volume)
            for name, value in outlined.items():
                values[name].append(value)
        there = min(found.values(), key=lambda item: _distance(item, entry), default=None)
        if there is None or _distance(there, entry) > IDENTIFIED_MM:
            if entry["genant_grade"]:
                _count_fracture(values, entry, fractured=False)
            continue
        values["level_wrong"].append(float(there.level is not level))
        values["not_judged"].append(float(there.heights_mm is None))
        body = _judged(there, entry, worst.get(level))
        if body is not None:
            bodies.append(body)
            if np.isfinite(body.heights_mm).all():
                values["height_error_mm"] += np.abs(np.diff(body.heights_mm, axis=1)).ravel().tolist()
            values["grade_right"].append(float(body.grades[0] == body.grades[2]))
            if body.grades[0] and body.grades[2] and body.types[0]:
                values["type_right"].append(float(body.types[0] == body.types[1]))
            _count_fracture(values, entry, fractured=bool(there.fractured))
    values |= {name: found.tolist() for name, found in localisation_values(errors).items() if name in values}
    return CaseAnswer(values, bodies)


def _count_fracture(values: dict[str, list[float]], entry: Mapping[str, Any], *, fractured: bool) -> None:
    grade = int(entry["genant_grade"] or 0)
    values["fracture_found" if grade else "false_alarm"].append(float(fractured))
    if grade:
        values[f"sensitivity_grade_{grade}"].append(float(fractured))


def _judged(vertebra: Vertebra, entry: Mapping[str, Any], worst: int | None) -> BodyAnswer | None:
    """None where the body was not measured, or has no grade."""
    if vertebra.heights_mm is None or vertebra.genant_grade is None or entry["genant_grade"] is None:
        return None
    middle = next((plane for plane in vertebra.planes if plane.aside_mm == 0), None)
    # The true heights are those of the middle.
    own = vertebra.heights_mm if middle is None else middle.heights_mm
    names = ("anterior", "middle", "posterior")
    true_mm = entry["heights_mm"] or dict.fromkeys(names, math.nan)
    return BodyAnswer(
        (int(entry["genant_grade"]), worst, vertebra.genant_grade),
        (
            str(entry["deformity"] or "none") if "deformity" in entry else "",
            str(vertebra.deformity or "none"),
        ),
        float(vertebra.fracture_probability or 0.0),
        bool(entry["genant_grade"]),
        np.array([(float(true_mm[name]), float(getattr(own, name))) for name in names]),
    )


def _worst_grades(truth: Sequence[Mapping[str, Any]]) -> dict[Level, int]:
    """The true grade of each body in the worst of its planes, graded among the neighbours' same plane."""
    planes: list[dict[Level, Heights]] = [{}, {}, {}]
    for entry in truth:
        if entry["six_points"] is None or entry["heights_mm"] is None:
            continue
        beside = entry.get("beside") or [entry, entry]
        for spine, plane in zip(planes, (entry, *beside), strict=True):
            told = plane["heights_mm"]
            spine[Level(entry["level"])] = Heights(told["anterior"], told["middle"], told["posterior"])
    gradings = [grade_spine(spine) for spine in planes]
    return {level: max(graded[level].grade for graded in gradings) for level in gradings[0]}


def _is_broken(vertebra: Vertebra, truth: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the true vertebra in that place is."""
    entry = min(truth, key=lambda item: _distance(vertebra, item))
    return _distance(vertebra, entry) <= IDENTIFIED_MM and bool(entry["genant_grade"])


def _whole(entry: Mapping[str, Any], volume: Volume) -> bool:
    extent = entry.get("extent_mm")
    if entry["six_points"] is None and extent is None:
        return False
    points = np.array(extent if entry["six_points"] is None else list(entry["six_points"].values()))
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
