"""The CT pipeline with the bundles of this repository: on real CT, on phantoms, on what it must refuse."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.volume import SliceRef, Volume, load_volume
from dicom_ai_node.imaging.write_ct import from_nifti_axes, write_ct_series
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.phantom import render_ct, sample_ct_acquisition, sample_spine
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline
from dicom_ai_node.report import Analysis

TOTALSEGMENTATOR = {27: "L5", 28: "L4", 29: "L3", 30: "L2", 31: "L1", 32: "T12", 33: "T11"}


@pytest.fixture(scope="module")
def pipeline() -> CtVolumePipeline:
    return CtVolumePipeline.load(find_models_dir(None), torch.device("cpu"))


def volume_of(voxels: npt.NDArray[np.int16], affine: npt.NDArray[np.float64]) -> Volume:
    instances = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.2", f"1.2.{k + 1}", 1, Path("phantom")) for k in range(len(voxels))
    )
    return Volume(voxels, affine, instances, "1.2", "1.3", "1.4", "CT")


def levels(analysis: Analysis) -> list[Level]:
    return [vertebra.level for vertebra in analysis.report]


def run_without_gap(names: list[Level]) -> bool:
    usual = [level for level in Level if level not in (Level.T13, Level.L6)]
    places = [usual.index(level) for level in names if level in usual]
    return places == list(range(places[0], places[0] + len(places)))


@pytest.fixture(scope="module")
def example_ct(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Volume, dict[str, npt.NDArray[np.bool_]]]:
    """The TotalSegmentator example, written as DICOM and read back, with its bodies."""
    folder = shared_data / "ct/totalsegmentator"
    voxels, affine = from_nifti_axes(*_nifti(folder / "example_ct.nii.gz"))
    levels_map, _ = from_nifti_axes(*_nifti(folder / "totalseg.nii.gz"))
    bodies, _ = from_nifti_axes(*_nifti(folder / "totalseg_vertebrae_body.nii.gz"))
    files = write_ct_series(
        np.clip(voxels, -1024, 3071).astype(np.int16), affine, tmp_path_factory.mktemp("example")
    )
    volume = load_volume(files)
    if np.dot(volume.affine[:3, 0], affine[:3, 0]) < 0:
        levels_map, bodies = levels_map[::-1], bodies[::-1]
    truth = {name: (levels_map == value) & (bodies > 0) for value, name in TOTALSEGMENTATOR.items()}
    return volume, truth


def _nifti(path: Path) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.float64]]:
    image = nibabel.load(path)
    return np.asarray(image.dataobj), image.affine


def test_bodies_of_the_real_labelled_ct_are_found_and_named(pipeline, example_ct) -> None:  # type: ignore[no-untyped-def]
    volume, truth = example_ct
    analysis = pipeline.analyse(volume)
    assert analysis.label_map is not None
    assert {Level.T12, Level.L1, Level.L2, Level.L3, Level.L4, Level.L5} <= set(levels(analysis))
    assert run_without_gap(levels(analysis))
    scores = []
    for vertebra in analysis.report:
        name = vertebra.level.value
        if name not in truth or name == "T11":  # the uppermost body is cut by the edge of the image
            continue
        found = analysis.label_map.labels == verse_label(vertebra.level)
        overlap = (found & truth[name]).sum()
        assert overlap > max((found & other).sum() for key, other in truth.items() if key != name)
        scores.append(2 * overlap / (found.sum() + truth[name].sum()))
    assert np.mean(scores) > 0.9
    assert "level-uncertain" not in {note.code for note in analysis.report.limitations}


def test_a_part_of_a_real_spine_without_its_sacrum_is_called_uncertain(pipeline, example_ct) -> None:  # type: ignore[no-untyped-def]
    volume, truth = example_ct
    shown = np.flatnonzero((truth["L2"] | truth["L4"]).any(axis=(1, 2)))
    first, last = int(shown[0]), int(shown[-1]) + 1
    affine = volume.affine.copy()
    affine[:3, 3] += first * affine[:3, 0]
    analysis = pipeline.analyse(volume_of(volume.voxels[first:last], affine))
    assert len(levels(analysis)) >= 3
    # Their names may be right or not; nothing in view says which.
    assert "level-uncertain" in {note.code for note in analysis.report.limitations}


def test_healthy_lumbar_spine_of_a_real_pet_ct(pipeline, shared_data: Path) -> None:  # type: ignore[no-untyped-def]
    volume = load_volume(sorted((shared_data / "ct/acrin-flt-breast-lumbar").glob("*.dcm")))
    analysis = pipeline.analyse(volume)
    found = levels(analysis)
    assert run_without_gap(found)
    assert found[-1] is Level.L5
    assert {Level.T12, Level.L1, Level.L2, Level.L3, Level.L4} <= set(found)
    assert all((vertebra.genant_grade or 0) <= 1 for vertebra in analysis.report)


def test_a_moderate_wedge_of_l1_is_reported_as_such(pipeline) -> None:  # type: ignore[no-untyped-def]
    spine = sample_spine(7, fractures={Level.L1: ("wedge", 2)})
    phantom = render_ct(spine, sample_ct_acquisition(3, spine))
    analysis = pipeline.analyse(volume_of(phantom.hu, phantom.affine))
    (broken,) = [vertebra for vertebra in analysis.report if vertebra.level is Level.L1]
    assert broken.genant_grade is not None
    assert broken.genant_grade >= 1
    assert broken.deformity == "wedge"
    assert broken.fractured
    # What voxels and what heights say stand beside the probability that both make.
    assert set(broken.classes) == {"ct-segment", "height-loss"}
    assert broken.classes["height-loss"]["fractured"] > 0.5
    (truth,) = [entry for entry in phantom.truth["vertebrae"] if entry["level"] == "L1"]
    assert broken.center_mm == pytest.approx(truth["center_mm"], abs=6)


def test_the_same_volume_gives_the_same_report(pipeline) -> None:  # type: ignore[no-untyped-def]
    spine = sample_spine(11, fractures={})
    phantom = render_ct(spine, sample_ct_acquisition(5, spine))
    volume = volume_of(phantom.hu, phantom.affine)
    first, second = pipeline.analyse(volume), pipeline.analyse(volume)
    assert first.report == second.report
    np.testing.assert_array_equal(first.label_map.labels, second.label_map.labels)


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = (*spacing, 1.0)
    return affine


def test_a_phantom_of_water_has_no_spine(pipeline) -> None:  # type: ignore[no-untyped-def]
    voxels = np.full((60, 128, 128), -1000, np.int16)
    rows, columns = np.indices((128, 128)) - 64
    voxels[:, np.hypot(rows, columns) < 50] = 0
    voxels += np.random.default_rng(0).normal(0, 12, voxels.shape).astype(np.int16)
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(volume_of(voxels, _grid(voxels.shape, (3.0, 2.0, 2.0))))
    assert refused.value.code == "no-spine"


@pytest.mark.parametrize(
    ("shape", "spacing", "code"),
    [((3, 64, 64), (5.0, 2.0, 2.0), "coverage"), ((30, 64, 64), (8.0, 2.0, 2.0), "spacing")],
)
def test_too_little_is_refused_with_the_reason(pipeline, shape, spacing, code: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(volume_of(np.zeros(shape, np.int16), _grid(shape, spacing)))
    assert refused.value.code == code
