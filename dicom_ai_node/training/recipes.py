"""All tasks that this version trains, by name."""

from __future__ import annotations

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.training.film_recipes import DETECTORS, FILM_RECIPES, FilmRecipe, detect_recipe
from dicom_ai_node.training.mri_classify_recipes import CLASSIFIERS, MriClassifyRecipe, classify_recipe
from dicom_ai_node.training.mri_recipes import MRI_RECIPES, MriRecipe
from dicom_ai_node.training.tasks import PLANNED_TASKS, RECIPES, TaskRecipe

Recipe = TaskRecipe | FilmRecipe | MriRecipe | MriClassifyRecipe


def trained_tasks() -> list[str]:
    """Names of the tasks: of CT, of radiographs, of MR."""
    return [*RECIPES, *FILM_RECIPES, *MRI_RECIPES, classify_recipe().name]


def recipe_of(task: str, network: str | None = None) -> Recipe:
    """The recipe of a task, with one of the networks that the task knows.

    Raises:
        ConfigurationError: this version has no such task, or the task no such network.
    """
    if network is not None:
        if task == "radiograph-detect" and network in DETECTORS:
            return detect_recipe(network)
        if task == "mri-classify" and network in CLASSIFIERS:
            return classify_recipe(network)
        raise ConfigurationError(
            f"--network {network} is none of {task}; radiograph-detect has: {', '.join(DETECTORS)}; "
            f"mri-classify has: {', '.join(CLASSIFIERS)}"
        )
    if task == "mri-classify":
        return classify_recipe()
    for recipes in (RECIPES, FILM_RECIPES, MRI_RECIPES):
        if task in recipes:
            return recipes[task]
    reason = "is not trained by this version" if task in PLANNED_TASKS else "is no task"
    raise ConfigurationError(f"{task} {reason}; there are: {', '.join(trained_tasks())}")
