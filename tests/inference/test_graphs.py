"""Graphs by shape: what is captured when, what is believed, and on a GPU the same answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.inference.graphs import MOST, CapturedByShape
from tests.inference.conftest import MakeBundle

CPU = torch.device("cpu")


class Answer(NamedTuple):
    twice: Tensor
    shape: Tensor


class Counting(nn.Module):
    """Counts how often it is asked."""

    multiple = 4
    asked = 0

    def forward(self, x: Tensor) -> Answer:
        self.asked += 1
        return Answer(2 * x, torch.tensor(x.shape))


class Recorder:
    """Stands in for the GPU's recording: replays what the network says, times `error`."""

    def __init__(self, error: float = 1.0) -> None:
        self.error = error
        self.recorded: list[tuple[int, ...]] = []
        self.replayed = 0

    def __call__(self, _network: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
        self.recorded.append(tuple(x.shape))

        def replay(new: Tensor) -> Answer:
            self.replayed += 1
            return Answer(2 * self.error * new, torch.tensor(new.shape))

        return replay


def test_a_shape_is_captured_when_it_comes_the_second_time() -> None:
    network, recorder = Counting(), Recorder()
    graphs = CapturedByShape(network, recorder)
    for number in range(5):
        x = torch.full((2, 3), float(number + 1))
        torch.testing.assert_close(graphs(x).twice, 2 * x)
    assert recorder.recorded == [(2, 3)]
    # Once eagerly, once beside the capture; what follows is replayed, and so was the trial.
    assert network.asked == 2
    assert recorder.replayed == 1 + 3
    assert graphs.multiple == 4
    graphs(torch.ones(1, 3))
    assert recorder.recorded == [(2, 3)]


def test_a_graph_that_says_something_else_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    network, recorder = Counting(), Recorder(error=1.05)
    graphs = CapturedByShape(network, recorder)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            torch.testing.assert_close(graphs(torch.ones(2)).twice, torch.full((2,), 2.0))
    assert network.asked == 4
    assert recorder.recorded == [(2,)]
    assert [item.message for item in caplog.records] == [
        "inputs of (2,) stay without a CUDA graph: it answers otherwise"
    ]


def test_what_cannot_be_captured_is_answered_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(network: nn.Module, x: Tensor) -> Callable[[Tensor], Any]:
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = CapturedByShape(Counting(), refuse)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            torch.testing.assert_close(graphs(torch.ones(2)).twice, torch.full((2,), 2.0))
    assert [item.message for item in caplog.records] == [
        "inputs of (2,) stay without a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_shapes_that_came_long_ago_are_forgotten() -> None:
    network, recorder = Counting(), Recorder()
    graphs = CapturedByShape(network, recorder)
    for length in range(1, MOST + 2):
        for _ in range(2):
            graphs(torch.ones(length))
    asked = network.asked
    graphs(torch.ones(MOST + 1))
    assert network.asked == asked
    graphs(torch.ones(1))
    assert network.asked == asked + 1


def test_on_a_processor_a_bundle_stays_as_it_is(make_bundle: MakeBundle) -> None:
    bundle = load_bundle(make_bundle("ct-segment"), CPU)
    assert bundle.in_graphs() is bundle


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["ct-segment", "ct-points"])
@pytest.mark.parametrize("half", [False, True])
def test_on_a_gpu_graphs_repeat_the_network(
    make_bundle: MakeBundle, name: str, half: bool, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = load_bundle(make_bundle(name), torch.device("cuda"))
    bundle = bundle.in_half() if half else bundle
    captured = bundle.in_graphs()
    shape = (2, 2, 16, 16, 16) if name == "ct-segment" else (2, 2, 32, 32)
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        for _ in range(4):
            x = torch.randn(shape, generator=generator).cuda()
            expected, found = bundle.network(x), captured.network(x)
            one, other = (getattr(item, "product", item) for item in (expected, found))
            torch.testing.assert_close(other, one, rtol=0.01, atol=0.01)
    assert not caplog.records
