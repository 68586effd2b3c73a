"""The recipes of the radiographs' networks: what each draws from, and what its bundle says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from torch import nn

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.film_classes import HEALTHY, PUBLISHED_CLASSES, DetectClass, class_of_name
from dicom_ai_node.report import SIX_POINT_NAMES
from dicom_ai_node.training.film_augment import FilmLook
from dicom_ai_node.training.film_classify import (
    FilmAcuityOptions,
    FilmAcuityTask,
    FilmViewOptions,
    FilmViewTask,
)
from dicom_ai_node.training.film_detect import FilmDetectOptions, FilmDetectTask
from dicom_ai_node.training.film_fractures import PIXELS as FRACTURES_PIXELS
from dicom_ai_node.training.film_fractures import fractures_film
from dicom_ai_node.training.film_localise import FilmLocaliseOptions, FilmLocaliseTask
from dicom_ai_node.training.film_points import FilmPointsOptions, FilmPointsTask
from dicom_ai_node.training.film_views import PIXELS, view_film
from dicom_ai_node.training.films import ACUITIES, VIEWS, Film, load_film, phantom_film, save_film
from dicom_ai_node.training.loop import LoopOptions, Task
from dicom_ai_node.training.recipe import NetworkRecipe

FIRST_SEED: Final = 1000
"""Films of a training pool count from here; seeds below are kept for evaluation."""

FRACTURED_SEED: Final = 5000
"""Those of a pool that are rich in fractures count from here."""


POOL: Final = 600
"""Films of a training pool, the same for all tasks but view and acuity."""

POOL_PIXELS: Final = 1_000_000
"""At most so many pixels has a film of the pool."""


class MeasuredFilmTask(Task, Protocol):
    """A task that can also say how a network does on one film."""

    def measure(self, network: nn.Module, film: Film) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra, or one for the film; NaN where it does not apply."""


@dataclass(frozen=True, kw_only=True)
class FilmRecipe(NetworkRecipe):
    """How one task is trained on films; the rest is told by `NetworkRecipe`.

    Attributes:
        pool_fractured: further films with four to eight fractures each, see `film_fractures`.
        pool_max_pixels: of each film.
        build: task from training films and held-out films.
        make: the film of a seed, for training (or for a test: realistic).
    """

    pool_fractured: int
    pool_max_pixels: int
    build: Callable[[Sequence[Film], Sequence[Film]], MeasuredFilmTask]
    make: Callable[[int, bool], Film] = lambda seed, training: phantom_film(
        seed, training=training, max_pixels=POOL_PIXELS
    )


_POINTS, _ACUITY, _VIEW = FilmPointsOptions(), FilmAcuityOptions(), FilmViewOptions()
_DETECT, _LOCALISE = FilmDetectOptions(), FilmLocaliseOptions()


_SMALL: Final = {"backbone": "resnet18-half", "features": 64, "anchor_px": 12, "sampled": 128, "dense": True}
"""A narrow ResNet-18-FPN, taught by every pixel: what two processor cores can train."""

DETECTORS: Final[Mapping[str, FilmDetectOptions]] = {
    "mask-rcnn": _DETECT,
    "mask-rcnn-published": replace(_DETECT, classes=PUBLISHED_CLASSES),
    "mask-rcnn-small": replace(_DETECT, network={**_SMALL, "states": 2}, size=(640, 384)),
    "retinanet-small": replace(_DETECT, network={**_SMALL, "kind": "retinanet"}, size=(640, 384)),
}
"""The detectors that can be trained: P0's network for every vertebra from T4 to L5, the same with P0's six
classes, a small one for a CPU, and a one-stage rival of its size."""


def detect_recipe(name: str = "mask-rcnn") -> FilmRecipe:
    """The recipe of one of `DETECTORS`."""
    options = DETECTORS[name]
    small = name.endswith("-small")
    return FilmRecipe(
        name="radiograph-detect",
        description=f"{name}: vertebrae on lateral radiographs by level, healthy or fractured (P0)",
        architecture="FilmDetector",
        arguments={"classes": len(options.classes), **options.network},
        output_channels=tuple(item.name for item in options.classes),
        preprocessing={"size": options.size},
        pool_size=POOL,
        pool_fractured=300,
        pool_max_pixels=POOL_PIXELS,
        # P0, "Study settings": SGD with momentum; rate and decay are torchvision's for two films a step. In
        # the few thousand steps of a CPU SGD gets nowhere from fresh weights: the small ones take AdamW.
        loop=LoopOptions(learning_rate=8e-4, warmup_steps=100, ema=0.995, validate_every_s=1200)
        if small
        else LoopOptions("sgd", 5e-3, 1e-4, clip=10.0, warmup_steps=200, ema=0.999),
        build=lambda training, held_out: FilmDetectTask(training, held_out, options),
        network=name,
    )


ACUITY_NETWORKS: Final[Mapping[str, FilmAcuityOptions]] = {
    "resnet18": _ACUITY,
    "resnet18-small": replace(
        _ACUITY,
        size=(144, 144),
        batch=32,
        degrees=20.0,
        upside_down=0.0,
        healthy=0.4,
        look=FilmLook(smear=0.2),
    ),
}
"""The classifiers of fractures that can be trained: P1's, and a small one for two processor cores. That takes
crops of two thirds of the edge, 0.4 of the pixels; it is taught bodies as they stand on upright films,
not turned by any angle as P1's, some of them blurred by breath; and it also tells healthy bodies from broken
ones."""


def acuity_recipe(name: str = "resnet18") -> FilmRecipe:
    """The recipe of one of `ACUITY_NETWORKS`."""
    options = ACUITY_NETWORKS[name]
    return FilmRecipe(
        name="radiograph-acuity",
        description=f"{name}: acute, chronic or pathologic fracture on a crop of a radiograph (P1)",
        architecture="ResNet18",
        arguments={"classes": len(options.classes)},
        output_channels=options.classes,
        preprocessing={"size": options.size, "margin": options.margin},
        pool_size=150,
        pool_fractured=300,
        pool_max_pixels=FRACTURES_PIXELS,
        loop=LoopOptions(learning_rate=5e-4, validate_every_s=900),
        build=lambda training, held_out: FilmAcuityTask(training, held_out, options),
        taught_shares={
            **dict.fromkeys(ACUITIES, (1 - options.healthy) / len(ACUITIES)),
            **({HEALTHY: options.healthy} if options.healthy else {}),
        },
        network=name,
    )


FILM_RECIPES: Final[Mapping[str, FilmRecipe]] = {
    recipe.name: recipe
    for recipe in (
        detect_recipe(),
        FilmRecipe(
            name="radiograph-localise",
            description="dense U-Net: bodies, their centres, one heatmap per level on a whole film",
            architecture="ColumnDetector",
            arguments={
                "in_channels": 1,
                "levels": len(_LOCALISE.levels),
                "channels": list(_LOCALISE.channels),
                "global_channels": _LOCALISE.global_channels,
            },
            output_channels=tuple(level.value for level in _LOCALISE.levels),
            preprocessing={"size": _LOCALISE.size},
            pool_size=300,
            pool_fractured=300,
            pool_max_pixels=POOL_PIXELS,
            loop=LoopOptions(),
            build=lambda training, held_out: FilmLocaliseTask(training, held_out, _LOCALISE),
        ),
        FilmRecipe(
            name="radiograph-points",
            description="2-D M-SCN: six morphometry points on a crop about a vertebra (P3 section 2.3.3)",
            architecture="MSCN",
            arguments={
                "in_channels": 2,
                "out_channels": len(SIX_POINT_NAMES),
                "dimensions": 2,
                "channels": list(_POINTS.channels),
                "global_channels": _POINTS.global_channels,
            },
            output_channels=SIX_POINT_NAMES,
            preprocessing={
                "size": _POINTS.size,
                "margin": _POINTS.margin,
                "marker_sigma": _POINTS.marker_sigma,
            },
            pool_size=150,
            pool_fractured=300,
            pool_max_pixels=POOL_PIXELS,
            loop=LoopOptions(),
            build=lambda training, held_out: FilmPointsTask(training, held_out, _POINTS),
            taught_shares={"fractured": _POINTS.fractured},
        ),
        acuity_recipe(),
        FilmRecipe(
            name="radiograph-view",
            description="A small classifier: lateral spine, frontal spine, chest, other",
            architecture="ViewNetwork",
            arguments={"classes": len(VIEWS), "channels": list(_VIEW.channels)},
            output_channels=VIEWS,
            preprocessing={"size": _VIEW.size},
            pool_size=400,
            pool_fractured=0,
            pool_max_pixels=PIXELS,
            loop=LoopOptions(),
            build=lambda training, held_out: FilmViewTask(training, held_out, _VIEW),
            taught_shares=dict.fromkeys(VIEWS, 1 / len(VIEWS)),
            make=lambda seed, training: view_film(seed, training=training),
        ),
    )
}
"""The tasks on films of this version, by name."""


def detector_of(channels: Sequence[str], size: tuple[int, int]) -> FilmDetectTask:
    """The task that a bundle of radiograph-detect was trained for, without films.

    Args:
        channels: names of its classes, as the bundle's `output_channels`.
        size: rows and columns of its picture.
    """
    classes = tuple(class_of_name(name) for name in channels)
    return FilmDetectTask([], [], replace(_DETECT, classes=classes, size=size))


def film_pool(
    recipe: FilmRecipe, folder: Path, say: Callable[[str], None], size: int | None = None
) -> list[Film]:
    """The films of a recipe's phantoms; those that lie in the folder already are not made again.

    Both kinds come evenly spread, so that the first ones, which are held out, are a sample of them all.

    Args:
        recipe: of the task.
        folder: where the films are kept.
        say: gets a line per film made.
        size: how many in all, instead of the recipe's numbers; the share that is rich in fractures stays.
    """
    plain, fractured = recipe.pool_size, recipe.pool_fractured
    if size is not None:
        fractured = round(size * fractured / (plain + fractured))
        plain = size - fractured
    kinds = ((FIRST_SEED, plain), (FRACTURED_SEED, fractured))
    places = [((number + 0.5) / count, first + number) for first, count in kinds for number in range(count)]
    seeds = [seed for _, seed in sorted(places)]
    films = []
    for number, seed in enumerate(seeds, start=1):
        path = folder / f"film-{seed:05d}.npz"
        if not path.exists():
            made = fractures_film(seed) if seed >= FRACTURED_SEED else recipe.make(seed, True)
            save_film(made, folder)
            say(f"{recipe.name}: film {number} of {len(seeds)}")
        films.append(load_film(path))
    return films


def teachable(recipe: FilmRecipe, films: Sequence[Film], source: Path) -> None:
    """Checks that labelled films hold what a recipe teaches.

    Raises:
        ConfigurationError: they do not.
    """
    shown = [item for film in films for item in film.vertebrae]
    classes = {class_of_name(name) for name in recipe.output_channels} if "detect" in recipe.name else set()
    lacking = {
        "radiograph-detect": not any(DetectClass(item.level, item.fractured) in classes for item in shown)
        and f"no vertebra of the classes {', '.join(sorted(item.name for item in classes))} is drawn",
        "radiograph-points": not any(item.six_points is not None for item in shown)
        and "no body has six points, which polygons do not tell: give films as film-*.npz",
        "radiograph-acuity": not any(item.acuity for item in shown)
        and "no fracture is called acute, chronic or pathologic: write labels as 'L1 acute'",
        "radiograph-localise": not shown and "no vertebra is drawn",
    }.get(recipe.name)
    if lacking:
        raise ConfigurationError(f"{recipe.name} cannot be taught with the films of {source}: {lacking}")
