"""Films of a phantom, sent by storescu, come back into a real Orthanc: findings, or why there are none."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_person import PersonWish
from dicom_ai_node.commands.phantom_radiograph import write_radiograph_case
from dicom_ai_node.report import SpineReport, Vertebra
from tests.e2e.running_node import BUSY_LIMIT_S, needs_models, running_node
from tests.workflow.orthanc import Orthanc


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lateral and a frontal film of a person with a broken L1."""
    folder = tmp_path_factory.mktemp("films")
    write_radiograph_case(folder, 7, PersonWish({Level.L1: ("wedge", 3)}))
    return folder


@needs_models
def test_a_lateral_film_comes_back_with_findings_and_a_frontal_one_with_the_reason(
    case: Path, orthanc: Orthanc, tmp_path: Path
) -> None:
    films = sorted((case / "dicom").rglob("*.dcm"))
    assert len(films) == 2
    with running_node(tmp_path, orthanc) as node:
        node.send(films)
        ended = node.concluded(2, time.monotonic() + BUSY_LIMIT_S)
        archived = orthanc.instances()
    assert set(ended) == {"delivered", "not-analysable"}
    sent = [item for folder in ended.values() for item in json.loads((folder / "objects.json").read_text())]
    assert set(archived) == {item["sop_instance_uid"] for item in sent}
    assert {item["kind"] for item in json.loads((ended["delivered"] / "objects.json").read_text())} >= {
        "seg",
        "sr",
        "pr",
    }
    report = SpineReport.from_json((ended["delivered"] / "report.json").read_text())
    truth = json.loads((case / "truth.json").read_text())
    whole = {
        entry["level"]: entry["projection"]["box_px"]
        for entry in truth["vertebrae"]
        if entry["visible"] > 0.95 and entry["level"] != "S1"
    }
    found = {vertebra.level.value: _middle(vertebra) for vertebra in report}
    right = [level for level, box in whole.items() if level in found and _inside(found[level], box)]
    assert len(right) >= 0.8 * len(whole), (right, sorted(whole))
    broken = [vertebra for vertebra in report if vertebra.fractured]
    assert [(item.level, item.deformity, item.genant_grade) for item in broken] == [(Level.L1, "wedge", 3)]
    refused = SpineReport.from_json((ended["not-analysable"] / "report.json").read_text())
    assert any("frontal" in reason.text for reason in refused.reasons), refused.reasons


def _middle(vertebra: Vertebra) -> tuple[float, float]:
    assert vertebra.box_px is not None
    return sum(vertebra.box_px.rows) / 2, sum(vertebra.box_px.columns) / 2


def _inside(place: tuple[float, float], box: dict[str, list[float]]) -> bool:
    return all(
        first < at < last for at, (first, last) in zip(place, (box["rows"], box["columns"]), strict=True)
    )
