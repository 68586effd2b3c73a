"""`encode`: one analysis to its result files in a folder, the same bytes for the same call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Literal

from PIL.Image import Image
from pydicom.dataset import FileDataset

from dicom_ai_node.imaging.film_picture import film_overview
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.imaging.picture import sagittal_overview
from dicom_ai_node.imaging.reformat import FlatReformat
from dicom_ai_node.report import Analysis, Reason
from dicom_ai_node.results.canvas import Canvas, canvas_of, canvases_of_slices
from dicom_ai_node.results.capture import encode_capture
from dicom_ai_node.results.content import BoxShape
from dicom_ai_node.results.explanations import Thresholds
from dicom_ai_node.results.film_display import canvas_of_film
from dicom_ai_node.results.film_views import found_pose, views_on_film
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.language import LANGUAGES, Language, LanguageTag
from dicom_ai_node.results.modules import Stamp
from dicom_ai_node.results.presentation import encode_presentation
from dicom_ai_node.results.reformat import encode_reformat, spine_plane
from dicom_ai_node.results.seg import encode_segmentation
from dicom_ai_node.results.source import ImageReference, SourceImages, SourceSeries, read_source
from dicom_ai_node.results.sr import encode_report
from dicom_ai_node.results.views import VertebraView, is_sagittal, views_on_reformat, views_on_slices

ResultKind = Literal["sr", "seg", "pr", "sc", "reformat"]


@dataclass(frozen=True)
class ResultObject:
    """One DICOM object that was written."""

    kind: ResultKind
    path: Path
    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class _Manner:
    """How the structured report is written."""

    language: Language
    box: BoxShape
    thresholds: Thresholds | None


def encode(
    analysis: Analysis,
    source: SourceSeries,
    folder: Path,
    settings: Thresholds | None = None,
    *,
    timestamp: datetime | None = None,
    secondary_capture: bool = False,
    overlay: bool = True,
    pose: FilmPose | None = None,
    language: LanguageTag = "en",
    box: BoxShape = "closed",
) -> list[ResultObject]:
    """Writes report.json, sr.dcm and, where there is something to show, seg.dcm, reformat.dcm, pr-<n>.dcm,
    sc-1.dcm and overlay.png into `folder`.

    Args:
        analysis: with its label map on the grid of `source.volume` or on the pixels of `source.radiograph`.
        source: the analysed series; without a volume or a radiograph there is a report only.
        folder: is made where it is missing.
        settings: thresholds to name in the structured report where the analysis does not name them.
        timestamp: the date and time that results carry; None takes the source's.
        secondary_capture: whether the overview picture becomes a Secondary Capture as well.
        overlay: whether the overview picture is written as overlay.png.
        pose: how presentation state and overview turn a radiograph. None leaves it in the presentation state
            as it is stored, and turns the overview head up where the findings tell how.
        language: of what a human reads in the structured report.
        box: how the structured report writes boxes on images.

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
        manner = _Manner(LANGUAGES[language], box, settings)
        written = [
            _write(kind, folder / f"{name}.dcm", dataset)
            for kind, name, dataset in _objects(
                named, source, images, identity, stamp, manner=manner, pose=pose
            )
        ]
        picture = _overview(analysis, source, pose) if overlay or secondary_capture else None
        if picture is not None:
            if overlay:
                picture.save(folder / "overlay.png")
            if secondary_capture:
                capture = encode_capture(picture, analysis, images, identity, stamp)
                written.append(_write("sc", folder / "sc-1.dcm", capture))
    return written


def _overview(analysis: Analysis, source: SourceSeries, pose: FilmPose | None) -> Image | None:
    if source.volume is not None:
        return sagittal_overview(source.volume, analysis)
    if source.radiograph is None:
        return None
    found = found_pose(analysis.report)
    told = found or source.radiograph.pose or FilmPose()
    # Turned, but no mirror image unless asked for: in that the film's markers could not be read.
    return film_overview(source.radiograph, analysis, pose or FilmPose(told.quarters), found)


def _objects(
    analysis: Analysis,
    source: SourceSeries,
    images: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    manner: _Manner,
    pose: FilmPose | None,
) -> Iterator[tuple[ResultKind, str, FileDataset]]:
    """(kind, name of the file without its suffix, object)."""
    segmentation = encode_segmentation(analysis, images, identity, stamp)
    if segmentation is not None:
        yield "seg", "seg", segmentation
    plane = _plane(analysis, source)
    reformat = None
    canvases: list[tuple[Canvas, tuple[VertebraView, ...]]]
    if plane is not None:
        reformat = encode_reformat(plane, analysis, images, identity, stamp)
        yield "reformat", "reformat", reformat
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
            analysis, images, identity, stamp, views=drawn, canvas=canvas, number=number
        )
        yield "pr", f"pr-{number}", state
    report = encode_report(
        analysis,
        images,
        identity,
        stamp,
        segmentation=segmentation,
        reformat=reformat,
        views=views,
        language=manner.language,
        box=manner.box,
        thresholds=manner.thresholds,
    )
    yield "sr", "sr", report


def _write(kind: ResultKind, path: Path, dataset: FileDataset) -> ResultObject:
    dataset.save_as(path, enforce_file_format=True)
    return ResultObject(kind, path, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))


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
    """A sagittal plane where a CT does not show one itself and something was found."""
    volume = source.volume
    if volume is None or volume.modality == "MR":
        return None
    if is_sagittal(volume.affine) or volume.frame_of_reference_uid is None:
        return None
    placed = any(vertebra.center_mm is not None for vertebra in analysis.report)
    return spine_plane(volume, analysis) if placed else None
