"""`models`: what there is, whether it is whole, copies that are."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.inference.bundle import load_bundle, verify
from tests.commands.bundles import write_bundle

runner = CliRunner()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for name in ("ct-segment", "ct-points"):
        write_bundle(tmp_path / "models" / name, name)
    return tmp_path / "models"


def test_list_names_every_bundle_for_people_and_machines(models: Path) -> None:
    said = runner.invoke(app, ["models", "list", "--models", str(models)])
    assert said.exit_code == 0, said.output
    assert "ct-points" in said.stdout
    assert "ct-segment" in said.stdout
    found = json.loads(runner.invoke(app, ["models", "list", "--models", str(models), "--json"]).stdout)
    assert [item["name"] for item in found] == ["ct-points", "ct-segment"]
    assert all(len(item["weights"][0]["sha256"]) == 64 for item in found)


def test_show_prints_the_card_or_the_metadata(models: Path) -> None:
    card = runner.invoke(app, ["models", "show", "ct-segment", "--models", str(models)]).stdout
    assert "Research use" in card
    assert "dicom-ai-node train ct-segment" in card
    said = runner.invoke(app, ["models", "show", "ct-segment", "--models", str(models), "--json"])
    assert json.loads(said.stdout)["output_channels"] == ["background", "normal", "fractured"]


def test_an_unknown_bundle_is_wrong_use_and_the_known_ones_are_named(models: Path) -> None:
    said = runner.invoke(app, ["models", "show", "ct-nothing", "--models", str(models)])
    assert said.exit_code == 2
    assert "ct-points, ct-segment" in said.stderr


def test_verify_finds_the_bundle_that_was_changed(models: Path) -> None:
    assert runner.invoke(app, ["models", "verify", "--models", str(models)]).exit_code == 0
    weights = models / "ct-points" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    said = runner.invoke(app, ["models", "verify", "--models", str(models)])
    assert said.exit_code == 1
    assert "was changed" in said.stderr
    assert runner.invoke(app, ["models", "verify", "ct-segment", "--models", str(models)]).exit_code == 0


def test_exported_folder_loads_and_holds_nothing_else(models: Path, tmp_path: Path) -> None:
    (models / "ct-segment" / "notes.txt").write_text("mine")
    out = tmp_path / "away" / "copy"
    said = runner.invoke(app, ["models", "export", "ct-segment", "--out", str(out), "--models", str(models)])
    assert said.exit_code == 0, said.output
    assert {path.name for path in out.iterdir()} == {"metadata.json", "README.md", "weights.safetensors"}
    load_bundle(out, torch.device("cpu"))
    assert [path.name for path in out.parent.iterdir()] == ["copy"]


def test_exported_zip_unpacks_to_the_verified_bundle_and_is_the_same_each_time(
    models: Path, tmp_path: Path
) -> None:
    for name in ("a.zip", "b.zip"):
        arguments = ["models", "export", "ct-points", "--out", str(tmp_path / name), "--models", str(models)]
        assert runner.invoke(app, arguments).exit_code == 0
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    assert verify(tmp_path / "unpacked" / "ct-points") == verify(models / "ct-points")


def test_export_replaces_nothing_and_copies_nothing_broken(models: Path, tmp_path: Path) -> None:
    target = tmp_path / "there.zip"
    target.write_text("mine")
    arguments = ["models", "export", "ct-points", "--models", str(models), "--out"]
    assert runner.invoke(app, [*arguments, str(target)]).exit_code == 2
    assert target.read_text() == "mine"
    (models / "ct-points" / "weights.safetensors").write_bytes(b"broken")
    assert runner.invoke(app, [*arguments, str(tmp_path / "new")]).exit_code == 1
    assert not (tmp_path / "new").exists()
