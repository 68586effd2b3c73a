"""The DICOM modules that every result object shares: patient, study, series, equipment, SOP common.

Patient and study are copied from the source as they are, so that an archive files the result where the
images are. Texts of our own are plain ASCII: the source's character set stays, and with it the names.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_ai_node import __version__
from dicom_ai_node.anatomy import PRIVATE_CODING_SCHEME
from dicom_ai_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_ai_node.report import Algorithm
from dicom_ai_node.results import codes
from dicom_ai_node.results.copied import PATIENT_AND_STUDY, TRIAL, TRIAL_REQUIRED, TYPE_2
from dicom_ai_node.results.identity import (
    DEVICE_UID,
    MANUFACTURER,
    MODEL_NAME,
    ResultIdentity,
)
from dicom_ai_node.results.language import ENGLISH
from dicom_ai_node.results.source import ImageReference, SourceImages

RESEARCH_USE_ONLY: Final = ENGLISH.research_use
"""In descriptions of objects, which stay English whatever the language of the texts."""
SERIAL_NUMBER: Final = "1"


@dataclass(frozen=True)
class Stamp:
    """The date and time that a result carries, as DA and TM values."""

    date: str
    time: str

    @classmethod
    def of(cls, header: Dataset, timestamp: datetime | None = None) -> Stamp:
        """`timestamp`, else the source's own time: never the clock's, so that a repeat is the same object."""
        if timestamp is not None:
            return cls(timestamp.strftime("%Y%m%d"), timestamp.strftime("%H%M%S"))
        for kind in ("Content", "Acquisition", "Series", "Study"):
            date = str(header.get(f"{kind}Date") or "").strip()
            if len(date) == 8 and date.isdigit():
                time = str(header.get(f"{kind}Time") or "").strip().split(".")[0]
                return cls(date, time if time.isdigit() and len(time) == 6 else "000000")
        return cls("19700101", "000000")


def new_object(
    source: SourceImages,
    identity: ResultIdentity,
    algorithms: Iterable[Algorithm],
    stamp: Stamp,
    *,
    kind: str,
    sop_class_uid: str,
    modality: str,
    series_number: int,
    series_description: str,
    instance_number: int = 1,
) -> FileDataset:
    """A data set with file meta information and the modules that all results share.

    Args:
        kind: what the SOP Instance UID is derived for ("seg", "sr", "pr-1"); the series' UID is that of the
            part before the dash.
    """
    sop_instance_uid = identity.uid(kind)
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    _copy_patient_and_study(source.header, dataset)
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = sop_instance_uid
    dataset.InstanceCreationDate = dataset.SeriesDate = stamp.date
    dataset.InstanceCreationTime = dataset.SeriesTime = stamp.time
    if modality != "PR":
        # A presentation state has its own (0070,0082) and (0070,0083) instead.
        dataset.ContentDate, dataset.ContentTime = stamp.date, stamp.time
    dataset.InstanceCreatorUID = DEVICE_UID
    dataset.Modality = modality
    dataset.SeriesInstanceUID = identity.uid(f"series {kind.partition('-')[0]}")
    # What is shown, whatever the source's header says: real spine CTs come as BREAST or ABDOMEN.
    if modality != "SR":
        dataset.BodyPartExamined = "SPINE"
    dataset.SeriesNumber = series_number
    dataset.SeriesDescription = f"{series_description} - {RESEARCH_USE_ONLY}"
    dataset.InstanceNumber = instance_number
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.DeviceSerialNumber = SERIAL_NUMBER
    dataset.SoftwareVersions = __version__
    dataset.DeviceUID = DEVICE_UID
    dataset.ContributingEquipmentSequence = [_contributor(item, stamp) for item in algorithms]
    if not dataset.ContributingEquipmentSequence:
        # A report that nothing could be judged names the node, which refused before any model ran.
        own = Algorithm(MODEL_NAME, __version__, "", DEVICE_UID)
        dataset.ContributingEquipmentSequence = [_contributor(own, stamp)]
    return dataset


def declare_private_codes(dataset: Dataset) -> None:
    """Adds Coding Scheme Identification Sequence if the object uses a private code anywhere."""
    used = any(
        element.keyword == "CodingSchemeDesignator" and element.value == PRIVATE_CODING_SCHEME
        for element in dataset.iterall()
    )
    if used:
        dataset.CodingSchemeIdentificationSequence = [codes.private_scheme_declaration()]


def referenced_series(source: SourceImages, references: Iterable[ImageReference]) -> list[Dataset]:
    """Items of Referenced Series Sequence (PS3.3 table C.12-8) for those source images, once each."""
    wanted = {item.instance() for item in references}
    items = []
    for uid, instances in source.series:
        found = [item for item in instances if item in wanted]
        if found:
            items.append(series_item(uid, found))
    return items


def series_item(series_uid: str, references: Sequence[ImageReference]) -> Dataset:
    """One item of Referenced Series Sequence."""
    item = Dataset()
    item.ReferencedInstanceSequence = [reference.instance().item() for reference in references]
    item.SeriesInstanceUID = series_uid
    return item


def plain(text: str, limit: int | None = None) -> str:
    """Text of our own as ASCII, cut to `limit` characters, so that every character set can hold it."""
    decomposed = unicodedata.normalize("NFKD", printable(text))
    ascii_only = "".join(
        character if character.isascii() else "?"
        for character in decomposed
        if not unicodedata.combining(character)
    )
    return ascii_only if limit is None else ascii_only[:limit]


def printable(text: str) -> str:
    """Text of our own without control characters, and with the dashes and dots of every keyboard."""
    replaced = text.replace("–", "-").replace("—", "-").replace("…", "...")
    return "".join(character if character.isprintable() else " " for character in replaced)


def _contributor(algorithm: Algorithm, stamp: Stamp) -> Dataset:
    """An item of Contributing Equipment Sequence (PS3.3 table C.12-1; IHE AI Results)."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [codes.item(codes.PROCESSING_EQUIPMENT)]
    item.Manufacturer = MANUFACTURER
    item.ManufacturerModelName = plain(algorithm.name, 64)
    item.DeviceSerialNumber = SERIAL_NUMBER
    item.SoftwareVersions = plain(algorithm.version, 64)
    item.DeviceUID = algorithm.device_uid
    item.ContributionDateTime = stamp.date + stamp.time
    item.ContributionDescription = plain(
        f"{algorithm.name} {algorithm.version} in {MODEL_NAME} {__version__}"
        + (f", weights sha256 {algorithm.bundle_sha256}" if algorithm.bundle_sha256 else ""),
        1024,
    )
    return item


def _copy_patient_and_study(header: Dataset, dataset: Dataset) -> None:
    charset = header.get("SpecificCharacterSet")
    if charset:
        dataset.SpecificCharacterSet = charset
    dataset.StudyInstanceUID = header.StudyInstanceUID
    trial = TRIAL_REQUIRED + TRIAL if all(header.get(keyword) for keyword in TRIAL_REQUIRED) else ()
    for keyword in (*TYPE_2, *PATIENT_AND_STUDY, *trial):
        if keyword in header:
            dataset[keyword] = header[keyword]
        elif keyword in TYPE_2:
            setattr(dataset, keyword, "")
    if str(header.get("PatientIdentityRemoved") or "") == "YES" and not (
        header.get("DeidentificationMethod") or header.get("DeidentificationMethodCodeSequence")
    ):
        del dataset.PatientIdentityRemoved
