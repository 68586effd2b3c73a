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
    from dicom_ai_node.training.mri_classify_recipes import MriClassifyRecipe
    from dicom_ai_node.training.tasks import TaskRecipe

_HELD_OUT = 8


def recipe_of(task: str, network: str | None = None) -> TaskRecipe | FilmRecipe | MriClassifyRecipe:
    """The recipe of a task, with one of the networks that the task knows.

    Raises:
        ConfigurationError: this version has no such task, or the task no such network.
    """
    from dicom_ai_node.training.film_recipes import (  # noqa: PLC0415 - waits for torch
        DETECTORS,
        FILM_RECIPES,
        detect_recipe,
    )
    from dicom_ai_node.training.mri_classify_recipes import CLASSIFIERS, classify_recipe  # noqa: PLC0415
    from dicom_ai_node.training.tasks import PLANNED_TASKS, RECIPES  # noqa: PLC0415

    if network is not None:
        if task == "radiograph-detect" and network in DETECTORS:
            return detect_recipe(network)
        if task == "mri-classify" and network in CLASSIFIERS:
            return classify_recipe(network)
        raise ConfigurationError(
            f"--network {network} is none of {task}; radiograph-detect has: {', '.join(DETECTORS)}; "
            f"mri-classify has: {', '.join(CLASSIFIERS)}"
        )
    if task == "mri-classify":
        return classify_recipe()
    if task in RECIPES:
        return RECIPES[task]
    if task in FILM_RECIPES:
        return FILM_RECIPES[task]
    reason = "is not trained by this version" if task in PLANNED_TASKS else "is no task"
    known = ", ".join([*RECIPES, *FILM_RECIPES, "mri-classify"])
    raise ConfigurationError(f"{task} {reason}; there are: {known}")


def command(  # noqa: PLR0917 - typer makes options of them
    task: Annotated[str, typer.Argument(help="ct-localise, radiograph-detect, ...; a wrong name lists all.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.")],
    data: Annotated[
        str, typer.Option("--data", help="'phantom', or a folder of cases or labelled films.")
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
        str | None,
        typer.Option(
            "--network", help="radiograph-detect: mask-rcnn, ...; mri-classify: published, small, ..."
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=0, help="mri-classify: cross-validate too (P4: 10).")
    ] = 0,
) -> None:
    """Train TASK and write its bundle; checkpoints lie beside it, in OUT.training."""
    from dicom_ai_node.inference.publish import publish  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.film_detect import FilmDetectTask  # noqa: PLC0415
    from dicom_ai_node.training.film_recipes import FilmRecipe  # noqa: PLC0415
    from dicom_ai_node.training.loop import LoopOptions, train  # noqa: PLC0415
    from dicom_ai_node.training.mri_classify_recipes import MriClassifyRecipe  # noqa: PLC0415

    recipe = recipe_of(task, network)
    if folds and not isinstance(recipe, MriClassifyRecipe):
        raise ConfigurationError(f"--folds cross-validates mri-classify; {task} has a held-out set")
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"--device is auto, cpu or cuda, not {device!r}")
    choice: Choice = device  # type: ignore[assignment]
    where = choose_device(choice)
    console = Console(highlight=False, soft_wrap=True)
    work = out.with_name(f"{out.name}.training")

    def say(line: str) -> None:
        console.print(line)

    if data != "phantom" and not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
    if isinstance(recipe, FilmRecipe):
        job, told, held_out = _film_task(recipe, data, work, say, pool)
        options = replace(recipe.loop, seed=seed)
    elif isinstance(recipe, MriClassifyRecipe):
        job, told, held_out = _mri_task(recipe, data, work, say, pool)
        options = replace(recipe.loop, seed=seed)
    else:
        job, told, held_out = _ct_task(recipe, data, work, say, pool)
        options = LoopOptions(seed=seed)
    measured: dict[str, dict[str, float]] = {}
    if folds and isinstance(recipe, MriClassifyRecipe):
        from dicom_ai_node.commands.train_mri_classify import fold_scores, labelled_patients  # noqa: PLC0415

        everyone = labelled_patients(recipe, data, work / "pool", say, pool)
        words, values = fold_scores(
            recipe,
            everyone,
            folds,
            work,
            minutes=minutes,
            steps=steps,
            device=where,
            options=options,
            say=say,
        )
        measured[words] = values
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
        metrics={f"{held_out} held-out cases": scores, **measured},
        trained_on=where.type,
        training_data=told,
        data=data if data == "phantom" else Path(data).name,
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
    recipe: MriClassifyRecipe, data: str, work: Path, say: Callable[[str], None], pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.commands.train_mri_classify import labelled_patients  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.mri_crops import patients_of, split_by_patient  # noqa: PLC0415

    examples = labelled_patients(recipe, data, work / "pool", say, pool)
    training, held_out = split_by_patient(examples, 5 * _HELD_OUT)
    told = _told(len(patients_of(examples)), "patients", data)
    return recipe.build(training, held_out), told, len(held_out)


def _told(count: int, things: str, data: str) -> str:
    if data == "phantom":
        return f"{count} phantoms of this version (seeds from 1000, those rich in fractures from 5000)"
    return f"{count} {things} of the folder {Path(data).name}"
