"""`dicom-ai-node route`: what the node would do with these files, and why; nothing is done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dicom_ai_node.config import load_settings

if TYPE_CHECKING:
    from dicom_ai_node.intake.router import SeriesRoute

PathsArgument = Annotated[
    list[Path], typer.Argument(metavar="PATH...", exists=True, help="DICOM files and folders of them.")
]
_SHOWN_FILES = 10


def command(
    paths: PathsArgument,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the decisions to this file.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="The node.toml whose rules apply.")] = None,
) -> None:
    """Say which pipeline each series among PATH would go to, and why."""
    from dicom_ai_node.intake.router import route_files  # noqa: PLC0415 - the help text does not need it

    found = route_files(paths, load_settings(config))
    if json_file is not None:
        json_file.write_text(json.dumps([route_to_dict(item) for item in found], indent=2) + "\n", "utf-8")
    console = Console(highlight=False, soft_wrap=True)
    if not found:
        console.print("no files")
    for item in found:
        _print(console, item)


def route_to_dict(item: SeriesRoute) -> dict[str, Any]:
    """A decision as plain JSON types."""
    decision = item.decision
    return {
        "study_instance_uid": item.study_instance_uid,
        "series_instance_uid": item.series_instance_uid,
        "modality": item.modality,
        "description": item.description,
        "files": len(item.paths),
        "pipeline": decision.pipeline,
        "state": None if decision.pipeline else state_without_pipeline(item),
        "reasons": list(decision.reasons),
        "used": len(decision.paths),
        "excluded": [{"instance": instance, "reason": reason} for instance, reason in decision.excluded],
    }


def state_without_pipeline(item: SeriesRoute) -> str:
    """The state that a series ends in that no pipeline takes."""
    return "not-applicable" if item.decision.refusal is None else "not-analysable"


def name_of(item: SeriesRoute) -> str:
    """A series in a few words."""
    if not item.series_instance_uid:
        return f"{len(item.paths)} files that are no readable DICOM instances"
    text = f' "{item.description}"' if item.description else ""
    return f"{item.modality or 'series'}{text}, {len(item.paths)} files, {item.series_instance_uid}"


def _print(console: Console, item: SeriesRoute) -> None:
    decision = item.decision
    verdict = (
        f"[green]{decision.pipeline}[/]"
        if decision.pipeline
        else f"[yellow]{state_without_pipeline(item)}[/]"
    )
    console.print(f"{name_of(item)}\n  -> {verdict}", markup=True)
    for reason in decision.reasons:
        console.print(f"     {reason}", markup=False)
    for instance, reason in decision.excluded[:_SHOWN_FILES]:
        console.print(f"     without {instance}: {reason}", markup=False)
    if len(decision.excluded) > _SHOWN_FILES:
        console.print(f"     and {len(decision.excluded) - _SHOWN_FILES} more (all with --json)")
