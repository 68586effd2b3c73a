"""What the tests of the workflow talk to: an archive, a node process with fast steps, small CT series."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import RawDataStorage, Verification

from dicom_ai_node.config import Settings, load_settings
from dicom_ai_node.node.scu import send
from dicom_ai_node.workflow.ledger import Ledger, database_url
from dicom_ai_node.workflow.plan import Summary

SLICES = 15
"""How many slices a series has, if nothing else is said: enough for the router."""

PATIENCE_S = 600.0
"""How long a test waits for what must happen; on a busy machine a node needs its time to start."""

HERE = Path(__file__).resolve().parent


@dataclass
class Archive:
    """A storage SCP that remembers what it was sent, and can be told to refuse."""

    port: int = 0
    received: list[tuple[str, str, bytes]] = field(default_factory=list)
    answer: Callable[[str], int] = lambda _uid: 0x0000
    ae_title: str = "ARCHIVE"
    host: str = "127.0.0.1"
    on_store: Callable[[str], None] = lambda _study_uid: None

    def store(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        status = self.answer(uid)
        if status == 0:
            study_uid = str(event.dataset.StudyInstanceUID)
            self.received.append((uid, study_uid, event.request.DataSet.getvalue()))
            self.on_store(study_uid)
        return status

    def of_study(self, study_uid: str) -> list[tuple[str, bytes]]:
        return [(uid, data) for uid, study, data in self.received if study == study_uid]

    def start(self) -> None:
        self._entity = entity = AE(self.ae_title)
        entity.supported_contexts = AllStoragePresentationContexts
        entity.add_supported_context(RawDataStorage)
        entity.add_supported_context(Verification)
        server = entity.start_server(
            (self.host, self.port), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)]
        )
        assert server is not None
        self.port = server.server_address[1]

    def stop(self) -> None:
        # Associations too: one whose caller was killed would keep its socket open.
        self._entity.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ct_series(
    folder: Path, number: int, *, slices: int = SLICES, words: str = "", first: int = 0
) -> list[Path]:
    """Axial CT slices of 16x16 pixels, 5 mm apart: enough for the router, nothing for a radiologist."""
    folder.mkdir(parents=True, exist_ok=True)
    root = f"1.2.826.0.1.3680043.8.498.{number}"
    return [_ct_slice(folder, root, index, words) for index in range(first, first + slices)]


def _ct_slice(folder: Path, root: str, index: int, words: str) -> Path:
    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"{root}.3.{index + 1}"
    image.StudyInstanceUID, image.SeriesInstanceUID = f"{root}.1", f"{root}.2"
    image.FrameOfReferenceUID = f"{root}.4"
    image.Modality, image.SeriesDescription = "CT", words
    image.PatientID, image.PatientName = "P1", "Test^Spine"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-8, -8, 5.8 * index]
    image.PixelSpacing, image.SliceThickness = [1, 1], 5
    image.SeriesNumber, image.InstanceNumber = 1, index + 1
    image.Rows = image.Columns = 16
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
    image.RescaleSlope, image.RescaleIntercept = 1, 0
    image.PixelData = np.full((16, 16), index, np.int16).tobytes()
    image.file_meta = FileMetaDataset()
    image.file_meta.MediaStorageSOPClassUID = CTImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{index:04}.dcm"
    image.save_as(path, enforce_file_format=True)
    return path


def study_uid(paths: Sequence[Path]) -> str:
    return str(dcmread(paths[0], stop_before_pixels=True).StudyInstanceUID)


class NodeProcess:
    """`serve` in a process of its own, with its log lines as they come.

    Args:
        config: its node.toml.
        reborn: started again and again: forked from a process that has imported everything.
    """

    def __init__(self, config: Path, *, reborn: bool = False) -> None:
        self.config = config
        self.settings: Settings = load_settings(config)
        self.host, self.port = "127.0.0.1", self.settings.node.port
        self.ae_title = self.settings.node.ae_title
        self.lines: list[dict[str, Any]] = []
        self.pid = 0
        self.kills = 0
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._reborn = reborn
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the node; returns before it listens (`wait_for("ready")`)."""
        self._events = queue.SimpleQueue()
        if self._process is None:
            self._launch()
        assert self._process is not None
        self.pid = self._process.pid
        if self._reborn:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write("start\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            while not line.strip().isdigit():
                line = self._process.stdout.readline()
            self.pid = int(line)

    def _launch(self) -> None:
        command = [sys.executable, str(HERE / "fast_node.py"), str(self.config)]
        self._process = subprocess.Popen(
            [*command, "nursery"] if self._reborn else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _search_path(), "OMP_NUM_THREADS": "1"},
        )
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,), daemon=True)
        self._reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            try:
                said = json.loads(line)
            except ValueError:
                said = {"event": "not json", "line": line}
            self.lines.append(said)
            self._events.put(said)

    def wait_for(self, event: str, timeout_s: float = PATIENCE_S, **values: Any) -> dict[str, Any]:
        """The next log line of that event (with these values) since the last start."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                said = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                shown = "\n".join(map(str, self.lines[-20:]))
                raise AssertionError(f"no log line {event!r} {values} in {timeout_s} s:\n{shown}") from None
            if said["event"] == event and all(said.get(key) == value for key, value in values.items()):
                return said

    def kill(self) -> None:
        """End the node as a power cut would."""
        if self.pid == 0:
            return
        self.kills += 1
        os.kill(self.pid, signal.SIGKILL)
        self.pid = 0
        if not self._reborn:
            self.close()

    def terminate(self) -> int:
        """Ask the node to stop; returns its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout=PATIENCE_S)
        self.close()
        return code

    def close(self) -> None:
        """End whatever still runs."""
        if self._process is None:
            return
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait(timeout=PATIENCE_S)
        self._reader.join(timeout=10)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._process = None
        outside = [line for line in self.lines if line["event"] == "outside"]
        assert not outside, f"the node reached for other machines: {outside}"

    def send(self, paths: Sequence[Path]) -> None:
        left = self.offer(paths)
        assert not left, f"not taken: {left}"

    def offer(self, paths: Sequence[Path]) -> list[Path]:
        """Send; returns what the node has not acknowledged, as it may die meanwhile."""
        outcomes = send(paths, self) if paths else []
        return [path for path, outcome in zip(paths, outcomes, strict=True) if not outcome.stored]

    def summaries(self) -> list[Summary]:
        with Ledger(database_url(self.settings)) as ledger:
            return ledger.summaries()

    def wait_until_concluded(self, jobs: int = 1) -> list[Summary]:
        """Wait until there are that many jobs and all have ended."""
        return self.wait_until(
            lambda found: len(found) >= jobs and all(item.state is not None for item in found)
        )

    def wait_until(self, true_of: Callable[[list[Summary]], bool]) -> list[Summary]:
        """Wait until the record is as a test expects it."""
        deadline = time.monotonic() + PATIENCE_S
        while not Path(database_url(self.settings).removeprefix("sqlite:///")).exists():
            time.sleep(0.1)
        with Ledger(database_url(self.settings)) as ledger:
            while not true_of(found := ledger.summaries()):
                if time.monotonic() > deadline:
                    shown = "\n".join(map(str, [*found, *self.lines[-40:]]))
                    raise AssertionError(f"not so within {PATIENCE_S} s:\n{shown}")
                # The node may need the processor more than we do.
                time.sleep(0.5)
        return found


def _search_path() -> str:
    """Where the node finds `fast_steps`, and the package where we find it."""
    return os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


def write_config(
    folder: Path,
    archives: Sequence[Any],
    *,
    quiet_seconds: float = 2.0,
    analysis_attempts: int = 3,
    retry_attempts: int = 3,
    retry_first_seconds: float = 0.2,
    max_instance_mb: int = 2048,
    more: str = "",
) -> Path:
    """A node.toml with short waits and `more`; the archives are destinations `archive-0`, `archive-1`, ..."""
    lines = [
        "[node]",
        f"port = {free_port()}",
        'host = "127.0.0.1"',
        f"max_instance_mb = {max_instance_mb}",
        "[routes.ct]",
        f"quiet_seconds = {quiet_seconds}",
        "[routes.other]",
        f"quiet_seconds = {quiet_seconds}",
        "[storage]",
        'folder = "data"',
        "minimum_free_mb = 1",
        "[workflow]",
        "analysis_retry_seconds = 0.1",
        f"analysis_attempts = {analysis_attempts}",
    ]
    for number, archive in enumerate(archives):
        lines += [
            "[[destinations]]",
            f'name = "archive-{number}"',
            f'ae_title = "{archive.ae_title}"',
            'host = "127.0.0.1"',
            f"port = {archive.port}",
            f"retry_attempts = {retry_attempts}",
            f"retry_first_seconds = {retry_first_seconds}",
            "timeout_seconds = 60.0",
        ]
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "node.toml"
    config.write_text("\n".join([*lines, more]), encoding="utf-8")
    return config
