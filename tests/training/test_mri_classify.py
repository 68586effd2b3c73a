"""The classifier learns, is drawn from as P4 weighs its cases, and is judged per patient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.networks.mri_classes import FEATURES, OUTPUTS
from dicom_ai_node.training.loop import LoopOptions, train
from dicom_ai_node.training.mri_classify import MriClassifyOptions, MriClassifyTask, cross_validated
from dicom_ai_node.training.mri_classify_recipes import CLASSIFIERS, classify_recipe
from dicom_ai_node.training.mri_crops import MrExample, patients_of
from dicom_ai_node.training.mri_scores import (
    VertebraAnswer,
    diagnostic_scores,
    feature_areas,
    per_patient,
)
from tests.training.mri_drawn import drawn_patients

OPTIONS = MriClassifyOptions(
    size=32, batch=8, network={"backbone": "resnet18", "norm": "group", "dropout": 0.0}
)


class Brightness(nn.Module):
    """Reads malignancy off the middle of T2 against T1: right on drawn patients without any training."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, x: Tensor) -> Tensor:
        middle = x[:, :, 12:20, 12:20].mean(dim=(2, 3))
        opinion = self.gain * (middle[:, 4] - middle[:, 1] - 0.8)
        return opinion[:, None].expand(-1, len(OUTPUTS))


def answer(patient: str, malignant: bool | None, said: float) -> VertebraAnswer:
    row = np.full(len(OUTPUTS), said)
    return VertebraAnswer(patient, malignant, np.full(len(FEATURES), float(bool(malignant))), row[None], row)


def test_batches_repeat_and_weigh_malignant_cases_twice() -> None:
    task = MriClassifyTask(drawn_patients(6), [], replace(OPTIONS, batch=400, size=16))
    batch, again = (task.draw(Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(batch["image"], again["image"])
    assert batch["image"].shape == (400, 6, 16, 16)
    asked = batch["target"][~batch["target"].isnan()]
    # 20 for three benign, 40 for three malignant, 10 for six healthy vertebrae.
    assert float(asked.mean()) == pytest.approx(2 / 3, abs=0.08)
    assert len(asked) / 400 == pytest.approx(0.75, abs=0.08)
    assert bool(batch["features"][:, FEATURES.index("skip_lesion")].isnan().all())
    # The body stays in the patch however it is turned and shifted.
    turned = batch["image"][:, 4, 5:11, 5:11].mean(dim=(1, 2))
    assert bool((turned[batch["target"] == 1] > 0.3).all())


def test_healthy_vertebrae_teach_what_is_not_malignant_where_that_is_wanted() -> None:
    examples = drawn_patients(6)
    options = replace(OPTIONS, batch=400, size=16, healthy_benign=True)
    task = MriClassifyTask(examples, [], options)
    target = task.draw(Generator().manual_seed(3))["target"]
    # 20 for three benign, 40 for three malignant, 10 for six healthy vertebrae.
    assert task.taught_shares == {"malignant": 0.5}
    assert float(target.mean()) == pytest.approx(0.5, abs=0.08)
    assert MriClassifyTask(examples, [], OPTIONS).taught_shares == {
        "malignant": pytest.approx(2 / 3, abs=1e-4)
    }


def test_what_is_not_known_is_not_asked() -> None:
    task = MriClassifyTask([], [], OPTIONS)
    batch = {
        "image": torch.zeros(2, 6, 32, 32),
        "target": torch.tensor([1.0, math.nan]),
        "features": torch.full((2, 15), math.nan),
    }
    batch["image"][0, 4], batch["image"][0, 1] = 1.0, -1.0
    network = Brightness()
    loss = task.loss(network, batch)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-4.8)), rel=1e-3)
    nothing = task.loss(network, batch | {"target": torch.full((2,), math.nan)})
    assert nothing.item() == 0.0


def test_a_network_learns_what_is_plain_to_see(tmp_path: Path) -> None:
    examples = drawn_patients(8)
    task = MriClassifyTask(examples, examples, OPTIONS)
    scores: dict[str, float] = {}
    train(
        task,
        tmp_path,
        minutes=1,
        device=torch.device("cpu"),
        options=replace(classify_recipe("small").loop, learning_rate=1e-3, warmup_steps=1, ema=0.0),
        say=lambda _line: None,
        on_validated=lambda _network, values, _step: scores.update(values),
        max_steps=30,
    )
    assert scores["auc"] > 0.9
    assert scores["loss"] < 0.5


def test_an_opinion_that_is_too_high_throughout_is_brought_down_to_where_it_parts_the_bodies() -> None:
    examples = drawn_patients(24)
    task = MriClassifyTask(examples, examples, replace(OPTIONS, calibrated=True))
    network = task.build().eval()
    torch.nn.init.zeros_(network.malignant.weight)
    middle = network.malignant.bias
    assert task.finish(network).startswith("calibrated on")
    assert float(middle.detach().sigmoid()) == pytest.approx(0.5, abs=0.01), "one answer for all: even odds"
    with torch.no_grad():
        middle.fill_(6.0)
    task.finish(network)
    assert float(middle.detach().sigmoid()) == pytest.approx(0.5, abs=0.01)
    assert replace(task.options, calibrated=False) == OPTIONS
    assert MriClassifyTask(examples, examples, OPTIONS).finish(network) == ""
    assert "too few" in MriClassifyTask(examples, [], task.options).finish(network)


def test_every_patient_is_judged_once_by_a_network_that_never_saw_him() -> None:
    examples = drawn_patients(9)
    folds: list[tuple[set[str], set[str]]] = []

    def fit(training: Sequence[MrExample], stopping: Sequence[MrExample]) -> nn.Module:
        folds.append((set(patients_of(training)), set(patients_of(stopping))))
        return Brightness().eval()

    values, intervals, answers = cross_validated(examples, fit, OPTIONS, folds=3, resamples=20)
    assert values == {"accuracy": 1.0, "sensitivity": 1.0, "specificity": 1.0, "auc": 1.0}
    assert set(intervals) == set(values)
    asked = [one.patient for one in answers if one.malignant is not None]
    assert sorted(asked) == sorted(patients_of(examples))
    everyone = set(asked)
    judged = [everyone - training - stopping for training, stopping in folds]
    assert all(not training & stopping for training, stopping in folds)
    assert set.union(*judged) == everyone
    assert sum(map(len, judged)) == len(everyone)
    with pytest.raises(ValueError, match="folds"):
        cross_validated(examples, fit, OPTIONS, folds=10)


def test_a_patient_is_as_malignant_as_the_worst_vertebra() -> None:
    told = [answer("a", False, 0.2), answer("a", True, 0.8), answer("b", False, 0.6), answer("b", None, 0.9)]
    said, truth, names = per_patient(told)
    assert (said.tolist(), truth.tolist(), names) == ([0.8, 0.6], [True, False], ["a", "b"])
    values, _ = diagnostic_scores(said, truth, resamples=10)
    assert values == {"accuracy": 0.5, "sensitivity": 1.0, "specificity": 0.0, "auc": 1.0}
    strict, spans = diagnostic_scores(said, truth, threshold=0.7, resamples=10)
    assert strict["accuracy"] == 1.0
    assert all(low <= strict[name] <= high for name, (low, high) in spans.items())


def test_features_are_judged_where_they_are_known() -> None:
    told = [answer(str(k), bool(k % 2), 0.2 + 0.6 * (k % 2)) for k in range(6)]
    told[0].features[:] = np.nan
    told[1].features[0] = 0.0
    areas, spans = feature_areas(told, resamples=10)
    assert areas[FEATURES[1]] == 1.0
    assert areas[FEATURES[0]] < 1.0
    assert set(areas) == set(spans) == set(FEATURES)


def test_recipes_differ_in_what_they_see_as_they_say() -> None:
    assert classify_recipe().network == "published"
    published = CLASSIFIERS["published"]
    assert (published.channels, published.size, published.batch) == (6, 64, 32)
    loop = classify_recipe("published").loop
    assert (loop.optimiser, loop.learning_rate, loop.beta1) == ("adam", 1e-4, 0.5)
    assert loop.early_stopping
    assert loop.weight_decay > 0
    for name, options in CLASSIFIERS.items():
        recipe = classify_recipe(name)
        assert recipe.arguments["in_channels"] == (9 if name.endswith("stir") else 6) == options.channels
        assert (recipe.preprocessing["margin"] > 2) == ("wide" in name)
        backbone = "resnet18" if name.startswith("small") else "resnet50"
        assert recipe.arguments["backbone"] == backbone
        assert recipe.output_channels == OUTPUTS


def test_options_of_a_loop_that_stops_early_are_off_by_default() -> None:
    options = LoopOptions()
    assert not options.early_stopping
    assert not options.patience
    assert not options.constant
