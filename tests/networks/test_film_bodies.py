"""Pixels that point to different centres are different bodies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dicom_ai_node.networks.film_bodies import OFFSET_UNIT, parted_bodies

BOXES = ((10, 20, 30, 50), (30, 22, 38, 52), (38, 24, 60, 54))
"""First and last row and column of three bodies that touch; the middle one is crushed."""


def dense(noise: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    body, offset = torch.full((80, 70), -6.0), torch.zeros(2, 80, 70)
    for top, left, bottom, right in BOXES:
        body[top:bottom, left:right] = 3.0
        rows, columns = torch.meshgrid(torch.arange(top, bottom), torch.arange(left, right), indexing="ij")
        center = ((top + bottom - 1) / 2, (left + right - 1) / 2)
        offset[0, top:bottom, left:right] = (center[0] - rows) / OFFSET_UNIT
        offset[1, top:bottom, left:right] = (center[1] - columns) / OFFSET_UNIT
    return body, offset + noise / OFFSET_UNIT * torch.randn(offset.shape, generator=generator)


@pytest.mark.parametrize("noise", [0.0, 1.5])
def test_touching_bodies_come_apart(noise: float) -> None:
    found = parted_bodies(*dense(noise))
    assert len(found) == len(BOXES)
    for item, (top, left, bottom, right) in zip(found, BOXES, strict=True):
        inside = item.mask[top:bottom, left:right].sum()
        assert inside > 0.97 * item.mask.sum()
        assert inside > 0.97 * (bottom - top) * (right - left)
        assert item.center == pytest.approx(((top + bottom - 1) / 2, (left + right - 1) / 2), abs=0.5)
        assert item.score == pytest.approx(float(torch.tensor(3.0).sigmoid()))


def test_an_empty_picture_has_no_body() -> None:
    assert parted_bodies(torch.full((40, 30), -6.0), torch.zeros(2, 40, 30)) == []


def test_crumbs_are_no_bodies() -> None:
    body, offset = dense(0.0)
    body[70:76, 60:66] = 3.0
    assert len(parted_bodies(body, offset)) == len(BOXES)
