"""The recipes of ct-classify: P2's network as published, and one that a CPU can train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.training.augment import Intensity
from dicom_ai_node.training.ct_classify import (
    BONE_WINDOW,
    CtClassifyOptions,
    CtClassifyTask,
    preprocessing_of,
)
from dicom_ai_node.training.ct_slice_pool import slice_pool
from dicom_ai_node.training.ct_slices import CtSlice
from dicom_ai_node.training.loop import LoopOptions
from dicom_ai_node.training.recipe import NetworkRecipe

POOL: Final = 240
"""Phantom patients of a training pool, of five to eight slices each."""

_PUBLISHED: Final = CtClassifyOptions(network={"backbone": "resnet50"})

CT_CLASSIFIERS: Final[Mapping[str, CtClassifyOptions]] = {
    "published": _PUBLISHED,
    "resnet18": replace(_PUBLISHED, network={"backbone": "resnet18"}),
    "mobilenet": replace(_PUBLISHED, network={"backbone": "mobilenet_v2"}),
    "small": CtClassifyOptions(
        size=96,
        windows_hu=(BONE_WINDOW, (-50.0, 350.0), (-1000.0, 3000.0)),
        degrees=10.0,
        quarter_turned=0.0,
        density=0.05,
        look=Intensity(thick_slices=0.0, blur=0.2, noise=0.3, noise_hu=40.0),
        network={"backbone": "narrow", "norm": "group", "dropout": 0.2},
    ),
}
"""The classifiers that can be trained: P2's ResNet-50, the smaller backbones that P2 compares in its
detector, and a narrow network for a CPU, which is shown three windows (bone, marrow, gas to metal) and turned
little: it has no time to learn what a spine looks like lying on its side."""

_PUBLISHED_LOOP: Final = LoopOptions(
    "adam",
    1e-4,
    weight_decay=0.0,
    clip=10.0,
    warmup_steps=1,
    ema=0.0,
    constant=True,
    early_stopping=True,
    validate_every_steps=500,
)
"""Adam at 1e-4 until the validation loss is lowest. P2's optimiser and rate stand in its appendix alone."""

_SMALL_LOOP: Final = LoopOptions(
    "adamw", 2e-3, weight_decay=1e-3, warmup_steps=100, ema=0.995, validate_every_s=600.0
)
"""Faster at first, slower at last, weights averaged: a CPU has some thousand steps in all."""


@dataclass(frozen=True, kw_only=True)
class CtClassifyRecipe(NetworkRecipe):
    """How the classifier is trained; the rest is told by `NetworkRecipe`.

    Attributes:
        options: of the task.
    """

    options: CtClassifyOptions

    def build(self, training: Sequence[CtSlice], held_out: Sequence[CtSlice]) -> CtClassifyTask:
        """The task of these slices."""
        return CtClassifyTask(training, held_out, self.options)

    def pool(self, folder: Path, say: Callable[[str], None], size: int | None = None) -> list[CtSlice]:
        """The slices of its phantom patients, or of `size` of them; see `slice_pool`."""
        return slice_pool(folder, size or self.pool_size, say)


def ct_classify_recipe(name: str = "published") -> CtClassifyRecipe:
    """The recipe of one of `CT_CLASSIFIERS`."""
    options = CT_CLASSIFIERS[name]
    return CtClassifyRecipe(
        name="ct-classify",
        description=f"{name}: five diseases of a vertebra, or none, on sagittal CT slices (P2)",
        architecture="CtClassifier",
        arguments=dict(options.network),
        output_channels=OUTPUTS,
        preprocessing=preprocessing_of(options),
        pool_size=POOL,
        loop=_SMALL_LOOP if name == "small" else _PUBLISHED_LOOP,
        options=options,
        network=name,
    )


def ct_classify_task(preprocessing: Mapping[str, Any]) -> CtClassifyTask:
    """The task that a bundle of ct-classify was trained for, without slices; see `preprocessing_of`."""
    return CtClassifyTask([], [], replace(_PUBLISHED, **preprocessing))
