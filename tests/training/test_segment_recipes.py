"""ct-segment as published: one channel, crops of 128 voxels of 1 mm, P3's optimiser."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.inference.publish import publish
from dicom_ai_node.training.loop import train
from dicom_ai_node.training.recipes import recipe_of
from dicom_ai_node.training.segment import SegmentTask
from dicom_ai_node.training.segment_recipes import SEGMENTERS, recipe_of_bundle
from dicom_ai_node.training.tasks import RECIPES, TaskRecipe
from tests.training.labelled import block_spine

CPU = torch.device("cpu")


def _recipe(name: str) -> TaskRecipe:
    recipe = recipe_of("ct-segment", name)
    assert isinstance(recipe, TaskRecipe)
    return recipe


def test_the_published_one_is_p3s() -> None:
    recipe = _recipe("published")
    assert recipe.preprocessing["spacing_mm"] == 1.0
    assert recipe.preprocessing["size"] == (128, 128, 128)
    assert recipe.preprocessing["marker_sigma_mm"] is None
    assert recipe.arguments["in_channels"] == 1
    loop = recipe.loop
    assert (loop.optimiser, loop.learning_rate, loop.weight_decay, loop.clip) == ("sgd", 1e-4, 5e-4, 2.0)


def test_the_small_one_is_what_is_trained_where_none_is_named() -> None:
    small, named = _recipe("small"), RECIPES["ct-segment"]
    assert small.arguments == named.arguments
    assert dict(small.preprocessing) == dict(named.preprocessing)


@pytest.mark.parametrize("name", list(SEGMENTERS))
def test_a_bundle_is_measured_by_the_recipe_that_it_was_trained_by(name: str) -> None:
    recipe = _recipe(name)
    found = recipe_of_bundle(RECIPES["ct-segment"], recipe.preprocessing)
    assert found.preprocessing["spacing_mm"] == recipe.preprocessing["spacing_mm"]
    points = RECIPES["ct-points"]
    assert recipe_of_bundle(points, points.preprocessing) is points


def test_without_a_marker_it_learns_is_kept_and_answers(tmp_path: Path) -> None:
    options = dataclasses.replace(
        SEGMENTERS["published"], spacing_mm=4.0, size=(16, 16, 16), channels=(8, 16), batch=2
    )
    task = SegmentTask([block_spine(1, 4.0)], [], options)
    network = train(task, tmp_path / "t", minutes=1, device=CPU, say=lambda _line: None, max_steps=3)
    recipe = _recipe("published")
    recipe = dataclasses.replace(
        recipe,
        arguments={**recipe.arguments, "channels": [8, 16]},
        preprocessing={**recipe.preprocessing, "spacing_mm": 4.0, "size": (16, 16, 16)},
    )
    publish(recipe, network, tmp_path / "b", metrics={}, trained_on="cpu", training_data="blocks")
    bundle = load_bundle(tmp_path / "b", CPU)
    assert "--network published" in bundle.metadata.rebuild
    with torch.inference_mode():
        answer = ct.segment(bundle, torch.zeros(2, 16, 16, 16))
    assert answer.shape == (2, 3, 16, 16, 16)
    assert torch.allclose(answer.sum(dim=1), torch.ones(2, 16, 16, 16), atol=1e-5)
