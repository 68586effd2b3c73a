"""What the header of one MR image, or of one frame of an enhanced one, says about how it was made.

Classic images say it in the MR Image Module (PS3.3 C.8.3.1), enhanced ones in functional groups (C.8.13.5),
legacy-converted ones among their unassigned converted attributes (C.7.6.16.2.25); behind this module all
look the same. A broken value counts as absent: that an echo time is no number spoils no image.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydicom.dataset import Dataset

from dicom_ai_node.imaging.slices import MULTI_FRAME_SOP_CLASSES

Make = Literal["siemens", "ge", "philips", "canon", ""]

GE_COMPONENT: Final = "0043102F"
"""0 magnitude, 1 phase, 2 real, 3 imaginary: GE says it here and nowhere else."""
PHILIPS_SCALE_SLOPE: Final = "2005100E"
"""With Rescale Slope it makes displayed values comparable (Chenevert et al., Transl Oncol 2014; 7:65)."""

_B_VALUES: Final = ("DiffusionBValue", "0019100C", "20011003", "00431039")

MR_TAGS: Final = (
    "Manufacturer",
    "ImageType",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "SequenceName",
    "MRAcquisitionType",
    "AngioFlag",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "EchoTrainLength",
    "MagneticFieldStrength",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "SeriesDescription",
    "ProtocolName",
    "StudyDescription",
    "BodyPartExamined",
    "ComplexImageComponent",
    "AcquisitionContrast",
    "PulseSequenceName",
    "EchoPulseSequence",
    "EchoPlanarPulseSequence",
    "SteadyStatePulseSequence",
    "PhaseContrast",
    "TimeOfFlightContrast",
    "SpectrallySelectedSuppression",
    "AcquisitionDate",
    "AcquisitionTime",
    "AcquisitionDateTime",
    "SeriesDate",
    "SeriesTime",
    "SeriesNumber",
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "UnassignedSharedConvertedAttributesSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    GE_COMPONENT,
    *_B_VALUES,
)
"""Keywords, and eight digits for private tags, of what `tags_of` and `about` read."""

_GROUPS: Final = (
    "MRImageFrameTypeSequence",
    "MREchoSequence",
    "MRTimingAndRelatedParametersSequence",
    "MRModifierSequence",
    "MRImagingModifierSequence",
    "MRDiffusionSequence",
    "FrameAnatomySequence",
    "UnassignedPerFrameConvertedAttributesSequence",
    "UnassignedSharedConvertedAttributesSequence",
)
_NO_AGENT: Final = frozenset({"", "NO", "NONE", "N", "0", "NONE GIVEN", "NO CONTRAST", "WITHOUT"})


@dataclass(frozen=True)
class MrTags:
    """One image's own account; words are upper case, times in milliseconds, absent values empty or None.

    Attributes:
        image_type: Image Type, or Frame Type of a frame.
        component: Complex Image Component; what a make says elsewhere is put here.
        weighting: Acquisition Contrast of an enhanced image.
        scanning: Scanning Sequence (SE, IR, GR, EP), for enhanced images from the pulse sequence attributes.
        suppressed: FAT or WATER where the header says that it was suppressed by frequency.
        descriptions: (keyword, text) of every description there is.
    """

    make: Make = ""
    image_type: tuple[str, ...] = ()
    component: str = ""
    weighting: str = ""
    scanning: tuple[str, ...] = ()
    variant: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    sequence_name: str = ""
    suppressed: str = ""
    repetition_ms: float | None = None
    echo_ms: float | None = None
    inversion_ms: float | None = None
    flip_deg: float | None = None
    echo_train: float | None = None
    field_t: float | None = None
    b_value: float | None = None
    agent: str = ""
    angiography: str = ""
    three_d: bool = False
    body_part: str = ""
    descriptions: tuple[tuple[str, str], ...] = ()


def tags_of(header: Dataset) -> tuple[MrTags, ...]:
    """One entry per frame, in the order of `slices.slices_of`; a classic image has one.

    Args:
        header: with `MR_TAGS` and `slices.SLICE_TAGS` at least.
    """
    sop_class = _text(header, "SOPClassUID") or str(header.file_meta.get("MediaStorageSOPClassUID", ""))
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    if sop_class not in MULTI_FRAME_SOP_CLASSES or not frames:
        return (_tags([header]),)
    shared = [item for group in header.get("SharedFunctionalGroupsSequence") or [] for item in _items(group)]
    return tuple(_tags([*_items(group), *shared, header]) for group in frames)


def _items(group: Dataset) -> list[Dataset]:
    return [group[name].value[0] for name in _GROUPS if group.get(name)]


def _tags(places: Sequence[Dataset]) -> MrTags:
    scanning = _words(places, "ScanningSequence")
    return MrTags(
        make=make_of(_first(places, "Manufacturer")),
        image_type=_words(places, "FrameType") or _words(places, "ImageType"),
        component=_component(places),
        weighting=_first(places, "AcquisitionContrast").upper(),
        scanning=scanning or _scanning(places),
        variant=_words(places, "SequenceVariant"),
        options=_words(places, "ScanOptions"),
        sequence_name=_first(places, "SequenceName", "PulseSequenceName").lower(),
        suppressed=_suppressed(places),
        repetition_ms=_above_0(places, "RepetitionTime"),
        echo_ms=_above_0(places, "EffectiveEchoTime", "EchoTime"),
        inversion_ms=_above_0(places, "InversionTimes", "InversionTime"),
        flip_deg=_above_0(places, "FlipAngle"),
        echo_train=_above_0(places, "RFEchoTrainLength", "EchoTrainLength"),
        field_t=_above_0(places, "MagneticFieldStrength"),
        b_value=_b_value(places),
        agent=_agent(places),
        angiography=_angiography(places),
        three_d=_first(places, "MRAcquisitionType").upper() == "3D",
        body_part=_body_part(places),
        descriptions=tuple(
            (keyword, found)
            for keyword in ("SeriesDescription", "ProtocolName", "StudyDescription")
            if (found := _first(places, keyword))
        ),
    )


def make_of(manufacturer: str) -> Make:
    """The maker by any of its names."""
    name = manufacturer.upper()
    if "SIEMENS" in name:
        return "siemens"
    if "PHILIPS" in name:
        return "philips"
    if "TOSHIBA" in name or "CANON" in name:
        return "canon"
    return "ge" if re.match(r"GE\b", name) or "GENERAL ELECTRIC" in name else ""


def _component(places: Sequence[Dataset]) -> str:
    said = _first(places, "ComplexImageComponent").upper()
    if said:
        return said
    number = _number(places, GE_COMPONENT)
    return {0.0: "MAGNITUDE", 1.0: "PHASE", 2.0: "REAL", 3.0: "IMAGINARY"}.get(
        -1 if number is None else number, ""
    )


def _scanning(places: Sequence[Dataset]) -> tuple[str, ...]:
    """The words of Scanning Sequence (PS3.3 C.8.3.1.1.2) from the enhanced Pulse Sequence Module."""
    echo = _first(places, "EchoPulseSequence").upper()
    found = {"SPIN": ["SE"], "GRADIENT": ["GR"], "BOTH": ["SE", "GR"]}.get(echo, [])
    if _first(places, "EchoPlanarPulseSequence").upper() == "YES":
        found.append("EP")
    if _first(places, "InversionRecovery").upper() == "YES":
        found.append("IR")
    return tuple(found)


def _suppressed(places: Sequence[Dataset]) -> str:
    said = _first(places, "SpectrallySelectedSuppression").upper()
    if said in {"FAT", "WATER", "FAT_AND_WATER"}:
        return said
    options = _words(places, "ScanOptions")
    return "FAT" if {"FS", "FATSAT", "SFS"} & set(options) else ""


def _b_value(places: Sequence[Dataset]) -> float | None:
    found = next((value for tag in _B_VALUES if (value := _number(places, tag)) is not None), None)
    # GE adds 10^9 to tell that the rest of the value means something else too.
    return None if found is None or found < 0 else found % 1e9


def _agent(places: Sequence[Dataset]) -> str:
    said = _first(places, "ContrastBolusAgent")
    if said.upper() not in _NO_AGENT:
        return said
    return "a coded agent" if any(place.get("ContrastBolusAgentSequence") for place in places) else ""


def _angiography(places: Sequence[Dataset]) -> str:
    if _first(places, "AngioFlag").upper() == "Y":
        return "Angio Flag is Y"
    for keyword, name in (
        ("TimeOfFlightContrast", "Time of Flight Contrast"),
        ("PhaseContrast", "Phase Contrast"),
    ):
        if _first(places, keyword).upper() == "YES":
            return f"{name} is YES"
    return ""


def _body_part(places: Sequence[Dataset]) -> str:
    said = _first(places, "BodyPartExamined")
    if said:
        return said
    regions = (place.get("AnatomicRegionSequence") for place in places)
    return next((_text(region[0], "CodeMeaning") for region in regions if region), "")


def _first(places: Sequence[Dataset], *keywords: str) -> str:
    return next((found for key in keywords for place in places if (found := _text(place, key))), "")


def _words(places: Sequence[Dataset], keyword: str) -> tuple[str, ...]:
    return tuple(word.strip().upper() for word in _first(places, keyword).split("\\") if word.strip())


def _above_0(places: Sequence[Dataset], *keywords: str) -> float | None:
    # 0 is how several makes write "not applicable".
    return next(
        (value for key in keywords if (value := _number(places, key)) is not None and value > 0), None
    )


def _number(places: Sequence[Dataset], keyword: str) -> float | None:
    private = keyword[0].isdigit()
    for place in places:
        found = private_number(place, keyword) if private else _converted(place, keyword)
        if found is not None:
            return found
    return None


def private_number(place: Dataset, tag: str) -> float | None:
    """A private element, its tag in eight digits, as a number; None where absent or no number."""
    return _converted(place, int(tag, 16))


def _converted(place: Dataset, key: str | int) -> float | None:
    try:
        element = place.get(key)
        value = getattr(element, "value", element)
        if isinstance(value, bytes):
            return _packed(value)
        if value is None or value == "":
            return None
        first = value[0] if isinstance(value, Sequence) and not isinstance(value, str) else value
        return float(str(first))
    # pydicom converts on access and raises whatever the conversion raises
    except Exception:
        return None


def _packed(value: bytes) -> float | None:
    """A private value whose representation is unknown: a number in digits, or packed little endian."""
    try:
        return float(value.split(b"\\")[0].strip(b" \0").decode("ascii"))
    except (UnicodeDecodeError, ValueError):
        form = {2: "<h", 4: "<f", 8: "<d"}.get(len(value))
        return None if form is None else float(struct.unpack(form, value)[0])


def _text(place: Dataset, keyword: str) -> str:
    try:
        value = place.get(keyword)
    except Exception:
        return ""
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return "\\".join(str(item) for item in value).strip()
    return str(value).strip("\0 ")
