"""Sagittal pictures of a synthetic spine: bodies where they belong, in any orientation of the volume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.reformat import (
    CurvedReformat,
    FlatReformat,
    curved_sagittal_reformat,
    sagittal_reformat,
)
from dicom_ai_node.imaging.resample import resample_to_grid
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.report import LabelMap

LEVELS = (Level.T12, Level.L1, Level.L2, Level.L3)
CENTERS = np.array([[12.0, 40, 20], [4, 36, -14], [-6, 34, -48], [-14, 38, -82]])
"""A bent spine: left above, right below."""


def spine(*, sagittal: bool = False) -> tuple[Volume, LabelMap]:
    """Balls of bone in water, 100 x 170 x 200 mm around them."""
    affine = np.array([[0.0, 0, 2, -50], [0, 2, 0, -50], [2, 0, 0, -130], [0, 0, 0, 1]])
    shape = (100, 85, 50)
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    voxels, labels = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
    for level, center in zip(LEVELS, CENTERS, strict=True):
        ball = np.linalg.norm(points - center, axis=-1) < 12
        voxels[ball], labels[ball] = 800, verse_label(level)
    if sagittal:
        turned = np.array([[2.0, 0, 0, -50], [0, 0, 2, -50], [0, -2, 0, 68], [0, 0, 0, 1]])
        voxels = resample_to_grid(voxels, affine, turned, (50, 100, 85)).numpy().astype(np.int16)
        labels = (
            resample_to_grid(labels, affine, turned, (50, 100, 85), mode="nearest", fill=0)
            .numpy()
            .astype(np.uint8)
        )
        affine = turned
    slices = tuple(SliceRef("1", f"1.{k}", 1, Path(f"{k}")) for k in range(len(voxels)))
    return Volume(voxels, affine, slices, "1.2", "1.3", "1.4", "CT"), LabelMap(labels, affine)


def runs_of_bone(pixels: npt.NDArray[np.int16], column: int) -> int:
    bone = pixels[:, column] > 500
    return int((np.diff(bone.astype(int)) == 1).sum() + bone[0])


@pytest.mark.parametrize("sagittal", [False, True])
def test_the_curved_sheet_passes_through_every_body(sagittal: bool) -> None:
    volume, _ = spine(sagittal=sagittal)
    sheet = curved_sagittal_reformat(volume, CENTERS, spacing_mm=1.0)
    at = sheet.to_pixels(CENTERS)
    for row, column in np.rint(at).astype(int):
        assert sheet.pixels[row - 7 : row + 8, column - 7 : column + 8].min() > 700
    np.testing.assert_allclose(sheet.to_mm(at), CENTERS, atol=0.2)
    assert (np.diff(at[:, 0]) > 0).all()


def test_the_flat_plane_is_a_true_image_plane() -> None:
    volume, _ = spine()
    flat = sagittal_reformat(volume, CENTERS)
    slice_step, row_step, column_step = flat.affine[:3, :3].T
    np.testing.assert_allclose(np.linalg.norm([row_step, column_step], axis=1), flat.spacing_mm)
    assert row_step[2] < -0.9 * flat.spacing_mm
    assert abs(column_step @ row_step) < 1e-9
    assert column_step[1] > 0
    np.testing.assert_allclose(
        np.cross(column_step, row_step) @ slice_step, np.linalg.norm(slice_step) * flat.spacing_mm**2
    )
    again = resample_to_grid(
        volume.voxels, volume.affine, flat.affine, (1, *flat.pixels.shape), antialias=False
    )
    np.testing.assert_allclose(flat.pixels, again[0].numpy(), atol=1.0)
    at = np.array([[3.0, 5.0], [40.0, 20.0]])
    np.testing.assert_allclose(flat.to_pixels(flat.to_mm(at)), at, atol=1e-6)


def test_the_flat_plane_turns_with_centres_that_lean() -> None:
    volume, _ = spine()
    leaning = np.array([[-10.0, 0, 10], [0, 40, -20], [10, 80, -50]])
    flat = sagittal_reformat(volume, leaning)
    offsets = (leaning - flat.affine[:3, 3]) @ (flat.affine[:3, 0] / np.linalg.norm(flat.affine[:3, 0]))
    assert np.abs(offsets).max() < 3
    upright = sagittal_reformat(volume, [[5.0, 30, 0]])
    np.testing.assert_allclose(upright.affine[0, :3] / upright.spacing_mm, [-1, 0, 0], atol=1e-9)
    assert upright.affine[0, 3] == pytest.approx(5.0)


def test_the_flat_plane_leans_with_a_spine_that_leans_sideways() -> None:
    volume, _ = spine()
    flat = sagittal_reformat(volume, CENTERS)
    offsets = (CENTERS - flat.affine[:3, 3]) @ (flat.affine[:3, 0] / np.linalg.norm(flat.affine[:3, 0]))
    # The upright plane misses the outermost bodies by 13 mm, more than their radius.
    assert np.abs(offsets).max() < 5
    for row, column in np.rint(flat.to_pixels(CENTERS)).astype(int):
        assert flat.pixels[row, column] > 700
    straight = sagittal_reformat(volume, CENTERS * [0, 1, 1])
    np.testing.assert_allclose(straight.affine[:3, 1], [0, 0, -straight.spacing_mm], atol=1e-9)


def test_without_bodies_the_whole_middle_is_shown() -> None:
    volume, _ = spine()
    for picture in (sagittal_reformat(volume, []), curved_sagittal_reformat(volume, [])):
        assert isinstance(picture, FlatReformat | CurvedReformat)
        assert picture.pixels.shape == (199, 169)


def test_a_slab_is_a_mean() -> None:
    volume, _ = spine()
    noisy = replace(
        volume, voxels=(volume.voxels + np.random.default_rng(1).normal(0, 50, volume.shape)).astype(np.int16)
    )
    thin = sagittal_reformat(noisy, CENTERS).pixels
    thick = sagittal_reformat(noisy, CENTERS, thickness_mm=8).pixels
    corner = np.s_[:20, :20]
    assert thick[corner].std() < 0.7 * thin[corner].std()
