"""The projected truth: of its schema, on the outline, and where the bone shows in the image."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.arch import ArchShape, Piece
from dicom_ai_node.phantom.body import body_field
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.radiograph import (
    RadiographAcquisition,
    radiograph_truth,
    radiograph_truth_schema,
    sample_radiograph_acquisition,
)
from dicom_ai_node.phantom.radiograph_column import project_column
from dicom_ai_node.phantom.radiograph_palette import MaterialsPalette, MineralPalette, WaterPalette
from dicom_ai_node.phantom.radiograph_truth import acuity, field_distance, outline
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine
from dicom_ai_node.report import SIX_POINT_NAMES


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(12, fractures={Level.L1: ("wedge", 2), Level.L3: ("biconcave", 2)})


@pytest.fixture(scope="module")
def told_of(spine: Spine) -> dict[str, Any]:
    """The truth of a film aimed at L2, by level."""
    return {entry["level"]: entry for entry in radiograph_truth(spine, aimed(spine, Level.L2))["vertebrae"]}


def aimed(spine: Spine, level: Level, **values: object) -> RadiographAcquisition:
    """A true lateral of one body: turned until the central ray runs along its left-right axis."""
    left = spine[level].frame[:3, 0]
    taken = RadiographAcquisition(
        "lateral",
        spine[level].frame[:3, 3],
        matrix=(400, 300),
        pixel_mm=0.3,
        collimation=(0, 400, 0, 300),
        turn=float(np.degrees(np.arctan2(left[1], left[0]))),
    )
    return replace(taken, **values)  # type: ignore[arg-type]


def test_truth_is_json_of_its_schema(spine: Spine) -> None:
    schema = radiograph_truth_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    told = radiograph_truth(spine, sample_radiograph_acquisition(3, spine))
    assert json.loads(json.dumps(told)) == told
    jsonschema.validate(told, schema)
    del told["vertebrae"][0]["projection"]["outline_px"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, schema)


def test_outline_is_the_silhouette_that_brute_force_finds(spine: Spine) -> None:
    """Independent of the search: every pixel's ray is walked, and pixels inside counted."""
    taken = aimed(spine, Level.L3, turn=9.0, lean=4.0)
    cone, vertebra = taken.cone, spine[Level.L3]
    polygon = outline(vertebra, cone)
    (left, top), (right, bottom) = polygon.min(axis=0) - 6.0, polygon.max(axis=0) + 6.0
    rows, columns = np.mgrid[int(top) : int(bottom), int(left) : int(right)].astype(np.float64)
    offset = np.stack([columns - cone.origin[0], rows - cone.origin[1]], -1) * cone.pixel / cone.distance
    rays = cone.normal + offset[..., :1] * cone.across + offset[..., 1:] * cone.down
    least = torch.full(rows.shape, 99.0)
    for depth in np.arange(864.0, 936.0, 1.5):
        local = torch.from_numpy(
            ((cone.source + depth * rays - vertebra.frame[:3, 3]) @ vertebra.frame[:3, :3]).astype(np.float32)
        )
        field = body_field(vertebra.body, local[..., 0], local[..., 1], local[..., 2])
        least = torch.minimum(least, field.outside)
    area = float((least < 0).sum())
    x, y = polygon[:, 0], polygon[:, 1]
    enclosed = 0.5 * abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()))
    assert enclosed == pytest.approx(area, rel=0.02)
    on = least.numpy()[np.round(y).astype(int) - int(top), np.round(x).astype(int) - int(left)]
    assert np.abs(on).max() < 1.0


def test_six_points_lie_in_the_silhouette_and_the_anterior_ones_on_it(told_of: dict[str, Any]) -> None:
    for level in (Level.L1, Level.L2, Level.L3):
        told = told_of[level]["projection"]
        polygon = np.array(told["outline_px"])[:, ::-1]
        points = np.array([told["six_points_px"][name] for name in SIX_POINT_NAMES])[:, ::-1]
        low, high = polygon.min(axis=0), polygon.max(axis=0)
        assert (points > low - 2.0).all()
        assert (points < high + 2.0).all()
        # The anterior rim is the foremost part of a body: its points end the silhouette there.
        for point in points[:2]:
            assert segment_distance(polygon, point) * 0.3 < 2.0, level
        assert told["box_px"]["columns"] == pytest.approx([low[0], high[0]], abs=0.02)


def test_the_image_ends_where_the_outline_says(spine: Spine) -> None:
    """What is painted against what is told: bone 0.3 mm inside of the outline, none 0.3 mm outside."""
    vertebra = spine[Level.L2]
    body = vertebra.body
    middle = (0.0, 0.5 * (body.front_upper + body.back_upper), 0.0)
    alone = replace(
        vertebra,
        osteophytes=(),
        arch=ArchShape((Piece(middle, middle, 0.1, 0.1),)),
    )
    one = replace(spine, vertebrae=(alone,), sacrum=(), discs=())
    cone = aimed(spine, Level.L2, turn=4.0, lean=3.0).cone
    image = torch.zeros((2, 400, 300))
    palette = MaterialsPalette(WaterPalette(), MineralPalette(), 40.0, torch.device("cpu"))
    project_column(one, cone, palette, image)
    mineral = image[1].numpy()
    polygon = outline(vertebra, cone)
    center = polygon.mean(axis=0)
    away = (polygon - center) / np.linalg.norm(polygon - center, axis=1, keepdims=True)
    # In pixels: 0.3 mm at the body, and half a pixel for the place of a pixel itself.
    shift = 0.3 * 1150.0 / 900.0 / 0.3 + 0.5
    values = []
    for sign in (-1.0, 1.0):
        place = np.round(polygon + sign * shift * away).astype(int)
        values.append(mineral[place[:, 1], place[:, 0]])
    threshold = 0.01 * mineral.max()
    assert (values[0] > threshold).mean() > 0.97
    assert (values[1] < threshold).mean() > 0.97


def test_acuity_follows_from_the_diseases() -> None:
    wish = {
        Level.T12: (Disease.OVCF,),
        Level.L1: (Disease.OF,),
        Level.L2: (Disease.MALIGNANT,),
        Level.L3: (Disease.KD,),
        Level.L4: (Disease.SN,),
    }
    ill = sample_spine(4, options=SpineOptions(age=74.0, diseases=wish))
    told = {level: acuity(ill[level]) for level in ill.levels}
    assert [told[level] for level in (Level.T12, Level.L1, Level.L2)] == ["acute", "chronic", "pathologic"]
    features = ill[Level.L3].features
    assert features is not None
    assert told[Level.L3] == ("chronic" if features.homogeneous_marrow else "acute")
    quiet = replace(ill[Level.L3], features=replace(features, homogeneous_marrow=True))
    assert acuity(quiet) == "chronic"
    assert told[Level.L4] is None
    assert told[Level.T8] is None


def test_heights_are_the_true_ones_less_what_leans_along_the_beam(spine: Spine) -> None:
    for lean in (0.0, 12.0):
        taken = aimed(spine, Level.L2, lean=lean)
        entry = next(e for e in radiograph_truth(spine, taken)["vertebrae"] if e["level"] == "L2")
        told, normal = entry["projection"], taken.cone.normal
        points = np.array([told["six_points_px"][name] for name in SIX_POINT_NAMES])
        places = np.array([entry["six_points"][name] for name in SIX_POINT_NAMES])
        for k, name in enumerate(("anterior", "middle", "posterior")):
            length = np.linalg.norm(points[2 * k] - points[2 * k + 1]) * 0.3 / told["magnification"]
            assert length == pytest.approx(told["heights_mm"][name], abs=0.01)
            assert told["heights_detector_mm"][name] == pytest.approx(
                told["heights_mm"][name] * told["magnification"], abs=1e-3
            )
            true = places[2 * k] - places[2 * k + 1]
            across = np.linalg.norm(true - normal * (true @ normal))
            assert np.linalg.norm(true) == pytest.approx(entry["heights_mm"][name], abs=0.01)
            # What the cone adds: the two ends lie at slightly different depths.
            assert told["heights_mm"][name] == pytest.approx(across, rel=0.006)


def test_visibility_follows_the_field(spine: Spine, told_of: dict[str, Any]) -> None:
    taken, open_field = aimed(spine, Level.L2), told_of
    assert open_field["L2"]["visible"] == 1.0
    assert open_field["T1"]["visible"] == 0.0
    row = open_field["L2"]["projection"]["center_px"][0]
    halved = replace(taken, collimation=(0, round(row), 0, 300))
    entry = next(e for e in radiograph_truth(spine, halved)["vertebrae"] if e["level"] == "L2")
    assert 0.25 < entry["visible"] < 0.75
    assert entry["projection"]["overlapped"]["collimation"] == pytest.approx(
        1.0 - entry["visible"], abs=0.002
    )
    low = radiograph_truth(spine, aimed(spine, Level.S1))["vertebrae"][-1]
    assert low["projection"]["overlapped"]["pelvis"] > 0.5
    assert low["projection"]["six_points_px"] is None
    corner = field_distance(
        np.array([0.0, 150.0]), np.array([0.0, 200.0]), replace(taken, collimator_tilt=5.0)
    )
    assert corner[0] > 0 > corner[1]


def segment_distance(polygon: np.ndarray, point: np.ndarray) -> float:
    """Least distance of a point to a closed polygon's border."""
    start, end = polygon, np.roll(polygon, -1, axis=0)
    along = end - start
    share = (((point - start) * along).sum(axis=1) / (along**2).sum(axis=1)).clip(0.0, 1.0)
    return float(np.linalg.norm(start + share[:, None] * along - point, axis=1).min())
