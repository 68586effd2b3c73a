"""Phantoms with a contrast that no window can show are mended or left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dicom_ai_node.training.cases import Case
from dicom_ai_node.training.window import into_window, usable
from tests.training.labelled import block_spine


def _with_hu(case: Case, scale: float, offset: float) -> Case:
    return replace(case, voxels=(case.voxels.float() * scale + offset).round().to(torch.int16))


def _clipped(case: Case) -> torch.Tensor:
    return case.voxels.float().clamp(-500, 1300)


def test_a_case_like_a_real_ct_stays_as_it_is() -> None:
    case = block_spine(1, 4.0)
    assert into_window(case) is case


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 1500.0), (0.4, -1000.0), (4.0, 0.0)])
def test_bodies_outside_the_window_become_visible(scale: float, offset: float) -> None:
    case = _with_hu(block_spine(1, 4.0), scale, offset)
    mended = into_window(case)
    bodies = _clipped(mended)[mended.labels > 0]
    around = _clipped(mended)[mended.labels == 0]
    assert float(bodies.median() - around.median()) > 200
    assert torch.equal(mended.labels, case.labels)


def test_cases_without_a_body_teach_nothing_here() -> None:
    case = block_spine(1, 4.0)
    assert usable([replace(case, labels=torch.zeros_like(case.labels))], bright_bone=False) == []


def test_dark_bone_is_left_out_where_bone_must_be_bright() -> None:
    case = block_spine(1, 4.0)
    inverted = _with_hu(case, -1.0, 700.0)
    assert len(usable([case, inverted], bright_bone=False)) == 2
    assert [item.name for item in usable([inverted, case], bright_bone=True)] == [case.name]
