"""`train ct-classify` and `evaluate ct-classify`: from labelled slices to the paper's own table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.training import ct_classify_recipes
from dicom_ai_node.training.ct_slices import save_slices
from tests.training.ct_drawn import drawn_patients, drawn_slice

runner = CliRunner()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of slices, folder of a trained bundle)."""
    root = tmp_path_factory.mktemp("ct-classify")
    slices = drawn_patients(6)
    for patient in range(6):
        save_slices(slices[2 * patient : 2 * patient + 2], root / "slices")
    small = replace(ct_classify_recipes.CT_CLASSIFIERS["small"], size=32, batch=8)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            ct_classify_recipes, "CT_CLASSIFIERS", {**ct_classify_recipes.CT_CLASSIFIERS, "small": small}
        )
        said = runner.invoke(
            app,
            ["train", "ct-classify", "--network", "small", "--out", str(root / "ct-classify"), "--data",
             str(root / "slices"), "--device", "cpu", "--steps", "2"],
        )  # fmt: skip
    assert said.exit_code == 0, said.output
    return root / "slices", root / "ct-classify"


def test_training_leaves_a_bundle_with_the_papers_scores(trained: tuple[Path, Path]) -> None:
    metadata = json.loads((trained[1] / "metadata.json").read_text(), parse_constant=pytest.fail)
    assert metadata["task"] == "ct-classify"
    assert metadata["output_channels"] == list(OUTPUTS)
    assert metadata["preprocessing"]["size"] == 32
    assert len(metadata["preprocessing"]["windows_hu"]) == 3
    (held_out,) = metadata["metrics"].values()
    assert {"loss", "auc_OVCF"} <= set(held_out)
    assert metadata["rebuild"].endswith("--network small --steps 2")


def test_the_papers_table_is_printed_and_drawn(trained: tuple[Path, Path], tmp_path: Path) -> None:
    slices, bundle = trained
    said = runner.invoke(
        app,
        ["evaluate", "ct-classify", "--bundle", str(bundle), "--data", str(slices), "--json",
         str(tmp_path / "out.json"), "--plots", str(tmp_path / "plots"), "--threshold", "0"],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    found = json.loads((tmp_path / "out.json").read_text(), parse_constant=pytest.fail)
    assert found["n"] == 6
    assert found["judged"] == {"slices of vertebrae": 48, "vertebrae": 24}
    # From 0 on every vertebra has everything.
    for measures in (found["metrics"], found["per_vertebra"]["metrics"]):
        assert (measures["sensitivity_mean"], measures["specificity_mean"]) == (1.0, 0.0)
        assert measures["npv_KD"] is None
    assert found["confusion_truth_found"]["OVCF"] == [[0, 40], [0, 8]]
    assert found["intervals"]["sensitivity_OVCF"] == [1.0, 1.0]
    assert found["published"]["mean"] == [0.919, 0.995, 0.93, 0.996, 0.924]
    for name in ("ct-classify", "ct-classify-vertebrae"):
        assert (tmp_path / "plots" / f"{name}.png").stat().st_size > 1000
    for words in ("sensitivity", "OVCF", "0.958", "24 vertebrae"):
        assert words in said.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "ct-classify", "--network", "mask-rcnn", "--out", "x"], "mobilenet"),
        (["train", "ct-classify", "--data", "no/such/folder", "--out", "x"], "neither"),
    ],
)
def test_wrong_use_is_named(arguments: list[str], words: str) -> None:
    said = runner.invoke(app, arguments)
    assert said.exit_code == 2
    assert words in said.stderr


def test_slices_without_any_disease_teach_nothing(tmp_path: Path) -> None:
    save_slices([drawn_slice("1", 0, ("", "", "?", "?"))], tmp_path / "healthy")
    said = runner.invoke(
        app, ["train", "ct-classify", "--out", str(tmp_path / "x"), "--data", str(tmp_path / "healthy")]
    )
    assert said.exit_code == 2
    assert "no box in" in said.stderr
    assert "OVCF" in said.stderr


def test_data_that_is_not_there_is_named(trained: tuple[Path, Path]) -> None:
    said = runner.invoke(
        app, ["evaluate", "ct-classify", "--bundle", str(trained[1]), "--data", "no/such/folder"]
    )
    assert said.exit_code == 2
    assert "neither" in said.stderr
