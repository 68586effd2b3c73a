"""The patches that P2's classifier sees."""

from __future__ import annotations

import math

import pytest
import torch

from dicom_ai_node.networks.ct_patch import (
    AIR_HU,
    cut_patches,
    fixed_views,
    squares_about,
    vertebra_patches,
    windowed,
)

BOX = torch.tensor([[10.0, 8.0, 30.0, 24.0]])
PLAIN = torch.tensor([[1.0, 0.0, 0.0]])


def ramp(rows: int, columns: int) -> torch.Tensor:
    """HU that tell the place: 100 per row, 1 per column."""
    return (100 * torch.arange(rows)[:, None] + torch.arange(columns)[None]).to(torch.int16)


def test_a_patch_of_the_boxs_own_size_is_cut_without_change() -> None:
    image = ramp(40, 50)
    centers, edges = squares_about(BOX, (1.0, 1.0), PLAIN)
    assert edges.tolist() == [[20.0]]
    patch = cut_patches(image, (1.0, 1.0), centers[0], edges[0], 20)
    torch.testing.assert_close(patch[0], image[6:26, 10:30].float())


def test_a_patch_is_square_in_millimetres_whatever_the_pixels() -> None:
    # Rows are twice as far apart as columns: the box is 20 columns, 10 mm, by 16 rows, 16 mm.
    centers, edges = squares_about(BOX, (1.0, 0.5), torch.tensor([[1.5, 0.0, 0.25]]))
    assert edges.tolist() == [[24.0]]
    assert centers[0].tolist() == [[16.0, 20.0 + 0.25 * 24 / 0.5]]
    patch = cut_patches(ramp(60, 120), (1.0, 0.5), torch.tensor([[30.0, 60.0]]), edges[0], 24)
    along_rows, along_columns = patch[0].diff(dim=0), patch[0].diff(dim=1)
    torch.testing.assert_close(along_rows, torch.full_like(along_rows, 100.0), rtol=0, atol=1e-2)
    torch.testing.assert_close(along_columns, torch.full_like(along_columns, 2.0), rtol=0, atol=1e-2)


def test_a_box_at_the_rim_sees_air_beyond_it() -> None:
    image = torch.full((30, 30), 300, dtype=torch.int16)
    boxes = torch.tensor([[20.0, -4.0, 36.0, 12.0], [60.0, 60.0, 70.0, 70.0]])
    patches = vertebra_patches(image, (1.0, 1.0), boxes, PLAIN, size=16, windows_hu=[(-1000.0, 1000.0)])
    inside = patches[0, 0, 0]
    torch.testing.assert_close(inside[5:, :9], torch.full((11, 9), 0.65))
    assert float(inside[:3].max()) == float(inside[:, 12:].max()) == 0.0
    # A box that lies beyond the slice altogether sees nothing else.
    assert float(patches[1].abs().max()) == 0.0
    alone = cut_patches(image, (1.0, 1.0), torch.tensor([[65.0, 65.0]]), torch.tensor([10.0]), 8)
    assert alone.unique().tolist() == [AIR_HU]


def test_a_fine_slice_is_averaged_not_skipped() -> None:
    fine = torch.zeros(160, 160)
    fine[::4] = 400.0
    patch = cut_patches(fine, (0.25, 0.25), torch.tensor([[80.0, 80.0]]), torch.tensor([32.0]), 32)
    torch.testing.assert_close(patch, torch.full_like(patch, 100.0))


def test_a_turned_patch_shows_the_slice_turned() -> None:
    image = ramp(40, 40)
    center, edge = torch.tensor([[20.0, 20.0]]), torch.tensor([10.0])
    cosine, sine = math.cos(math.pi / 2), math.sin(math.pi / 2)
    quarter = torch.tensor([[[cosine, -sine], [sine, cosine]]])
    straight = cut_patches(image, (1.0, 1.0), center, edge, 10)
    turned = cut_patches(image, (1.0, 1.0), center, edge, 10, turns=quarter)
    torch.testing.assert_close(turned[0], straight[0].rot90(-1), rtol=0, atol=0.01)


def test_boxes_cut_together_are_seen_as_they_are_alone() -> None:
    image = (1000 * torch.rand(80, 90, generator=torch.Generator().manual_seed(1))).to(torch.int16)
    # The last one is so large that its pixels are averaged first.
    boxes = torch.tensor([[10.0, 8.0, 30.0, 24.0], [70.0, 70.0, 95.0, 85.0], [2.0, 5.0, 88.0, 75.0]])
    views = fixed_views((1.2, 1.6), 0.1)
    seen = {"size": 24, "windows_hu": [(-500.0, 1300.0), (0.0, 300.0), (-1000.0, 3000.0)]}
    together = vertebra_patches(image, (0.8, 0.6), boxes, views, **seen)  # type: ignore[arg-type]
    assert together.shape == (3, 4, 3, 24, 24)
    for number, box in enumerate(boxes):
        alone = vertebra_patches(image, (0.8, 0.6), box[None], views, **seen)  # type: ignore[arg-type]
        torch.testing.assert_close(together[number], alone[0], rtol=0, atol=1e-3)
    nothing = vertebra_patches(image, (0.8, 0.6), torch.zeros(0, 4), views, **seen)  # type: ignore[arg-type]
    assert nothing.shape == (0, 4, 3, 24, 24)


def test_fixed_views_lie_within_what_training_draws() -> None:
    views = fixed_views((1.2, 2.0), 0.1)
    assert views.shape == (4, 3)
    assert views[:, 0].tolist() == pytest.approx([1.3, 1.5, 1.7, 1.9])
    assert views[:, 1:].abs().unique().tolist() == pytest.approx([0.05])
    assert views[:, 1:].sum(dim=0).tolist() == pytest.approx([0.0, 0.0])


def test_windows_run_from_black_to_white() -> None:
    grey = windowed(torch.tensor([[[-1000.0, 0.0, 400.0, 3000.0]]]), [(-500.0, 1300.0), (0.0, 400.0)])
    assert grey[0, 0, 0].tolist() == pytest.approx([0.0, 500 / 1800, 0.5, 1.0])
    assert grey[0, 1, 0].tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0])
