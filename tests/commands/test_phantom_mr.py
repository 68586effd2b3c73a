"""`dicom-ai-node phantom --kind mr`: series that hang together, each with its label map, and one truth."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from typer.testing import CliRunner

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.cli import app
from dicom_ai_node.imaging import mr_habits
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.phantom import CANAL_LABEL, DISC_LABEL, mr_study
from dicom_ai_node.phantom.mr import MrAcquisition

SITK: Any = SimpleITK
real_study = mr_study.sample_mr_study
real_site = mr_habits.sample_site


def coarse(stack: MrAcquisition) -> MrAcquisition:
    """The same field of view with a fifth of the pixels and three slices from side to side."""
    pixels = stack.shape[1] // 5
    affine = stack.affine.copy()
    if stack.series != "localizer":
        affine[:3, 0] *= (stack.shape[0] - 1) / 2
    affine[:3, 1:3] *= 5.0
    rows, columns = stack.readout.matrix
    readout = replace(stack.readout, matrix=(rows // 6, columns // 6))
    slices = 3 if stack.series != "localizer" else 1
    return replace(
        stack, shape=(slices, pixels, pixels), affine=affine, readout=readout, slice_thickness_mm=3.0
    )


@pytest.fixture
def coarse_scanner(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def patch(*kinds: str) -> None:
        def study(seed: int, spine: Any, **options: Any) -> tuple[MrAcquisition, ...]:
            return tuple(coarse(one) for one in real_study(seed, spine, **options) if one.series in kinds)

        monkeypatch.setattr(mr_study, "sample_mr_study", study)

    return patch


def phantom(out: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["phantom", "--kind", "mr", "--out", str(out), *arguments])


@pytest.fixture
def plain_site(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def patch() -> None:
        monkeypatch.setattr(
            mr_habits, "sample_site", lambda seed: replace(real_site(seed), enhanced=False, omit=())
        )

    return patch


def test_a_study_has_a_folder_a_label_map_and_a_place_for_every_series(
    tmp_path: Path, plain_site: Callable[[], None], coarse_scanner: Callable[..., None]
) -> None:
    plain_site()
    coarse_scanner("t1", "t2", "localizer")
    out = tmp_path / "case"
    result = phantom(out, "--seed", "3", "--fracture", "L1:wedge:2")
    assert result.exit_code == 0, result.output
    assert "L1 wedge 2" in result.output
    series = json.loads((out / "series.json").read_text())["series"]
    assert [one["kind"] for one in series] == ["localizer", "t2", "t1"]
    truth = json.loads((out / "truth.json").read_text())
    assert {v["level"] for v in truth["vertebrae"] if v["fractured"]} == {"L1"}
    studies, frames = set(), set()
    for one in series:
        files = sorted((out / one["folder"]).iterdir())
        assert len(files) == one["files"]
        image = pydicom.dcmread(files[0])
        assert image.Modality == "MR"
        studies.add(image.StudyInstanceUID)
        frames.add(image.FrameOfReferenceUID)
        assert len(one["labels"]) == (3 if one["kind"] == "localizer" else 1)
        if shutil.which("dciodvfy"):
            verdict = subprocess.run(["dciodvfy", str(files[0])], capture_output=True, text=True, check=False)
            assert "Error" not in verdict.stderr
        if one["kind"] == "localizer":
            continue
        labels = SITK.ReadImage(str(out / one["labels"][0]))
        volume = load_volume(files)
        assert labels.GetSize() == volume.voxels.shape[::-1]
        structures, whole = (SITK.ReadImage(str(out / one[kind][0])) for kind in ("structures", "whole"))
        assert {CANAL_LABEL, DISC_LABEL + verse_label(Level.L1)} <= set(
            np.unique(SITK.GetArrayFromImage(structures)).tolist()
        )
        assert (SITK.GetArrayFromImage(whole) > 0).sum() > (SITK.GetArrayFromImage(labels) > 0).sum()
        assert SITK.ReadImage(str(out / one["lesions"][0])).GetSize() == labels.GetSize()
        motion = np.array(one["motion"])
        moved = json.loads((out / one["truth"]).read_text())["vertebrae"]
        for item, there in zip(truth["vertebrae"], moved, strict=True):
            np.testing.assert_allclose(
                (motion @ [*item["center_mm"], 1.0])[:3], there["center_mm"], atol=2e-3
            )
        hits = 0
        for item in truth["vertebrae"]:
            point = (motion @ [*item["center_mm"], 1.0])[:3]
            index = labels.TransformPhysicalPointToIndex(point.tolist())
            if item["level"] == "S1" or not all(
                0 < i < n - 1 for i, n in zip(index, labels.GetSize(), strict=True)
            ):
                continue
            assert labels[index] == verse_label(Level(item["level"]))
            # The DICOM series lies in the same place: the body is brighter than the edge of its own image.
            at = np.rint(np.linalg.inv(volume.affine) @ [*point, 1])[:3].astype(int)
            hits += volume.voxels[tuple(at)] > np.median(volume.voxels)
        assert hits >= 2
    assert len(studies) == len(frames) == 1


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path, coarse_scanner: Callable[..., None]) -> None:
    coarse_scanner("t2")
    for name in ("a", "b"):
        assert phantom(tmp_path / name, "--seed", "4", "--fracture", "none").exit_code == 0
    first, second = (sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("a", "b"))
    assert len(first) == len(second) >= 4
    for one, other in zip(first, second, strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_an_enhanced_scanner_writes_one_file_per_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coarse_scanner: Callable[..., None]
) -> None:
    coarse_scanner("t2")
    monkeypatch.setattr(
        mr_habits, "sample_site", lambda seed: replace(real_site(seed), make="philips", enhanced=True)
    )
    out = tmp_path / "case"
    assert phantom(out, "--seed", "4", "--fracture", "none").exit_code == 0
    (one,) = json.loads((out / "series.json").read_text())["series"]
    (file,) = (out / one["folder"]).iterdir()
    assert int(pydicom.dcmread(file).NumberOfFrames) == 3


def test_impossible_fractures_are_refused(tmp_path: Path) -> None:
    result = phantom(tmp_path / "case", "--seed", "4", "--fracture", "S1:wedge:2")
    assert result.exit_code == 2
    assert "S1" in result.output
