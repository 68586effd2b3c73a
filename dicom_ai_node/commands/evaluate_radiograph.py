"""The whole pipeline of radiographs against phantom films: instances, names, heights, grades, ages."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level, order, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.film_picture import film_sheet
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.film_spacing import FilmSpacing
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.imaging.volume import SliceRef
from dicom_ai_node.pipelines.radiograph import RadiographPipeline
from dicom_ai_node.report import Analysis, Vertebra
from dicom_ai_node.results.film_views import found_pose
from dicom_ai_node.results.overview import draw_overview
from dicom_ai_node.training.classification_metrics import area_under_roc, weighted_kappa
from dicom_ai_node.training.detection_metrics import (
    Instances,
    average_precision,
    box_overlaps,
    image_measures,
    mean_average_precision,
)
from dicom_ai_node.training.films import (
    ACUITIES,
    Film,
    FilmVertebra,
    load_film,
    phantom_film,
    polygon_mask,
    save_film,
)

WHOLE: Final = 0.95
"""A body of which more lies in the field counts as in view; others are neither missed nor false."""

FRACTURE_CLASSES: Final = tuple(
    level for level in Level if order(Level.T4) <= order(level) <= order(Level.L6)
)
"""The classes of the average precision: a fracture at each level (P0)."""

_MASK_ROWS: Final = 640
_PIXELS: Final = 2_000_000


@dataclass
class _Tally:
    """What is told over all films together."""

    found: list[Instances] = field(default_factory=list)
    truth: list[Instances] = field(default_factory=list)
    said: list[bool] = field(default_factory=list)
    true: list[bool] = field(default_factory=list)
    grades: Counter[tuple[int, int]] = field(default_factory=Counter)
    reported_grades: Counter[tuple[int, int]] = field(default_factory=Counter)
    types: Counter[tuple[str, str]] = field(default_factory=Counter)
    ages: list[tuple[list[float], int]] = field(default_factory=list)


def evaluate_radiographs(
    models: Path,
    seeds: Iterable[int],
    say: Callable[[str], None],
    *,
    pool: Path | None = None,
    plots: Path | None = None,
) -> tuple[list[Mapping[str, Sequence[float]]], dict[str, Any]]:
    """Rows per film (quantity -> values per vertebra), and what is told over all films together.

    Args:
        models: folder of the bundles.
        seeds: of realistic phantoms.
        say: gets a line per film.
        pool: folder where films are looked for, and kept when made.
        plots: every film with what was found is drawn into this folder.
    """
    pipeline = RadiographPipeline.load(models, torch.device("cpu"))
    rows: list[Mapping[str, Sequence[float]]] = []
    tally = _Tally()
    for seed in seeds:
        film = _film(seed, pool)
        radiograph = radiograph_of(film)
        try:
            analysis = pipeline.analyse(radiograph)
        except NotAnalysable as refusal:
            rows.append({"not_analysable_film": [1.0]})
            say(f"film {seed}: not analysable: {refusal}")
            continue
        if plots is not None:
            plots.mkdir(parents=True, exist_ok=True)
            sheet = film_sheet(radiograph, analysis, FilmPose(), found_pose(analysis.report))
            draw_overview(*sheet, analysis.report).save(plots / f"film-{seed:05d}.png")
        row = _row(analysis, film, tally)
        rows.append({"not_analysable_film": [0.0], **row})
        say(f"film {seed}: {sum(row['level_right']):.0f} of {len(row['found'])} found and named")
    return rows, _tables(tally)


def _film(seed: int, pool: Path | None) -> Film:
    kept = None if pool is None else pool / f"film-{seed:05d}.npz"
    if kept is not None and kept.exists():
        return load_film(kept)
    film = phantom_film(seed, training=False, max_pixels=_PIXELS)
    if pool is not None:
        save_film(film, pool)
    return film


def realistic_film(seed: int) -> Radiograph:
    """The film of a seed that the pipeline is judged on, as it gets it."""
    return radiograph_of(_film(seed, None))


def radiograph_of(film: Film) -> Radiograph:
    """The film as the pipeline gets it, without the way over DICOM."""
    uid = f"1.2.{zlib.crc32(film.name.encode())}"
    instance = SliceRef("1.2.840.10008.5.1.4.1.1.1.1", uid, 1, Path(film.name))
    spacing = None
    if film.spacing_mm is not None:
        spacing = FilmSpacing(film.spacing_mm, film.spacing_mm, "magnification")
    pixels = film.pixels.astype(np.float32) / np.float32(np.iinfo(film.pixels.dtype).max)
    return Radiograph(pixels, instance, "1.2", "1.3", "DX", spacing, None)


def _row(analysis: Analysis, film: Film, tally: _Tally) -> dict[str, list[float]]:
    row: dict[str, list[float]] = {
        name: []
        for name in (
            "found", "level_right", "height_error", "grade_right", "fracture_found", "false_alarm",
            "not_judged", "overlap", "acuity_right", "found_t4_to_l5",
        )
    }  # fmt: skip
    answers = list(analysis.report)
    boxes = np.array([_box(item) for item in answers]).reshape(-1, 4)
    true = [item for item in film.vertebrae if item.level is not Level.S1]
    # Of a body that leaves the film only what lies on it can be found.
    edges = np.array([*film.pixels.shape, *film.pixels.shape], dtype=np.float64) - 1
    on_film = np.clip(np.array([item.box for item in true]).reshape(-1, 4), 0, edges)
    overlaps = box_overlaps(on_film, boxes)
    partners: dict[int, int] = {}
    for number, values in enumerate(overlaps):
        if values.size and values.max() >= 0.4:
            partners[number] = int(values.argmax())
    free = set(range(len(answers))) - set(partners.values())
    row["false_per_film"] = [float(len(free))]
    for number, vertebra in enumerate(true):
        if vertebra.visible < WHOLE:
            continue
        row["found"].append(float(number in partners))
        if order(Level.T4) <= order(vertebra.level) <= order(Level.L6):
            # What lies higher, the shoulders hide.
            row["found_t4_to_l5"].append(float(number in partners))
        if number not in partners:
            continue
        answer = answers[partners[number]]
        row["overlap"].append(float(overlaps[number, partners[number]]))
        row["level_right"].append(float(answer.level is vertebra.level))
        _measures(row, tally, vertebra, answer)
    _instances(analysis, film, tally)
    return row


def _measures(row: dict[str, list[float]], tally: _Tally, vertebra: FilmVertebra, answer: Vertebra) -> None:
    row["not_judged"].append(float(answer.six_points is None))
    if answer.six_points is not None and vertebra.six_points is not None:
        found, true = (
            np.linalg.norm(points[0::2] - points[1::2], axis=1)
            for points in (answer.six_points.to_array(), vertebra.six_points)
        )
        row["height_error"] += (np.abs(found - true) / true).tolist()
    if answer.genant_grade is not None and vertebra.grade is not None:
        tally.grades[vertebra.grade, answer.genant_grade] += 1
        # A body that its heights grade and the report calls no fracture is normal to who acts on it.
        tally.reported_grades[vertebra.grade, answer.genant_grade if answer.fractured else 0] += 1
        row["grade_right"].append(float(vertebra.grade == answer.genant_grade))
        if vertebra.grade:
            tally.types[str(vertebra.deformity), str(answer.deformity)] += 1
    if vertebra.grade is not None:
        # Of every body that was found: a fracture that nobody could measure and nobody tells was missed.
        row["fracture_found" if vertebra.fractured else "false_alarm"].append(float(bool(answer.fractured)))
    said = answer.classes.get("radiograph-acuity")
    if said is not None and vertebra.acuity is not None:
        values = [said[name] for name in ACUITIES]
        number = ACUITIES.index(vertebra.acuity)
        tally.ages.append((values, number))
        row["acuity_right"].append(float(int(np.argmax(values)) == number))


def _instances(analysis: Analysis, film: Film, tally: _Tally) -> None:
    """Fractures as P0's instances: by level, with masks on a picture of 640 rows."""
    assert analysis.label_map is not None
    labels = analysis.label_map.labels[0]
    step = max(1, labels.shape[0] // _MASK_ROWS)
    small = labels[::step, ::step]
    broken = [
        item for item in analysis.report if item.fracture_probability and item.level in FRACTURE_CLASSES
    ]
    tally.found.append(
        Instances(
            np.array([FRACTURE_CLASSES.index(item.level) for item in broken], dtype=np.int64),
            np.array([_box(item) for item in broken]).reshape(-1, 4),
            np.array([(item.fracture_probability or 0.0) * item.level_confidence for item in broken]),
            [small == verse_label(item.level) for item in broken],
        )
    )
    true = [
        item
        for item in film.vertebrae
        if item.fractured and item.visible >= WHOLE and item.level in FRACTURE_CLASSES
    ]
    tally.truth.append(
        Instances(
            np.array([FRACTURE_CLASSES.index(item.level) for item in true], dtype=np.int64),
            np.array([item.box for item in true]).reshape(-1, 4),
            masks=[polygon_mask(item.outline / step, (small.shape[0], small.shape[1])) for item in true],
        )
    )
    tally.said.append(any(item.fractured for item in analysis.report))
    tally.true.append(bool(true))


def _tables(tally: _Tally) -> dict[str, Any]:
    numbers = list(range(len(FRACTURE_CLASSES)))
    boxes = mean_average_precision(tally.found, tally.truth, numbers)
    masks = mean_average_precision(tally.found, tally.truth, numbers, masks=True)
    together = {f"box_{name}": value for name, value in boxes.items()}
    together |= {f"mask_{name}": value for name, value in masks.items()}
    together |= {f"image_{name}": value for name, value in image_measures(tally.said, tally.true).items()}
    for name, pairs in (("grade", tally.grades), ("reported_grade", tally.reported_grades)):
        together[f"{name}_kappa"] = kappa(pairs)
        together[f"{name}_weighted_kappa"] = weighted_kappa(_counts(pairs))
    if tally.ages:
        values = np.array([item for item, _ in tally.ages])
        true = np.array([number for _, number in tally.ages])
        together |= {
            f"auc_{name}": area_under_roc(values[:, number], true == number)
            for number, name in enumerate(ACUITIES)
        }
    return {
        "fractures_by_level": _precision_by_level(tally),
        "together": {name: None if np.isnan(value) else float(value) for name, value in together.items()},
        "grades_truth_found": _arrows(tally.grades),
        "grades_truth_reported": _arrows(tally.reported_grades),
        "types_truth_found": _arrows(tally.types),
    }


def _arrows(pairs: Mapping[tuple[int, int], int] | Mapping[tuple[str, str], int]) -> dict[str, int]:
    """``{"0>1": 3}``: so many were told 1 and are 0."""
    return {f"{truth}>{found}": n for (truth, found), n in sorted(pairs.items())}


def _precision_by_level(tally: _Tally) -> dict[str, dict[str, float]]:
    """Level -> average precision of its fractures, boxes and masks (P0); levels without any left out."""
    numbers = list(range(len(FRACTURE_CLASSES)))
    tables = {
        kind: average_precision(tally.found, tally.truth, numbers, masks=kind == "mask")
        for kind in ("box", "mask")
    }
    return {
        level.value: {
            f"{kind}_{name}": float(value)
            for kind, table in tables.items()
            for name, value in (("ap_50", table[0, column]), ("ap_50_95", table[:, column].mean()))
        }
        for column, level in enumerate(FRACTURE_CLASSES)
        if not np.isnan(tables["box"][0, column])
    }


def kappa(pairs: Mapping[tuple[int, int], int], classes: int = 4) -> float:
    """Cohen's kappa, unweighted, of (truth, found) counts; NaN without any."""
    table = _counts(pairs, classes)
    total = table.sum()
    if not total:
        return float("nan")
    agreed = np.trace(table) / total
    chance = float((table.sum(axis=0) * table.sum(axis=1)).sum()) / total**2
    return float((agreed - chance) / (1 - chance)) if chance < 1 else float("nan")


def _counts(pairs: Mapping[tuple[int, int], int], classes: int = 4) -> npt.NDArray[np.float64]:
    table = np.zeros((classes, classes))
    for (truth, found), count in pairs.items():
        table[truth, found] += count
    return table


def _box(vertebra: Vertebra) -> npt.NDArray[np.float64]:
    assert vertebra.box_px is not None
    rows, columns = vertebra.box_px.rows, vertebra.box_px.columns
    return np.array([rows[0], columns[0], rows[1], columns[1]])
