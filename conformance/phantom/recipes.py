"""Phantoms to learn from, each recipe with more realism than the one before it.

A recipe turns a seed into a `Stack`. The names of a kind are in the order in which realism was added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.phantom import SpineOptions, render_training_case, sample_spine
from dicom_ai_node.phantom.mr_training_cases import render_mr_training_case

PLAIN: Final = SpineOptions()
ILL: Final = SpineOptions(diseases="rich", degeneration="rich", sacralised=None, uncinate=True)


@dataclass(frozen=True)
class Stack:
    """A labelled volume.

    Attributes:
        image: int16 or float32, axes (left, superior, posterior).
        labels: uint8, not zero in vertebral bodies, same shape.
        spacing_mm: of each axis.
        air: HU of air for CT, None for MR.
    """

    image: Tensor
    labels: Tensor
    spacing_mm: tuple[float, float, float]
    air: float | None

    def save(self, path: Path) -> None:
        """Write an npz; it appears under its name only when complete."""
        unfinished = path.with_name(f"unfinished-{path.name}")
        np.savez_compressed(
            unfinished,
            image=self.image.numpy(),
            labels=self.labels.numpy(),
            spacing_mm=np.array(self.spacing_mm),
            air=np.array(np.nan if self.air is None else self.air),
        )
        unfinished.replace(path)

    @staticmethod
    def load(path: Path) -> Stack:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as archive:
            a, b, c = (float(x) for x in archive["spacing_mm"])
            air = float(archive["air"])
            return Stack(
                torch.from_numpy(archive["image"]),
                torch.from_numpy(archive["labels"]),
                (a, b, c),
                None if np.isnan(air) else air,
            )


def ct_stack(seed: int, options: SpineOptions, *, training: bool) -> Stack:
    """A CT of 1.5 mm voxels with a random field of view."""
    case = render_training_case(seed, 1.5, training=training, spine=sample_spine(seed, options=options))
    # (superior, posterior, left) -> (left, superior, posterior)
    turned = [
        torch.from_numpy(np.ascontiguousarray(np.moveaxis(array, 2, 0))) for array in (case.hu, case.labels)
    ]
    return Stack(turned[0], turned[1], (1.5, 1.5, 1.5), -1000.0)


def mr_stack(seed: int, options: SpineOptions, *, training: bool) -> Stack:
    """An MR series of any sequence, interpolated between its slices as published sets are."""
    spine = sample_spine(seed, options=options)
    case = render_mr_training_case(seed, 1.5, slice_mm=2.0, training=training, spine=spine)
    # (left, inferior, posterior) -> (left, superior, posterior)
    image, labels = (np.ascontiguousarray(array[:, ::-1]) for array in (case.image, case.labels))
    return Stack(torch.from_numpy(image.astype(np.float32)), torch.from_numpy(labels), (2.0, 1.5, 1.5), None)


RECIPES: Final[dict[str, dict[str, Callable[[int], Stack]]]] = {
    "ct": {
        "healthy": lambda seed: ct_stack(seed, PLAIN, training=False),
        "randomised": lambda seed: ct_stack(seed, PLAIN, training=True),
        "full": lambda seed: ct_stack(seed, ILL, training=True),
    },
    "mr": {
        "healthy": lambda seed: mr_stack(seed, PLAIN, training=False),
        "randomised": lambda seed: mr_stack(seed, PLAIN, training=True),
        "full": lambda seed: mr_stack(seed, ILL, training=True),
    },
}
