"""What the tasks draw: images and targets that belong together, whatever augmentation does."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.report import SIX_POINT_NAMES
from dicom_ai_node.training.augment import (
    Intensity,
    Pose,
    random_affine,
    sample_patch,
    vary_contrast,
    vary_intensity,
)
from dicom_ai_node.training.cases import Case, load_cases, save_case, split, with_cubic_voxels_of
from dicom_ai_node.training.localise import LocaliseOptions, LocaliseTask
from dicom_ai_node.training.points import PointsOptions, PointsTask, _sliced, plane_matrix
from dicom_ai_node.training.segment import SegmentOptions, SegmentTask
from tests.training.labelled import block_spine

PLAIN = Intensity(curve=0, thick_slices=0, blur=0, noise=0, bias_field=0)
"""No change of contrast or sharpness, so that values can be told from positions."""


def _generator(seed: int = 3) -> Generator:
    return Generator().manual_seed(seed)


def test_patch_without_turn_is_the_volume_itself() -> None:
    volume = torch.arange(6 * 7 * 8, dtype=torch.float32).reshape(1, 6, 7, 8)
    patch = sample_patch(volume, torch.tensor([2.5, 3.0, 3.5]), torch.eye(3), (6, 7, 8), outside=-1.0)
    torch.testing.assert_close(patch, volume)


def test_patch_beyond_the_volume_is_air_or_its_mirror_image() -> None:
    volume = torch.arange(4.0).reshape(1, 4, 1, 1).expand(1, 4, 5, 5).contiguous()
    center = torch.tensor([2.5, 2.0, 2.0])
    air = sample_patch(volume, center, torch.eye(3), (6, 5, 5), outside=-9.0)
    assert air[0, :, 2, 2].tolist() == [0.0, 1.0, 2.0, 3.0, -9.0, -9.0]
    mirror = sample_patch(volume, center, torch.eye(3), (6, 5, 5), outside=-9.0, reflected=True)
    assert mirror[0, :, 2, 2].tolist() == [0.0, 1.0, 2.0, 3.0, 3.0, 2.0]


def test_mask_of_one_label_is_sampled_between_the_voxels() -> None:
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    labels[0, :2], labels[0, 2:] = 20, 21
    mask = sample_patch(labels, torch.tensor([1.5, 1.5, 1.5]), torch.eye(3), (1, 2, 2), outside=0.0, label=20)
    torch.testing.assert_close(mask, torch.full((1, 1, 2, 2), 0.5))


def test_head_and_feet_are_never_exchanged() -> None:
    generator = _generator()
    for _ in range(200):
        matrix = random_affine(generator, Pose())
        assert float(matrix[0, 0]) > 0.7
        assert float(matrix[1, 1]) > 0.7


def test_left_and_right_are_exchanged_in_half_of_the_patches() -> None:
    generator = _generator()
    mirrored = sum(float(random_affine(generator, Pose())[2, 2]) < 0 for _ in range(200))
    assert 70 < mirrored < 130


def test_changed_intensities_keep_shape_and_are_finite() -> None:
    generator = _generator()
    everything = Intensity(curve=1, inverted=0.5, thick_slices=1, blur=1, noise=1, bias_field=1)
    image = block_spine(0, 4.0).voxels.float()
    for _ in range(12):
        changed = vary_contrast(generator, vary_intensity(generator, image, everything) / 500, everything)
        assert changed.shape == image.shape
        assert bool(torch.isfinite(changed).all())


def test_blur_and_thick_slices_keep_the_mean() -> None:
    image = torch.randn(20, 20, 20, generator=_generator()) + 100
    for options in (replace(PLAIN, blur=1.0), replace(PLAIN, thick_slices=1.0)):
        changed = vary_intensity(_generator(), image, options)
        assert float(changed.mean()) == pytest.approx(100, abs=0.5)
        assert float(changed.std()) < 0.9 * float(image.std())


def test_thick_slices_leave_everything_in_its_place() -> None:
    generator = _generator()
    places = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in (64, 50, 46)), indexing="ij"))
    middle = torch.tensor([31.0, 24.0, 22.0])
    blob = torch.exp(-((places - middle[:, None, None, None]) ** 2).sum(dim=0) / (2 * 6.0**2))
    shifts = []
    for _ in range(60):
        changed = vary_intensity(generator, blob, replace(PLAIN, thick_slices=1.0))
        shifts.append((changed * places).sum(dim=(1, 2, 3)) / changed.sum() - middle)
    # Repeated voxels move the blob by less than half a voxel, now to one side and now to the other.
    assert float(torch.stack(shifts).abs().max()) < 0.5
    assert torch.stack(shifts).mean(dim=0).numpy() == pytest.approx(0.0, abs=0.1)


@pytest.mark.parametrize(("small", "whole"), [(0.0, 0.95), (1.0, 0.8)])
def test_localise_positions_lie_at_the_centres_of_the_bodies_that_are_shown(
    small: float, whole: float
) -> None:
    case = block_spine(1, 4.0)
    # Each body as bright as its level tells, everything else black: the image says where it is.
    numbered = replace(
        case, voxels=torch.where(case.labels > 0, case.labels.to(torch.int16) * 50 - 800, -1000)
    )
    options = LocaliseOptions(
        spacing_mm=4.0,
        sizes=((48, 32, 32),),
        intensity=replace(PLAIN, clip_hu=(-1000, 1000)),
        elsewhere=0.0,
        small=small,
        small_sizes=((48, 32, 32),),
    )
    task = LocaliseTask([numbered], [], options)
    generator = _generator()
    errors = []
    for _ in range(30):
        matrix_free = task.draw(generator)
        for image, positions in zip(matrix_free["image"][:, 0], matrix_free["positions"], strict=True):
            for place in positions[~positions[:, 0].isnan()]:
                low, high = (place - 5).round().long(), (place + 6).round().long()
                if bool((low < 0).any()) or bool((high >= torch.tensor(image.shape)).any()):
                    continue
                index = place.round().long()
                value = image[tuple(index)]
                mask = (image - value).abs() < 0.02
                centroid = mask.nonzero().float().mean(dim=0)
                if bool(mask[0].any() | mask[-1].any() | mask[:, 0].any() | mask[:, -1].any()):
                    continue  # the body touches the edge of the patch
                errors.append(float((centroid - place).abs().max()))
    assert len(errors) > 40
    # A body that is cut by a circle of view, or by the end that a small one repeats, has another centroid.
    assert float(np.median(errors)) < 0.25
    assert float(np.quantile(errors, whole)) < 0.6


def test_localise_small_fields_of_view_show_the_spine_and_repeat_their_far_ends() -> None:
    case = block_spine(1, 4.0)
    sizes = ((16, 32, 16), (32, 16, 32))
    options = LocaliseOptions(
        spacing_mm=4.0, small_sizes=sizes, intensity=PLAIN, elsewhere=0.0, small=1.0, varied=True
    )
    task = LocaliseTask([case], [], options)
    shown = repeated = 0
    for seed in range(12):
        batch = task.draw(Generator().manual_seed(seed))
        assert tuple(batch["image"].shape[2:]) in sizes
        shown += int((~batch["positions"][..., 0].isnan()).any(dim=1).sum())
        for image in batch["image"][:, 0]:
            ends = [image.select(axis, -1) for axis in range(3)]
            nexts = [image.select(axis, -2) for axis in range(3)]
            repeated += sum(torch.equal(end, near) for end, near in zip(ends, nexts, strict=True))
    assert shown > 20
    assert repeated > 24


def test_segment_target_marks_only_the_body_that_is_meant() -> None:
    options = SegmentOptions(
        spacing_mm=3.0,
        size=(32, 24, 24),
        intensity=PLAIN,
        elsewhere=0.0,
        towards=0.0,
        fractured=0.5,
        reflected=0.0,
    )
    task = SegmentTask([block_spine(2, 3.0)], [], options)
    generator = _generator()
    kinds = set()
    for _ in range(20):
        batch = task.draw(generator)
        assert batch["image"].shape == (2, 2, 32, 24, 24)
        for image, target in zip(batch["image"], batch["target"], strict=True):
            kinds.add(int(target.max()))
            assert len(target.unique()) == 2
            middle = (target > 0).nonzero().float().mean(dim=0)
            assert float((middle - torch.tensor([15.5, 11.5, 11.5])).abs().max()) < 6
            bone = image[0][target > 0].median()
            assert float(bone) > float(image[0][target == 0].median())
    assert kinds == {1, 2}


def test_segment_crops_centred_towards_a_neighbour_mean_the_nearer_body() -> None:
    options = SegmentOptions(
        spacing_mm=3.0, size=(32, 24, 24), elsewhere=0.0, towards=1.0, jitter_mm=0.0, intensity=PLAIN,
        pose=Pose(degrees=(0.0, 0.0, 0.0), scale=(1.0, 1.0), stretch=0.0),
    )  # fmt: skip
    task = SegmentTask([block_spine(2, 3.0)], [], options)
    generator = _generator()
    off = []
    for _ in range(12):
        for target in task.draw(generator)["target"]:
            rows = torch.nonzero(target.flatten(1).any(dim=1))
            assert len(rows)
            off.append(float(rows.float().mean() - (32 - 1) / 2) * options.spacing_mm)
    # Off the crop's middle, on both sides, and by less than half of the way to the next body.
    assert min(off) < -3.0 < 3.0 < max(off)
    assert max(map(abs, off)) < 20.0


def test_segment_crops_aside_of_the_column_have_nothing_to_draw() -> None:
    task = SegmentTask(
        [block_spine(2, 3.0)], [], SegmentOptions(spacing_mm=3.0, size=(32, 24, 24), elsewhere=1.0)
    )
    assert int(task.draw(_generator())["target"].max()) == 0


def test_fractured_vertebrae_are_drawn_as_often_as_asked_for() -> None:
    options = SegmentOptions(spacing_mm=3.0, size=(16, 8, 8), intensity=PLAIN, elsewhere=0.0, fractured=0.75)
    task = SegmentTask([block_spine(2, 3.0)], [], options)
    generator = _generator()
    targets = [target for _ in range(60) for target in task.draw(generator)["target"]]
    assert 0.6 < sum(int(target.max()) == 2 for target in targets) / len(targets) < 0.9


def test_points_lie_on_the_corners_of_the_mask() -> None:
    options = PointsOptions(
        spacing_mm=1.0, size=(64, 64), intensity=PLAIN, tilt_degrees=0.0, jitter_mm=2.0, sliced=0.0, disc=0.0
    )
    task = PointsTask([block_spine(4, 2.0, fractured=())], [], options)
    batch = task.draw(_generator())
    assert batch["image"].shape == (8, 2, 64, 64)
    for mask, points in zip(batch["image"][:, 1], batch["positions"], strict=True):
        # Lines with some body on them: the mask may have a speck elsewhere, as predicted ones do.
        rows = ((mask > 0.5).sum(dim=1) > 15).nonzero()
        columns = ((mask > 0.5).sum(dim=0) > 14).nonzero()
        named = dict(zip(SIX_POINT_NAMES, points.tolist(), strict=True))
        assert named["anterior_superior"][0] == pytest.approx(int(rows.min()), abs=3.5)
        assert named["posterior_inferior"][0] == pytest.approx(int(rows.max()), abs=3.5)
        assert named["anterior_superior"][1] == pytest.approx(int(columns.min()), abs=3.5)
        assert named["posterior_inferior"][1] == pytest.approx(int(columns.max()), abs=3.5)


def test_points_of_a_plane_beside_the_middle_are_those_of_the_body_there() -> None:
    case = block_spine(4, 2.0, fractured=())
    truth = copy.deepcopy(dict(case.truth))
    labels = case.labels.clone()
    for entry in truth["vertebrae"]:
        # To the left of the middle each block is ten millimetres lower.
        x, _, z = entry["center_mm"]
        top = round((z + 4.0) / 2.0)
        labels[top : top + 10, :, round(x / 2.0) + 1 :] = 0
        points = {
            name: [x + 10.0, y, z + 4.0 if "superior" in name else up]
            for name, (_, y, up) in entry["six_points"].items()
        }
        entry["beside"] = [{"aside_mm": 10.0, "six_points": points, "heights_mm": None}]
    options = PointsOptions(
        spacing_mm=1.0, size=(64, 64), intensity=PLAIN, tilt_degrees=0.0, jitter_mm=0.0, sliced=0.0, disc=0.0,
        hole=0.0, beside=0.5,
    )  # fmt: skip
    task = PointsTask([replace(case, labels=labels, truth=truth)], [], options)
    generator, heights = _generator(), set()
    for _ in range(3):
        batch = task.draw(generator)
        for mask, points in zip(batch["image"][:, 1], batch["positions"], strict=True):
            rows = ((mask > 0.5).sum(dim=1) > 15).nonzero()
            assert float(points[0, 0]) == pytest.approx(int(rows.min()), abs=3.5)
            assert float(points[1, 0]) == pytest.approx(int(rows.max()), abs=3.5)
            heights.add(float(points[1, 0] - points[0, 0]) > 22)
    assert heights == {True, False}


def test_plane_runs_foot_ward_and_back_ward() -> None:
    axes = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    matrix = plane_matrix(axes, 0.5)
    assert (matrix @ torch.tensor([0.0, 1.0, 0.0])).tolist() == [-0.5, 0.0, 0.0]
    assert (matrix @ torch.tensor([0.0, 0.0, 1.0])).tolist() == [0.0, 0.5, 0.0]


def test_same_seed_draws_the_same_batch() -> None:
    task = SegmentTask([block_spine(2, 3.0)], [], SegmentOptions(spacing_mm=3.0, size=(16, 16, 16)))
    first, second = task.draw(_generator(9)), task.draw(_generator(9))
    assert torch.equal(first["image"], second["image"])
    assert torch.equal(first["target"], second["target"])


def test_case_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    case = block_spine(5, 4.0)
    save_case(case, tmp_path)
    (found,) = load_cases(tmp_path)
    assert torch.equal(found.voxels, case.voxels)
    assert torch.equal(found.labels, case.labels)
    np.testing.assert_array_equal(found.affine, case.affine)
    assert found.truth == case.truth
    assert [item.level for item in found.vertebrae] == [Level.T12, Level.L1, Level.L2, Level.L3]


def test_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no case"):
        load_cases(tmp_path)


def test_coarser_case_has_its_vertebrae_at_the_same_millimetres() -> None:
    fine = block_spine(6, 2.0)
    (coarse,) = with_cubic_voxels_of([fine], 4.0)
    assert coarse.spacing_mm == pytest.approx(4.0)
    for first, second in zip(fine.vertebrae, coarse.vertebrae, strict=True):
        for case, vertebra in ((fine, first), (coarse, second)):
            place = case.affine @ np.append(vertebra.center.numpy(), 1.0)
            np.testing.assert_allclose(place[:3], _truth_center(case, vertebra.level), atol=1e-3)
    assert int(coarse.voxels[coarse.labels == 21].float().median()) > 300


def test_spacing_that_is_no_multiple_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="resample the case"):
        with_cubic_voxels_of([block_spine(6, 2.0)], 3.0)


def test_held_out_cases_are_not_trained_on() -> None:
    cases = [block_spine(seed, 10.0) for seed in range(10)]
    training, held_out = split(cases, 5)
    assert [case.name for case in held_out] == ["0", "1"]
    assert not {case.name for case in training} & {case.name for case in held_out}


def _truth_center(case: Case, level: Level) -> list[float]:
    (entry,) = [item for item in case.truth["vertebrae"] if item["level"] == level.value]
    assert all(math.isfinite(value) for value in entry["center_mm"])
    center: list[float] = entry["center_mm"]
    return center


def test_plane_of_thick_slices_keeps_its_place_and_loses_its_detail() -> None:
    rows, columns = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    body = ((rows - 47.5).abs() < 20) & ((columns - 50.5).abs() < 24)
    plane = torch.where(body, 300.0, -100.0)[None]
    seen = set()
    for seed in range(8):
        sliced = _sliced(Generator().manual_seed(seed), plane, 0.6)
        assert sliced.shape == plane.shape
        weight = (sliced[0] + 100.0).clamp(min=0.0)
        centroid = [float((weight * axis).sum() / weight.sum()) for axis in (rows, columns)]
        assert centroid == pytest.approx([47.5, 50.5], abs=0.7)
        # The edge of the body along a column is soft now, and its sum is kept.
        assert float(sliced[0, :, 50].diff().abs().max()) < 300.0
        assert float(weight.sum()) == pytest.approx(float((plane[0] + 100.0).sum()), rel=0.05)
        seen.add(round(float(sliced.std()), 3))
    assert len(seen) == 8
