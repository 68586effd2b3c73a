"""What an MR route gets that is no spine, under a header that does not say so: a reason, never a vertebra."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.mr_groups import group_of
from dicom_ai_node.imaging.mr_pairing import Role
from dicom_ai_node.imaging.mr_volume import load_mr_volume
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.imaging.write_mr import MrHeader, write_mr_series
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.phantom.mr import render_mr
from dicom_ai_node.phantom.mr_study import sample_mr_series
from dicom_ai_node.phantom.spine import sample_spine
from dicom_ai_node.pipelines.mri_study import MriStudyPipeline

Image = npt.NDArray[np.float64]

SHAPE = (9, 200, 180)
AFFINE = np.array(
    [[5.5, 0.0, 0.0, -22.0], [0.0, 0.0, 1.1, -98.5], [0.0, -1.1, 0.0, 109.5], [0.0, 0.0, 0.0, 1.0]]
)
"""Sagittal slices about the origin, 1.1 mm pixels."""

SILENT = MrHeader(
    study_description="", series_description="", protocol_name=None, body_part_examined=None,
    sequence_name=None,
)  # fmt: skip
"""Times of a T2, and not a word on what was examined."""


@pytest.fixture(scope="module")
def pipeline() -> MriStudyPipeline:
    return MriStudyPipeline.load(find_models_dir(None), torch.device("cpu"))


def places() -> Image:
    """Millimetres to the left, to the feet and to the back of every voxel, shape (3, *SHAPE)."""
    index = np.moveaxis(np.indices(SHAPE), 0, -1)
    left, back, up = np.moveaxis(index @ AFFINE[:3, :3].T + AFFINE[:3, 3], -1, 0)
    return np.stack([left, -up, back])


def head() -> Image:
    """Scalp, skull, fluid, folded brain and ventricles, one in the other."""
    left, down, back = places()
    far = np.sqrt((left / 70) ** 2 + (down / 88) ** 2 + (back / 92) ** 2)
    folds = np.sin(0.35 * down + 3 * np.sin(back / 11)) * np.sin(0.3 * back + 2 * np.sin(down / 9))
    shells = [(far < 1.0, 800.0), (far < 0.94, 60.0), (far < 0.9, 950.0), (far < 0.2, 950.0)]
    image = np.zeros(SHAPE)
    for inside, signal in shells[:3]:
        image[inside] = signal
    brain = far < 0.85
    image[brain] = 450.0 + 120.0 * folds[brain]
    image[shells[3][0]] = shells[3][1]
    return image


def knee() -> Image:
    """A femur with two condyles, a tibia and a kneecap in muscle and fat."""
    left, down, back = places()
    image = np.zeros(SHAPE)
    image[np.hypot(left / 58, back / 62) < 1] = 700.0
    image[np.hypot(left / 52, back / 55) < 1] = 200.0
    shafts = (np.hypot(left, back) < 18) & (np.abs(down) > 15)
    condyles = np.hypot(np.hypot(np.abs(left) - 22, down + 10), back - 4) < 24
    plateau = (np.abs(down - 26) < 9) & (np.hypot(left / 38, back / 26) < 1)
    kneecap = np.hypot(np.hypot(left, down + 2), back + 42) < 16
    image[shafts | condyles | plateau | kneecap] = 650.0
    return image


def nothing() -> Image:
    return np.zeros(SHAPE)


def measured(image: Image) -> npt.NDArray[np.uint16]:
    """With the blur and the noise of a scanner."""
    noise = np.random.default_rng(4).normal(0.0, 15.0, image.shape)
    smooth = ndimage.gaussian_filter(image, (0, 0.7, 0.7))
    values: npt.NDArray[np.uint16] = np.abs(smooth + noise).astype(np.uint16)
    return values


def received(
    folder: Path, pixels: npt.NDArray[np.uint16], affine: npt.NDArray[np.float64]
) -> dict[Role, Volume]:
    """The series as the route hands it on."""
    group = group_of(write_mr_series([(pixels, affine)], folder, seed=5, header=SILENT))
    members = zip(group.paired.members, group.stacks, strict=True)
    return {role: load_mr_volume(stack) for (role, _), stack in members}


@pytest.mark.parametrize("drawn", [head, knee, nothing])
def test_what_is_no_spine_is_a_reason_though_its_header_is_silent(
    pipeline: MriStudyPipeline, tmp_path: Path, drawn: Callable[[], Image]
) -> None:
    series = received(tmp_path, measured(drawn()), AFFINE)
    assert set(series) == {"t2"}, "the header does not refuse it: the networks are asked"
    with pytest.raises(NotAnalysable, match="Send a series that shows the spine") as refused:
        pipeline.analyse(series)
    assert refused.value.code == "no-spine"


def test_a_spine_under_the_same_silent_header_is_found(pipeline: MriStudyPipeline, tmp_path: Path) -> None:
    spine = sample_spine(5, fractures={})
    acquisition = sample_mr_series(5, spine, "t2", region="lumbar", max_matrix=192)
    phantom = render_mr(spine, replace(acquisition, subslice_mm=4.0))
    report = pipeline.analyse(received(tmp_path, phantom.pixels, phantom.affine)).report
    assert sum(vertebra.status == "analysed" for vertebra in report) >= 4
