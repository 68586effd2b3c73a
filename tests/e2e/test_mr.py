"""An MR study of a phantom, sent by storescu, comes back into a real Orthanc: one report on three series."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_mr import write_mr_case
from dicom_ai_node.commands.phantom_person import PersonWish
from dicom_ai_node.report import SpineReport
from tests.e2e.running_node import BUSY_LIMIT_S, needs_models, running_node
from tests.workflow.orthanc import Orthanc


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Localizer, sagittal T2, T1 and STIR of a person with a broken L1."""
    folder = tmp_path_factory.mktemp("mr")
    write_mr_case(folder, 7, PersonWish({Level.L1: ("wedge", 3)}))
    return folder


@needs_models
def test_an_mr_study_comes_back_as_one_report_and_its_localizer_is_left_alone(
    case: Path, orthanc: Orthanc, tmp_path: Path
) -> None:
    kinds = {
        one["kind"]: case / one["folder"] for one in json.loads((case / "series.json").read_text())["series"]
    }
    assert set(kinds) == {"localizer", "t2", "t1", "stir"}
    with running_node(tmp_path, orthanc) as node:
        node.send(sorted((case / "dicom").rglob("*.dcm")))
        ended = node.concluded(4, time.monotonic() + BUSY_LIMIT_S)
        archived = orthanc.instances()
    assert set(ended) == {"delivered", "not-applicable"}
    objects = json.loads((ended["delivered"] / "objects.json").read_text())
    assert {item["kind"] for item in objects} >= {"seg", "sr", "pr"}
    assert set(archived) == {item["sop_instance_uid"] for item in objects}

    report = SpineReport.from_json((ended["delivered"] / "report.json").read_text())
    told = {
        kind: str(dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True).SeriesInstanceUID)
        for kind, folder in kinds.items()
    }
    assert report.source.series_instance_uids[0] == told["t2"]
    assert set(report.source.series_instance_uids) == {told["t2"], told["t1"], told["stir"]}
    truth = json.loads((case / "truth.json").read_text())
    whole = {
        entry["level"] for entry in truth["vertebrae"] if entry["visible"] > 0.99 and entry["level"] != "S1"
    }
    assert {vertebra.level.value for vertebra in report} >= whole
    (first_lumbar,) = (vertebra for vertebra in report if vertebra.level is Level.L1)
    assert first_lumbar.fractured
    assert first_lumbar.deformity == "wedge"
    assert first_lumbar.genant_grade in {2, 3}
    assert first_lumbar.malignant is False
    assert first_lumbar.features
    assert first_lumbar.abnormal
    assert [vertebra.level for vertebra in report if vertebra.fractured] == [Level.L1]
