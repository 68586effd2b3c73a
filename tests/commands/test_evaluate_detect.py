"""`evaluate radiograph-detect`: P0's measures over all films and for every class."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.inference.publish import publish
from dicom_ai_node.networks.film_detector import FilmDetector
from dicom_ai_node.training.film_detect import FilmDetectTask
from dicom_ai_node.training.film_recipes import DETECTORS, detect_recipe
from dicom_ai_node.training.films import ACUITIES, Film, FilmVertebra, save_film
from tests.training.drawn_films import drawn_film

FILMS = [drawn_film(seed, acuity=ACUITIES[0]) for seed in range(2)]


def test_a_detector_is_measured_per_class_and_over_whole_films(tmp_path: Path) -> None:
    for film in FILMS:
        save_film(film, tmp_path / "films")
    recipe = detect_recipe("mask-rcnn-small")
    recipe = replace(
        recipe, arguments={**recipe.arguments, "features": 16}, preprocessing={"size": (128, 96)}
    )
    torch.manual_seed(1)
    folder = tmp_path / "bundle"
    publish(
        recipe,
        FilmDetector(**recipe.arguments),
        folder,
        metrics={},
        trained_on="cpu",
        training_data="nothing",
    )
    out = tmp_path / "out.json"
    said = CliRunner().invoke(
        app,
        [
            "evaluate", "radiograph-detect", "--bundle", str(folder), "--data", str(tmp_path / "films"),
            "--json", str(out),
        ],
    )  # fmt: skip
    assert said.exit_code == 0, said.output
    found = json.loads(out.read_text())
    assert found["n"] == 2
    # Untrained weights find nothing that is right.
    assert found["together"]["mask_map_50"] == found["together"]["box_map_50_95"] == 0.0
    assert set(found["together"]) >= {"image_sensitivity", "image_specificity", "image_accuracy"}
    assert set(found["classes"]) == {"T12 healthy", "L1 fractured", "L2 healthy"}
    assert set(found["classes"]["L1 fractured"]) == {
        "box_ap_50", "box_ap_50_95", "mask_ap_50", "mask_ap_50_95"
    }  # fmt: skip


def test_precision_is_that_of_each_class() -> None:
    task = FilmDetectTask([], [], replace(DETECTORS["mask-rcnn"], size=(128, 96)))
    truth = [task.truth(film) for film in FILMS]
    found = [replace(item, scores=np.full(len(item.labels), 0.9)) for item in truth]
    assert all(
        value == 1.0 for row in task.precision_of_classes(found, truth).values() for value in row.values()
    )

    def renamed(film: Film) -> Film:
        """The fracture is called sound."""
        sound: list[FilmVertebra] = [replace(item, fractured=False) for item in film.vertebrae]
        return replace(film, vertebrae=tuple(sound))

    wrong = [task.truth(renamed(film)) for film in FILMS]
    wrong = [replace(item, scores=np.full(len(item.labels), 0.9)) for item in wrong]
    table = task.precision_of_classes(wrong, truth)
    assert table["L1 fractured"]["mask_ap_50"] == 0.0
    assert table["T12 healthy"]["mask_ap_50"] == table["L2 healthy"]["box_ap_50_95"] == 1.0
