"""The findings as a Comprehensive 3D SR after TID 1500 Measurement Report (PS3.16; PS3.3 A.35.13).

One volumetric measurement group (TID 1411) per vertebra holds all that was measured and points to its
segment. TID 1411 allows either a segment or an image region, so the box on an image is a planar group
(TID 1410) of its own with the same tracking identifiers: readers that merge by tracking UID show both as
one. Where there is no segment, the planar group holds everything.

The same box in patient space is a third group. Nothing on a film has a volume: there a planar group with the
segment's frame holds everything, box and outline are planar groups of their own, and numbers name the points
that they were measured with.

What a human reads comes first, under a heading for which TID 1500, which is extensible, has no row:
Impressions (CID 7001), as a diagnostic report (TID 2000) has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_ai_node.presets import BoxShape
from dicom_ai_node.report import Analysis, SpineReport
from dicom_ai_node.results import codes
from dicom_ai_node.results.content import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    coded,
    container,
    day,
    image,
    number,
    text,
    uidref,
)
from dicom_ai_node.results.explanations import Thresholds, explanations, threshold_items
from dicom_ai_node.results.follow_up import other_evidence, previous_findings
from dicom_ai_node.results.groups import SegmentReference, measurement_groups
from dicom_ai_node.results.identity import DEVICE_UID, MANUFACTURER, MODEL_NAME, ResultIdentity, in_language
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.modules import SERIAL_NUMBER, Stamp, declare_private_codes, new_object
from dicom_ai_node.results.repertoire import settle_texts
from dicom_ai_node.results.source import ImageReference, SourceImages
from dicom_ai_node.results.views import VertebraView
from dicom_ai_node.results.wording import impression

SERIES_NUMBER: Final = 9102


@dataclass(frozen=True)
class DerivedObject:
    """Another object of the same results that the report refers to."""

    series_instance_uid: str
    reference: ImageReference

    @classmethod
    def of(cls, dataset: Dataset) -> DerivedObject:
        """The object in a data set."""
        reference = ImageReference(str(dataset.SOPClassUID), str(dataset.SOPInstanceUID))
        return cls(str(dataset.SeriesInstanceUID), reference)


def encode_report(
    analysis: Analysis,
    source: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    segmentation: Dataset | None = None,
    reformat: Dataset | None = None,
    views: Sequence[VertebraView] = (),
    language: Language = ENGLISH,
    box: BoxShape = "closed",
    thresholds: Thresholds | None = None,
    beside: str = "",
) -> FileDataset:
    """The structured report.

    Args:
        segmentation: the segmentation of the same analysis; its segments are referred to by level.
        reformat: the derived sagittal image, where there is one.
        views: where the vertebrae are drawn; gives the boxes.
        language: of what a human reads.
        box: how boxes on images are written. Another language or shape is another object of the same series.
        thresholds: what was graded with, for an analysis that does not say so itself.
        beside: what is special about the segmentation, another form or none; that too is another object.
    """
    report = analysis.report
    dataset = new_object(
        source,
        identity,
        report.algorithms,
        stamp,
        kind="-".join(filter(None, [in_language("sr", language), "" if box == "closed" else box, beside])),
        sop_class_uid=Comprehensive3DSRStorage,
        modality="SR",
        series_number=SERIES_NUMBER,
        series_description="AI spine report",
    )
    _document_modules(dataset, source, [item for item in (segmentation, reformat) if item is not None])
    segments = SegmentReference.by_level(segmentation, source)
    groups = measurement_groups(
        report,
        source,
        identity,
        segments,
        views,
        prior=analysis.prior,
        language=language,
        shape=box,
    )
    first = [container(codes.IMPRESSIONS, _impressions(analysis, language))]
    if analysis.prior is not None:
        dataset.PertinentOtherEvidenceSequence = [other_evidence(analysis.prior)]
        first.append(previous_findings(analysis.prior, language))
    children = [
        coded(HAS_CONCEPT_MOD, codes.LANGUAGE, language.code),
        *_observer(),
        *(coded(HAS_CONCEPT_MOD, codes.PROCEDURE_REPORTED, item) for item in _procedures(source.header)),
        *first,
        _image_library(source, reformat),
    ]
    if groups:
        children.append(container(codes.IMAGING_MEASUREMENTS, groups))
    children.append(container(codes.QUALITATIVE_EVALUATIONS, _evaluations(report, thresholds, language)))
    for element in container(codes.IMAGING_MEASUREMENT_REPORT, children, template="1500", root=True):
        dataset[element.tag] = element
    declare_private_codes(dataset)
    settle_texts(dataset)
    return dataset


def _impressions(analysis: Analysis, language: Language) -> list[Dataset]:
    lines = impression(analysis.report, language, analysis.prior)
    return [text(CONTAINS, codes.IMPRESSION, line) for line in lines]


def _document_modules(dataset: Dataset, source: SourceImages, others: Sequence[Dataset]) -> None:
    """SR Document Series and General modules (PS3.3 C.17.1, C.17.2)."""
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    study = Dataset()
    study.StudyInstanceUID = source.study_instance_uid
    taken = [*source.series, *(series for _, series in source.partners)]
    study.ReferencedSeriesSequence = [_evidence(uid, references) for uid, references in taken] + [
        _evidence(other.series_instance_uid, [other.reference]) for other in map(DerivedObject.of, others)
    ]
    dataset.CurrentRequestedProcedureEvidenceSequence = [study]
    requests = [_request(item, source) for item in source.header.get("RequestAttributesSequence", ())]
    if requests:
        dataset.ReferencedRequestSequence = requests


def _evidence(series_uid: str, references: Sequence[ImageReference]) -> Dataset:
    """One series of the Hierarchical SOP Instance Reference macro (PS3.3 table C.17-3)."""
    item = Dataset()
    item.SeriesInstanceUID = series_uid
    item.ReferencedSOPSequence = [reference.instance().item() for reference in references]
    return item


def _request(attributes: Dataset, source: SourceImages) -> Dataset:
    """An item of Referenced Request Sequence from one of the source's Request Attributes Sequence."""
    item = Dataset()
    item.StudyInstanceUID = source.study_instance_uid
    item.ReferencedStudySequence = []
    item.AccessionNumber = attributes.get("AccessionNumber") or source.header.get("AccessionNumber") or ""
    item.PlacerOrderNumberImagingServiceRequest = attributes.get("PlacerOrderNumberImagingServiceRequest", "")
    item.FillerOrderNumberImagingServiceRequest = attributes.get("FillerOrderNumberImagingServiceRequest", "")
    item.RequestedProcedureID = attributes.get("RequestedProcedureID", "")
    item.RequestedProcedureDescription = attributes.get("RequestedProcedureDescription", "")
    item.RequestedProcedureCodeSequence = attributes.get("RequestedProcedureCodeSequence", [])
    return item


def _observer() -> Iterable[Dataset]:
    """TID 1002 and 1004: the node as the observing device."""
    yield coded(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE)
    yield uidref(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_UID, DEVICE_UID)
    yield text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_NAME, MODEL_NAME)
    yield text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_MANUFACTURER, MANUFACTURER)
    yield text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_MODEL, MODEL_NAME)
    yield text(HAS_OBS_CONTEXT, codes.DEVICE_OBSERVER_SERIAL, SERIAL_NUMBER)


def _procedures(header: Dataset) -> list[Dataset]:
    """What the source says was done to the patient; else the kind of examination (CID 100)."""
    named = [item for item in header.get("ProcedureCodeSequence", ()) if _complete(item)]
    if named:
        return named
    return [codes.item(codes.PROCEDURES.get(str(header.get("Modality")), codes.IMAGING_PROCEDURE))]


def _complete(item: Dataset) -> bool:
    return all(item.get(keyword) for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))


def _image_library(source: SourceImages, reformat: Dataset | None) -> Dataset:
    """TID 1600: the analysed images, and the derived one in a group of its own."""
    groups = [_library_group(source.header, references) for _, references in source.series]
    groups += [_library_group(header, references) for header, (_, references) in source.partners]
    if reformat is not None:
        groups.append(_library_group(reformat, [DerivedObject.of(reformat).reference]))
    return container(codes.IMAGE_LIBRARY, groups)


def _library_group(header: Dataset, references: Sequence[ImageReference]) -> Dataset:
    """Descriptors that all images of the group share (TID 1602), then the images."""
    modality = codes.MODALITIES.get(str(header.get("Modality")))
    shared = []
    if modality is not None:
        shared.append(coded(HAS_ACQ_CONTEXT, codes.MODALITY, modality))
    # What was looked for, whatever the header calls the body part.
    shared.append(coded(HAS_ACQ_CONTEXT, codes.TARGET_REGION, codes.SPINE))
    if header.get("StudyDate"):
        shared.append(day(HAS_ACQ_CONTEXT, codes.STUDY_DATE, str(header.StudyDate)))
    if header.get("FrameOfReferenceUID"):
        shared.append(uidref(HAS_ACQ_CONTEXT, codes.FRAME_OF_REFERENCE_UID, str(header.FrameOfReferenceUID)))
    for name, keyword in ((codes.PIXEL_DATA_ROWS, "Rows"), (codes.PIXEL_DATA_COLUMNS, "Columns")):
        if header.get(keyword):
            count = header[keyword].value
            shared.append(number(name, count, codes.PIXELS, decimals=0, relationship=HAS_ACQ_CONTEXT))
    spacing = header.get("PixelSpacing")
    if spacing is not None and len(spacing) == 2:
        for name, value in zip(
            (codes.VERTICAL_PIXEL_SPACING, codes.HORIZONTAL_PIXEL_SPACING), spacing, strict=True
        ):
            item = number(name, value, codes.MILLIMETRE, decimals=6, relationship=HAS_ACQ_CONTEXT)
            shared.append(item)
    orientation = header.get("PatientOrientation")
    if orientation is not None and len(orientation) == 2 and all(orientation):
        for name, value in zip(
            (codes.PATIENT_ORIENTATION_ROW, codes.PATIENT_ORIENTATION_COLUMN), orientation, strict=True
        ):
            shared.append(text(HAS_ACQ_CONTEXT, name, str(value)))
    images = [image(CONTAINS, None, reference) for reference in references]
    return container(codes.IMAGE_LIBRARY_GROUP, [*shared, *images])


def _evaluations(report: SpineReport, thresholds: Thresholds | None, language: Language) -> Sequence[Dataset]:
    """TID 1500 row 12: how the processing went, with reasons, limitations and thresholds."""
    refused = report.status == "not-analysable"
    items = [
        coded(CONTAINS, codes.PROCESSING_SUMMARY, _summary(report)),
        coded(CONTAINS, codes.ANALYSABILITY, codes.NOT_ANALYSABLE if refused else codes.ANALYSED),
    ]
    items += explanations((*report.reasons, *report.limitations), language)
    items += threshold_items(report, thresholds, language)
    for algorithm in report.algorithms:
        words = language.algorithm.format(
            name=algorithm.name,
            version=algorithm.version,
            hash=algorithm.bundle_sha256,
            uid=algorithm.device_uid,
        )
        items.append(text(CONTAINS, codes.COMMENT, words))
    return items


def _summary(report: SpineReport) -> codes.Code:
    """CID 6047: whether everything could be judged, and whether there is a fracture or a malignant body."""
    if report.status == "not-analysable":
        return codes.NONE_SUCCEEDED
    complete = all(vertebra.status == "analysed" for vertebra in report)
    findings = any(item.fractured or item.malignant or item.diseases for item in report)
    if complete:
        return codes.ALL_SUCCEEDED_WITH_FINDINGS if findings else codes.ALL_SUCCEEDED_WITHOUT_FINDINGS
    return codes.NOT_ALL_SUCCEEDED_WITH_FINDINGS if findings else codes.NOT_ALL_SUCCEEDED_WITHOUT_FINDINGS
