"""The recipes of mri-classify: P4's network as published, and what its discussion asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dicom_ai_node.networks.mri_classes import OUTPUTS
from dicom_ai_node.training.loop import LoopOptions
from dicom_ai_node.training.mri_classify import (
    MriClassifyOptions,
    MriClassifyTask,
    arguments_of,
    preprocessing_of,
)
from dicom_ai_node.training.mri_crops import MrExample, load_patient, save_patient
from dicom_ai_node.training.mri_people import mri_patient
from dicom_ai_node.training.recipe import NetworkRecipe

FIRST_SEED: Final = 1000
"""Patients of a training pool count from here; seeds below are kept for evaluation."""

POOL: Final = 400
"""Patients of a training pool, with some five vertebrae each."""

_PUBLISHED: Final = MriClassifyOptions(network={"backbone": "resnet50", "detached": True})
_SMALL: Final = MriClassifyOptions(
    network={"backbone": "resnet18", "dropout": 0.2}, healthy=20.0, healthy_benign=True, calibrated=True
)
_WIDE: Final[Mapping[str, Any]] = {"size": 96, "margin": 2.2, "behind": 0.2}
_STIR: Final[Mapping[str, Any]] = {"series": ("t1", "t2", "stir")}

CLASSIFIERS: Final[Mapping[str, MriClassifyOptions]] = {
    "published": _PUBLISHED,
    "wide": replace(_PUBLISHED, **_WIDE),
    "wide-stir": replace(_PUBLISHED, **_WIDE, **_STIR),
    "small": _SMALL,
    "small-wide": replace(_SMALL, **_WIDE),
    "small-wide-stir": replace(_SMALL, **_WIDE, **_STIR),
}
"""The classifiers that can be trained: P4's; the same with a box that holds canal, posterior elements and
tissue beside the body, as its discussion asks for; the same with STIR too; and each of them as a ResNet-18
that two processor cores can train, whose trunk learns from the features as well and from healthy vertebrae
what is not malignant."""

_PUBLISHED_LOOP: Final = LoopOptions(
    "adam",
    1e-4,
    weight_decay=1e-4,
    clip=10.0,
    warmup_steps=1,
    ema=0.0,
    beta1=0.5,
    constant=True,
    early_stopping=True,
    validate_every_steps=150,
)
"""P4, "Augmentation and training configurations": Adam, 1e-4, momentum term 0.5, an L2 term (of which no
amount is given), early stopping by the lowest validation loss; its hundred epochs of 4800 patches are 15 000
steps."""

_SMALL_LOOP: Final = replace(
    _PUBLISHED_LOOP,
    learning_rate=5e-4,
    warmup_steps=50,
    ema=0.98,
    constant=False,
    validate_every_s=600.0,
    validate_every_steps=None,
)
"""Faster at first and slower at last: a CPU does a tenth of the published steps."""


@dataclass(frozen=True, kw_only=True)
class MriClassifyRecipe(NetworkRecipe):
    """How the classifier is trained; the rest is told by `NetworkRecipe`.

    Attributes:
        options: of the task.
        make: the examples of a seed's patient, for training (or for a test: P4's patient, realistic).
    """

    options: MriClassifyOptions
    make: Callable[[int, bool], list[MrExample]] = lambda seed, training: mri_patient(seed, training=training)

    def build(self, training: Sequence[MrExample], held_out: Sequence[MrExample]) -> MriClassifyTask:
        """The task of these examples."""
        return MriClassifyTask(training, held_out, self.options)


def classify_recipe(name: str = "published") -> MriClassifyRecipe:
    """The recipe of one of `CLASSIFIERS`."""
    options = CLASSIFIERS[name]
    return MriClassifyRecipe(
        name="mri-classify",
        description=f"{name}: benign or malignant vertebra, and 15 features of it, on paired MR series (P4)",
        architecture="MriClassifier",
        arguments=arguments_of(options),
        output_channels=OUTPUTS,
        preprocessing=preprocessing_of(options),
        pool_size=POOL,
        loop=_SMALL_LOOP if name.startswith("small") else _PUBLISHED_LOOP,
        options=options,
        network=name,
    )


def patient_pool(
    recipe: MriClassifyRecipe, folder: Path, say: Callable[[str], None], size: int | None = None
) -> list[MrExample]:
    """The examples of a pool of phantom patients; files that lie in the folder already are not made again.

    Args:
        recipe: of the task.
        folder: where the patients are kept.
        say: gets a line per patient made.
        size: how many patients, instead of the recipe's number.
    """
    examples: list[MrExample] = []
    count = size or recipe.pool_size
    for number, seed in enumerate(range(FIRST_SEED, FIRST_SEED + count), start=1):
        path = folder / f"patient-{seed:05d}.npz"
        if not path.exists():
            save_patient(recipe.make(seed, True), folder)
            say(f"{recipe.name}: patient {number} of {count}")
        examples += load_patient(path)
    return examples


def task_of(series: Sequence[str], size: int, margin: float, behind: float) -> MriClassifyTask:
    """The task that a bundle of mri-classify was trained for, without examples; see `preprocessing_of`."""
    options = replace(_PUBLISHED, series=tuple(series), size=size, margin=margin, behind=behind)
    return MriClassifyTask([], [], options)
