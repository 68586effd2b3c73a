"""Sagittal slices of a real CT: levels from the sacrum, and no sure name where it is out of view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.resample import resample_labels_to, resample_to_grid
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.imaging.write_ct import from_nifti_axes
from dicom_ai_node.inference.bundle import find_models_dir, load_bundle
from dicom_ai_node.inference.ct_slices import SliceBox
from dicom_ai_node.phantom.ct import CtPhantom
from dicom_ai_node.pipelines.ct_planes import measured_planes
from dicom_ai_node.pipelines.ct_sagittal import CtSagittalPipeline
from dicom_ai_node.report import Algorithm, SpineReport
from tests.pipelines.ct_stacks import volume_of

LEVELS = {27: Level.L5, 28: Level.L4, 29: Level.L3, 30: Level.L2, 31: Level.L1, 32: Level.T12, 33: Level.T11}
"""Of the TotalSegmentator example."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RealCt:
    """Voxels, bodies by number, and where they lie."""

    hu: npt.NDArray[np.float32]
    bodies: npt.NDArray[np.uint8]
    affine: Array

    def places(self, number: int) -> Array:
        """Voxel centres of a body, LPS millimetres."""
        return np.argwhere(self.bodies == number) @ self.affine[:3, :3].T + self.affine[:3, 3]


@pytest.fixture(scope="module")
def example(shared_data: Path) -> RealCt:
    folder = shared_data / "ct/totalsegmentator"

    def read(name: str) -> tuple[npt.NDArray[np.generic], Array]:
        image = nibabel.load(folder / name)
        return from_nifti_axes(np.asarray(image.dataobj), image.affine)

    hu, affine = read("example_ct.nii.gz")
    vertebrae, body = read("totalseg.nii.gz")[0], read("totalseg_vertebrae_body.nii.gz")[0]
    return RealCt(hu.astype(np.float32), np.where(body > 0, vertebrae, 0).astype(np.uint8), affine)


def stack(ct: RealCt, lowest_mm: float, step_mm: float, slices: int) -> tuple[Volume, CtPhantom]:
    """Sagittal slices through the bodies, from the top of the scan to a height."""
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in ct.hu.shape], indexing="ij")).reshape(3, -1).T
    corners = corners @ ct.affine[:3, :3].T + ct.affine[:3, 3]
    middle = np.concatenate([ct.places(number) for number in LEVELS]).mean(axis=0)
    affine = np.array([[step_mm, 0, 0, 0.0], [0, 0, 1.0, 0.0], [0, -1.0, 0, 0.0], [0, 0, 0, 1.0]])
    affine[:3, 3] = middle[0] - (slices - 1) / 2 * step_mm, corners[:, 1].min(), corners[:, 2].max()
    shape = (slices, int(corners[:, 2].max() - lowest_mm), int(np.ptp(corners[:, 1])))
    hu = resample_to_grid(ct.hu, ct.affine, affine, shape).numpy().astype(np.int16)
    bodies = resample_labels_to(ct.bodies, ct.affine, shape, affine)
    shown = CtPhantom(hu, affine, bodies, bodies, {})
    return volume_of(shown), shown


def report_of(volume: Volume, shown: CtPhantom) -> SpineReport:
    planes = measured_planes(volume)
    labels = resample_labels_to(shown.labels, shown.affine, tuple(planes.images.shape), planes.affine)

    def boxes(images: torch.Tensor, spacing_mm: tuple[float, float]) -> list[list[SliceBox]]:
        return [_boxes(labels[k], spacing_mm) for k in range(len(images))]

    localise = load_bundle(find_models_dir(None) / "ct-localise", torch.device("cpu"))
    algorithms = tuple(Algorithm(name, "1", "0" * 64, "2.25.1") for name in ("ct-detect", "ct-classify"))
    pipeline = CtSagittalPipeline(
        boxes,
        lambda _images, _spacing, own: [torch.full((len(some), 6), 0.1) for some in own],
        localise,
        (algorithms[0], algorithms[1]),
    )
    return pipeline.analyse(volume).report


def _boxes(labels: npt.NDArray[np.uint8], spacing_mm: tuple[float, float]) -> list[SliceBox]:
    found = []
    for number in LEVELS:
        rows, columns = np.nonzero(labels == number)
        if rows.size * spacing_mm[0] * spacing_mm[1] > 150:
            ends = [(float(axis.min()), float(axis.max())) for axis in (rows, columns)]
            found.append(SliceBox(ends[0], ends[1], 0.99))
    return found


def test_levels_of_a_real_ct_count_from_its_sacrum(example: RealCt) -> None:
    lowest = float((example.affine[:3, :3] @ [0, 0, 0] + example.affine[:3, 3])[2])
    volume, shown = stack(example, lowest, 6.0, 7)
    report = report_of(volume, shown)
    assert "level-uncertain" not in [reason.code for reason in report.limitations]
    named = [vertebra for vertebra in report if vertebra.status == "analysed"]
    assert {Level.L1, Level.L2, Level.L3, Level.L4, Level.L5} <= {vertebra.level for vertebra in named}
    for vertebra in named:
        far = {
            level: np.linalg.norm(example.places(number).mean(axis=0) - np.array(vertebra.center_mm))
            for number, level in LEVELS.items()
            if (example.bodies == number).any()
        }
        assert min(far, key=lambda level: far[level]) is vertebra.level


def test_without_its_sacrum_no_name_is_sure(example: RealCt) -> None:
    third = next(number for number, level in LEVELS.items() if level is Level.L3)
    volume, shown = stack(example, float(example.places(third)[:, 2].min()) - 5.0, 6.0, 7)
    report = report_of(volume, shown)
    assert "level-uncertain" in [reason.code for reason in report.limitations]
    assert all(vertebra.level_confidence <= 0.5 for vertebra in report)
