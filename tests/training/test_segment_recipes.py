"""ct-segment as published: one channel, crops of 128 voxels of 1 mm, P3's optimiser."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.inference.publish import publish
from dicom_ai_node.networks.intensity import smoothed
from dicom_ai_node.pipelines.ct_volume import CtVolumePipeline
from dicom_ai_node.training.augment import Pose
from dicom_ai_node.training.loop import train
from dicom_ai_node.training.recipes import recipe_of, recipe_of_bundle
from dicom_ai_node.training.segment import SegmentTask
from dicom_ai_node.training.segment_recipes import SEGMENTERS
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
    assert (recipe.preprocessing["smoothing_mm"], recipe.preprocessing["standardised"]) == (0.75, "volume")
    loop = recipe.loop
    assert (loop.optimiser, loop.learning_rate, loop.weight_decay, loop.clip) == ("sgd", 1e-4, 5e-4, 2.0)
    # Table 1: the rate falls on a plateau, and by nothing else.
    assert loop.constant
    assert loop.plateau


def _published(*broken: Level) -> SegmentTask:
    options = dataclasses.replace(SEGMENTERS["published"], spacing_mm=4.0, size=(16, 16, 16), batch=8)
    case = block_spine(1, 4.0, fractured=broken)
    return SegmentTask([case], [case], options)


def test_published_the_loss_is_dice_and_cross_entropy_alone() -> None:
    task = _published(Level.L2)
    target = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    target[0, 0] = 1
    target[0, 1, 0, 0] = 2
    logits = torch.randn(1, 3, 2, 2, 2, generator=Generator().manual_seed(2))
    said = logits.softmax(dim=1)[0]
    dice, entropy = 0.0, 0.0
    for label in range(3):
        true = (target[0] == label).float()
        overlap = 2 * float((said[label] * true).sum()) + 1e-5
        dice += (1 - overlap / (float((said[label] ** 2).sum()) + float(true.sum()) + 1e-5)) / 3
        entropy -= float((true * said[label].log()).sum()) / 8
    assert float(task.loss(lambda _image: logits, {"image": logits, "target": target})) == pytest.approx(  # type: ignore[arg-type]
        dice + entropy
    )
    guided = dataclasses.replace(task.options, loss="guided")
    assert SegmentTask([], [], guided).loss(
        lambda _image: logits,  # type: ignore[arg-type]
        {"image": logits, "target": target},
    ) != pytest.approx(dice + entropy)


def test_published_fractures_are_drawn_as_often_as_they_are() -> None:
    task = _published(Level.L2)
    generator = Generator().manual_seed(3)
    crops = torch.cat([task.draw(generator)["target"].flatten(1).amax(dim=1) for _ in range(12)])
    assert 0.1 < float((crops == 2).float().mean()) < 0.4
    # None lies beside the column, where nothing is to be drawn.
    assert not bool((crops == 0).any())
    assert task.taught_shares == {"fractured": 0.25}
    assert SegmentTask(task.training, [], SEGMENTERS["small"]).taught_shares == {"fractured": 0.5}


def test_published_a_crop_is_filtered_and_standardised_as_its_volume_is() -> None:
    task = _published()
    (case,) = task.training
    still = dataclasses.replace(
        task.options, jitter_mm=0.0, pose=Pose((0.0, 0.0, 0.0), (1.0, 1.0), 0.0, mirror_left_right=False)
    )
    image = SegmentTask([case], [], still).draw(Generator().manual_seed(1))["image"]
    clipped = case.voxels.double().clamp(-2048, 8192)
    sigma = task.options.smoothing_mm / task.options.spacing_mm
    whole = (smoothed(clipped.float(), sigma) - float(clipped.mean())) / float(clipped.std(correction=0))
    # Its brightest voxel is one of the volume's.
    brightest = image.amax(dim=(1, 2, 3, 4))
    nearest = (whole.flatten()[None] - brightest[:, None]).abs().amin(dim=1)
    assert float(nearest.max()) < 0.02
    assert abs(float(image.mean())) > 0.3


def test_published_the_rate_follows_the_loss_on_held_out_crops() -> None:
    task = _published(Level.L2)
    network = task.build().eval()
    with torch.inference_mode():
        first, again = task.validate(network), task.validate(network)
    assert first["loss"] == again["loss"] > 0
    assert "loss" not in SegmentTask([], [], SEGMENTERS["small"]).validate(network)


def test_the_small_one_is_what_is_trained_where_none_is_named() -> None:
    small, named = _recipe("small"), RECIPES["ct-segment"]
    assert small.arguments == named.arguments
    assert dict(small.preprocessing) == dict(named.preprocessing)


@pytest.mark.parametrize("name", list(SEGMENTERS))
def test_a_bundle_is_measured_by_the_recipe_that_it_was_trained_by(name: str) -> None:
    recipe = _recipe(name)
    found = recipe_of_bundle(RECIPES["ct-segment"], recipe.preprocessing)
    assert found.preprocessing["spacing_mm"] == recipe.preprocessing["spacing_mm"]


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
        look = ct.look_of(bundle, block_spine(1, 4.0).voxels)
        answer = ct.segment(bundle, torch.zeros(2, *(edge + 2 * look.margin for edge in (16, 16, 16))), look)
    assert answer.shape == (2, 3, 16, 16, 16)
    assert torch.allclose(answer.sum(dim=1), torch.ones(2, 16, 16, 16), atol=1e-5)


class _Bright(torch.nn.Module):
    """Calls a body what is brighter than the mean of its volume."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        drawn = 50 * image
        return torch.cat([-drawn, drawn, torch.full_like(image, -99.0)], dim=1)


def test_a_body_lies_where_its_bone_is_with_a_filter_that_looks_beyond_the_crop(tmp_path: Path) -> None:
    recipe = _recipe("published")
    small = {**recipe.preprocessing, "spacing_mm": 2.0, "size": (32, 32, 32), "smoothing_mm": 2.0}
    recipe = dataclasses.replace(
        recipe, arguments={**recipe.arguments, "channels": [4, 8]}, preprocessing=small
    )
    network = SegmentTask([], [], dataclasses.replace(SEGMENTERS["published"], channels=(4, 8))).build()
    publish(recipe, network, tmp_path / "b", metrics={}, trained_on="cpu", training_data="nothing")
    bundle = dataclasses.replace(load_bundle(tmp_path / "b", CPU), network=_Bright())
    case = block_spine(1, 2.0)
    affine = np.vstack([case.affine[:3], [0.0, 0.0, 0.0, 1.0]])
    volume = Volume(case.voxels.numpy(), affine, (), "1.2", "1.3", "1.4", "CT")
    center = np.array(case.truth["vertebrae"][1]["center_mm"])
    look = ct.look_of(bundle, case.voxels)
    (body,) = CtVolumePipeline(bundle, bundle, bundle)._bodies(volume, look, [center])
    assert body is not None
    assert body.probability.shape == (32, 32, 32)
    assert np.abs(body.center_mm() - center).max() < 1.0
