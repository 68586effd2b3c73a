"""`dicom-ai-node bench`: how fast this machine is, beside peers that do the same in the same run."""

from __future__ import annotations

import json
import os
import platform
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from rich.console import Console
from rich.table import Table

from dicom_ai_node.config import Settings, load_settings
from dicom_ai_node.errors import ConfigurationError, ModelError

if TYPE_CHECKING:
    from dicom_ai_node.intake.router import SeriesRoute
    from dicom_ai_node.workflow.steps import Steps

BENCHES: Final[Mapping[str, str]] = {
    "ingest": "dicom_ai_node.commands.bench_ingest",
    "ct": "dicom_ai_node.commands.bench_ct",
    "radiograph": "dicom_ai_node.commands.bench_radiograph",
    "mri": "dicom_ai_node.commands.bench_mri",
    "phantom": "dicom_ai_node.commands.bench_phantom",
    "orthanc": "dicom_ai_node.commands.bench_orthanc",
    "encode": "dicom_ai_node.commands.bench_encode",
}
"""Each is a module with a function `measure(console) -> Measured`; that of ct takes options."""

Values = Mapping[str, float]


@dataclass(frozen=True)
class Measured:
    """What one bench found: our values, those of each peer, and how many times faster we are."""

    name: str
    ours: Values
    peers: Mapping[str, Values] = field(default_factory=dict)
    ratios: Values = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As `--json` writes it."""
        return {
            "name": self.name,
            "machine": machine(),
            "ours": dict(self.ours),
            "peers": {name: dict(values) for name, values in self.peers.items()},
            "ratios": dict(self.ratios),
        }


class Stages:
    """Seconds per stage; told of progress, a stage lasts until another one is named."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._current: tuple[str, float] | None = None

    def __call__(self, stage: str, done: float) -> None:  # noqa: ARG002 - only the name counts
        now = time.perf_counter()
        if self._current is not None:
            name, since = self._current
            self.seconds[name] = self.seconds.get(name, 0.0) + now - since
        self._current = (stage, now)


def process_twice(what: str, routed: SeriesRoute, folder: Path, steps: Steps) -> dict[str, float]:
    """Seconds of one series from files to validated results, whole and per stage.

    The first pass loads models and compiles, the second is what a node sees.
    """
    from dicom_ai_node.commands.process import process_series  # noqa: PLC0415 - loads torch

    values: dict[str, float] = {}
    for name in ("first", "second"):
        stages = Stages()
        began = time.perf_counter()
        done = process_series(routed, folder / name, steps, stages)
        whole = time.perf_counter() - began
        if name == "first":
            values[f"first {what} with loading, s"] = whole
            continue
        values[f"{what}, s"] = whole
        values |= {f"{stage}, s": seconds for stage, seconds in stages.seconds.items()}
        values["vertebrae"] = float(len(done.report.vertebrae))
    return values


def switched_on(route: str) -> Settings:
    """The defaults with one route switched on, whatever it is by default."""
    given = load_settings(None)
    on = getattr(given.routes, route).model_copy(update={"enabled": True})
    return given.model_copy(update={"routes": given.routes.model_copy(update={route: on})})


def peak_memory_gb() -> float:
    """The most memory that this process held at once so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"One of {', '.join(BENCHES)}, or all.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
    windows: Annotated[
        int, typer.Option("--windows", min=0, help="ct: windows of the peer that are measured; 0: no peer.")
    ] = 2,
    memory_slices: Annotated[
        int,
        typer.Option(
            "--memory-slices", min=0, help="ct: also the peak memory of a series of so many slices, as 1000."
        ),
    ] = 0,
) -> None:
    """Measure one thing beside its peers."""
    if name != "all" and name not in BENCHES:
        raise ConfigurationError(f"there is no bench {name}; there are {', '.join(BENCHES)} and all")
    console = Console(highlight=False, soft_wrap=True)
    found = []
    for chosen in BENCHES if name == "all" else (name,):
        measure = cast("Callable[..., Measured]", import_module(BENCHES[chosen]).measure)
        options = {"windows": windows, "memory_slices": memory_slices} if chosen == "ct" else {}
        try:
            measured = measure(console, **options)
        except ModelError as error:
            # Without its bundles one pipeline cannot be measured; the others can.
            if name != "all":
                raise
            console.print(f"{chosen}: not measured: {error}", markup=False)
            continue
        found.append(measured.to_dict())
        console.print(_table(measured))
        for what, ratio in measured.ratios.items():
            console.print(f"{what}: {ratio:.2f}", markup=False)
    if json_file is not None:
        json_file.write_text(json.dumps(found if name == "all" else found[0], indent=2) + "\n", "utf-8")


def machine() -> str:
    """The machine in a line."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
        names = [
            line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")
        ]
    except OSError:
        names = []
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, load {os.getloadavg()[0]:.1f}"


def _table(measured: Measured) -> Table:
    table = Table(measured.name, "this node", *measured.peers, title=machine(), title_justify="left")
    names = dict.fromkeys([*measured.ours, *(name for peer in measured.peers.values() for name in peer)])
    for name in names:
        row = [measured.ours.get(name), *(peer.get(name) for peer in measured.peers.values())]
        table.add_row(name, *("-" if value is None else f"{value:.2f}" for value in row))
    return table
