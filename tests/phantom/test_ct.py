"""The scanner: same seed same bytes, any grid, tissues at their Hounsfield units."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.phantom import (
    CtAcquisition,
    Spine,
    plane_acquisition,
    render_ct,
    render_training_case,
    sample_ct_acquisition,
    sample_spine,
    truth,
    upright_acquisition,
    visible_levels,
)
from dicom_ai_node.phantom.ct_palette import CtPalette


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(1, fractures={})


def small(spine: Spine, spacing: float = 3.0, **changes: object) -> CtAcquisition:
    center = spine[Level.L2].frame[:3, 3]
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing], [0, spacing, 0], [spacing, 0, 0]])
    shape = (round(90 / spacing), round(120 / spacing), round(120 / spacing))
    affine[:3, 3] = center - np.array([60.0, 60.0, 45.0])
    acquisition = CtAcquisition(shape, affine, spacing, resolution_mm=spacing, seed=5)
    return replace(acquisition, **changes)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_bytes_whatever_the_threads() -> None:
    threads = torch.get_num_threads()
    rendered = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            spine = sample_spine(13)
            rendered.append(render_ct(spine, small(spine, 4.0, randomise=1.0, enhancement=0.5)))
    finally:
        torch.set_num_threads(threads)
    first, second = rendered
    assert first.hu.tobytes() == second.hu.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.truth == second.truth


def test_another_seed_is_another_person_and_another_noise(spine: Spine) -> None:
    assert truth(sample_spine(1))["vertebrae"] != truth(sample_spine(2))["vertebrae"]
    one, other = render_ct(spine, small(spine)), render_ct(spine, small(spine, seed=6))
    assert (one.hu != other.hu).mean() > 0.5
    np.testing.assert_array_equal(one.labels, other.labels)


def test_tissues_have_their_hounsfield_units(spine: Spine) -> None:
    phantom = render_ct(spine, small(spine, 2.0, noise_hu=3.0))
    body = phantom.labels == verse_label(Level.L2)
    inner = body.copy()
    for axis in range(3):
        for shift in (-2, 2):
            inner &= np.roll(body, shift, axis)
    density = next(e for e in phantom.truth["vertebrae"] if e["level"] == "L2")["density_mg_cm3"]
    assert 0.7 * 1.18 * density < phantom.hu[inner].mean() < 2.2 * 1.18 * density + 40
    assert phantom.hu.min() >= -1024
    soft = (phantom.hu > -140) & (phantom.hu < 100)
    assert soft.mean() > 0.4


def test_voltage_raises_bone_and_agent_raises_vessels(spine: Spine) -> None:
    plain, low = (render_ct(spine, small(spine, palette=CtPalette(kvp), noise_hu=0.0)) for kvp in (120, 80))
    bone = plain.labels > 0
    assert low.hu[bone].mean() > 1.2 * plain.hu[bone].mean()


def test_thick_slices_are_averages_and_labels_stay_at_the_slice_centre(spine: Spine) -> None:
    fine = render_ct(spine, small(spine, noise_hu=0.0, slice_thickness_mm=1.5))
    thick = render_ct(spine, small(spine, noise_hu=0.0, slice_thickness_mm=9.0))
    labelled = (fine.labels == thick.labels).mean()
    assert labelled > 0.97
    along = np.abs(np.diff(fine.hu.astype(float), axis=0)).mean()
    assert np.abs(np.diff(thick.hu.astype(float), axis=0)).mean() < 0.8 * along


def test_an_oblique_grid_sees_the_same_anatomy(spine: Spine) -> None:
    straight = small(spine, 2.0, noise_hu=0.0, table=False)
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    affine = np.asarray(straight.affine).copy()
    center = affine[:3, :3] @ (np.array(straight.shape) - 1) / 2 + affine[:3, 3]
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = center - affine[:3, :3] @ (np.array(straight.shape) - 1) / 2
    a, b = render_ct(spine, straight), render_ct(spine, replace(straight, affine=affine))
    label = verse_label(Level.L2)
    volumes = [(p.labels == label).sum() * 8.0 for p in (a, b)]
    assert abs(volumes[0] / volumes[1] - 1) < 0.03
    centers = [
        np.argwhere(p.labels == label).mean(axis=0) @ p.affine[:3, :3].T + p.affine[:3, 3] for p in (a, b)
    ]
    assert np.linalg.norm(centers[0] - centers[1]) < 0.5


def test_reconstruction_circle_is_padded(spine: Spine) -> None:
    phantom = render_ct(spine, small(spine, circle=True, padding_hu=-2000))
    assert (phantom.hu[:, 0, 0] == -2000).all()
    assert phantom.hu[:, phantom.hu.shape[1] // 2, phantom.hu.shape[2] // 2].min() >= -1024


def test_a_plane_through_one_body_is_cheap_and_right(spine: Spine) -> None:
    vertebra = spine[Level.L2]
    plane = plane_acquisition(
        small(spine),
        vertebra.frame[:3, 3] + 15.0 * vertebra.frame[:3, 1],
        -vertebra.frame[:3, 2],
        vertebra.frame[:3, 1],
        shape=(1, 96, 128),
        spacing_mm=(2.0, 0.6, 0.6),
    )
    phantom = render_ct(spine, plane)
    assert phantom.hu.shape == (1, 96, 128)
    assert phantom.labels[0, 48, 64 - 25] == verse_label(Level.L2)
    # Rows run down, columns to posterior: the body lies in front of the arch.
    body = np.argwhere(phantom.labels[0] == verse_label(Level.L2))
    arch = np.argwhere((phantom.whole_labels[0] == verse_label(Level.L2)) & (phantom.labels[0] == 0))
    assert arch[:, 1].mean() > body[:, 1].max()


@pytest.mark.parametrize("training", [False, True])
def test_sampled_acquisitions_look_at_the_spine(training: bool) -> None:
    for seed in range(10):
        spine = sample_spine(seed)
        acquisition = sample_ct_acquisition(seed, spine, training=training)
        assert len(visible_levels(spine, acquisition)) >= 2, seed
        assert np.prod(acquisition.shape) <= 256 * 256 * 500
        assert 0.2 < acquisition.spacing_mm[1] < 3.0


def test_a_training_case_is_what_it_says() -> None:
    case = render_training_case(17, 3.0, width_mm=130.0)
    again = render_training_case(17, 3.0, width_mm=130.0)
    assert case.hu.tobytes() == again.hu.tobytes()
    assert case.hu.dtype == np.int16
    assert case.labels.dtype == np.uint8
    direction = case.affine[:3, :3] / 3.0
    np.testing.assert_array_equal(direction, [[0, 0, 1], [0, 1, 0], [1, 0, 0]])
    assert case.centers_mm.keys() == case.centers_voxel.keys()
    assert set(case.six_points_mm) == {level for level in case.centers_mm if level is not Level.S1}
    for level, voxel in case.centers_voxel.items():
        index = np.round(voxel).astype(int)
        if (index >= 0).all() and (index < case.labels.shape).all():
            assert case.labels[tuple(index)] == verse_label(level)
    assert case.fractured <= set(case.centers_mm)


def test_upright_acquisition_keeps_the_asked_width() -> None:
    spine = sample_spine(2)
    acquisition = upright_acquisition(2, spine, 1.5, width_mm=150.0, training=False)
    assert acquisition.shape[2] == 100
    assert acquisition.spacing_mm == pytest.approx((1.5, 1.5, 1.5))
