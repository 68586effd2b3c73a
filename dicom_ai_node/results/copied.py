"""What result objects copy from the header of the source, cleaned so that it cannot spoil a valid object.

Real headers break the rules of their own VRs. What an archive files by is copied as it is; anything else
that is invalid is left out, as if the source had not said it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydicom.charset import python_encoding
from pydicom.config import RAISE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from dicom_ai_node.imaging.header import read_header, reading_quietly

TYPE_2: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Present in every object, empty where the source does not say (PS3.3 C.7.1.1, C.7.2.1)."""
PATIENT_AND_STUDY: Final = (
    # Patient (PS3.3 C.7.1.1), Clinical Trial Subject and Study (C.7.1.3, C.7.2.3)
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "EthnicGroup",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    # General Study (C.7.2.1) and Patient Study (C.7.2.2)
    "IssuerOfAccessionNumberSequence",
    "StudyDescription",
    "PhysiciansOfRecord",
    "ProcedureCodeSequence",
    "ReferencedStudySequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdmissionID",
    # SOP Common (C.12.1)
    "TimezoneOffsetFromUTC",
)
"""Copied where the source has them."""
TRIAL_REQUIRED: Final = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")
TRIAL: Final = (
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)
"""Copied where the source has all that is required of a trial (PS3.3 C.7.1.3, C.7.2.3)."""
VERBATIM: Final = frozenset({"PatientName", "PatientID", "AccessionNumber", "StudyInstanceUID"})
"""What an archive files by: copied even where the sender broke its VR."""
_IMAGE: Final = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "Modality",
    "ContentDate",
    "ContentTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionNumber",
    "KVP",
    "PatientPosition",
    "PatientOrientation",
    "ContrastBolusAgent",
    "RequestAttributesSequence",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImagerPixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    # MR Image (C.8.3.1), for an image that is derived from it
    "ScanningSequence",
    "SequenceVariant",
    "MRAcquisitionType",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "EchoTrainLength",
    "MagneticFieldStrength",
    "FlipAngle",
)


def read_clean_header(path: Path) -> Dataset:
    """The attributes that results use, valid ones only.

    Raises:
        UnreadableInstance: no DICOM instance, or cut short inside its header.
    """
    found = read_header(path, (*_IMAGE, *TYPE_2, *PATIENT_AND_STUDY, *TRIAL_REQUIRED, *TRIAL))
    clean = Dataset()
    with reading_quietly():
        for tag in found.keys():  # noqa: SIM118 - iterating a data set converts its elements, which may raise
            try:
                element = found[tag]
            except Exception:  # noqa: S112 - pydicom lets whatever a conversion raises through
                continue
            if element.keyword in VERBATIM or _valid(element):
                clean[tag] = element
    charset = clean.get("SpecificCharacterSet")
    if charset and not _known(charset):
        # Names were decoded as far as possible; whatever they hold, this can write it.
        clean.SpecificCharacterSet = "ISO_IR 192"
    return clean


def _valid(element: DataElement) -> bool:
    if element.keyword == "PatientSex":
        return element.value in {"", None, "M", "F", "O"}
    if element.VR == "SQ":
        return all(_valid(inner) for item in element.value for inner in item)
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values:
            if value is not None and str(value):
                # Names and numbers of pydicom's own types are valid only as they are written.
                as_text = element.VR in {"PN", "DS", "IS"}
                validate_value(element.VR, str(value) if as_text else value, RAISE)
    except (ValueError, TypeError):
        return False
    return True


def _known(charset: str | Sequence[str]) -> bool:
    names = [charset] if isinstance(charset, str) else list(charset)
    return all(not name or name in python_encoding for name in names)
