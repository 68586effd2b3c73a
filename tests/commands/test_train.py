"""`train`: from cases to a bundle that loads, repeats itself and goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.training.recipes import trained_tasks

runner = CliRunner()


def _train(out: Path, cases: Path, steps: int, *more: str) -> Bundle:
    arguments = ["train", "ct-segment", "--out", str(out), "--data", str(cases), "--device", "cpu"]
    said = runner.invoke(app, [*arguments, "--steps", str(steps), *more])
    assert said.exit_code == 0, said.output
    return load_bundle(out, torch.device("cpu"))


@pytest.mark.usefixtures("small_recipes")
def test_training_leaves_a_bundle_with_scores_and_a_card(tmp_path: Path, cases: Path) -> None:
    bundle = _train(tmp_path / "bundle", cases, 2)
    assert bundle.metadata.task == "ct-segment"
    assert 0 <= bundle.metadata.metrics["1 held-out cases"]["dice"] <= 1
    rebuild = "dicom-ai-node train ct-segment --data cases --out models/ct-segment --steps 2"
    assert bundle.metadata.rebuild == rebuild
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "| 1 held-out cases | dice |" in card
    assert "3 cases of the folder cases" in card
    json.loads((tmp_path / "bundle" / "metadata.json").read_text(), parse_constant=pytest.fail)
    assert not list((tmp_path / "bundle").glob("*.pt"))
    assert (tmp_path / "bundle.training" / "checkpoint.pt").is_file()


@pytest.mark.usefixtures("small_recipes")
def test_one_seed_gives_one_bundle_and_another_seed_another(tmp_path: Path, cases: Path) -> None:
    first, second = _train(tmp_path / "a", cases, 2), _train(tmp_path / "b", cases, 2)
    assert first.sha256 == second.sha256
    assert _train(tmp_path / "c", cases, 2, "--seed", "2").sha256 != first.sha256


@pytest.mark.usefixtures("small_recipes")
def test_resume_goes_on_from_the_checkpoint(tmp_path: Path, cases: Path) -> None:
    _train(tmp_path / "bundle", cases, 2)
    _train(tmp_path / "bundle", cases, 3, "--resume")
    state = torch.load(tmp_path / "bundle.training" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    assert {int(entry["step"]) for entry in state["optimiser"]["state"].values()} == {3}


@pytest.mark.usefixtures("small_recipes")
def test_a_bundle_can_be_trained_further_and_says_from_what(tmp_path: Path, cases: Path) -> None:
    first = _train(tmp_path / "first", cases, 2)
    more = ("--start-from", str(tmp_path / "first"), "--learning-rate", "1e-4", "--precision", "bfloat16")
    second = _train(tmp_path / "second", cases, 1, *more)
    # One small step from there, not from random weights.
    for before, after in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.allclose(before, after, atol=5e-3)
    assert second.sha256 != first.sha256
    assert second.metadata.rebuild.endswith(
        "--steps 1 --start-from models/ct-segment --learning-rate 0.0001 --precision bfloat16"
    )
    assert f"from the weights {first.sha256[:12]} on" in second.metadata.training_data


def test_an_unknown_task_is_wrong_use_and_the_known_ones_are_named(tmp_path: Path) -> None:
    said = runner.invoke(app, ["train", "ct-nonsense", "--out", str(tmp_path / "bundle")])
    assert said.exit_code == 2
    assert "ct-nonsense is no task" in said.stderr
    assert all(name in said.stderr for name in trained_tasks())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ct-segment", "--data", "no/such/folder"], "neither"),
        (["ct-segment", "--device", "tpu"], "auto, cpu or cuda"),
        (["ct-segment", "--precision", "int4"], "float32 or bfloat16"),
        (["ct-segment", "--start-from", "models/ct-points"], "bundle of ct-points, not of ct-segment"),
    ],
)
def test_wrong_use_is_named(arguments: list[str], words: str, tmp_path: Path) -> None:
    said = runner.invoke(app, ["train", *arguments, "--out", str(tmp_path / "bundle")])
    assert said.exit_code == 2
    assert words in said.stderr


def test_cases_whose_voxels_do_not_fit_are_refused(tmp_path: Path, cases: Path) -> None:
    said = runner.invoke(
        app, ["train", "ct-segment", "--out", str(tmp_path / "bundle"), "--data", str(cases), "--steps", "1"]
    )
    assert said.exit_code == 2
    assert "4 mm" in said.stderr
    assert "1.5 mm" in said.stderr


@pytest.mark.usefixtures("small_recipes")
def test_resume_without_a_checkpoint_is_a_fault_with_the_way_out(tmp_path: Path, cases: Path) -> None:
    arguments = ["train", "ct-segment", "--out", str(tmp_path / "bundle"), "--data", str(cases), "--resume"]
    said = runner.invoke(app, [*arguments, "--device", "cpu", "--steps", "1"])
    assert said.exit_code == 1
    assert "without --resume" in said.stderr
