"""`dicom-ai-node doctor`: is this machine ready, and what is missing. Looks only; changes nothing."""

from __future__ import annotations

import json
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_ai_node.config import Settings, load_settings
from dicom_ai_node.errors import NodeError

Verdict = Literal["ok", "note", "missing"]

VALIDATORS: Final = {"dciodvfy": "dicom3tools", "dcmpschk": "dcmtk", "dsrdump": "dcmtk", "storescu": "dcmtk"}
"""Programs that check results from outside, and the Debian package of each; the node itself needs none."""

_COLOURS: Final[dict[Verdict, str]] = {"ok": "green", "note": "yellow", "missing": "red"}
_FAULT: Final = 1


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `missing` keeps the node from working, `note` is good to know."""

    what: str
    verdict: Verdict
    text: str


def command(
    config: Annotated[Path | None, typer.Option("--config", help="The node.toml of the node.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings to this file.")] = None,
) -> None:
    """Say whether this machine is ready for the node; exits with 1 where something is missing."""
    settings = load_settings(config)
    findings = list(examine(settings))
    table = Table("", "what", "found")
    for finding in findings:
        table.add_row(
            f"[{_COLOURS[finding.verdict]}]{finding.verdict}[/]", escape(finding.what), escape(finding.text)
        )
    console = Console()
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(finding) for finding in findings], indent=2) + "\n", "utf-8")
    missing = [finding.what for finding in findings if finding.verdict == "missing"]
    if missing:
        console.print(f"not ready: {', '.join(missing)}")
        raise typer.Exit(_FAULT)
    console.print("ready")


def examine(settings: Settings) -> Iterator[Finding]:
    """All findings, in the order in which one would mend them."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _python,
        _torch,
        _models,
        _codecs,
        _disk,
        _port,
        _destinations,
        _priors,
        _validators,
    )
    for check in checks:
        try:
            yield from check(settings)
        except (NodeError, OSError, ImportError) as error:
            yield Finding(check.__name__.strip("_"), "missing", str(error))


def _python(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001 - all checks take the settings
    fits = sys.version_info >= (3, 11)
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("Python", "ok" if fits else "missing", text if fits else f"{text}; 3.11 or later is needed")


def _torch(settings: Settings) -> Iterator[Finding]:
    import torch  # noqa: PLC0415 - seconds

    from dicom_ai_node.inference.device import choose_device  # noqa: PLC0415

    yield Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    device = choose_device(settings.models.device)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30
        yield Finding("device", "ok", f"{torch.cuda.get_device_name(device)}, {memory:.0f} GiB")
    else:
        yield Finding("device", "note", "CPU: a study takes minutes rather than seconds")


def _models(settings: Settings) -> Iterator[Finding]:
    from dicom_ai_node.inference.bundle import find_models_dir, verify  # noqa: PLC0415

    folder = find_models_dir(settings.models.models_dir)
    bundles = sorted(path.parent for path in folder.glob("*/metadata.json"))
    if not bundles:
        yield Finding("models", "missing", f"no model bundle in {folder}; set [models] models_dir")
    for bundle in bundles:
        try:
            metadata = verify(bundle)
            yield Finding(f"model {bundle.name}", "ok", f"version {metadata.version}, hashes agree")
        except NodeError as error:
            yield Finding(f"model {bundle.name}", "missing", str(error))


def _codecs(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001
    from dicom_ai_node.node.sop_classes import decodable_transfer_syntaxes  # noqa: PLC0415

    names = [syntax.name for syntax in decodable_transfer_syntaxes()]
    families = {"JPEG 2000": "JPEG 2000", "JPEG-LS": "JPEG-LS", "JPEG": "JPEG Lossless", "RLE": "RLE"}
    without = [family for family, word in families.items() if not any(word in name for name in names)]
    if without:
        yield Finding(
            "codecs", "missing", f"no decoder for {', '.join(without)}; install the locked packages"
        )
    else:
        yield Finding("codecs", "ok", f"{len(names)} transfer syntaxes can be decoded")


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.storage.folder.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_mb = shutil.disk_usage(there).free // 1_000_000
    least = settings.storage.minimum_free_mb
    text = f"{free_mb} MB free for {folder}"
    if free_mb < least:
        yield Finding(
            "disk", "missing", f"{text}, [storage] minimum_free_mb is {least}: all images are refused"
        )
    else:
        roomy = free_mb > 5 * least
        yield Finding("disk", "ok" if roomy else "note", text)


def _port(settings: Settings) -> Iterator[Finding]:
    node = settings.node
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((node.host, node.port))
            yield Finding("port", "ok", f"{node.host}:{node.port} is free for {node.ae_title}")
        except PermissionError:
            text = (
                f"{node.host}:{node.port} needs rights that this user does not have; choose one from 1024 on"
            )
            yield Finding("port", "missing", text)
        except OSError as error:
            text = f"{node.host}:{node.port}: {error.strerror} (a running node holds it itself)"
            yield Finding("port", "note", text)


def _destinations(settings: Settings) -> Iterator[Finding]:
    from dicom_ai_node.node.scu import echo  # noqa: PLC0415

    if not settings.destinations:
        text = f"none: results stay in {settings.storage.results_folder}; add [[destinations]]"
        yield Finding("destinations", "note", text)
    for destination in settings.destinations:
        calling = destination.calling_ae_title or settings.node.ae_title
        place = f"{destination.ae_title} at {destination.host}:{destination.port}"
        problem = echo(destination, calling_ae_title=calling)
        if problem is None:
            yield Finding(f"destination {destination.name}", "ok", f"{place} answers C-ECHO")
        else:
            yield Finding(f"destination {destination.name}", "note", problem)


def _priors(settings: Settings) -> Iterator[Finding]:
    from dicom_ai_node.node.scu import echo  # noqa: PLC0415

    priors = settings.priors
    if priors is not None:
        problem = echo(priors, calling_ae_title=priors.calling_ae_title or settings.node.ae_title)
        place = f"{priors.ae_title} at {priors.host}:{priors.port} answers C-ECHO"
        yield Finding("priors", "ok" if problem is None else "note", problem or place)


def _validators(settings: Settings) -> Iterator[Finding]:  # noqa: ARG001
    absent = {program: package for program, package in VALIDATORS.items() if shutil.which(program) is None}
    if absent:
        packages = " ".join(sorted(set(absent.values())))
        text = f"{', '.join(absent)} not installed; only tests need them (apt-get install {packages})"
        yield Finding("validators", "note", text)
    else:
        yield Finding("validators", "ok", ", ".join(VALIDATORS))
