"""What a CT route gets that is no good spine CT: a reason, or a report that says how little it knows.

Never an exception, and never a wrong level that is told as sure. Gaps, mixed kernels, missing rescale and
unsigned values are the loader's business: `imaging/test_volume`, `imaging/test_pixels`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.phantom import CtAcquisition, render_ct, sample_spine
from dicom_ai_node.phantom.ct import tilted
from dicom_ai_node.phantom.spine import Spine, SpineOptions
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline

Voxels = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def pipeline() -> CtVolumePipeline:
    return CtVolumePipeline.load(find_models_dir(None), torch.device("cpu"))


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(5, options=SpineOptions(age=70, supernumerary="none", fractured_fraction=0.0))


def volume_of(voxels: Voxels, affine: npt.NDArray[np.float64]) -> Volume:
    instances = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k + 1}", 1, Path("phantom")) for k in range(len(voxels))
    )
    return Volume(voxels, affine, instances, "1.2", "1.3", "1.4", "CT")


def scan(spine: Spine, first: Level, last: Level, step_mm: float, pixel_mm: float = 1.6) -> CtAcquisition:
    """Axial slices from above one level to below another, 190 mm wide."""
    top, bottom = spine[first].frame[:3, 3], spine[last].frame[:3, 3]
    count = round(190.0 / pixel_mm)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -step_mm, pixel_mm, pixel_mm, 1.0
    middle = (top + bottom) / 2
    affine[:3, 3] = middle[0] - 95.0, middle[1] - 115.0, top[2] + 24.0
    slices = int((top[2] - bottom[2] + 44.0) / step_mm)
    return CtAcquisition((slices, count, count), affine, step_mm)


def grid(spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = -spacing[0], spacing[1], spacing[2], 1.0
    return affine


def noisy(voxels: Voxels) -> Voxels:
    return voxels + np.random.default_rng(0).normal(0, 12, voxels.shape).astype(np.int16)


def legs() -> tuple[Voxels, npt.NDArray[np.float64]]:
    """Two thighs with their shafts, and knees that look like bodies."""
    voxels = np.full((60, 120, 160), -1000, np.int16)
    rows, columns = np.indices((120, 160))
    for column in (45, 115):
        away = np.hypot(rows - 60, columns - column)
        voxels[:, away < 32] = 55
        voxels[:, away < 12] = 1400
        voxels[:, away < 7] = -60
        voxels[20:40, away < 18] = 350
    return noisy(voxels), grid((3.0, 2.4, 2.4))


def head() -> tuple[Voxels, npt.NDArray[np.float64]]:
    """A skull with a brain, on a neck of a few round bones."""
    voxels = np.full((100, 110, 110), -1000, np.int16)
    slices, rows, columns = np.indices(voxels.shape, dtype=np.float32)
    away = np.sqrt(((slices - 44) / 42) ** 2 + ((rows - 55) / 42) ** 2 + ((columns - 55) / 33) ** 2)
    for limit, value in ((1.08, 40), (1.0, 1100), (0.9, 35)):
        voxels[away < limit] = value
    voxels[(np.hypot(rows - 55, columns - 55) < 26) & (slices > 75)] = 45
    voxels[(np.hypot(rows - 62, columns - 55) < 8) & (slices > 78)] = 350
    return noisy(voxels), grid((2.1, 2.1, 2.1))


def metal_everywhere() -> tuple[Voxels, npt.NDArray[np.float64]]:
    return np.full((60, 96, 96), 3071, np.int16), grid((3.0, 2.0, 2.0))


@pytest.mark.parametrize("made", [legs, head, metal_everywhere], ids=lambda made: made.__name__)
def test_what_is_no_spine_is_refused(
    pipeline: CtVolumePipeline, made: Callable[[], tuple[Voxels, npt.NDArray[np.float64]]]
) -> None:
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(volume_of(*made()))
    assert refused.value.code == "no-spine"


def test_a_neck_alone_is_refused_and_not_called_lumbar(pipeline: CtVolumePipeline, spine: Spine) -> None:
    seen = render_ct(spine, scan(spine, Level.C3, Level.C6, 1.6))
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(volume_of(seen.hu, seen.affine))
    assert refused.value.code == "no-spine"


def test_values_that_are_no_hounsfield_units_are_refused(pipeline: CtVolumePipeline, spine: Spine) -> None:
    """A Rescale Intercept that is there and wrong: everything is 1024 too bright."""
    seen = render_ct(spine, scan(spine, Level.L2, Level.L5, 3.0))
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(volume_of(seen.hu + np.int16(1024), seen.affine))
    assert refused.value.code == "no-spine"
    assert "Rescale Intercept" in str(refused.value)


def test_thick_slices_of_a_tilted_gantry_are_named_right_or_unsure(
    pipeline: CtVolumePipeline, spine: Spine
) -> None:
    seen = render_ct(spine, tilted(scan(spine, Level.L2, Level.S1, 5.0), 15.0))
    report = pipeline.analyse(volume_of(seen.hu, seen.affine)).report
    assert report.vertebrae
    unsure = any(reason.code == "level-uncertain" for reason in report.limitations)
    truth = {Level(entry["level"]): np.array(entry["center_mm"]) for entry in seen.truth["vertebrae"]}
    assert all(unsure or np.linalg.norm(truth[v.level] - v.center_mm) < 15.0 for v in report)
    assert any(reason.code == "spacing" for reason in report.limitations)


def test_ten_slices_are_a_partial_report_or_a_reason(pipeline: CtVolumePipeline, spine: Spine) -> None:
    seen = render_ct(spine, scan(spine, Level.L2, Level.L3, 5.0))
    try:
        report = pipeline.analyse(volume_of(seen.hu[3:13], seen.affine @ _moved(3))).report
    except NotAnalysable as refusal:
        assert refusal.code in {"coverage", "no-spine"}  # noqa: PT017 - either is an answer
        return
    # Two bodies tell nothing of where they are: their names must not be told as sure.
    assert any(reason.code == "level-uncertain" for reason in report.limitations)


def _moved(slices: int) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    affine[0, 3] = slices
    return affine
