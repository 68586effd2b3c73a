"""The tasks that can be trained: what each draws from, and what its bundle says about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import torch
from torch import nn

from dicom_ai_node.anatomy import LEVELS, Level, order
from dicom_ai_node.phantom.spine import Spine, sample_spine
from dicom_ai_node.phantom.training_cases import TrainingCase, render_training_case
from dicom_ai_node.report import SIX_POINT_NAMES, Deformity
from dicom_ai_node.training.cases import Case, load_case, save_case, with_cubic_voxels_of
from dicom_ai_node.training.localise import LocaliseOptions, LocaliseTask
from dicom_ai_node.training.loop import Task
from dicom_ai_node.training.points import PointsOptions, PointsTask
from dicom_ai_node.training.recipe import NetworkRecipe
from dicom_ai_node.training.segment import CLASSES, SegmentOptions, SegmentTask
from dicom_ai_node.training.window import usable

FIRST_SEED: Final = 1000
"""Phantoms of a training pool count from here; seeds below are kept for evaluation."""

FRACTURED_SEED: Final = 5000
"""The phantoms of a training pool that are rich in fractures count from here."""

_FRACTURE_LEVELS: Final = tuple(
    level for level in LEVELS if order(Level.T4) <= order(level) <= order(Level.L5)
)


class MeasuredTask(Task, Protocol):
    """A task that can also say how a network does on one case."""

    def measure(self, network: nn.Module, case: Case) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra, NaN where it does not apply."""


@dataclass(frozen=True, kw_only=True)
class TaskRecipe(NetworkRecipe):
    """How one task is trained on CT of phantoms; the rest is told by `NetworkRecipe`.

    Attributes:
        pool_fractured: further phantoms with three to six fractures each.
        bright_bone: leave out phantoms in which bone is darker than its surroundings.
        pool_spacing_mm: edge of their voxels.
        pool_width_mm: edge of their field of view in the plane; None for random ones.
        build: task from training cases and held-out cases.
    """

    pool_fractured: int
    pool_spacing_mm: float
    pool_width_mm: float | None
    bright_bone: bool
    build: Callable[[Sequence[Case], Sequence[Case]], MeasuredTask]

    def fitted(self, cases: Sequence[Case]) -> list[Case]:
        """Labelled cases of finer voxels, averaged to those that this task is trained on.

        Raises:
            ConfigurationError: a case's voxels are no integer part of them.
        """
        # The planes of ct-points are cut at their own spacing out of a case of any.
        return list(cases) if self.name == "ct-points" else with_cubic_voxels_of(cases, self.pool_spacing_mm)


_LOCALISE, _SEGMENT, _POINTS = LocaliseOptions(), SegmentOptions(), PointsOptions()

RECIPES: Final[Mapping[str, TaskRecipe]] = {
    recipe.name: recipe
    for recipe in (
        TaskRecipe(
            name="ct-localise",
            description="M-SCN: one heatmap per vertebral level over a whole CT volume (P3 section 2.2)",
            architecture=_LOCALISE.architecture,
            arguments=_LOCALISE.network_arguments(),
            output_channels=tuple(level.value for level in _LOCALISE.levels),
            preprocessing={
                "spacing_mm": _LOCALISE.spacing_mm,
                "size": None,
                "clip_hu": _LOCALISE.intensity.clip_hu,
            },
            pool_size=240,
            pool_fractured=60,
            pool_spacing_mm=_LOCALISE.spacing_mm,
            pool_width_mm=None,
            bright_bone=False,
            build=lambda training, held_out: LocaliseTask(training, held_out, _LOCALISE),
        ),
        TaskRecipe(
            name="ct-segment",
            description="3-D U-Net: background, normal, fractured vertebral body in a crop (P3 section 2.3)",
            architecture="UNet",
            arguments={
                "in_channels": 2,
                "out_channels": len(CLASSES),
                "dimensions": 3,
                "channels": list(_SEGMENT.channels),
            },
            output_channels=CLASSES,
            preprocessing={
                "spacing_mm": _SEGMENT.spacing_mm,
                "size": _SEGMENT.size,
                "clip_hu": _SEGMENT.intensity.clip_hu,
                "marker_sigma_mm": _SEGMENT.marker_sigma_mm,
            },
            pool_size=160,
            pool_fractured=120,
            pool_spacing_mm=_SEGMENT.spacing_mm,
            pool_width_mm=125.0,
            bright_bone=True,
            build=lambda training, held_out: SegmentTask(training, held_out, _SEGMENT),
            taught_shares=SegmentTask([], [], _SEGMENT).taught_shares,
        ),
        TaskRecipe(
            name="ct-points",
            description="2-D M-SCN: six morphometry points on a body's mid-sagittal plane (P3 section 2.3.3)",
            architecture="MSCN",
            arguments=_POINTS.network_arguments(),
            output_channels=SIX_POINT_NAMES,
            preprocessing={
                "spacing_mm": _POINTS.spacing_mm,
                "size": _POINTS.size,
                "clip_hu": _POINTS.intensity.clip_hu,
            },
            pool_size=60,
            pool_fractured=90,
            pool_spacing_mm=0.75,
            pool_width_mm=85.0,
            bright_bone=False,
            build=lambda training, held_out: PointsTask(training, held_out, _POINTS),
        ),
    )
}
"""The tasks on CT of this version, by name; `recipes` has those on other images too."""


def phantom_pool(
    recipe: TaskRecipe, folder: Path, say: Callable[[str], None], size: int | None = None
) -> list[Case]:
    """The phantoms of a recipe that teach something; those that lie in the folder already are not made again.

    Args:
        recipe: of the task.
        folder: where the cases are kept.
        say: gets a line per phantom made.
        size: phantoms in all, instead of the recipe's numbers; the share that is rich in fractures stays.
    """
    fractured = recipe.pool_fractured
    plain = recipe.pool_size
    if size is not None:
        fractured = round(size * fractured / (plain + fractured))
        plain = size - fractured
    seeds = [
        *range(FIRST_SEED, FIRST_SEED + plain),
        *range(FRACTURED_SEED, FRACTURED_SEED + fractured),
    ]
    cases = []
    for number, seed in enumerate(seeds, start=1):
        path = folder / f"case-{seed:05d}.npz"
        if not path.exists():
            save_case(_phantom(recipe, seed), folder)
            say(f"{recipe.name}: phantom {number} of {len(seeds)}")
        cases.append(load_case(path))
    return usable(cases, bright_bone=recipe.bright_bone)


def fresh_cases(spacing_mm: float, count: int, *, width_mm: float | None = None) -> Iterator[Case]:
    """Realistic phantoms with seeds below those of training, one after the other.

    Args:
        spacing_mm: edge of their voxels.
        count: how many.
        width_mm: edge of their field of view in the plane; None for random ones.
    """
    for seed in range(count):
        made = render_training_case(seed, spacing_mm, width_mm=width_mm, training=False)
        yield _case(seed, made)


def _phantom(recipe: TaskRecipe, seed: int) -> Case:
    spine = sample_spine(seed) if seed < FRACTURED_SEED else fractured_spine(seed)
    made = render_training_case(seed, recipe.pool_spacing_mm, width_mm=recipe.pool_width_mm, spine=spine)
    return _case(seed, made)


def _case(seed: int, made: TrainingCase) -> Case:
    return Case(
        f"{seed:05d}",
        torch.from_numpy(made.hu),
        torch.from_numpy(made.labels),
        made.affine,
        dict(made.truth),
    )


def fractured_spine(seed: int) -> Spine:
    """A person with three to six fractures, as far as this person can break."""
    generator = np.random.default_rng(seed)
    kinds: tuple[Deformity, ...] = ("wedge", "biconcave", "crush")
    count = int(generator.integers(3, 7))
    for fractures in range(count, 0, -1):
        chosen = generator.choice(len(_FRACTURE_LEVELS), fractures, replace=False)
        plan = {
            _FRACTURE_LEVELS[int(index)]: (
                kinds[int(generator.choice(3, p=[0.5, 0.3, 0.2]))],
                int(generator.choice([1, 2, 3], p=[0.3, 0.45, 0.25])),
            )
            for index in chosen
        }
        try:
            return sample_spine(seed, fractures=plan)
        except ValueError:  # this person has no such level, or it cannot break so far: try fewer
            continue
    return sample_spine(seed)
