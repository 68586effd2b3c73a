"""A phantom CT, stored in an Orthanc with the plugin, gets segmentation, report and pictures in its study."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_ct import write_ct_case
from dicom_ai_node.commands.phantom_person import PersonWish
from dicom_ai_node.report import SpineReport
from tests.e2e.running_node import needs_models, running_node
from tests.orthanc.spine_orthanc import PYTHON_PLUGIN, TOKEN, SpineOrthanc, free_port, uids


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[SpineOrthanc]:
    """Another Orthanc with the plugin, whose node is nowhere."""
    archive = SpineOrthanc(tmp_path / "elsewhere", {"Url": f"http://127.0.0.1:{free_port()}"})
    yield archive
    archive.stop()


@needs_models
def test_a_phantom_stored_in_orthanc_gets_its_results_without_any_further_call(
    elsewhere: SpineOrthanc, tmp_path: Path
) -> None:
    if not PYTHON_PLUGIN.exists():
        pytest.skip("orthanc-python is not installed (apt-get install orthanc-python)")
    write_ct_case(tmp_path / "case", 7, PersonWish({Level.L1: ("wedge", 2)}))
    paths = sorted((tmp_path / "case" / "dicom").rglob("*.dcm"))
    study, series = uids(paths)
    with running_node(tmp_path, None, http_token=TOKEN) as node:
        spine = {"Url": f"http://127.0.0.1:{node.http_port}", "Token": TOKEN}
        archive = SpineOrthanc(tmp_path / "archive", spine)
        archive.start()
        try:
            archive.store(paths)
            said = archive.wait_for_state(series, "delivered", "failed")
            assert said["state"] == "delivered", said
            assert {"seg", "sr", "pr", "reformat"} <= {result["kind"] for result in said["results"]}
            assert {"CT", "SEG", "SR", "PR"} <= set(archive.modalities(study))
            report = SpineReport.from_json(
                archive.ask("GET", f"spine/series/{said['series']}/report")[1].decode()
            )
            assert Level.L1 in {vertebra.level for vertebra in report}
            assert "L1" in said["findings"]
            assert archive.ask("GET", f"spine/series/{said['series']}/overlay")[1].startswith(b"\x89PNG")
            # What the node made is a CT too, and comes to another archive without any mark of ours.
            (reformat,) = (item for item in said["results"] if item["kind"] == "reformat")
            image = archive.ask("GET", f"instances/{reformat['instance']}/file")[1]
        finally:
            archive.stop()
    (tmp_path / "reformat.dcm").write_bytes(image)
    own = str(dcmread(tmp_path / "reformat.dcm", stop_before_pixels=True).SeriesInstanceUID)
    elsewhere.start()
    assert elsewhere.ask("POST", "instances", image)[0] == 200
    elsewhere.wait(lambda: elsewhere.get(f"series/{elsewhere.series(own)}"), lambda found: found["IsStable"])
    elsewhere.wait(lambda: elsewhere.status()["queue"]["series"], lambda series: series == 0)
    status, answer = elsewhere.ask("POST", f"spine/series/{elsewhere.series(own)}/analyse", b"")
    assert status == 409
    assert "a result of the node" in json.loads(answer)["reason"]
