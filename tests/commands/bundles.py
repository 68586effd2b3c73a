"""Small bundles of real tasks, untrained, as `train` would leave them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from dicom_ai_node.inference.publish import build_network, publish
from dicom_ai_node.training.points import PointsOptions, PointsTask
from dicom_ai_node.training.segment import SegmentOptions, SegmentTask
from dicom_ai_node.training.tasks import RECIPES, TaskRecipe

_SEGMENT = SegmentOptions(spacing_mm=4.0, size=(24, 16, 16), channels=(4, 8), marker_sigma_mm=12.0)
_POINTS = PointsOptions(spacing_mm=2.0, size=(32, 32), channels=(4, 4, 8), global_channels=4, batch=2)

SMALL: dict[str, TaskRecipe] = {
    "ct-segment": replace(
        RECIPES["ct-segment"],
        arguments={**RECIPES["ct-segment"].arguments, "channels": [4, 8]},
        preprocessing={**RECIPES["ct-segment"].preprocessing, "spacing_mm": 4.0, "size": (24, 16, 16)},
        pool_spacing_mm=4.0,
        bright_bone=False,
        build=lambda training, held_out: SegmentTask(training, held_out, _SEGMENT),
    ),
    "ct-points": replace(
        RECIPES["ct-points"],
        arguments={**RECIPES["ct-points"].arguments, "channels": [4, 4, 8], "global_channels": 4},
        preprocessing={**RECIPES["ct-points"].preprocessing, "spacing_mm": 2.0, "size": (32, 32)},
        build=lambda training, held_out: PointsTask(training, held_out, _POINTS),
    ),
}
"""Recipes whose networks learn and answer within a second."""


def write_bundle(folder: Path, task: str = "ct-segment") -> Path:
    """Publish an untrained small network of a task."""
    recipe = SMALL[task]
    torch.manual_seed(3)
    publish(recipe, build_network(recipe), folder, metrics={}, trained_on="cpu", training_data="nothing")
    return folder
