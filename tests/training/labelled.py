"""A small labelled CT: blocks of bone in soft tissue, with the truth that a phantom would bring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.training.cases import Case

LEVELS = (Level.T12, Level.L1, Level.L2, Level.L3)


def block_spine(
    seed: int,
    spacing_mm: float,
    fractured: Sequence[Level] = (Level.L2,),
    size_mm: Sequence[float] = (200, 120, 100),
) -> Case:
    """Upright blocks of 28 x 30 x 40 mm every 40 mm; a fractured one is 16 mm high."""
    generator = np.random.default_rng(seed)
    shape = tuple(round(edge / spacing_mm) for edge in size_mm)
    grid = np.stack(np.meshgrid(*[np.arange(count) * spacing_mm for count in shape], indexing="ij"), axis=-1)
    voxels = generator.normal(40, 15, shape)
    labels = np.zeros(shape, np.uint8)
    vertebrae: list[dict[str, Any]] = []
    for number, level in enumerate(LEVELS):
        center = np.array([size_mm[0] - 40 - 40 * number, 60 + generator.normal(), 50.0])
        broken = level in fractured
        half = np.array([8.0 if broken else 14.0, 15.0, 20.0])
        inside = (np.abs(grid - center) < half).all(axis=-1)
        voxels[inside] = 350 + 60 * number
        labels[inside] = verse_label(level)
        points = {
            f"{where}_{end}": [float(center[2]), float(center[1] + back), float(center[0] + up)]
            for where, back in (("anterior", -15.0), ("middle", 0.0), ("posterior", 15.0))
            for end, up in (("superior", half[0]), ("inferior", -half[0]))
        }
        height = 2 * float(half[0])
        vertebrae.append(
            {
                "level": level.value,
                "center_mm": [float(center[2]), float(center[1]), float(center[0])],
                "six_points": points,
                "heights_mm": {"anterior": height, "middle": height, "posterior": height, "reference": 28.0},
                "genant_grade": 3 if broken else 0,
                "fractured": broken,
                "axes": {"left": [1, 0, 0], "posterior": [0, 1, 0], "superior": [0, 0, 1]},
            }
        )
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = spacing_mm
    affine[3, 3] = 1
    return Case(
        str(seed),
        torch.from_numpy(voxels.round().astype(np.int16)),
        torch.from_numpy(labels),
        affine,
        {"vertebrae": vertebrae},
    )
