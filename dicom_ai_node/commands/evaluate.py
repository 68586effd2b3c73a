"""`dicom-ai-node evaluate`: a bundle, or the whole CT pipeline, against phantoms that no training saw."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from dicom_ai_node.commands.progress import showing_progress
from dicom_ai_node.errors import ConfigurationError

if TYPE_CHECKING:
    from dicom_ai_node.training.cases import Case
    from dicom_ai_node.training.film_recipes import FilmRecipe, MeasuredFilmTask
    from dicom_ai_node.training.films import Film
    from dicom_ai_node.training.tasks import TaskRecipe

PIPELINES: Final = ("ct-volume", "ct-agreement", "radiograph", "radiograph-agreement", "mri")
"""The tasks that evaluate all networks of a pipeline together; their bundle is the folder of bundles.
Those on agreement hold the GPU and half precision against the processor."""

_ON_FOLDERS: Final = ("ct-volume", "mri")
"""Pipelines that are evaluated on labelled images of others too."""

Rows = list[Mapping[str, Sequence[float]]]
"""Per case: quantity -> its values, one per vertebra, NaN where it does not apply."""

Progress = Callable[[str, float], None]


def command(  # noqa: PLR0917 - typer makes options of them
    task: Annotated[
        str,
        typer.Argument(
            help="ct-segment, ...; ct-volume, radiograph or mri for all of a pipeline; ct-agreement, "
            "radiograph-agreement: whether a GPU and half precision say what the processor says."
        ),
    ],
    bundles: Annotated[
        list[Path],
        typer.Option(
            "--bundle", help="The bundle; for a pipeline the models folder; ct-localise: several, once each."
        ),
    ],
    data: Annotated[
        str, typer.Option("--data", help="'phantom', or a folder of cases, labelled films or slices.")
    ] = "phantom",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")] = None,
    plots: Annotated[
        Path | None,
        typer.Option(
            "--plots",
            help="Draw plots into this folder; of ct-volume and mri the outlines on each case, too.",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=900, help="How many phantoms.")] = 20,
    fine_tune: Annotated[
        int,
        typer.Option(
            "--fine-tune", min=0, help="radiograph-acuity: steps learned from others before one is judged."
        ),
    ] = 0,
    pool: Annotated[
        Path | None,
        typer.Option(
            "--pool",
            help="radiograph: films are kept here for the next time; radiograph-acuity: films that "
            "--fine-tune learns from too.",
        ),
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", min=0.0, max=1.0, help="ct-classify, mri-classify: ill, malignant from here on."
        ),
    ] = 0.5,
) -> None:
    """Measure on cases that were not trained on; intervals are 95 %, over cases."""
    console = Console(highlight=False, soft_wrap=True)
    tables: dict[str, Any] = {}
    rows: Rows = []
    bundle = bundles[0]
    if len(bundles) > 1 and task != "ct-localise":
        raise ConfigurationError(f"{task} is evaluated on one --bundle; ct-localise compares several")
    if task in PIPELINES:
        if data != "phantom" and (task not in _ON_FOLDERS or not Path(data).is_dir()):
            raise ConfigurationError(
                f"{task} is evaluated on --data phantom; {' and '.join(_ON_FOLDERS)} on a folder of labelled "
                "series as well"
            )
        from dicom_ai_node.commands import evaluate_ct_volume  # noqa: PLC0415
        from dicom_ai_node.commands.evaluate_mri_study import (  # noqa: PLC0415
            evaluate_real,
            evaluate_studies,
        )
        from dicom_ai_node.commands.evaluate_radiograph import evaluate_radiographs  # noqa: PLC0415

        if task == "radiograph":
            rows, tables = evaluate_radiographs(bundle, range(count), console.print, pool=pool, plots=plots)
        elif task == "mri" and data != "phantom":
            rows, tables = evaluate_real(bundle, Path(data), console.print, plots)
        elif task == "mri":
            rows, tables = evaluate_studies(bundle, range(count), console.print, plots)
        elif task.endswith("-agreement"):
            from dicom_ai_node.commands import evaluate_agreement  # noqa: PLC0415

            held = evaluate_agreement.ct_volumes if task.startswith("ct") else evaluate_agreement.radiographs
            rows, tables = held(bundle, range(count), console.print)
        else:
            if data == "phantom":
                found = evaluate_ct_volume.evaluate(bundle, range(count), console.print, plots)
            else:
                found = evaluate_ct_volume.evaluate_folder(bundle, Path(data), console.print, plots)
            evaluate_ct_volume.show(console, found)
            _write(json_file, {"task": task, "bundle": str(bundle), "data": data, **found})
            return
    elif task == "radiograph-acuity":
        rows, tables = _acuity(bundle, _films(data, count), console, plots, fine_tune, pool)
    elif task == "mri-classify":
        from dicom_ai_node.commands import evaluate_mri_classify  # noqa: PLC0415 - waits for torch

        with showing_progress(console) as progress:
            rows, tables = evaluate_mri_classify.evaluate(bundle, data, count, threshold, progress, plots)
    elif task == "ct-classify":
        from dicom_ai_node.commands import evaluate_ct_classify  # noqa: PLC0415 - waits for torch

        with showing_progress(console) as progress:
            found = evaluate_ct_classify.evaluate(bundle, data, count, progress, plots, threshold=threshold)
        evaluate_ct_classify.show(console, found)
        _write(json_file, {"task": task, "bundle": str(bundle), "data": data, **found})
        return
    elif task == "ct-localise":
        from dicom_ai_node.commands import evaluate_ct_localise  # noqa: PLC0415 - waits for torch

        with showing_progress(console) as progress:
            compared = evaluate_ct_localise.evaluate(bundles, data, count, progress)
        evaluate_ct_localise.show(console, compared)
        if plots is not None:
            draw_values(plots / f"{task}.png", compared[0].rows)
        found = evaluate_ct_localise.told(compared)
        _write(json_file, {"task": task, "bundle": str(bundle), "data": data, **found})
        return
    elif task == "ct-detect":
        from dicom_ai_node.commands import evaluate_ct_detect  # noqa: PLC0415 - waits for torch

        with showing_progress(console) as progress:
            rows, tables = evaluate_ct_detect.evaluate(bundle, data, count, progress, plots)
        console.print(evaluate_ct_detect.paper_table(tables))
    else:
        from dicom_ai_node.commands.evaluate_mri import rows_of_mr  # noqa: PLC0415 - waits for torch
        from dicom_ai_node.training.film_recipes import FilmRecipe  # noqa: PLC0415
        from dicom_ai_node.training.mri_recipes import MriRecipe  # noqa: PLC0415
        from dicom_ai_node.training.recipes import recipe_of  # noqa: PLC0415
        from dicom_ai_node.training.tasks import TaskRecipe  # noqa: PLC0415

        recipe = recipe_of(task)
        with showing_progress(console) as progress:
            if isinstance(recipe, MriRecipe):
                rows = rows_of_mr(recipe, bundle, data, count, progress)
            elif isinstance(recipe, FilmRecipe):
                rows, tables = rows_of_films(recipe, bundle, data, count, progress)
            elif isinstance(recipe, TaskRecipe):
                rows = rows_of_network(recipe, bundle, data, count, progress)
        if plots is not None:
            draw_values(plots / f"{task}.png", rows)
    result = {"task": task, "bundle": str(bundle), "data": data, **summary(rows), **tables}
    if task == "ct-segment":
        from dicom_ai_node.commands import evaluate_ct_volume  # noqa: PLC0415 - waits for torch

        console.print(evaluate_ct_volume.paper_table(evaluate_ct_volume.SEGMENTATION, result))
    _show(console, result, tables)
    _write(json_file, result)


def _write(json_file: Path | None, result: Mapping[str, Any]) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", "utf-8")


def _films(data: str, count: int) -> list[Film]:
    """Fresh realistic films with many fractures of all ages, or those of a folder."""
    from dicom_ai_node.training.film_folders import load_labelled  # noqa: PLC0415 - waits for torch
    from dicom_ai_node.training.film_fractures import fractures_film  # noqa: PLC0415

    if data == "phantom":
        # These seeds no training saw.
        return [fractures_film(seed, training=False) for seed in range(count)]
    if not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of films; {data} is neither")
    return load_labelled(Path(data))


def _acuity(  # noqa: PLR0917 - the options of the command
    bundle: Path, films: list[Film], console: Console, plots: Path | None, fine_tune: int, pool: Path | None
) -> tuple[Rows, dict[str, Any]]:
    from dicom_ai_node.commands import evaluate_acuity  # noqa: PLC0415 - waits for torch

    probabilities, truth, owners = evaluate_acuity.judged(
        bundle, films, console.print, fine_tune=fine_tune, pool=pool
    )
    if plots is not None:
        evaluate_acuity.draw(plots / "radiograph-acuity.png", probabilities, truth)
    right = (probabilities.argmax(axis=1) == truth).astype(float)
    rows: Rows = [
        {"right": [value for value, owner in zip(right, owners, strict=True) if owner == group]}
        for group in dict.fromkeys(owners)
    ]
    tables = evaluate_acuity.tables(probabilities, truth, owners)
    console.print(evaluate_acuity.paper_table(tables))
    return rows, tables


def summary(rows: Rows) -> dict[str, Any]:
    """`n`, `metrics` and `intervals` as `--json` writes them; null where no vertebra could tell."""
    from dicom_ai_node.training.metrics import summarise  # noqa: PLC0415 - waits for torch

    metrics, intervals = summarise(rows)
    return {
        "n": len(rows),
        "metrics": {name: _finite(value) for name, value in metrics.items()},
        "intervals": {name: [_finite(end) for end in interval] for name, interval in intervals.items()},
    }


def rows_of_network(recipe: TaskRecipe, bundle: Path, data: str, count: int, progress: Progress) -> Rows:
    """What the recipe's task measures of a bundle on each case.

    Raises:
        ConfigurationError: there is no such data, or the bundle is of another task.
        ModelError: the bundle is missing or was changed.
    """
    import torch  # noqa: PLC0415

    from dicom_ai_node.commands.verse_cases import labelled_ct  # noqa: PLC0415
    from dicom_ai_node.inference.bundle import bundle_of  # noqa: PLC0415
    from dicom_ai_node.inference.device import choose_device  # noqa: PLC0415
    from dicom_ai_node.training.recipes import recipe_of_bundle  # noqa: PLC0415
    from dicom_ai_node.training.tasks import fresh_cases  # noqa: PLC0415

    loaded = bundle_of(recipe.name, bundle).to(choose_device("auto"))
    recipe = recipe_of_bundle(recipe, loaded.metadata.ct.model_dump())
    cases: Iterator[Case]
    if data == "phantom":
        cases, total = fresh_cases(recipe.pool_spacing_mm, count, width_mm=recipe.pool_width_mm), count
    elif Path(data).is_dir():
        labelled = recipe.fitted(labelled_ct(Path(data), recipe.pool_spacing_mm))
        cases, total = iter(labelled), len(labelled)
    else:
        raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
    task = recipe.build([], [])
    rows: Rows = []
    for number, case in enumerate(cases, start=1):
        with torch.inference_mode():
            rows.append(task.measure(loaded.network, case))
        progress(f"case {number} of {total}", number / total)
    return rows


def rows_of_films(
    recipe: FilmRecipe, bundle: Path, data: str, count: int, progress: Progress
) -> tuple[Rows, dict[str, Any]]:
    """What the recipe's task measures of a bundle on each film; of a detector, P0's measures over all films.

    Raises:
        ConfigurationError: there is no such data, or the bundle is of another task.
        ModelError: the bundle is missing or was changed.
    """
    import torch  # noqa: PLC0415

    from dicom_ai_node.inference.bundle import bundle_of  # noqa: PLC0415
    from dicom_ai_node.networks.film_classes import fractures_only  # noqa: PLC0415
    from dicom_ai_node.training.film_folders import load_labelled  # noqa: PLC0415
    from dicom_ai_node.training.film_recipes import detector_of  # noqa: PLC0415

    if data != "phantom" and not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of films; {data} is neither")
    loaded = bundle_of(recipe.name, bundle)
    if data == "phantom":
        total = count
        films = (recipe.make(seed, False) for seed in range(count))
    else:
        # Where fractures alone are told apart, a bare level is one.
        alone = recipe.name == "radiograph-detect" and fractures_only(loaded.metadata.output_channels)
        labelled = load_labelled(Path(data), fractured_unless_said=alone)
        total, films = len(labelled), (film for film in labelled)
    rows: Rows = []
    if recipe.name != "radiograph-detect":
        task: MeasuredFilmTask = recipe.build([], [])
        for number, film in enumerate(films, start=1):
            with torch.inference_mode():
                rows.append(task.measure(loaded.network, film))
            progress(f"film {number} of {total}", number / total)
        return rows, {}
    # Detectors differ in classes and size: the bundle says which it has.
    detector = detector_of(loaded.metadata.output_channels, loaded.metadata.film.size)
    found, truth = [], []
    for number, film in enumerate(films, start=1):
        found.append(detector.detect(loaded.network, film))
        truth.append(detector.truth(film))
        rows.append(detector.measured(found[-1], truth[-1]))
        progress(f"film {number} of {total}", number / total)
    together = {name: _finite(value) for name, value in detector.scores_of(found, truth).items()}
    return rows, {"together": together, "classes": detector.precision_of_classes(found, truth)}


def draw_values(file: Path, rows: Rows) -> None:
    """A histogram of every quantity over all vertebrae."""
    import matplotlib as mpl  # noqa: PLC0415 - only where plots are asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = sorted({name for row in rows for name in row})
    figure, axes = plt.subplots(1, len(names), figsize=(3.2 * len(names), 3), squeeze=False)
    for name, axis in zip(names, axes[0], strict=True):
        values = [value for row in rows for value in row.get(name, ()) if math.isfinite(value)]
        axis.hist(values, bins=20)
        axis.set(title=name, ylabel="vertebrae")
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _show(console: Console, result: Mapping[str, Any], tables: Mapping[str, Any]) -> None:
    table = Table("measure", "value", "95 % interval", box=None)
    for name, value in result["metrics"].items():
        low, high = (_words(end) for end in result["intervals"][name])
        table.add_row(name, _words(value), f"{low} to {high}")
    console.print(table)
    for name, content in tables.items():
        console.print(f"{name}: {json.dumps(content)}")


def _finite(value: float) -> float | None:
    # JSON knows neither NaN nor infinity.
    return value if math.isfinite(value) else None


def _words(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
