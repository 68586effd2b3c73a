"""The measure of what the phantom teaches: real scans stand upright, only labelled bodies are judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conformance.phantom import transfer
from conformance.phantom.real_scans import RealScan, labelled_part, real_scans
from conformance.phantom.recipes import PLAIN, Stack, ct_stack
from conformance.phantom.transfer import judged, segmented


class Threshold(nn.Module):
    """Draws what is brighter than the mean of its patch."""

    def forward(self, image: Tensor) -> Tensor:
        return 20.0 * image[:, 1:2]


def column(bodies: int = 4, spacing: tuple[float, float, float] = (3.0, 1.5, 1.5)) -> Stack:
    image, labels = torch.zeros((6, 128, 60)), torch.zeros((6, 128, 60), dtype=torch.uint8)
    for k in range(bodies):
        block = (slice(1, 5), slice(10 + 26 * k, 28 + 26 * k), slice(20, 42))
        image[block], labels[block] = 100.0, k + 1
    return Stack(image, labels, spacing, None)


def test_a_network_that_draws_the_bodies_scores_one() -> None:
    stack = column()
    assert segmented(Threshold(), stack).shape == tuple(stack.image.shape)
    score = judged(Threshold(), RealScan("column", stack))
    assert score["dice"] > 0.97
    assert score["bodies_found"] == 1.0


def test_bodies_that_nobody_labelled_do_not_count() -> None:
    stack = column()
    labels = stack.labels.clone()
    labels[labels == 4] = 0
    score = judged(Threshold(), RealScan("column", Stack(stack.image, labels, stack.spacing_mm, None)))
    assert score["dice"] > 0.97
    assert score["dice_whole_scan"] < 0.92
    part = labelled_part(labels.numpy())
    assert part[labels.numpy() > 0].all()
    assert not part[stack.labels.numpy() == 4].any()


def test_a_stack_of_the_phantom_has_its_bodies_upright() -> None:
    stack = ct_stack(4, PLAIN, training=False)
    assert stack.image.shape == stack.labels.shape
    levels = [int(n) for n in torch.unique(stack.labels) if n]
    heights = [float((stack.labels == n).nonzero()[:, 1].float().mean()) for n in levels]
    # VerSe numbers rise towards the feet.
    assert heights == sorted(heights, reverse=True)


def test_real_scans_stand_upright_and_their_labels_rise(shared_data: Path) -> None:
    for scan in (*real_scans("ct", shared_data), next(real_scans("mr", shared_data))):
        labels = scan.stack.labels.numpy()
        numbers = [int(n) for n in np.unique(labels) if n]
        heights = [float(np.argwhere(labels == n)[:, 1].mean()) for n in numbers]
        assert heights == sorted(heights), scan.name
        assert labelled_part(labels)[labels > 0].all()


def test_learning_leaves_a_score_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    for k in range(3):
        column(4 - k).save(pool / f"stack-{k:05d}.npz")
    scans = [RealScan("VB1_02", column(3)), RealScan("VB2_02", column(4))]
    monkeypatch.setattr(transfer, "real_scans", lambda *_: iter(scans))
    said: list[str] = []
    found = transfer.learn("mr", pool, tmp_path / "out", tmp_path, minutes=0.02, seed=1, say=said.append)
    assert set(found["dice"]) == {"VB1", "VB2"}
    assert json.loads((tmp_path / "out" / "score.json").read_text()) == found
    assert (tmp_path / "out" / "overlay.png").stat().st_size > 1000
    assert said
