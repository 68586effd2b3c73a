"""From the dense answer of a `ColumnDetector` on a film to single bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

OFFSET_UNIT: Final = 10.0
"""Offsets are answered in this many pixels of the fitted picture: numbers about 1 are learned best."""

_LEAST_WHOLE: Final = 0.6
"""So much of what points to one place hangs together, where it is a body."""

_LEAST_SHARE: Final = 0.2
"""Of the column's typical area has the smallest body of a film: T4, crushed, beside L4."""

_LEAST_PIXELS: Final = 24
"""Fewer pixels are no body: the smallest of a whole-spine film has some hundred."""


@dataclass(frozen=True)
class PartedBody:
    """One body of a picture.

    Attributes:
        mask: which pixels are it.
        score: mean probability of these pixels.
        center: where they point to on average [row, column], pixels.
    """

    mask: npt.NDArray[np.bool_]
    score: float
    center: tuple[float, float]


def parted_bodies(body: Tensor, offset: Tensor, *, least: float = 0.5) -> list[PartedBody]:
    """Pixels that are called body, parted by the centres they point to (as Panoptic-DeepLab groups things).

    Args:
        body: logits, shape (rows, columns).
        offset: to the body's centre in `OFFSET_UNIT`, shape (2, rows, columns).
        least: probability from which on a pixel is body.

    Returns:
        From the uppermost to the lowest.
    """
    probability = body.sigmoid()
    places = (probability >= least).nonzero()
    if len(places) < _LEAST_PIXELS:
        return []
    rows, columns = body.shape
    votes = places + OFFSET_UNIT * offset[:, places[:, 0], places[:, 1]].T
    where = votes.round().long()
    where = where.clamp(torch.zeros(2, dtype=torch.long), torch.tensor([rows - 1, columns - 1]))
    counted = torch.zeros(rows * columns)
    counted.index_add_(0, where[:, 0] * columns + where[:, 1], torch.ones(len(where)))
    # Bodies differ in size from film to film: how far votes of one spread, their own size tells.
    edge = _typical_edge(votes, places)
    blurred = _blurred(counted.reshape(1, 1, rows, columns), max(0.8, 0.12 * edge))
    reach = max(1, round(0.3 * edge))
    highest = functional.max_pool2d(blurred, 2 * reach + 1, stride=1, padding=reach)
    peaks = ((blurred == highest) & (blurred > 0))[0, 0].nonzero()
    mine = torch.cdist(votes, peaks.float()).argmin(dim=1)
    answer = []
    for number in range(len(peaks)):
        chosen = places[mine == number]
        if len(chosen) < _LEAST_PIXELS:
            continue
        mask = np.zeros((rows, columns), dtype=np.bool_)
        mask[tuple(chosen.T.numpy())] = True
        whole = _largest_piece(mask)
        if int(whole.sum()) < _LEAST_WHOLE * len(chosen):
            # Specks that point to one place are no body.
            continue
        score = float(probability[torch.from_numpy(whole)].mean())
        row, column = votes[mine == number].mean(dim=0).tolist()
        answer.append(PartedBody(whole, score, (row, column)))
    typical = float(np.median([int(item.mask.sum()) for item in answer])) if answer else 0.0
    # Crumbs between bodies point nowhere in particular.
    kept = [item for item in answer if int(item.mask.sum()) >= _LEAST_SHARE * typical]
    return sorted(kept, key=lambda item: item.center[0])


def _largest_piece(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    pieces, count = ndimage.label(mask)
    if count <= 1:
        return mask
    largest: npt.NDArray[np.bool_] = pieces == 1 + int(np.bincount(pieces.ravel())[1:].argmax())
    return largest


def _typical_edge(votes: Tensor, places: Tensor) -> float:
    """Edge of a body in pixels: pixels of a square lie on average 0.38 of its edge from its middle."""
    return float(torch.linalg.vector_norm(votes - places, dim=1).median()) / 0.38


def _blurred(image: Tensor, sigma: float) -> Tensor:
    radius = max(1, round(2.5 * sigma))
    steps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    across = functional.conv2d(image, kernel.view(1, 1, 1, -1), padding=(0, radius))
    return functional.conv2d(across, kernel.view(1, 1, -1, 1), padding=(radius, 0))
