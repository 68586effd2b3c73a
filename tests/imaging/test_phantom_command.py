"""`dicom-ai-node phantom`: a series that validators accept, with a truth that lies where it shows."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from typer.testing import CliRunner, Result

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.cli import app
from dicom_ai_node.commands.phantom_person import parse_diseases, parse_fractures
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.phantom import ct
from dicom_ai_node.phantom.ct import CtAcquisition
from dicom_ai_node.phantom.disease import Disease

SITK: Any = SimpleITK
real_acquisition = ct.sample_ct_acquisition


@pytest.fixture(autouse=True)
def coarse_scanner(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fields of view with 5 mm voxels, so that a case takes seconds."""

    def coarse(seed: int, spine: Any, **options: Any) -> CtAcquisition:
        fine = real_acquisition(seed, spine, **options)
        factors = np.maximum(1, np.array([5.0, 5.0, 5.0]) / fine.spacing_mm)
        affine = fine.affine.copy()
        affine[:3, :3] *= factors
        slices, rows, columns = (max(2, int(size / by)) for size, by in zip(fine.shape, factors, strict=True))
        return replace(fine, shape=(slices, rows, columns), affine=affine, slice_thickness_mm=5.0)

    monkeypatch.setattr(ct, "sample_ct_acquisition", coarse)


def phantom(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["phantom", *arguments])


def plain(text: str) -> str:
    """A message of the command line without its frame and line breaks."""
    return " ".join(re.sub(r"[^\w\s.,:'/-]", " ", text).split())


def test_a_case_is_a_series_with_its_truth_and_label_map(tmp_path: Path) -> None:
    out = tmp_path / "case"
    result = phantom("--kind", "ct", "--seed", "3", "--out", str(out), "--fracture", "L1:wedge:2")
    assert result.exit_code == 0, result.output
    assert "L1 wedge 2" in result.output
    volume = load_volume(sorted((out / "dicom").iterdir()))
    truth = json.loads((out / "truth.json").read_text())
    broken = {item["level"]: item for item in truth["vertebrae"] if item["fractured"]}
    assert set(broken) == {"L1"}
    assert (broken["L1"]["deformity"], broken["L1"]["genant_grade"]) == ("wedge", 2)
    assert broken["L1"]["visible"] == 1.0
    labels = SITK.ReadImage(str(out / "labels.nii.gz"))
    for item in truth["vertebrae"]:
        if item["visible"] < 1.0 or item["level"] == "S1":
            continue
        index = labels.TransformPhysicalPointToIndex(item["center_mm"])
        assert labels[index] == verse_label(Level(item["level"]))
        # The DICOM series lies in the same place: bone in the body, more than in all of the image.
        at = np.rint(np.linalg.inv(volume.affine) @ [*item["center_mm"], 1])[:3].astype(int)
        assert volume.voxels[tuple(at)] > np.median(volume.voxels)
    assert labels.GetSize() == volume.voxels.shape[::-1]
    if shutil.which("dciodvfy"):
        one = min((out / "dicom").iterdir())
        verdict = subprocess.run(["dciodvfy", str(one)], capture_output=True, text=True, check=False)
        assert "Error" not in verdict.stderr


def test_several_cases_have_folders_of_their_own_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    def healthy(seed: int, out: Path, count: int) -> Result:
        return phantom(
            "--kind",
            "ct",
            "--seed",
            str(seed),
            "--count",
            str(count),
            "--out",
            str(out),
            "--fracture",
            "none",
        )

    both = healthy(8, tmp_path / "both", 2)
    assert both.exit_code == 0, both.output
    assert len(both.output.splitlines()) == 2
    truths = [json.loads(path.read_text()) for path in sorted((tmp_path / "both").glob("*/truth.json"))]
    assert [truth["seed"] for truth in truths] == [8, 9]
    assert not any(item["fractured"] for truth in truths for item in truth["vertebrae"])
    assert healthy(9, tmp_path / "one", 1).exit_code == 0
    files = [path for path in sorted((tmp_path / "one").rglob("*")) if path.is_file()]
    assert len(files) > 10
    for path in files:
        twin = tmp_path / "both" / "case-0009" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()
    again = healthy(9, tmp_path / "one", 1)
    assert again.exit_code == 2
    assert "holds files already" in plain(again.output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "ultrasound"), "is not one of 'ct', 'radiograph', 'mr', 'study'"),
        (("--kind", "ct", "--disease", "L1"), "'L1' is no disease"),
        (("--kind", "ct", "--disease", "L9:KD"), "'L9:KD' is no disease"),
        (("--kind", "ct", "--disease", "L1:cold"), "'L1:cold' is no disease"),
        (("--kind", "ct", "--fracture", "L9:wedge:2"), "'L9:wedge:2' is no fracture"),
        (("--kind", "ct", "--fracture", "L1:wedge"), "'L1:wedge' is no fracture"),
        (("--kind", "ct", "--fracture", "L1:burst:2"), "'L1:burst:2' is no fracture"),
        (("--kind", "ct", "--fracture", "L1:wedge:2", "L1:crush:3"), "can break in one way only"),
        (("--kind", "ct", "--fracture", "C3:wedge:2"), "C3 cannot be fractured"),
        (("--kind", "ct", "--count", "0"), "--count"),
    ],
)
def test_wrong_use_is_said_and_ends_with_2(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    result = phantom("--out", str(tmp_path / "out"), *arguments)
    assert result.exit_code == 2
    assert message in plain(result.output)
    assert not (tmp_path / "out").exists()


def test_fractures_are_read_as_they_are_written() -> None:
    assert parse_fractures([]) is None
    assert parse_fractures(["none"]) == {}
    assert parse_fractures(["L1:wedge:2", "T8:crush:3"]) == {Level.L1: ("wedge", 2), Level.T8: ("crush", 3)}


def test_diseases_are_read_as_they_are_written() -> None:
    assert parse_diseases(["L1:KD", "T12:Malignant", "L1:PS", "L1:KD"]) == {
        Level.L1: (Disease.KD, Disease.PS),
        Level.T12: (Disease.MALIGNANT,),
    }
