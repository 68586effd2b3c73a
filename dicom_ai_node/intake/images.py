"""What kind of object one instance is, and whether it is a slice of a patient or something else.

Source: PS3.3 C.7.6.1.1.2 and C.8.2.1.1.1 (Image Type), C.7.6.3.1.1 (Samples per Pixel).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import pydicom.uid as uids
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_ai_node.config import CtRoute, RadiographRoute
from dicom_ai_node.intake.headers import Instance
from dicom_ai_node.results.identity import is_own_result

RADIOGRAPHS: Final = "radiographs"

_KINDS: Final = {
    uids.CTImageStorage: "CT",
    uids.EnhancedCTImageStorage: "CT",
    uids.LegacyConvertedEnhancedCTImageStorage: "CT",
    uids.MRImageStorage: "MR",
    uids.EnhancedMRImageStorage: "MR",
    uids.LegacyConvertedEnhancedMRImageStorage: "MR",
    uids.ComputedRadiographyImageStorage: RADIOGRAPHS,
    uids.DigitalXRayImageStorageForPresentation: RADIOGRAPHS,
    uids.DigitalXRayImageStorageForProcessing: RADIOGRAPHS,
    uids.PositronEmissionTomographyImageStorage: "PET",
    uids.EnhancedPETImageStorage: "PET",
    uids.LegacyConvertedEnhancedPETImageStorage: "PET",
}
CAPTURES: Final = frozenset(
    {
        uids.SecondaryCaptureImageStorage,
        uids.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
        uids.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    }
)
# what may stand in Body Part Examined (PS3.16 annex L, and scanners' own words) with the spine in the image
_BODY_PARTS_WITH_SPINE: Final = re.compile(
    r"SPINE|CHEST|THORA|ABDOM|PELVI|LUMB|SACR|NECK|CERVI|BODY|TRUNK|TORSO|[CTL]SP|ABD|TAP|CAP"
)


def text(header: Dataset, keyword: str) -> str:
    """An attribute as a person would read it, "" where absent or broken."""
    try:
        value = header.get(keyword)
    # pydicom converts on access and raises whatever the conversion raises
    except Exception:
        return ""
    if value is None:
        return ""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return str(value).strip("\0 ")
    return "\\".join(str(item) for item in value)


def sop_class(header: Dataset) -> UID:
    """SOP Class UID, from the file meta information where the data set has none."""
    return UID(text(header, "SOPClassUID") or str(header.file_meta.get("MediaStorageSOPClassUID", "")))


def instance_uid(instance: Instance) -> str:
    """SOP Instance UID, or the file's name where there is none."""
    return text(instance.header, "SOPInstanceUID") or instance.path.name


def kind(header: Dataset) -> str:
    """What the images are: `CT`, `MR`, `radiographs`, `PET`, or the name of the SOP class."""
    uid = sop_class(header)
    if captured_film(header):
        return RADIOGRAPHS
    return _KINDS.get(uid) or uid.name.removesuffix(" Storage")


def captured_film(header: Dataset) -> bool:
    """Whether a secondary capture may be a digitised film: not of another modality.

    Many devices store grey films as colours: whether there are colours is seen in the pixels.
    """
    if sop_class(header) not in CAPTURES or is_own_result(header):
        return False
    return text(header, "Modality") in {"", "CR", "DX", "RG", "OT", "SC"}


def no_image(header: Dataset) -> str | None:
    """Why an instance is nothing that a pipeline could ever look at; None for an image of a patient."""
    uid = sop_class(header)
    if is_own_result(header):
        return "a result of this node"
    if uid not in _KINDS and ("Image" not in uid.keyword or "SecondaryCapture" in uid.keyword):
        return f"{uid.name} is no image of a patient"
    return None


def unwanted(header: Dataset, rules: CtRoute) -> str | None:
    """Why a CT image is no slice to analyse; None where it may be one."""
    samples = text(header, "SamplesPerPixel")
    if samples not in {"", "1"}:
        return f"a colour picture, no slice (Samples per Pixel is {samples})"
    values = [value.strip().upper() for value in text(header, "ImageType").split("\\")]
    for value in values:
        if value in rules.refused_image_types and not _only_compressed(value, values, header):
            return f"Image Type says {value} ([routes.ct] refused_image_types)"
    return _described_otherwise(header, rules.refused_descriptions, "ct")


def unwanted_film(header: Dataset, rules: RadiographRoute) -> str | None:
    """Why a radiograph is not looked at; None where it may show the spine from the side."""
    samples = text(header, "SamplesPerPixel")
    if samples not in {"", "1"} and not captured_film(header):
        return f"a colour picture, no radiograph (Samples per Pixel is {samples})"
    part = text(header, "BodyPartExamined")
    for pattern in rules.refused_body_parts:
        if re.search(pattern, part, re.IGNORECASE):
            return f"Body Part Examined says {part} ([routes.radiograph] refused_body_parts)"
    return _described_otherwise(header, rules.refused_descriptions, "radiograph")


def _described_otherwise(header: Dataset, refused: Iterable[str], route: str) -> str | None:
    for keyword in ("SeriesDescription", "ProtocolName"):
        description = text(header, keyword)
        for pattern in refused:
            if re.search(pattern, description, re.IGNORECASE):
                return f"{keyword} matches {pattern!r} ([routes.{route}] refused_descriptions)"
    return None


def contradictions(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Tags that say something else than what the images are; noted, never believed."""
    found: dict[str, None] = {}
    for instance in instances:
        body_part = text(instance.header, "BodyPartExamined")
        if body_part and not _BODY_PARTS_WITH_SPINE.search(body_part.upper()):
            found[f"Body Part Examined says {body_part}; not relied on"] = None
        modality = text(instance.header, "Modality")
        if modality != kind(instance.header):
            said = modality or "nothing"
            found[f"Modality says {said}, the SOP class {kind(instance.header)}; not relied on"] = None
    return tuple(found)


def _only_compressed(value: str, values: list[str], header: Dataset) -> bool:
    # a lossy copy of an original slice has to call itself derived (PS3.3 C.7.6.1.1.5)
    return value == "DERIVED" and values[1:2] == ["PRIMARY"] and text(header, "LossyImageCompression") == "01"
