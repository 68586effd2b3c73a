"""Resampling against SciPy, exactness where it must be exact, and bounded memory."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from dicom_ai_node.imaging.resample import (
    LPS_AXES,
    Grid,
    crop_around,
    grid_around,
    isotropic_grid,
    plane_affine,
    resample_isotropic,
    resample_labels_to,
    resample_to_grid,
    sample_plane,
    sample_points,
)

FloatArray = npt.NDArray[np.float64]


def random_affine(seed: int, *, shear: float = 0.0) -> FloatArray:
    random = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * random.uniform(0.4, 4.0, 3)
    if random.random() < 0.5:
        affine[:3, 1] *= -1
    affine[:3, 0] += shear * affine[:3, 1]
    affine[:3, 3] = random.uniform(-300, 300, 3)
    return affine


def random_voxels(seed: int, shape: tuple[int, int, int] = (11, 14, 9)) -> npt.NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1000, 2000, shape).astype(np.int16)


def expected(  # noqa: PLR0917
    voxels: npt.NDArray[Any],
    affine: FloatArray,
    target: FloatArray,
    shape: tuple[int, int, int],
    order: int = 1,
    fill: float = -1024.0,
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """SciPy's answer, and where no point is so close to an edge that rounding decides."""
    index = np.moveaxis(np.indices(shape).astype(np.float64), 0, -1)
    source = (np.linalg.inv(affine) @ target)[:3]
    at = index @ source[:, :3].T + source[:, 3]
    values = ndimage.map_coordinates(
        voxels.astype(np.float64), np.moveaxis(at, -1, 0), order=order, mode="nearest"
    )
    size = np.array(voxels.shape)
    inside = ((at >= -0.5) & (at <= size - 0.5)).all(axis=-1)
    edge = np.minimum(np.abs(at + 0.5), np.abs(at - size + 0.5)).min(axis=-1)
    return np.where(inside, values, fill), edge > 0.01


@given(seed=st.integers(0, 10_000), shear=st.sampled_from([0.0, 0.3]))
@settings(max_examples=40, deadline=None)
def test_any_grid_to_any_grid_agrees_with_scipy(seed: int, shear: float) -> None:
    affine, voxels = random_affine(seed, shear=shear), random_voxels(seed)
    center = affine[:3, :3] @ (np.array(voxels.shape) / 2) + affine[:3, 3]
    shape = (8, 7, 10)
    target = grid_around(
        center, shape, [1.1, 0.9, 1.4], axes=Rotation.random(random_state=seed + 1).as_matrix()
    )
    ours = resample_to_grid(voxels, affine, target, shape, antialias=False).numpy()
    theirs, sure = expected(voxels, affine, target, shape)
    assert sure.any()
    np.testing.assert_allclose(ours[sure], theirs[sure], atol=0.5)


@pytest.mark.parametrize("shape", [(1, 6, 5), (6, 1, 5), (6, 5, 1), (1, 1, 1)])
def test_axes_of_one_voxel_reach_half_a_step_and_no_further(shape: tuple[int, int, int]) -> None:
    voxels, affine, target_shape = random_voxels(3, shape), np.eye(4), (9, 9, 9)
    target = grid_around((np.array(shape) - 1) / 2, target_shape, 0.7, axes=np.eye(3))
    ours = resample_to_grid(voxels, affine, target, target_shape).numpy()
    theirs, sure = expected(voxels, affine, target, target_shape)
    np.testing.assert_allclose(ours[sure], theirs[sure], atol=0.01)
    assert (ours == -1024).any()
    assert (ours != -1024).any()


def test_a_volume_on_its_own_grid_is_unchanged() -> None:
    voxels, affine = random_voxels(1), random_affine(1)
    ours = resample_to_grid(voxels, affine, affine, voxels.shape)
    np.testing.assert_allclose(ours.numpy(), voxels, atol=0.02)


def test_coarser_grids_hold_means_not_samples() -> None:
    voxels = (np.indices((16, 24, 32)).sum(axis=0) % 2 * 1000).astype(np.int16)
    coarse, _ = resample_isotropic(voxels, np.diag([1.0, 1.0, 1.0, 1.0]), 4.0, axes=np.eye(3))
    np.testing.assert_allclose(coarse.numpy(), 500, atol=1)
    sampled, _ = resample_isotropic(voxels, np.eye(4), 4.0, axes=np.eye(3), antialias=False)
    assert sampled.shape == (4, 6, 8)


def test_an_average_equals_the_mean_of_its_blocks() -> None:
    voxels = random_voxels(5, (12, 16, 20))
    coarse, affine = resample_isotropic(voxels, np.eye(4), 4.0, axes=np.eye(3))
    blocks = voxels.reshape(3, 4, 4, 4, 5, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(coarse.numpy(), blocks, atol=0.05)
    np.testing.assert_allclose(affine[:3, 3], [1.5, 1.5, 1.5])


@pytest.mark.parametrize("at_once", [1, 200, 1 << 21])
def test_averages_of_a_slab_that_ends_early(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    voxels = random_voxels(5, (9, 8, 8))
    fine, coarse = np.eye(4), np.diag([2.0, 2.0, 2.0, 1.0])
    coarse[:3, 3] = 0.5
    whole = resample_to_grid(voxels, fine, coarse, (4, 4, 4)).numpy()
    monkeypatch.setattr("dicom_ai_node.imaging.resample._POINTS_AT_ONCE", at_once)
    # Nine slices in windows of two: the last window has one.
    np.testing.assert_allclose(resample_to_grid(voxels, fine, coarse, (4, 4, 4)).numpy(), whole, atol=1e-3)
    beyond = resample_to_grid(voxels, fine, coarse, (5, 4, 4)).numpy()
    np.testing.assert_allclose(beyond[:4], whole, atol=1e-3)


def test_pieces_of_a_large_target_fit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels, affine = random_voxels(6, (40, 30, 35)), random_affine(6)
    whole, target = resample_isotropic(voxels, affine, 3.0)
    monkeypatch.setattr("dicom_ai_node.imaging.resample._POINTS_AT_ONCE", 700)
    pieces = resample_to_grid(voxels, affine, target, whole.shape)
    np.testing.assert_allclose(pieces.numpy(), whole.numpy(), atol=0.05)


@given(seed=st.integers(0, 10_000), spacing=st.floats(0.5, 8))
@settings(max_examples=50, deadline=None)
def test_the_isotropic_grid_holds_every_voxel_and_little_more(seed: int, spacing: float) -> None:
    affine, shape = random_affine(seed, shear=0.2), (11, 14, 9)
    target, size = isotropic_grid(affine, shape, spacing)
    np.testing.assert_allclose(target[:3, :3], LPS_AXES * spacing)
    corners = np.array(list(itertools.product(*[(-0.5, n - 0.5) for n in shape])))
    at = (corners @ affine[:3, :3].T + affine[:3, 3] - target[:3, 3]) @ np.linalg.inv(target[:3, :3]).T
    assert (at >= -0.5 - 1e-6).all()
    assert (at <= np.array(size) - 0.5 + 1e-6).all()
    assert ((at.max(axis=0) - at.min(axis=0)) > np.array(size) - 1 - 1e-6).all()


def test_the_isotropic_axes_run_to_superior_posterior_and_left() -> None:
    voxels = np.zeros((20, 20, 20), np.int16)
    voxels[15, 10, 10] = 1000
    affine = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    for axis, marker in enumerate([(15, 10, 10), (10, 15, 10), (10, 10, 15)]):
        voxels[:] = 0
        voxels[marker] = 1000
        out, _ = resample_isotropic(voxels, affine, 1.0, fill=0)
        found = np.unravel_index(int(out.argmax()), out.shape)
        assert found[axis] > 12
        assert [found[other] for other in range(3) if other != axis] == [10, 10]


def test_a_crop_is_centred_on_its_point() -> None:
    voxels, affine = np.zeros((30, 40, 50), np.int16), random_affine(8)
    voxels[12, 20, 30] = 1000
    center = affine[:3, :3] @ [12, 20, 30] + affine[:3, 3]
    crop, crop_affine = crop_around(voxels, affine, center, (9, 11, 13), 1.5)
    assert list(np.unravel_index(int(crop.argmax()), crop.shape)) == [4, 5, 6]
    np.testing.assert_allclose(crop_affine[:3, :3] @ [4, 5, 6] + crop_affine[:3, 3], center)


def test_a_plane_and_its_points_show_the_same() -> None:
    voxels, affine = ndimage.gaussian_filter(random_voxels(9, (30, 30, 30)), 1.0), random_affine(9)
    center = affine[:3, :3] @ [15, 15, 15] + affine[:3, 3]
    frame = Rotation.random(random_state=4).as_matrix()
    origin = center - frame[:, 0] * 6 - frame[:, 1] * 5
    picture = sample_plane(
        Grid(voxels, affine), origin, frame[:, 0], frame[:, 1], (13, 11), (1.0, 1.0), antialias=False
    )
    plane = plane_affine(origin, frame[:, 0], frame[:, 1], (1.0, 1.0))
    rows, columns = np.indices((13, 11))
    points = np.stack([np.zeros_like(rows), rows, columns], axis=-1) @ plane[:3, :3].T + plane[:3, 3]
    np.testing.assert_allclose(sample_points(voxels, affine, points).numpy(), picture.numpy(), atol=0.1)
    np.testing.assert_allclose(points[12, 10], origin + frame[:, 0] * 12 + frame[:, 1] * 10)


def test_points_outside_get_the_fill_value() -> None:
    values = sample_points(
        random_voxels(2), np.eye(4), np.array([[5.0, 5, 5], [-0.6, 0, 0], [900, 0, 0]]), fill=7
    )
    assert values[0] != 7
    assert values[1:].tolist() == [7, 7]
    assert sample_points(random_voxels(2), np.eye(4), np.array([[900.0, 0, 0]]), fill=7).tolist() == [7]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_labels_stay_labels_on_any_grid(seed: int) -> None:
    labels = np.random.default_rng(seed).choice([0, 8, 24, 28, 255], (9, 8, 7)).astype(np.uint8)
    affine = random_affine(seed)
    shape = (10, 10, 10)
    center = affine[:3, :3] @ [4, 4, 3] + affine[:3, 3]
    target = grid_around(center, shape, 0.8, axes=Rotation.random(random_state=seed + 2).as_matrix())
    ours = resample_labels_to(labels, affine, shape, target)
    assert set(np.unique(ours)) <= {0, 8, 24, 28, 255}
    theirs, sure = expected(labels, affine, target, shape, order=0, fill=0)
    assert (ours[sure] == theirs[sure]).mean() > 0.995  # ties between two voxels may fall either way
    assert (resample_labels_to(labels, affine, labels.shape, affine) == labels).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same_values() -> None:
    voxels, affine = random_voxels(11, (50, 60, 70)), random_affine(11)
    cpu, _ = resample_isotropic(voxels, affine, 2.0)
    cuda, _ = resample_isotropic(voxels, affine, 2.0, device="cuda")
    np.testing.assert_allclose(cuda.cpu().numpy(), cpu.numpy(), atol=0.5)
