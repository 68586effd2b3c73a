"""The frames of a segmentation: which there are, where each lies, and its pixels (PS3.3 C.7.6.16, C.8.20).

Frames lie on the source's own planes, so geometry is exact whatever the sign of the cosines, the order of
the slices or the tilt of the gantry; frames without a voxel are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.report import LabelMap
from dicom_ai_node.results import codes
from dicom_ai_node.results.decimals import decimals
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.modules import referenced_series
from dicom_ai_node.results.source import ImageReference, SourceImages

_BY_SEGMENT: Final = (0x0062000B, 0x0062000A, "Segment")
_BY_POSITION: Final = (0x00200032, 0x00209113, "Position")
_BY_STACK: Final = (0x00209057, 0x00209111, "In-Stack Position")
"""Dimensions: attribute, the functional group that it is in, its name."""

_FILM_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


@dataclass(frozen=True)
class Segment:
    """One segment: its number in the object (from 1), the vertebra, and the slices that it occupies."""

    number: int
    level: Level
    slices: tuple[int, ...]


def write_bit_planes(
    dataset: Dataset,
    segments: Sequence[Segment],
    label_map: LabelMap,
    source: SourceImages,
    identity: ResultIdentity,
) -> None:
    """One frame per segment and slice: dimensions, functional groups and pixels."""
    in_space = label_map.affine is not None
    organization = identity.uid("seg dimensions")
    _dimension_module(dataset, organization, [_BY_SEGMENT, _BY_POSITION] if in_space else [_BY_SEGMENT])
    positions = {index: number for number, index in enumerate(_all_slices(segments), start=1)}
    frames = []
    for segment in segments:
        for index in segment.slices:
            values = [segment.number, positions[index]] if in_space else [segment.number]
            groups = _frame_groups(label_map.affine, index, values, source.reference(index))
            identification = Dataset()
            identification.ReferencedSegmentNumber = segment.number
            groups.SegmentIdentificationSequence = [identification]
            frames.append(groups)
    _functional_groups(dataset, frames, positions, label_map, source)
    dataset.PixelData = _packed(segments, label_map.labels)


def write_label_planes(
    dataset: Dataset,
    segments: Sequence[Segment],
    label_map: LabelMap,
    source: SourceImages,
    identity: ResultIdentity,
) -> None:
    """One frame per slice, with the numbers of the segments as values."""
    in_space = label_map.affine is not None
    # A film is one frame; an object of frames needs a dimension all the same (PS3.3 C.7.6.17).
    organization = identity.uid("seg labelmap dimensions")
    _dimension_module(dataset, organization, [_BY_POSITION] if in_space else [_BY_STACK])
    slices = _all_slices(segments)
    frames = []
    for number, index in enumerate(slices, start=1):
        groups = _frame_groups(label_map.affine, index, [number], source.reference(index))
        if not in_space:
            groups.FrameContentSequence[0].StackID = "1"
            groups.FrameContentSequence[0].InStackPositionNumber = number
        frames.append(groups)
    _functional_groups(dataset, frames, slices, label_map, source)
    numbers = np.zeros(256, np.uint8)
    for segment in segments:
        numbers[verse_label(segment.level)] = segment.number
    pixels = numbers[label_map.labels[slices]].tobytes()
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)


def _dimension_module(dataset: Dataset, uid: str, pointers: Sequence[tuple[int, int, str]]) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = uid
    dataset.DimensionOrganizationSequence = [organization]
    dataset.DimensionIndexSequence = []
    for pointer, group, label in pointers:
        index = Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = group
        index.DimensionDescriptionLabel = label
        dataset.DimensionIndexSequence.append(index)


def _functional_groups(
    dataset: Dataset,
    frames: Sequence[Dataset],
    slices: Iterable[int],
    label_map: LabelMap,
    source: SourceImages,
) -> None:
    shared = _film_plane(source.header) if label_map.affine is None else _shared_groups(label_map.affine)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.NumberOfFrames = len(frames)
    used = [image for index in slices if (image := source.reference(index)) is not None]
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
    affine: npt.NDArray[np.float64] | None, index: int, dimensions: list[int], image: ImageReference | None
) -> Dataset:
    content = Dataset()
    content.DimensionIndexValues = dimensions
    groups = Dataset()
    groups.FrameContentSequence = [content]
    if affine is not None:
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


def _packed(segments: Sequence[Segment], labels: npt.NDArray[np.uint8]) -> bytes:
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
