"""Bodies on a film as one label map: a network's mask of each, or the six points where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.networks.film_geometry import FittedMask, into_crop

Floats = npt.NDArray[np.float64]


_WALL: Final = 0.06
"""How far the walls of a body bend inwards between its corners, as a share of its depth."""


def film_label_map(
    bodies: Mapping[Level, tuple[FittedMask | None, Floats, Floats | None]], shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """The bodies of a film.

    Args:
        bodies: mask of each, its box, and its six points, film pixels, shape (6, 2).
        shape: rows, columns of the film.

    Returns:
        VerSe labels (`anatomy.verse_label`), shape (rows, columns); 0 is background.
    """
    rows, columns = shape
    labels = np.zeros((rows, columns), dtype=np.uint8)
    surest = np.full((rows, columns), 0.5, dtype=np.float32)
    for level, (mask, about, points) in bodies.items():
        if mask is not None:
            box, share = _pasted(mask, about, (rows, columns))
        elif points is not None:
            box, share = _filled(points, (rows, columns))
        else:
            continue
        view = surest[box]
        better = share > view
        view[better] = share[better]
        labels[box][better] = verse_label(level)
    return labels


Window = tuple[slice, slice]


def _pasted(mask: FittedMask, box: Floats, shape: tuple[int, int]) -> tuple[Window, npt.NDArray[np.float32]]:
    """A mask in pixels of the film, about a box: (window, probabilities)."""
    margin = 0.1 * (box[2:] - box[:2])
    window = _window(box[:2] - margin, box[2:] + margin, shape)
    values, frame = mask.values, mask.frame
    fitted = (values.shape[0], values.shape[1])
    axes = [torch.arange(part.start, part.stop, dtype=torch.float32) for part in window]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    inside = into_crop(places.reshape(-1, 2), frame.center, frame.matrix, fitted).reshape(places.shape)
    grid = (inside * 2 + 1) / torch.tensor(fitted, dtype=torch.float32) - 1
    found = functional.grid_sample(
        torch.from_numpy(values)[None, None], grid.flip(-1)[None], mode="bilinear", align_corners=False
    )
    return window, found[0, 0].numpy()


def _filled(points: Floats, shape: tuple[int, int]) -> tuple[Window, npt.NDArray[np.float32]]:
    """The body between six points, its walls a little hollow: (window, 1 inside and 0 outside)."""
    outline = outline_of_points(points)
    window = _window(outline.min(axis=0), outline.max(axis=0), shape)
    row = np.arange(window[0].start, window[0].stop)[:, None, None]
    column = np.arange(window[1].start, window[1].stop)[None, :, None]
    start, end = outline, np.roll(outline, -1, axis=0)
    crosses = (start[:, 0] <= row) != (end[:, 0] <= row)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = start[:, 1] + (row - start[:, 0]) / (end[:, 0] - start[:, 0]) * (end[:, 1] - start[:, 1])
    inside = (crosses & (at <= column)).sum(axis=2) % 2 == 1
    return window, inside.astype(np.float32)


def outline_of_points(points: Floats, steps: int = 8) -> Floats:
    """A closed outline through six points, shape (n, 2): endplates as parabolas, walls a little hollow.

    Args:
        points: anterior, middle, posterior; each upper then lower; shape (6, 2).
        steps: points per side.
    """
    upper, lower = points[0::2], points[1::2]
    depth = float(np.linalg.norm(upper[0] - upper[2]) + np.linalg.norm(lower[0] - lower[2])) / 2
    inwards = (upper[1] + lower[1]) / 2
    share = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]

    def bent(first: Floats, middle: Floats, last: Floats) -> Floats:
        # The parabola through three points, the middle one half way.
        found: Floats = (
            first * (1 - share) * (1 - 2 * share)
            + middle * 4 * share * (1 - share)
            + last * share * (2 * share - 1)
        )
        return found

    def wall(first: Floats, last: Floats) -> Floats:
        middle = (first + last) / 2
        toward = inwards - middle
        return bent(first, middle + _WALL * depth * toward / max(float(np.linalg.norm(toward)), 1e-6), last)

    sides = [
        bent(upper[0], upper[1], upper[2]),
        wall(upper[2], lower[2]),
        bent(lower[2], lower[1], lower[0]),
        wall(lower[0], upper[0]),
    ]
    return np.concatenate(sides)


def _window(low: Floats, high: Floats, shape: tuple[int, int]) -> Window:
    first = np.clip(np.floor(low).astype(int) - 1, 0, np.array(shape) - 1)
    last = np.clip(np.ceil(high).astype(int) + 2, first + 1, np.array(shape))
    return slice(int(first[0]), int(last[0])), slice(int(first[1]), int(last[1]))
