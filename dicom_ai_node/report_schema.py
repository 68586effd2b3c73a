"""The published JSON schema of reports, for programs that read them without this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from dicom_ai_node.anatomy import LEVELS
from dicom_ai_node.report import (
    DISEASES,
    REASON_CODES,
    SCHEMA,
    SEEN_ON,
    SIGNAL_RATIOS,
    SIX_POINT_NAMES,
    Deformity,
    Status,
)


def json_schema() -> dict[str, Any]:
    """Draft 2020-12, of what `SpineReport.to_dict` gives; every key is required."""
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    point = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 3}
    pair = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    reasons = {
        "type": "array",
        "items": _object({"code": {"enum": list(REASON_CODES)}, "text": {"type": "string"}}),
    }
    status = {"enum": list(get_args(Status))}
    box = _object(
        {
            "sop_instance_uid": {"type": "string"},
            "frame": {"type": "integer", "minimum": 1},
            "rows": pair,
            "columns": pair,
        }
    )
    seen_on = _object(
        {
            "slices": {"type": "integer", "minimum": 0},
            "of": {"type": "integer", "minimum": 1},
            "box_px": _nullable(box),
            "corners_mm": _nullable({"type": "array", "items": point, "minItems": 4, "maxItems": 4}),
        }
    )
    six_points = _object(dict.fromkeys(SIX_POINT_NAMES, point))
    height = {"type": "number", "minimum": 0}
    heights = _object(dict.fromkeys(("anterior", "middle", "posterior", "reference"), height))
    loss = _nullable({"type": "number", "maximum": 1})
    plane = _object(
        {
            "aside_mm": {"type": "number"},
            "counts": {"type": "boolean"},
            "six_points": six_points,
            "heights_mm": heights,
            "height_loss": loss,
        }
    )
    vertebra = _object(
        {
            "level": {"enum": [level.value for level in LEVELS]},
            "level_confidence": probability,
            "level_alternatives": {"type": "object", "additionalProperties": probability},
            "center_mm": _nullable(point),
            "box_px": _nullable(box),
            "six_points": _nullable(six_points),
            "heights_mm": _nullable(heights),
            "height_loss": loss,
            "genant_grade": _nullable({"type": "integer", "minimum": 0, "maximum": 3}),
            "deformity": _nullable({"enum": list(get_args(Deformity))}),
            "fractured": _nullable({"type": "boolean"}),
            "fracture_probability": _nullable(probability),
            "classes": {
                "type": "object",
                "additionalProperties": {"type": "object", "additionalProperties": probability},
            },
            "mean_hu": _nullable({"type": "number"}),
            "malignant": _nullable({"type": "boolean"}),
            "features": {"type": "object", "additionalProperties": probability},
            "signal": {
                "type": "object",
                "additionalProperties": _mapping_of(SIGNAL_RATIOS, {"type": "number", "minimum": 0}),
            },
            "abnormal": {"type": "array", "items": {"type": "string"}},
            "diseases": _nullable({"type": "array", "items": {"enum": list(DISEASES)}}),
            "seen_on": _mapping_of(SEEN_ON, seen_on),
            "status": status,
            "reasons": reasons,
            "planes": {"type": "array", "items": plane},
        }
    )
    text = {"type": "string"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": SCHEMA,
        **_object(
            {
                "schema": {"const": SCHEMA},
                "status": status,
                "reasons": reasons,
                "limitations": reasons,
                "source": _object(
                    {
                        "study_instance_uid": text,
                        "series_instance_uids": {"type": "array", "items": text},
                        "modality": text,
                        "frame_of_reference_uid": _nullable(text),
                    }
                ),
                "algorithms": {
                    "type": "array",
                    "items": _object(dict.fromkeys(("name", "version", "bundle_sha256", "device_uid"), text)),
                },
                "vertebrae": {"type": "array", "items": vertebra},
            }
        ),
    }


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _mapping_of(keys: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
    """An object that may have these keys."""
    return {
        "type": "object",
        "properties": {key: dict(values) for key in keys},
        "additionalProperties": False,
    }


def _nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [dict(schema), {"type": "null"}]}
