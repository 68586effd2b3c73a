"""The truth agrees with the surface it speaks of, with the label maps, and with its schema."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.genant import Heights, grade_spine
from dicom_ai_node.phantom import CtAcquisition, body_frame, render_ct, sample_spine, truth, truth_schema
from dicom_ai_node.phantom.body import body_field, six_points, six_points_beside
from dicom_ai_node.report import SIX_POINT_NAMES, Deformity, SixPoints


def test_truth_is_json_of_its_schema() -> None:
    for seed in range(8):
        told = truth(sample_spine(seed))
        assert json.loads(json.dumps(told)) == told
        jsonschema.validate(told, truth_schema())
    jsonschema.Draft202012Validator.check_schema(truth_schema())
    del told["vertebrae"][0]["axes"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, truth_schema())


def test_six_points_lie_on_the_surface_in_the_mid_sagittal_plane() -> None:
    for seed in range(10):
        spine = sample_spine(seed)
        for vertebra, entry in zip(spine.vertebrae, truth(spine)["vertebrae"], strict=True):
            if entry["six_points"] is None:
                continue
            points = np.array([entry["six_points"][name] for name in SIX_POINT_NAMES])
            local = (points - vertebra.frame[:3, 3]) @ vertebra.frame[:3, :3]
            assert np.abs(local[:, 0]).max() < 0.01
            u, v, w = (torch.from_numpy(local[:, k]) for k in range(3))
            distance = body_field(vertebra.body, u, v, w).outside
            assert float(distance.abs().max()) < 0.1, (seed, entry["level"])


def test_six_points_beside_the_middle_lie_on_the_surface_a_quarter_of_the_width_aside() -> None:
    for seed in range(6):
        spine = sample_spine(seed)
        for vertebra, entry in zip(spine.vertebrae, truth(spine)["vertebrae"], strict=True):
            body = vertebra.body
            np.testing.assert_allclose(six_points_beside(body, 0.0), six_points(body), atol=0.02)
            if entry["beside"] is None:
                assert entry["level"] == "S1"
                continue
            assert [plane["aside_mm"] < 0 for plane in entry["beside"]] == [True, False]
            for plane in entry["beside"]:
                points = np.array([plane["six_points"][name] for name in SIX_POINT_NAMES])
                aside = (points - np.array(entry["center_mm"])) @ np.array(entry["axes"]["left"])
                np.testing.assert_allclose(aside, plane["aside_mm"], atol=0.01)
                local = (points - vertebra.frame[:3, 3]) @ vertebra.frame[:3, :3]
                field = body_field(body, *(torch.from_numpy(local[:, k]) for k in range(3)))
                # Rims lie on the wall, too; the middles of the endplates far from it.
                assert float(field.outside.abs().max()) < 0.05, (seed, entry["level"])
                assert float(field.side[[0, 1, 4, 5]].abs().max()) < 0.05
                assert float(field.side[[2, 3]].max()) < -3.0


def test_heights_and_grades_follow_from_the_six_points() -> None:
    spine = sample_spine(11, fractures={Level.T11: ("biconcave", 2), Level.L3: ("wedge", 1)})
    entries = truth(spine)["vertebrae"]
    heights = {}
    for entry in entries:
        if entry["six_points"] is None:
            continue
        points = SixPoints(**{name: tuple(point) for name, point in entry["six_points"].items()}).to_array()
        measured = np.linalg.norm(points[0::2] - points[1::2], axis=1)
        told = [entry["heights_mm"][name] for name in ("anterior", "middle", "posterior")]
        np.testing.assert_allclose(measured, told, atol=0.005)
        if entry["genant_grade"] is not None:
            heights[Level(entry["level"])] = Heights(*map(float, measured))
    for level, grading in grade_spine(heights).items():
        entry = next(entry for entry in entries if entry["level"] == level)
        assert (grading.grade, grading.deformity) == (entry["genant_grade"], entry["deformity"])
        assert abs(grading.loss - entry["height_loss"]) < 0.002


def test_axes_are_left_posterior_superior() -> None:
    for entry in truth(sample_spine(6))["vertebrae"]:
        axes = np.array([entry["axes"][name] for name in ("left", "posterior", "superior")])
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-4)
        assert np.linalg.det(axes) > 0
        assert axes[0, 0] > 0.7
        assert axes[2, 2] > 0.3


@pytest.mark.parametrize("fracture", [("wedge", 2), ("biconcave", 3), ("crush", 2), ("none", 0)])
def test_heights_measured_on_a_fine_label_map_agree(fracture: tuple[Deformity, int]) -> None:
    """The outline of the labels passes through the six points, and ends there along the body's axis."""
    spine = sample_spine(21, fractures={Level.L1: fracture})
    entry = next(entry for entry in truth(spine)["vertebrae"] if entry["level"] == "L1")
    points = np.array([entry["six_points"][name] for name in SIX_POINT_NAMES])
    center, axes = body_frame(points)
    np.testing.assert_allclose(axes[2], entry["axes"]["superior"], atol=1e-4)
    left, posterior, superior = axes
    affine = np.eye(4)
    step, rows, columns = 0.5, 120, 160
    # One sagittal slice: rows run downwards, columns to posterior.
    affine[:3, :3] = np.stack([left * step, -superior * step, posterior * step], axis=1)
    affine[:3, 3] = center + superior * step * (rows - 1) / 2 - posterior * step * (columns - 1) / 2
    phantom = render_ct(spine, CtAcquisition((1, rows, columns), affine, 0.5, noise_hu=0.0, table=False))
    mask = phantom.labels[0] == verse_label(Level.L1)
    assert mask.any()
    edge = mask & ~np.logical_and.reduce([np.roll(mask, shift, axis) for axis in (0, 1) for shift in (-1, 1)])
    outline = np.argwhere(edge)
    found = []
    for point in points:
        index = np.linalg.solve(affine[:3, :3], point - affine[:3, 3])[1:]
        distance = np.linalg.norm(outline - index, axis=1) * step
        assert distance.min() < 0.75
        found.append(outline[distance.argmin()] * step)
        beyond = index + np.array([-1.6 if len(found) % 2 else 1.6, 0.0])
        assert not mask[tuple(np.round(beyond).astype(int))]
    for k, name in enumerate(("anterior", "middle", "posterior")):
        measured = float(np.linalg.norm(found[2 * k] - found[2 * k + 1]))
        assert abs(measured - entry["heights_mm"][name]) < 1.0, name


def test_label_maps_hold_every_body_where_the_truth_says_it_is() -> None:
    spine = sample_spine(9)
    center = spine[Level.T12].frame[:3, 3]
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2.0], [0, 2.0, 0], [2.0, 0, 0]])
    affine[:3, 3] = center - np.array([60.0, 50.0, 75.0])
    phantom = render_ct(spine, CtAcquisition((75, 50, 60), affine, 2.0))
    inside = np.linalg.inv(affine)
    for entry in phantom.truth["vertebrae"]:
        label = entry["verse_label"]
        index = np.argwhere(phantom.labels == label)
        if entry["visible"] == 0.0:
            assert len(index) == 0, entry["level"]
        if entry["visible"] < 1.0:
            continue
        middle = index.mean(axis=0) @ affine[:3, :3].T + affine[:3, 3]
        # The six points are all mid-sagittal; a body is broadest behind its middle.
        assert np.linalg.norm(middle - entry["center_mm"]) < 5.0
        voxel = np.round(inside[:3, :3] @ entry["center_mm"] + inside[:3, 3]).astype(int)
        assert phantom.labels[tuple(voxel)] == label
        body, whole = phantom.labels == label, phantom.whole_labels == label
        assert not (body & ~whole).any()
        assert whole.sum() > 1.2 * body.sum()
    seen = [entry for entry in phantom.truth["vertebrae"] if entry["visible"] == 1.0]
    assert len(seen) >= 3
