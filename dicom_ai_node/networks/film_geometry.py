"""Crops of films, and the way between a film and its crop; places are [row, column], pixel centres whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional


def crop(pixels: npt.NDArray[np.generic], center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut a turned crop out of a film; what lies beyond the film repeats its border.

    Args:
        pixels: shape (rows, columns).
        center: of the crop in the film, [row, column].
        matrix: shape (2, 2), crop offsets to film offsets, both in pixels [row, column].
        size: of the crop.

    Returns:
        float32, shape `size`, in the film's own brightness.
    """
    rows, columns = pixels.shape
    axes = [torch.arange(length, dtype=torch.float32) - (length - 1) / 2 for length in size]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T + center
    # A fine film is averaged first, so that no pixel of it goes unseen.
    factor = max(1, int(float(torch.linalg.det(matrix).abs().sqrt())))
    limit = torch.tensor([rows, columns]) - 1
    low = (places.amin(dim=(0, 1)).floor().long() - factor).clamp(min=0)
    low = torch.minimum(low, (limit - factor).clamp(min=0))
    high = torch.minimum(places.amax(dim=(0, 1)).ceil().long() + 2 * factor, limit + 1)
    high = torch.minimum(torch.maximum(high, low + factor), limit + 1)
    (top, left), (bottom, right) = low.tolist(), high.tolist()
    part = torch.from_numpy(pixels[top:bottom, left:right].astype(np.float32))[None, None]
    if factor > 1:
        part = functional.avg_pool2d(part, factor, ceil_mode=True)
    extent = torch.tensor(part.shape[2:], dtype=torch.float32)
    inside = (places - low - (factor - 1) / 2) / factor
    grid = (inside * 2 + 1) / extent - 1
    return functional.grid_sample(
        part, grid.flip(-1)[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0, 0]


@dataclass(frozen=True)
class Frame:
    """Where a crop lies on a film.

    Attributes:
        center: of the crop in the film, [row, column], shape (2,).
        matrix: crop offsets to film offsets, shape (2, 2).
    """

    center: Tensor
    matrix: Tensor

    def below(self, rows: float) -> Self:
        """The same crop of a film of which this one is a part that begins so many rows from its top."""
        return type(self)(self.center + torch.tensor([rows, 0.0]), self.matrix)


@dataclass(frozen=True)
class FittedMask:
    """Probability of one body on a crop of a film.

    Attributes:
        values: of the crop's pixels, 0 to 1.
        frame: where the crop lies.
    """

    values: npt.NDArray[np.float32]
    frame: Frame


def into_crop(points: Tensor, center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Film places (n, 2) as places of a crop that `crop` cut with the same arguments."""
    answer: Tensor = torch.linalg.solve(matrix, (points - center).T).T
    return answer + (torch.tensor(size) - 1) / 2


def out_of_crop(points: Tensor, center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
    """Places of a crop (n, 2) as places of the film: the way back of `into_crop`."""
    return (points - (torch.tensor(size) - 1) / 2) @ matrix.T + center


def fitting(shape: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(center, matrix) of the crop of that size that shows a whole film, as large as it goes."""
    center = (torch.tensor(shape, dtype=torch.float32) - 1) / 2
    return center, torch.eye(2) * max(shape[0] / size[0], shape[1] / size[1])


def square_crop(box: npt.NDArray[np.float64], margin: float, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(center, matrix) of the square crop about a box (first row, first column, last row, last column).

    Args:
        box: shape (4,), film pixels.
        margin: edge of the crop over the larger edge of the box.
        size: of the crop.
    """
    center = torch.tensor((box[:2] + box[2:]) / 2, dtype=torch.float32)
    edge = margin * float((box[2:] - box[:2]).max())
    return center, torch.eye(2) * (edge / size[0])


def box_crop(
    box: npt.NDArray[np.float64], margin: float, size: tuple[int, int], shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """(center, matrix) of the crop that stretches a box with a margin to `size`.

    Args:
        box: first row, first column, last row, last column, shape (4,), film pixels.
        margin: edges of the crop over those of the box.
        size: of the crop.
        shape: rows, columns of the film; a film that is a crop already ends where its box does.
    """
    limit = np.array(shape, dtype=np.float64) - 1
    center, half = (box[:2] + box[2:]) / 2, margin * (box[2:] - box[:2]) / 2
    low, high = np.maximum(center - half, np.minimum(0, box[:2])), center + half
    high = np.minimum(high, np.maximum(limit, box[2:]))
    center, edges = (low + high) / 2, (high - low + 1) / np.array(size)
    return torch.tensor(center, dtype=torch.float32), torch.diag(torch.tensor(edges, dtype=torch.float32))


def box_overlap(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Intersection over union of two boxes: first row, first column, last row, last column, shape (4,)."""
    common = box_common(first, second)
    return common / max(box_area(first) + box_area(second) - common, 1e-9)


def box_common(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Area that two boxes share."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    return float(np.clip(high - low, 0, None).prod())


def box_area(box: npt.NDArray[np.float64]) -> float:
    """Area of a box."""
    return float(np.clip(box[2:] - box[:2], 0, None).prod())
