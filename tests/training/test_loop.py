"""The loop: learns, repeats itself, goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.errors import ModelError
from dicom_ai_node.networks.unet import UNet
from dicom_ai_node.training.augment import Intensity
from dicom_ai_node.training.loop import PRECISIONS, LoopOptions, train
from dicom_ai_node.training.segment import SegmentOptions, SegmentTask
from tests.training.labelled import block_spine

CPU = torch.device("cpu")


class LineTask:
    """Learn y = 2x + 1 from noisy points."""

    name = "line"

    def build(self) -> nn.Module:
        return nn.Linear(1, 1)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        x = torch.randn(16, 1, generator=generator)
        return {"x": x, "y": 2 * x + 1 + 0.01 * torch.randn(16, 1, generator=generator)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.mse_loss(network(batch["x"]), batch["y"])

    def validate(self, network: nn.Module) -> dict[str, float]:
        return {"slope": _number(network.weight)}


def _number(weight: object) -> float:
    assert isinstance(weight, Tensor)
    return float(weight.detach())


OPTIONS = LoopOptions(learning_rate=0.05, weight_decay=0.0, ema=0.9)


def _train(folder: Path, steps: int, *, resume: bool = False, options: LoopOptions = OPTIONS) -> nn.Module:
    return train(
        LineTask(),
        folder,
        minutes=1,
        device=CPU,
        options=options,
        resume=resume,
        say=lambda _line: None,
        max_steps=steps,
    )


@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "adam"])
def test_training_finds_the_line(tmp_path: Path, optimiser: str) -> None:
    network = _train(tmp_path, 200, options=LoopOptions(optimiser, 0.05, 0.0, ema=0.9))
    assert _number(network.weight) == pytest.approx(2.0, abs=0.05)
    assert _number(network.bias) == pytest.approx(1.0, abs=0.05)
    assert not network.training


def test_one_seed_gives_one_result(tmp_path: Path) -> None:
    first, second = _train(tmp_path / "a", 40), _train(tmp_path / "b", 40)
    other = _train(tmp_path / "c", 40, options=LoopOptions(learning_rate=0.05, ema=0.9, seed=2))
    assert torch.equal(first.weight, second.weight)  # type: ignore[arg-type]
    assert not torch.equal(first.weight, other.weight)  # type: ignore[arg-type]


def test_resumed_training_goes_on_at_the_step_where_it_stopped(tmp_path: Path) -> None:
    _train(tmp_path, 30)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 30
    lines: list[str] = []
    train(
        LineTask(),
        tmp_path,
        minutes=1,
        device=CPU,
        options=OPTIONS,
        resume=True,
        say=lines.append,
        max_steps=60,
    )
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 60
    assert [line.split()[2] for line in lines if " loss " in line] == ["50"]


def test_resuming_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no checkpoint"):
        _train(tmp_path, 10, resume=True)


def test_checkpoint_of_another_task_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, 5)
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    torch.save({**checkpoint, "task": "ct-localise"}, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match="trained for ct-localise, not line"):
        _train(tmp_path, 10, resume=True)


def test_validation_sees_the_averaged_network(tmp_path: Path) -> None:
    seen: list[tuple[dict[str, float], int]] = []
    network = train(
        LineTask(),
        tmp_path,
        minutes=1,
        device=CPU,
        options=OPTIONS,
        say=lambda _line: None,
        on_validated=lambda _network, scores, step: seen.append((scores, step)),
        max_steps=20,
    )
    assert seen == [({"slope": _number(network.weight)}, 20)]


def test_a_small_unet_learns_to_segment_block_vertebrae(tmp_path: Path) -> None:
    plain = Intensity(curve=0, thick_slices=0, blur=0, noise=0.5, noise_hu=20, bias_field=0)
    options = SegmentOptions(
        spacing_mm=4.0,
        size=(24, 16, 16),
        channels=(8, 16),
        marker_sigma_mm=12.0,
        intensity=plain,
        jitter_mm=2.0,
    )
    task = SegmentTask([block_spine(seed, 4.0) for seed in range(3)], [block_spine(9, 4.0)], options)
    network = train(
        task,
        tmp_path,
        minutes=1,
        device=CPU,
        options=LoopOptions(learning_rate=1e-2, ema=0.9, warmup_steps=5),
        say=lambda _line: None,
        max_steps=100,
    )
    assert isinstance(network, UNet)
    with torch.inference_mode():
        assert task.validate(network)["dice"] > 0.85


class WorseTask(LineTask):
    """Its loss on held-out cases is lowest in the second validation and rises from there on."""

    def __init__(self) -> None:
        self.losses = [3.0, 1.0, 2.0, 4.0, 5.0, 6.0]
        self.seen: list[float] = []

    def validate(self, network: nn.Module) -> dict[str, float]:
        self.seen.append(_number(network.weight))
        return {"loss": self.losses[min(len(self.seen), 6) - 1]}


@pytest.mark.parametrize(("patience", "stopped_at"), [(0, 25), (2, 20)])
def test_the_weights_of_the_lowest_validation_loss_are_kept(
    tmp_path: Path, patience: int, stopped_at: int
) -> None:
    task = WorseTask()
    network = train(
        task,
        tmp_path,
        minutes=1,
        device=CPU,
        options=LoopOptions(
            "adam", 0.05, 0.0, ema=0.0, constant=True, early_stopping=True, patience=patience,
            validate_every_steps=5,
        ),
        say=lambda _line: None,
        max_steps=25,
    )  # fmt: skip
    assert _number(network.weight) == task.seen[1] != task.seen[2]
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == stopped_at
    assert state["lowest"][:2] == (1.0, 10)


def test_the_rate_falls_on_a_plateau_and_stays_low_when_training_goes_on(tmp_path: Path) -> None:
    options = LoopOptions(
        "adam", 0.05, 0.0, ema=0.0, constant=True, warmup_steps=1, plateau=2, validate_every_steps=5,
        report_every=5,
    )  # fmt: skip
    lines: list[str] = []
    task = WorseTask()
    for steps, resume in ((30, False), (40, True)):
        train(
            task, tmp_path, minutes=1, device=CPU, options=options, resume=resume, say=lines.append,
            max_steps=steps,
        )  # fmt: skip
    rates = [line.split("rate ")[1].split()[0] for line in lines if "rate " in line]
    # Lowest at step 10; two validations without a lower loss end at step 20, two more at step 30.
    assert rates == ["5.0e-02"] * 4 + ["5.0e-03"] * 2 + ["5.0e-04"] * 2
    # The last weights are the answer: only early stopping goes back.
    assert len(task.seen) == 6 + 1 + 2 + 1


def test_a_constant_rate_does_not_fall(tmp_path: Path) -> None:
    rates = []
    for constant in (True, False):
        options = LoopOptions("adam", 0.05, 0.0, ema=0.0, constant=constant, warmup_steps=1, report_every=10)
        lines: list[str] = []
        train(
            LineTask(), tmp_path / str(constant), minutes=1, device=CPU, options=options, say=lines.append,
            max_steps=40,
        )  # fmt: skip
        rates.append([line.split("rate ")[1].split()[0] for line in lines if "rate " in line])
    assert set(rates[0]) == {"5.0e-02"}
    assert len(set(rates[1])) == 4


class _BlockTask(SegmentTask):
    """Remembers what its loss was given."""

    seen: set[torch.dtype]

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        self.seen = {network(batch["image"]).dtype}
        return super().loss(network, batch)


def test_in_half_the_bits_it_learns_as_much_and_losses_stay_whole(tmp_path: Path) -> None:
    options = SegmentOptions(spacing_mm=4.0, size=(16, 16, 16), channels=(8, 16), jitter_mm=2.0)
    losses, weights = {}, {}
    for precision in PRECISIONS:
        lines: list[str] = []
        task = _BlockTask([block_spine(1, 4.0)], [], options)
        network = train(
            task,
            tmp_path / precision,
            minutes=1,
            device=CPU,
            options=LoopOptions(precision=precision, report_every=20),
            say=lines.append,
            max_steps=20,
        )
        assert task.seen == {torch.float32}
        losses[precision] = float(next(line.split()[6] for line in lines if " loss " in line))
        weights[precision] = next(network.parameters()).detach()
    assert weights["bfloat16"].dtype is torch.float32
    assert not torch.equal(weights["bfloat16"], weights["float32"])
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


def _half_of(folder: Path, start: dict[str, Tensor]) -> nn.Module:
    """One step from there, and half of the way back."""
    return train(
        LineTask(),
        folder / "e",
        minutes=1,
        device=CPU,
        options=OPTIONS,
        start=start,
        kept=0.5,
        say=lambda _line: None,
        max_steps=1,
    )


def test_training_can_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    learned = _train(tmp_path / "a", 200)
    lines: list[str] = []

    def begun(start: dict[str, Tensor]) -> nn.Module:
        return train(
            LineTask(),
            tmp_path / "b",
            minutes=1,
            device=CPU,
            options=OPTIONS,
            start=start,
            say=lines.append,
            max_steps=1,
        )

    assert _number(begun(learned.state_dict()).weight) == pytest.approx(2.0, abs=0.1)
    assert "line starts from 2 of 2 weights" in lines
    # A share of them stays.
    zero = {"weight": torch.zeros(1, 1), "bias": torch.zeros(1)}
    alone = _train(tmp_path / "c", 30)
    mixed = train(
        LineTask(),
        tmp_path / "d",
        minutes=1,
        device=CPU,
        options=OPTIONS,
        start=alone.state_dict(),
        kept=1.0,
        say=lines.append,
        max_steps=5,
    )
    assert torch.equal(mixed.weight, alone.weight)  # type: ignore[arg-type]
    half = _half_of(tmp_path, zero)
    assert _number(half.weight) == pytest.approx(0.5 * _number(begun(zero).weight), abs=1e-6)
    # Another number of answers: what does not fit stays random, and is said.
    begun({"weight": torch.zeros(1, 1), "bias": torch.zeros(3)})
    assert "line starts from 1 of 2 weights, bias is fresh" in lines
    with pytest.raises(ModelError, match="no weights of the bundle"):
        begun({"other": torch.zeros(1, 1)})
