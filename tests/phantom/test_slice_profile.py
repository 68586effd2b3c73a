"""What is true of a slice is painted in its very middle, whatever its thickness and distance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.ct import CtAcquisition, render_ct
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.mr import MrAcquisition, render_mr
from dicom_ai_node.phantom.mr_kspace import Readout
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.mr_study import SAGITTAL, stack_affine
from dicom_ai_node.phantom.mr_training_cases import body_labels
from dicom_ai_node.phantom.slice_profile import subslices
from dicom_ai_node.phantom.spine import Spine, sample_spine


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(1, fractures={})


@pytest.mark.parametrize("distance", [0.5, 1.0, 1.25, 2.0, 2.5, 3.0, 4.0, 5.0])
@pytest.mark.parametrize("thickness", [0.6, 1.0, 2.0, 3.0, 5.0])
def test_one_subslice_lies_in_the_middle(distance: float, thickness: float) -> None:
    per_step, averaged = subslices(distance, thickness, 1.3)
    assert per_step % 2 == 1
    assert averaged % 2 == 1
    step = distance / per_step
    assert step < 1.3 * 1.5
    assert abs(averaged * step - thickness) <= 1.5 * step


@pytest.mark.parametrize("slice_mm", [2.0, 3.0, 5.0])
def test_labels_of_thick_ct_slices_are_those_of_their_middle(spine: Spine, slice_mm: float) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1.5], [0, 1.5, 0], [slice_mm, 0, 0]])
    affine[:3, 3] = spine[Level.L2].frame[:3, 3] - np.array([30.0, 30.0, 20.0])
    shape = (round(40 / slice_mm), 40, 40)
    made = render_ct(spine, CtAcquisition(shape, affine, slice_mm, table=False))
    assert made.labels.any()
    np.testing.assert_array_equal(made.labels, body_labels(spine, Grid(shape, affine, torch.device("cpu"))))


@pytest.mark.parametrize(("distance", "thickness"), [(3.3, 3.0), (4.0, 4.0), (4.4, 4.0), (5.0, 3.5)])
def test_labels_of_mr_slices_are_those_of_their_middle(
    spine: Spine, distance: float, thickness: float
) -> None:
    shape = (7, 48, 48)
    affine = stack_affine(spine[Level.L2].frame[:3, 3], SAGITTAL, shape, (distance, 1.25))
    series = MrAcquisition(
        "test", "sagittal", shape, affine, thickness, MrPalette(MrSequence("t2", "SE", 3600.0, 100.0)),
        Readout((48, 48)), subslice_mm=2.0,
    )  # fmt: skip
    made = render_mr(spine, series)
    assert made.labels.any()
    np.testing.assert_array_equal(made.labels, body_labels(spine, Grid(shape, affine, torch.device("cpu"))))
