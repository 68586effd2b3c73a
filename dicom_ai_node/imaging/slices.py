"""One slice of a series as plain data: from a classic CT image, or from one frame of an enhanced one.

Classic images carry their geometry at the top of the header (PS3.3 C.7.6.2), enhanced and legacy-converted
enhanced images in functional groups, shared or per frame (PS3.3 C.7.6.16). Behind this module both look
the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_ai_node.errors import InconsistentGeometry, NotAnalysable, UnreadableInstance
from dicom_ai_node.imaging.header import (
    as_written,
    missing,
    name_of,
    number,
    numbers,
    read_header_and_end,
    required_text,
    text,
)

CLASSIC_SOP_CLASSES: Final[dict[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.2": "CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4": "MR Image Storage",
}
MULTI_FRAME_SOP_CLASSES: Final[dict[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.2.1": "Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.2.2": "Legacy Converted Enhanced CT Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.1": "Enhanced MR Image Storage",
    "1.2.840.10008.5.1.4.1.1.4.4": "Legacy Converted Enhanced MR Image Storage",
}

Vector = tuple[float, float, float]

SLICE_TAGS: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "InstanceNumber",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "ConvolutionKernel",
    "SliceThickness",
    "NumberOfFrames",
    "SamplesPerPixel",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelSpacing",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True, slots=True)
class StoredPixels:
    """How the pixels of one instance are stored (PS3.3 C.7.6.3), and what makes values of them."""

    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    rescaled: bool
    """False where the header has no Rescale Slope and Intercept and stored values are taken as they are."""
    padding: tuple[int, int] | None
    """First and last stored value that mean "no pixel here" (PS3.3 C.7.5.1.1.2)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One plane of pixels in patient space (LPS millimetres)."""

    path: Path
    frame: int
    """Counts from 1, also for an image that has one frame only."""
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str | None
    modality: str
    rows: int
    columns: int
    position: Vector
    """Centre of the first pixel."""
    row_cosines: Vector
    """Direction in which the column index grows."""
    column_cosines: Vector
    """Direction in which the row index grows."""
    pixel_spacing: tuple[float, float]
    """Distance of rows, distance of columns."""
    thickness: float | None
    instance_number: float
    acquisition: tuple[str, ...]
    """What sets one pass over the body apart from another within the series."""
    pixels: StoredPixels
    transfer_syntax: str | None
    """None where the file has no meta information."""
    header_end: int | None
    """Byte at which the pixel data element begins; None where unknown, and in multi-frame images."""


def read_slices(path: Path) -> tuple[Slice, ...]:
    """The slices of one file: one for a classic image, one per frame for a multi-frame image.

    Raises:
        UnreadableInstance: no DICOM, or a needed value is missing or broken.
        InconsistentGeometry: direction cosines or spacings that describe no plane.
        NotAnalysable: another kind of object, or pixels that are no grey values.
    """
    header, end = read_header_and_end(path, SLICE_TAGS)
    return slices_of(header, path, header_end=end)


def slices_of(header: Dataset, path: Path, *, header_end: int | None = None) -> tuple[Slice, ...]:
    """As `read_slices`, from a header read before (with `SLICE_TAGS` at least)."""
    sop_class = text(header, "SOPClassUID", path) or str(header.file_meta.get("MediaStorageSOPClassUID"))
    if sop_class in MULTI_FRAME_SOP_CLASSES:
        return _frames(header, path, sop_class)
    if sop_class not in CLASSIC_SOP_CLASSES:
        raise NotAnalysable(
            "modality-mismatch",
            f"{path.name}: {name_of('SOPClassUID')} {sop_class} is no CT or MR image. "
            "Leave it out of the series.",
        )
    return (_slice(header, [header], path, sop_class, frame=1, header_end=header_end),)


def _frames(header: Dataset, path: Path, sop_class: str) -> tuple[Slice, ...]:
    per_frame = header.get("PerFrameFunctionalGroupsSequence")
    if not per_frame:
        raise UnreadableInstance(missing("PerFrameFunctionalGroupsSequence", path))
    shared = list(header.get("SharedFunctionalGroupsSequence") or [])
    count = number(header, "NumberOfFrames", path)
    if count != len(per_frame):
        raise UnreadableInstance(
            f"{path.name}: {name_of('NumberOfFrames')} says {count:g}, but "
            f"{name_of('PerFrameFunctionalGroupsSequence')} has {len(per_frame)} items. Send the image again."
            if count is not None
            else missing("NumberOfFrames", path)
        )
    shared_items = _group_items(shared)
    return tuple(
        _slice(header, [*_group_items([group]), *shared_items, header], path, sop_class, frame)
        for frame, group in enumerate(per_frame, start=1)
    )


_GROUPS: Final = (
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "FrameContentSequence",
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "CTReconstructionSequence",
)


def _group_items(groups: list[Dataset]) -> list[Dataset]:
    return [group[name].value[0] for group in groups for name in _GROUPS if group.get(name)]


def _slice(
    header: Dataset,
    places: list[Dataset],
    path: Path,
    sop_class: str,
    frame: int,
    *,
    header_end: int | None = None,
) -> Slice:
    """One slice, each value taken from the first of `places` that has it."""
    uid = text(header, "SOPInstanceUID", path) or str(
        header.file_meta.get("MediaStorageSOPInstanceUID") or required_text(header, "SOPInstanceUID", path)
    )
    position = _needed(places, "ImagePositionPatient", path, 3)
    cosines = _needed(places, "ImageOrientationPatient", path, 6)
    row_cosines, column_cosines = _unit_cosines(cosines, path)
    spacing = _needed(places, "PixelSpacing", path, 2)
    if min(spacing) <= 0:
        raise InconsistentGeometry(
            f"{path.name}: {name_of('PixelSpacing')} is {as_written(spacing)}; both must be above 0. "
            "Correct the header at its source and send the image again."
        )
    return Slice(
        path=path,
        frame=frame,
        sop_class_uid=sop_class,
        sop_instance_uid=uid,
        study_instance_uid=required_text(header, "StudyInstanceUID", path),
        series_instance_uid=required_text(header, "SeriesInstanceUID", path),
        frame_of_reference_uid=text(header, "FrameOfReferenceUID", path),
        modality=text(header, "Modality", path) or ("MR" if ".1.1.4" in sop_class else "CT"),
        rows=_size(header, "Rows", path),
        columns=_size(header, "Columns", path),
        position=(position[0], position[1], position[2]),
        row_cosines=row_cosines,
        column_cosines=column_cosines,
        pixel_spacing=(spacing[0], spacing[1]),
        thickness=_first_number(places, "SliceThickness", path),
        instance_number=_first_number([header], "InstanceNumber", path) or 0.0,
        acquisition=tuple(
            _first_text(places, keyword, path) or ""
            for keyword in (
                "AcquisitionNumber",
                "FrameAcquisitionNumber",
                "TemporalPositionIdentifier",
                "TemporalPositionIndex",
                "StackID",
                "FrameType",
                "ImageType",
                "ConvolutionKernel",
            )
        ),
        pixels=_stored_pixels(header, places, path, attenuation=".1.1.4" not in sop_class),
        header_end=header_end,
        transfer_syntax=header.file_meta.get("TransferSyntaxUID"),
    )


def _stored_pixels(header: Dataset, places: list[Dataset], path: Path, *, attenuation: bool) -> StoredPixels:
    samples = number(header, "SamplesPerPixel", path)
    if samples not in {None, 1.0}:
        raise NotAnalysable(
            "modality-mismatch",
            f"{path.name}: {name_of('SamplesPerPixel')} is {samples:g}: a colour picture, not a slice. "
            "Leave it out of the series.",
        )
    units = _first_text(places, "RescaleType", path)
    # An MR's units mean nothing ("normalized", "US"): only of attenuation a number is asked.
    if attenuation and units not in {None, "HU", "HU_MOD", "US"}:
        # Multi-energy maps (PS3.3 C.11.1.1.2) share the SOP class with attenuation images.
        raise NotAnalysable(
            "modality-mismatch",
            f"{path.name}: {name_of('RescaleType')} is {units}: the pixels are not Hounsfield units. "
            "Send the attenuation images.",
        )
    allocated = _size(header, "BitsAllocated", path)
    if allocated not in {8, 16, 32}:
        raise NotAnalysable(
            "unreadable",
            f"{path.name}: {name_of('BitsAllocated')} is {allocated}; 8, 16 and 32 can be read. "
            "Send the image with 16 bits.",
        )
    stored = int(number(header, "BitsStored", path) or allocated)
    stored = min(max(stored, 1), allocated)
    high_bit = number(header, "HighBit", path)
    slope = _first_number(places, "RescaleSlope", path)
    intercept = _first_number(places, "RescaleIntercept", path)
    signed = number(header, "PixelRepresentation", path) == 1
    return StoredPixels(
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=stored - 1 if high_bit is None else int(high_bit),
        signed=signed,
        # A slope of 0 would make every pixel alike: no scanner means it.
        slope=slope or 1.0,
        intercept=intercept or 0.0,
        rescaled=slope is not None and intercept is not None,
        padding=_padding(header, path, stored, signed=signed),
    )


def _padding(header: Dataset, path: Path, bits: int, *, signed: bool) -> tuple[int, int] | None:
    value = number(header, "PixelPaddingValue", path)
    if value is None:
        return None
    limit = number(header, "PixelPaddingRangeLimit", path)

    def as_stored(item: float) -> int:
        # Written as US where SS was meant, and the other way round: the bits are what counts.
        bit_pattern = int(item) & ((1 << bits) - 1)
        return bit_pattern - (1 << bits) if signed and bit_pattern >> (bits - 1) else bit_pattern

    ends = sorted((as_stored(value), as_stored(value if limit is None else limit)))
    return ends[0], ends[1]


def _unit_cosines(cosines: tuple[float, ...], path: Path) -> tuple[Vector, Vector]:
    row, column = cosines[:3], cosines[3:]
    lengths = [sum(item * item for item in vector) ** 0.5 for vector in (row, column)]
    cross = sum(a * b for a, b in zip(row, column, strict=True))
    if any(abs(length - 1) > 0.01 for length in lengths) or abs(cross) > 0.01:
        raise InconsistentGeometry(
            f"{path.name}: {name_of('ImageOrientationPatient')} is "
            f"{as_written(cosines)}: not two unit vectors at right angles. "
            "Correct the header at its source and send the image again."
        )
    unit_row, unit_column = (
        (vector[0] / length, vector[1] / length, vector[2] / length)
        for vector, length in zip((row, column), lengths, strict=True)
    )
    return unit_row, unit_column


def _size(header: Dataset, keyword: str, path: Path) -> int:
    value = number(header, keyword, path)
    if value is None:
        raise UnreadableInstance(missing(keyword, path))
    if value < 1 or value != int(value):
        raise UnreadableInstance(
            f"{path.name}: {name_of(keyword)} is {value:g}. Send the image again from its source."
        )
    return int(value)


def _needed(places: list[Dataset], keyword: str, path: Path, count: int) -> tuple[float, ...]:
    for place in places:
        found = numbers(place, keyword, path, count)
        if found is not None:
            return found
    raise InconsistentGeometry(missing(keyword, path))


def _first_number(places: list[Dataset], keyword: str, path: Path) -> float | None:
    return next((found for place in places if (found := number(place, keyword, path)) is not None), None)


def _first_text(places: list[Dataset], keyword: str, path: Path) -> str | None:
    return next((found for place in places if (found := text(place, keyword, path)) is not None), None)
