"""`dicom-ai-node train`: one network from phantoms or labelled cases to a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.device import Choice, choose_device

if TYPE_CHECKING:
    from dicom_ai_node.training.tasks import TaskRecipe

_HELD_OUT = 8


def recipe_of(task: str) -> TaskRecipe:
    """The recipe of a task.

    Raises:
        ConfigurationError: this version has no such task.
    """
    from dicom_ai_node.training.tasks import PLANNED_TASKS, RECIPES  # noqa: PLC0415 - waits for torch

    if task in RECIPES:
        return RECIPES[task]
    reason = "is not trained by this version" if task in PLANNED_TASKS else "is no task"
    raise ConfigurationError(f"{task} {reason}; there are: {', '.join(RECIPES)}")


def command(  # noqa: PLR0917 - typer makes options of them
    task: Annotated[str, typer.Argument(help="ct-localise, ct-segment or ct-points.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.")],
    data: Annotated[
        str, typer.Option("--data", help="'phantom', or a folder of case-*.npz files (training/cases.py).")
    ] = "phantom",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    minutes: Annotated[float, typer.Option("--minutes", min=0.01, help="How long to train.")] = 90.0,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="Train so many steps instead; repeats exactly.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights and batches.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    pool: Annotated[
        int | None, typer.Option("--pool", min=10, help="How many phantoms to make (default: the recipe's).")
    ] = None,
) -> None:
    """Train TASK and write its bundle; checkpoints lie beside it, in OUT.training."""
    from dicom_ai_node.inference.publish import publish  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.cases import load_cases, split  # noqa: PLC0415
    from dicom_ai_node.training.loop import LoopOptions, train  # noqa: PLC0415
    from dicom_ai_node.training.tasks import phantom_pool  # noqa: PLC0415

    recipe = recipe_of(task)
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"--device is auto, cpu or cuda, not {device!r}")
    choice: Choice = device  # type: ignore[assignment]
    where = choose_device(choice)
    console = Console(highlight=False, soft_wrap=True)
    work = out.with_name(f"{out.name}.training")

    def say(line: str) -> None:
        console.print(line)

    if data == "phantom":
        cases = phantom_pool(recipe, work / "pool", say, pool)
        told = f"{len(cases)} phantoms of this version (seeds from 1000)"
    elif Path(data).is_dir():
        cases = recipe.fitted(load_cases(Path(data)))
        told = f"{len(cases)} cases of the folder {Path(data).name}"
    else:
        raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
    training, held_out = split(cases, _HELD_OUT)
    scores: dict[str, float] = {}
    network = train(
        recipe.build(training, held_out),
        work,
        minutes=minutes,
        device=where,
        options=LoopOptions(seed=seed),
        resume=resume,
        say=say,
        on_validated=lambda _network, values, _step: scores.update(values),
        max_steps=steps,
    )
    metadata = publish(
        recipe,
        network,
        out,
        metrics={f"{len(held_out)} held-out cases": scores},
        trained_on=where.type,
        training_data=told,
        data=data if data == "phantom" else Path(data).name,
        steps=steps,
    )
    console.print(f"{out}: {metadata.name} {metadata.version}, weights {metadata.weights[0].sha256[:12]}…")
