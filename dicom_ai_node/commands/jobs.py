"""`dicom-ai-node jobs`: what became of every series, why, and how to try again."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_ai_node.config import load_settings
from dicom_ai_node.errors import ConfigurationError

if TYPE_CHECKING:
    from dicom_ai_node.workflow.job import Run
    from dicom_ai_node.workflow.ledger import Ledger
    from dicom_ai_node.workflow.plan import Summary

app = typer.Typer(
    help="What became of every series: list, waiting, show, retry.",
    no_args_is_help=True,
    add_completion=False,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The node.toml of the node.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JobArgument = Annotated[str, typer.Argument(help="A job as `list` names it, or as much of it as is unique.")]

_COLOURS = {
    "delivered": "green",
    "committed": "green",
    "not-applicable": "dim",
    "not-analysable": "yellow",
    "failed": "red",
}


@app.command("list")
def list_jobs(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    state: Annotated[str | None, typer.Option("--state", help="Only jobs in this state or phase.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The latest so many jobs.")] = 100,
) -> None:
    """List the latest jobs with their states."""
    with _ledger(config) as ledger:
        found = [item for item in ledger.summaries(limit) if state in (None, item.standing)]
    if as_json:
        typer.echo(json.dumps([item.to_dict() for item in found], indent=2))
        return
    table = Table("job", "state", "received", "from", "images", "reason", title=None)
    for item in found:
        colour = _COLOURS.get(item.standing, "cyan")
        table.add_row(
            _short(item.job.id),
            f"[{colour}]{item.standing}[/]",
            _time(item.created_at),
            escape(item.job.calling_ae_title),
            f"{item.job.instances} {item.job.modality}",
            escape(item.reason or "; ".join(item.job.reasons)),
        )
    Console().print(table if found else "no jobs")


@app.command("waiting")
def list_waiting(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the series that have come and are no job yet, and what they wait for."""
    from dicom_ai_node.workflow.standing import waiting_series  # noqa: PLC0415 - opens the database's library

    settings = load_settings(config)
    with _ledger(config) as ledger:
        found = waiting_series(settings, ledger.summaries(), time.time())
    if as_json:
        typer.echo(json.dumps([asdict(item) for item in found], indent=2))
        return
    table = Table("series", "from", "images", "last came", "waits for")
    for item in found:
        table.add_row(
            item.series_key[:10],
            escape(item.calling_ae_title),
            f"{item.instances} {item.modality}",
            _time(item.last_arrival),
            item.waits_for,
        )
    Console().print(table if found else "nothing waits")


@app.command("show")
def show_job(job: JobArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one job with every run of it."""
    with _ledger(config) as ledger:
        summary = _find(ledger, job)
        runs = ledger.runs(summary.job.id)
    if as_json:
        typer.echo(json.dumps({**summary.to_dict(), "runs": [run.to_dict() for run in runs]}, indent=2))
        return
    console = Console()
    for key, value in summary.to_dict().items():
        if value not in (None, "", {}, []):
            shown = _time(value) if key.endswith("_at") else value
            console.print(f"{key.replace('_', ' ')}: {shown}", highlight=False, soft_wrap=True, markup=False)
    table = Table("round", "run", "attempt", "status", "when", "said")
    for run in runs:
        kind = run.name.kind if run.name.destination is None else f"{run.name.kind} to {run.name.destination}"
        table.add_row(
            str(run.name.round),
            kind,
            str(run.name.attempt),
            run.status,
            _time(run.updated_at),
            escape(_said(run)),
        )
    console.print(table)


@app.command("retry")
def retry_job(job: JobArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Try a failed job again: what is missing is made and sent, what arrived is not sent again."""
    from dicom_ai_node.workflow.plan import retry_of  # noqa: PLC0415 - opens the database's library

    with _ledger(config) as ledger:
        summary = _find(ledger, job)
        again = retry_of(ledger.runs(summary.job.id))
        if again is None:
            raise ConfigurationError(
                f"job {_short(summary.job.id)} is {summary.standing}; only a failed job can be tried again"
            )
        ledger.start(again, summary.job)
        number = again.name.round
    if as_json:
        typer.echo(json.dumps({"job": summary.job.id, "round": number}))
    else:
        typer.echo(f"job {_short(summary.job.id)} will be tried again (round {number})")


def _ledger(config: Path | None) -> Ledger:
    from dicom_ai_node.workflow.ledger import Ledger, database_url  # noqa: PLC0415

    return Ledger(database_url(load_settings(config)))


def _find(ledger: Ledger, text: str) -> Summary:
    found = [
        item for item in ledger.summaries() if item.job.id.startswith(text) or _short(item.job.id) == text
    ]
    if not found:
        raise ConfigurationError(f"there is no job {text}; `dicom-ai-node jobs list` shows all")
    if len(found) > 1:
        names = ", ".join(_short(item.job.id) for item in found[:5])
        raise ConfigurationError(f"{text} may be {names}; give more of it")
    return found[0]


def _short(job_id: str) -> str:
    """The first half of a hash tells series apart; the generation must stay."""
    series_key, _, generation = job_id.rpartition(".")
    return f"{series_key[:10]}.{generation}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _said(run: Run) -> str:
    if run.name.kind == "conclusion":
        return f"{run.arguments['state']}. {run.arguments['reason']}".rstrip()
    if run.output is None:
        return ""
    outcomes: Sequence[dict[str, Any]] | None = run.output.get("outcomes")
    if outcomes is not None:
        return "\n".join(f"{item['file']}: {item['text']}" for item in outcomes)
    return f"{run.output.get('outcome', '')} {run.output.get('reason', '')}".strip()
