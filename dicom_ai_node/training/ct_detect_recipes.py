"""The recipes of ct-detect: P2's two networks as published, and one that two processor cores can train."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_ai_node.training.ct_detect import CtDetectOptions, CtDetectTask
from dicom_ai_node.training.ct_slice_pool import slice_pool
from dicom_ai_node.training.ct_slices import CtSlice
from dicom_ai_node.training.loop import LoopOptions
from dicom_ai_node.training.recipe import NetworkRecipe

POOL: Final = 240
"""Phantom patients of a training pool, of five to eight slices each (P2: 1,082 slices)."""

_SMALL: Final = {
    "backbone": "resnet18-half",
    "features": 64,
    "anchor_px": 12,
    "sampled": 128,
    "dense": True,
}

SLICE_DETECTORS: Final[Mapping[str, CtDetectOptions]] = {
    "resnet18": CtDetectOptions(network={"backbone": "resnet18"}),
    "mobilenet-v2": CtDetectOptions(network={"backbone": "mobilenet-v2"}),
    "resnet18-small": CtDetectOptions(network=_SMALL, size=(256, 192), at_mm=1.25, batch=3),
}
"""The detectors that can be trained: P2's on 1024 x 1024 of a slice's own pixels, and a ResNet-18 of half the
width that sees all slices at 1.25 mm."""

_PUBLISHED_LOOP: Final = LoopOptions("sgd", 5e-3, 1e-4, clip=10.0, warmup_steps=200, ema=0.999)
"""P2 leaves this to a supplement; these are torchvision's for two images a step."""

_SMALL_LOOP: Final = LoopOptions(learning_rate=1e-3, warmup_steps=100, ema=0.995, validate_every_s=1200)
"""In the few thousand steps of a CPU SGD gets nowhere from fresh weights."""


@dataclass(frozen=True, kw_only=True)
class CtDetectRecipe(NetworkRecipe):
    """How ct-detect is trained; the rest is told by `NetworkRecipe`.

    Attributes:
        options: of the task.
    """

    options: CtDetectOptions

    def build(self, training: Sequence[CtSlice], held_out: Sequence[CtSlice]) -> CtDetectTask:
        """The task of these slices."""
        return CtDetectTask(training, held_out, self.options)

    def pool(self, folder: Path, say: Callable[[str], None], size: int | None = None) -> list[CtSlice]:
        """The slices of its phantom patients, or of `size` of them; see `slice_pool`."""
        return slice_pool(folder, size or self.pool_size, say)


def slice_detect_recipe(name: str = "resnet18") -> CtDetectRecipe:
    """The recipe of one of `SLICE_DETECTORS`."""
    options = SLICE_DETECTORS[name]
    return CtDetectRecipe(
        name="ct-detect",
        description=f"{name}: Faster R-CNN, boxes of vertebral bodies on sagittal CT slices (P2, VDModule)",
        architecture="SliceDetector",
        arguments=dict(options.network),
        output_channels=("vertebra",),
        preprocessing={
            "plane": "sagittal",
            "spacing_mm": options.at_mm,
            "size": options.size,
            "clip_hu": options.clip_hu,
        },
        pool_size=POOL,
        loop=_SMALL_LOOP if name.endswith("-small") else _PUBLISHED_LOOP,
        options=options,
        network=name,
    )
