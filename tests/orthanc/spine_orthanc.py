"""An Orthanc with `deploy/orthanc/spine_node.py` in it, and the node that it hands studies to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom import dcmread

from tests.workflow.orthanc import Orthanc

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# The nodes of the tests of the workflow import each other, and `fast_steps`, by name.
sys.path.insert(0, str(REPOSITORY / "tests" / "workflow"))

from peers import PATIENCE_S, NodeProcess, ct_series, free_port, write_config  # noqa: E402

SCRIPT = REPOSITORY / "deploy" / "orthanc" / "spine_node.py"
PYTHON_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
STORESCU = Path("/usr/bin/storescu")
SLICES = 3
"""How many slices a series has, if nothing else is said: few, so that Orthanc has little to do."""
TOKEN = "a-token-that-only-tests-know"


class SpineOrthanc(Orthanc):
    """Orthanc with the plugin.

    Args:
        folder: for its configuration and storage.
        spine: the section SpineNode.
        further: other settings of Orthanc.
        user: `name:password`, where Orthanc has users.
    """

    def __init__(
        self,
        folder: Path,
        spine: Mapping[str, Any],
        further: Mapping[str, Any] | None = None,
        user: str | None = None,
    ) -> None:
        settings = {
            "StableAge": 1,
            "Plugins": [str(PYTHON_PLUGIN)],
            "PythonScript": str(SCRIPT),
            "SpineNode": spine,
        }
        super().__init__(folder, further={**settings, **(further or {})}, user=user)

    def set_spine(self, spine: Mapping[str, Any]) -> None:
        """Another section SpineNode from the next start on."""
        settings = json.loads(self.config.read_text("utf-8"))
        self.config.write_text(json.dumps({**settings, "SpineNode": spine}), "utf-8")

    def store(self, paths: Sequence[Path]) -> None:
        """Send with DCMTK's storescu."""
        command = [STORESCU, "-aec", self.ae_title, "127.0.0.1", str(self.port), *map(str, paths)]
        subprocess.run(command, env={**os.environ, "TCP_NODELAY": "1"}, check=True)

    def series(self, uid: str) -> str:
        """Orthanc's name of the series with that SeriesInstanceUID."""
        (found,) = json.loads(self.ask("POST", "tools/lookup", uid.encode())[1])
        return str(found["ID"])

    def state(self, uid: str) -> dict[str, Any]:
        """What the plugin says of a series."""
        return dict(self.get(f"spine/series/{self.series(uid)}"))

    def status(self) -> dict[str, Any]:
        """What the plugin says of itself."""
        return dict(self.get("spine/status"))

    def wait_for_state(self, uid: str, *states: str) -> dict[str, Any]:
        """Wait until the series has come to one of these states."""
        return self.wait(lambda: self.state(uid), lambda said: said["state"] in states)

    def wait(self, look: Callable[[], Any], true_of: Callable[[Any], bool]) -> Any:
        """Look until it is as a test expects it."""
        deadline = time.monotonic() + PATIENCE_S
        while not true_of(seen := look()):
            assert time.monotonic() < deadline, f"still {seen}\n{self.log.read_text()[-3000:]}"
            time.sleep(0.2)
        return seen

    def modalities(self, study_uid: str) -> list[str]:
        """Of all series of a study, in order."""
        (found,) = json.loads(self.ask("POST", "tools/lookup", study_uid.encode())[1])
        series = self.get(f"studies/{found['ID']}/series")
        return sorted(item["MainDicomTags"]["Modality"] for item in series)


def node_with_http(folder: Path, *, minimum_free_mb: int = 1, paths: Sequence[Path] = ()) -> NodeProcess:
    """A node with fast steps that has an HTTP interface and no other destination; not started.

    It waits for an hour for more images of a series, if nobody says that there are none; for other series
    of an MR study it does not wait.
    """
    config = write_config(folder, [], quiet_seconds=3600.0)
    text = config.read_text("utf-8").replace("minimum_free_mb = 1", f"minimum_free_mb = {minimum_free_mb}")
    text = text.replace("[routes.ct]", f"[routes.ct]\nmin_slices = {SLICES}\nmin_coverage_mm = 10.0")
    port = free_port()
    named = json.dumps([str(path) for path in paths])
    text += "\n[routes.mri]\nquiet_seconds = 3600.0\npartner_wait_seconds = 0.0"
    config.write_text(
        f'{text}\n[http]\nenabled = true\nport = {port}\ntoken = "{TOKEN}"\npaths = {named}\n', "utf-8"
    )
    return NodeProcess(config, reborn=True)


def address(node: NodeProcess) -> dict[str, Any]:
    """The section SpineNode that names a node."""
    return {"Url": f"http://127.0.0.1:{node.settings.http.port}", "Token": TOKEN}


def small_ct(folder: Path, number: int, *, slices: int = SLICES, words: str = "") -> list[Path]:
    """A CT series that a node with fast steps analyses."""
    return ct_series(folder, number, slices=slices, words=words)


def uids(paths: Sequence[Path]) -> tuple[str, str]:
    """Study and series of these files."""
    header = dcmread(paths[0], stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID)
