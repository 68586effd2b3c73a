"""ct-detect: what is drawn shows the boxes it is taught with, and a few steps learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from dicom_ai_node.training.ct_detect import CtDetectOptions, CtDetectTask, truth_of
from dicom_ai_node.training.ct_detect_recipes import SLICE_DETECTORS, slice_detect_recipe
from dicom_ai_node.training.film_augment import PLAIN
from tests.training.drawn_slices import drawn_slice

SMALL = replace(
    SLICE_DETECTORS["resnet18-small"],
    network={**SLICE_DETECTORS["resnet18-small"].network, "features": 16, "sampled": 32},
    size=(128, 96),
    batch=2,
)


@pytest.mark.parametrize("options", [SMALL, replace(SMALL, at_mm=None)])
def test_boxes_lie_on_what_the_picture_shows(options: CtDetectOptions) -> None:
    slices = [drawn_slice(k, spacing_mm=(1.0, 1.4), shape=(260, 160)) for k in range(3)]
    task = CtDetectTask(slices, [], replace(options, look=PLAIN))
    generator, seen = Generator().manual_seed(1), 0
    for _ in range(8):
        batch = task.draw(generator)
        assert batch["image"].shape == (2, 1, 128, 96)
        for (left, top, right, bottom), owner in zip(batch["boxes"].tolist(), batch["slice"], strict=True):
            assert 0 <= left < right <= 96
            assert 0 <= top < bottom <= 128
            image = batch["image"][owner, 0]
            # The middle half of each box is bone; the soft tissue around is far darker.
            high, wide = (bottom - top) / 4, (right - left) / 4
            inner = image[int(top + high) : int(bottom - high) + 1, int(left + wide) : int(right - wide) + 1]
            assert float(inner.mean()) > float(image.median()) + 0.2
            seen += 1
    assert seen > 20


def test_slice_without_a_vertebra_is_taught_too() -> None:
    task = CtDetectTask([drawn_slice(0, bodies=0)], [], SMALL)
    batch = task.draw(Generator().manual_seed(0))
    assert batch["boxes"].shape == (0, 4)
    loss = task.loss(task.build().train(), batch)
    loss.backward()
    assert bool(torch.isfinite(loss))


def test_same_seed_draws_the_same_batch() -> None:
    task = CtDetectTask([drawn_slice(0), drawn_slice(1)], [], SMALL)
    first, second = (task.draw(Generator().manual_seed(4)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_few_steps_find_the_bodies() -> None:
    torch.manual_seed(1)
    slices = [drawn_slice(k) for k in range(4)]
    task = CtDetectTask(slices, [drawn_slice(9)], replace(SMALL, look=PLAIN, degrees=2.0))
    network = task.build().train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    generator = Generator().manual_seed(1)
    for _ in range(70):
        optimiser.zero_grad()
        task.loss(network, task.draw(generator)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
    scores = task.validate(network.eval())
    assert scores["ap"] > 0.7
    found = task.detect(network, drawn_slice(9))
    assert found.boxes[found.scores > 0.3].shape[0] >= 2


def test_truth_is_that_of_the_slice() -> None:
    one = drawn_slice(2)
    assert truth_of(one).patient == one.patient
    np.testing.assert_array_equal(truth_of(one).boxes, one.boxes)


def test_published_networks_see_1024_pixels_of_the_slice_itself() -> None:
    for name in ("resnet18", "mobilenet-v2"):
        recipe = slice_detect_recipe(name)
        assert recipe.preprocessing["size"] == (1024, 1024)
        assert recipe.preprocessing["spacing_mm"] is None
        assert recipe.options.score == 0.75
    small = slice_detect_recipe("resnet18-small")
    assert small.preprocessing["size"] == (256, 192)
    assert small.preprocessing["spacing_mm"] == 1.25
