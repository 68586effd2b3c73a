"""What is true about a rendered person: the keys that a report uses, so that both can be compared at once.

`truth(spine)` is plain JSON types:
``{"schema": "dicom-ai-node/truth/2", "seed", "age", "vertebrae": [...], "discs": [...]}``, the
vertebrae from head to tail, each with

- `level`, `verse_label`: name and number in the label maps;
- `center_mm`: mean of the six points (for S1 too), patient LPS millimetres;
- `six_points`: where the endplates meet the anterior and posterior wall, and the middles of the endplates,
  all in the body's own mid-sagittal plane; null for S1, whose lower end is fused;
- `corners`: the rims' outermost points, left and right at half depth too: ``{name: [x, y, z]}``;
- `heights_mm`: anterior, middle, posterior (distances of the pairs) and the reference of the Genant loss;
- `beside`: list of ``{"aside_mm", "six_points", "heights_mm"}``: the same six points and the three heights in
  the planes a quarter of the body's width to the right (`aside_mm` is negative) and to the left; null for S1;
- `height_loss`, `genant_grade`, `deformity`, `fractured`: as `genant.grade_spine` says of the true heights;
  null for C3-C7 and S1, which Genant's method does not cover (`fractured` is false there);
- `loss_before`: the loss of the same body before it broke, by the same rule;
- `axes`: unit vectors `left`, `posterior`, `superior` of the body's own frame: superior stands across the
  mean of both endplates;
- `disease`: list of diseases of this vertebra, words of `disease.Disease` ("OVCF" for a fracture of which
  nothing else was asked);
- `features`: P4's 15 features as booleans (`disease.Features`); null without a fracture or a tumour whose
  signs were built;
- `lesions`: list of ``{"kind", "number", "center_mm", "size_mm", "where"}``: kind and number of `LesionKind`,
  centre in LPS mm, edges of a box along the body's left, posterior and superior (before bone cuts the lesion
  off); lines and layers along an endplate are not listed, their voxels are in the lesion label map;
- `transitional`: whether it is a sacralised last lumbar vertebra;
- `density_mg_cm3`: bone mineral of the cancellous core;
- `visible`: how much of the body lies in the image, 0..1 (1 where no image was rendered).

The six points and heights are those of the endplates: osteophytes stand out beyond them, and where a
Schmorl's node or the gap of a limbus vertebra opens an endplate they follow it as it would be without (a
reader bridges the gap). Metal and cement change no label of a body.

`discs`, from head to tail, below each vertebra but the last: `above`, `below`: the levels; `height_mm`:
distance of both endplates' rims' planes at the middle; `slip_mm`: how far the upper vertebra has slipped to
anterior; `vacuum`: whether there is gas in it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.genant import Heights, grade_spine
from dicom_ai_node.phantom.body import (
    heights,
    heights_of,
    rim_points,
    six_points,
    six_points_beside,
)
from dicom_ai_node.phantom.disease import FEATURE_NAMES, Disease
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.lesion import Lesion, LesionKind, extent
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.report import SIX_POINT_NAMES

Array = npt.NDArray[np.float64]

SCHEMA: Final = "dicom-ai-node/truth/2"
RIM_SIDES: Final = ("anterior", "posterior", "left", "right")


def truth(spine: Spine, grid: Grid | None = None) -> dict[str, Any]:
    """The truth as plain JSON types; `grid` is where the image lies, for `visible`."""
    return {
        "schema": SCHEMA,
        "seed": spine.seed,
        "age": round(spine.age, 1),
        "vertebrae": [vertebra_truth(spine, vertebra, grid) for vertebra in spine.vertebrae],
        "discs": [
            {
                "above": upper.level.value,
                "below": lower.level.value,
                "height_mm": round(disc.gap, 3),
                "slip_mm": round(state.slip_mm, 2),
                "vacuum": state.vacuum,
            }
            for upper, lower, disc, state in zip(
                spine.vertebrae, spine.vertebrae[1:], spine.discs, spine.wear, strict=False
            )
        ],
    }


def vertebra_truth(spine: Spine, vertebra: Vertebra, grid: Grid | None = None) -> dict[str, Any]:
    """The entry of one vertebra."""
    level = vertebra.level
    own = six_points(vertebra.body)
    measured = heights_of(own)
    points = to_patient(vertebra.frame, own)
    grading = spine.gradings.get(level)
    complete = level is not Level.S1
    center, axes = body_frame(points)
    return {
        "level": level.value,
        "verse_label": verse_label(level),
        "center_mm": _list(center),
        "six_points": {name: _list(p) for name, p in zip(SIX_POINT_NAMES, points, strict=True)}
        if complete
        else None,
        "corners": {name: _list(point) for name, point in _rim(vertebra).items()},
        "heights_mm": None
        if not complete
        else {
            "anterior": round(measured.anterior, 4),
            "middle": round(measured.middle, 4),
            "posterior": round(measured.posterior, 4),
            "reference": round(measured.largest if grading is None else grading.reference_mm, 4),
        },
        "beside": _beside(vertebra) if complete else None,
        "height_loss": None if grading is None else round(grading.loss, 5),
        "genant_grade": None if grading is None else grading.grade,
        "deformity": None if grading is None else grading.deformity,
        "fractured": grading is not None and grading.grade > 0,
        "loss_before": None if grading is None else round(_loss_before(heights(vertebra.healthy)), 5),
        "axes": {
            name: _list(axis, 6) for name, axis in zip(("left", "posterior", "superior"), axes, strict=True)
        },
        "disease": [disease.value for disease in vertebra.diseases],
        "features": None if vertebra.features is None else asdict(vertebra.features),
        "lesions": _lesions(vertebra, axes, center),
        "transitional": vertebra.sacralised,
        "density_mg_cm3": round(vertebra.matter.density, 1),
        "visible": 1.0 if grid is None else round(visible_share(vertebra, grid), 3),
    }


def _beside(vertebra: Vertebra) -> list[dict[str, Any]]:
    body = vertebra.body
    quarter = 0.5 * min(body.half_width_upper, body.half_width_lower)
    told = []
    for aside in (-quarter, quarter):
        own = six_points_beside(body, aside)
        measured = heights_of(own)
        points = to_patient(vertebra.frame, own)
        told.append(
            {
                "aside_mm": round(aside, 3),
                "six_points": {name: _list(p) for name, p in zip(SIX_POINT_NAMES, points, strict=True)},
                "heights_mm": {
                    name: round(getattr(measured, name), 4) for name in ("anterior", "middle", "posterior")
                },
            }
        )
    return told


def _lesions(vertebra: Vertebra, axes: Array, center: Array) -> list[dict[str, Any]]:
    frame = np.eye(4)
    frame[:3, :3], frame[:3, 3] = axes.T, center
    pits = [Lesion(pit.kind, (pit.solid,), "body", pit.filling) for pit in vertebra.findings.recesses]
    told = []
    for lesion in (*vertebra.findings.lesions, *pits):
        middle, size = extent(lesion, frame)
        told.append(
            {
                "kind": lesion.kind.word,
                "number": int(lesion.kind),
                "center_mm": _list(middle),
                "size_mm": _list(size, 2),
                "where": lesion.where,
            }
        )
    return told


def _loss_before(measured: Heights) -> float:
    return grade_spine({Level.L1: measured})[Level.L1].loss


def body_frame(points: Array) -> tuple[Array, Array]:
    """(center, axes) of a body from its six points, shape (6, 3) in LPS millimetres.

    The rows of `axes`, shape (3, 3), are left, posterior and superior; posterior is the mean direction of
    both endplates, superior stands across it in the plane of the points.
    """
    center = points.mean(axis=0)
    posterior = _unit(points[4] - points[0]) + _unit(points[5] - points[1])
    posterior = _unit(posterior)
    up = (points[0] + points[2] + points[4]) - (points[1] + points[3] + points[5])
    superior = _unit(up - posterior * (up @ posterior))
    return center, np.stack([np.cross(posterior, superior), posterior, superior])


def to_patient(frame: Array, points: Array) -> Array:
    """Points of a body's frame, shape (n, 3), in patient LPS millimetres."""
    moved: Array = points @ frame[:3, :3].T + frame[:3, 3]
    return moved


def visible_share(vertebra: Vertebra, grid: Grid) -> float:
    """Share of a lattice of points in the body that lies within the grid's outermost voxel centres."""
    body = vertebra.body
    u = np.linspace(-0.8, 0.8, 7) * min(body.half_width_lower, body.half_width_upper)
    v = np.linspace(min(body.front_lower, body.front_upper), max(body.back_lower, body.back_upper), 7)
    w = np.linspace(min(body.lower_front, body.lower_back), max(body.upper_front, body.upper_back), 7)
    points = np.stack(np.meshgrid(u, v, w, indexing="ij"), -1).reshape(-1, 3)
    inside = np.linalg.inv(grid.affine) @ vertebra.frame
    index = points @ inside[:3, :3].T + inside[:3, 3]
    within = (index > -0.5) & (index < np.array(grid.shape) - 0.5)
    return float(within.all(axis=1).mean())


def _rim(vertebra: Vertebra) -> dict[str, Array]:
    body = vertebra.body
    out = {}
    for name, half, upper in (
        ("superior", body.half_width_upper, True),
        ("inferior", body.half_width_lower, False),
    ):
        points = rim_points(body, [0.0, 0.0, half, -half], [0.0, 1.0, 0.6, 0.6], upper=upper)
        placed = to_patient(vertebra.frame, points)
        out.update({f"{side}_{name}": placed[k] for k, side in enumerate(RIM_SIDES)})
    return out


def _unit(vector: Array) -> Array:
    length: Array = vector / np.linalg.norm(vector)
    return length


def _list(point: Array, digits: int = 3) -> list[float]:
    return [round(float(value), digits) for value in point]


def truth_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `truth`; every key is required."""
    point = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}

    def record(properties: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def maybe(kind: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [kind, {"type": "null"}]}

    fraction = {"type": "number", "minimum": -1, "maximum": 1}
    millimetres = {"type": "number", "exclusiveMinimum": 0}
    rims = [
        f"{side}_{end}"
        for end in ("superior", "inferior")
        for side in ("anterior", "posterior", "left", "right")
    ]
    names = {"enum": [level.value for level in Level]}
    lesion = record(
        {
            "kind": {"enum": [kind.word for kind in LesionKind]},
            "number": {"type": "integer", "minimum": 1, "maximum": max(LesionKind)},
            "center_mm": point,
            "size_mm": point,
            "where": {"enum": ["around", "body", "vertebra", "over"]},
        }
    )
    disc = record(
        {
            "above": names,
            "below": names,
            "height_mm": {"type": "number"},
            "slip_mm": {"type": "number"},
            "vacuum": {"type": "boolean"},
        }
    )
    beside = record(
        {
            "aside_mm": {"type": "number"},
            "six_points": record(dict.fromkeys(SIX_POINT_NAMES, point)),
            "heights_mm": record(dict.fromkeys(("anterior", "middle", "posterior"), millimetres)),
        }
    )
    vertebra = record(
        {
            "level": names,
            "verse_label": {"type": "integer", "minimum": 1, "maximum": 28},
            "center_mm": point,
            "six_points": maybe(record(dict.fromkeys(SIX_POINT_NAMES, point))),
            "corners": record(dict.fromkeys(rims, point)),
            "heights_mm": maybe(
                record(dict.fromkeys(("anterior", "middle", "posterior", "reference"), millimetres))
            ),
            "beside": maybe({"type": "array", "items": beside, "minItems": 2, "maxItems": 2}),
            "height_loss": maybe(fraction),
            "genant_grade": maybe({"enum": [0, 1, 2, 3]}),
            "deformity": maybe({"enum": ["none", "wedge", "biconcave", "crush"]}),
            "fractured": {"type": "boolean"},
            "loss_before": maybe(fraction),
            "axes": record(dict.fromkeys(("left", "posterior", "superior"), point)),
            "disease": {"type": "array", "items": {"enum": [disease.value for disease in Disease]}},
            "features": maybe(record({name: {"type": "boolean"} for name in FEATURE_NAMES})),
            "lesions": {"type": "array", "items": lesion},
            "transitional": {"type": "boolean"},
            "density_mg_cm3": {"type": "number", "minimum": 0},
            "visible": {"type": "number", "minimum": 0, "maximum": 1},
        }
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What is true about a phantom",
        **record(
            {
                "schema": {"const": SCHEMA},
                "seed": {"type": "integer"},
                "age": {"type": "number"},
                "vertebrae": {"type": "array", "items": vertebra},
                "discs": {"type": "array", "items": disc},
            }
        ),
    }
