"""`train mri-classify` and `evaluate mri-classify`: from labelled patients to a table beside the paper's."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.networks.mri_classes import FEATURES
from dicom_ai_node.training import mri_classify_recipes
from dicom_ai_node.training.mri_crops import save_patient
from tests.training.mri_drawn import drawn_patients

runner = CliRunner()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of patients, folder of a trained bundle)."""
    root = tmp_path_factory.mktemp("mri")
    examples = drawn_patients(6)
    for first in range(0, 12, 2):
        save_patient(examples[first : first + 2], root / "patients")
    arguments = ["train", "mri-classify", "--network", "small", "--out", str(root / "models" / "small")]
    small = replace(mri_classify_recipes.CLASSIFIERS["small"], size=32, batch=8)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            mri_classify_recipes, "CLASSIFIERS", {**mri_classify_recipes.CLASSIFIERS, "small": small}
        )
        said = runner.invoke(
            app,
            [*arguments, "--data", str(root / "patients"), "--device", "cpu", "--steps", "1", "--folds", "3"],
        )
    assert said.exit_code == 0, said.output
    shutil.copytree(root / "models" / "small", root / "models" / "twin")
    return root / "patients", root / "models"


def test_training_leaves_a_bundle_with_per_patient_scores(trained: tuple[Path, Path]) -> None:
    metadata = json.loads((trained[1] / "small" / "metadata.json").read_text())
    assert metadata["task"] == "mri-classify"
    assert metadata["preprocessing"] == {"series": ["t1", "t2"], "size": 32, "margin": 1.15, "behind": 0.0}
    assert {"loss", "accuracy", "auc"} <= set(metadata["metrics"]["4 held-out cases"])
    folds = metadata["metrics"]["3-fold cross-validation of 6 patients"]
    assert {"accuracy", "auc", "auc_diffuse_change"} <= set(folds)
    assert metadata["output_channels"] == ["malignant", *FEATURES]


def test_bundles_are_compared_on_the_same_patients(trained: tuple[Path, Path], tmp_path: Path) -> None:
    patients, models = trained
    said = runner.invoke(
        app,
        ["evaluate", "mri-classify", "--bundle", str(models), "--data", str(patients), "--json",
         str(tmp_path / "out.json"), "--plots", str(tmp_path / "plots"), "--threshold", "0"],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    found = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert found["n"] == 6
    # From 0 on everything is malignant.
    assert found["metrics"] == {"accuracy": 0.5, "sensitivity": 1.0, "specificity": 0.0}
    assert found["confusion_truth_found"]["small"] == [[0, 3], [0, 3]]
    rows = found["accuracy_sensitivity_specificity"]
    assert rows["small"] == rows["twin"] == [0.5, 1.0, 0.0]
    assert rows["P4, ResNet-50"] == [0.92, 0.94, 0.91]
    assert set(found["feature_auc"]["small"]) == set(FEATURES)
    assert (tmp_path / "plots" / "mri-classify.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "mri-classify", "--network", "mask-rcnn", "--out", "x"], "small-wide-stir"),
        (["train", "ct-segment", "--folds", "10", "--out", "x"], "held-out set"),
        (["train", "mri-classify", "--data", "no/such/folder", "--out", "x"], "neither"),
        (["evaluate", "mri-classify", "--bundle", "no/such/folder"], "no bundle"),
    ],
)
def test_wrong_use_is_named(arguments: list[str], words: str) -> None:
    said = runner.invoke(app, arguments)
    assert said.exit_code == 2
    assert words in said.stderr
