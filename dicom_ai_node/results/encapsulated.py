"""The report of one page as an Encapsulated PDF, for archives that keep documents (PS3.3 A.45.1, C.24)."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_ai_node.report import Analysis
from dicom_ai_node.results import codes
from dicom_ai_node.results.identity import ResultIdentity, in_language
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.modules import RESEARCH_USE_ONLY, Stamp, new_object
from dicom_ai_node.results.source import SourceImages

SERIES_NUMBER: Final = 9106


def encode_pdf(
    data: bytes,
    analysis: Analysis,
    source: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    language: Language = ENGLISH,
) -> FileDataset:
    """The document.

    Args:
        data: a PDF file that names the patient.
    """
    dataset = new_object(
        source,
        identity,
        analysis.report.algorithms,
        stamp,
        kind=in_language("pdf", language),
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        series_number=SERIES_NUMBER,
        series_description="AI spine report (PDF)",
    )
    # A document shows no part of the body by itself (PS3.3 C.24.1).
    del dataset.BodyPartExamined
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = stamp.date + stamp.time
    dataset.BurnedInAnnotation = "YES"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.DocumentTitle = f"AI spine report. {RESEARCH_USE_ONLY}"
    dataset.ConceptNameCodeSequence = [codes.item(codes.IMAGING_MEASUREMENT_REPORT)]
    dataset.SourceInstanceSequence = [_source_item(item.item()) for item in source.instances]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(data)
    dataset.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    return dataset


def _source_item(item: Dataset) -> Dataset:
    item.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_IMAGE_FOR_PROCESSING)]
    return item
