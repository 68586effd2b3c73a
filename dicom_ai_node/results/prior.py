"""Reads what an earlier report of this node said, from its SR content (TID 1500)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_ai_node.anatomy import LEVELS, Level, code, order
from dicom_ai_node.prior import PriorReport, PriorVertebra
from dicom_ai_node.results import codes
from dicom_ai_node.results.identity import is_own_result
from dicom_ai_node.results.template import concept, content_items

_LEVELS: Final = {code(level)[:2]: level for level in LEVELS}
_FINDINGS: Final = {codes.COMPRESSION_FRACTURE[:2]: True, codes.NORMALITY_UNDETERMINED[:2]: None}


def read_prior(report: Dataset) -> PriorReport | None:
    """What a structured report says that a later one compares with.

    Returns:
        None where the report is not one of this node's (any version), or speaks of no vertebra.
    """
    if report.get("SOPClassUID") != Comprehensive3DSRStorage or not is_own_result(report):
        return None
    vertebrae: dict[Level, PriorVertebra] = {}
    for group in content_items(report):
        if concept(group) == codes.MEASUREMENT_GROUP.value:
            told = _vertebra(group)
            if told is not None:
                # The groups of one vertebra stand together; only one of them holds numbers.
                known = vertebrae.setdefault(told.level, told)
                if known.height_loss is None:
                    vertebrae[told.level] = replace(known, height_loss=told.height_loss)
    if not vertebrae:
        return None
    return PriorReport(
        str(report.StudyInstanceUID),
        str(report.SeriesInstanceUID),
        str(report.SOPClassUID),
        str(report.SOPInstanceUID),
        _date(report.get("StudyDate")) or _date(report.get("ContentDate")),
        next((value for value, _ in _coded(report, codes.MODALITY)), ""),
        codes.REASONS["level-uncertain"][:2] in _coded(report, codes.REASON),
        tuple(sorted(vertebrae.values(), key=lambda item: order(item.level))),
    )


def _vertebra(group: Dataset) -> PriorVertebra | None:
    level: Level | None = None
    tracking_uid, loss, fractured = "", None, None
    for item in group.get("ContentSequence", ()):
        name = concept(item)
        if name == codes.FINDING_SITE.value and item.ValueType == "CODE":
            level = _LEVELS.get(_value(item))
        elif name == codes.TRACKING_UID.value:
            tracking_uid = str(item.get("UID", ""))
        elif name == codes.FINDING.value and item.ValueType == "CODE":
            fractured = _FINDINGS.get(_value(item), False)
        elif name == codes.HEIGHT_LOSS.value and item.ValueType == "NUM":
            loss = _share(item)
    if level is None or not tracking_uid:
        return None
    return PriorVertebra(level, tracking_uid, loss, fractured)


def _coded(item: Dataset, name: codes.Code) -> Iterator[tuple[str, str]]:
    """The values, as (value, scheme), of all CODE items of a concept."""
    for child in content_items(item):
        if concept(child) == name.value and child.get("ValueType") == "CODE":
            yield _value(child)


def _value(item: Dataset) -> tuple[str, str]:
    values = item.get("ConceptCodeSequence")
    if not values:
        return "", ""
    return str(values[0].get("CodeValue", "")), str(values[0].get("CodingSchemeDesignator", ""))


def _share(item: Dataset) -> float | None:
    """A percentage as a fraction of one; None where it is no number that a loss of height can be."""
    try:
        value = float(item.MeasuredValueSequence[0].NumericValue) / 100
    except (AttributeError, IndexError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value <= 1 else None


def _date(value: object) -> date | None:
    try:
        return datetime.strptime(str(value), "%Y%m%d").date()
    except ValueError:
        return None
