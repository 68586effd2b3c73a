"""The label map as a DICOM Segmentation: one binary segment per vertebra (PS3.3 A.51, C.8.20).

Frames lie on the source's own planes, so geometry is exact whatever the sign of the cosines, the order of
the slices or the tilt of the gantry; frames without a voxel are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import SegmentationStorage
from pydicom.valuerep import DSfloat

from dicom_ai_node.anatomy import Level, code, level_of_verse_label, verse_label
from dicom_ai_node.colours import grade_colour, pcs_cielab
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.report import Analysis, LabelMap, Vertebra
from dicom_ai_node.results import codes
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.modules import (
    RESEARCH_USE_ONLY,
    Stamp,
    declare_private_codes,
    new_object,
    plain,
    referenced_series,
)
from dicom_ai_node.results.source import ImageReference, SourceImages

SERIES_NUMBER: Final = 9101
_FILM_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True)
class Segment:
    """One segment: its number in the object (from 1), the vertebra, and the slices that it occupies."""

    number: int
    level: Level
    slices: tuple[int, ...]


def segments_of(label_map: LabelMap) -> tuple[Segment, ...]:
    """The segments that a label map becomes, from head to tail.

    Raises:
        EncodingError: a label that no vertebral level has.
    """
    occupied = _occupied_slices(label_map.labels)
    try:
        levels = {level_of_verse_label(label): where for label, where in occupied.items()}
    except KeyError as error:
        raise EncodingError(
            f"Label map: the value {error.args[0]} is no VerSe label of a vertebra, "
            "so that its segment has no name."
        ) from error
    ordered = sorted(levels, key=list(Level).index)
    return tuple(Segment(number, level, levels[level]) for number, level in enumerate(ordered, start=1))


def encode_segmentation(
    analysis: Analysis, source: SourceImages, identity: ResultIdentity, stamp: Stamp
) -> FileDataset | None:
    """The segmentation object; None where there is no label map or no labelled voxel.

    Raises:
        EncodingError: the label map is not on the source's grid, or holds a label that no level has.
    """
    label_map = analysis.label_map
    if label_map is None:
        return None
    segments = segments_of(label_map)
    if not segments:
        return None
    _check_grid(label_map, source)
    dataset = new_object(
        source,
        identity,
        analysis.report.algorithms,
        stamp,
        kind="seg",
        sop_class_uid=SegmentationStorage,
        modality="SEG",
        series_number=SERIES_NUMBER,
        series_description="AI vertebral bodies",
    )
    vertebrae = {vertebra.level: vertebra for vertebra in analysis.report}
    _image_modules(dataset, label_map, source)
    dataset.SegmentSequence = [
        _segment_item(segment, vertebrae.get(segment.level), analysis, identity) for segment in segments
    ]
    _dimension_module(dataset, identity, label_map.affine is not None)
    _functional_groups(dataset, segments, label_map, source)
    dataset.PixelData = _packed_frames(segments, label_map.labels)
    declare_private_codes(dataset)
    return dataset


def _occupied_slices(labels: npt.NDArray[np.uint8]) -> dict[int, tuple[int, ...]]:
    occupied: dict[int, list[int]] = {}
    for index, plane in enumerate(labels):
        present = np.flatnonzero(np.bincount(plane.ravel(), minlength=2)[1:]) + 1
        for label in present.tolist():
            occupied.setdefault(label, []).append(index)
    return {label: tuple(where) for label, where in occupied.items()}


def _check_grid(label_map: LabelMap, source: SourceImages) -> None:
    if source.shape is None:
        raise EncodingError("Label map: the source series forms neither volume nor radiograph to lie on.")
    if (label_map.affine is None) != source.is_film:
        raise EncodingError(
            "Label map: it lies in patient space, the source is a radiograph, which has none; give no affine."
            if source.is_film
            else "Label map: it lies in no patient space, but the source series is a volume; give its affine."
        )
    expected = source.shape
    if (
        label_map.affine is not None
        and source.affine is not None
        and not np.allclose(label_map.affine, source.affine, atol=1e-3)
    ):
        raise EncodingError(
            "Label map: its affine differs from that of the source volume; resample it to the source's grid."
        )
    if label_map.labels.shape != expected:
        raise EncodingError(
            f"Label map: its shape is {label_map.labels.shape}, that of the source images {expected}; "
            "resample it to the source's grid."
        )


def _image_modules(dataset: Dataset, label_map: LabelMap, source: SourceImages) -> None:
    _, rows, columns = label_map.labels.shape
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelRepresentation = 0
    dataset.Rows, dataset.Columns = rows, columns
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0
    dataset.LossyImageCompression = "01" if source.header.get("LossyImageCompression") == "01" else "00"
    if dataset.LossyImageCompression == "01":
        dataset.LossyImageCompressionRatio = source.header.get("LossyImageCompressionRatio") or 1
        dataset.LossyImageCompressionMethod = (
            source.header.get("LossyImageCompressionMethod") or "ISO_10918_1"
        )
    dataset.SegmentationType = "BINARY"
    dataset.SegmentsOverlap = "NO"
    dataset.ContentLabel = "VERTEBRAE"
    dataset.ContentDescription = f"Vertebral bodies, found by AI. {RESEARCH_USE_ONLY}"
    dataset.ContentCreatorName = ""
    if label_map.affine is None:
        # Type 2C without a position in the patient (PS3.3 C.7.6.1).
        dataset.PatientOrientation = source.header.get("PatientOrientation") or ""
    else:
        dataset.FrameOfReferenceUID = source.frame_of_reference_uid
        dataset.PositionReferenceIndicator = source.header.get("PositionReferenceIndicator") or ""


def _segment_item(
    segment: Segment, vertebra: Vertebra | None, analysis: Analysis, identity: ResultIdentity
) -> Dataset:
    grade = None if vertebra is None else vertebra.genant_grade
    item = Dataset()
    item.SegmentNumber = segment.number
    item.SegmentLabel = segment.level.value
    item.SegmentDescription = f"Vertebral body of {segment.level.value}" + (
        "" if grade is None else f", Genant grade {grade}"
    )
    item.SegmentAlgorithmType = "AUTOMATIC"
    names = [f"{algorithm.name} {algorithm.version}" for algorithm in analysis.report.algorithms]
    item.SegmentAlgorithmName = plain("; ".join(names) or "unknown", 64)
    if analysis.report.algorithms:
        # Readers (highdicom among them) take exactly one; the others stand in Contributing Equipment.
        drew = next(
            (a for a in analysis.report.algorithms if "segment" in a.name or "detect" in a.name),
            analysis.report.algorithms[0],
        )
        item.SegmentationAlgorithmIdentificationSequence = [_algorithm_item(drew.name, drew.version)]
    item.SegmentedPropertyCategoryCodeSequence = [codes.item(codes.ANATOMICAL_STRUCTURE)]
    item.SegmentedPropertyTypeCodeSequence = [codes.item(codes.VERTEBRAL_BODY)]
    item.AnatomicRegionSequence = [codes.item(code(segment.level))]
    item.TrackingID = segment.level.value
    item.TrackingUID = identity.tracking_uid(segment.level.value)
    item.RecommendedDisplayCIELabValue = pcs_cielab(grade_colour(grade))
    return item


def _algorithm_item(name: str, version: str) -> Dataset:
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [codes.item(codes.ARTIFICIAL_INTELLIGENCE)]
    item.AlgorithmName = plain(name, 64)
    item.AlgorithmVersion = plain(version, 64)
    return item


def _dimension_module(dataset: Dataset, identity: ResultIdentity, in_space: bool) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = identity.uid("seg dimensions")
    dataset.DimensionOrganizationSequence = [organization]
    # By segment, then by position: (0062,000B) in (0062,000A), (0020,0032) in (0020,9113).
    pointers = [(0x0062000B, 0x0062000A, "Segment")]
    if in_space:
        pointers.append((0x00200032, 0x00209113, "Position"))
    dataset.DimensionIndexSequence = []
    for pointer, group, label in pointers:
        index = Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = group
        index.DimensionDescriptionLabel = label
        dataset.DimensionIndexSequence.append(index)


def _functional_groups(
    dataset: Dataset, segments: Sequence[Segment], label_map: LabelMap, source: SourceImages
) -> None:
    affine = label_map.affine
    shared = _film_plane(source.header) if affine is None else _shared_groups(affine)
    dataset.SharedFunctionalGroupsSequence = [shared]
    positions = {index: number for number, index in enumerate(_all_slices(segments), start=1)}
    frames = []
    for segment in segments:
        for index in segment.slices:
            image = source.reference(index)
            frames.append(
                _frame_groups(
                    segment.number, None if affine is None else (affine, index, positions[index]), image
                )
            )
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(frames)
    used = [image for index in positions if (image := source.reference(index)) is not None]
    dataset.ReferencedSeriesSequence = referenced_series(source, used)


def _all_slices(segments: Sequence[Segment]) -> list[int]:
    return sorted({index for segment in segments for index in segment.slices})


def _shared_groups(affine: npt.NDArray[np.float64]) -> Dataset:
    """Pixel measures and orientation (PS3.3 C.7.6.16.2.1 and .4)."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    row_cosines, column_cosines = affine[:3, 2] / lengths[2], affine[:3, 1] / lengths[1]
    normal = np.cross(row_cosines, column_cosines)
    between = abs(float(affine[:3, 0] @ normal)) or 1.0
    measures = Dataset()
    measures.PixelSpacing = decimals(lengths[1:3])
    measures.SliceThickness = DSfloat(between, auto_format=True)
    measures.SpacingBetweenSlices = DSfloat(between, auto_format=True)
    orientation = Dataset()
    orientation.ImageOrientationPatient = decimals([*row_cosines, *column_cosines])
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    return shared


def _film_plane(header: Dataset) -> Dataset:
    """Pixel measures and orientation of a film's own plane: rows to the right, columns down.

    Each pixel is one of the film's, which Derivation Image says (PS3.3 A.51.5.1); without a Frame of
    Reference this plane has no place in the patient. It is there for readers that need one to lay a segment
    on an image, and that assume the same of images without: OHIF shows an empty page where it is missing.
    """
    spacing = next(
        (header[keyword].value for keyword in _FILM_SPACINGS if len(header.get(keyword) or ()) == 2), (1, 1)
    )
    shared = _shared_groups(np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]))
    shared.PixelMeasuresSequence[0].PixelSpacing = decimals([float(value) for value in spacing])
    return shared


def _frame_groups(
    segment_number: int,
    place: tuple[npt.NDArray[np.float64], int, int] | None,
    image: ImageReference | None,
) -> Dataset:
    identification = Dataset()
    identification.ReferencedSegmentNumber = segment_number
    content = Dataset()
    content.DimensionIndexValues = [segment_number] if place is None else [segment_number, place[2]]
    groups = Dataset()
    groups.FrameContentSequence = [content]
    groups.SegmentIdentificationSequence = [identification]
    if place is not None:
        affine, index, _ = place
        position = Dataset()
        position.ImagePositionPatient = decimals(affine[:3, 3] + index * affine[:3, 0])
        groups.PlanePositionSequence = [position]
    # Empty where the slice was not sent but interpolated (type 2).
    groups.DerivationImageSequence = []
    if image is not None:
        origin = image.item()
        origin.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_IMAGE_FOR_PROCESSING)]
        origin.SpatialLocationsPreserved = "YES"
        derivation = Dataset()
        derivation.SourceImageSequence = [origin]
        derivation.DerivationCodeSequence = [codes.item(codes.SEGMENTATION_DERIVATION)]
        groups.DerivationImageSequence = [derivation]
    return groups


def _packed_frames(segments: Sequence[Segment], labels: npt.NDArray[np.uint8]) -> bytes:
    """Frames one after the other, one bit per pixel, first pixel in the lowest bit (PS3.5 8.1.1)."""
    frames = [(verse_label(segment.level), index) for segment in segments for index in segment.slices]
    size = labels.shape[1] * labels.shape[2]
    if size % 8 == 0:
        packed = b"".join(
            np.packbits(labels[index] == label, bitorder="little").tobytes() for label, index in frames
        )
    else:
        bits = np.concatenate([(labels[index] == label).ravel() for label, index in frames])
        packed = np.packbits(bits, bitorder="little").tobytes()
    return packed + b"\0" * (len(packed) % 2)


def decimals(values: Sequence[float] | npt.NDArray[np.floating]) -> list[DSfloat]:
    """Numbers as decimal strings of at most 16 characters; rounding noise around zero is dropped."""
    return [DSfloat(round(float(value), 10) + 0.0, auto_format=True) for value in values]
