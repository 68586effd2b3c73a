"""A landmark drawn as a heatmap is read back where it was."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_ai_node.networks.heatmaps import gaussian_heatmaps, peak_positions

inside = st.floats(6.0, 17.0, allow_nan=False)


@settings(deadline=None, max_examples=30)
@given(places=st.lists(st.tuples(inside, inside, inside), min_size=1, max_size=3))
def test_position_is_read_back_between_the_voxels(places: list[tuple[float, float, float]]) -> None:
    positions = torch.tensor([places])
    heatmaps = gaussian_heatmaps(positions, (24, 24, 24), sigma=1.6)
    found, values = peak_positions(heatmaps)
    assert float((found - positions).abs().max()) < 0.1
    assert bool((values > 0.8).all())


def test_peak_of_a_landmark_on_a_voxel_is_the_peak_asked_for() -> None:
    heatmaps = gaussian_heatmaps(torch.tensor([[[5.0, 8.0]]]), (16, 20), sigma=2.0, peak=3.0)
    assert heatmaps.shape == (1, 1, 16, 20)
    assert float(heatmaps[0, 0, 5, 8]) == pytest.approx(3.0)
    assert float(heatmaps[0, 0, 7, 8]) == pytest.approx(3.0 * 0.60653, rel=1e-4)


def test_absent_landmark_has_an_empty_heatmap() -> None:
    positions = torch.tensor([[[float("nan")] * 3, [4.0, 4.0, 4.0]]])
    heatmaps = gaussian_heatmaps(positions, (8, 8, 8), sigma=1.5)
    assert float(heatmaps[0, 0].abs().max()) == 0.0
    assert float(heatmaps[0, 1].max()) == pytest.approx(1.0)


@pytest.mark.parametrize("corner", [(0.0, 0.0), (11.0, 9.0), (0.0, 9.0)])
def test_landmark_in_a_corner_stays_in_the_image(corner: tuple[float, float]) -> None:
    found, _ = peak_positions(gaussian_heatmaps(torch.tensor([[corner]]), (12, 10), sigma=1.5))
    assert float((found[0, 0] - torch.tensor(corner)).abs().max()) < 1.0
    assert bool((found >= 0).all())
    assert bool((found[0, 0] <= torch.tensor([11.0, 9.0])).all())


def test_empty_heatmap_has_a_peak_of_zero() -> None:
    found, values = peak_positions(torch.zeros(1, 2, 6, 6))
    assert float(values.abs().max()) == 0.0
    assert bool(torch.isfinite(found).all())
