"""The heatmaps of a volume, at once and in overlapping patches: places are those of the patient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from dicom_ai_node.imaging.resample import Grid, resample_isotropic
from dicom_ai_node.inference.bundle import Bundle, find_models_dir, load_bundle
from dicom_ai_node.inference.preprocessing import Preprocessing
from dicom_ai_node.networks.intensity import clipped_moments, smoothed
from dicom_ai_node.networks.mscn import Heatmaps
from dicom_ai_node.phantom.training_cases import render_training_case
from dicom_ai_node.pipelines.ct_heatmaps import heatmaps_of_coarse, heatmaps_of_volume
from dicom_ai_node.pipelines.labelling import LabellingSettings, find_candidates

BALLS_MM = {0: (12.0, -30.0, 60.0), 7: (-18.0, 5.0, -20.0)}
"""A bright ball is of the first level, a brighter one of the eighth."""


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return load_bundle(find_models_dir(None) / "ct-localise", torch.device("cpu"))


class _Balls(nn.Module):
    """Tells the balls by their brightness: a network whose answer is known."""

    multiple = 1

    def __init__(self, levels: int, spacing_mm: float, moments: tuple[float, float]) -> None:
        super().__init__()
        self.levels, self.sigma, self.moments = levels, 6 / spacing_mm, moments

    def forward(self, x: torch.Tensor) -> Heatmaps:
        hu = x[:, 0] * self.moments[1] + self.moments[0]
        maps = torch.zeros(len(x), self.levels, *x.shape[2:])
        for level, low, high in ((0, 500.0, 1600.0), (7, 1600.0, 4000.0)):
            ball = ((hu > low) & (hu < high)).float()
            if ball.any():
                maps[:, level] = torch.stack([smoothed(one, self.sigma) for one in ball])
        return Heatmaps(maps, maps, maps)


def _bundle(shipped: Bundle, seen: torch.Tensor, **preprocessing: Any) -> Bundle:
    """A bundle whose network knows the moments of what is standardised."""
    metadata = shipped.metadata.model_copy(update={"preprocessing": Preprocessing(**preprocessing)})
    moments = clipped_moments(seen, metadata.ct.clip_hu)
    network = _Balls(len(metadata.output_channels), metadata.ct.spacing_mm, moments)
    return replace(shipped, metadata=metadata, network=network)


def _volume(affine: npt.NDArray[np.float64], shape: tuple[int, int, int]) -> Grid:
    places = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    voxels = np.zeros(shape, np.int16)
    for level, center in BALLS_MM.items():
        voxels[np.linalg.norm(places - center, axis=-1) < 14] = 1000 if level == 0 else 2500
    return Grid(voxels, affine)


def _turned() -> npt.NDArray[np.float64]:
    """Slices from head to feet, rows to the front, tilted by 12 degrees: nothing is as the network has it."""
    turn = np.deg2rad(12.0)
    tilt = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine = np.eye(4)
    affine[:3, :3] = tilt @ np.array([[0, 0, 1.5], [0, -1.2, 0], [-3.0, 0, 0]])
    affine[:3, 3] = -affine[:3, :3] @ np.array([26.0, 45.0, 40.0]) + [0.0, -10.0, 20.0]
    return affine


WAYS: dict[str, dict[str, Any]] = {
    "at once": {"spacing_mm": 5.0, "clip_hu": (-1000.0, 3000.0)},
    "small patches": {
        "spacing_mm": 4.0, "size": (16, 16, 16), "clip_hu": (-1000.0, 3000.0), "standardised": "volume",
    },
    "patches as published": {
        "spacing_mm": 1.0, "size": (128, 96, 96), "clip_hu": (-2048.0, 8192.0), "smoothing_mm": 0.75,
        "standardised": "volume",
    },
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_is_seen_lies_where_it_is_in_the_patient(shipped: Bundle, way: str) -> None:
    volume = _volume(_turned(), (52, 90, 80))
    at_once = resample_isotropic(volume.voxels, volume.affine, 5.0)[0]
    seen = at_once if way == "at once" else torch.from_numpy(volume.voxels)
    bundle = _bundle(shipped, seen, **WAYS[way])
    told: list[tuple[int, int]] = []
    heatmaps, affine = heatmaps_of_volume(bundle, volume, lambda *share: told.append(share))
    assert len(heatmaps) == len(bundle.metadata.output_channels)
    found = find_candidates(heatmaps, affine, LabellingSettings())
    strong = {int(peak.evidence.argmax()): peak.center_mm for peak in found if peak.evidence.max() > 0.3}
    assert set(strong) >= {0, 7}
    for level, center in BALLS_MM.items():
        assert np.linalg.norm(strong[level] - center) < 2.5
    assert bool(told) == (way != "at once")
    assert all(done <= of for done, of in told)
    # Never kept finer than they need to be: the memory of a whole body stays bounded.
    assert np.linalg.norm(affine[:3, 0]) >= 4.0


def test_a_volume_on_the_networks_grid_gives_the_same_as_any_other(shipped: Bundle) -> None:
    upright = np.zeros((4, 4))
    upright[2, 0], upright[1, 1], upright[0, 2], upright[3, 3] = 3.0, -1.25, 1.5, 1.0
    upright[:3, 3] = (-60.0, 50.0, -50.0)
    volume = _volume(upright, (52, 88, 80))
    coarse, affine = resample_isotropic(volume.voxels, volume.affine, 2.0)
    preprocessing = {**WAYS["patches as published"], "spacing_mm": 2.0, "size": (32, 32, 32)}
    bundle = _bundle(shipped, torch.from_numpy(volume.voxels), **preprocessing)
    first, first_affine = heatmaps_of_volume(bundle, volume)
    second, second_affine = heatmaps_of_coarse(bundle, coarse, affine)
    np.testing.assert_allclose(first_affine, second_affine)
    assert first.max() > 0.3
    assert np.abs(first - second).mean() < 1e-3
    assert all(first[level].argmax() == second[level].argmax() for level in BALLS_MM)


def test_taught_weights_find_the_bodies_of_a_phantom_in_patches_where_they_find_them_at_once(
    shipped: Bundle,
) -> None:
    made = render_training_case(3, 5.0, width_mm=240.0, training=False)
    volume = Grid(made.hu, made.affine)
    preprocessing = shipped.metadata.ct.model_copy(update={"size": (64, 32, 32)})
    in_patches = replace(
        shipped, metadata=shipped.metadata.model_copy(update={"preprocessing": preprocessing})
    )
    found = []
    for bundle in (shipped, in_patches):
        heatmaps, affine = heatmaps_of_volume(bundle, volume)
        assert heatmaps.shape[1:] == made.hu.shape
        np.testing.assert_allclose(affine, made.affine)
        found.append(find_candidates(heatmaps, affine, LabellingSettings()))
    whole, patched = found
    sure = [peak.center_mm for peak in whole if peak.evidence.max() > 0.5]
    nearest = [min(float(np.linalg.norm(peak.center_mm - center)) for peak in patched) for center in sure]
    assert len(sure) >= 5
    # It was taught on whole volumes and normalises what it sees: places move by up to half a vertebra.
    assert max(nearest) < 15.0
    assert np.median(nearest) < 6.0
