"""`dicom-ai-node train`: one network from phantoms or labelled cases to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.device import Choice, choose_device

if TYPE_CHECKING:
    from dicom_ai_node.training.film_recipes import FilmRecipe
    from dicom_ai_node.training.loop import Task
    from dicom_ai_node.training.mri_tasks import MriRecipe
    from dicom_ai_node.training.tasks import TaskRecipe

_HELD_OUT = 8


def recipe_of(task: str, network: str | None = None) -> TaskRecipe | FilmRecipe | MriRecipe:
    """The recipe of a task, on CT, radiographs or MR, with one of the networks that the task knows.

    Raises:
        ConfigurationError: this version has no such task, or the task no such network.
    """
    from dicom_ai_node.training.film_recipes import (  # noqa: PLC0415 - waits for torch
        DETECTORS,
        FILM_RECIPES,
        detect_recipe,
    )
    from dicom_ai_node.training.mri_tasks import MRI_RECIPES  # noqa: PLC0415
    from dicom_ai_node.training.tasks import PLANNED_TASKS, RECIPES  # noqa: PLC0415

    if network is not None:
        if task != "radiograph-detect" or network not in DETECTORS:
            raise ConfigurationError(
                f"--network {network} is none of {task}; radiograph-detect has: {', '.join(DETECTORS)}"
            )
        return detect_recipe(network)
    if task in RECIPES:
        return RECIPES[task]
    if task in FILM_RECIPES:
        return FILM_RECIPES[task]
    if task in MRI_RECIPES:
        return MRI_RECIPES[task]
    reason = "is not trained by this version" if task in PLANNED_TASKS else "is no task"
    raise ConfigurationError(
        f"{task} {reason}; there are: {', '.join([*RECIPES, *FILM_RECIPES, *MRI_RECIPES])}"
    )


def command(  # noqa: PLR0917 - typer makes options of them
    task: Annotated[str, typer.Argument(help="ct-localise, radiograph-detect, ...; a wrong name lists all.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.")],
    data: Annotated[
        str,
        typer.Option(
            "--data", help="'phantom', or a folder of cases or labelled films; mri: 'phantom+FOLDER'."
        ),
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
    network: Annotated[
        str | None, typer.Option("--network", help="radiograph-detect: mask-rcnn, mask-rcnn-small, ...")
    ] = None,
) -> None:
    """Train TASK and write its bundle; checkpoints lie beside it, in OUT.training."""
    from dicom_ai_node.inference.publish import publish  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.film_detect import FilmDetectTask  # noqa: PLC0415
    from dicom_ai_node.training.film_recipes import FilmRecipe  # noqa: PLC0415
    from dicom_ai_node.training.loop import LoopOptions, train  # noqa: PLC0415
    from dicom_ai_node.training.mri_tasks import MriRecipe  # noqa: PLC0415

    recipe = recipe_of(task, network)
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"--device is auto, cpu or cuda, not {device!r}")
    choice: Choice = device  # type: ignore[assignment]
    where = choose_device(choice)
    console = Console(highlight=False, soft_wrap=True)
    work = out.with_name(f"{out.name}.training")

    def say(line: str) -> None:
        console.print(line)

    mixed = isinstance(recipe, MriRecipe) and data.startswith("phantom+")
    if data != "phantom" and not Path(data.removeprefix("phantom+") if mixed else data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
    if isinstance(recipe, MriRecipe):
        job, told, held_out = _mri_task(recipe, data, work, say, pool)
        options = replace(recipe.loop, seed=seed)
    elif isinstance(recipe, FilmRecipe):
        job, told, held_out = _film_task(recipe, data, work, say, pool)
        options = replace(recipe.loop, seed=seed)
    else:
        job, told, held_out = _ct_task(recipe, data, work, say, pool)
        options = LoopOptions(seed=seed)
    scores: dict[str, float] = {}
    trained = train(
        job,
        work,
        minutes=minutes,
        device=where,
        options=options,
        resume=resume,
        say=say,
        on_validated=lambda _network, values, _step: scores.update(values),
        max_steps=steps,
    )
    metadata = publish(
        recipe,
        trained,
        out,
        metrics={f"{held_out} held-out cases": scores},
        trained_on=where.type,
        training_data=told,
        data=f"phantom+{Path(data).name}" if mixed else data if data == "phantom" else Path(data).name,
        steps=steps,
        taught_shares=job.taught_shares if isinstance(job, FilmDetectTask) else None,
    )
    console.print(f"{out}: {metadata.name} {metadata.version}, weights {metadata.weights[0].sha256[:12]}…")


def _ct_task(
    recipe: TaskRecipe, data: str, work: Path, say: Callable[[str], None], pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.training.cases import load_cases, split  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.tasks import phantom_pool  # noqa: PLC0415

    if data == "phantom":
        cases = phantom_pool(recipe, work / "pool", say, pool)
    else:
        cases = recipe.fitted(load_cases(Path(data)))
    training, held_out = split(cases, _HELD_OUT)
    return recipe.build(training, held_out), _told(len(cases), "cases", data), len(held_out)


def _film_task(
    recipe: FilmRecipe, data: str, work: Path, say: Callable[[str], None], pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.training.film_folders import load_labelled  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.film_recipes import film_pool  # noqa: PLC0415
    from dicom_ai_node.training.films import split_by_patient  # noqa: PLC0415

    films = film_pool(recipe, work / "pool", say, pool) if data == "phantom" else load_labelled(Path(data))
    training, held_out = split_by_patient(films, 5 * _HELD_OUT)
    return recipe.build(training, held_out), _told(len(films), "films", data), len(held_out)


def _mri_task(
    recipe: MriRecipe, data: str, work: Path, say: Callable[[str], None], pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.commands.mri_cases import labelled_cases  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.mri_tasks import mri_pool, split_mr  # noqa: PLC0415

    own = data == "phantom" or data.startswith("phantom+")
    folder = data.removeprefix("phantom").removeprefix("+") if own else data
    phantoms = mri_pool(recipe, work / "pool", say, pool) if own else []
    real = labelled_cases(Path(folder)) if folder else []
    training, held_out = split_mr(phantoms, real, _HELD_OUT)
    told = [_told(len(phantoms), "cases", "phantom")] if own else []
    told += [_told(len({case.name for case in training} & {case.name for case in real}), "cases", folder)] if folder else []
    return recipe.build(training, held_out), "; ".join(told), len(held_out)


def _told(count: int, things: str, data: str) -> str:
    if data == "phantom":
        return f"{count} phantoms of this version (seeds from 1000)"
    return f"{count} {things} of the folder {Path(data).name}"
