"""Films drawn from rectangles: bright bodies one above the other, with the truth that goes with them."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.anatomy import Level
from dicom_ai_node.training.films import ACUITIES, Film, FilmVertebra

LEVELS = (Level.T12, Level.L1, Level.L2)


def box_outline(top: float, left: float, bottom: float, right: float) -> np.ndarray:
    """Corners of an upright rectangle."""
    return np.array([[top, left], [top, right], [bottom, right], [bottom, left]], dtype=np.float64)


def drawn_film(seed: int, *, fractured: Level | None = Level.L1, acuity: str = "acute") -> Film:
    """128 x 96 pixels, three bodies of 22 x 34, each brighter than the one above; a fractured one is 10 high.

    The texture of a fracture tells its acuity: plain, striped across, striped along.
    """
    generator = np.random.default_rng(seed)
    pixels = generator.normal(0.15, 0.03, (128, 96))
    vertebrae = []
    for number, level in enumerate(LEVELS):
        broken = level is fractured
        middle = np.array([24 + 38 * number, 46]) + generator.uniform(-3, 3, 2)
        half = np.array([5.0 if broken else 11.0, 17.0])
        top, left = np.ceil(middle - half).astype(int)
        bottom, right = np.floor(middle + half).astype(int)
        body = pixels[top : bottom + 1, left : right + 1]
        body += 0.35 + 0.2 * number
        if broken and acuity != ACUITIES[0]:
            stripes = body if acuity == ACUITIES[1] else body.T
            stripes[::4] -= 0.3
            stripes[1::4] -= 0.3
        # A stump behind the body, as its pedicle is: it tells front from back.
        stump = pixels[(top + bottom) // 2 - 3 : (top + bottom) // 2 + 3, right + 1 : right + 9]
        stump += 0.3
        corners = [(row, column) for column in (left, (left + right) / 2, right) for row in (top, bottom)]
        vertebrae.append(
            FilmVertebra(
                level,
                box_outline(top - 0.5, left - 0.5, bottom + 0.5, right + 0.5),
                np.array(corners, dtype=np.float64),
                broken,
                3 if broken else 0,
                "crush" if broken else "none",
                acuity if broken else None,
            )
        )
    return Film(f"drawn-{seed}", pixels.astype(np.float32), 1.0, tuple(vertebrae))
