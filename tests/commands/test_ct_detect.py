"""`train ct-detect` and `evaluate ct-detect` on labelled slices of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.inference.publish import build_network, publish
from dicom_ai_node.training.ct_detect_recipes import slice_detect_recipe
from tests.training.drawn_slices import drawn_slice

runner = CliRunner()


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder of 6 patients."""
    folder = tmp_path_factory.mktemp("slices")
    images, boxes = [], []
    for seed in range(6):
        one = drawn_slice(seed)
        np.savez(folder / f"{seed}.npz", image=one.image, spacing_mm=one.spacing_mm)
        images.append({"id": seed, "file_name": f"{seed}.npz"})
        for left, top, right, bottom in one.boxes.tolist():
            box = [left, top, right - left, bottom - top]
            boxes.append({"id": len(boxes), "image_id": seed, "category_id": 1, "bbox": box})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "vertebra"}]}
    (folder / "instances.json").write_text(json.dumps(content))
    return folder


def test_a_detector_is_trained_goes_on_and_is_measured(slices: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    train = ["train", "ct-detect", "--out", str(out), "--network", "resnet18-small", "--data", str(slices)]
    said = runner.invoke(app, [*train, "--device", "cpu", "--steps", "1"])
    assert said.exit_code == 0, said.output
    said = runner.invoke(app, [*train, "--device", "cpu", "--steps", "2", "--resume"])
    assert said.exit_code == 0, said.output
    state = torch.load(tmp_path / "bundle.training" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2
    metadata = load_bundle(out, torch.device("cpu")).metadata
    assert metadata.output_channels == ("vertebra",)
    assert "--network resnet18-small --steps 2" in metadata.rebuild
    assert metadata.training_data == f"6 slices of the folder {slices.name}"
    assert "fn_rate" in metadata.metrics["1 held-out cases"]

    file, plots = tmp_path / "out.json", tmp_path / "plots"
    said = runner.invoke(
        app,
        [
            "evaluate", "ct-detect", "--bundle", str(out), "--data", str(slices), "--json", str(file),
            "--plots", str(plots),
        ],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert "P2, ResNet18" in said.output
    found = json.loads(file.read_text())
    assert (found["n"], found["slices"], found["annotated"]) == (6, 6, 24)
    # A network of two steps is sure of nothing.
    assert found["together"]["fn_rate"] == 1 - found["metrics"]["found"] == 1.0
    assert found["together_intervals"]["fn_rate"] == [1.0, 1.0]
    assert found["published"]["P2, ResNet18"]["ap"] == 0.982
    assert {path.name for path in plots.iterdir()} == {"ct-detect.png", "ct-detect-examples.png"}


def test_unknown_network_names_those_that_there_are(tmp_path: Path) -> None:
    said = runner.invoke(app, ["train", "ct-detect", "--out", str(tmp_path / "b"), "--network", "vgg"])
    assert said.exit_code == 2
    assert "resnet18-small" in said.stderr
    assert "mobilenet-v2" in said.stderr


def test_data_that_is_not_there_is_wrong_use(tmp_path: Path) -> None:
    recipe = slice_detect_recipe("resnet18-small")
    publish(recipe, build_network(recipe), tmp_path / "b", metrics={}, trained_on="cpu", training_data="none")
    arguments = ["evaluate", "ct-detect", "--bundle", str(tmp_path / "b"), "--data", str(tmp_path / "no")]
    said = runner.invoke(app, arguments)
    assert said.exit_code == 2
    assert "neither" in said.stderr
