"""Whether an object has what its IOD requires: types 1 and 2 of PS3.3, and references that resolve.

The table of required attributes is derived from PS3.3 (`required_attributes.json`). Conditional types are
left to dciodvfy, which knows the conditions; the content of a report is checked by `template`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    ColorSoftcopyPresentationStateStorage,
    Comprehensive3DSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
)

from dicom_ai_node.anatomy import PRIVATE_CODING_SCHEME
from dicom_ai_node.results.rendition import SEGMENTATION_SOP_CLASSES
from dicom_ai_node.results.template import content_items, structure_faults

Required = tuple[str, tuple[str, ...], str]


def problems(dataset: Dataset) -> list[str]:
    """What is wrong with one object by itself, in words; nothing where it is sound."""
    found = [*_missing(dataset), *_coding_schemes(dataset)]
    checks = {
        SEGMENTATION_SOP_CLASSES["binary"]: _bit_planes,
        SEGMENTATION_SOP_CLASSES["labelmap"]: _label_planes,
        GrayscaleSoftcopyPresentationStateStorage: _presentation,
        ColorSoftcopyPresentationStateStorage: _presentation,
        Comprehensive3DSRStorage: _report,
    }
    check = checks.get(dataset.get("SOPClassUID", ""))
    # The others go by attributes that are there for certain once nothing is missing.
    return [*found, *check(dataset)] if check is not None and not found else found


def unresolved(datasets: Sequence[Dataset]) -> list[str]:
    """References between the objects of one analysis that lead nowhere, in words."""
    known = {str(dataset.SOPInstanceUID): dataset for dataset in datasets}
    series = {str(dataset.SeriesInstanceUID) for dataset in datasets}
    found = []
    for dataset in datasets:
        for series_uid, item in _listed(dataset):
            uid = str(item.ReferencedSOPInstanceUID)
            if series_uid in series and uid not in known:
                found.append(f"{_name(dataset)} refers to {uid} in a series of ours that has no such object")
            target = known.get(uid)
            if target is not None and target.SOPClassUID != item.ReferencedSOPClassUID:
                found.append(f"{_name(dataset)} refers to {uid} under another SOP class than its own")
        for item in _content_references(dataset):
            target = known.get(str(item.ReferencedSOPInstanceUID))
            number = item.get("ReferencedSegmentNumber")
            if number is None:
                continue
            if target is None:
                found.append(f"{_name(dataset)} refers to segment {number} of an object that is not there")
            elif number not in {segment.SegmentNumber for segment in target.get("SegmentSequence", ())}:
                found.append(f"{_name(dataset)} refers to segment {number}, which the segmentation lacks")
    return found


@lru_cache(maxsize=1)
def _table() -> dict[str, list[Required]]:
    data = resources.files("dicom_ai_node.results").joinpath("required_attributes.json").read_bytes()
    table: dict[str, list[list[Any]]] = json.loads(data)
    return {
        uid: [(kind, tuple(path.split("/")) if path else (), keyword) for kind, path, keyword in rows]
        for uid, rows in table.items()
    }


def _missing(dataset: Dataset) -> Iterator[str]:
    required = _table().get(str(dataset.get("SOPClassUID", "")))
    if required is None:
        yield f"{_name(dataset)}: SOP Class UID (0008,0016) is none that this node makes"
        return
    for kind, path, keyword in required:
        for place in _items(dataset, path):
            where = "/".join((*path, keyword))
            if keyword not in place:
                yield f"{_name(dataset)}: {where} (type {kind}) is missing"
            elif kind == "1" and place[keyword].is_empty:
                yield f"{_name(dataset)}: {where} (type 1) is empty"


def _items(dataset: Dataset, path: tuple[str, ...]) -> Iterator[Dataset]:
    if not path:
        yield dataset
        return
    for item in dataset.get(path[0], ()):
        yield from _items(item, path[1:])


def _coding_schemes(dataset: Dataset) -> Iterator[str]:
    declared = {item.CodingSchemeDesignator for item in dataset.get("CodingSchemeIdentificationSequence", ())}
    used = {element.value for element in dataset.iterall() if element.keyword == "CodingSchemeDesignator"}
    if PRIVATE_CODING_SCHEME in used - declared:
        yield f"{_name(dataset)}: coding scheme {PRIVATE_CODING_SCHEME} is used but not declared"


def _bit_planes(dataset: Dataset) -> Iterator[str]:
    yield from _frames(dataset, bits=1)
    numbers = [int(segment.SegmentNumber) for segment in dataset.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"{_name(dataset)}: segments are not numbered from 1 on"
    drawn = {
        int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for group in dataset.PerFrameFunctionalGroupsSequence
    }
    if drawn != set(numbers):
        yield f"{_name(dataset)}: segments and frames do not belong together"


def _label_planes(dataset: Dataset) -> Iterator[str]:
    """Every value of a pixel is described, and nothing is described that no pixel has."""
    yield from _frames(dataset, bits=8)
    if dataset.PhotometricInterpretation == "PALETTE COLOR" and not dataset.get("ICCProfile"):
        yield f"{_name(dataset)}: a palette without ICC profile"
    described = {int(segment.SegmentNumber) for segment in dataset.SegmentSequence}
    if dataset.get("PixelPaddingValue") not in described:
        yield f"{_name(dataset)}: no segment describes the pixel padding value"
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        values = set(np.flatnonzero(np.bincount(np.frombuffer(dataset.PixelData, np.uint8))).tolist())
        if values | {int(dataset.PixelPaddingValue)} != described:
            yield f"{_name(dataset)}: segments and the values of pixels do not belong together"


def _frames(dataset: Dataset, bits: int) -> Iterator[str]:
    frames = int(dataset.NumberOfFrames)
    if len(dataset.PerFrameFunctionalGroupsSequence) != frames:
        yield f"{_name(dataset)}: Per-frame Functional Groups and Number of Frames differ"
    if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        there = sum(1 for _ in generate_frames(dataset.PixelData, number_of_frames=frames))
        if there != frames:
            yield f"{_name(dataset)}: Pixel Data has {there} frames, {frames} belong there"
    else:
        size = -(-frames * int(dataset.Rows) * int(dataset.Columns) * bits // 8)
        if len(dataset.PixelData) != size + size % 2:
            there = len(dataset.PixelData)
            yield f"{_name(dataset)}: Pixel Data has {there} bytes, {size + size % 2} belong there"
    yield from _functional_groups(dataset)


def _functional_groups(dataset: Dataset) -> Iterator[str]:
    """Each macro shared or in every frame (PS3.3 table A.51-2); geometry where there is a patient space."""
    needed = {"FrameContentSequence"}
    if dataset.SegmentationType == "BINARY":
        needed.add("SegmentIdentificationSequence")
    if dataset.get("FrameOfReferenceUID"):
        needed |= {"PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence"}
    shared = {element.keyword for element in dataset.SharedFunctionalGroupsSequence[0]}
    for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence, start=1):
        lacking = needed - shared - {element.keyword for element in groups}
        if lacking:
            yield f"{_name(dataset)}: frame {number} has no {', '.join(sorted(lacking))}"


def _presentation(dataset: Dataset) -> Iterator[str]:
    layers = {item.GraphicLayer for item in dataset.GraphicLayerSequence}
    listed = {str(item.ReferencedSOPInstanceUID) for _, item in _listed(dataset)}
    for annotation in dataset.GraphicAnnotationSequence:
        if annotation.GraphicLayer not in layers:
            yield f"{_name(dataset)}: graphic layer {annotation.GraphicLayer} is not declared"
        for item in annotation.get("ReferencedImageSequence", ()):
            if str(item.ReferencedSOPInstanceUID) not in listed:
                yield f"{_name(dataset)}: an annotated image is not among the referenced ones"
        for graphic in annotation.get("GraphicObjectSequence", ()):
            if len(graphic.GraphicData) != 2 * graphic.NumberOfGraphicPoints:
                yield f"{_name(dataset)}: Graphic Data and Number of Graphic Points differ"
            if not np.isfinite(np.asarray(graphic.GraphicData, dtype=float)).all():
                yield f"{_name(dataset)}: Graphic Data holds what is no number"


def _report(dataset: Dataset) -> Iterator[str]:
    yield from (f"{_name(dataset)}: {words}" for words in structure_faults(dataset))


def _listed(dataset: Dataset) -> Iterator[tuple[str, Dataset]]:
    """(series, reference) of all instances that an object lists by series."""
    for study in dataset.get("CurrentRequestedProcedureEvidenceSequence", ()):
        for series in study.ReferencedSeriesSequence:
            for item in series.ReferencedSOPSequence:
                yield str(series.SeriesInstanceUID), item
    for series in dataset.get("ReferencedSeriesSequence", ()):
        for keyword in ("ReferencedInstanceSequence", "ReferencedImageSequence"):
            for item in series.get(keyword, ()):
                yield str(series.SeriesInstanceUID), item


def _content_references(report: Dataset) -> Iterator[Dataset]:
    for item in content_items(report):
        yield from item.get("ReferencedSOPSequence", ())


def _name(dataset: Dataset) -> str:
    return f"{dataset.get('Modality', 'object')} {dataset.get('SOPInstanceUID', 'without UID')}"
