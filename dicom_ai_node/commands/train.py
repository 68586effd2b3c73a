"""`dicom-ai-node train`: one network from phantoms or labelled cases to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.device import Choice, choose_device

if TYPE_CHECKING:
    from dicom_ai_node.training.ct_classify_recipes import CtClassifyRecipe
    from dicom_ai_node.training.ct_detect_recipes import CtDetectRecipe
    from dicom_ai_node.training.film_recipes import FilmRecipe
    from dicom_ai_node.training.films import Film
    from dicom_ai_node.training.loop import LoopOptions, Task
    from dicom_ai_node.training.mri_classify_recipes import MriClassifyRecipe
    from dicom_ai_node.training.mri_recipes import MriRecipe
    from dicom_ai_node.training.recipes import Recipe
    from dicom_ai_node.training.tasks import TaskRecipe

_HELD_OUT = 8

Say = Callable[[str], None]


def command(  # noqa: PLR0917 - typer makes options of them
    task: Annotated[str, typer.Argument(help="ct-localise, radiograph-detect, ...; a wrong name lists all.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle to write.")],
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="'phantom', or a folder of cases, labelled films or slices; films, mri: 'phantom+FOLDER'.",
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
        str | None,
        typer.Option(
            "--network",
            help="Of tasks that know several, as ct-localise, ct-classify: a wrong one lists all.",
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=0, help="mri-classify: cross-validate too (P4: 10).")
    ] = 0,
    start_from: Annotated[
        Path | None, typer.Option("--start-from", help="A bundle whose weights to begin with.")
    ] = None,
    keep_start: Annotated[
        float,
        typer.Option(
            "--keep-start", min=0.0, max=1.0, help="Share of the weights of --start-from in the result."
        ),
    ] = 0.0,
    learning_rate: Annotated[
        float | None,
        typer.Option("--learning-rate", min=1e-8, help="At its highest (default: the recipe's)."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option("--precision", help="float32; bfloat16 is twice as fast where the processor knows it."),
    ] = "float32",
) -> None:
    """Train TASK and write its bundle; checkpoints lie beside it, in OUT.training."""
    from dicom_ai_node.inference.bundle import bundle_of  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.inference.publish import HowTrained, publish  # noqa: PLC0415
    from dicom_ai_node.training.film_detect import FilmDetectTask  # noqa: PLC0415
    from dicom_ai_node.training.film_recipes import FilmRecipe  # noqa: PLC0415
    from dicom_ai_node.training.loop import PRECISIONS, train  # noqa: PLC0415
    from dicom_ai_node.training.mri_classify import MriClassifyTask  # noqa: PLC0415
    from dicom_ai_node.training.mri_classify_recipes import MriClassifyRecipe  # noqa: PLC0415
    from dicom_ai_node.training.mri_recipes import MriRecipe  # noqa: PLC0415
    from dicom_ai_node.training.recipes import recipe_of  # noqa: PLC0415
    from dicom_ai_node.training.segment import SegmentTask  # noqa: PLC0415

    recipe = recipe_of(task, network)
    if folds and not isinstance(recipe, MriClassifyRecipe):
        raise ConfigurationError(f"--folds cross-validates mri-classify; {task} has a held-out set")
    if device not in ("auto", "cpu", "cuda"):
        raise ConfigurationError(f"--device is auto, cpu or cuda, not {device!r}")
    if precision not in PRECISIONS:
        raise ConfigurationError(f"--precision is {' or '.join(PRECISIONS)}, not {precision!r}")
    first = bundle_of(task, start_from) if start_from else None
    choice: Choice = device  # type: ignore[assignment]
    where = choose_device(choice)
    console = Console(highlight=False, soft_wrap=True)
    work = out.with_name(f"{out.name}.training")

    def say(line: str) -> None:
        console.print(line)

    source = _Source.of(data, mixed=isinstance(recipe, MriRecipe | FilmRecipe))
    job, told, held_out, options = _prepared(recipe, source, work, say, pool)
    options = replace(
        options, seed=seed, precision=precision, learning_rate=learning_rate or options.learning_rate
    )
    measured: dict[str, dict[str, float]] = {}
    if folds and isinstance(recipe, MriClassifyRecipe) and isinstance(job, MriClassifyTask):
        from dicom_ai_node.commands.train_mri_classify import fold_scores  # noqa: PLC0415

        words, values = fold_scores(
            recipe,
            [*job.training, *job.validation],
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
        start=first.network.state_dict() if first else None,
        kept=keep_start,
        say=say,
        on_validated=lambda _network, values, _step: scores.update(values),
        max_steps=steps,
    )
    shares = None
    if isinstance(job, FilmDetectTask | MriClassifyTask | SegmentTask):
        shares = job.taught_shares
    metadata = publish(
        recipe,
        trained,
        out,
        metrics={f"{held_out} held-out cases": scores, **measured},
        trained_on=where.type,
        training_data=told,
        data=source.said,
        steps=steps,
        how=HowTrained(precision, learning_rate, first.metadata if first else None, keep_start, pool),
        taught_shares=shares,
    )
    console.print(f"{out}: {metadata.name} {metadata.version}, weights {metadata.weights[0].sha256[:12]}…")


@dataclass(frozen=True)
class _Source:
    """What --data names: phantoms, a folder, or both."""

    phantoms: bool
    folder: Path | None

    @classmethod
    def of(cls, data: str, *, mixed: bool) -> _Source:
        """Raises ConfigurationError: there is no such folder, or the task learns from one kind only."""
        if data == "phantom":
            return cls(phantoms=True, folder=None)
        both = mixed and data.startswith("phantom+")
        folder = Path(data.removeprefix("phantom+") if both else data)
        if not folder.is_dir():
            raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
        return cls(phantoms=both, folder=folder)

    @property
    def said(self) -> str:
        """As the command that rebuilds a bundle says it: where the folder lies is nobody's business."""
        names = ["phantom"] if self.phantoms else []
        return "+".join([*names, self.folder.name] if self.folder else names)


def _prepared(
    recipe: Recipe, source: _Source, work: Path, say: Say, pool: int | None
) -> tuple[Task, str, int, LoopOptions]:
    """The task, its training data in words, how many cases are held out, and how to train."""
    from dicom_ai_node.training.ct_classify_recipes import CtClassifyRecipe  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.ct_detect_recipes import CtDetectRecipe  # noqa: PLC0415
    from dicom_ai_node.training.film_recipes import FilmRecipe  # noqa: PLC0415
    from dicom_ai_node.training.mri_classify_recipes import MriClassifyRecipe  # noqa: PLC0415
    from dicom_ai_node.training.mri_recipes import MriRecipe  # noqa: PLC0415

    if isinstance(recipe, FilmRecipe):
        return *_film_task(recipe, source, work, say, pool), recipe.loop
    if isinstance(recipe, MriRecipe):
        return *_mri_task(recipe, source, work, say, pool), recipe.loop
    if isinstance(recipe, MriClassifyRecipe):
        return *_mri_classify_task(recipe, source, work, say, pool), recipe.loop
    if isinstance(recipe, CtDetectRecipe | CtClassifyRecipe):
        return *_ct_slice_task(recipe, source, work, say, pool), recipe.loop
    return *_ct_task(recipe, source, work, say, pool), recipe.loop


def _ct_task(
    recipe: TaskRecipe, source: _Source, work: Path, say: Say, pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.commands.verse_cases import labelled_ct  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.cases import split  # noqa: PLC0415
    from dicom_ai_node.training.tasks import phantom_pool  # noqa: PLC0415

    if source.folder is None:
        cases = phantom_pool(recipe, work / "pool", say, pool)
    else:
        cases = recipe.fitted(labelled_ct(source.folder, recipe.pool_spacing_mm))
    training, held_out = split(cases, _HELD_OUT)
    return recipe.build(training, held_out), _told(len(cases), "cases", source.folder), len(held_out)


def _ct_slice_task(
    recipe: CtDetectRecipe | CtClassifyRecipe, source: _Source, work: Path, say: Say, pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.commands.ct_slice_data import (  # noqa: PLC0415 - waits for torch
        diseased_slices,
        labelled_slices,
    )
    from dicom_ai_node.training.ct_classify_recipes import CtClassifyRecipe  # noqa: PLC0415
    from dicom_ai_node.training.patients import split_by_patient  # noqa: PLC0415

    classifies = isinstance(recipe, CtClassifyRecipe)
    if source.folder is None:
        slices = recipe.pool(work / "pool", say, pool)
        count = len({one.patient for one in slices})
        told = f"{len(slices)} sagittal slices of {count} phantoms of this version (seeds from 1000)"
    else:
        # A detector needs boxes of all bodies, a classifier takes what has one.
        slices = (diseased_slices if classifies else labelled_slices)(source.folder)
        told = _told(len(slices), "slices", source.folder)
    # Some diseases are rare.
    patients = 5 * _HELD_OUT if classifies else _HELD_OUT
    training, held_out = split_by_patient(slices, lambda one: one.patient, patients)
    return recipe.build(training, held_out), told, len(held_out)


def _film_task(
    recipe: FilmRecipe, source: _Source, work: Path, say: Say, pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.networks.film_classes import fractures_only  # noqa: PLC0415
    from dicom_ai_node.training.film_folders import load_labelled  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.film_recipes import film_pool, teachable  # noqa: PLC0415
    from dicom_ai_node.training.patients import split_by_patient  # noqa: PLC0415

    phantoms = film_pool(recipe, work / "pool", say, pool) if source.phantoms else []
    real: list[Film] = []
    if source.folder is not None:
        # Where fractures alone are told apart, a bare level is one.
        alone = recipe.name == "radiograph-detect" and fractures_only(recipe.output_channels)
        real = load_labelled(source.folder, fractured_unless_said=alone)
        teachable(recipe, real, source.folder)
    # Beside phantoms all real films are learned from: `evaluate` judges them one patient after the other.
    training, held_out = split_by_patient(phantoms or real, lambda film: film.group, 5 * _HELD_OUT)
    told = [_told(len(phantoms), "films", None)] if source.phantoms else []
    if source.folder is not None:
        told.append(_told(len(real), "films", source.folder))
    return recipe.build([*training, *(real if phantoms else [])], held_out), "; ".join(told), len(held_out)


def _mri_task(
    recipe: MriRecipe, source: _Source, work: Path, say: Say, pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.commands.mri_cases import labelled_cases  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.mri_recipes import mri_pool, split_mr  # noqa: PLC0415

    phantoms = mri_pool(recipe, work / "pool", say, pool) if source.phantoms else []
    real = labelled_cases(source.folder) if source.folder else []
    training, held_out = split_mr(phantoms, real, _HELD_OUT)
    told = [_told(len(phantoms), "cases", None)] if source.phantoms else []
    if source.folder:
        taught = {case.name for case in training} & {case.name for case in real}
        told.append(_told(len(taught), "cases", source.folder))
    return recipe.build(training, held_out), "; ".join(told), len(held_out)


def _mri_classify_task(
    recipe: MriClassifyRecipe, source: _Source, work: Path, say: Say, pool: int | None
) -> tuple[Task, str, int]:
    from dicom_ai_node.commands.train_mri_classify import labelled_patients  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.mri_crops import patients_of  # noqa: PLC0415
    from dicom_ai_node.training.patients import split_by_patient  # noqa: PLC0415

    examples = labelled_patients(recipe, source.folder, work / "pool", say, pool)
    training, held_out = split_by_patient(examples, lambda one: one.patient, 5 * _HELD_OUT, one_in=3)
    told = _told(len(patients_of(examples)), "patients", source.folder)
    return recipe.build(training, held_out), told, len(held_out)


def _told(count: int, things: str, folder: Path | None) -> str:
    if folder is None:
        return f"{count} phantoms of this version (seeds from 1000, those rich in fractures from 5000)"
    return f"{count} {things} of the folder {folder.name}"
