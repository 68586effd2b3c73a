"""ct-points as published: the mask alone, 128 pixels of 1 mm, P3's optimiser."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Generator

from dicom_ai_node.anatomy import Level
from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.inference.publish import publish
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.training.loop import train
from dicom_ai_node.training.points import PointsTask
from dicom_ai_node.training.points_recipes import POINTERS
from dicom_ai_node.training.recipes import recipe_of, recipe_of_bundle
from dicom_ai_node.training.tasks import RECIPES, TaskRecipe
from tests.training.labelled import block_spine

CPU = torch.device("cpu")
SHRUNK = dataclasses.replace(
    POINTERS["published"], spacing_mm=2.0, size=(32, 32), channels=(4, 4, 8), global_channels=4
)


def _recipe(name: str) -> TaskRecipe:
    recipe = recipe_of("ct-points", name)
    assert isinstance(recipe, TaskRecipe)
    return recipe


def test_the_published_one_is_p3s() -> None:
    recipe = _recipe("published")
    assert (recipe.preprocessing["spacing_mm"], recipe.preprocessing["size"]) == (1.0, (128, 128))
    assert recipe.arguments["in_channels"] == 1
    loop = recipe.loop
    assert (loop.optimiser, loop.learning_rate, loop.weight_decay, loop.clip) == ("sgd", 1e-4, 5e-4, 2.0)
    assert loop.constant
    assert loop.plateau
    described = MSCN(**recipe.arguments).state_dict()
    trained = recipe.build([], []).build().state_dict()
    assert {k: v.shape for k, v in described.items()} == {k: v.shape for k, v in trained.items()}


def test_the_small_one_is_what_is_trained_where_none_is_named() -> None:
    small, named = _recipe("small"), RECIPES["ct-points"]
    assert dict(small.arguments) == dict(named.arguments)
    assert dict(small.preprocessing) == dict(named.preprocessing)
    assert small.loop == named.loop


@pytest.mark.parametrize("name", list(POINTERS))
def test_a_bundle_is_measured_by_the_recipe_that_it_was_trained_by(name: str) -> None:
    recipe = _recipe(name)
    found = recipe_of_bundle(RECIPES["ct-points"], recipe.preprocessing)
    assert found.arguments["in_channels"] == recipe.arguments["in_channels"]


def test_published_it_is_shown_the_mask_alone_and_fractures_as_often_as_they_are() -> None:
    case = block_spine(1, 2.0, fractured=(Level.L2,))
    batches = [PointsTask([case], [], SHRUNK).draw(Generator().manual_seed(seed)) for seed in range(12)]
    image = torch.cat([batch["image"] for batch in batches])
    assert image.shape == (48, 1, 32, 32)
    assert set(image.unique().tolist()) == {0.0, 1.0}
    places = torch.cat([batch["positions"] for batch in batches])
    heights_mm = (places[:, 0::2] - places[:, 1::2]).norm(dim=2) * 2.0
    assert 0.1 < float((heights_mm < 20).all(dim=1).float().mean()) < 0.45


def test_published_it_learns_is_kept_and_places_points_by_the_mask(tmp_path: Path) -> None:
    case = block_spine(1, 2.0)
    task = PointsTask([case], [case], SHRUNK)
    options = dataclasses.replace(_recipe("published").loop, validate_every_steps=2)
    network = train(
        task, tmp_path / "t", minutes=1, device=CPU, options=options, say=lambda _line: None, max_steps=3
    )
    with torch.inference_mode():
        assert task.validate(network)["loss"] > 0
    recipe = _recipe("published")
    recipe = dataclasses.replace(
        recipe,
        arguments=SHRUNK.network_arguments(),
        preprocessing={**recipe.preprocessing, "spacing_mm": 2.0, "size": (32, 32)},
    )
    publish(recipe, network, tmp_path / "b", metrics={}, trained_on="cpu", training_data="blocks")
    bundle = load_bundle(tmp_path / "b", CPU)
    assert "--network published" in bundle.metadata.rebuild
    planes = torch.zeros(2, 2, 32, 32)
    planes[:, 1, 8:20, 8:24] = torch.tensor([0.6, 0.9])[:, None, None]
    planes[1, 0] = 300.0
    found = ct.six_points(bundle, planes)
    assert found.shape == (2, 6, 2)
    # Neither the image nor how sure the outline is changes a binary mask.
    assert torch.equal(found[0], found[1])
