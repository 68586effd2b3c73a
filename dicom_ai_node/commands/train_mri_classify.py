"""`train mri-classify`: the patients it learns from, and P4's cross-validation of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from dicom_ai_node.training.loop import LoopOptions, train
from dicom_ai_node.training.mri_classify import cross_validated
from dicom_ai_node.training.mri_classify_recipes import MriClassifyRecipe, patient_pool
from dicom_ai_node.training.mri_crops import MrExample, load_patients, patients_of
from dicom_ai_node.training.mri_scores import feature_areas

if TYPE_CHECKING:
    from dicom_ai_node.training.mri_scores import Values

Say = Callable[[str], None]


def labelled_patients(
    recipe: MriClassifyRecipe, data: Path | None, folder: Path, say: Say, pool: int | None
) -> list[MrExample]:
    """The examples to learn from: those of the folder `data`, or phantoms that are kept in `folder`."""
    return patient_pool(recipe, folder, say, pool) if data is None else load_patients(data)


def fold_scores(
    recipe: MriClassifyRecipe,
    examples: Sequence[MrExample],
    folds: int,
    folder: Path,
    *,
    minutes: float,
    steps: int | None,
    device: torch.device,
    options: LoopOptions,
    say: Say,
) -> tuple[str, Values]:
    """(what was measured, scores) of networks that are trained fold by fold; see `cross_validated`.

    Args:
        recipe: of the classifier.
        examples: of all patients.
        folds: how many; each is trained as long as a network for use.
        folder: for the checkpoints.
        minutes, steps, device, options: of each training, see `training.loop.train`.
        say: gets the lines of the trainings.
    """
    trained = 0

    def fit(training: Sequence[MrExample], stopping: Sequence[MrExample]) -> nn.Module:
        nonlocal trained
        trained += 1
        say(f"{recipe.name}: fold {trained} of {folds}")
        return train(
            recipe.build(training, stopping),
            folder / f"fold-{trained:02d}",
            minutes=minutes,
            device=device,
            options=options,
            say=say,
            max_steps=steps,
        )

    # P4 judges patients with a fracture; look-alikes are learned from, and judged for their features alone.
    values, _, answers = cross_validated(examples, fit, recipe.options, folds=folds, resamples=0)
    areas, _ = feature_areas(answers, resamples=0)
    told = f"{folds}-fold cross-validation of {len(patients_of(examples))} patients"
    return told, values | {f"auc_{name}": area for name, area in areas.items()}
