"""Bodies beyond the chain are counted on, and a narrow stack gets tissue beside it."""

from __future__ import annotations

import numpy as np
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.pipelines.chain_ends import counted_up, with_ends
from dicom_ai_node.pipelines.ct_slice_levels import SOFT_TISSUE_HU, beside_soft_tissue
from dicom_ai_node.pipelines.labelling import NamedCentre


def at(height_mm: float) -> np.ndarray:
    return np.array([0.0, 0.1 * height_mm, height_mm])


def link(level: Level, height_mm: float) -> NamedCentre:
    return NamedCentre(level, at(height_mm), 0.8, {})


CHAIN = [link(Level.T11, 30.0), link(Level.T12, 0.0), link(Level.L1, -32.0)]


def test_bodies_above_and_below_the_chain_get_the_next_names() -> None:
    centers = [at(height) for height in (84.0, 58.0, 30.0, 0.0, -32.0, -66.0)]
    chain = with_ends(CHAIN, centers)
    assert [item.level for item in chain] == [
        Level.T9, Level.T10, Level.T11, Level.T12, Level.L1, Level.L2
    ]  # fmt: skip
    assert all(not item.interpolated for item in chain)


def test_what_lies_too_far_off_or_beside_is_not_counted() -> None:
    beside = np.array([0.0, 40.0, 32.0])
    assert with_ends(CHAIN, [at(90.0), beside, at(-100.0)]) == CHAIN


def test_the_neck_is_counted_up_to_c3_and_no_further() -> None:
    chain = [NamedCentre(Level.C7, at(0.0), 0.8, {"C6": 0.1, "T1": 0.05}), link(Level.T1, -20.0)]
    centers = [at(17.0 * number) for number in range(8)]
    neck = counted_up(chain, centers)
    assert [item.level for item in neck[:-2]] == [Level.C3, Level.C4, Level.C5, Level.C6]
    assert neck[-2:] == chain
    assert neck[3].alternatives == {"C5": 0.1, "C7": 0.05}
    # Below the chain nothing is counted.
    assert counted_up(chain, [at(-42.0)]) == chain


def test_nothing_is_counted_on_below_the_last_lumbar_vertebra() -> None:
    chain = [link(Level.L4, 0.0), link(Level.L5, -36.0)]
    assert [item.level for item in with_ends(chain, [at(0.0), at(-36.0), at(-66.0)])] == [Level.L4, Level.L5]


def test_a_narrow_stack_is_shown_between_soft_tissue_and_air_stays_air() -> None:
    coarse = torch.full((4, 6, 5), 300.0)
    coarse[:, 0] = -1000.0
    affine = np.array([[0, 0, 5.0, -10.0], [0, 5.0, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1.0]])
    whole, moved = beside_soft_tissue(coarse, affine, width_mm=50.0)
    assert whole.shape == (4, 6, 10)
    assert moved[0, 3] == affine[0, 3] - 2 * 5.0
    torch.testing.assert_close(whole[:, :, 2:7], coarse)
    for side in (0, 1, 7, 9):
        assert (whole[:, 0, side] == -1000.0).all()
        assert (whole[:, 1:, side] == SOFT_TISSUE_HU).all()
    same, unmoved = beside_soft_tissue(coarse, affine, width_mm=20.0)
    assert same.shape == coarse.shape
    np.testing.assert_array_equal(unmoved, affine)
