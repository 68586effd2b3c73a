"""All tasks that this version trains, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.training.ct_detect_recipes import (
    SLICE_DETECTORS,
    CtDetectRecipe,
    slice_detect_recipe,
)
from dicom_ai_node.training.film_recipes import (
    ACUITY_NETWORKS,
    DETECTORS,
    FILM_RECIPES,
    FilmRecipe,
    acuity_recipe,
    detect_recipe,
)
from dicom_ai_node.training.mri_classify_recipes import CLASSIFIERS, MriClassifyRecipe, classify_recipe
from dicom_ai_node.training.mri_recipes import MRI_RECIPES, MriRecipe
from dicom_ai_node.training.tasks import PLANNED_TASKS, RECIPES, TaskRecipe

Recipe = TaskRecipe | FilmRecipe | MriRecipe | MriClassifyRecipe | CtDetectRecipe


_CHOICES: Final[Mapping[str, tuple[Collection[str], Callable[[str], Recipe]]]] = {
    "radiograph-detect": (DETECTORS, detect_recipe),
    "radiograph-acuity": (ACUITY_NETWORKS, acuity_recipe),
    "mri-classify": (CLASSIFIERS, classify_recipe),
    "ct-detect": (SLICE_DETECTORS, slice_detect_recipe),
}
"""Tasks that know several networks: their names, and the recipe of one."""


def trained_tasks() -> list[str]:
    """Names of the tasks: of CT, of radiographs, of MR."""
    return [*RECIPES, slice_detect_recipe().name, *FILM_RECIPES, *MRI_RECIPES, classify_recipe().name]


def recipe_of(task: str, network: str | None = None) -> Recipe:
    """The recipe of a task, with one of the networks that the task knows.

    Raises:
        ConfigurationError: this version has no such task, or the task no such network.
    """
    if network is not None:
        if task in _CHOICES and network in _CHOICES[task][0]:
            return _CHOICES[task][1](network)
        there = "; ".join(f"{name} has: {', '.join(known)}" for name, (known, _) in _CHOICES.items())
        raise ConfigurationError(f"--network {network} is none of {task}; {there}")
    if task == "mri-classify":
        return classify_recipe()
    if task == "ct-detect":
        return slice_detect_recipe()
    for recipes in (RECIPES, FILM_RECIPES, MRI_RECIPES):
        if task in recipes:
            return recipes[task]
    reason = "is not trained by this version" if task in PLANNED_TASKS else "is no task"
    raise ConfigurationError(f"{task} {reason}; there are: {', '.join(trained_tasks())}")
