"""`encode`: one analysis to its result files in a folder, the same bytes for the same call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydicom.dataset import FileDataset

from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.imaging.picture import sagittal_overview
from dicom_ai_node.imaging.reformat import FlatReformat
from dicom_ai_node.report import Analysis
from dicom_ai_node.results.capture import encode_capture
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.modules import Stamp
from dicom_ai_node.results.presentation import canvas_of, canvases_of_slices, encode_presentation
from dicom_ai_node.results.reformat import encode_reformat, spine_plane
from dicom_ai_node.results.seg import encode_segmentation
from dicom_ai_node.results.source import ImageReference, SourceImages, SourceSeries, read_source
from dicom_ai_node.results.sr import encode_report
from dicom_ai_node.results.views import VertebraView, is_sagittal, views_on_reformat, views_on_slices

ResultKind = Literal["sr", "seg", "pr", "sc", "reformat"]


@dataclass(frozen=True)
class EncodeSettings:
    """How results are written.

    Attributes:
        timestamp: the date and time that results carry; None takes the source's.
        secondary_capture: whether the overview picture becomes a Secondary Capture as well.
        overlay: whether the overview picture is written as overlay.png.
    """

    timestamp: datetime | None = None
    secondary_capture: bool = False
    overlay: bool = True


DEFAULT: Final = EncodeSettings()


@dataclass(frozen=True)
class ResultObject:
    """One DICOM object that was written."""

    kind: ResultKind
    path: Path
    sop_class_uid: str
    sop_instance_uid: str


def encode(
    analysis: Analysis, source: SourceSeries, folder: Path, settings: EncodeSettings = DEFAULT
) -> list[ResultObject]:
    """Writes report.json, sr.dcm and, where there is something to show, seg.dcm, reformat.dcm, pr-<n>.dcm,
    sc-1.dcm and overlay.png into `folder`.

    Args:
        analysis: with its label map on the grid of `source.volume`.
        source: the analysed series; without a volume there is a report only.
        folder: is made where it is missing.

    Returns:
        The DICOM objects, those that others refer to first.

    Raises:
        EncodingError: the label map does not lie on the source's grid, or no source file can be read.
    """
    # pydicom's warnings would quote the values of odd source headers.
    with reading_quietly():
        return _encode(analysis, source, folder, settings)


def _encode(
    analysis: Analysis, source: SourceSeries, folder: Path, settings: EncodeSettings
) -> list[ResultObject]:
    folder.mkdir(parents=True, exist_ok=True)
    images = read_source(source)
    identity = ResultIdentity.of(
        images.study_instance_uid,
        (reference.sop_instance_uid for reference in images.instances),
        analysis.report.algorithms,
    )
    stamp = Stamp.of(images.header, settings.timestamp)
    (folder / "report.json").write_text(analysis.report.to_json() + "\n", encoding="utf-8")
    written: list[ResultObject] = []

    def write(kind: ResultKind, name: str, dataset: FileDataset) -> None:
        path = folder / f"{name}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        written.append(ResultObject(kind, path, str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)))

    segmentation = encode_segmentation(analysis, images, identity, stamp)
    if segmentation is not None:
        write("seg", "seg", segmentation)
    plane = _plane(analysis, source)
    reformat = None if plane is None else encode_reformat(plane, analysis, images, identity, stamp)
    if reformat is not None:
        write("reformat", "reformat", reformat)
    views = _views(analysis, images, plane, reformat)
    canvases = (
        ([(canvas_of(reformat), views)] if views else [])
        if reformat is not None
        else canvases_of_slices(views, images)
    )
    for number, (canvas, drawn) in enumerate(canvases, start=1):
        state = encode_presentation(
            analysis, images, identity, stamp, views=drawn, canvas=canvas, number=number
        )
        write("pr", f"pr-{number}", state)
    report = encode_report(
        analysis, images, identity, stamp, segmentation=segmentation, reformat=reformat, views=views
    )
    write("sr", "sr", report)
    if source.volume is not None and (settings.overlay or settings.secondary_capture):
        picture = sagittal_overview(source.volume, analysis)
        if settings.overlay:
            picture.save(folder / "overlay.png")
        if settings.secondary_capture:
            write("sc", "sc-1", encode_capture(picture, analysis, images, identity, stamp))
    return written


def _plane(analysis: Analysis, source: SourceSeries) -> FlatReformat | None:
    """A sagittal plane where the source does not show one itself and something was found."""
    volume = source.volume
    if volume is None or is_sagittal(volume.affine) or volume.frame_of_reference_uid is None:
        return None
    placed = any(vertebra.center_mm is not None for vertebra in analysis.report)
    return spine_plane(volume, analysis) if placed else None


def _views(
    analysis: Analysis, images: SourceImages, plane: FlatReformat | None, reformat: FileDataset | None
) -> tuple[VertebraView, ...]:
    if plane is None or reformat is None:
        return views_on_slices(analysis, images)
    image = ImageReference(str(reformat.SOPClassUID), str(reformat.SOPInstanceUID))
    return views_on_reformat(analysis, plane, image)


def kinds(objects: Iterable[ResultObject]) -> tuple[ResultKind, ...]:
    """Which kinds of objects there are, each once."""
    return tuple(dict.fromkeys(item.kind for item in objects))
