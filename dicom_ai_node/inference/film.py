"""The networks of radiographs as functions from a film to what each of them says.

Films are float32 arrays, 0 to 1, bone bright, head up; places are film pixels [row, column], integers at
pixel centres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.ops import box_iou

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ModelError
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.networks import film_points
from dicom_ai_node.networks.column_detector import HEATMAP_STRIDE, ColumnAnswer
from dicom_ai_node.networks.film_bodies import parted_bodies
from dicom_ai_node.networks.film_classes import HEALTHY, DetectClass, class_of_name
from dicom_ai_node.networks.film_geometry import (
    FittedMask,
    Frame,
    box_crop,
    crop,
    fitting,
    into_crop,
    out_of_crop,
)
from dicom_ai_node.networks.film_intensity import film_contrast

Film = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_BATCH = 8


@dataclass(frozen=True)
class SeenVertebra:
    """One place where a detector sees a vertebra, all its classes taken together.

    Attributes:
        box: first row, first column, last row, last column, shape (4,).
        score: probability that there is one.
        levels: probability of each level, given that there is one.
        fractured: probability that it is fractured, given that there is one.
        mask: probability of its body; None of a detector of boxes.
    """

    box: Floats
    score: float
    levels: Mapping[Level, float]
    fractured: float
    mask: FittedMask | None = None

    @property
    def center(self) -> Floats:
        """Middle of the box, shape (2,)."""
        middle: Floats = (self.box[:2] + self.box[2:]) / 2
        return middle


@dataclass(frozen=True)
class OutlinedBody:
    """One body that the dense network draws, without a name.

    Attributes:
        box: first row, first column, last row, last column, shape (4,).
        score: mean probability of its pixels.
        mask: probability of its body.
    """

    box: Floats
    score: float
    mask: FittedMask


@dataclass(frozen=True)
class LevelMaps:
    """Heatmaps of levels over a film.

    Attributes:
        levels: one map each.
        heatmaps: float32, shape (levels, rows, columns) of the fitted picture; 1 is a sure centre.
        center, matrix: of the fitted picture, see `networks.film_geometry.fitting`.
    """

    levels: tuple[Level, ...]
    heatmaps: Tensor
    center: Tensor
    matrix: Tensor

    def evidence(self, place: Floats, reach: float) -> Floats:
        """The brightest value of every level's map within `reach` film pixels of a place, shape (levels,)."""
        size = (self.heatmaps.shape[1], self.heatmaps.shape[2])
        there = into_crop(torch.tensor(place[None], dtype=torch.float32), self.center, self.matrix, size)[0]
        radius = max(1, round(reach / float(self.matrix[0, 0])))
        row, column = (int(value) for value in there.round())
        window = self.heatmaps[
            :,
            max(0, row - radius) : max(0, row + radius + 1),
            max(0, column - radius) : max(0, column + radius + 1),
        ]
        if 0 in window.shape:
            return np.zeros(len(self.levels))
        return window.amax(dim=(1, 2)).double().numpy()

    def peaks(self, at_least: float, apart: int = 4) -> list[tuple[Floats, float]]:
        """Places [row, column] where some level's map has a peak, and its height; the surest first."""
        strongest = self.heatmaps.amax(dim=0)
        around = torch.nn.functional.max_pool2d(strongest[None], 2 * apart + 1, 1, apart)[0]
        rows = torch.nonzero((strongest == around) & (strongest >= at_least))
        places = out_of_crop(rows.float(), self.center, self.matrix, (strongest.shape[0], strongest.shape[1]))
        found = [
            (place.double().numpy(), float(strongest[row, column]))
            for place, (row, column) in zip(places, rows.tolist(), strict=True)
        ]
        return sorted(found, key=lambda item: -item[1])


@torch.inference_mode()
def view(bundle: Bundle, film: Film) -> dict[str, float]:
    """Probability of each view that the bundle knows, for a film as it lies."""
    picture = _fitted(bundle, film)[0]
    logits = bundle.network(picture[None, None].to(bundle.device))
    values = logits[0].softmax(dim=0).cpu().tolist()
    return dict(zip(bundle.metadata.output_channels, values, strict=True))


@torch.inference_mode()
def localise(bundle: Bundle, film: Film, frame: Frame | None = None) -> tuple[LevelMaps, list[OutlinedBody]]:
    """One heatmap per level, and every body with its outline, head to tail.

    Args:
        bundle: of the dense network.
        film: shape (rows, columns).
        frame: which part of the film is looked at; None: all of it.
    """
    picture, frame = _fitted(bundle, film, frame)
    center, matrix = frame.center, frame.matrix
    answer: ColumnAnswer = bundle.network((2 * picture - 1)[None, None].to(bundle.device))
    body, offset, heatmaps = (item[0].float().cpu() for item in answer)
    levels = tuple(Level(name) for name in bundle.metadata.output_channels)
    # Pixel centres of the heatmaps lie in the middle of the picture's pixels that they stand for.
    maps = LevelMaps(levels, heatmaps, center, matrix * HEATMAP_STRIDE)
    parted = parted_bodies(body, offset)
    probability = body.sigmoid().numpy()
    everyone = np.sum([item.mask for item in parted], axis=0) if parted else np.zeros(body.shape)
    size = (picture.shape[0], picture.shape[1])
    found = []
    for item in parted:
        rows, columns = np.flatnonzero(item.mask.any(axis=1)), np.flatnonzero(item.mask.any(axis=0))
        # A body reaches to the outer edges of its pixels, which are coarser than the film's.
        corners = torch.tensor(
            [[rows[0] - 0.5, columns[0] - 0.5], [rows[-1] + 0.5, columns[-1] + 0.5]], dtype=torch.float32
        )
        box = out_of_crop(corners, center, matrix, size).double().numpy().reshape(4)
        # What lies about it keeps its probability, so that the outline runs between the pixels.
        mask = np.where(everyone - item.mask > 0, 0.0, probability).astype(np.float32)
        found.append(OutlinedBody(box, item.score, FittedMask(mask, frame)))
    return maps, found


@torch.inference_mode()
def detect(bundle: Bundle, film: Film, *, score: float = 0.3) -> list[SeenVertebra]:
    """The vertebrae that a detector sees, the surest first."""
    picture, frame = _fitted(bundle, film)
    (answer,) = bundle.network(picture[None, None].to(bundle.device))
    classes = [class_of_name(name) for name in bundle.metadata.output_channels]
    boxes, scores = answer["boxes"].cpu(), answer["scores"].cpu()
    masks = answer["masks"].cpu() if "masks" in answer else None
    size = (picture.shape[0], picture.shape[1])
    found = []
    for seen in seen_vertebrae(boxes, answer["labels"].cpu(), scores, classes, score=score):
        left, top, right, bottom = boxes[seen.number].tolist()
        # Edges of pixels become centres of the first and the last one.
        corners = torch.tensor([[top, left], [bottom - 1, right - 1]])
        box = out_of_crop(corners, frame.center, frame.matrix, size).double().numpy().reshape(4)
        mask = None if masks is None else FittedMask(masks[seen.number, 0].float().numpy(), frame)
        found.append(SeenVertebra(box, seen.score, seen.levels, seen.fractured, mask))
    return found


@dataclass(frozen=True)
class Merged:
    """Detections of one place: `number` of the surest; the rest as in `SeenVertebra`."""

    number: int
    score: float
    levels: Mapping[Level, float]
    fractured: float


def seen_vertebrae(
    boxes: Tensor,
    labels: Tensor,
    scores: Tensor,
    classes: Sequence[DetectClass],
    *,
    overlap: float = 0.5,
    score: float = 0.3,
) -> list[Merged]:
    """Detections of one place, of whatever class, as one vertebra.

    A detector suppresses repetitions within a class only: one body is found as "L1 healthy" and less surely
    as "L2 healthy". Those are one vertebra's alternatives, and what a chain labeller needs.

    Args:
        boxes: shape (n, 4), left, top, right, bottom.
        labels: shape (n,), class numbers from 1.
        scores: shape (n,).
        classes: of the detector.
        overlap: from which on two boxes are one place.
        score: places that all classes together give less are dropped.
    """
    left = torch.argsort(scores, descending=True, stable=True).tolist()
    overlaps = box_iou(boxes, boxes)
    answer = []
    while left:
        first = left[0]
        same = [index for index in left if index == first or overlaps[first, index] >= overlap]
        left = [index for index in left if index not in same]
        best: dict[DetectClass, float] = {}
        for index in same:
            item = classes[int(labels[index]) - 1]
            best[item] = max(best.get(item, 0.0), float(scores[index]))
        total = sum(best.values())
        if min(total, 1.0) < score:
            continue
        levels: dict[Level, float] = {}
        for item, value in best.items():
            levels[item.level] = levels.get(item.level, 0.0) + value / total
        broken = sum(value for item, value in best.items() if item.fractured) / total
        answer.append(Merged(first, min(total, 1.0), levels, broken))
    return answer


def six_points(bundle: Bundle, film: Film, boxes: Sequence[Floats]) -> film_points.FoundPoints:
    """The six morphometry points of the vertebra in each box."""
    settings = bundle.metadata.film
    if settings.margin is None or settings.marker_sigma is None:
        raise ModelError(f"{bundle.name}: metadata.json names no preprocessing.margin or marker_sigma")
    crops = film_points.PointCrops(
        settings.size, settings.margin, settings.marker_sigma, settings.percentiles
    )
    return film_points.six_points(bundle.network, film, boxes, crops)


@dataclass(frozen=True)
class FractureLook:
    """What P1's network says of one body.

    Attributes:
        ages: probability of each class of P1, given that the body is broken.
        fractured: probability that it is; None of a network that was taught fractures alone, as P1's is.
        taught: share of fractured bodies in what the network was taught.
    """

    ages: Mapping[str, float]
    fractured: float | None
    taught: float


@torch.inference_mode()
def fracture_looks(bundle: Bundle, film: Film, boxes: Sequence[Floats]) -> list[FractureLook]:
    """What P1's network says of the body in each box."""
    settings = bundle.metadata.film
    if settings.margin is None:
        raise ModelError(f"{bundle.name}: metadata.json names no preprocessing.margin")
    names, answers = bundle.metadata.output_channels, []
    taught = 1 - bundle.metadata.taught_shares.get(HEALTHY, 0.5)
    for batch in _batches([box_crop(box, settings.margin, settings.size, film.shape) for box in boxes]):
        images = torch.stack([_contrast(bundle, crop(film, *where, settings.size)) for where in batch])
        values = bundle.network(images[:, None].to(bundle.device)).softmax(dim=1).cpu().tolist()
        for row in values:
            said = dict(zip(names, row, strict=True))
            fractured = 1 - said.pop(HEALTHY) if HEALTHY in said else None
            total = sum(said.values())
            answers.append(
                FractureLook({name: value / total for name, value in said.items()}, fractured, taught)
            )
    return answers


def _fitted(bundle: Bundle, film: Film, frame: Frame | None = None) -> tuple[Tensor, Frame]:
    """The film, or what a frame shows of it, in the bundle's size, 0 to 1; and the frame."""
    size = bundle.metadata.film.size
    rows, columns = film.shape
    chosen = frame or Frame(*fitting((rows, columns), size))
    return _contrast(bundle, crop(film, chosen.center, chosen.matrix, size)), chosen


def _contrast(bundle: Bundle, picture: Tensor) -> Tensor:
    return film_contrast(picture, bundle.metadata.film.percentiles)


def _batches(items: Sequence[tuple[Tensor, Tensor]]) -> list[Sequence[tuple[Tensor, Tensor]]]:
    return [items[first : first + _BATCH] for first in range(0, len(items), _BATCH)]
