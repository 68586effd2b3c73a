"""Six points beside the middle of a body: a body that has given way to one side is lower there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.genant import GENANT_THRESHOLDS
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.inference.bundle import Bundle, find_models_dir, load_bundle
from dicom_ai_node.phantom import CtAcquisition, CtPhantom, render_ct, sample_spine
from dicom_ai_node.pipelines.bodies import Body
from dicom_ai_node.pipelines.ct_heights import measured_bodies
from dicom_ai_node.pipelines.morphometry import six_point_heights
from dicom_ai_node.pipelines.worst_plane import counted_planes

LEVELS = (Level.T12, Level.L1, Level.L2)


@pytest.fixture(scope="module")
def points() -> Bundle:
    return load_bundle(find_models_dir(None) / "ct-points", torch.device("cpu"))


@pytest.fixture(scope="module")
def phantom() -> CtPhantom:
    """A wedge of L1 whose upper endplate slopes down to the patient's left."""
    spine = sample_spine(7, fractures={Level.L1: ("wedge", 1)})
    vertebrae = tuple(
        replace(item, body=replace(item.body, lateral_upper=-0.3)) if item.level is Level.L1 else item
        for item in spine.vertebrae
    )
    center = spine[Level.L1].frame[:3, 3]
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 1.2, 1.0, 1.0, 1.0
    affine[:3, 3] = center - np.array([36.0, 32.0, 60.0])
    return render_ct(replace(spine, vertebrae=vertebrae), CtAcquisition((100, 64, 72), affine, 1.2))


def volume_of(phantom: CtPhantom, columns: slice) -> tuple[Volume, dict[Level, Body]]:
    """The part of the phantom within these columns, and its bodies as they truly are."""
    affine = phantom.affine.copy()
    affine[:3, 3] += affine[:3, 2] * columns.start
    hu, labels = (np.ascontiguousarray(item[:, :, columns]) for item in (phantom.hu, phantom.labels))
    slices = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k + 1}", 1, Path("phantom")) for k in range(len(hu))
    )
    bodies = {level: Body((labels == verse_label(level)).astype(np.float32), 0.5, affine) for level in LEVELS}
    return Volume(hu, affine, slices, "1.2", "1.3", "1.4", "CT"), bodies


def test_a_body_that_is_deeper_on_the_left_is_measured_deeper_there(
    points: Bundle, phantom: CtPhantom
) -> None:
    measured = measured_bodies(points, *volume_of(phantom, slice(0, 72)))
    truth = {Level(entry["level"]): entry for entry in phantom.truth["vertebrae"]}
    for level in LEVELS:
        body = measured[level]
        assert body.right is not None
        assert body.left is not None
        for plane, told in zip((body.right, body.left), truth[level]["beside"], strict=True):
            assert plane.aside_mm == pytest.approx(told["aside_mm"], abs=2.5)
            heights = six_point_heights(plane.points_mm)
            for name, value in told["heights_mm"].items():
                assert getattr(heights, name) == pytest.approx(value, abs=2.5), (level, name)
    found = counted_planes(measured, GENANT_THRESHOLDS, error=0.025)[Level.L1]
    assert [plane.counts for plane in found.planes] == [False, True, True]
    right, middle, left = (plane.height_loss for plane in found.planes)
    assert right is not None
    assert middle is not None
    assert left is not None
    assert left > middle > right
    assert found.grading is not None
    assert found.grading.loss > middle


def test_a_body_that_is_cut_to_both_sides_is_measured_in_its_middle_alone(
    points: Bundle, phantom: CtPhantom
) -> None:
    label = phantom.labels == verse_label(Level.L1)
    middle = round(float(np.argwhere(label)[:, 2].mean()))
    narrow = measured_bodies(points, *volume_of(phantom, slice(middle - 12, middle + 13)))[Level.L1]
    whole = measured_bodies(points, *volume_of(phantom, slice(0, 72)))[Level.L1]
    assert narrow.reason is None
    assert narrow.middle is not None
    assert whole.middle is not None
    one, other = (six_point_heights(plane.points_mm) for plane in (narrow.middle, whole.middle))
    for name in ("anterior", "middle", "posterior"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=2.0)
    assert (narrow.right, narrow.left) == (None, None)


def test_a_plane_in_which_the_body_was_not_outlined_does_not_count(
    points: Bundle, phantom: CtPhantom
) -> None:
    volume, bodies = volume_of(phantom, slice(0, 72))
    whole = measured_bodies(points, volume, bodies)[Level.L1]
    assert whole.left is not None
    outlined = bodies[Level.L1].probability.copy()
    # Where the left plane passes, all but the lower third of the body was missed.
    places = np.argwhere(outlined > 0)
    low, high = places[:, 0].min(), places[:, 0].max()
    column = round(float(places[:, 2].mean() + whole.left.aside_mm))
    outlined[low + (high - low) // 3 :, :, column - 2 : column + 3] = 0
    faulty = Body(outlined, 0.5, bodies[Level.L1].affine)
    found = measured_bodies(points, volume, bodies | {Level.L1: faulty})[Level.L1]
    assert found.left is None
    assert found.middle is not None
    assert found.right is not None


def test_a_body_that_is_cut_to_one_side_is_not_measured(points: Bundle, phantom: CtPhantom) -> None:
    label = phantom.labels == verse_label(Level.L1)
    middle = round(float(np.argwhere(label)[:, 2].mean()))
    half = measured_bodies(points, *volume_of(phantom, slice(0, middle + 8)))[Level.L1]
    assert half.middle is None
    assert half.reason is not None
    assert half.reason.code == "coverage"


def test_metal_in_or_beside_a_body_is_a_reason_and_its_neighbours_are_measured(
    points: Bundle, phantom: CtPhantom
) -> None:
    volume, bodies = volume_of(phantom, slice(0, 72))
    level, row, column = np.argwhere(phantom.labels == verse_label(Level.L1)).mean(axis=0).astype(int)
    screwed = volume.voxels.copy()
    screwed[level - 2 : level + 3, row : row + 20, column - 2 : column + 3] = 3071
    found = measured_bodies(points, replace(volume, voxels=screwed), bodies)
    reason = found[Level.L1].reason
    assert reason is not None
    assert reason.code == "implants"
    assert found[Level.L1].middle is None
    assert all(found[other].middle is not None for other in (Level.T12, Level.L2))


def test_cement_is_no_metal(points: Bundle, phantom: CtPhantom) -> None:
    volume, bodies = volume_of(phantom, slice(0, 72))
    cemented = volume.voxels.copy()
    cemented[(phantom.labels == verse_label(Level.L1)) & (cemented > 150)] = 1750
    assert measured_bodies(points, replace(volume, voxels=cemented), bodies)[Level.L1].middle is not None


def test_a_piece_of_a_body_is_no_fracture(points: Bundle, phantom: CtPhantom) -> None:
    volume, bodies = volume_of(phantom, slice(0, 72))
    slices = np.flatnonzero((bodies[Level.L1].probability > 0).any(axis=(1, 2)))
    piece = bodies[Level.L1].probability.copy()
    piece[slices[0] + 3 :] = 0
    found = measured_bodies(
        points, volume, {**bodies, Level.L1: replace(bodies[Level.L1], probability=piece)}
    )
    reason = found[Level.L1].reason
    assert reason is not None
    assert reason.code == "model-refused"
    assert "of the volume of the body next to it" in reason.text
    assert found[Level.L1].middle is None
    assert all(found[other].middle is not None for other in (Level.T12, Level.L2))
