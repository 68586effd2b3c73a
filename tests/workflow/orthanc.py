"""Debian's Orthanc on free loopback ports, with its own storage folder; the system's service stays alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
DICOMWEB_PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


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
        password: of the user `node`, whom its HTTP interfaces then ask for; its DICOMweb plugin runs too.
        further: settings beside, or instead of, those of the tests.
        user: `name:password` of whoever asks the REST interface, where `further` has users.
    """

    ae_title = "ORTHANC"
    host = "127.0.0.1"

    def __init__(
        self,
        folder: Path,
        password: str = "",
        *,
        further: Mapping[str, Any] | None = None,
        user: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.user = f"node:{password}" if password else user
        self.port, self.http_port = free_port(), free_port()
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "index"),
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(password),
            "RegisteredUsers": {"node": password} if password else {},
            "Plugins": [DICOMWEB_PLUGIN] if password else [],
            # Callers need not be known by name to ask what is there.
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            **(further or {}),
        }
        self.storage = folder / "storage"
        self.log = folder / "orthanc.log"
        self.config = folder / "orthanc.json"
        self.config.write_text(json.dumps(settings), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its pages and its REST interface are."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb(self) -> str:
        """The root of its DICOMweb services."""
        return f"{self.url}/dicom-web"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    def start(self, patience_s: float = 300.0) -> None:
        """Start it, again on the same storage where it was stopped; returns once it answers."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [PROGRAM, str(self.config)],
                stdout=log,
                stderr=log,
                # A Python plugin leaves nothing beside its script.
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            )
        deadline = time.monotonic() + patience_s
        while True:
            try:
                self.get("system")
                return
            except (URLError, ConnectionError):
                assert self._process.poll() is None, f"Orthanc ended:\n{self.log.read_text()[-3000:]}"
                assert time.monotonic() < deadline, "Orthanc does not answer"
                time.sleep(0.2)

    def stop(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self, patience_s: float = 120.0) -> int:
        """Ask it to end; returns its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout=patience_s)
        self._process = None
        return code

    def get(self, path: str) -> Any:
        """What the REST interface says."""
        with urlopen(self._request("GET", path, None), timeout=60) as answer:
            return json.load(answer)

    def ask(self, method: str, path: str, data: bytes | None = None) -> tuple[int, bytes]:
        """Status and body of whatever the REST interface answers."""
        try:
            with urlopen(self._request(method, path, data), timeout=60) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            with error:
                return error.code, error.read()

    def _request(self, method: str, path: str, data: bytes | None) -> Request:
        request = Request(f"{self.url}/{path}", data, method=method)
        if self.user is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(self.user.encode()).decode()}")
        return request

    def store(self, path: Path) -> None:
        """Takes in one file over the REST interface."""
        status, answer = self.ask("POST", "instances", path.read_bytes())
        assert status == 200
        assert json.loads(answer)["Status"] in {"Success", "AlreadyStored"}

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
            found[uid] = self.ask("GET", f"instances/{name}/file")[1]
        return found
