"""Overlapping patches: all of a volume is seen, and what they say together is what the whole would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from dicom_ai_node.networks.intensity import clipped_moments, smoothed, standardise
from dicom_ai_node.networks.overlapping import (
    AIR_HU,
    PatchInput,
    Tiling,
    block_of,
    merged_heatmaps,
    reader_of,
)

WIDE = PatchInput((-3000.0, 3000.0), moments=(0.0, 1.0))
"""HU as they are."""


def _noise(*shape: int, seed: int = 5) -> Tensor:
    return 200 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _pointwise(patches: Tensor) -> Tensor:
    return torch.cat([patches, patches.sin(), patches.square() / 1000], dim=1)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 90)] * 3),
    patch=st.tuples(*[st.sampled_from([8, 16, 32])] * 3),
    block=st.sampled_from([1, 2, 4]),
)
def test_every_voxel_lies_in_a_patch_and_neighbours_overlap(
    shape: tuple[int, ...], patch: tuple[int, ...], block: int
) -> None:
    tiling = Tiling(shape, patch, block)
    for axis in range(3):
        starts = tiling.starts(axis)
        assert starts[0] <= 0
        assert starts[-1] + patch[axis] >= shape[axis]
        assert all(start % block == 0 for start in starts)
        strides = np.diff(starts)
        assert (strides > 0).all()
        assert (strides < patch[axis]).all()
        # No patch lies in the filling alone.
        assert starts[0] + patch[axis] > 0
        assert starts[-1] < shape[axis]
        assert float(tiling.weights(axis).min()) > 0
    assert len(tiling.boxes()) == np.prod([len(tiling.starts(axis)) for axis in range(3)])


@pytest.mark.parametrize("shape", [(45, 32, 20), (7, 9, 40), (16, 16, 16)])
@pytest.mark.parametrize("batch", [1, 5])
def test_what_is_said_of_each_voxel_alone_is_merged_without_a_change(
    shape: tuple[int, int, int], batch: int
) -> None:
    volume = _noise(*shape)
    tiling = Tiling(shape, (16, 16, 16))
    merged = merged_heatmaps(_pointwise, reader_of(volume), tiling, WIDE, batch=batch)
    whole = _pointwise(standardise(volume, WIDE.clip_hu, WIDE.moments)[None, None])[0]
    torch.testing.assert_close(merged, whole, rtol=1e-4, atol=1e-3)


class _Near(nn.Module):
    """Sees two voxels far, and nothing of the whole: what a network without normalisation is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv3d(4, 2, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.layers(x)
        return answer


@torch.inference_mode()
def test_a_network_that_sees_near_says_the_same_of_patches_as_of_the_whole() -> None:
    volume = _noise(70, 50, 44)
    near = _Near()
    look = PatchInput((-1000.0, 1000.0), 0.75, clipped_moments(volume, (-1000.0, 1000.0)))
    tiling = Tiling(tuple(volume.shape), (32, 32, 32))
    merged = merged_heatmaps(near, reader_of(volume), tiling, look)
    air = functional.pad(volume, [24] * 6, value=AIR_HU)
    inner = (slice(24, -24),) * 3
    whole = near(look.standardised(smoothed(air.clamp(*look.clip_hu), 0.75))[None, None])[0][
        (slice(None), *inner)
    ]
    spread = float(whole.std())
    difference = (merged - whole).abs()
    # What a patch's own rim says, where the network looks beyond it, counts next to nothing.
    assert float(difference.max()) < 0.1 * spread
    assert float(difference.mean()) < 0.001 * spread
    flat = [peak.argmax().item() for peak in whole]
    assert [peak.argmax().item() for peak in merged] == flat


@pytest.mark.parametrize("block", [2, 4])
def test_blocks_are_the_means_of_their_voxels(block: int) -> None:
    volume = _noise(37, 50, 24)
    fine, coarse = (
        merged_heatmaps(_pointwise, reader_of(volume), Tiling(tuple(volume.shape), (16, 32, 16), edge), WIDE)
        for edge in (1, block)
    )
    means = functional.avg_pool3d(fine, block)
    # The last block of an axis may reach beyond the volume.
    assert coarse.shape[1:] == tuple(-(-length // block) for length in volume.shape)
    whole = coarse[:, : means.shape[1], : means.shape[2], : means.shape[3]]
    torch.testing.assert_close(whole, means, rtol=1e-3, atol=1e-2)


def test_only_a_patch_at_a_time_is_read_and_progress_is_told() -> None:
    volume = _noise(40, 20, 20)
    read_whole = reader_of(volume)
    sizes, told = [], []

    def read(first: Sequence[int], size: Sequence[int]) -> Tensor:
        sizes.append(tuple(size))
        return read_whole(first, size)

    look = PatchInput((-1000.0, 1000.0), 0.75, (0.0, 1.0))
    tiling = Tiling((40, 20, 20), (16, 16, 16))
    merged_heatmaps(_pointwise, read, tiling, look, progress=lambda *share: told.append(share))
    assert set(sizes) == {(16 + 2 * look.margin,) * 3}
    assert told == [(number, len(tiling.boxes())) for number in range(1, len(tiling.boxes()) + 1)]


def test_what_lies_beyond_a_volume_is_air() -> None:
    volume = torch.arange(24.0).reshape(2, 3, 4)
    box = reader_of(volume)((-1, 1, 2), (3, 3, 3))
    expected = torch.full((3, 3, 3), AIR_HU)
    expected[1:3, 0:2, 0:2] = volume[:, 1:, 2:]
    assert torch.equal(box, expected)
    assert bool((reader_of(volume)((9, 9, 9), (2, 2, 2)) == AIR_HU).all())


def test_moments_are_those_of_the_clipped_volume_in_any_type() -> None:
    volume = _noise(9, 8, 7).round().to(torch.int16)
    clipped = volume.double().clamp(-100, 150)
    expected = (float(clipped.mean()), float(clipped.std(correction=0)))
    assert clipped_moments(volume, (-100, 150)) == pytest.approx(expected)
    patch = standardise(volume[:3], (-100, 150), expected)
    assert float(patch.max()) == pytest.approx((150 - expected[0]) / expected[1], rel=1e-3)


def test_blocks_are_no_coarser_than_asked_for() -> None:
    assert [block_of(1.0, 4.0), block_of(1.0, 2.0), block_of(2.0, 4.0), block_of(5.0, 4.0)] == [4, 2, 2, 1]
    with pytest.raises(ValueError, match="blocks of 4"):
        Tiling((50, 50, 50), (18, 16, 16), 4)


def test_monai_merges_the_same_patches_to_the_same_heatmaps() -> None:
    from monai.inferers import sliding_window_inference

    # One patch and whole strides: MONAI moves the last patch inwards where ours begins in the filling.
    volume = _noise(28, 40, 28)
    near = _Near()
    with torch.inference_mode():
        tiling = Tiling((28, 40, 28), (16, 16, 16))
        merged = merged_heatmaps(near, reader_of(volume), tiling, WIDE)
        z, y, x = (tiling.weights(axis) for axis in range(3))
        theirs = sliding_window_inference(
            standardise(volume, WIDE.clip_hu, WIDE.moments)[None, None],
            (16, 16, 16),
            2,
            near,
            overlap=0.25,
            # Its own Gaussian is cut off at a thousandth.
            roi_weight_map=z[:, None, None] * y[:, None] * x,
        )
    torch.testing.assert_close(merged, theirs[0], rtol=1e-3, atol=1e-3 * float(theirs.std()))
