"""What `deploy/orthanc/spine_node.py` costs an Orthanc: storing and answering, with the plugin and without.

The same CT series are sent by DCMTK's storescu to a fresh Orthanc with the plugin and to one without, in
turn, and its REST interface is asked. First the plugin has nothing to do, as nothing is stable yet; then it
hands over what came first to a node on this machine, while more comes. The series are too short to be
analysed, since an analysis takes the processor from both. Medians of several rounds.
"""

from __future__ import annotations

import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from dicom_ai_node.commands.bench import Measured
from dicom_ai_node.commands.bench_ingest import STORESCU, Place, free_port, running, send
from dicom_ai_node.errors import ConfigurationError

SERIES: Final = 6
"""How many series come each time."""
SLICES: Final = 10
"""Fewer than a CT needs to be analysed."""
ROUNDS: Final = 5
REQUESTS: Final = 300
PLUGIN: Final = Path("/usr/share/orthanc/plugins/libOrthancPython.so")
SCRIPT: Final = Path(__file__).parent.parent.parent / "deploy" / "orthanc" / "spine_node.py"
STABLE_SECONDS: Final = 10
"""Long enough for the first measurements."""
_TOKEN: Final = "the-token-of-a-bench"  # noqa: S105 - of a node that lives for a minute, on loopback
_ANSWER_SECONDS: Final = 120.0


def measure(console: Console) -> Measured:
    """Feed and ask both in turn.

    Raises:
        ConfigurationError: Orthanc, its Python plugin, DCMTK's storescu or the plugin's script is not there.
    """
    orthanc = shutil.which("Orthanc")
    for path, where in ((orthanc, "orthanc"), (PLUGIN, "orthanc-python"), (STORESCU, "dcmtk"), (SCRIPT, "")):
        if path is None or not Path(path).exists():
            way = f"apt-get install {where}" if where else "run this in a checkout of the project"
            raise ConfigurationError(f"{path or where} is not there: {way}")
    found: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    with tempfile.TemporaryDirectory(prefix="bench-orthanc-") as text, ExitStack() as stack:
        folder = Path(text)
        first, second = (_write(folder / name, seed) for name, seed in (("first", 0), ("second", 1000)))
        url = stack.enter_context(_node(folder))
        for number in range(ROUNDS):
            for plugin in (True, False) if number % 2 else (False, True):
                scratch = folder / f"{number}-{plugin}"
                values = _round(str(orthanc), scratch, url if plugin else None, first, second)
                for name, value in values.items():
                    found[plugin].setdefault(name, []).append(value)
                told = ", ".join(f"{name} {value:.2f}" for name, value in values.items())
                console.print(f"round {number + 1}, {'with' if plugin else 'without'}: {told}", markup=False)
                shutil.rmtree(scratch, ignore_errors=True)
    ours, plain = (
        {name: statistics.median(values) for name, values in found[p].items()} for p in (True, False)
    )
    ratios = {f"{name.removesuffix(', ms')}, with to without": ours[name] / plain[name] for name in ours}
    return Measured("orthanc", ours, {"Orthanc without it": plain}, ratios)


def _write(folder: Path, seed: int) -> list[Path]:
    from dicom_ai_node.imaging.write_ct import write_ct_series  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    affine = np.array([[0, 0, 0.8, 0], [0, 0.8, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]], dtype=np.float64)
    paths: list[Path] = []
    for number in range(SERIES):
        voxels = rng.integers(-1000, 1000, (SLICES, 512, 512), dtype=np.int16)
        paths += write_ct_series(voxels, affine, folder / str(number), seed=seed + number)
    return paths


def _round(
    orthanc: str, scratch: Path, node_url: str | None, first: Sequence[Path], second: Sequence[Path]
) -> dict[str, float]:
    place, port = Place(), free_port()
    with _orthanc(orthanc, place, port, scratch, node_url):
        values = {"C-STORE, ms": _store(place, first), **_ask(port, "")}
        if node_url is not None:
            _wait_until_busy(port)
        values |= _ask(port, " while series are handed over")
        values["C-STORE while series are handed over, ms"] = _store(place, second)
    return values


def _store(place: Place, paths: Sequence[Path]) -> float:
    """Milliseconds an instance."""
    return 1000.0 * send([list(paths)], place, "Orthanc") / len(paths)


def _ask(port: int, when: str) -> dict[str, float]:
    """Median milliseconds of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    times: dict[str, list[float]] = {"/system": [], "/series?expand": []}
    for _ in range(REQUESTS):
        for path, took in times.items():
            began = time.perf_counter()
            connection.request("GET", path)
            connection.getresponse().read()
            took.append(1000.0 * (time.perf_counter() - began))
    connection.close()
    return {f"GET {path}{when}, ms": statistics.median(took) for path, took in times.items()}


def _wait_until_busy(port: int) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/spine/status")
        status: dict[str, Any] = json.loads(connection.getresponse().read())
        connection.close()
        if status["queue"]["series"]:
            return
        time.sleep(0.02)
    raise ConfigurationError(f"the plugin hands nothing over: {status}")


@contextmanager
def _orthanc(program: str, place: Place, port: int, scratch: Path, node_url: str | None) -> Iterator[None]:
    scratch.mkdir()
    settings: dict[str, Any] = {
        "Name": "bench",
        "StorageDirectory": str(scratch / "storage"),
        "IndexDirectory": str(scratch / "index"),
        "DicomAet": place.ae_title,
        "DicomPort": place.port,
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "StableAge": STABLE_SECONDS,
        "Plugins": [],
    }
    if node_url is not None:
        settings["Plugins"] = [str(PLUGIN)]
        settings["PythonScript"] = str(SCRIPT)
        settings["SpineNode"] = {"Url": node_url, "Token": _TOKEN}
    config = scratch / "orthanc.json"
    config.write_text(json.dumps(settings), encoding="utf-8")
    with running([program, str(config)], place):
        yield


@contextmanager
def _node(folder: Path) -> Iterator[str]:
    place, port = Place(), free_port()
    config = folder / "node.toml"
    config.write_text(
        f"""\
[node]
host = "127.0.0.1"
port = {place.port}
[http]
enabled = true
port = {port}
token = "{_TOKEN}"
[storage]
folder = "data"
minimum_free_mb = 100
""",
        encoding="utf-8",
    )
    node = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", "dicom_ai_node.cli", "serve", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert node.stdout is not None
        if not node.stdout.readline().startswith("ready:"):
            raise ConfigurationError("the node of the bench does not start; see `dicom-ai-node doctor`")
        yield f"http://127.0.0.1:{port}"
    finally:
        node.terminate()
        node.wait(timeout=60)
        assert node.stdout is not None
        node.stdout.close()
