"""The classifier learns, is drawn from as P2 balances its classes, and is judged by its fixed patches."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.networks.ct_classifier import CtClassifier
from dicom_ai_node.networks.ct_diseases import DISEASES, OUTPUTS
from dicom_ai_node.training.ct_classify import CtClassifyTask, resampling
from dicom_ai_node.training.ct_classify_recipes import (
    CT_CLASSIFIERS,
    ct_classify_recipe,
    ct_classify_task,
)
from dicom_ai_node.training.disease_scores import disease_scores, truth_of
from dicom_ai_node.training.loop import train
from tests.training.ct_drawn import drawn_patients, drawn_slice

OPTIONS = replace(CT_CLASSIFIERS["small"], size=32, batch=12, degrees=5.0)

PAPER = {"OVCF": 8046, "OF": 3257, "SN": 824, "KD": 478, "PS": 1979, "normal": 47604}
"""P2, table 2: the training set before it is balanced."""


def one_disease_each(counts: dict[str, int]) -> np.ndarray:
    """The truth of so many vertebrae of each class."""
    rows = [[int(name == own) for own in DISEASES] for name, count in counts.items() for _ in range(count)]
    return truth_of(rows)


class CementDetector(nn.Module):
    """Says previous surgery where something is as bright as metal, without any training."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(40.0))

    def forward(self, x: Tensor) -> Tensor:
        bright = x[:, 2].amax(dim=(1, 2)) - 0.7
        return (self.gain * bright)[:, None].expand(-1, len(OUTPUTS))


def test_classes_are_balanced_as_the_paper_balances_them() -> None:
    truth = one_disease_each(PAPER)
    weights = resampling(truth)
    drawn = {name: float(weights[truth[:, column] == 1].sum()) for column, name in enumerate(OUTPUTS)}
    assert drawn == pytest.approx(
        {"OVCF": 8046, "OF": 4023, "SN": 4023, "KD": 4023, "PS": 4023, "normal": 16092}
    )


def test_no_disease_is_drawn_less_often_than_half_the_most_frequent_where_they_come_together() -> None:
    rows = [[1, 0, 0, 0, 0]] * 90 + [[1, 0, 0, 1, 0]] * 5 + [[0, 1, 0, 0, 1]] * 8 + [[0, 0, 1, 0, 0]] * 3
    truth = truth_of([*rows, *([[0] * 5] * 50), [-1] * 5, [0, 0, -1, 0, 0]])
    weights = resampling(truth)
    assert float(weights[:95].sum()) >= 95
    for column in range(1, 5):
        assert float(weights[truth[:, column] == 1].sum()) >= 47.5 - 1e-6
    # There are fewer normal ones than would be chosen: all are taken. What is not known teaches nothing.
    assert weights[-52:].tolist() == [1.0] * 50 + [0.0, 1.0]


def test_batches_repeat_and_hold_what_is_rare() -> None:
    slices = drawn_patients(6)
    task = CtClassifyTask(slices, [], replace(OPTIONS, batch=300))
    batch, again = (task.draw(Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(batch["image"], again["image"])
    assert batch["image"].shape == (300, 3, 32, 32)
    assert 0.0 <= float(batch["image"].min()) < float(batch["image"].max()) <= 1.0
    share = batch["target"].mean(dim=0)
    assert float(share[:5].min()) > 0.08
    # However a body with cement is cut and turned, its cement is seen.
    cement = batch["image"][:, 2].amax(dim=(1, 2)) > 0.75
    surgery = batch["target"][:, DISEASES.index("PS")] == 1
    assert bool(cement[surgery].all())


def test_what_is_not_known_is_not_asked() -> None:
    task = CtClassifyTask([drawn_slice("1", 0, ("?", "?", "?", "KD"))], [], OPTIONS)
    batch = task.draw(Generator().manual_seed(1))
    assert bool((batch["target"] == torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])).all())
    network = CementDetector()
    picture = torch.full((2, 3, 32, 32), 0.7)
    target = torch.tensor([[math.nan, 1.0, math.nan, 0.0, math.nan, math.nan], [math.nan] * 6])
    loss = task.loss(network, {"image": picture, "target": target})
    assert loss.item() == pytest.approx(math.log(2), rel=1e-4)
    assert task.loss(network, {"image": picture[1:], "target": target[1:]}).item() == 0.0


def test_a_network_learns_what_is_plain_to_see(tmp_path: Path) -> None:
    slices = drawn_patients(6)
    task = CtClassifyTask(slices, slices, OPTIONS)
    scores: dict[str, float] = {}
    train(
        task,
        tmp_path,
        minutes=1,
        device=torch.device("cpu"),
        options=replace(ct_classify_recipe("small").loop, warmup_steps=1, ema=0.0),
        say=lambda _line: None,
        on_validated=lambda _network, values, _step: scores.update(values),
        max_steps=60,
    )
    assert scores["auc_mean"] > 0.95
    assert scores["loss"] < 0.4


def test_answers_name_every_vertebra_of_every_slice() -> None:
    slices = [drawn_slice("7", number, ("PS", "", "?", "KD+PS")) for number in (0, 1)]
    done: list[int] = []
    told = CtClassifyTask([], [], OPTIONS).answers(CementDetector().eval(), slices, done.append)
    assert told.said.shape == told.truth.shape == (8, 6)
    assert done == [1, 2]
    assert told.levels == slices[0].levels * 2
    assert (told.said[:4, DISEASES.index("PS")] > 0.5).tolist() == [True, False, False, True]
    values, _ = disease_scores(told, resamples=0)
    assert values["f1_PS"] == 1.0
    assert len(told.per_vertebra().said) == 4


def test_recipes_differ_in_what_they_see_as_they_say() -> None:
    published = ct_classify_recipe()
    assert published.network == "published"
    assert published.arguments == {"backbone": "resnet50"}
    options = published.options
    assert (options.size, options.threshold, len(set(options.windows_hu))) == (224, 0.5, 1)
    assert published.loop.early_stopping
    for name, own in CT_CLASSIFIERS.items():
        recipe = ct_classify_recipe(name)
        assert recipe.output_channels == OUTPUTS
        task = ct_classify_task(recipe.preprocessing)
        assert (task.options.size, task.options.scales) == (own.size, own.scales)
        assert isinstance(recipe.build([], []).build(), CtClassifier)


def test_without_slices_nothing_is_told() -> None:
    empty = CtClassifyTask([], [], OPTIONS)
    assert empty.answers(CementDetector(), []).said.shape == (0, 6)
    assert math.isnan(empty.validate(CementDetector())["loss"])
