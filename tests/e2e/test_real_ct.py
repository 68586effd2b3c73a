"""A real CT, sent with DCMTK's storescu, comes back into a real Orthanc; and the demonstration.

The node is `dicom-ai-node serve` as installed, with the models of the repository.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydicom import dcmread

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.inference.bundle import find_models_dir
from dicom_ai_node.report import SpineReport

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

from orthanc import Orthanc, installed
from peers import free_port

STORESCU = Path("/usr/bin/storescu")
LIMIT_S = 120.0
"""From the first image sent to the last object in the archive, on two idle cores."""
BUSY_LIMIT_S = 1800.0
LIMIT_BYTES = 4e9

needs_models = pytest.mark.skipif(
    not list(find_models_dir(None).glob("*/metadata.json")), reason="no model bundle in models/"
)


class Memory:
    """The largest resident memory of a process with its children, sampled."""

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._root = psutil.Process(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            total = 0
            for process in [self._root, *self._root.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total)

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.peak


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    if not installed():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    orthanc = Orthanc(tmp_path / "orthanc")
    orthanc.start()
    yield orthanc
    orthanc.stop()


def config_for(folder: Path, orthanc: Orthanc, port: int) -> Path:
    config = folder / "node.toml"
    config.write_text(
        f"""\
[node]
host = "127.0.0.1"
port = {port}
[routes.ct]
quiet_seconds = 5.0
[[destinations]]
name = "orthanc"
ae_title = "{orthanc.ae_title}"
host = "127.0.0.1"
port = {orthanc.port}
[storage]
folder = "data"
minimum_free_mb = 100
"""
    )
    return config


@needs_models
def test_a_real_ct_comes_back_into_orthanc(
    shared_data: Path, orthanc: Orthanc, tmp_path: Path, record_property: Any
) -> None:
    if not STORESCU.exists():
        pytest.skip("DCMTK is not installed (apt-get install dcmtk)")
    study = shared_data / "ct" / "acrin-flt-breast-lumbar"
    images = sorted(path for path in study.rglob("*.dcm"))
    port = free_port()
    config = config_for(tmp_path, orthanc, port)
    log = (tmp_path / "node.log").open("w")
    limit_s = LIMIT_S if os.getloadavg()[0] < 1.0 else BUSY_LIMIT_S
    node = subprocess.Popen(
        [sys.executable, "-m", "dicom_ai_node.cli", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        assert node.stdout is not None
        assert node.stdout.readline().startswith("ready:"), (tmp_path / "node.log").read_text()
        memory = Memory(node.pid)
        began = time.monotonic()
        subprocess.run(
            [STORESCU, "-aec", "DICOM_AI", "127.0.0.1", str(port), *map(str, images)],
            env={**os.environ, "TCP_NODELAY": "1"},
            check=True,
        )
        results = wait_for_results(tmp_path / "data" / "results", tmp_path / "node.log", began + limit_s)
        took = time.monotonic() - began
        peak = memory.stop()
        archived = orthanc.instances()
    finally:
        node.terminate()
        node.wait(timeout=60)
        assert node.stdout is not None
        node.stdout.close()
        log.close()
    record_property("seconds", round(took, 1))
    record_property("peak GB", round(peak / 1e9, 2))

    objects = json.loads((results / "objects.json").read_text())
    assert {item["kind"] for item in objects} >= {"seg", "sr", "pr"}
    assert set(archived) == {item["sop_instance_uid"] for item in objects}
    own = str(dcmread(images[0], stop_before_pixels=True).StudyInstanceUID)
    assert {tags["StudyInstanceUID"] for tags in archived.values()} == {own}

    report = SpineReport.from_json((results / "report.json").read_text())
    levels = [order(vertebra.level) for vertebra in report]
    named = {vertebra.level for vertebra in report}
    assert named >= {Level.T12, Level.L1, Level.L2, Level.L3, Level.L4, Level.L5}
    assert_no_gap(levels)
    assert [vertebra.level for vertebra in report if vertebra.genant_grade == 3] == []
    assert peak < LIMIT_BYTES, f"{peak / 1e9:.2f} GB"
    assert took < limit_s, f"{took:.0f} s"


def assert_no_gap(levels: list[int]) -> None:
    """Each level follows the one above; T13 and L6 are levels that most people do not have."""
    optional = {order(Level.T13), order(Level.L6)}
    expected = [
        level for level in range(levels[0], levels[-1] + 1) if level not in optional or level in levels
    ]
    assert levels == expected


def wait_for_results(folder: Path, log: Path, deadline: float) -> Path:
    """The results of the job, once the node says how it ended."""
    while time.monotonic() < deadline:
        for line in log.read_text().splitlines():
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("event") == "concluded":
                assert said["state"] == "delivered", said
                return folder / said["job"] / "results"
        time.sleep(0.5)
    raise AssertionError(f"not concluded in time:\n{log.read_text()[-3000:]}")


@needs_models
def test_the_demonstration_shows_findings_files_and_a_picture(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dicom_ai_node.cli", "demo", "--keep", str(tmp_path / "demo")]
    said = subprocess.run(command, check=False, capture_output=True, text=True, timeout=BUSY_LIMIT_S)
    assert said.returncode == 0, said.stdout + said.stderr
    for word in ("L1", "grade", "results:", "archived:", "picture:"):
        assert word in said.stdout
    (picture,) = [
        line.split(maxsplit=1)[1] for line in said.stdout.splitlines() if line.startswith("picture:")
    ]
    assert Path(picture).read_bytes().startswith(b"\x89PNG")
    archived = [
        line.split(maxsplit=1)[1] for line in said.stdout.splitlines() if line.startswith("archived:")
    ]
    assert {dcmread(path, stop_before_pixels=True).Modality for path in archived} >= {"SEG", "SR", "PR"}
