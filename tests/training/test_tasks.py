"""The recipes: what a bundle says about itself fits what is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dicom_ai_node.inference.bundle import NetworkDefinition, Preprocessing
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.networks.unet import UNet
from dicom_ai_node.training.recipes import recipe_of, trained_tasks
from dicom_ai_node.training.tasks import FRACTURED_SEED, RECIPES, phantom_pool

ALL_TASKS = {
    "radiograph-detect", "radiograph-acuity", "ct-detect", "ct-classify", "ct-localise", "ct-segment",
    "ct-points", "radiograph-view", "radiograph-localise", "mri-detect", "mri-classify", "radiograph-points",
    "mri-points",
}  # fmt: skip


def test_every_task_of_the_command_line_is_known() -> None:
    assert set(trained_tasks()) == ALL_TASKS
    assert all(recipe_of(task).name == task for task in ALL_TASKS)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipe_describes_the_network_that_is_trained(name: str) -> None:
    recipe = RECIPES[name]
    definition = NetworkDefinition(architecture=recipe.architecture, arguments=dict(recipe.arguments))  # type: ignore[arg-type]
    described = {"MSCN": MSCN, "UNet": UNet}[definition.architecture](**definition.arguments)
    trained = recipe.build([], []).build()
    shapes = {key: value.shape for key, value in described.state_dict().items()}
    assert shapes == {key: value.shape for key, value in trained.state_dict().items()}
    assert definition.arguments["out_channels"] == len(recipe.output_channels)
    assert Preprocessing(**recipe.preprocessing).spacing_mm > 0


def test_pool_is_made_once_and_holds_fractures(tmp_path: Path) -> None:
    recipe = replace(RECIPES["ct-segment"], pool_spacing_mm=6.0, pool_width_mm=90.0, bright_bone=False)
    lines: list[str] = []
    first = phantom_pool(recipe, tmp_path, lines.append, size=4)
    assert len(lines) == 4
    assert {path.name for path in tmp_path.iterdir()} >= {"case-01000.npz", f"case-{FRACTURED_SEED:05d}.npz"}
    second = phantom_pool(recipe, tmp_path, lines.append, size=4)
    assert len(lines) == 4
    assert [case.name for case in first] == [case.name for case in second]
