"""`dicom-ai-node phantom --kind study`: one person, three examinations, each series routed as listed."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.config import Settings
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.intake.router import route_files
from dicom_ai_node.phantom import ct, mr_study, radiograph
from dicom_ai_node.phantom.ct import CtAcquisition

SITK: Any = SimpleITK
real_ct, real_mr, real_film = (
    ct.sample_ct_acquisition,
    mr_study.sample_mr_study,
    radiograph.sample_radiograph_acquisition,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study of seed 7, with coarse pixels, so that it takes seconds."""

    def coarse_ct(seed: int, spine: Any, **options: Any) -> CtAcquisition:
        fine = real_ct(seed, spine, **options)
        factors = np.maximum(1, np.array([5.0, 2.0, 2.0]) / fine.spacing_mm)
        affine = fine.affine.copy()
        affine[:3, :3] *= factors
        slices, rows, columns = (int(size / by) for size, by in zip(fine.shape, factors, strict=True))
        return replace(fine, shape=(slices, rows, columns), affine=affine, slice_thickness_mm=5.0)

    def coarse_mr(seed: int, spine: Any, **options: Any) -> Any:
        study = real_mr(seed, spine, **(options | {"max_matrix": 64}))
        return tuple(one for one in study if one.series in {"t1", "t2", "stir", "localizer"})

    def coarse_film(seed: int, spine: Any, **options: Any) -> Any:
        return real_film(seed, spine, **(options | {"max_pixels": 120 * 200}))

    out = tmp_path_factory.mktemp("phantom") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ct, "sample_ct_acquisition", coarse_ct)
        patch.setattr(mr_study, "sample_mr_study", coarse_mr)
        patch.setattr(radiograph, "sample_radiograph_acquisition", coarse_film)
        arguments = ["--kind", "study", "--fracture", "L1:wedge:2", "--seed", "7", "--out", str(out)]
        result = CliRunner().invoke(app, ["phantom", *arguments])
    assert result.exit_code == 0, result.output
    assert "L1 wedge 2" in result.output
    return out


def listed(study: Path) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = json.loads((study / "study.json").read_text())["series"]
    return answer


def test_the_list_names_every_file(study: Path) -> None:
    kinds = [entry["kind"] for entry in listed(study)]
    assert kinds[:4] == ["frontal scout", "lateral scout", "axial", "sagittal reformat"]
    assert {"lateral radiograph", "frontal radiograph", "localizer", "t1", "t2", "stir"} <= set(kinds)
    files = {path for path in study.rglob("*") if path.is_file() and pydicom.misc.is_dicom(path)}
    for entry in listed(study):
        found = {path for path in (study / entry["folder"]).rglob("*") if path.is_file()}
        assert len(found) == entry["files"], entry
        files -= found
    assert not files


def test_every_series_has_its_truth_and_label_maps_on_its_grid(study: Path) -> None:
    for entry in listed(study):
        assert json.loads((study / entry["truth"]).read_text())["vertebrae"], entry["kind"]
        volumes = entry["modality"] in {"CT", "MR"} and "scout" not in entry["kind"]
        assert len(entry["labels"]) == (0 if not volumes else 12 if entry["kind"] == "localizer" else 4)
        if entry["modality"] == "CT" and entry["labels"]:
            voxels = load_volume(sorted((study / entry["folder"]).iterdir())).voxels
            for path in entry["labels"]:
                assert SITK.ReadImage(str(study / path)).GetSize() == voxels.shape[::-1]


def test_every_series_is_routed_as_the_list_says(study: Path) -> None:
    # The pixels of this study are coarser than those of a scanner.
    routes = route_files(
        [study],
        Settings.model_validate({"routes": {kind: {"max_pixel_spacing_mm": 10.0} for kind in ("ct", "mri")}}),
    )
    folders = {(study / entry["folder"]): entry for entry in listed(study)}
    decided = {}
    for route in (route for route in routes if route.series_instance_uid):
        (folder,) = {next(f for f in folders if f in path.parents) for path in route.paths}
        decided[folder] = route.decision
    assert set(decided) == set(folders)
    for folder, decision in decided.items():
        assert decision.pipeline == folders[folder]["pipeline"], (folder, decision.reasons)
        # Which view a film shows is seen in the image, after the routing.
        looked_at = (
            folders[folder]["route"] in {"ct", "radiograph"}
            or "radiograph" in folders[folder]["kind"]
            or folders[folder]["kind"] == "t2"
        )
        assert (decision.pipeline is not None) == looked_at
        assert decision.reasons
    reasons = {folders[f]["kind"]: " ".join(d.reasons) for f, d in decided.items()}
    assert "LOCALIZER" in reasons["frontal scout"]
    assert "is analysed as a volume" in reasons["sagittal reformat"]
    assert "seen in the image" in reasons["frontal radiograph"]
    assert "sagittal slices" in reasons["t2"]
    assert all("analysed together" in reasons[kind] for kind in ("t1", "stir"))


def test_it_is_one_patient_in_three_examinations(study: Path) -> None:
    headers = [
        pydicom.dcmread(next(path for path in sorted((study / entry["folder"]).iterdir())))
        for entry in listed(study)
    ]
    assert len({str(header.PatientID) for header in headers}) == 1
    assert len({str(header.PatientName) for header in headers}) == 1
    assert len({str(header.get("PatientSex", "")) for header in headers}) == 1
    by_part: dict[str, set[str]] = {}
    for entry, header in zip(listed(study), headers, strict=True):
        by_part.setdefault(entry["folder"].split("/")[0], set()).add(str(header.StudyInstanceUID))
    assert all(len(uids) == 1 for uids in by_part.values())
    assert len(set.union(*by_part.values())) == 3
    assert len({str(header.SeriesInstanceUID) for header in headers}) == len(headers)
    for entry, header in zip(listed(study), headers, strict=True):
        assert entry["series_instance_uid"] == header.SeriesInstanceUID
        assert entry["study_instance_uid"] == header.StudyInstanceUID
        assert entry["modality"] == header.Modality
    ct = [header for header in headers if header.Modality == "CT"]
    assert len({str(header.FrameOfReferenceUID) for header in ct}) == 1
    assert {str(h.StudyDate) for h in ct} < {str(h.StudyDate) for h in headers}


def test_the_fracture_is_in_the_truth_of_every_modality(study: Path) -> None:
    for part in ("ct", "radiograph", "mr"):
        truth = json.loads((study / part / "truth.json").read_text())
        broken = {v["level"]: v for v in truth["vertebrae"] if v["fractured"]}
        assert (broken["L1"]["deformity"], broken["L1"]["genant_grade"]) == ("wedge", 2)
        assert broken["L1"]["visible"] > 0.99


def test_the_reformat_shows_what_the_axial_series_shows(study: Path) -> None:
    folders = {entry["kind"]: study / entry["folder"] for entry in listed(study)}
    axial, sagittal = (
        load_volume(sorted(folders[kind].iterdir())) for kind in ("axial", "sagittal reformat")
    )
    truth = json.loads((study / "ct" / "truth.json").read_text())
    center = next(v["center_mm"] for v in truth["vertebrae"] if v["level"] == "L2")
    values = []
    for volume in (axial, sagittal):
        at = np.rint(np.linalg.inv(volume.affine) @ [*center, 1.0])[:3].astype(int)
        part = tuple(slice(max(0, i - 1), i + 2) for i in at)
        values.append(float(volume.voxels[part].mean()))
    assert abs(values[0] - values[1]) < 60.0


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
def test_no_file_has_an_error(study: Path) -> None:
    for entry in listed(study):
        one = min((study / entry["folder"]).iterdir())
        verdict = subprocess.run(["dciodvfy", str(one)], capture_output=True, text=True, check=False)
        assert "Error" not in verdict.stderr, (entry, verdict.stderr)
