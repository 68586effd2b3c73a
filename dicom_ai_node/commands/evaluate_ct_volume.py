"""The whole CT pipeline against phantoms or labelled CT, told as P3 tells it (section 3.3, tables 2 to 4).

Where a vertebra is, how it is called and how it is judged are told apart: `ct_volume_answers` says how.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from rich.table import Table

from dicom_ai_node.commands.ct_volume_answers import (
    BodyAnswer,
    CaseAnswer,
    answer_beside,
    answer_of,
    volume_of_phantom,
    volume_of_voxels,
)
from dicom_ai_node.commands.outline_sheet import draw_outlines
from dicom_ai_node.commands.verse_cases import labelled_scans
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference.device import choose_device
from dicom_ai_node.phantom import render_ct, sample_ct_acquisition, sample_spine
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline
from dicom_ai_node.report import Analysis
from dicom_ai_node.training.classification_metrics import (
    area_under_roc,
    average_precision,
    confusion,
    weighted_kappa,
)
from dicom_ai_node.training.metrics import (
    clustered_intervals,
    summarise,
)

if TYPE_CHECKING:
    from rich.console import Console

GRADES: Final = 4
TYPES: Final = ("none", "wedge", "biconcave", "crush")

_SHOWN_HU: Final = (-200.0, 900.0)
"""What is black and white in pictures of outlines."""

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

SEGMENTATION: Final = "Segmentation of bodies (P3 tables 2 and 3)"

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
    SEGMENTATION: {
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
    pipeline = CtVolumePipeline.load(models, choose_device("auto"))
    cases = []
    for seed in seeds:
        spine = sample_spine(seed)
        phantom = render_ct(spine, sample_ct_acquisition(seed, spine))
        volume = volume_of_phantom(phantom)
        judge = partial(answer_of, taught=pipeline.levels, phantom=phantom, volume=volume)
        case = _Labelled(f"phantom-{seed}", volume, phantom.labels, judge)
        cases.append(_answered(pipeline, case, say, plots))
    _draw(plots, cases)
    return scores(cases)


def evaluate_folder(
    models: Path, folder: Path, say: Callable[[str], None], plots: Path | None = None
) -> dict[str, Any]:
    """As `evaluate`, on the labelled CT of a folder (`verse_cases.labelled_scans`).

    What its labels do not tell stays without a value; `untold` names those measures.

    Raises:
        ConfigurationError: the folder holds no cases, or a file that does not fit the others.
        UnreadableInstance: an image cannot be read.
        ModelError: a bundle is missing or was changed.
    """
    pipeline = CtVolumePipeline.load(models, choose_device("auto"))
    cases, untold = [], set(_NEEDED)
    for scan in labelled_scans(folder):
        untold &= {name for name in untold if not _tells(scan.vertebrae, _NEEDED[name])}
        volume = volume_of_voxels(scan.hu, scan.affine)
        judge = partial(
            answer_beside, taught=pipeline.levels, truth=scan.vertebrae, labels=scan.labels, volume=volume
        )
        case = _Labelled(scan.name, volume, scan.labels, judge)
        cases.append(_answered(pipeline, case, say, plots))
    _draw(plots, cases)
    return {**scores(cases), "untold": [name for name in _NEEDED if name in untold]}


@dataclass(frozen=True)
class _Labelled:
    """A CT whose truth is known, and who says what an analysis of it is worth."""

    name: str
    volume: Volume
    labels: npt.NDArray[np.uint8]
    judge: Callable[[Analysis], CaseAnswer]


def _answered(
    pipeline: CtVolumePipeline, case: _Labelled, say: Callable[[str], None], plots: Path | None
) -> CaseAnswer:
    try:
        analysis = pipeline.analyse(case.volume)
    except NotAnalysable as refusal:
        say(f"{case.name}: not analysable: {refusal}")
        return CaseAnswer({"not_analysable_case": [1.0]})
    if plots is not None:
        assert analysis.label_map is not None
        found = analysis.label_map.labels
        draw_outlines(plots / f"{case.name}.png", case.volume, found, case.labels, _SHOWN_HU)
    answer = case.judge(analysis)
    identified = answer.values["identified"]
    say(f"{case.name}: {sum(identified):.0f} of {len(identified)} identified")
    return answer


_NEEDED: Final[Mapping[str, str]] = {
    "height_error_mm": "heights_mm",
    "grade_right": "genant_grade",
    "grade_kappa": "genant_grade",
    "grade_kappa_worst_plane": "six_points",
    "type_right": "deformity",
    "sensitivity_grade_1": "genant_grade",
    "sensitivity_grade_2": "genant_grade",
    "sensitivity_grade_3": "genant_grade",
    "fracture_found": "genant_grade",
    "false_alarm": "genant_grade",
    "false_positives_per_patient": "genant_grade",
    "fracture_auc": "genant_grade",
    "fracture_ap": "genant_grade",
}
"""Measure -> what the truth must tell of vertebrae for it, beyond where they are."""


def _tells(truth: Sequence[Mapping[str, Any]], what: str) -> bool:
    # No deformity is told as None.
    return any(what in entry if what == "deformity" else entry.get(what) is not None for entry in truth)


def _draw(plots: Path | None, cases: Sequence[CaseAnswer]) -> None:
    if plots is None:
        return
    from dicom_ai_node.commands.ct_volume_plots import draw  # noqa: PLC0415 - loads matplotlib

    draw(plots / "ct-volume.png", [body for case in cases for body in case.bodies])


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
    """Counts, (4, 4): rows are the true grade, columns the one found; of bodies whose true grade is known."""
    pairs = [(body.grades[1 if worst_plane else 0], body.grades[2]) for body in bodies]
    known = [(true, said) for true, said in pairs if true is not None]
    return confusion([said for _, said in known], [true for true, _ in known], GRADES)


def show(console: Console, found: Mapping[str, Any]) -> None:
    """The tables of P3 of what `scores` gives."""
    for title in TABLES:
        console.print(paper_table(title, found))
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
        f"{found['n']} cases, {found['bodies']} bodies graded; intervals are over cases; "
        "P3 judged whole vertebrae of other patients"
    )
    if found.get("untold"):
        words = {name: said for names in TABLES.values() for name, said in names.items()}
        console.print(
            "Without a value, for the labels do not tell what they need (grades, heights, types): "
            + "; ".join(words[name] for name in found["untold"])
        )


def paper_table(title: str, found: Mapping[str, Any]) -> Table:
    """One of `TABLES` with P3's numbers beside, of `metrics` and `intervals` by the names of the measures."""
    table = Table("measure", "value", "95 % interval", "P3", box=None, title=title, title_justify="left")
    for name, words in TABLES[title].items():
        span = found["intervals"].get(name, [None, None])
        published = PUBLISHED.get(name)
        table.add_row(
            words,
            _words(found["metrics"].get(name)),
            f"{_words(span[0])} to {_words(span[1])}",
            "" if published is None else _words(published),
        )
    return table


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


def _finite(value: float) -> float | None:
    # JSON knows neither NaN nor infinity.
    return value if math.isfinite(value) else None


def _words(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
