"""`dicom-ai-node process`: files in, result files out, without a network and without a record.

Every series among the files goes through the same router, pipeline, encoders and validators as in the node.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from dicom_ai_node.config import Settings, load_settings
from dicom_ai_node.errors import ConfigurationError, InputError, NotAnalysable

if TYPE_CHECKING:
    from dicom_ai_node.intake.router import SeriesRoute
    from dicom_ai_node.report import SpineReport
    from dicom_ai_node.workflow.steps import Steps

NOT_ANALYSABLE = 3


@dataclass(frozen=True)
class Processed:
    """One series that was looked at, and the folder with what came of it.

    Attributes:
        further: reports of the other lateral films of a series of films; their files begin with `film-2-`.
    """

    folder: Path
    report: SpineReport
    further: tuple[SpineReport, ...] = ()

    @property
    def reports(self) -> tuple[SpineReport, ...]:
        """All that was said of the series."""
        return (self.report, *self.further)


def command(
    *,
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", exists=True, help="DICOM files and folders of them.")
    ],
    out: Annotated[Path, typer.Option("--out", file_okay=False, help="Folder for the results.")],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the list of all reports to this file.")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"] | None, typer.Option("--device", help="Where the networks compute.")
    ] = None,
    capture: Annotated[
        bool, typer.Option("--capture", help="Write the overview as Secondary Capture too (sc-1.dcm).")
    ] = False,
    config: Annotated[Path | None, typer.Option("--config", help="The node.toml whose rules apply.")] = None,
) -> None:
    """Analyse the spine series among PATH; exits with 3 where none could be analysed (the report says why).

    Writes one folder per series, named by modality and number (ct-1): report.json, sr.dcm, seg.dcm,
    pr-<n>.dcm, reformat.dcm, overlay.png, and the report of one page as report.html and report.pdf. Every
    lateral film of a series has its own: the second's are film-2-report.json, film-2-sr.dcm, and so on.
    """
    settings = with_device(load_settings(config), device)
    console = Console(highlight=False, soft_wrap=True)
    done = process(paths, out, settings, console, capture=capture)
    if json_file is not None:
        reports = [report.to_dict() for item in done for report in item.reports]
        json_file.write_text(json.dumps(reports, indent=2, allow_nan=False) + "\n", "utf-8")
    if not any(item.report.status == "analysed" for item in done):
        raise typer.Exit(NOT_ANALYSABLE)


def process(
    paths: Sequence[Path], out: Path, settings: Settings, console: Console, *, capture: bool = False
) -> list[Processed]:
    """Analyse every series among `paths` and write its results below `out`, saying so on `console`.

    Raises:
        ModelError, EncodingError: the fault is the node's, not the input's.
    """
    from dicom_ai_node.commands.findings import findings_table, in_one_line  # noqa: PLC0415
    from dicom_ai_node.commands.progress import showing_progress  # noqa: PLC0415
    from dicom_ai_node.commands.route import name_of  # noqa: PLC0415
    from dicom_ai_node.intake.router import route_files  # noqa: PLC0415

    routes = route_files(paths, settings)
    steps: Steps | None = None
    done: list[Processed] = []
    folders = _folders(out)
    for item in routes:
        if item.decision.pipeline is None and item.decision.refusal is None:
            console.print(
                f"{name_of(item)}: not applicable: {'; '.join(item.decision.reasons)}", markup=False
            )
            continue
        console.print(name_of(item), markup=False)
        if steps is None:
            # torch and the models take seconds to load: only when there is something to do
            steps = _steps(settings, capture=capture)
        with showing_progress(console) as show:
            processed = process_series(item, folders(item.modality), steps, show)
        done.append(processed)
        for report in processed.reports:
            if report.vertebrae:
                console.print(findings_table(report))
            for limitation in report.limitations:
                console.print(f"note: {limitation.text}", markup=False)
            console.print(in_one_line(report), markup=False)
        console.print(f"results: {processed.folder}", markup=False)
    if not routes:
        console.print("no files")
    return done


def process_series(
    item: SeriesRoute, folder: Path, steps: Steps, progress: Callable[[str, float], None]
) -> Processed:
    """Analyse, encode and validate one series into `folder`; input of no use becomes a report."""
    from dicom_ai_node.workflow.handover import whole_folder  # noqa: PLC0415
    from dicom_ai_node.workflow.steps import refused, with_limitation  # noqa: PLC0415

    decision = item.decision
    used = decision.paths or item.paths
    try:
        if decision.pipeline is None:
            assert decision.refusal is not None
            raise NotAnalysable(decision.refusal.code, decision.refusal.text)
        analysis, source = steps.analyse(decision.pipeline, used, progress)
        analysis = steps.compare(analysis, used)
    except InputError as error:
        analysis, source = refused(error, used, item.modality), steps.source(used)
    analysis = with_limitation(analysis, decision.reasons[-1] if decision.excluded else "")
    progress("encode", 0.0)
    with whole_folder(folder) as part:
        objects = steps.encode(analysis, source, part)
        progress("validate", 0.5)
        steps.validate(objects)
    progress("done", 1.0)
    return Processed(folder, analysis.report, tuple(film.report for film in analysis.further))


def with_device(settings: Settings, device: Literal["auto", "cpu", "cuda"] | None) -> Settings:
    """The settings with another device than their own, where one is named."""
    if device is None:
        return settings
    return settings.model_copy(update={"models": settings.models.model_copy(update={"device": device})})


def _steps(settings: Settings, *, capture: bool) -> Steps:
    from dicom_ai_node.workflow.steps import node_steps  # noqa: PLC0415

    return node_steps(settings, secondary_capture=capture, page=True)


def _folders(out: Path) -> Callable[[str], Path]:
    """Names the next folder of a modality. Results of an earlier call are replaced, nothing else is."""
    counts: Counter[str] = Counter()

    def next_folder(modality: str) -> Path:
        kind = "".join(sign for sign in modality.lower() if sign.isalnum()) or "series"
        counts[kind] += 1
        folder = out / f"{kind}-{counts[kind]}"
        if folder.exists() and any(folder.iterdir()) and not (folder / "report.json").exists():
            raise ConfigurationError(f"--out: {folder} holds other files than results; name another folder")
        return folder

    return next_folder
