"""The label map as a DICOM Segmentation: one segment per vertebra (PS3.3 A.51, C.8.20).

As BINARY, one bit plane per segment and slice, or as LABELMAP, one image per slice whose values are segment
numbers. Both number the segments alike, from head to tail.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset

from dicom_ai_node.anatomy import Level, code, level_of_verse_label
from dicom_ai_node.colours import Rgb, grade_colour, pcs_cielab
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.presets import Compression, SegmentationForm
from dicom_ai_node.report import Analysis, LabelMap, Vertebra
from dicom_ai_node.results import codes
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.modules import (
    RESEARCH_USE_ONLY,
    Stamp,
    declare_private_codes,
    new_object,
    plain,
)
from dicom_ai_node.results.rendition import SEGMENTATION_SOP_CLASSES
from dicom_ai_node.results.seg_frames import Segment, write_bit_planes, write_label_planes
from dicom_ai_node.results.seg_pixels import compress, label_map_pixels
from dicom_ai_node.results.source import SourceImages

SERIES_NUMBER: Final = 9101
BACKGROUND: Final = "Background"


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
    analysis: Analysis,
    source: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    form: SegmentationForm = "binary",
    compression: Compression = "none",
) -> FileDataset | None:
    """The segmentation object; None where there is no label map or no labelled voxel.

    Args:
        form: BINARY or LABELMAP; each has UIDs of its own.
        compression: the transfer syntax that the object is written in; no other object for that.

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
        kind="seg" if form == "binary" else "seg labelmap",
        sop_class_uid=SEGMENTATION_SOP_CLASSES[form],
        modality="SEG",
        series_number=SERIES_NUMBER,
        series_description="AI vertebral bodies",
    )
    vertebrae = {vertebra.level: vertebra for vertebra in analysis.report}
    _image_modules(dataset, label_map, source)
    items = [_segment_item(segment, vertebrae.get(segment.level), analysis, identity) for segment in segments]
    if form == "binary":
        _binary_pixels(dataset)
        dataset.SegmentSequence = items
        write_bit_planes(dataset, segments, label_map, source, identity)
    else:
        colours = [_colour(vertebrae.get(segment.level)) for segment in segments]
        label_map_pixels(dataset, colours)
        for item in items:
            # The palette says it (PS3.3 C.8.20.2).
            del item.RecommendedDisplayCIELabValue
        dataset.SegmentSequence = [_background_item(items[0]), *items]
        write_label_planes(dataset, segments, label_map, source, identity)
    compress(dataset, compression)
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
    dataset.PixelRepresentation = 0
    dataset.Rows, dataset.Columns = rows, columns
    dataset.LossyImageCompression = "01" if source.header.get("LossyImageCompression") == "01" else "00"
    if dataset.LossyImageCompression == "01":
        dataset.LossyImageCompressionRatio = source.header.get("LossyImageCompressionRatio") or 1
        dataset.LossyImageCompressionMethod = (
            source.header.get("LossyImageCompressionMethod") or "ISO_10918_1"
        )
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


def _binary_pixels(dataset: Dataset) -> None:
    dataset.SegmentationType = "BINARY"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = 0


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
    item.RecommendedDisplayCIELabValue = pcs_cielab(_colour(vertebra))
    return item


def _colour(vertebra: Vertebra | None) -> Rgb:
    return grade_colour(None if vertebra is None else vertebra.genant_grade)


def _background_item(segment: Dataset) -> Dataset:
    """What the pixel padding value stands for: a label map describes each of its values."""
    item = Dataset()
    item.SegmentNumber = 0
    item.SegmentLabel = BACKGROUND
    item.SegmentAlgorithmType = segment.SegmentAlgorithmType
    item.SegmentAlgorithmName = segment.SegmentAlgorithmName
    item.SegmentedPropertyCategoryCodeSequence = [codes.item(codes.BACKGROUND)]
    item.SegmentedPropertyTypeCodeSequence = [codes.item(codes.BACKGROUND)]
    return item


def _algorithm_item(name: str, version: str) -> Dataset:
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [codes.item(codes.ARTIFICIAL_INTELLIGENCE)]
    item.AlgorithmName = plain(name, 64)
    item.AlgorithmVersion = plain(version, 64)
    return item
