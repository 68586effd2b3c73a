"""Debian's Orthanc on free loopback ports, with its own storage folder; the system's service stays alone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"


def installed() -> bool:
    return Path(PROGRAM).exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """A running Orthanc.

    Args:
        folder: for its configuration and storage.
        further: settings of its configuration.
    """

    ae_title = "ORTHANC"
    host = "127.0.0.1"

    def __init__(self, folder: Path, **further: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.http_port = free_port(), free_port()
        self._folder = folder
        configuration = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
            # Callers need not be known by name to ask what is there.
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            **further,
        }
        self._config = folder / "orthanc.json"
        self._config.write_text(json.dumps(configuration), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, patience_s: float = 300.0) -> None:
        self._process = subprocess.Popen(
            [PROGRAM, str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.get("system")
                return
            except (URLError, ConnectionError):
                assert self._process.poll() is None, "Orthanc ended"
                assert time.monotonic() < deadline, "Orthanc does not answer"
                time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def get(self, path: str) -> Any:
        """What the REST interface says."""
        with urlopen(f"http://127.0.0.1:{self.http_port}/{path}", timeout=60) as answer:
            return json.load(answer)

    def store(self, path: Path) -> None:
        """Takes in one file over the REST interface."""
        request = Request(f"http://127.0.0.1:{self.http_port}/instances", data=path.read_bytes())
        with urlopen(request, timeout=60) as answer:
            assert json.load(answer)["Status"] in {"Success", "AlreadyStored"}

    def instances(self) -> dict[str, dict[str, str]]:
        """All instances: SOP Instance UID -> the main tags (with StudyInstanceUID and Modality)."""
        found = {}
        for series in self.get("series?expand"):
            study = self.get(f"studies/{series['ParentStudy']}")["MainDicomTags"]
            for name in series["Instances"]:
                tags = self.get(f"instances/{name}/simplified-tags")
                found[tags["SOPInstanceUID"]] = {
                    "StudyInstanceUID": study["StudyInstanceUID"],
                    "Modality": tags["Modality"],
                    "SOPClassUID": tags["SOPClassUID"],
                }
        return found

    def instance_bytes(self) -> dict[str, bytes]:
        """Every instance as Orthanc would give it out."""
        found = {}
        for name in self.get("instances"):
            uid = self.get(f"instances/{name}/simplified-tags")["SOPInstanceUID"]
            with urlopen(f"http://127.0.0.1:{self.http_port}/instances/{name}/file", timeout=60) as answer:
                found[uid] = answer.read()
        return found
