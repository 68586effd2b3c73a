"""`dicom-ai-node serve` as installed, with the models of the repository, delivering to an Orthanc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from dicom_ai_node.inference.bundle import find_models_dir
from tests.workflow.orthanc import Orthanc
from tests.workflow.peers import free_port

STORESCU = Path("/usr/bin/storescu")
BUSY_LIMIT_S = 1800.0
"""How long anything may take on a machine that does other things too."""

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


@dataclass(frozen=True)
class RunningNode:
    """Where the node listens and keeps its results; `http_port` is 0 where it has no HTTP interface."""

    port: int
    pid: int
    folder: Path
    http_port: int = 0

    def send(self, images: Sequence[Path]) -> None:
        """With DCMTK's storescu, whatever the transfer syntaxes."""
        subprocess.run(
            [STORESCU, "-aec", "DICOM_AI", "127.0.0.1", str(self.port), *map(str, images)],
            env={**os.environ, "TCP_NODELAY": "1"},
            check=True,
        )

    def concluded(self, count: int, deadline: float) -> dict[str, Path]:
        """State -> results of that many jobs, once the node says how they ended."""
        log = self.folder / "node.log"
        while time.monotonic() < deadline:
            ended = {}
            for line in log.read_text().splitlines():
                said = json.loads(line) if line.startswith("{") else {}
                if said.get("event") == "concluded":
                    ended[said["job"]] = said["state"]
            if len(ended) == count:
                return {
                    state: self.folder / "data" / "results" / job / "results" for job, state in ended.items()
                }
            time.sleep(0.5)
        raise AssertionError(f"not concluded in time:\n{log.read_text()[-3000:]}")


@contextmanager
def running_node(folder: Path, orthanc: Orthanc | None, http_token: str = "") -> Iterator[RunningNode]:
    """Starts it, and ends it afterwards; with a token it has an HTTP interface."""
    if not STORESCU.exists():
        pytest.skip("DCMTK is not installed (apt-get install dcmtk)")
    port, http_port = free_port(), free_port() if http_token else 0
    config = _config_for(folder, orthanc, port)
    if http_token:
        with config.open("a") as file:
            file.write(f'[http]\nenabled = true\nport = {http_port}\ntoken = "{http_token}"\n')
    with (folder / "node.log").open("w") as log:
        node = subprocess.Popen(
            [sys.executable, "-m", "dicom_ai_node.cli", "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert node.stdout is not None
            assert node.stdout.readline().startswith("ready:"), (folder / "node.log").read_text()
            yield RunningNode(port, node.pid, folder, http_port)
        finally:
            node.terminate()
            node.wait(timeout=60)
            assert node.stdout is not None
            node.stdout.close()


def _config_for(folder: Path, orthanc: Orthanc | None, port: int) -> Path:
    config = folder / "node.toml"
    destination = (
        f"""\
[[destinations]]
name = "orthanc"
ae_title = "{orthanc.ae_title}"
host = "127.0.0.1"
port = {orthanc.port}
"""
        if orthanc is not None
        else ""
    )
    config.write_text(
        f"""\
[node]
host = "127.0.0.1"
port = {port}
[routes.ct]
quiet_seconds = 5.0
[routes.radiograph]
quiet_seconds = 2.0
[routes.mri]
enabled = true
quiet_seconds = 5.0
partner_wait_seconds = 60.0
{destination}[storage]
folder = "data"
minimum_free_mb = 100
"""
    )
    return config
