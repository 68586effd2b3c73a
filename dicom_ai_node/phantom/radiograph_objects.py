"""What else is on a radiograph: letters of lead, a buckle, a cable, and text burnt in afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.randomness import between, stream

Array = npt.NDArray[np.float64]

# Strokes of capital letters and digits on a unit square, (column, row) from the upper left corner.
_STROKES: Final[dict[str, Sequence[Sequence[tuple[float, float]]]]] = {
    "L": [[(0.1, 0), (0.1, 1), (0.8, 1)]],
    "R": [
        [(0.1, 1), (0.1, 0), (0.6, 0), (0.8, 0.15), (0.8, 0.35), (0.6, 0.5), (0.1, 0.5)],
        [(0.4, 0.5), (0.85, 1)],
    ],
    "A": [[(0, 1), (0.45, 0), (0.9, 1)], [(0.18, 0.62), (0.72, 0.62)]],
    "T": [[(0, 0), (0.9, 0)], [(0.45, 0), (0.45, 1)]],
    "E": [[(0.8, 0), (0.1, 0), (0.1, 1), (0.8, 1)], [(0.1, 0.5), (0.65, 0.5)]],
    "C": [[(0.85, 0.15), (0.6, 0), (0.3, 0), (0.1, 0.25), (0.1, 0.75), (0.3, 1), (0.6, 1), (0.85, 0.85)]],
    "S": [
        [(0.8, 0.12), (0.5, 0), (0.15, 0.15), (0.15, 0.4), (0.75, 0.6), (0.75, 0.88), (0.4, 1), (0.1, 0.88)]
    ],
    "P": [[(0.1, 1), (0.1, 0), (0.6, 0), (0.8, 0.15), (0.8, 0.4), (0.6, 0.55), (0.1, 0.55)]],
    "1": [[(0.25, 0.2), (0.5, 0), (0.5, 1)]],
    "/": [[(0.1, 1), (0.8, 0)]],
    "-": [[(0.15, 0.5), (0.75, 0.5)]],
}  # fmt: skip


def text_mask(
    shape: tuple[int, int], text: str, corner: tuple[float, float], height: float, *, turn: float = 0.0
) -> Tensor:
    """Coverage 0..1 of a text's strokes, float32 of a shape (rows, columns).

    Args:
        shape: of the image.
        text: of the letters L, R, A, T, E, C, S, P, 1, / and -; others leave a gap.
        corner: (column, row) of its upper left corner in pixels.
        height: of a letter in pixels; strokes are a ninth of it wide.
        turn: radians by which it stands crooked.
    """
    mask = torch.zeros(shape)
    cosine, sine = float(np.cos(turn)), float(np.sin(turn))
    for place, letter in enumerate(text):
        for stroke in _STROKES.get(letter, []):
            points = np.array([[x * 0.7 + place * 0.85, y] for x, y in stroke]) * height
            turned = points @ np.array([[cosine, sine], [-sine, cosine]]) + np.array(corner)
            for start, end in pairwise(turned):
                _line(mask, start, end, height / 18.0)
    return mask


def lead_marker(shape: tuple[int, int], letter: str, seed: int, pixel_mm: float) -> Tensor:
    """Coverage 0..1 of a letter of lead near a border of the field."""
    generator = stream(seed, "marker")
    size = between(generator, 8.0, 15.0) / pixel_mm
    column = between(generator, 0.06, 0.12) if generator.random() < 0.5 else between(generator, 0.8, 0.88)
    row = between(generator, 0.05, 0.9)
    corner = (column * shape[1], row * shape[0])
    return text_mask(shape, letter, corner, size, turn=between(generator, -0.25, 0.25))


def buckle_steel(shape: tuple[int, int], center: tuple[float, float], seed: int, pixel_mm: float) -> Tensor:
    """Millimetres of metal of a belt's buckle about a pixel (column, row)."""
    generator = stream(seed, "buckle")
    width, height = between(generator, 10.0, 45.0) / pixel_mm, between(generator, 28.0, 40.0) / pixel_mm
    column, row = center
    mask = torch.zeros(shape)
    sides = [(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5)]
    points = np.array([[column + x * width, row + y * height] for x, y in sides])
    for start, end in [
        *pairwise(points),
        (points[0] * 0.5 + points[3] * 0.5, points[1] * 0.5 + points[2] * 0.5),
    ]:
        _line(mask, start, end, 1.8 / pixel_mm)
    return mask * between(generator, 1.5, 4.0)


def cable_copper(shape: tuple[int, int], seed: int, pixel_mm: float) -> Tensor:
    """Millimetres of metal of a cable that hangs across the field."""
    generator = stream(seed, "cable")
    mask = torch.zeros(shape)
    rows = np.linspace(-0.05, between(generator, 0.5, 1.05), 40)
    start, drift, swing = (
        between(generator, 0.1, 0.9),
        between(generator, -0.4, 0.4),
        between(generator, 0.0, 0.12),
    )
    columns = start + drift * rows + swing * np.sin(rows * between(generator, 4.0, 12.0))
    points = np.stack([columns * shape[1], rows * shape[0]], axis=1)
    for first, last in pairwise(points):
        _line(mask, first, last, between(generator, 0.5, 0.6) / pixel_mm)
    return mask * between(generator, 0.15, 0.5)


def _line(mask: Tensor, start: Array, end: Array, half_width: float) -> None:
    """Draw a round stroke between two (column, row) points, in place; only its own box is touched."""
    low = np.floor(np.minimum(start, end) - half_width - 1.0).astype(int)
    high = np.ceil(np.maximum(start, end) + half_width + 1.0).astype(int)
    first_column, first_row = np.maximum(low, 0)
    last_column, last_row = np.minimum(high + 1, [mask.shape[1], mask.shape[0]])
    if first_column >= last_column or first_row >= last_row:
        return
    x = torch.arange(first_column, last_column, dtype=torch.float32)[None, :] - float(start[0])
    y = torch.arange(first_row, last_row, dtype=torch.float32)[:, None] - float(start[1])
    along = (float(end[0] - start[0]), float(end[1] - start[1]))
    length2 = along[0] ** 2 + along[1] ** 2 + 1e-9
    t = ((x * along[0] + y * along[1]) / length2).clamp(0.0, 1.0)
    distance = torch.sqrt((x - t * along[0]) ** 2 + (y - t * along[1]) ** 2)
    part = mask[first_row:last_row, first_column:last_column]
    torch.maximum(part, (half_width + 0.5 - distance).clamp(0.0, 1.0), out=part)
