"""Turns trained weights into a bundle: metadata, half-precision safetensors, model card."""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import nn

from dicom_ai_node import __version__
from dicom_ai_node.inference.bundle import Metadata, NetworkDefinition, combined_hash, save_bundle
from dicom_ai_node.inference.preprocessing import (
    AnyPreprocessing,
    CtPatchPreprocessing,
    FilmPreprocessing,
    MriPatchPreprocessing,
    MrPreprocessing,
    Preprocessing,
    SlicePreprocessing,
)
from dicom_ai_node.training.ct_classify_recipes import CtClassifyRecipe
from dicom_ai_node.training.ct_detect_recipes import CtDetectRecipe
from dicom_ai_node.training.film_recipes import FilmRecipe
from dicom_ai_node.training.mri_classify_recipes import MriClassifyRecipe
from dicom_ai_node.training.mri_recipes import MriRecipe
from dicom_ai_node.training.recipes import Recipe
from dicom_ai_node.training.tasks import TaskRecipe

_DEVICE_NAMESPACE: Final = uuid.UUID("6a2d0f7e-3c55-4b57-9a0b-0d1c0a5e7e10")

INTENDED_USE: Final = (
    "Research use, not a medical device. Adult spine CT, native or with contrast agent, "
    "slices up to 6.5 mm apart."
)

FILM_USE: Final = "Research use, not a medical device. Lateral spine radiographs of adults."

MR_USE: Final = (
    "Research use, not a medical device. Sagittal spine MR of adults: T1, T2, STIR, Dixon; "
    "slices up to 10 mm apart."
)

MR_PATCH_USE: Final = (
    "Research use, not a medical device. Fractured or otherwise abnormal vertebrae on sagittal T1 and T2 "
    "(and STIR) series of the adult thoracic and lumbar spine."
)

SLICE_USE: Final = (
    "Research use, not a medical device. Sagittal slices of CT of the adult thoracic and lumbar spine, as "
    "scanned or reformatted."
)

_KINDS: Final[Mapping[type, tuple[type[AnyPreprocessing], str]]] = {
    TaskRecipe: (Preprocessing, INTENDED_USE),
    FilmRecipe: (FilmPreprocessing, FILM_USE),
    MriRecipe: (MrPreprocessing, MR_USE),
    MriClassifyRecipe: (MriPatchPreprocessing, MR_PATCH_USE),
    CtDetectRecipe: (SlicePreprocessing, SLICE_USE),
    CtClassifyRecipe: (CtPatchPreprocessing, SLICE_USE),
}
"""Recipe -> what its bundle says of its input, and of its use."""


@dataclass(frozen=True)
class HowTrained:
    """What the command that rebuilds a bundle says beyond its task, data and steps.

    Attributes:
        precision: what the network computed in.
        learning_rate: where it was not the recipe's.
        started_from: the bundle whose weights training began with, if any.
        kept: share of its weights in the result.
        pool: how many phantoms were made, where it was not the recipe's number.
    """

    precision: str = "float32"
    learning_rate: float | None = None
    started_from: Metadata | None = None
    kept: float = 0.0
    pool: int | None = None

    def options(self) -> str:
        """As options of `train`."""
        started = self.started_from
        return (
            (f" --start-from models/{started.name}" if started else "")
            + (f" --keep-start {self.kept:g}" if self.kept else "")
            + (f" --learning-rate {self.learning_rate:g}" if self.learning_rate else "")
            + (f" --precision {self.precision}" if self.precision != "float32" else "")
            + (f" --pool {self.pool}" if self.pool is not None else "")
        )

    def data(self) -> str:
        """What the weights to begin with had seen, and which they were."""
        if self.started_from is None:
            return ""
        return (
            f"; from the weights {combined_hash(self.started_from.weights)[:12]} on, which had seen "
            f"{self.started_from.training_data}"
        )


def device_uid(name: str, version: str) -> str:
    """A UID under 2.25 that stays the same for one version of a bundle (PS3.5 annex B.2)."""
    return f"2.25.{uuid.uuid5(_DEVICE_NAMESPACE, f'{name} {version}').int}"


def publish(
    recipe: Recipe,
    network: nn.Module,
    folder: Path,
    *,
    metrics: Mapping[str, Mapping[str, float]],
    trained_on: str,
    training_data: str,
    data: str = "phantom",
    steps: int | None = None,
    taught_shares: Mapping[str, float] | None = None,
    how: HowTrained | None = None,
    notes: str = "",
) -> Metadata:
    """Write the bundle of a trained network to `folder`.

    Args:
        recipe: of the task.
        network: with its final weights.
        metrics: data set -> name -> value; goes into metadata and card.
        trained_on: the device, as "cpu" or "cuda: <name>".
        training_data: what it saw, in a sentence.
        data: what the command that rebuilds the bundle is to train on: "phantom", or the name of a folder.
        steps: of the training, where it went by steps: the command that rebuilds the same weights names them.
        taught_shares: how frequent a class was in training, where the recipe does not fix it.
        how: where it was not as the recipe has it.
        notes: a paragraph for the card: where it falls short.
    """
    rebuild = f"dicom-ai-node train {recipe.name} --data {data} --out models/{recipe.name}"
    if recipe.network:
        rebuild += f" --network {recipe.network}"
    if steps is not None:
        rebuild += f" --steps {steps}"
    how = how or HowTrained()
    rebuild += how.options()
    kind, use = _KINDS[type(recipe)]
    metadata = save_bundle(
        folder,
        network,
        Metadata(
            name=recipe.name,
            version=__version__,
            task=recipe.name,
            description=recipe.description,
            authors="the dicom-ai-node authors",
            license="Apache-2.0",
            intended_use=use,
            training_data=training_data + how.data(),
            trained_on=trained_on,
            rebuild=rebuild,
            output_channels=recipe.output_channels,
            network=NetworkDefinition.model_validate(
                {"architecture": recipe.architecture, "arguments": dict(recipe.arguments)}
            ),
            preprocessing=kind.model_validate(dict(recipe.preprocessing)),
            taught_shares=dict(taught_shares or recipe.taught_shares),
            # JSON knows no NaN: what could not be measured is left out.
            metrics={
                data: {name: value for name, value in values.items() if math.isfinite(value)}
                for data, values in metrics.items()
            },
            weights=(),
            device_uid=device_uid(recipe.name, __version__),
        ),
    )
    (folder / "README.md").write_text(_card(metadata, notes), "utf-8")
    return metadata


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network with fresh weights."""
    return recipe.build([], []).build()


def _card(metadata: Metadata, notes: str) -> str:
    lines = [
        f"# {metadata.name} {metadata.version}",
        "",
        f"{metadata.description}.",
        "",
        f"- intended use: {metadata.intended_use}",
        f"- training data: {metadata.training_data}",
        f"- trained-on: {metadata.trained_on}",
        f"- licence: {metadata.license}",
        f"- rebuild: `{metadata.rebuild}`",
        "",
        "## Scores",
        "",
        "| data | measure | value |",
        "|---|---|---|",
    ]
    for data, values in metadata.metrics.items():
        lines += [f"| {data} | {name} | {value:.4g} |" for name, value in values.items()]
    if " --data phantom " in metadata.rebuild:
        lines += [
            "",
            "No image of a patient was used in training; real images were only looked at and measured on.",
        ]
    if notes:
        lines += ["", "## Where it falls short", "", notes.strip()]
    return "\n".join(lines) + "\n"
