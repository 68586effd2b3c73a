"""The training loop: draw, step, average the weights, keep checkpoints, say how it goes.

A task (`training.localise`, `.segment`, `.points`) brings the network, the batches, the loss and the
validation; the loop brings everything else. The same seed and the same number of steps give the same weights.
"""

from __future__ import annotations

import copy
import ctypes
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.errors import ModelError
from dicom_ai_node.networks.half_precision import InHalfTheBits

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4

Precision = Literal["float32", "bfloat16"]
PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16")


class Task(Protocol):
    """What one kind of training brings along."""

    name: str

    def build(self) -> nn.Module:
        """The network with fresh weights."""

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """One batch on the CPU."""

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Scalar loss of a batch that is on the network's device."""

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Scores on held-out cases; NaN where none of them can tell."""


@runtime_checkable
class Finishing(Protocol):
    """A task that has something left to do with a trained network."""

    def finish(self, network: nn.Module) -> str:
        """Do it, in place, and say what was done; "" for nothing."""


@dataclass(frozen=True)
class LoopOptions:
    """How to train.

    `optimiser` is "adamw", "sgd" as published (P3 table 1 with momentum 0.9) or "adam" with `beta1` and an L2
    term of `weight_decay` (P4); the rate of a `constant` schedule does not fall. With `early_stopping` the
    task's validation score `loss` decides: the weights for which it was lowest are what is returned, and
    after `patience` validations without a lower one training ends (0: never before its time). Validation
    comes after so many seconds, or after `validate_every_steps`: then one seed gives one result. With the
    `precision` "bfloat16" the network computes in half the bits, about twice as fast on processors and GPUs
    that know them; weights, losses and validation stay in float32. After every `plateau` validations without
    a lower `loss` the rate falls to a tenth (P3 table 1; 0: never).
    """

    optimiser: str = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 5e-4
    clip: float = 2.0
    warmup_steps: int = 30
    ema: float = 0.99
    seed: int = 1
    report_every: int = 25
    validate_every_s: float = 420.0
    checkpoint_every_s: float = 120.0
    beta1: float = 0.9
    constant: bool = False
    early_stopping: bool = False
    patience: int = 0
    validate_every_steps: int | None = None
    precision: Precision = "float32"
    plateau: int = 0


@dataclass
class _Lowest:
    """The lowest validation loss so far, its step, how many validations have not bettered it since, and how
    often the learning rate fell for that.
    """

    loss: float = math.inf
    step: int = 0
    since: int = 0
    falls: int = 0


def train(
    task: Task,
    folder: Path,
    *,
    minutes: float,
    device: torch.device,
    options: LoopOptions | None = None,
    resume: bool = False,
    start: Mapping[str, Tensor] | None = None,
    kept: float = 0.0,
    say: Callable[[str], None],
    on_validated: Callable[[nn.Module, dict[str, float], int], None] | None = None,
    max_steps: int | None = None,
) -> nn.Module:
    """Train for so many minutes; the learning rate falls along a cosine over them.

    Args:
        task: what to train.
        folder: checkpoints go to ``<folder>/checkpoint.pt``.
        minutes: training time in this call and, with `resume`, in the calls before.
        device: where the network runs.
        options: see `LoopOptions`.
        resume: go on from the checkpoint; without it training begins anew.
        start: weights to begin with instead of random ones, by name; those of another shape (another number
            of classes) stay random.
        kept: share of `start` in the weights that are returned, the rest is what was learned from there on.
            Their mean does better on images unlike those that were learned from (Wortsman 2022).
        say: gets one line now and then.
        on_validated: gets the averaged network, its scores and the step after each validation.
        max_steps: stop after so many steps in all; the schedule then follows the steps, not the clock, and
            one seed gives one result.

    Returns:
        The network with averaged weights, in evaluation mode: the last, or with `early_stopping` the best.

    Raises:
        ModelError: `resume` without a checkpoint, or one of another task.
    """
    options = options or LoopOptions()
    keep_memory_mapped()
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    generator = Generator().manual_seed(options.seed)
    network = task.build()
    if start is not None and not resume:
        _begin_with(network, start, task.name, say)
    network = network.to(device).train()
    seen = InHalfTheBits(network) if options.precision == "bfloat16" else network
    average = copy.deepcopy(network).eval()
    optimiser = _optimiser(network, options)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    best_file = folder / "lowest.pt"
    if resume:
        state = _restore(folder, task, network, average, optimiser, generator)
    lowest = _Lowest(*state.get("lowest", ()))
    started = time.monotonic() - state["seconds"]
    last_validation = last_checkpoint = time.monotonic()
    step, smooth = int(state["step"]), math.nan
    while True:
        elapsed = time.monotonic() - started
        progress = step / max_steps if max_steps else elapsed / (60 * minutes)
        if progress >= 1 or (options.patience and lowest.since >= options.patience):
            break
        rate = options.learning_rate * _schedule(progress, step, options) * 0.1**lowest.falls
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in task.draw(generator).items()}
        loss = task.loss(seen, batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), options.clip)
        if math.isfinite(float(norm)):
            optimiser.step()
        step += 1
        _follow(average, network, min(options.ema, (1 + step) / (10 + step)))
        value = float(loss.detach())
        smooth = value if math.isnan(smooth) else 0.97 * smooth + 0.03 * value
        if step % options.report_every == 0:
            say(
                f"{task.name} step {step} {elapsed / 60:.1f}/{minutes:g} min loss {smooth:.4f} "
                f"gradient {float(norm):.2f} rate {rate:.1e} {elapsed / step:.2f} s/step"
            )
        now = time.monotonic()
        if now - last_checkpoint > options.checkpoint_every_s:
            _save(folder, task, network, average, optimiser, generator, step, now - started, lowest)
            last_checkpoint = now
        if _due(options, step, now - last_validation):
            scores = _validate(task, average, step, say, on_validated)
            if options.early_stopping or options.plateau:
                _keep_lowest(lowest, scores, average, step, best_file)
                lowest.falls += bool(options.plateau and lowest.since and lowest.since % options.plateau == 0)
            last_validation = time.monotonic()
    _save(folder, task, network, average, optimiser, generator, step, time.monotonic() - started, lowest)
    scores = _validate(task, average, step, say, on_validated)
    if options.early_stopping:
        _keep_lowest(lowest, scores, average, step, best_file)
        _save(folder, task, network, average, optimiser, generator, step, time.monotonic() - started, lowest)
        if lowest.step not in (0, step):
            average.load_state_dict(torch.load(best_file, map_location=device, weights_only=True))
            say(f"{task.name} the weights of step {lowest.step} are kept")
            _validate(task, average, lowest.step, say, on_validated)
    if start is not None and kept:
        _mix(average, start, kept)
        say(f"{task.name} {kept:.0%} of the weights that it started from are mixed in")
        _validate(task, average, step, say, on_validated)
    if isinstance(task, Finishing) and (done := task.finish(average)):
        say(f"{task.name} {done}")
        _validate(task, average, step, say, on_validated)
    return average


def _due(options: LoopOptions, step: int, waited_s: float) -> bool:
    if options.validate_every_steps:
        return step % options.validate_every_steps == 0
    return waited_s > options.validate_every_s


def _keep_lowest(
    lowest: _Lowest, scores: dict[str, float], network: nn.Module, step: int, best_file: Path
) -> None:
    """Remember the weights if their validation loss is the lowest so far; NaN never is."""
    if step == lowest.step:
        return
    if scores["loss"] < lowest.loss:
        lowest.loss, lowest.step, lowest.since = scores["loss"], step, 0
        torch.save(network.state_dict(), best_file)
    else:
        lowest.since += 1


def keep_memory_mapped() -> None:
    """Tell the C library to keep freed memory instead of handing it back after every tensor.

    On CPUs the page faults of large activations otherwise cost as much as the convolutions.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_MAX, 0)
        library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    except (OSError, AttributeError):  # not glibc: slower, not wrong
        return


def _begin_with(
    network: nn.Module, start: Mapping[str, Tensor], name: str, say: Callable[[str], None]
) -> None:
    """Take over the weights that fit.

    Raises:
        ModelError: none fits: they are those of another network.
    """
    own = network.state_dict()
    fits = {key: value for key, value in start.items() if key in own and own[key].shape == value.shape}
    if not any(fits[key].dim() > 1 for key in fits):
        raise ModelError(f"no weights of the bundle to start from fit {name}; name a bundle of this network")
    network.load_state_dict(fits, strict=False)
    fresh = sorted(own.keys() - fits.keys())
    say(
        f"{name} starts from {len(fits)} of {len(own)} weights"
        + "".join(f", {key} is fresh" for key in fresh)
    )


@torch.no_grad()
def _mix(network: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Take over a share of the weights that fit; counters stay."""
    for name, own in network.state_dict().items():
        other = start.get(name)
        if other is not None and other.shape == own.shape and own.is_floating_point():
            own.lerp_(other.to(own), share)


def _optimiser(network: nn.Module, options: LoopOptions) -> torch.optim.Optimizer:
    if options.optimiser == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=options.learning_rate, momentum=0.9, weight_decay=options.weight_decay
        )
    if options.optimiser == "adam":
        return torch.optim.Adam(
            network.parameters(),
            lr=options.learning_rate,
            betas=(options.beta1, 0.999),
            weight_decay=options.weight_decay,
        )
    return torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )


def _schedule(progress: float, step: int, options: LoopOptions) -> float:
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return min(1.0, (step + 1) / options.warmup_steps) * (1.0 if options.constant else cosine)


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, keep: float) -> None:
    for kept, current in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(current, 1 - keep)
    # Running statistics of BatchNorm are averages already.
    for statistic, newest in zip(average.buffers(), network.buffers(), strict=True):
        statistic.copy_(newest)


def _validate(
    task: Task,
    network: nn.Module,
    step: int,
    say: Callable[[str], None],
    on_validated: Callable[[nn.Module, dict[str, float], int], None] | None,
) -> dict[str, float]:
    with torch.inference_mode():
        scores = task.validate(network)
    say(f"{task.name} step {step} validation " + " ".join(f"{k}={v:.4f}" for k, v in scores.items()))
    if on_validated is not None:
        on_validated(network, scores, step)
    return scores


def _save(  # noqa: PLR0917 - all that a checkpoint holds
    folder: Path,
    task: Task,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: Generator,
    step: int,
    seconds: float,
    lowest: _Lowest,
) -> None:
    unfinished = folder / "checkpoint.tmp"
    torch.save(
        {
            "task": task.name,
            "network": network.state_dict(),
            "average": average.state_dict(),
            "optimiser": optimiser.state_dict(),
            "generator": generator.get_state(),
            "step": step,
            "seconds": seconds,
            "lowest": (lowest.loss, lowest.step, lowest.since, lowest.falls),
        },
        unfinished,
    )
    unfinished.replace(folder / "checkpoint.pt")


def _restore(  # noqa: PLR0917 - all that a checkpoint holds
    folder: Path,
    task: Task,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    generator: Generator,
) -> dict[str, Any]:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        raise ModelError(f"no checkpoint {path} to resume from; train without --resume first")
    device = next(network.parameters()).device
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    if state["task"] != task.name:
        raise ModelError(f"{path} was trained for {state['task']}, not {task.name}; use another folder")
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    generator.set_state(state["generator"].cpu())
    return state
