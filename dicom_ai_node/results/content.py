"""SR content items as data sets (PS3.3 section C.17.3); each function makes one item of one value type."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_ai_node.presets import BoxShape
from dicom_ai_node.results import codes
from dicom_ai_node.results.codes import Code
from dicom_ai_node.results.modules import printable
from dicom_ai_node.results.source import ImageReference

CONTAINS: Final = "CONTAINS"
HAS_CONCEPT_MOD: Final = "HAS CONCEPT MOD"
HAS_OBS_CONTEXT: Final = "HAS OBS CONTEXT"
HAS_ACQ_CONTEXT: Final = "HAS ACQ CONTEXT"
SELECTED_FROM: Final = "SELECTED FROM"
INFERRED_FROM: Final = "INFERRED FROM"

Point = tuple[float, float]


def container(
    name: Code, children: Sequence[Dataset], *, template: str | None = None, root: bool = False
) -> Dataset:
    """A heading with its content; `template` is the TID that the content follows."""
    item = _item(None if root else CONTAINS, "CONTAINER", name)
    item.ContinuityOfContent = "SEPARATE"
    if template is not None:
        identification = Dataset()
        identification.MappingResource = "DCMR"
        identification.TemplateIdentifier = template
        item.ContentTemplateSequence = [identification]
    if children:
        item.ContentSequence = list(children)
    return item


def text(relationship: str, name: Code, value: str, children: Sequence[Dataset] = ()) -> Dataset:
    """A TEXT item; what its character set cannot hold is seen to once the object is whole (`repertoire`)."""
    item = _item(relationship, "TEXT", name)
    item.TextValue = printable(value)
    if children:
        item.ContentSequence = list(children)
    return item


def day(relationship: str, name: Code, value: date | str) -> Dataset:
    """A DATE item; a string is a DA value as another object has it."""
    item = _item(relationship, "DATE", name)
    item.Date = value if isinstance(value, str) else value.strftime("%Y%m%d")
    return item


def composite(relationship: str, name: Code, sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """A COMPOSITE item: an object that is no image."""
    item = _item(relationship, "COMPOSITE", name)
    item.ReferencedSOPSequence = [ImageReference(sop_class_uid, sop_instance_uid).item()]
    return item


def coded(relationship: str, name: Code, value: Code | Dataset, children: Sequence[Dataset] = ()) -> Dataset:
    """A CODE item; a data set is an item of a code sequence as another object has it."""
    item = _item(relationship, "CODE", name)
    item.ConceptCodeSequence = [codes.item(value) if isinstance(value, Code) else value]
    if children:
        item.ContentSequence = list(children)
    return item


def number(
    name: Code,
    value: float,
    unit: Code,
    children: Sequence[Dataset] = (),
    *,
    decimals: int = 2,
    relationship: str = CONTAINS,
) -> Dataset:
    """A NUM item with its unit, rounded to `decimals`."""
    item = _item(relationship, "NUM", name)
    measured = Dataset()
    measured.NumericValue = f"{round(float(value), decimals) + 0.0:.{decimals}f}"
    measured.MeasurementUnitsCodeSequence = [codes.item(unit)]
    item.MeasuredValueSequence = [measured]
    if children:
        item.ContentSequence = list(children)
    return item


def uidref(relationship: str, name: Code, uid: str) -> Dataset:
    """A UIDREF item."""
    item = _item(relationship, "UIDREF", name)
    item.UID = uid
    return item


def image(
    relationship: str, name: Code | None, reference: ImageReference, *, segment: int | None = None
) -> Dataset:
    """An IMAGE item: an image, one of its frames, or one segment of a segmentation."""
    item = _item(relationship, "IMAGE", name)
    target = reference.item()
    if segment is not None:
        target.ReferencedSegmentNumber = segment
    item.ReferencedSOPSequence = [target]
    return item


def box(
    name: Code,
    rows: Point,
    columns: Point,
    reference: ImageReference,
    *,
    shape: BoxShape = "closed",
    relationship: str = CONTAINS,
) -> Dataset:
    """An SCOORD item: a polyline around a box on an image.

    Args:
        rows: first and last row as pixel edges: the first pixel reaches from 0.0 to 1.0 (PS3.3 C.18.6.1.1).
        columns: likewise.
        shape: "closed" says the first corner again at the end, "open" has the four corners alone.
    """
    (top, bottom), (left, right) = rows, columns
    corners = [(top, left), (top, right), (bottom, right), (bottom, left), (top, left)]
    if shape == "open":
        corners.pop()
    return coordinates(relationship, name, "POLYLINE", np.array(corners), reference)


def polygon_in_space(
    relationship: str, name: Code, corners_mm: npt.ArrayLike, frame_of_reference_uid: str
) -> Dataset:
    """An SCOORD3D item: a polygon in patient space (PS3.3 C.18.9).

    Args:
        corners_mm: shape (n, 3), LPS millimetres, in order around it and in one plane; the first is written
            again at the end.
    """
    item = _item(relationship, "SCOORD3D", name)
    item.GraphicType = "POLYGON"
    corners = np.asarray(corners_mm, dtype=np.float64)
    closed = np.concatenate([corners, corners[:1]])
    item.GraphicData = [round(float(value), 3) for value in closed.ravel()]
    item.ReferencedFrameOfReferenceUID = frame_of_reference_uid
    return item


def coordinates(
    relationship: str,
    name: Code,
    graphic_type: Literal["POLYLINE", "MULTIPOINT"],
    points: npt.NDArray[np.float64],
    reference: ImageReference,
) -> Dataset:
    """An SCOORD item on an image.

    Args:
        points: shape (n, 2), (row, column) as pixel edges; written as (column, row) (PS3.3 C.18.6).
    """
    item = _item(relationship, "SCOORD", name)
    item.GraphicType = graphic_type
    item.GraphicData = [round(float(value), 3) for value in points[:, ::-1].ravel()]
    item.ContentSequence = [image(SELECTED_FROM, None, reference)]
    return item


def _item(relationship: str | None, value_type: str, name: Code | None) -> Dataset:
    item = Dataset()
    if relationship is not None:
        item.RelationshipType = relationship
    item.ValueType = value_type
    if name is not None:
        item.ConceptNameCodeSequence = [codes.item(name)]
    return item
