"""The recipes of the networks of spine MR: what each draws from, and what its bundle says about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import nn

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.mr_columns import NEIGHBOURS
from dicom_ai_node.networks.mr_intensity import PERCENTILES
from dicom_ai_node.phantom.mr_training_cases import render_mr_training_case
from dicom_ai_node.report import SIX_POINT_NAMES
from dicom_ai_node.training.loop import LoopOptions, Task
from dicom_ai_node.training.mri_cases import MrCase, as_int16, load_mr_case, save_mr_case
from dicom_ai_node.training.mri_detect import MriDetectOptions, MriDetectTask
from dicom_ai_node.training.mri_points import MriPointsOptions, MriPointsTask
from dicom_ai_node.training.recipe import NetworkRecipe
from dicom_ai_node.training.tasks import FIRST_SEED, FRACTURED_SEED, fractured_spine

NEVER_TRAINED: Final = ("VB1", "VB3")
"""Real cases whose names begin so are kept for validation."""

_REPEATED: Final = 4
"""A real case is drawn as often as so many phantoms: there are few, and they are what it is for."""

_RESLICED_MM: Final = 3.0
"""A third of the phantoms is interpolated between slices, as thin series are joined before inference."""


class MeasuredMrTask(Task, Protocol):
    """A task that can also say how a network does on one case."""

    def measure(self, network: nn.Module, case: MrCase) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra, NaN where it does not apply."""


@dataclass(frozen=True, kw_only=True)
class MriRecipe(NetworkRecipe):
    """How one task is trained on MR; the rest is told by `NetworkRecipe`.

    Attributes:
        pool_fractured: further phantoms with fractures, as in `tasks.TaskRecipe`.
        pool_spacing_mm: edge of their pixels.
        pool_edge_mm: edge of their field of view; None for those of real examinations.
        build: task from training cases and held-out cases.
    """

    pool_fractured: int
    pool_spacing_mm: float
    pool_edge_mm: float | None
    build: Callable[[Sequence[MrCase], Sequence[MrCase]], MeasuredMrTask]


_OUTLINE_AT: Final = 0.85
"""Trained so, the network draws bodies too large: at one half they have 1.2 times their volume, on phantoms
and on VB2."""

_DETECT, _POINTS = MriDetectOptions(), MriPointsOptions()

MRI_RECIPES: Final[Mapping[str, MriRecipe]] = {
    recipe.name: recipe
    for recipe in (
        MriRecipe(
            name="mri-detect",
            description="Dense 2.5-D network: body, its centre and its level on sagittal MR slices",
            architecture="ColumnDetector",
            arguments={
                "in_channels": NEIGHBOURS,
                "levels": len(_DETECT.levels),
                "channels": list(_DETECT.channels),
                "global_channels": _DETECT.global_channels,
            },
            output_channels=tuple(level.value for level in _DETECT.levels),
            preprocessing={
                "spacing_mm": _DETECT.spacing_mm,
                "percentiles": PERCENTILES,
                "outline_at": _OUTLINE_AT,
            },
            pool_size=160,
            pool_fractured=60,
            pool_spacing_mm=_DETECT.spacing_mm,
            pool_edge_mm=None,
            loop=LoopOptions(validate_every_s=1200),
            build=lambda training, held_out: MriDetectTask(training, held_out, _DETECT),
        ),
        MriRecipe(
            name="mri-points",
            description="2-D M-SCN: six morphometry points on a body's mid-sagittal MR slice (P3, 2.3.3)",
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
                "spacing_mm": _POINTS.spacing_mm,
                "size": _POINTS.size,
                "percentiles": PERCENTILES,
            },
            pool_size=60,
            pool_fractured=90,
            pool_spacing_mm=0.75,
            pool_edge_mm=240.0,
            loop=LoopOptions(validate_every_s=900),
            build=lambda training, held_out: MriPointsTask(training, held_out, _POINTS),
            taught_shares={"fractured": _POINTS.fractured},
        ),
    )
}
"""The tasks on MR of this version, by name."""


def mri_pool(
    recipe: MriRecipe, folder: Path, say: Callable[[str], None], size: int | None = None
) -> list[MrCase]:
    """The phantoms of a recipe; those that lie in the folder already are not made again.

    Arguments as in `tasks.phantom_pool`.
    """
    fractured, plain = recipe.pool_fractured, recipe.pool_size
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
            save_mr_case(phantom_case(recipe, seed, training=True), folder)
            say(f"{recipe.name}: phantom {number} of {len(seeds)}")
        cases.append(load_mr_case(path))
    return cases


def phantom_case(recipe: MriRecipe, seed: int, *, training: bool) -> MrCase:
    """The phantom of a seed on the recipe's grid; seeds from `FRACTURED_SEED` on have fractures."""
    made = render_mr_training_case(
        seed,
        recipe.pool_spacing_mm,
        edge_mm=recipe.pool_edge_mm,
        training=training,
        slice_mm=_RESLICED_MM if training and seed % 3 == 0 else None,
        spine=fractured_spine(seed) if seed >= FRACTURED_SEED else None,
    )
    return MrCase(
        f"{seed:05d}",
        as_int16(made.image),
        torch.from_numpy(made.labels),
        made.affine,
        dict(made.truth),
        made.series,
    )


def load_mr_cases(folder: Path) -> list[MrCase]:
    """All cases of a folder in the order of their names.

    Raises:
        ConfigurationError: the folder holds no case, or one of another kind.
    """
    paths = sorted(folder.glob("case-*.npz"))
    if not paths:
        raise ConfigurationError(
            f"{folder} holds no case-*.npz; write cases with dicom_ai_node.training.mri_cases.save_mr_case, "
            "or train with --data phantom"
        )
    return [load_mr_case(path) for path in paths]


def split_mr(
    phantoms: Sequence[MrCase], real: Sequence[MrCase], held_out: int
) -> tuple[list[MrCase], list[MrCase]]:
    """Cases to train on, and up to `held_out` (a fifth of each kind at most) to validate on.

    Real cases come several times among those to train on where there are phantoms too. Of real cases those
    that are never trained on are validated on, and are counted apart.
    """
    kept = [case for case in real if case.name.startswith(NEVER_TRAINED)]
    taught = [case for case in real if not case.name.startswith(NEVER_TRAINED)]
    training: list[MrCase] = []
    validation = kept[:held_out]
    for group, times in ((phantoms, 1), (taught, _REPEATED if phantoms else 1)):
        count = min(held_out, max(1, len(group) // 5)) if len(group) > 1 else 0
        validation += group[:count]
        training += list(group[count:]) * times
    return training, validation
