"""What is true about a radiograph of a person: the entries of `truth`, and where they fall on the detector.

``{"schema": "dicom-ai-node/radiograph-truth/2", "seed", "age", "image": {...}, "vertebrae": [...]}``. A film
has no frame of reference: its points are [row, column] pixels as in a report, integers at pixel centres, the
first pixel is [0, 0].

`image`: `view`; `rows`, `columns`; `pixel_mm` on the detector; `source_detector_mm`, `source_object_mm`,
`magnification` of the point aimed at; `facing`, `toward`; `turn_deg`, `lean_deg`, `tilt_deg` off the true
view; `field` (the exposed rectangle: `rows` and `columns`, first and last + 1); `projection`: 3x4 matrix P,
P (x, y, z, 1) = w (row, column, 1) for patient LPS millimetres.

Each of `vertebrae` has the keys of `truth` (`visible` is the share of the body that falls into the exposed
field), `acuity` (see `acuity`) and `projection`:

- `six_points_px`: the six points, projected by the image's own cone. They are points of the body's own
  mid-sagittal plane: where the body is turned, the two sides of an endplate part into two contours, and
  the mid-sagittal points lie midway between them; that is the mean contour on which radiologists place
  theirs (Hurxthal 1968; Genant 1993). Null for S1.
- `center_px`: the body's centre; `depth_mm`: its distance from the source along the central ray;
  `magnification`: on the detector over true size there.
- `heights_mm`: anterior, middle and posterior distances of the projected points in the plane of the object,
  divided by the body's magnification: what an observer who knows the magnification measures. Null for S1.
- `heights_detector_mm`: the same distances on the detector: what one measures with the detector's spacing.
- `outline_px`: polygon about the body's silhouette without osteophytes, clockwise on the screen or
  counter-clockwise by view, from the right of the centre on; also where it leaves the image.
- `box_px`: `rows` and `columns` [first, last] of the silhouette, not cut at the image's border.
- `overlapped`: shares of the body, as `visible`, that lie behind `shoulders` (shoulder blades, arms) and
  `pelvis`, and outside of the exposed field (`collimation`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.body import body_field, six_points
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.parallel import in_order
from dicom_ai_node.phantom.radiograph_acquisition import RadiographAcquisition
from dicom_ai_node.phantom.radiograph_arms import with_arms
from dicom_ai_node.phantom.radiograph_cone import Cone
from dicom_ai_node.phantom.radiograph_thickness import shadow, torso_depths
from dicom_ai_node.phantom.solids import Ellipsoid, Solid, Tube, height
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.truth import to_patient, truth, truth_schema
from dicom_ai_node.report import SIX_POINT_NAMES

Array = npt.NDArray[np.float64]

SCHEMA: Final = "dicom-ai-node/radiograph-truth/2"
_FINER: Final = 13
_ANGLES: Final = 96
_CORTEX_OF_LIMBS_MM: Final = 2.2


def radiograph_truth(spine: Spine, acquisition: RadiographAcquisition) -> dict[str, Any]:
    """The truth as plain JSON types."""
    cone = acquisition.cone
    told = truth(spine)
    # Arms forward or hanging may hide the upper thoracic vertebrae.
    spine = replace(spine, trunk=with_arms(spine.trunk, acquisition.arms))
    shadows = {
        name: shadow(solids, cone, torso_depths(spine, cone), torch.device("cpu"))
        for name, solids in (("shoulders", _shoulders(spine)), ("pelvis", _pelvis(spine)))
    }
    tasks = [partial(_projection, vertebra, cone) for vertebra in spine.vertebrae]
    projections = in_order(tasks, torch.device("cpu"))
    for vertebra, entry, projection in zip(spine.vertebrae, told["vertebrae"], projections, strict=True):
        lattice = cone.project(_lattice(vertebra))[:, :2]
        shown = float(_in_field(lattice, acquisition).mean())
        entry["visible"] = round(shown, 3)
        entry["acuity"] = acuity(vertebra)
        entry["projection"] = projection | {
            "overlapped": {
                **{name: _share_in(lattice, *shade) for name, shade in shadows.items()},
                "collimation": round(1.0 - shown, 3),
            }
        }
    top, bottom, left, right = acquisition.collimation
    return {
        **told,
        "schema": SCHEMA,
        "image": {
            "view": acquisition.view,
            "rows": acquisition.matrix[0],
            "columns": acquisition.matrix[1],
            "pixel_mm": acquisition.pixel_mm,
            "source_detector_mm": round(acquisition.source_detector_mm, 3),
            "source_object_mm": round(acquisition.source_object_mm, 3),
            "magnification": round(acquisition.magnification, 6),
            "facing": acquisition.facing,
            "toward": acquisition.toward,
            "turn_deg": round(acquisition.turn, 3),
            "lean_deg": round(acquisition.lean, 3),
            "tilt_deg": round(acquisition.tilt, 3),
            "field": {"rows": [top, bottom], "columns": [left, right]},
            "projection": [[float(f"{x:.12g}") for x in row] for row in projection_matrix(cone)],
        },
    }


def acuity(vertebra: Vertebra) -> str | None:
    """P1's class of a vertebra: "acute", "chronic", "pathologic", or None where nothing is broken or eaten.

    A metastasis is pathologic whatever else there is. Of the benign fractures P1 calls acute those whose
    marrow shows oedema on MR, and chronic the others: so OVCF is acute and OF chronic, and Kuemmell's disease
    is the one or the other by its marrow (its cleft alone says only that it did not heal).
    """
    diseases = vertebra.diseases
    if Disease.MALIGNANT in diseases:
        return "pathologic"
    if Disease.OVCF in diseases:
        return "acute"
    if Disease.KD in diseases and Disease.OF not in diseases:
        quiet = vertebra.features is not None and vertebra.features.homogeneous_marrow
        return "chronic" if quiet else "acute"
    return "chronic" if Disease.OF in diseases else None


def projection_matrix(cone: Cone) -> Array:
    """3x4: (x, y, z, 1) in patient LPS millimetres to (row, column, 1) times the depth in mm."""
    focal = cone.distance / cone.pixel
    turn = np.stack(
        [
            focal * cone.down + cone.origin[1] * cone.normal,
            focal * cone.across + cone.origin[0] * cone.normal,
            cone.normal,
        ]
    )
    return np.concatenate([turn, -(turn @ cone.source)[:, None]], axis=1)


def shown_share(vertebra: Vertebra, acquisition: RadiographAcquisition) -> float:
    """Share of a lattice of points in the body that falls into the exposed field."""
    lattice = acquisition.cone.project(_lattice(vertebra))[:, :2]
    return float(_in_field(lattice, acquisition).mean())


def outline(vertebra: Vertebra, cone: Cone) -> Array:
    """Polygon of a body's silhouette, shape (96, 2), (column, row) as `Cone.project` has it.

    The silhouette is where the least signed distance along a ray is 0. It is searched outwards from the
    centre in even directions of the body's own shape, so that low bodies are followed as closely as high
    ones; the result is exact to a tenth of a pixel or 0.05 mm.
    """
    body = vertebra.body
    low, high = body.extent
    middle = to_patient(vertebra.frame, 0.5 * (low + high)[None])
    center = cone.project(middle)[0]
    corners = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T
    half = np.abs(cone.project(to_patient(vertebra.frame, corners)) - center).max(axis=0)
    angles = np.linspace(0.0, 2.0 * np.pi, _ANGLES, endpoint=False)
    directions = np.stack([np.cos(angles) * half[0], np.sin(angles) * half[1]], axis=1)
    depths = np.arange(center[2] - half[2], center[2] + half[2], 1.2)
    # From outside in steps to the first hit, so that a hollow contour is followed at its rim.
    steps = np.linspace(1.45, 0.0, 30)
    places = (center[:2] + steps[:, None, None] * directions).reshape(-1, 2)
    hit = (_least(vertebra, cone, places, depths[::3]) < 0).reshape(len(steps), -1)
    first = np.where(hit.any(axis=0), hit.argmax(axis=0), len(steps) - 1)
    near, far = steps[first], steps[np.maximum(first - 1, 0)]
    for _ in range(6):
        share = 0.5 * (near + far)
        inside = _least(vertebra, cone, center[:2] + share[:, None] * directions, depths) < 0
        near, far = np.where(inside, share, near), np.where(inside, far, share)
    found: Array = center[:2] + (0.5 * (near + far))[:, None] * directions
    return found


def _least(vertebra: Vertebra, cone: Cone, pixels: Array, depths: Array) -> Array:
    """Least signed distance to the body in mm along the rays to pixels, shape (n,).

    Looked for at all depths, then again about the depth where it was least: a lip of the body is thinner
    than the depths lie apart.
    """
    offset = (pixels - np.array(cone.origin)) * (cone.pixel / cone.distance)
    rays = cone.normal + offset[:, :1] * cone.across + offset[:, 1:] * cone.down
    outside = _outside(vertebra, cone, rays, np.broadcast_to(depths[:, None], (len(depths), len(rays))))
    step = float(depths[1] - depths[0])
    about = depths[outside.argmin(axis=0)] + step * np.linspace(-1.0, 1.0, _FINER)[:, None]
    least: Array = np.minimum(outside.min(axis=0), _outside(vertebra, cone, rays, about).min(axis=0))
    return least


def _outside(vertebra: Vertebra, cone: Cone, rays: Array, depths: Array) -> Array:
    """Signed distance to the body in mm, shape of `depths` (k, n), along `rays` (n, 3)."""
    points = cone.source + depths[..., None] * rays
    # Single precision is good for micrometres here.
    local = torch.from_numpy(((points - vertebra.frame[:3, 3]) @ vertebra.frame[:3, :3]).astype(np.float32))
    found: Array = body_field(vertebra.body, local[..., 0], local[..., 1], local[..., 2]).outside.numpy()
    return found


def _projection(vertebra: Vertebra, cone: Cone) -> dict[str, Any]:
    own = to_patient(vertebra.frame, six_points(vertebra.body))
    points = cone.project(own)
    center = cone.project(own.mean(axis=0)[None])[0]
    magnification = cone.distance / float(center[2])
    complete = vertebra.level is not Level.S1
    shadows = np.linalg.norm(points[0::2, :2] - points[1::2, :2], axis=1) * cone.pixel
    polygon = outline(vertebra, cone)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    return {
        "six_points_px": {name: _pair(point) for name, point in zip(SIX_POINT_NAMES, points, strict=True)}
        if complete
        else None,
        "center_px": _pair(center),
        "depth_mm": round(float(center[2]), 3),
        "magnification": round(magnification, 6),
        "heights_mm": _heights(shadows / magnification) if complete else None,
        "heights_detector_mm": _heights(shadows) if complete else None,
        "outline_px": [_pair(point) for point in polygon],
        "box_px": {"rows": [round(float(low[1]), 2), round(float(high[1]), 2)],
                   "columns": [round(float(low[0]), 2), round(float(high[0]), 2)]},
    }  # fmt: skip


def _heights(lengths: Array) -> dict[str, float]:
    told = (round(float(length), 4) for length in lengths)
    return dict(zip(("anterior", "middle", "posterior"), told, strict=True))


def _pair(point: Array) -> list[float]:
    """A projected point (column, row, ...) as [row, column]."""
    return [round(float(point[1]), 3), round(float(point[0]), 3)]


def _lattice(vertebra: Vertebra) -> Array:
    body = vertebra.body
    u = np.linspace(-0.8, 0.8, 7) * min(body.half_width_lower, body.half_width_upper)
    v = np.linspace(min(body.front_lower, body.front_upper), max(body.back_lower, body.back_upper), 9)
    w = np.linspace(min(body.lower_front, body.lower_back), max(body.upper_front, body.upper_back), 9)
    points = np.stack(np.meshgrid(u, v, w, indexing="ij"), -1).reshape(-1, 3)
    return to_patient(vertebra.frame, points)


def _in_field(pixels: Array, acquisition: RadiographAcquisition) -> npt.NDArray[np.bool_]:
    rows, columns = acquisition.matrix
    on = (pixels > -0.5).all(axis=1) & (pixels[:, 0] < columns - 0.5) & (pixels[:, 1] < rows - 0.5)
    found: npt.NDArray[np.bool_] = on & (field_distance(pixels[:, 0], pixels[:, 1], acquisition) < 0)
    return found


def field_distance(column: Array, row: Array, acquisition: RadiographAcquisition) -> Array:
    """Signed distance in pixels to the border of the exposed field, negative inside; broadcast shape."""
    top, bottom, left, right = acquisition.collimation
    middle = 0.5 * (left + right - 1), 0.5 * (top + bottom - 1)
    angle = np.radians(acquisition.collimator_tilt)
    x, y = column - middle[0], row - middle[1]
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    beyond: Array = np.maximum(np.abs(along) - 0.5 * (right - left), np.abs(across) - 0.5 * (bottom - top))
    return beyond


def _share_in(pixels: Array, shade: Tensor, binning: int) -> float:
    """Share of points that fall on a shaded, binned pixel; beyond the image nothing is known to be."""
    place = np.floor((pixels + 0.5) / binning).astype(int)
    rows, columns = shade.shape
    on = (place >= 0).all(axis=1) & (place[:, 0] < columns) & (place[:, 1] < rows)
    hit = shade.numpy()[place[on, 1], place[on, 0]]
    return round(float(hit.sum()) / len(pixels), 3)


def _shoulders(spine: Spine) -> list[Solid]:
    return [
        solid
        for solid in spine.trunk.bones
        if (
            isinstance(solid, Ellipsoid) and solid.power > 2.0 and height(solid) > spine[Level.T9].frame[2, 3]
        )
        or (
            isinstance(solid, Tube)
            and solid.matter.cortex > _CORTEX_OF_LIMBS_MM
            and height(solid) > spine[Level.L3].frame[2, 3]
        )
    ]


def _pelvis(spine: Spine) -> list[Solid]:
    return [solid for solid in spine.trunk.bones if height(solid) < spine[Level.L4].frame[2, 3]]


def radiograph_truth_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of `radiograph_truth`; every key is required."""
    number = {"type": "number"}
    pair = {"type": "array", "items": number, "minItems": 2, "maxItems": 2}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    positive = {"type": "number", "exclusiveMinimum": 0}

    def record(properties: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def maybe(kind: dict[str, Any]) -> dict[str, Any]:
        return {"anyOf": [kind, {"type": "null"}]}

    schema = truth_schema()
    schema["title"] = "What is true about a radiograph of a phantom"
    own = schema["properties"]
    own["schema"] = {"const": SCHEMA}
    own["image"] = record(
        {
            "view": {"enum": ["lateral", "frontal"]},
            "rows": {"type": "integer", "minimum": 1},
            "columns": {"type": "integer", "minimum": 1},
            **dict.fromkeys(
                ("pixel_mm", "source_detector_mm", "source_object_mm", "magnification"), positive
            ),
            "facing": {"enum": ["left", "right"]},
            "toward": {"enum": ["left", "right", "front", "back"]},
            **dict.fromkeys(("turn_deg", "lean_deg", "tilt_deg"), number),
            "field": record({"rows": pair, "columns": pair}),
            "projection": {
                "type": "array",
                "items": {"type": "array", "items": number, "minItems": 4, "maxItems": 4},
                "minItems": 3,
                "maxItems": 3,
            },
        }
    )
    schema["required"] = [*schema["required"], "image"]
    vertebra = own["vertebrae"]["items"]
    vertebra["properties"]["projection"] = record(
        {
            "six_points_px": maybe(record(dict.fromkeys(SIX_POINT_NAMES, pair))),
            "center_px": pair,
            "depth_mm": positive,
            "magnification": positive,
            **dict.fromkeys(
                ("heights_mm", "heights_detector_mm"),
                maybe(record(dict.fromkeys(("anterior", "middle", "posterior"), positive))),
            ),
            "outline_px": {"type": "array", "items": pair, "minItems": 3},
            "box_px": record({"rows": pair, "columns": pair}),
            "overlapped": record(dict.fromkeys(("shoulders", "pelvis", "collimation"), share)),
        }
    )
    vertebra["properties"]["acuity"] = {"enum": ["acute", "chronic", "pathologic", None]}
    vertebra["required"] = [*vertebra["required"], "acuity", "projection"]
    return schema
