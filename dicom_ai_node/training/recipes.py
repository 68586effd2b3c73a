"""All tasks that this version trains, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.training.ct_classify_recipes import (
    CT_CLASSIFIERS,
    CtClassifyRecipe,
    ct_classify_recipe,
)
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
from dicom_ai_node.training.localise_recipes import LOCALISERS, localise_recipe
from dicom_ai_node.training.mri_classify_recipes import CLASSIFIERS, MriClassifyRecipe, classify_recipe
from dicom_ai_node.training.mri_recipes import MRI_RECIPES, MriRecipe
from dicom_ai_node.training.points_recipes import POINTERS, points_recipe
from dicom_ai_node.training.segment_recipes import SEGMENTERS, segment_recipe
from dicom_ai_node.training.tasks import RECIPES, TaskRecipe

Recipe = TaskRecipe | FilmRecipe | MriRecipe | MriClassifyRecipe | CtDetectRecipe | CtClassifyRecipe


_CHOICES: Final[Mapping[str, tuple[Collection[str], Callable[[str], Recipe]]]] = {
    "radiograph-detect": (DETECTORS, detect_recipe),
    "radiograph-acuity": (ACUITY_NETWORKS, acuity_recipe),
    "mri-classify": (CLASSIFIERS, classify_recipe),
    "ct-detect": (SLICE_DETECTORS, slice_detect_recipe),
    "ct-classify": (CT_CLASSIFIERS, ct_classify_recipe),
    "ct-localise": (LOCALISERS, localise_recipe),
    "ct-segment": (SEGMENTERS, segment_recipe),
    "ct-points": (POINTERS, points_recipe),
}
"""Tasks that know several networks: their names, and the recipe of one."""


_TOLD_BY_SIZE: Final[Mapping[str, tuple[Collection[str], Callable[[str], TaskRecipe]]]] = {
    "ct-segment": (SEGMENTERS, segment_recipe),
    "ct-points": (POINTERS, points_recipe),
}
"""Tasks whose networks differ in the size of what they are shown."""

_SINGLE: Final[Mapping[str, Callable[[], Recipe]]] = {
    "ct-detect": slice_detect_recipe,
    "ct-classify": ct_classify_recipe,
    "mri-classify": classify_recipe,
}
"""Tasks that have a kind of recipe of their own, and their recipe as published."""


def recipe_of_bundle(recipe: TaskRecipe, preprocessing: Mapping[str, Any]) -> TaskRecipe:
    """The recipe that a bundle on CT was trained by, so that it is measured as it was taught.

    Args:
        recipe: of the task, where no network is named.
        preprocessing: of the bundle's metadata.
    """
    if recipe.name not in _TOLD_BY_SIZE:
        return recipe
    known = (_TOLD_BY_SIZE[recipe.name][1](name) for name in _TOLD_BY_SIZE[recipe.name][0])
    size = tuple(preprocessing["size"] or ())
    return next((one for one in known if one.preprocessing["size"] == size), recipe)


def trained_tasks() -> list[str]:
    """Names of the tasks: of CT and its slices, of radiographs, of MR."""
    return [*RECIPES, "ct-detect", "ct-classify", *FILM_RECIPES, *MRI_RECIPES, "mri-classify"]


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
    if task in _SINGLE:
        return _SINGLE[task]()
    for recipes in (RECIPES, FILM_RECIPES, MRI_RECIPES):
        if task in recipes:
            return recipes[task]
    raise ConfigurationError(f"{task} is no task; there are: {', '.join(trained_tasks())}")
