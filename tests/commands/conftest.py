"""What the tests of several commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_ai_node.training import recipes
from dicom_ai_node.training.cases import save_case
from tests.commands.bundles import SMALL
from tests.training.labelled import block_spine


@pytest.fixture
def small_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line trains and evaluates small networks."""
    monkeypatch.setattr(recipes, "RECIPES", {**recipes.RECIPES, **SMALL})


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """A folder of three labelled cases with voxels of 4 mm, each with a fractured L2."""
    folder = tmp_path / "cases"
    for seed in range(3):
        save_case(block_spine(seed, 4.0), folder)
    return folder
