"""Outlines with faults: they stray from the truth as predicted ones do, along the body's axis above all."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from dicom_ai_node.training.mask_faults import faulty

PIXEL_MM = 0.7


def _body() -> Tensor:
    mask = torch.zeros(1, 80, 80)
    mask[0, 24:56, 20:60] = 1.0
    return mask


def _heights_mm(disc: float, count: int = 60) -> Tensor:
    """Height of the outline in its middle column, per draw."""
    heights = []
    for seed in range(count):
        drawn = faulty(Generator().manual_seed(seed), _body(), PIXEL_MM, hole=0.0, disc=disc)
        heights.append(float((drawn[0, :, 38:42] > 0.5).sum() / 4 * PIXEL_MM))
    return torch.tensor(heights)


def test_without_a_disc_the_height_of_the_outline_is_about_that_of_the_body() -> None:
    strayed = (_heights_mm(0.0) - 32 * PIXEL_MM).abs()
    assert 0.0 < float(strayed.max()) < 3.0


def test_discs_are_outlined_with_the_body_and_endplates_are_missed() -> None:
    strayed = _heights_mm(1.0) - 32 * PIXEL_MM
    assert float(strayed.max()) > 4.0
    assert float(strayed.min()) < -1.5
    assert float((strayed > 1.0).float().mean()) > 0.4


def test_it_keeps_its_breadth_and_its_place() -> None:
    for seed in range(20):
        drawn = faulty(Generator().manual_seed(seed), _body(), PIXEL_MM, hole=0.0, disc=1.0)[0] > 0.5
        assert float(drawn[:, 16:64].sum()) >= 0.97 * float(drawn.sum())
        assert bool(drawn[36:44, 36:44].all())


def test_holes_come_as_often_as_asked() -> None:
    with_hole = [
        not bool(
            (
                faulty(Generator().manual_seed(s), _body(), PIXEL_MM, hole=h, disc=0.0)[0, 34:46, 30:50] > 0.5
            ).all()
        )
        for h in (0.0, 1.0)
        for s in range(30)
    ]
    assert not any(with_hole[:30])
    assert any(with_hole[30:])
