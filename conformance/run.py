"""The conformance suite: every kind of result from studies in every geometry, through every validator.

Run as ``python -m conformance.run``; prints a table and exits with 0 (all content), 1 (a complaint) or
2 (a program is missing, so that nothing can be said).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Final

from pydicom.uid import Comprehensive3DSRStorage
from rich.console import Console
from rich.table import Table

from conformance import checks, ct_slices, mr_studies
from conformance.films import DRESSES, make_film_study
from conformance.studies import GRIDS, Study, make_study
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.prior import PriorReport, PriorVertebra
from dicom_ai_node.report import Analysis, Reason, SpineReport
from dicom_ai_node.results.encode import ResultObject, encode
from dicom_ai_node.results.language import LANGUAGES, LanguageTag
from dicom_ai_node.results.rendition import Rendition
from dicom_ai_node.results.source import SourceSeries
from dicom_ai_node.results.validate import validate

COLUMNS: Final = (
    "own checks",
    "dciodvfy",
    "dcmpschk",
    "dsrdump",
    "dcmqi masks",
    "dcmqi numbers",
    "highdicom",
    "round trip",
)

RENDITIONS: Final = (
    Rendition(("seg", "sr", "pr", "reformat", "sc", "pdf")),
    Rendition(("seg", "sr"), segmentation="labelmap", compression="rle"),
)
"""Every kind, and both forms of the segmentation with a report beside each."""

Checks = dict[str, Callable[[], list[str]]]


def main() -> int:
    """Runs everything; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="keep studies and results in this folder")
    arguments = parser.parse_args()
    if arguments.keep is not None:
        return _run(arguments.keep)
    with tempfile.TemporaryDirectory() as folder:
        return _run(Path(folder))


def _run(folder: Path) -> int:
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(
        title="Result objects, by study and validator", caption="ok: no complaint; -: does not apply"
    )
    table.add_column("study", no_wrap=True)
    table.add_column("objects", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column)
    complaints: list[str] = []
    missing: set[str] = set()
    for name, kinds, applicable in _studies(folder):
        cells = []
        for column in COLUMNS:
            check = applicable.get(column)
            if check is None:
                cells.append("-")
                continue
            try:
                found = check()
            except checks.ToolMissing as error:
                missing.add(str(error))
                cells.append("missing")
                continue
            cells.append("ok" if not found else f"{len(found)}")
            complaints += [f"{name}, {column}: {words}" for words in found]
        table.add_row(name, kinds, *cells)
    console.print(table)
    for line in complaints:
        console.print(line, style="red", soft_wrap=True)
    if missing:
        console.print(f"Not installed: {', '.join(sorted(missing))}", style="red")
    if complaints:
        return 1
    return 2 if missing else 0


def _studies(folder: Path) -> Iterator[tuple[str, str, Checks]]:
    """(name, kinds of objects, its checks) of every study."""
    for number, grid in enumerate(GRIDS, start=1):
        place = folder / f"ct-{number}"
        study = make_study(grid, place / "source")
        objects = encode(study.analysis, study.source, place / "results", renditions=RENDITIONS)
        yield grid.name, _kinds(objects), _checks(study, objects, place / "results")
    study = make_study(GRIDS[0], folder / "partial" / "source")
    for name, analysis, source in (
        ("no label map", Analysis(study.analysis.report), study.source),
        ("not analysable", _refusal(study), SourceSeries(study.source.paths)),
    ):
        results = folder / name.replace(" ", "-")
        objects = encode(analysis, source, results, renditions=RENDITIONS)
        partial = replace(study, analysis=analysis, source=source)
        yield name, _kinds(objects), _checks(partial, objects, results)
    yield from _other_reports(study, folder)
    for number, dress in enumerate(DRESSES, start=1):
        place = folder / f"film-{number}"
        place.mkdir(parents=True, exist_ok=True)
        film = make_film_study(dress, place)
        objects = encode(film.analysis, film.source, place / "results", renditions=RENDITIONS)
        # dcmqi places segments in a frame of reference, which a film has not.
        yield f"film: {dress.name}", _kinds(objects), _checks_of_any(objects, place / "results")
    for number, mr in enumerate(mr_studies.DRESSES, start=1):
        place = folder / f"mr-{number}"
        made = mr_studies.make_mr_study(mr, place)
        objects = encode(made.analysis, made.source, place / "results", renditions=RENDITIONS)
        yield f"mr: {mr.name}", _kinds(objects), _checks_of_any(objects, place / "results")
    for number, slices in enumerate(ct_slices.DRESSES, start=1):
        place = folder / f"ct-slices-{number}"
        shown = ct_slices.make_slice_study(slices, place)
        objects = encode(shown.analysis, shown.source, place / "results", renditions=RENDITIONS)
        yield f"ct slices: {slices.name}", _kinds(objects), _checks_of_any(objects, place / "results")
    study = make_study(GRIDS[0], folder / "opinions" / "source")
    judged = ct_slices.with_opinions(study.analysis)
    objects = encode(judged, study.source, folder / "opinions" / "results", renditions=RENDITIONS)
    yield (
        "ct with opinions on slices",
        _kinds(objects),
        _checks_of_any(objects, folder / "opinions" / "results"),
    )


def _other_reports(study: Study, folder: Path) -> Iterator[tuple[str, str, Checks]]:
    """The same study in the other languages with open boxes, and compared with an earlier report."""
    tags: tuple[LanguageTag, ...] = ("de", "fr", "es")
    for tag in tags:
        place = folder / f"language-{tag}"
        objects = encode(
            study.analysis, study.source, place, language=tag, renditions=[Rendition(box="open")]
        )
        yield (
            f"report in {LANGUAGES[tag].meaning}, open boxes",
            _kinds(objects),
            _checks(study, objects, place),
        )
    vertebrae = tuple(
        PriorVertebra(item.level, f"2.25.{number}", item.height_loss and 0.5 * item.height_loss, False)
        for number, item in enumerate(study.analysis.report, start=7001)
    )
    prior = PriorReport(
        "2.25.7", "2.25.70", Comprehensive3DSRStorage, "2.25.700", date(2022, 3, 4), "CT", False, vertebrae
    )
    place = folder / "compared"
    objects = encode(replace(study.analysis, prior=prior), study.source, place)
    # What changed is a number more than the analysis has: dcmqi's are compared elsewhere.
    yield "compared with an earlier report", _kinds(objects), _checks_of_any(objects, place)


def _refusal(study: Study) -> Analysis:
    reasons = (Reason("geometry", "Slices 40 and 41 are 7.5 mm apart, the others 3 mm."),)
    return Analysis(SpineReport("not-analysable", study.analysis.report.source, reasons=reasons))


def _checks(study: Study, objects: list[ResultObject], folder: Path) -> Checks:
    applicable = _checks_of_any(objects, folder)
    if any(item.kind == "seg" for item in objects):
        drawn = [item.path for item in objects if item.kind == "seg"]
        applicable["dcmqi masks"] = lambda: [
            words for path in drawn for words in checks.same_masks(study, path)
        ]
        applicable["dcmqi numbers"] = lambda: checks.same_numbers(study, folder / "sr.dcm")
    return applicable


def _checks_of_any(objects: list[ResultObject], folder: Path) -> Checks:
    states = [item.path for item in objects if item.kind == "pr"]
    applicable: Checks = {
        "own checks": lambda: _own(objects),
        "dciodvfy": lambda: [words for item in objects for words in checks.dciodvfy(item.path)],
        "dsrdump": lambda: checks.dsrdump(folder / "sr.dcm"),
        "highdicom": lambda: checks.highdicom_reads(folder),
        "round trip": lambda: [
            words for item in objects for words in checks.same_bytes_through_pydicom(item.path)
        ],
    }
    if states:
        applicable["dcmpschk"] = lambda: [words for path in states for words in checks.dcmpschk(path)]
    return applicable


def _own(objects: list[ResultObject]) -> list[str]:
    try:
        validate(objects)
    except EncodingError as error:
        return [str(error)]
    return []


def _kinds(objects: list[ResultObject]) -> str:
    return " ".join(item.kind for item in objects)


if __name__ == "__main__":
    sys.exit(main())
