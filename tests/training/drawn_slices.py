"""Sagittal slices drawn by hand: bright bodies in a column on a dark ground, known to the pixel."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.networks.ct_diseases import DISEASES
from dicom_ai_node.training.ct_slices import CtSlice

LEVELS = ("T12", "L1", "L2", "L3")


def drawn_slice(
    seed: int,
    *,
    patient: str = "",
    number: int = 0,
    shape: tuple[int, int] = (150, 90),
    spacing_mm: tuple[float, float] = (1.25, 1.25),
    bodies: int = 4,
) -> CtSlice:
    """A slice of `shape` with up to four bodies of 30 x 22 mm, one below the other."""
    generator = np.random.default_rng(seed)
    image = generator.normal(20.0, 15.0, shape)
    high, wide = round(22 / spacing_mm[0]), round(30 / spacing_mm[1])
    boxes = []
    top, left = round(0.08 * shape[0]), shape[1] // 2 - wide // 2
    for _ in range(bodies):
        column = left + int(generator.integers(-2, 3))
        image[top : top + high, column : column + wide] += 500.0
        boxes.append([column, top, column + wide, top + high])
        top += round(1.35 * high)
    return CtSlice(
        patient=patient or f"{seed:03d}",
        number=number,
        image=np.rint(image).astype(np.int16),
        spacing_mm=spacing_mm,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        levels=LEVELS[:bodies],
        diseases=np.zeros((bodies, len(DISEASES)), dtype=np.int8),
    )
