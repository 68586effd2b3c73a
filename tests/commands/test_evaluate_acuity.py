"""radiograph-acuity from the command line: P1's measures and readers, real films beside phantoms."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import Result
from torchvision.io import write_png
from typer.testing import CliRunner

from dicom_ai_node.anatomy import Level
from dicom_ai_node.cli import app
from dicom_ai_node.inference.publish import publish
from dicom_ai_node.networks.film_classes import PUBLISHED_CLASSES
from dicom_ai_node.training.film_classify import FilmAcuityOptions, FilmAcuityTask
from dicom_ai_node.training.film_folders import load_labelled
from dicom_ai_node.training.film_recipes import acuity_recipe, detect_recipe, teachable
from dicom_ai_node.training.films import ACUITIES, Film, save_film
from tests.training.drawn_films import drawn_film


def invoke(*arguments: str) -> Result:
    # Tables are as wide as the terminal is said to be.
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})


def patients(count: int) -> list[Film]:
    films = [drawn_film(seed, acuity=ACUITIES[seed % 3]) for seed in range(count)]
    return [replace(film, patient=f"{60 + seed}-F") for seed, film in enumerate(films)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained."""
    recipe = acuity_recipe("resnet18-small")
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("bundle")
    network = recipe.build([], []).build().eval()
    publish(recipe, network, folder, metrics={}, trained_on="cpu", training_data="nothing")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for film in patients(6):
        save_film(film, tmp_path / "real")
    return tmp_path / "real"


def test_p1_s_measures_stand_beside_its_readers(bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    said = invoke(
        "evaluate", "radiograph-acuity", "--bundle", str(bundle), "--data", str(folder), "--json", str(out),
        "--plots", str(tmp_path / "plots"),
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    found = json.loads(out.read_text())
    assert sum(map(sum, found["confusion_truth_found"])) == 6
    low, high = found["together_intervals"]["auc_acute"]
    assert low <= found["together"]["auc_acute"] <= high
    lines = {line.strip().split("  ")[0]: line for line in said.output.splitlines()}
    ours = lines["this bundle (95 %, over patients)"]
    assert f"{found['together']['accuracy']:.3f} (" in ours
    assert f"{found['together']['auc_chronic']:.3f} (" in ours
    readers = [name for name in lines if name.endswith("on P1's own images")]
    assert len(readers) == 7
    assert lines["P1, trainee, on P1's own images"].split()[-4:] == ["0.707", "0.573", "0.618", "0.541"]
    assert (tmp_path / "plots" / "radiograph-acuity.png").stat().st_size > 10_000


def test_each_patient_is_judged_by_what_the_others_taught(bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    for seed in range(3):
        save_film(drawn_film(100 + seed, acuity=ACUITIES[seed]), tmp_path / "phantoms")
    said = invoke(
        "evaluate", "radiograph-acuity", "--bundle", str(bundle), "--data", str(folder), "--json", str(out),
        "--fine-tune", "1", "--pool", str(tmp_path / "phantoms"),
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    assert said.output.count("learning from 5 films of other patients and 3 phantoms") == 6
    assert sum(map(sum, json.loads(out.read_text())["confusion_truth_found"])) == 6


def test_real_fractures_are_drawn_as_often_as_phantoms() -> None:
    made = [drawn_film(seed, acuity="acute") for seed in range(12)]
    real = patients(1)
    task = FilmAcuityTask([*made, *real], [], FilmAcuityOptions())
    shares = [bool(film.patient) for film, _ in task.pairs[0]]
    assert (shares.count(True), shares.count(False)) == (12, 12)


def test_acuity_is_taught_with_phantoms_and_real_films_together(
    bundle: Path, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "bundle"
    for seed in (*range(1000, 1003), *range(5000, 5007)):
        film = replace(drawn_film(seed, acuity=ACUITIES[seed % 3]), name=f"{seed:05d}")
        save_film(film, tmp_path / "bundle.training" / "pool")
    said = invoke(
        "train", "radiograph-acuity", "--network", "resnet18-small", "--data", f"phantom+{folder}", "--out",
        str(out), "--steps", "1", "--pool", "10", "--device", "cpu", "--start-from", str(bundle),
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    told = json.loads((out / "metadata.json").read_text())
    assert "10 phantoms" in told["training_data"]
    assert "6 films of the folder real" in told["training_data"]
    assert "--data phantom+real" in told["rebuild"]


def labelled(folder: Path, *labels: str) -> Path:
    """One film with labelme polygons."""
    folder.mkdir()
    write_png(torch.zeros(1, 60, 40, dtype=torch.uint8), str(folder / "film.png"))
    shapes = [
        {"label": label, "points": [[5, 5 + 12 * k], [25, 5 + 12 * k], [25, 14 + 12 * k], [5, 14 + 12 * k]]}
        for k, label in enumerate(labels)
    ]
    (folder / "film.json").write_text(json.dumps({"shapes": shapes, "imagePath": "film.png"}))
    return folder


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("radiograph-acuity", "no fracture is called acute, chronic or pathologic"),
        ("radiograph-points", "no body has six points"),
    ],
)
def test_films_that_do_not_tell_what_is_taught_are_refused(task: str, words: str, tmp_path: Path) -> None:
    films = labelled(tmp_path / "films", "L1", "L2 fracture")
    said = invoke("train", task, "--data", str(films), "--out", str(tmp_path / "b"), "--steps", "1")
    assert said.exit_code == 2, said.output
    assert words in " ".join(said.output.split())


def test_a_bare_level_is_a_fracture_where_fractures_alone_are_told_apart(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "films", "L1", "T12")
    (film,) = load_labelled(folder, fractured_unless_said=True)
    teachable(detect_recipe("mask-rcnn-published"), [film], folder)
    assert [item.level for item in film.vertebrae if item.fractured] == [Level.T12, Level.L1]
    assert {item.level for item in film.vertebrae} <= {item.level for item in PUBLISHED_CLASSES}
    (plain,) = load_labelled(folder)
    assert not any(item.fractured for item in plain.vertebrae)
