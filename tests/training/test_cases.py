"""Cases of finer voxels become cases of coarser ones, and labels stay where the bone is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.training.cases import Case, with_cubic_voxels_of

L1, L2 = verse_label(Level.L1), verse_label(Level.L2)


def _case(labels: torch.Tensor) -> Case:
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = affine[3, 3] = 1.0
    return Case("drawn", torch.where(labels > 0, 400, 0).to(torch.int16), labels, affine, {"vertebrae": []})


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_labels_stay_where_the_bone_is(factor: int) -> None:
    labels = torch.zeros(60, 60, 60, dtype=torch.uint8)
    place = torch.stack(torch.meshgrid(*[torch.arange(60.0)] * 3, indexing="ij"))
    for label, middle in ((L1, (41.3, 28.6, 30.2)), (L2, (17.8, 30.4, 29.1))):
        away = place - torch.tensor(middle)[:, None, None, None]
        labels[away.square().sum(dim=0) < 11.0**2] = label
    case = _case(labels)
    (coarse,) = with_cubic_voxels_of([case], float(factor))
    assert coarse.labels.shape == coarse.voxels.shape
    shifts = []
    for label in (L1, L2):
        fine, drawn = (np.argwhere(one.labels.numpy() == label) for one in (case, coarse))
        place_mm = drawn.mean(axis=0) @ coarse.affine[:3, :3].T + coarse.affine[:3, 3]
        shifts += list(place_mm - fine.mean(axis=0) @ case.affine[:3, :3].T - case.affine[:3, 3])
        assert len(drawn) * factor**3 == pytest.approx(len(fine), rel=0.15)
    # Half a fine voxel is what samples beside the middles of blocks are off, all the same way.
    assert abs(float(np.mean(shifts))) < 0.25


def test_a_block_takes_the_label_that_fills_half_of_it() -> None:
    labels = torch.zeros(4, 4, 5, dtype=torch.uint8)
    labels[:2, :2, 0] = L1
    labels[:2, 2:, 0] = L2
    labels[:2, 2, 1] = L2
    labels[2:, 0, 0] = L1
    labels[:, :, 4] = L1  # fills no whole block
    (coarse,) = with_cubic_voxels_of([_case(labels)], 2.0)
    assert coarse.labels.tolist() == [[[L1, 0], [L2, 0]], [[0, 0], [0, 0]]]
