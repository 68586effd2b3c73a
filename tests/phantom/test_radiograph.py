"""Radiographs: exact cone geometry, the physics of two materials, the same pixels for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.radiograph import (
    RadiographAcquisition,
    expose,
    render_radiograph,
    sample_radiograph_acquisition,
)
from dicom_ai_node.phantom.radiograph_beam import HYDROXYAPATITE_CM2_G, primary, spectrum
from dicom_ai_node.phantom.radiograph_canvas import painted
from dicom_ai_node.phantom.radiograph_palette import MineralPalette, WaterPalette
from dicom_ai_node.phantom.radiograph_processing import Processing, downsampled, process, stored, upsampled
from dicom_ai_node.phantom.radiograph_thickness import thickness
from dicom_ai_node.phantom.radiograph_truth import projection_matrix
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.spine import Spine, sample_spine
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

CPU = torch.device("cpu")


def small(spine: Spine, level: Level = Level.L2, **values: object) -> RadiographAcquisition:
    """A field of 128 x 96 mm at the detector about one vertebra, 1 mm pixels."""
    taken = RadiographAcquisition(
        "lateral",
        spine[level].frame[:3, 3],
        matrix=(128, 96),
        pixel_mm=1.0,
        collimation=(0, 128, 0, 96),
        seed=4,
    )
    return replace(taken, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(5, fractures={})


def test_every_tissue_has_its_water_and_its_mineral() -> None:
    for tissue in Tissue:
        assert WaterPalette().tissue(Matter(tissue)) >= -1000.0
        assert MineralPalette().tissue(Matter(tissue)) >= 0.0
    assert WaterPalette().tissue(Matter(Tissue.FAT)) < WaterPalette().tissue(Matter(Tissue.MUSCLE))
    fatty, watery = (WaterPalette().bone(100.0, Marrow(fat=share)) for share in (1.0, 0.0))
    assert fatty < watery
    assert MineralPalette().bone(150.0, Marrow()) == 150.0


def test_rays_meet_the_points_that_project_onto_their_pixels(spine: Spine) -> None:
    cone = small(spine, turn=7.0, lean=-3.0, tilt=4.0, offset_mm=(6.0, -9.0)).cone
    grid = cone.rays((10, 20), (5, 25), (700.0, 1100.0), binning=3, step=25.0, device=CPU)
    x, y, z = grid.coordinates(np.eye(4))
    points = torch.stack([x, y, z], -1).reshape(-1, 3).numpy().astype(np.float64)
    found = cone.project(points).reshape(*grid.shape, 3)
    np.testing.assert_allclose(
        found[..., 0], np.broadcast_to(np.arange(5, 25) * 3 + 1, grid.shape), atol=1e-3
    )
    rows = np.broadcast_to(np.arange(10, 20)[:, None] * 3 + 1, grid.shape)
    np.testing.assert_allclose(found[..., 1], rows, atol=1e-3)
    np.testing.assert_allclose(found[:, 0, 0, 2], 700.0 + 12.5 + 25.0 * np.arange(16), atol=1e-2)
    lifted = np.concatenate([points, np.ones((len(points), 1))], axis=1) @ projection_matrix(cone).T
    np.testing.assert_allclose(lifted[:, 1::-1] / lifted[:, 2:], found.reshape(-1, 3)[:, :2], atol=1e-6)
    # A part of the grid, and a slab of it, hold the same rays.
    part = grid.coordinates(np.eye(4), (slice(3, 6), slice(2, 5), slice(7, 9)))
    np.testing.assert_allclose(part[0], x[3:6, 2:5, 7:9], atol=1e-3)
    np.testing.assert_allclose(grid.slab(3, 2).coordinates(np.eye(4))[2], z[3:5], atol=1e-3)


def test_a_ball_of_bone_casts_the_shadow_that_geometry_says(spine: Spine) -> None:
    """Thickness in the middle, mass of the whole and place, against closed formulas."""
    taken = small(spine, pixel_mm=0.5, matrix=(200, 200), turn=5.0, lean=3.0)
    cone, radius = taken.cone, 15.0
    frame = np.eye(4)
    frame[:3, 3] = taken.center + np.array([4.0, -6.0, 8.0])
    ball = Ellipsoid(frame, (radius, radius, radius), Matter(Tissue.CALCIUM))
    density = MineralPalette().tissue(ball.matter)
    grid = cone.rays((0, 200), (0, 200), (800.0, 1000.0), binning=1, step=1.0, device=CPU)
    assert grid.block(frame, np.full(3, 400.0), np.full(3, 401.0)) is None
    assert grid.misses(frame[:3, 3] + 300.0, 10.0)
    image = (painted([ball], grid, MineralPalette()).sum(dim=0) * grid.lengths()).numpy() / density
    column, row, depth = cone.project(frame[None, :3, 3])[0]
    assert abs(image.max() - 2 * radius) < 0.8
    rows, columns = np.indices(image.shape)
    center = np.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()
    np.testing.assert_allclose(center, [column, row], atol=0.1)
    pixel = cone.pixel * depth / cone.distance
    assert abs(image.sum() * pixel**2 / (4.0 / 3.0 * np.pi * radius**3) - 1.0) < 0.01


@pytest.mark.parametrize("step", [0.5, 2.0, 3.5])
@pytest.mark.parametrize("lean", [0.0, 35.0, 80.0])
def test_a_path_through_a_plate_is_as_long_however_deep_the_samples_are(step: float, lean: float) -> None:
    """A plate of 6 mm, seen flat, at an angle, and nearly along: no terraces, no missed surface."""
    frame = np.eye(4)
    frame[:3, 3] = [0.0, 0.0, -150.0]
    taken = RadiographAcquisition(
        "lateral", frame[:3, 3], matrix=(24, 24), pixel_mm=0.5, collimation=(0, 24, 0, 24)
    )
    angle = np.radians(lean)
    frame[:3, 0] = [np.cos(angle), np.sin(angle), 0.0]
    frame[:3, 1] = [-np.sin(angle), np.cos(angle), 0.0]
    plate = Ellipsoid(frame, (3.0, 400.0, 400.0), Matter(Tissue.CALCIUM))
    grid = taken.cone.rays((0, 24), (0, 24), (780.0, 1020.0), binning=1, step=step, device=CPU)
    found = painted([plate], grid, MineralPalette()).sum(dim=0) * grid.lengths()
    length = found / MineralPalette().tissue(plate.matter)
    # The middle rays only: the cone's others are not parallel to them.
    middle = length[8:16, 8:16]
    assert float((middle / (6.0 / np.cos(angle)) - 1.0).abs().max()) < 0.03


def test_beams_harden_and_bone_stops_more_than_water() -> None:
    energies, weights = spectrum(85.0, 3.0)
    assert 40.0 < float((energies * weights).sum()) < 60.0
    assert weights.sum() == pytest.approx(1.0)
    # NIST: mu/rho of bone mineral is about twice that of water at 60 keV.
    assert HYDROXYAPATITE_CM2_G[4] == pytest.approx(0.406, abs=0.01)
    thick = torch.tensor([0.0, 10.0, 20.0, 30.0])
    through = primary(thick, torch.zeros(4), 85.0, 3.0)
    assert through[0] == pytest.approx(1.0, abs=1e-5)
    steps = (through[:-1] / through[1:]).log()
    assert (steps.diff() < 0).all()
    assert primary(thick, torch.ones(4), 85.0, 3.0)[1] < primary(thick + 1.0, torch.zeros(4), 85.0, 3.0)[1]


def test_processing_keeps_the_order_of_exposures_and_inverts_for_monochrome1() -> None:
    exposure = torch.linspace(0.2, 5.0, 4096).reshape(64, 64)
    field = torch.ones(64, 64, dtype=torch.bool)
    plain = Processing(base=1.0, detail=1.0, power=1.0, bits=12)
    shown = process(exposure, field, plain)
    assert (shown.reshape(-1).diff() <= 1e-6).all()
    assert shown.max() > 0.75
    assert shown.min() < 0.1
    straight, turned = stored(shown, plain), stored(shown, replace(plain, inverted=True))
    assert (straight + turned - 4095).abs().max() <= 1
    image = torch.arange(35.0).reshape(5, 7)
    assert upsampled(downsampled(image, 2), 2, (5, 7)).shape == (5, 7)


def test_the_same_exposure_gives_the_same_pixels(spine: Spine) -> None:
    taken = small(spine, matrix=(64, 48), pixel_mm=2.0, collimation=(10, 60, 8, 40))
    film = render_radiograph(spine, taken)
    passed = thickness(spine, taken.cone, taken.water, taken.mineral, device=CPU, arms=taken.arms)
    again = expose(spine, taken, passed).numpy()
    assert (again == film.pixels).all()
    assert film.pixels.dtype == np.uint16
    assert film.pixels.max() < 1 << film.bits
    assert (expose(spine, replace(taken, seed=5), passed).numpy() != again).any()
    # The edge of the field is dark when collimated.
    assert film.shown[:9].max() < 0.05
    assert film.shown[10:60, 8:40].mean() > 0.2


def test_sampled_exposures_are_plausible_and_follow_the_seed() -> None:
    spine = sample_spine(2)
    for seed in range(30):
        for view in ("lateral", "frontal"):
            taken = sample_radiograph_acquisition(seed, spine, view=view)
            assert 1.02 < taken.magnification < 1.5
            assert np.prod(taken.matrix) <= 2048 * 1024
            assert (taken.toward in {"left", "right"}) == (view == "lateral")
            top, bottom, left, right = taken.collimation
            assert 0 <= top < bottom <= taken.matrix[0]
            assert 0 <= left < right <= taken.matrix[1]
    again = sample_radiograph_acquisition(29, spine)
    assert again == replace(again)
    assert sample_radiograph_acquisition(29, spine).matrix == again.matrix
    wild = sample_radiograph_acquisition(29, spine, training=True)
    assert wild.processing != again.processing
    assert wild.water.offsets
