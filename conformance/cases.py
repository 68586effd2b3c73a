"""The studies of the conformance suite by name: every geometry and modality, and every odd sort of result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from conformance import films, mr_studies
from conformance.films import Dress, make_film_study
from conformance.grids import FURTHER_GRIDS, GRIDS, WHOLE_SPINE, Grid
from conformance.mr_studies import MrDress, make_mr_study
from conformance.spines import ONE_BODY, SPINE, SUPERNUMERARY, WHOLE, Block
from conformance.studies import make_study
from dicom_ai_node.report import Analysis, Reason, SpineReport
from dicom_ai_node.results.encode import ResultObject, encode
from dicom_ai_node.results.source import SourceSeries


@dataclass(frozen=True)
class Encoded:
    """A study of known truth and its results in a folder."""

    analysis: Analysis
    source: SourceSeries
    objects: tuple[ResultObject, ...]
    folder: Path


Make = Callable[[Path], tuple[Analysis, SourceSeries]]


def encoded(name: str, folder: Path) -> Encoded:
    """Makes the study of that name below a folder."""
    analysis, source = CASES[name](folder / "source")
    objects = encode(analysis, source, folder / "results", secondary_capture=True)
    return Encoded(analysis, source, tuple(objects), folder / "results")


def _ct(
    folder: Path, *, grid: Grid, spine: tuple[Block, ...] = SPINE, lost: tuple[int, ...] = ()
) -> tuple[Analysis, SourceSeries]:
    study = make_study(grid, folder, spine=spine, lost=lost)
    return study.analysis, study.source


def _mr(folder: Path, *, dress: MrDress) -> tuple[Analysis, SourceSeries]:
    study = make_mr_study(dress, folder)
    return study.analysis, study.source


def _film(folder: Path, *, dress: Dress) -> tuple[Analysis, SourceSeries]:
    folder.mkdir(parents=True, exist_ok=True)
    study = make_film_study(dress, folder)
    return study.analysis, study.source


def _without_label_map(folder: Path, *, make: Make) -> tuple[Analysis, SourceSeries]:
    analysis, source = make(folder)
    return Analysis(analysis.report), source


def _refused(folder: Path, *, make: Make, reason: Reason) -> tuple[Analysis, SourceSeries]:
    analysis, source = make(folder)
    refusal = SpineReport("not-analysable", analysis.report.source, reasons=(reason,))
    # What could not be read as a volume or a film is known by its files alone.
    return Analysis(refusal), SourceSeries(source.paths)


_AXIAL: Final = partial(_ct, grid=GRIDS[0])
_UPRIGHT: Final = partial(_film, dress=films.DRESSES[0])
_SIEMENS: Final = partial(_mr, dress=mr_studies.DRESSES[0])

CASES: Final[dict[str, Make]] = {
    **{grid.name: partial(_ct, grid=grid) for grid in (*GRIDS, *FURTHER_GRIDS)},
    "axial, two slices lost": partial(_ct, grid=GRIDS[0], lost=(31, 60)),
    "axial, one vertebra": partial(_ct, grid=GRIDS[0], spine=ONE_BODY),
    "axial, twenty-four vertebrae": partial(_ct, grid=WHOLE_SPINE, spine=WHOLE),
    "axial, T13 and L6": partial(_ct, grid=GRIDS[0], spine=SUPERNUMERARY),
    "sagittal, one vertebra": partial(_ct, grid=GRIDS[8], spine=ONE_BODY),
    "no label map": partial(_without_label_map, make=_AXIAL),
    "not analysable": partial(
        _refused,
        make=_AXIAL,
        reason=Reason("geometry", "Slices 40 and 41 are 7.5 mm apart, the others 3 mm."),
    ),
    **{
        f"MR: {dress.name}": partial(_mr, dress=dress)
        for dress in (*mr_studies.DRESSES, *mr_studies.FURTHER_DRESSES)
    },
    "MR: not analysable": partial(
        _refused, make=_SIEMENS, reason=Reason("no-spine", "No vertebral body was found.")
    ),
    **{
        f"film: {dress.name}": partial(_film, dress=dress)
        for dress in (*films.DRESSES, *films.FURTHER_DRESSES)
    },
    "film: no label map": partial(_without_label_map, make=_UPRIGHT),
    "film: not analysable": partial(
        _refused, make=_UPRIGHT, reason=Reason("orientation", "The film is no lateral view of a spine.")
    ),
}
"""Name -> what writes the study and analyses it by looking at the truth."""
