"""Six points of the vertebrae on a film, from crops that all face the same way: in training and inference.

Which way the patient faces is one thing about a film, not many about its vertebrae. The network only sees
crops whose front is to the left; a film is shown to it both ways, and the way in which it is surer of its
points is the right one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from dicom_ai_node.networks.film_geometry import crop, out_of_crop, square_crop
from dicom_ai_node.networks.film_intensity import film_contrast
from dicom_ai_node.networks.heatmaps import peak_positions
from dicom_ai_node.networks.intensity import marker

Floats = npt.NDArray[np.float64]

MIRROR: Final = torch.tensor([[1.0, 0.0], [0.0, -1.0]])
"""Crop offsets of a film that faces right to those of one that faces left."""


def _look(scale: float, degrees: float) -> Tensor:
    angle = math.radians(degrees)
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[cosine, -sine], [sine, cosine]])


LOOKS: Final = (_look(0.93, 6.0), _look(1.08, -6.0))
"""Crops are seen twice more, larger or smaller and turned a little: the mean errs less than the first."""

_BATCH: Final = 8


@dataclass(frozen=True)
class PointCrops:
    """How crops are cut for the network.

    Attributes:
        size, margin: see `square_crop`.
        marker_sigma: of the second channel, see `with_marker`.
        percentiles: see `film_contrast`.
    """

    size: tuple[int, int]
    margin: float
    marker_sigma: float
    percentiles: tuple[float, float] = (1.0, 99.0)


@dataclass(frozen=True)
class FoundPoints:
    """Six points of every body.

    Attributes:
        places: shape (bodies, 6, 2), film pixels, the mean of three looks.
        spread: how far the looks lie apart, shape (bodies,): standard deviation of the point on which they
            agree least, as a share of the body's largest height. A network that has not understood a body
            puts its points elsewhere at every look.
    """

    places: Floats
    spread: Floats


def six_points(
    network: nn.Module, pixels: npt.NDArray[np.generic], boxes: Sequence[Floats], crops: PointCrops
) -> FoundPoints:
    """The six morphometry points of the vertebra in each box of one film.

    Args:
        network: its answer's `product` has six heatmaps in the order of `report.SIX_POINT_NAMES`.
        pixels: of the film, head up, shape (rows, columns).
        boxes: first row, first column, last row, last column, each shape (4,).
        crops: how they are cut.
    """
    both = [(_placed(network, pixels, boxes, crops, turn), turn) for turn in (torch.eye(2), MIRROR)]
    (first, _), facing = max(both, key=lambda answer: answer[0][1])
    others = [_placed(network, pixels, boxes, crops, facing @ look)[0] for look in LOOKS]
    looks = np.array([first, *others], dtype=np.float64)
    places: Floats = looks.mean(axis=0)
    apart = np.linalg.norm(looks.std(axis=0), axis=2).max(axis=1)
    heights = np.linalg.norm(places[:, 0::2] - places[:, 1::2], axis=2).max(axis=1)
    return FoundPoints(places, apart / np.maximum(heights, 1.0))


def with_marker(image: Tensor, sigma: float) -> Tensor:
    """What the network sees, shape (2, rows, columns): brightness -1 to 1, and which body is meant."""
    return torch.stack([2 * image - 1, marker(image.shape, sigma)])


def faces_left(points: Floats) -> bool:
    """Whether six points of a body, shape (6, 2), have their front to the left where the head is up."""
    down = (points[1::2] - points[0::2]).mean(axis=0)
    backwards = points[4:].mean(axis=0) - points[:2].mean(axis=0)
    return bool(down[0] * backwards[1] - down[1] * backwards[0] > 0)


def _placed(
    network: nn.Module,
    pixels: npt.NDArray[np.generic],
    boxes: Sequence[Floats],
    crops: PointCrops,
    turn: Tensor,
) -> tuple[Floats, float]:
    """(points, how bright their peaks are on average)."""
    device = next((item.device for item in network.parameters()), torch.device("cpu"))
    squares = [square_crop(box, crops.margin, crops.size) for box in boxes]
    frames = [(center, matrix @ turn) for center, matrix in squares]
    found, brightness = [], []
    for first in range(0, len(frames), _BATCH):
        batch = frames[first : first + _BATCH]
        cut = [film_contrast(crop(pixels, *frame, crops.size), crops.percentiles) for frame in batch]
        images = torch.stack([with_marker(image, crops.marker_sigma) for image in cut])
        with torch.inference_mode():
            heatmaps = network(images.to(device)).product.float().cpu()
        positions, peaks = peak_positions(heatmaps)
        brightness.append(peaks)
        found += [
            out_of_crop(places, *frame, crops.size).double().numpy()
            for places, frame in zip(positions, batch, strict=True)
        ]
    points = np.array(found, dtype=np.float64).reshape(-1, 6, 2)
    return points, float(torch.cat(brightness).mean()) if brightness else 0.0
