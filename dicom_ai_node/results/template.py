"""Whether a report has the structure of its templates: PS3.16 TID 1500, 1600, 1410, 1411, 1501, 320.

What the templates say is in tables: which concept, with which value type and relationship, how often. The
templates are extensible, so a concept without a row is no fault; one with a row that stands there in another
way is. Attributes of value types are those of PS3.3 C.17.3 and C.18.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset

from dicom_ai_node.results.rendition import SEGMENTATION_SOP_CLASSES

REGION, SEGMENT, FRAME, SOURCE = "111030", "121191", "121214", "121233"
"""Where a measurement group may lie: image region, referenced segment, segmentation frame with its source."""

TRACKING_IDENTIFIER, TRACKING_UID, FINDING_SITE = "112039", "112040", "363698007"
PRIOR_REPORT: Final = "122075"

NEEDED_BY_VALUE_TYPE: Final[Mapping[str, tuple[str, ...]]] = {
    "CONTAINER": ("ConceptNameCodeSequence", "ContinuityOfContent"),
    "TEXT": ("ConceptNameCodeSequence", "TextValue"),
    "CODE": ("ConceptNameCodeSequence", "ConceptCodeSequence"),
    "NUM": ("ConceptNameCodeSequence", "MeasuredValueSequence"),
    "DATE": ("ConceptNameCodeSequence", "Date"),
    "UIDREF": ("ConceptNameCodeSequence", "UID"),
    "IMAGE": ("ReferencedSOPSequence",),
    "COMPOSITE": ("ReferencedSOPSequence",),
    "SCOORD": ("ConceptNameCodeSequence", "GraphicType", "GraphicData", "ContentSequence"),
    "SCOORD3D": (
        "ConceptNameCodeSequence",
        "GraphicType",
        "GraphicData",
        "ReferencedFrameOfReferenceUID",
    ),
}
"""Type 1 attributes of the value types that our reports have."""

CODE_VALUE_LENGTH, CODE_MEANING_LENGTH = 16, 64


@dataclass(frozen=True)
class Row:
    """One row of a template.

    Attributes:
        value_types: those that it allows.
        most: None where it may come any number of times.
    """

    concept: str
    meaning: str
    value_types: tuple[str, ...]
    relationship: str
    least: int = 0
    most: int | None = 1


_OBSERVER: Final = (
    Row("121005", "Observer Type", ("CODE",), "HAS OBS CONTEXT", 1),
    Row("121012", "Device Observer UID", ("UIDREF",), "HAS OBS CONTEXT", 1),
    Row("121013", "Device Observer Name", ("TEXT",), "HAS OBS CONTEXT"),
    Row("121014", "Device Observer Manufacturer", ("TEXT",), "HAS OBS CONTEXT"),
    Row("121015", "Device Observer Model Name", ("TEXT",), "HAS OBS CONTEXT"),
    Row("121016", "Device Observer Serial Number", ("TEXT",), "HAS OBS CONTEXT"),
)
"""TID 1002, 1004."""

REPORT: Final = (
    Row("121049", "Language", ("CODE",), "HAS CONCEPT MOD", 1),
    *_OBSERVER,
    Row("121058", "Procedure reported", ("CODE",), "HAS CONCEPT MOD", 1, None),
    Row("121072", "Impressions", ("CONTAINER",), "CONTAINS", 1),
    Row("18834-2", "Previous Findings", ("CONTAINER",), "CONTAINS"),
    Row("111028", "Image Library", ("CONTAINER",), "CONTAINS", 1),
    Row("126010", "Imaging Measurements", ("CONTAINER",), "CONTAINS"),
    Row("C0034375", "Qualitative Evaluations", ("CONTAINER",), "CONTAINS", 1),
)
"""TID 1500, with the headings that ours adds."""

_GROUP: Final = (
    Row(TRACKING_IDENTIFIER, "Tracking Identifier", ("TEXT",), "HAS OBS CONTEXT", 1),
    Row(TRACKING_UID, "Tracking Unique Identifier", ("UIDREF",), "HAS OBS CONTEXT", 1),
    Row("121071", "Finding", ("CODE",), "CONTAINS"),
    Row(FINDING_SITE, "Finding Site", ("CODE",), "HAS CONCEPT MOD", 1),
    Row("111001", "Algorithm Name", ("TEXT",), "HAS CONCEPT MOD"),
    Row("111003", "Algorithm Version", ("TEXT",), "HAS CONCEPT MOD"),
)
"""What TID 1410, 1411 and 1501 have in common, with TID 1419 and 4019."""

CHILDREN: Final[Mapping[str, tuple[Row, ...]]] = {
    "121072": (Row("121073", "Impression", ("TEXT",), "CONTAINS", 1, None),),
    "18834-2": (
        Row("121069", "Previous Finding", ("TEXT",), "CONTAINS", 0, None),
        Row(PRIOR_REPORT, "Prior report", ("COMPOSITE",), "CONTAINS", 1),
    ),
    "111028": (Row("126200", "Image Library Group", ("CONTAINER",), "CONTAINS", 1, None),),
    "126200": (
        Row("121139", "Modality", ("CODE",), "HAS ACQ CONTEXT"),
        Row("123014", "Target Region", ("CODE",), "HAS ACQ CONTEXT", 1),
        Row("111060", "Study Date", ("DATE",), "HAS ACQ CONTEXT"),
        Row("112227", "Frame of Reference UID", ("UIDREF",), "HAS ACQ CONTEXT"),
    ),
    "126010": (Row("125007", "Measurement Group", ("CONTAINER",), "CONTAINS", 1, None),),
    "C0034375": (
        Row("111017", "CAD Processing and Findings Summary", ("CODE",), "CONTAINS", 1),
        Row("121106", "Comment", ("TEXT",), "CONTAINS", 0, None),
    ),
    "125007": _GROUP,
}
"""By the concept of a container."""

_SOURCE_SERIES: Final = Row("121232", "Source series for segmentation", ("UIDREF",), "CONTAINS", 1)

GROUPS: Final[Mapping[str, tuple[tuple[Row, ...], ...]]] = {
    "1410": (
        (Row(REGION, "Image Region", ("SCOORD", "SCOORD3D"), "CONTAINS", 1),),
        (
            Row(FRAME, "Referenced Segmentation Frame", ("IMAGE",), "CONTAINS", 1),
            Row(SOURCE, "Source image for segmentation", ("IMAGE",), "CONTAINS", 1),
        ),
    ),
    "1411": ((Row(SEGMENT, "Referenced Segment", ("IMAGE",), "CONTAINS", 1), _SOURCE_SERIES),),
    "1501": ((),),
}
"""Where a measurement group lies, by its template: exactly one of the choices, and nothing of the others."""


def structure_faults(report: Dataset) -> list[str]:
    """What is wrong with the content of one report, in words; nothing where it follows its templates."""
    found = [*_value_types(report, "1"), *_codes(report)]
    if found or not report.get("ContentSequence"):
        # The rest goes by attributes that are there for certain now.
        return found or ["the report has no content"]
    if concept(report) != "126000" or template(report) != "1500":
        found.append("the root is no TID 1500 Imaging Measurement Report")
    found += _rows(report, REPORT, "the report")
    for container in _containers(report):
        rows = CHILDREN.get(concept(container), ())
        found += _rows(container, rows, f"container {concept(container)}")
    groups = [item for item in _containers(report) if concept(item) == "125007"]
    for group in groups:
        found += _group(group)
    found += _tracking(groups)
    found += _graphics(report)
    found += _references(report)
    return list(dict.fromkeys(found))


def concept(item: Dataset) -> str:
    """The code value of the concept name; empty where there is none."""
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def template(item: Dataset) -> str:
    """The template that a container says it follows; empty where it says none."""
    templates = item.get("ContentTemplateSequence")
    return str(templates[0].TemplateIdentifier) if templates else ""


def content_items(item: Dataset) -> Iterator[Dataset]:
    """All content items below an item, depth first."""
    for child in item.get("ContentSequence", ()):
        yield child
        yield from content_items(child)


def _containers(item: Dataset) -> Iterator[Dataset]:
    return (child for child in content_items(item) if child.ValueType == "CONTAINER")


def _value_types(item: Dataset, place: str) -> Iterator[str]:
    kind = str(item.get("ValueType", ""))
    needed = NEEDED_BY_VALUE_TYPE.get(kind)
    if needed is None:
        yield f"content item {place}: ValueType {kind or 'missing'} is none that this node writes"
    for keyword in needed or ():
        if keyword not in item or item[keyword].is_empty:
            yield f"content item {place} ({kind}): {keyword} is missing or empty"
    if kind == "NUM" and item.get("MeasuredValueSequence"):
        measured = item.MeasuredValueSequence[0]
        for keyword in ("NumericValue", "MeasurementUnitsCodeSequence"):
            if keyword not in measured or measured[keyword].is_empty:
                yield f"content item {place} (NUM): {keyword} is missing or empty"
    for number, child in enumerate(item.get("ContentSequence", ()), start=1):
        if not child.get("RelationshipType"):
            yield f"content item {place}.{number}: RelationshipType is missing"
        yield from _value_types(child, f"{place}.{number}")


def _codes(report: Dataset) -> Iterator[str]:
    """Every code is a triple that fits its value representations (PS3.3 table 8.8-1)."""
    for element in report.iterall():
        if element.VR != "SQ" or not element.keyword.endswith("CodeSequence"):
            continue
        for item in element.value:
            value, meaning = str(item.get("CodeValue") or ""), str(item.get("CodeMeaning") or "")
            if not (value or item.get("LongCodeValue") or item.get("URNCodeValue")) or not meaning:
                yield f"{element.keyword}: a code without value or meaning"
            elif value and not item.get("CodingSchemeDesignator"):
                yield f"{element.keyword}: code {value} without Coding Scheme Designator"
            elif len(value) > CODE_VALUE_LENGTH or len(meaning) > CODE_MEANING_LENGTH:
                yield f"{element.keyword}: code {value} or its meaning is too long"


def _rows(container: Dataset, rows: Sequence[Row], place: str) -> Iterator[str]:
    for row in rows:
        found = [item for item in container.get("ContentSequence", ()) if concept(item) == row.concept]
        if len(found) < row.least:
            yield f"{place}: {row.meaning} ({row.concept}) is missing"
        if row.most is not None and len(found) > row.most:
            yield f"{place}: {row.meaning} ({row.concept}) is there {len(found)} times"
        for item in found:
            if item.ValueType not in row.value_types:
                yield f"{place}: {row.meaning} ({row.concept}) is a {item.ValueType}"
            if item.RelationshipType != row.relationship:
                yield f"{place}: {row.meaning} ({row.concept}) is related by {item.RelationshipType}"


def _group(group: Dataset) -> Iterator[str]:
    place = f"measurement group of TID {template(group) or '(none)'}"
    choices = GROUPS.get(template(group))
    if choices is None:
        yield f"{place} follows no known template"
        return
    places = {REGION, SEGMENT, FRAME, SOURCE}
    there = [concept(item) for item in group.ContentSequence if concept(item) in places]
    for rows in choices:
        if sorted(there) == sorted(row.concept for row in rows if row.concept in places):
            yield from _rows(group, rows, place)
            break
    else:
        yield f"{place} has the wrong places ({', '.join(there) or 'none'})"
    named = {concept(item) for item in group.ContentSequence} & {"111001", "111003"}
    if len(named) == 1:
        yield f"{place} names an algorithm without its version, or a version without its algorithm"


def _tracking(groups: Sequence[Dataset]) -> Iterator[str]:
    """Groups of one tracking UID speak of one vertebra, and those of a vertebra have one tracking UID."""
    by_uid: dict[str, set[tuple[str, str]]] = {}
    by_name: dict[str, set[str]] = {}
    for group in groups:
        told = {concept(item): item for item in group.ContentSequence}
        if not {TRACKING_UID, TRACKING_IDENTIFIER, FINDING_SITE} <= told.keys():
            continue
        uid = str(told[TRACKING_UID].get("UID", ""))
        name = str(told[TRACKING_IDENTIFIER].get("TextValue", ""))
        sites = told[FINDING_SITE].get("ConceptCodeSequence") or [Dataset()]
        by_uid.setdefault(uid, set()).add((name, str(sites[0].get("CodeValue", ""))))
        by_name.setdefault(name, set()).add(uid)
    if any(len(names) > 1 for names in by_uid.values()):
        yield "one Tracking Unique Identifier stands for two vertebrae"
    if any(len(uids) > 1 for uids in by_name.values()):
        yield "one vertebra has two Tracking Unique Identifiers"


def _graphics(report: Dataset) -> Iterator[str]:
    """Multiplicity of coordinates, closed polygons, and boxes that are closed or have four corners."""
    for item in content_items(report):
        if item.ValueType not in {"SCOORD", "SCOORD3D"}:
            continue
        across = 2 if item.ValueType == "SCOORD" else 3
        data = np.asarray(item.GraphicData, dtype=np.float64)
        if len(data) % across or not np.isfinite(data).all():
            yield f"{item.ValueType}: Graphic Data is not a list of points"
            continue
        points = data.reshape(-1, across)
        closed = len(points) > 2 and bool((points[0] == points[-1]).all())
        if item.GraphicType == "POLYGON" and not closed:
            yield f"{item.ValueType}: a polygon is not closed"
        if concept(item) == REGION and not closed and len(points) != 4:
            yield "an image region is neither closed nor a box of four corners"
        if item.GraphicType == "POLYLINE" and len(points) < 2:
            yield f"{item.ValueType}: a polyline has one point"
        if item.ValueType == "SCOORD" and [
            (child.ValueType, child.RelationshipType) for child in item.ContentSequence
        ] != [("IMAGE", "SELECTED FROM")]:
            yield "coordinates are not selected from exactly one image (TID 320, 1410)"


def _references(report: Dataset) -> Iterator[str]:
    """Everything that is referred to is evidence; images that are spoken of are in the image library."""
    current, other = (
        {
            str(item.ReferencedSOPInstanceUID): str(item.ReferencedSOPClassUID)
            for study in report.get(keyword, ())
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
    )
    series = {
        str(item.SeriesInstanceUID)
        for study in report.get("CurrentRequestedProcedureEvidenceSequence", ())
        for item in study.ReferencedSeriesSequence
    }
    library, spaces = _library(report)
    for item in content_items(report):
        for reference in item.get("ReferencedSOPSequence", ()):
            uid, sop_class = str(reference.ReferencedSOPInstanceUID), str(reference.ReferencedSOPClassUID)
            evidence = other if item.ValueType == "COMPOSITE" else current
            if evidence.get(uid) is None:
                yield f"{uid} is referred to but not in the evidence"
            elif evidence[uid] != sop_class:
                yield f"{uid} is referred to under another SOP class than in the evidence"
            drawn = concept(item) in {SEGMENT, FRAME}
            if drawn and sop_class not in SEGMENTATION_SOP_CLASSES.values():
                yield f"{uid} is referred to as a segmentation and is none"
            if item.ValueType == "IMAGE" and not drawn and uid not in library:
                yield f"{uid} is spoken of but not in the image library"
        if concept(item) == _SOURCE_SERIES.concept and item.ValueType == "UIDREF" and item.UID not in series:
            yield f"source series {item.UID} is not in the evidence"
        if item.ValueType == "SCOORD3D" and item.ReferencedFrameOfReferenceUID not in spaces:
            yield "a region in space lies in another frame of reference than the images"


def _library(report: Dataset) -> tuple[set[str], set[str]]:
    """SOP Instance UIDs of the images in the image library, and the frames of reference that it names."""
    images, spaces = set(), set()
    for group in _containers(report):
        if concept(group) != "126200":
            continue
        for item in group.ContentSequence:
            if item.ValueType == "IMAGE":
                images.add(str(item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID))
            elif concept(item) == "112227" and item.ValueType == "UIDREF":
                spaces.add(str(item.UID))
    return images, spaces
