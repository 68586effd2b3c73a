"""Does the phantom teach what real images need? A small U-Net learns bodies from it alone and is judged.

    python -m conformance.phantom.transfer pool  --kind ct --recipe full --count 120 --out POOL
    python -m conformance.phantom.transfer train --kind ct --pool POOL --minutes 30 --out RESULT --data DATA

The network sees three neighbouring sagittal slices of 1.5 mm pixels, and no real image before it is judged on
`real_scans`. The score steers the work on the phantom; the network is used for nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from torch import Generator, Tensor, nn
from torch.nn import functional

from conformance.phantom.real_scans import RealScan, labelled_part, real_scans
from conformance.phantom.recipes import RECIPES, Stack
from dicom_ai_node.networks.unet import UNet
from dicom_ai_node.training.augment import (
    Intensity,
    Pose,
    chance,
    random_affine,
    sample_patch,
    uniform,
    vary_contrast,
    vary_intensity,
)
from dicom_ai_node.training.loop import LoopOptions, train
from dicom_ai_node.training.metrics import dice

Floats = npt.NDArray[np.float32]

PIXEL_MM: Final = 1.5
NEIGHBOUR_MM: Final = 3.0
SIZE: Final = 128
"""Rows and columns of a patch; the network's field is 192 mm wide."""


@dataclass(frozen=True)
class TransferOptions:
    """How the network learns.

    Attributes:
        batch: patches per step.
        near: share of patches about a body; the others lie anywhere, to teach what is no vertebra.
        channels: of the U-Net, finest first.
        pose, intensity: how patches vary; `noise_hu` is in standard deviations of the patch here.
    """

    batch: int = 8
    near: float = 0.6
    channels: tuple[int, ...] = (16, 32, 64, 128)
    pose: Pose = field(
        default_factory=lambda: Pose(degrees=(15.0, 4.0, 4.0), scale=(0.8, 1.25), stretch=0.06)
    )
    intensity: Intensity = field(
        default_factory=lambda: Intensity(curve=0.35, thick_slices=0.0, blur=0.25, noise_hu=0.25)
    )


class TransferTask:
    """Patches, loss and validation for `training.loop.train`; stacks are (left, superior, posterior)."""

    name = "phantom-transfer"

    def __init__(self, stacks: Sequence[Stack], held_out: Sequence[Stack], options: TransferOptions) -> None:
        self.stacks, self.held_out, self.options = stacks, held_out, options
        self._bodies = [_some(stack.labels) for stack in stacks]

    def build(self) -> UNet:
        """A fresh network: three slices in, one logit out."""
        return UNet(3, 1, 2, self.options.channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """`image` (batch, 3, rows, columns) and `target` (batch, rows, columns) in 0..1."""
        patches = [self._patch(generator) for _ in range(self.options.batch)]
        return {
            "image": torch.stack([image for image, _ in patches]),
            "target": torch.stack([target for _, target in patches]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Binary cross-entropy plus soft Dice over the batch."""
        logits = network(batch["image"])[:, 0]
        target = batch["target"]
        share = logits.sigmoid()
        overlap: Tensor = 2 * (share * target).sum() / ((share + target).sum() + 1.0)
        entropy: Tensor = functional.binary_cross_entropy_with_logits(logits, target)
        return entropy + 1.0 - overlap

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Dice of the bodies in phantoms that were held out."""
        scores = [dice(segmented(network, s) > 0.5, s.labels.numpy() > 0) for s in self.held_out]
        return {"dice": float(np.mean(scores))} if scores else {}

    def _patch(self, generator: Generator) -> tuple[Tensor, Tensor]:
        options = self.options
        k = int(torch.randint(len(self.stacks), (), generator=generator))
        stack, bodies = self.stacks[k], self._bodies[k]
        if len(bodies) and chance(generator, options.near):
            at = bodies[int(torch.randint(len(bodies), (), generator=generator))].float()
            spread = torch.tensor([6.0, 55.0, 55.0]) / torch.tensor(stack.spacing_mm)
            center = at + torch.randn(3, generator=generator).clamp(-1.6, 1.6) * 0.6 * spread
        else:
            center = torch.rand(3, generator=generator) * torch.tensor(stack.image.shape)
        matrix = random_affine(generator, options.pose)
        # Patch offsets in pixels -> mm -> voxels of the stack.
        matrix = torch.diag(1.0 / torch.tensor(stack.spacing_mm)) @ matrix
        matrix = matrix @ torch.diag(torch.tensor([NEIGHBOUR_MM, PIXEL_MM, PIXEL_MM]))
        outside = float(stack.image.min())
        image = sample_patch(
            stack.image[None], center, matrix, (3, SIZE, SIZE), outside=outside,
            reflected=chance(generator, 0.3),
        )[0]  # fmt: skip
        target = sample_patch((stack.labels > 0)[None], center, matrix, (3, SIZE, SIZE), outside=0.0)[0, 1]
        image = standardised(image, stack.air)
        image = vary_intensity(generator, image, options.intensity)
        image = vary_contrast(generator, image, options.intensity)
        if chance(generator, 0.1):
            image = image[1:2].expand(3, -1, -1)
        return image + 0.05 * uniform(generator, -1.0, 1.0), target


def _some(labels: Tensor) -> Tensor:
    places = torch.nonzero(labels > 0)
    return places[:: max(1, len(places) // 4000)].clone()


def standardised(image: Tensor, air: float | None) -> Tensor:
    """Standard score of a patch; CT is clipped first, so that metal and table do not decide."""
    if air is not None:
        image = image.clamp(-500.0, 1300.0)
    deviation, mean = torch.std_mean(image, correction=0)
    return (image - mean) / (deviation + 1e-3)


@torch.no_grad()
def segmented(network: nn.Module, stack: Stack) -> Floats:
    """Probability of body per voxel of a stack, from overlapping patches (Hann weights)."""
    spacing = stack.spacing_mm
    image = _resampled(stack.image.float(), spacing, (spacing[0], PIXEL_MM, PIXEL_MM))
    step = max(1, round(NEIGHBOUR_MM / spacing[0]))
    slices, rows, columns = image.shape
    high, wide = (max(SIZE, size) for size in (rows, columns))
    image = functional.pad(image[None], (0, wide - columns, 0, high - rows), value=float(image.min()))[0]
    total, weights = torch.zeros((slices, high, wide)), torch.zeros((high, wide))
    window = torch.hann_window(SIZE + 2, periodic=False)[1:-1]
    weight = window[:, None] * window[None] + 1e-3
    for row in _starts(high):
        for column in _starts(wide):
            part = (slice(row, row + SIZE), slice(column, column + SIZE))
            weights[part] += weight
            for k in range(slices):
                around = [min(max(k + d, 0), slices - 1) for d in (-step, 0, step)]
                patch = standardised(image[around][:, part[0], part[1]], stack.air)
                total[k][part] += weight * network(patch[None]).sigmoid()[0, 0]
    probability = (total / weights)[:, :rows, :columns]
    back = functional.interpolate(probability[None, None], size=tuple(stack.image.shape), mode="trilinear")
    answer: Floats = back[0, 0].numpy()
    return answer


def _starts(size: int) -> list[int]:
    count = 1 + max(0, -(-(size - SIZE) // (SIZE // 2)))
    return [round(k * (size - SIZE) / max(1, count - 1)) for k in range(count)]


def _resampled(image: Tensor, spacing: Sequence[float], wanted: Sequence[float]) -> Tensor:
    size = [max(1, round(n * s / w)) for n, s, w in zip(image.shape, spacing, wanted, strict=True)]
    return functional.interpolate(image[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]


def judged(network: nn.Module, scan: RealScan) -> dict[str, float]:
    """Dice over the whole scan and over its labelled part, and the share of bodies that are mostly drawn."""
    labels = scan.stack.labels.numpy()
    drawn = segmented(network, scan.stack) > 0.5
    part = labelled_part(labels)
    bodies = [float(drawn[labels == n].mean()) for n in np.unique(labels) if n]
    return {
        "dice": dice(drawn & part, (labels > 0) & part),
        "dice_whole_scan": dice(drawn, labels > 0),
        "bodies_found": float(np.mean([share > 0.5 for share in bodies])),
    }


def picture(network: nn.Module, scans: Sequence[RealScan], target: Path) -> None:
    """The middle sagittal slice of every scan with what was drawn (red) and what is true (green)."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    across = min(6, len(scans))
    down = -(-len(scans) // across)
    figure, axes = plt.subplots(down, across, figsize=(3.2 * across, 3.4 * down), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, scan in zip(axes.flat, scans, strict=False):
        labels = scan.stack.labels.numpy()
        middle = int(np.median(np.argwhere(labels > 0)[:, 0]))
        image = scan.stack.image[middle].numpy()
        low, high = (-300.0, 900.0) if scan.stack.air is not None else np.percentile(image, (1, 99.5))
        # Row 0 is lowest: shown with the head up.
        axis.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
        axis.contour(labels[middle] > 0, [0.5], colors="lime", linewidths=0.8)
        axis.contour(segmented(network, scan.stack)[middle], [0.5], colors="red", linewidths=0.8)
        axis.set_title(scan.name, fontsize=8)
    figure.tight_layout()
    figure.savefig(target, dpi=110)
    plt.close(figure)


def learn(
    kind: str, pool: Path, out: Path, data: Path, *, minutes: float, seed: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Train on a pool and judge on the real scans; writes ``score.json`` and ``overlay.png``."""
    stacks = [Stack.load(path) for path in sorted(pool.glob("stack-*.npz"))]
    held_out = max(1, min(4, len(stacks) // 10))
    task = TransferTask(stacks[held_out:], stacks[:held_out], TransferOptions())
    network = train(
        task, out, minutes=minutes, device=torch.device("cpu"), say=say,
        options=LoopOptions(seed=seed, validate_every_s=600.0),
    )  # fmt: skip
    scans = list(real_scans(kind, data))
    scores = {scan.name: judged(network, scan) for scan in scans}
    sets: dict[str, list[float]] = {}
    for name, score in scores.items():
        sets.setdefault(name.split("_")[0], []).append(score["dice"])
    answer = {
        "kind": kind,
        "pool": pool.name,
        "stacks": len(stacks),
        "minutes": minutes,
        "held_out_phantoms": task.validate(network),
        "dice": {name: float(np.mean(values)) for name, values in sets.items()},
        "scans": scores,
    }
    (out / "score.json").write_text(json.dumps(answer, indent=2) + "\n")
    picture(network, scans, out / "overlay.png")
    return answer


def make_pool(kind: str, recipe: str, count: int, out: Path, say: Callable[[str], None]) -> None:
    """Write ``stack-<seed>.npz`` of `count` phantoms; those that are there already are kept."""
    out.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        target = out / f"stack-{seed:05d}.npz"
        if not target.exists():
            RECIPES[kind][recipe](seed).save(target)
            say(f"{recipe}: {seed + 1} of {count}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["pool", "train"])
    parser.add_argument("--kind", choices=["ct", "mr"], required=True)
    parser.add_argument("--recipe", default="full")
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    console = Console()

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    if args.step == "pool":
        make_pool(args.kind, args.recipe, args.count, args.out, say)
        return
    found = learn(args.kind, args.pool, args.out, args.data, minutes=args.minutes, seed=args.seed, say=say)
    say(json.dumps(found["dice"]))


if __name__ == "__main__":
    main()
