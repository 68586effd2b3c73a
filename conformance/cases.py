"""The studies of the conformance suite by name: every geometry and modality, and every odd sort of result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

from pydicom.uid import Comprehensive3DSRStorage

from conformance import ct_slices, films, mr_studies
from conformance.ct_slices import SliceDress, make_slice_study, with_opinions
from conformance.films import Dress, make_film_study
from conformance.grids import FURTHER_GRIDS, GRIDS, WHOLE_SPINE, Grid
from conformance.mr_studies import MrDress, make_mr_study
from conformance.spines import ONE_BODY, SPINE, SUPERNUMERARY, WHOLE, Block
from conformance.studies import make_study
from dicom_ai_node.prior import PriorReport, PriorVertebra
from dicom_ai_node.report import Analysis, Reason, SpineReport
from dicom_ai_node.results.encode import ResultObject, encode
from dicom_ai_node.results.language import LANGUAGES, LanguageTag
from dicom_ai_node.results.rendition import Rendition
from dicom_ai_node.results.source import SourceSeries


@dataclass(frozen=True)
class Encoded:
    """A study of known truth and its results in a folder."""

    analysis: Analysis
    source: SourceSeries
    objects: tuple[ResultObject, ...]
    folder: Path


Make = Callable[[Path], tuple[Analysis, SourceSeries]]

RENDITIONS: Final = (
    Rendition(("seg", "sr", "pr", "reformat", "sc", "pdf")),
    Rendition(("seg", "sr"), segmentation="labelmap", compression="rle"),
)
"""Every kind, and both forms of the segmentation with a report beside each."""


def encoded(name: str, folder: Path) -> Encoded:
    """Makes the study of that name below a folder."""
    analysis, source = CASES[name](folder / "source")
    results = folder / "results"
    if name in LANGUAGES_OF:
        objects = encode(
            analysis, source, results, renditions=(Rendition(box="open"),), language=LANGUAGES_OF[name]
        )
    else:
        objects = encode(analysis, source, results, renditions=RENDITIONS)
    return Encoded(analysis, source, tuple(objects), results)


def _ct(
    folder: Path, *, grid: Grid, spine: tuple[Block, ...] = SPINE, lost: tuple[int, ...] = ()
) -> tuple[Analysis, SourceSeries]:
    study = make_study(grid, folder, spine=spine, lost=lost)
    return study.analysis, study.source


def _mr(folder: Path, *, dress: MrDress) -> tuple[Analysis, SourceSeries]:
    study = make_mr_study(dress, folder)
    return study.analysis, study.source


def _slices(folder: Path, *, dress: SliceDress) -> tuple[Analysis, SourceSeries]:
    study = make_slice_study(dress, folder)
    return study.analysis, study.source


def _with_opinions(folder: Path, *, make: Make) -> tuple[Analysis, SourceSeries]:
    """With diseases seen on planes that were cut out of the volume."""
    analysis, source = make(folder)
    return with_opinions(analysis), source


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


def _compared(folder: Path, *, make: Make) -> tuple[Analysis, SourceSeries]:
    """With an earlier report, in which each loss was half of what it is now."""
    analysis, source = make(folder)
    vertebrae = tuple(
        PriorVertebra(item.level, f"2.25.{number}", item.height_loss and 0.5 * item.height_loss, False)
        for number, item in enumerate(analysis.report, start=7001)
    )
    prior = PriorReport(
        "2.25.7", "2.25.70", Comprehensive3DSRStorage, "2.25.700", date(2022, 3, 4), "CT", False, vertebrae
    )
    return replace(analysis, prior=prior), source


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
    **{f"report in {LANGUAGES[tag].meaning}, open boxes": _AXIAL for tag in LANGUAGES if tag != "en"},
    "compared with an earlier report": partial(_compared, make=_AXIAL),
    **{f"CT slices: {dress.name}": partial(_slices, dress=dress) for dress in ct_slices.DRESSES},
    "CT with opinions on slices": partial(_with_opinions, make=_AXIAL),
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

LANGUAGES_OF: Final[dict[str, LanguageTag]] = {
    f"report in {LANGUAGES[tag].meaning}, open boxes": tag for tag in LANGUAGES if tag != "en"
}
"""Studies whose report is in another language."""
