"""`dicom-ai-node evaluate`: a bundle, or the whole CT pipeline, against phantoms that no training saw."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from dicom_ai_node.commands.train import recipe_of
from dicom_ai_node.errors import ConfigurationError

if TYPE_CHECKING:
    from dicom_ai_node.training.cases import Case

PIPELINE: Final = "ct-volume"
"""The task that evaluates all three networks together; its bundle is the folder of bundles."""

Rows = list[dict[str, Sequence[float]]]
"""Per case: quantity -> its values, one per vertebra."""


def command(  # noqa: PLR0917 - typer makes options of them
    task: Annotated[str, typer.Argument(help="ct-localise, ct-segment, ct-points, or ct-volume for all.")],
    bundle: Annotated[Path, typer.Option("--bundle", help="The bundle; for ct-volume the models folder.")],
    data: Annotated[
        str, typer.Option("--data", help="'phantom', or a folder of case-*.npz files.")
    ] = "phantom",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    plots: Annotated[Path | None, typer.Option("--plots", help="Draw plots into this folder.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=900, help="How many phantoms.")] = 20,
) -> None:
    """Measure on cases that were not trained on; intervals are 95 %, over cases."""
    from dicom_ai_node.training.metrics import summarise  # noqa: PLC0415 - waits for torch

    console = Console(highlight=False, soft_wrap=True)
    tables: dict[str, Any] = {}
    if task == PIPELINE:
        if data != "phantom":
            raise ConfigurationError("ct-volume is evaluated on --data phantom in this version")
        from dicom_ai_node.commands.evaluate_ct_volume import evaluate_pipeline  # noqa: PLC0415

        rows, tables = evaluate_pipeline(bundle, range(count), console.print, plots)
    else:
        rows = _rows_of_network(task, bundle, data, count, console.print)
    metrics, intervals = summarise(rows)
    table = Table("measure", "value", "95 % interval", box=None)
    for name, value in metrics.items():
        low, high = intervals[name]
        table.add_row(name, f"{value:.4g}", f"{low:.4g} to {high:.4g}")
    console.print(table)
    for name, content in tables.items():
        console.print(f"{name}: {json.dumps(content)}")
    if json_file is not None:
        result = {
            "task": task,
            "bundle": str(bundle),
            "data": data,
            "n": len(rows),
            "metrics": {**metrics, **tables},
            "intervals": {name: list(interval) for name, interval in intervals.items()},
        }
        json_file.write_text(json.dumps(result, indent=2) + "\n", "utf-8")


def _rows_of_network(task: str, bundle: Path, data: str, count: int, say: Callable[[str], None]) -> Rows:
    import torch  # noqa: PLC0415

    from dicom_ai_node.inference.bundle import load_bundle  # noqa: PLC0415
    from dicom_ai_node.training.cases import load_cases  # noqa: PLC0415

    recipe = recipe_of(task)
    network = load_bundle(bundle, torch.device("cpu")).network
    cases: Sequence[Case]
    if data == "phantom":
        cases = _fresh_cases(recipe.pool_spacing_mm, recipe.pool_width_mm, count)
    elif Path(data).is_dir():
        cases = load_cases(Path(data))
    else:
        raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
    rows: Rows = []
    for number, case in enumerate(cases, start=1):
        with torch.inference_mode():
            scores: Mapping[str, float] = recipe.build([], [case]).validate(network)
        rows.append({name: [value] for name, value in scores.items()})
        say(f"{task}: case {number} of {len(cases)}")
    return rows


def _fresh_cases(spacing_mm: float, width_mm: float | None, count: int) -> list[Case]:
    """Realistic phantoms with seeds below those of training."""
    import torch  # noqa: PLC0415

    from dicom_ai_node.phantom.training_cases import render_training_case  # noqa: PLC0415
    from dicom_ai_node.training.cases import Case  # noqa: PLC0415

    made = (
        (seed, render_training_case(seed, spacing_mm, width_mm=width_mm, training=False))
        for seed in range(count)
    )
    return [
        Case(
            f"{seed:05d}",
            torch.from_numpy(case.hu),
            torch.from_numpy(case.labels),
            case.affine,
            dict(case.truth),
        )
        for seed, case in made
    ]
