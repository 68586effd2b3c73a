"""`encode`: one analysis to its result files in a folder, the same bytes for the same call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydicom.dataset import FileDataset

from dicom_ai_node.imaging.film_picture import film_sheet
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.imaging.picture import sagittal_sheet
from dicom_ai_node.imaging.reformat import FlatReformat
from dicom_ai_node.imaging.sheet import Body, Sheet
from dicom_ai_node.presets import ResultKind, SegmentationForm
from dicom_ai_node.report import Analysis, Reason
from dicom_ai_node.results.canvas import Canvas, canvas_of, canvases_of_slices
from dicom_ai_node.results.capture import encode_capture
from dicom_ai_node.results.encapsulated import encode_pdf
from dicom_ai_node.results.explanations import Thresholds
from dicom_ai_node.results.film_display import canvas_of_film
from dicom_ai_node.results.film_views import found_pose, views_on_film
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.language import LANGUAGES, Language, LanguageTag
from dicom_ai_node.results.modules import Stamp
from dicom_ai_node.results.overview import draw_key_picture, draw_overview
from dicom_ai_node.results.page import page_of
from dicom_ai_node.results.page_html import html_page
from dicom_ai_node.results.page_pdf import pdf_page
from dicom_ai_node.results.presentation import encode_presentation
from dicom_ai_node.results.reformat import encode_reformat, spine_plane
from dicom_ai_node.results.rendition import Rendition, distinct
from dicom_ai_node.results.seg import encode_segmentation
from dicom_ai_node.results.source import ImageReference, SourceImages, SourceSeries, read_source
from dicom_ai_node.results.sr import encode_report
from dicom_ai_node.results.views import VertebraView, is_sagittal, views_on_reformat, views_on_slices


@dataclass(frozen=True)
class ResultObject:
    """One DICOM object that was written; `variant` tells the forms of one kind apart (`Rendition.takes`)."""

    kind: ResultKind
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    variant: str = ""


@dataclass(frozen=True)
class _Manner:
    """How what a human reads is written."""

    language: Language
    thresholds: Thresholds | None


def encode(
    analysis: Analysis,
    source: SourceSeries,
    folder: Path,
    settings: Thresholds | None = None,
    *,
    timestamp: datetime | None = None,
    renditions: Sequence[Rendition] = (Rendition(),),
    secondary_capture: bool = False,
    overlay: bool = True,
    page: bool = False,
    pose: FilmPose | None = None,
    language: LanguageTag = "en",
) -> list[ResultObject]:
    """Writes report.json, sr.dcm and, where there is something to show, seg.dcm, reformat.dcm, pr-<n>.dcm,
    sc-1.dcm and overlay.png into `folder`; pdf.dcm, and the page as report.html and report.pdf, where wanted.

    Args:
        analysis: with its label map on the grid of `source.volume` or on the pixels of `source.radiograph`.
        source: the analysed series; without a volume or a radiograph there is a report only.
        folder: is made where it is missing.
        settings: thresholds to name in the structured report where the analysis does not name them.
        timestamp: the date and time that results carry; None takes the source's.
        renditions: the forms that results are needed in, at least one. The first form of a kind is written
            as seg.dcm or sr.dcm, others as seg-<variant>.dcm, sr-<variant>.dcm.
        secondary_capture: whether the overview picture becomes a Secondary Capture, whatever the renditions.
        overlay: whether the overview picture is written as overlay.png.
        page: whether the report of one page is written as report.html and report.pdf.
        pose: how presentation state and overview turn a radiograph. None leaves it in the presentation state
            as it is stored, and turns the overview head up where the findings tell how.
        language: of what a human reads in report, page and pictures.

    Returns:
        The DICOM objects, those that others refer to first.

    Raises:
        EncodingError: the label map does not lie on the source's grid, or no source file can be read.
    """
    # pydicom's warnings would quote the values of odd source headers.
    with reading_quietly():
        images = read_source(source)
        identity = ResultIdentity.of(
            images.study_instance_uid,
            (reference.sop_instance_uid for reference in images.everything),
            analysis.report.algorithms,
            analysis.prior,
        )
        stamp = Stamp.of(images.header, timestamp)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(analysis.report.to_json() + "\n", encoding="utf-8")
        named = _with_thresholds(analysis, settings)
        manner = _Manner(LANGUAGES[language], settings)
        written = [
            _write(kind, folder / f"{name}.dcm", dataset, variant)
            for kind, name, variant, dataset in _objects(
                named, source, images, identity, stamp, manner=manner, pose=pose, renditions=renditions
            )
        ]
        capture = secondary_capture or any("sc" in item.kinds for item in renditions)
        document = any("pdf" in item.kinds for item in renditions)
        drawn = _sheet(analysis, source, pose) if overlay or capture or page or document else None
        if drawn is not None and (overlay or capture):
            picture = draw_overview(*drawn, analysis.report, manner.language)
            if overlay:
                picture.save(folder / "overlay.png")
            if capture:
                key_image = encode_capture(
                    picture, analysis, images, identity, stamp, language=manner.language
                )
                written.append(_write("sc", folder / "sc-1.dcm", key_image))
        if page or document:
            words = page_of(analysis, images, manner.language)
            small = None if drawn is None else draw_key_picture(*drawn)
            data = pdf_page(words, small)
            if page:
                (folder / "report.html").write_text(html_page(words, small), encoding="utf-8")
                (folder / "report.pdf").write_bytes(data)
            if document:
                encapsulated = encode_pdf(data, analysis, images, identity, stamp, language=manner.language)
                written.append(_write("pdf", folder / "pdf.dcm", encapsulated))
    return written


def _sheet(
    analysis: Analysis, source: SourceSeries, pose: FilmPose | None
) -> tuple[Sheet, list[Body]] | None:
    """What the pictures are drawn on; None where the source is neither volume nor film."""
    if source.volume is not None:
        return sagittal_sheet(source.volume, analysis)
    if source.radiograph is None:
        return None
    found = found_pose(analysis.report)
    told = found or source.radiograph.pose or FilmPose()
    # Turned, but no mirror image unless asked for: in that the film's markers could not be read.
    return film_sheet(source.radiograph, analysis, pose or FilmPose(told.quarters), found)


def _objects(
    analysis: Analysis,
    source: SourceSeries,
    images: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    manner: _Manner,
    pose: FilmPose | None,
    renditions: Sequence[Rendition],
) -> Iterator[tuple[ResultKind, str, str, FileDataset]]:
    """(kind, name of the file without its suffix, variant, object)."""
    segmentations: dict[SegmentationForm, FileDataset] = {}
    for item in distinct(renditions, "seg", lambda item: item.segmentation_variant):
        form, variant = item.segmentation, item.segmentation_variant
        segmentation = encode_segmentation(
            analysis, images, identity, stamp, form=form, compression=item.compression
        )
        if segmentation is not None:
            yield "seg", _named("seg", variant, first=not segmentations), variant, segmentation
            segmentations.setdefault(form, segmentation)
    plane = _plane(analysis, source)
    reformat = None
    canvases: list[tuple[Canvas, tuple[VertebraView, ...]]]
    if plane is not None:
        reformat = encode_reformat(plane, analysis, images, identity, stamp)
        yield "reformat", "reformat", "", reformat
        image = ImageReference(str(reformat.SOPClassUID), str(reformat.SOPInstanceUID))
        views = views_on_reformat(analysis, plane, image)
        canvases = [(canvas_of(reformat), views)] if views else []
    elif source.radiograph is not None:
        views = views_on_film(analysis, images)
        canvases = [(canvas_of_film(source.radiograph, pose), views)] if views else []
    else:
        views = views_on_slices(analysis, images)
        canvases = canvases_of_slices(views, images, source.volume)
    for number, (canvas, drawn) in enumerate(canvases, start=1):
        state = encode_presentation(
            analysis,
            images,
            identity,
            stamp,
            views=drawn,
            canvas=canvas,
            number=number,
            language=manner.language,
        )
        yield "pr", f"pr-{number}", "", state
    for number, item in enumerate(distinct(renditions, "sr", lambda item: item.report_variant)):
        report = encode_report(
            analysis,
            images,
            identity,
            stamp,
            segmentation=segmentations.get(item.segmentation) if "seg" in item.kinds else None,
            reformat=reformat,
            views=views,
            language=manner.language,
            box=item.box,
            thresholds=manner.thresholds,
            beside=item.beside_report,
        )
        yield "sr", _named("sr", item.report_variant, first=number == 0), item.report_variant, report


def _named(kind: str, variant: str, *, first: bool) -> str:
    return kind if first else f"{kind}-{variant}"


def _write(kind: ResultKind, path: Path, dataset: FileDataset, variant: str = "") -> ResultObject:
    dataset.save_as(path, enforce_file_format=True)
    return ResultObject(kind, path, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID), variant)


def _with_thresholds(analysis: Analysis, settings: Thresholds | None) -> Analysis:
    """The analysis, with a limitation that names the thresholds if it has none and graded anything."""
    report = analysis.report
    graded = any(vertebra.genant_grade is not None for vertebra in report)
    if settings is None or not graded or any(item.code == "thresholds" for item in report.limitations):
        return analysis
    mild, moderate, severe = (
        f"{100 * loss:g} %"
        for loss in (settings.genant_mild, settings.genant_moderate, settings.genant_severe)
    )
    words = f"Genant: height loss from {mild} is grade 1, over {moderate} grade 2, over {severe} grade 3."
    limitations = (*report.limitations, Reason("thresholds", words))
    return replace(analysis, report=replace(report, limitations=limitations))


def _plane(analysis: Analysis, source: SourceSeries) -> FlatReformat | None:
    """A sagittal plane where a volume does not show one itself and something was found."""
    volume = source.volume
    if volume is None:
        return None
    if is_sagittal(volume.affine) or volume.frame_of_reference_uid is None:
        return None
    placed = any(vertebra.center_mm is not None for vertebra in analysis.report)
    return spine_plane(volume, analysis) if placed else None
