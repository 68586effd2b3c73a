"""`dicom-ai-node demo`: node and small archive on loopback, one spine study through both, findings on screen.

Node and archive are processes of their own, as they would be in a hospital; the study goes to the node by
C-STORE, and what is shown is what came back. Nothing outside this machine is reached.
"""

from __future__ import annotations

import itertools
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.findings import findings_table, in_one_line
from dicom_ai_node.commands.progress import showing_progress
from dicom_ai_node.errors import ConfigurationError, NodeError

SEED: Final = 5
FRACTURES: Final = {Level.L1: ("wedge", 2), Level.L3: ("biconcave", 1)}
"""What the phantom of the demonstration has."""

_AE_TITLE: Final = "DICOM_AI"
_MARK: Final = ".dicom-ai-node-demo"
_QUIET_SECONDS: Final = 2.0
_NOT_ANALYSABLE: Final = 3
_LAST_LINES: Final = 20
_INTEREST: Final = ("delivered", "committed", "not-analysable", "failed", "not-applicable")


def command(
    keep: Annotated[
        Path | None, typer.Option("--keep", file_okay=False, help="Folder for study, results and archive.")
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            "--study", exists=True, help="Folder with your own CT or radiograph; left out: a phantom."
        ),
    ] = None,
) -> None:
    """Send one spine study through node and archive on this machine, and show what comes back."""
    console = Console(highlight=False, soft_wrap=True)
    folder = _folder(keep)
    paths = _files(study) if study is not None else _phantom(folder / "study", console)
    with ExitStack() as stack:
        archive_port = stack.enter_context(_archive(folder / "archive"))
        node = stack.enter_context(_node(folder, archive_port))
        ended = _run(node, paths, console)
    _show(folder, ended, console)
    if ended["state"] == "not-analysable":
        raise typer.Exit(_NOT_ANALYSABLE)
    if ended["state"] != "delivered":
        raise NodeError(f"the study ended as {ended['state']}: {ended['reason']}")


@dataclass(frozen=True)
class _NodeProcess:
    """The running node: where it listens, and its log lines (None: it ended)."""

    port: int
    lines: queue.SimpleQueue[dict[str, Any] | None]
    ae_title: str = _AE_TITLE
    host: str = "127.0.0.1"


def _folder(keep: Path | None) -> Path:
    """The folder of this demonstration, emptied of an earlier one but for the phantom."""
    if keep is None:
        folder = Path(tempfile.mkdtemp(prefix="dicom-ai-node-demo-"))
    else:
        folder = keep.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / _MARK).exists():
            raise ConfigurationError(f"--keep: {folder} holds other files; name a new folder")
    (folder / _MARK).touch()
    for name in ("archive", "node"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return folder


def _files(study: Path) -> list[Path]:
    """The files of the user's study that are DICOM instances."""
    from dicom_ai_node.errors import UnreadableInstance  # noqa: PLC0415
    from dicom_ai_node.intake.headers import read_instance  # noqa: PLC0415

    found = []
    for path in sorted(study.rglob("*")) if study.is_dir() else [study]:
        if path.is_file():
            try:
                read_instance(path)
            except UnreadableInstance:
                continue
            found.append(path)
    if not found:
        raise ConfigurationError(f"--study: there is no DICOM file in {study}")
    return found


def _phantom(folder: Path, console: Console) -> list[Path]:
    """The phantom's CT; made once in a folder that is kept."""
    from dicom_ai_node.commands.phantom_ct import write_ct_case  # noqa: PLC0415 - loads torch
    from dicom_ai_node.commands.phantom_person import PersonWish  # noqa: PLC0415

    if not (folder / "labels.nii.gz").exists():
        shutil.rmtree(folder, ignore_errors=True)
        with console.status("making a spine CT"):
            line = write_ct_case(folder, SEED, PersonWish(dict(FRACTURES)))  # type: ignore[arg-type]
        console.print(f"study: {line}", markup=False)
    else:
        console.print(f"study: {folder} (made before)", markup=False)
    return sorted((folder / "dicom").glob("*"))


@contextmanager
def _archive(folder: Path) -> Iterator[int]:
    """The archive's process; yields its port."""
    process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-m", "dicom_ai_node.commands.demo_archive", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise NodeError(f"the demonstration's archive did not start (exit code {process.wait()})")
        yield int(line)
    finally:
        process.kill()
        process.communicate()


@contextmanager
def _node(folder: Path, archive_port: int) -> Iterator[_NodeProcess]:
    """The node's process, ready to receive."""
    config = folder / "node.toml"
    config.write_text(_config(archive_port), encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
        [sys.executable, "-m", "dicom_ai_node.cli", "serve", "--config", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    reader = threading.Thread(
        target=_read, args=(process.stderr, folder / "node.log", lines), name="node-log", daemon=True
    )
    reader.start()
    try:
        ready = _wait(lines, "ready", folder / "node.log")
        yield _NodeProcess(int(ready["port"]), lines)
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
        reader.join(timeout=5)
        assert process.stderr is not None
        process.stderr.close()


def _config(archive_port: int) -> str:
    return f"""\
# The node of `dicom-ai-node demo`; deploy/node.toml explains every setting.
[node]
ae_title = "{_AE_TITLE}"
host = "127.0.0.1"
port = 0

[routes.ct]
quiet_seconds = {_QUIET_SECONDS}

[routes.radiograph]
quiet_seconds = {_QUIET_SECONDS}

[routes.other]
quiet_seconds = {_QUIET_SECONDS}

[[destinations]]
name = "demo"
ae_title = "DEMO_ARCHIVE"
host = "127.0.0.1"
port = {archive_port}
retry_attempts = 3

[storage]
folder = "node"
minimum_free_mb = 100
"""


def _read(stream: Any, log: Path, lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    with log.open("w", encoding="utf-8") as copy:
        for line in stream:
            copy.write(line)
            copy.flush()
            try:
                said = json.loads(line)
            except ValueError:
                continue
            lines.put(said)
    lines.put(None)


def _wait(lines: queue.SimpleQueue[dict[str, Any] | None], event: str, log: Path) -> dict[str, Any]:
    while (said := lines.get()) is not None:
        if said["event"] == event:
            return said
    last = "\n".join(log.read_text(encoding="utf-8").splitlines()[-_LAST_LINES:])
    raise NodeError(f"the node ended before it was {event}; its last words ({log}):\n{last}")


def _run(node: _NodeProcess, paths: Sequence[Path], console: Console) -> dict[str, Any]:
    """Send the study and follow the node's log; returns the conclusion of its most telling series."""
    from dicom_ai_node.intake.headers import read_instance  # noqa: PLC0415
    from dicom_ai_node.node.scu import Sender  # noqa: PLC0415

    series = len({read_instance(path).header.get("SeriesInstanceUID") for path in paths})

    with showing_progress(console) as show:
        with Sender(paths, node, calling_ae_title="DEMO_SENDER") as sender:
            for number, path in enumerate(paths, start=1):
                outcome = sender.store(path)
                if not outcome.stored:
                    raise NodeError(f"the node did not take {path.name}: {outcome.text}")
                show("send", number / len(paths))
        concluded: dict[str, dict[str, Any]] = {}
        while (said := node.lines.get()) is not None:
            match said["event"]:
                case "progress":
                    show(str(said["step"]), float(said["done"]))
                case "step":
                    show(str(said["step"]), 0.0)
                case "concluded":
                    concluded[str(said["job"])] = said
                    if len(concluded) == series:
                        return min(concluded.values(), key=lambda item: _INTEREST.index(item["state"]))
    raise NodeError("the node ended before the study did; see node.log in the folder of --keep")


def _show(folder: Path, ended: dict[str, Any], console: Console) -> None:
    from dicom_ai_node.report import SpineReport  # noqa: PLC0415

    results = folder / "node" / "results" / str(ended["job"]) / "results"
    reports = _of_films(results, "report.json")
    if not reports:
        console.print(f"the study ended as {ended['state']}: {ended['reason']}", markup=False)
        return
    for path in reports:
        report = SpineReport.from_json(path.read_text(encoding="utf-8"))
        if report.vertebrae:
            console.print(findings_table(report))
        console.print(in_one_line(report), markup=False)
        for limitation in report.limitations:
            console.print(f"note: {limitation.text}", markup=False)
    console.print(f"results:  {results}", markup=False)
    for path in sorted((folder / "archive").glob("*.dcm")):
        console.print(f"archived: {path}", markup=False)
    for path in _of_films(results, "overlay.png"):
        console.print(f"picture:  {path}", markup=False)


def _of_films(results: Path, name: str) -> list[Path]:
    """The file of that name, and those of further lateral films of the series, as far as there are any."""
    from dicom_ai_node.workflow.handover import in_film  # noqa: PLC0415

    paths = (results / in_film(name, film) for film in itertools.count(1))
    return list(itertools.takewhile(Path.exists, paths))
