"""How fast a CT is taken in: this node, Orthanc and DCMTK's storescp, all fed by DCMTK's storescu.

400 slices of 512x512 (210 MB) over one association, and over eight at once; seconds from the first
connection to the last release, the median of several rounds. This node and Orthanc write and index; storescp
only writes. Peers that are not installed are left out.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from dicom_ai_node.commands.bench import Measured
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.node.scu import echo

SLICES: Final = 400
ASSOCIATIONS: Final = 8
ROUNDS: Final = 3
_AE_TITLE: Final = "RECEIVER"
_START_SECONDS: Final = 60.0
STORESCU: Final = "/usr/bin/storescu"
_STORESCP: Final = "/usr/bin/storescp"
# DCMTK before 3.6.8 waits 40 ms a message without it.
_NO_DELAY: Final = {"TCP_NODELAY": "1"}


class Place:
    """A receiver on loopback, at a free port."""

    def __init__(self) -> None:
        self.ae_title, self.host, self.port = _AE_TITLE, "127.0.0.1", free_port()


def measure(console: Console) -> Measured:
    """Feed every receiver the same files in turn.

    Raises:
        ConfigurationError: DCMTK's storescu is not installed.
    """
    if not Path(STORESCU).exists():
        raise ConfigurationError(f"{STORESCU} is not there: it feeds all receivers (apt-get install dcmtk)")
    receivers: dict[str, Sequence[str] | None] = {"this node": None}
    orthanc = shutil.which("Orthanc")
    if orthanc is not None:
        receivers["Orthanc"] = (orthanc,)
    if Path(_STORESCP).exists():
        receivers["storescp"] = (_STORESCP,)
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in receivers}
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as text:
        folder = Path(text)
        console.print(f"writing {SLICES} slices")
        parts = _write_series(folder / "series")
        for number in range(ROUNDS):
            for name in receivers:
                for what, groups in (("one association", [_all(parts)]), ("eight associations", parts)):
                    scratch = folder / f"{number}-{name.replace(' ', '-')}-{len(groups)}"
                    took = _feed(name, groups, scratch)
                    seconds[name].setdefault(f"{what}, s", []).append(took)
                    console.print(f"round {number + 1}: {name}, {what}: {took:.2f} s")
                    shutil.rmtree(scratch, ignore_errors=True)
    medians = {
        name: {what: statistics.median(values) for what, values in found.items()}
        for name, found in seconds.items()
    }
    ours = medians.pop("this node")
    ratios = {
        f"{name}, {what.removesuffix(', s')}, times ours": values[what] / ours[what]
        for name, values in medians.items()
        for what in values
    }
    return Measured("ingest", ours, medians, ratios)


def _write_series(folder: Path) -> list[list[Path]]:
    """The files, in as many folders as there are associations."""
    from dicom_ai_node.imaging.write_ct import write_ct_series  # noqa: PLC0415

    rng = np.random.default_rng(0)
    voxels = rng.integers(-1000, 1000, (SLICES, 512, 512), dtype=np.int16)
    affine = np.array([[0, 0, 0.8, 0], [0, 0.8, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    paths = write_ct_series(voxels, affine, folder, seed=0)
    parts: list[list[Path]] = []
    for number in range(ASSOCIATIONS):
        part = folder / f"part-{number}"
        part.mkdir()
        parts.append([path.rename(part / path.name) for path in paths[number::ASSOCIATIONS]])
    return parts


def _all(parts: list[list[Path]]) -> list[Path]:
    return [path for part in parts for path in part]


def _feed(name: str, groups: list[list[Path]], scratch: Path) -> float:
    """Seconds that a fresh receiver needs for all groups at once."""
    scratch.mkdir()
    place = Place()
    with _RECEIVERS[name](place, scratch):
        return send(groups, place, name)


def send(groups: Sequence[Sequence[Path]], place: Place, name: str) -> float:
    """Seconds that storescu needs for all groups at once, an association each.

    Raises:
        ConfigurationError: not everything was taken; `name` is what the error calls the receiver.
    """
    began = time.perf_counter()
    senders = [
        subprocess.Popen(  # noqa: S603 - a fixed program, our own files
            [STORESCU, "-aec", place.ae_title, place.host, str(place.port), *map(str, group)],
            env={**os.environ, **_NO_DELAY},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for group in groups
    ]
    codes = [sender.wait() for sender in senders]
    took = time.perf_counter() - began
    if any(codes):
        raise ConfigurationError(f"storescu could not send everything to {name} (exit codes {codes})")
    return took


@contextmanager
def _this_node(place: Place, scratch: Path) -> Iterator[None]:
    config = scratch / "node.toml"
    config.write_text(
        f"""\
[node]
ae_title = "{place.ae_title}"
host = "{place.host}"
port = {place.port}
[routes.ct]
quiet_seconds = 3600.0
trust_header_counts = false
[storage]
folder = "data"
""",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "dicom_ai_node.cli", "serve", "--config", str(config)]
    with running(command, place):
        yield


@contextmanager
def _orthanc(place: Place, scratch: Path) -> Iterator[None]:
    settings = {
        "Name": "bench",
        "StorageDirectory": str(scratch / "storage"),
        "IndexDirectory": str(scratch / "index"),
        "DicomAet": place.ae_title,
        "DicomPort": place.port,
        "HttpServerEnabled": False,
        "RemoteAccessAllowed": False,
        "Plugins": [],
    }
    config = scratch / "orthanc.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    program = shutil.which("Orthanc")
    assert program is not None
    with running([program, str(config)], place):
        yield


@contextmanager
def _storescp(place: Place, scratch: Path) -> Iterator[None]:
    folder = scratch / "storage"
    folder.mkdir()
    command = [_STORESCP, "--fork", "-od", str(folder), "-aet", place.ae_title, str(place.port)]
    with running(command, place):
        yield


_RECEIVERS: Final = {"this node": _this_node, "Orthanc": _orthanc, "storescp": _storescp}


@contextmanager
def running(command: Sequence[str], place: Place) -> Iterator[None]:
    """The receiver's process, from when it answers C-ECHO to the end of the block."""
    process = subprocess.Popen(  # noqa: S603 - the receivers above
        command,
        env={**os.environ, **_NO_DELAY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _listens(place) or echo(place) is not None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"{command[0]} does not answer on port {place.port}")
            time.sleep(0.1)
        yield
    finally:
        # storescp forks: its children are of the same session.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(place: Place) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((place.host, place.port)) == 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
