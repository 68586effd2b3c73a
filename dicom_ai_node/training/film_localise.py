"""radiograph-localise: a dense network finds, parts and names the bodies of a whole film.

Mask R-CNN (P0) looks at regions: it says how a body looks. Which one it is, is told by what lies around it:
the pelvis, the last ribs, the diaphragm. This network sees the whole film at once, and every pixel of it
teaches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.anatomy import Level
from dicom_ai_node.networks.column_detector import HEATMAP_STRIDE, ColumnAnswer, ColumnDetector
from dicom_ai_node.networks.film_bodies import OFFSET_UNIT, parted_bodies
from dicom_ai_node.networks.film_geometry import crop, fitting, into_crop
from dicom_ai_node.networks.film_intensity import film_contrast
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps
from dicom_ai_node.training.augment import normal, uniform
from dicom_ai_node.training.film_augment import FilmLook, pose, vary_film
from dicom_ai_node.training.films import Film, FilmVertebra, polygon_mask
from dicom_ai_node.training.localise import TAUGHT_LEVELS
from dicom_ai_node.training.losses import heatmap_loss
from dicom_ai_node.training.metrics import dice, pooled

_NAMING_SHARPNESS = 12.0
"""Turns heatmap values into logits: a peak of 1 beside zeros is a certain name."""


@dataclass(frozen=True)
class FilmLocaliseOptions:
    """Sizes of radiograph-localise.

    Attributes:
        size: rows and columns that a film is fitted into, as large as it goes; multiples of
            2 ** (len(channels) - 1).
        sigma: of the target Gaussians, in pixels of the heatmaps.
        channels, global_channels: of the `ColumnDetector`.
        visible: a body of which less is in the field is not named.
        degrees, scale, shift: how films are turned, resized and moved (share of the picture).
        batch: films per step.
        levels: one heatmap each.
        look: see `FilmLook`.
    """

    size: tuple[int, int] = (448, 288)
    sigma: float = 1.3
    channels: tuple[int, ...] = (12, 24, 48, 64, 96, 96)
    global_channels: int = 32
    visible: float = 0.5
    degrees: float = 10.0
    scale: tuple[float, float] = (0.6, 1.2)
    shift: float = 0.1
    batch: int = 4
    levels: tuple[Level, ...] = TAUGHT_LEVELS
    look: FilmLook = field(default_factory=FilmLook)


class FilmLocaliseTask:
    """Films, loss and validation for `training.loop.train`."""

    name = "radiograph-localise"

    def __init__(
        self, training: Sequence[Film], validation: Sequence[Film], options: FilmLocaliseOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options

    def build(self) -> ColumnDetector:
        """A fresh network."""
        options = self.options
        return ColumnDetector(1, len(options.levels), options.channels, options.global_channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), -1 to 1; `body` (batch, *size); `offset` in `OFFSET_UNIT`,
        (batch, 2, *size); `positions` (batch, levels, 2) in pixels, NaN where absent.
        """
        drawn = [self._drawn(generator) for _ in range(self.options.batch)]
        return {name: torch.stack([film[name] for film in drawn]) for name in drawn[0]}

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Dice and cross-entropy of bodies, smooth L1 of offsets inside them, and the names' loss.

        Names are taught as in `training.localise`: smooth L1 of the heatmaps, and at every centre the
        cross-entropy between them, for neighbours look alike.
        """
        answer: ColumnAnswer = network(batch["image"])
        body = batch["body"].float()
        entropy = functional.binary_cross_entropy_with_logits(answer.body, body)
        probability = answer.body.sigmoid()
        overlap = 2 * (probability * body).sum() / (probability.sum() + body.sum() + 1.0)
        distance = functional.smooth_l1_loss(answer.offset, batch["offset"], reduction="none", beta=0.2)
        pointed = (distance.sum(dim=1) * body).sum() / body.sum().clamp(min=1.0)
        return entropy + 1 - overlap + 0.5 * pointed + self._naming_loss(answer.heatmaps, batch["positions"])

    def _naming_loss(self, heatmaps: Tensor, positions: Tensor) -> Tensor:
        size = (heatmaps.shape[2], heatmaps.shape[3])
        target = gaussian_heatmaps(_of_heatmaps(positions), size, self.options.sigma)
        weight, level = target.max(dim=1)
        seen = heatmaps.amax(dim=1, keepdim=True)
        drawn = 10 * (heatmap_loss(heatmaps, target) + heatmap_loss(seen, weight[:, None]))
        named = functional.cross_entropy(_NAMING_SHARPNESS * heatmaps, level, reduction="none")
        weight = weight * (weight > 0.2)
        return drawn + (named * weight).sum() / weight.sum().clamp(min=1.0)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the vertebrae of the held-out films; see `measure`."""
        return pooled([self.measure(network, film) for film in self.validation])

    def measure(self, network: nn.Module, film: Film) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra: `named`, whether its own heatmap is the brightest at its
        centre; `found`, whether a body that came apart from the others overlaps it by half; `dice` of that
        body; and once per film `false`, bodies that overlap none by a fifth.
        """
        center, matrix = fitting(film.pixels.shape, self.options.size)
        image = 2 * film_contrast(crop(film.pixels, center, matrix, self.options.size)) - 1
        device = next(network.parameters()).device
        with torch.inference_mode():
            answer = ColumnAnswer(*(item.float().cpu() for item in network(image[None, None].to(device))))
        found = [item.mask for item in parted_bodies(answer.body[0], answer.offset[0])]
        rows: dict[str, list[float]] = {"named": [], "found": [], "dice": []}
        taken = np.zeros(self.options.size, dtype=bool)
        for vertebra in film.vertebrae:
            outline = into_crop(torch.from_numpy(vertebra.outline).float(), center, matrix, self.options.size)
            mask = polygon_mask(outline.numpy(), self.options.size)
            taken |= mask
            if vertebra.visible < self.options.visible or vertebra.level is Level.S1:
                continue
            overlaps = [dice(item, mask) for item in found]
            best = max(overlaps, default=0.0)
            rows["found"].append(float(best >= 2 / 3))
            rows["dice"].append(best if best >= 2 / 3 else math.nan)
            if vertebra.level in self.options.levels:
                rows["named"].append(self._named(answer.heatmaps[0], vertebra, center, matrix))
        false = sum(float((item & taken).sum() < 0.2 * item.sum()) for item in found)
        return {**rows, "false": [false]}

    def _named(self, heatmaps: Tensor, vertebra: FilmVertebra, center: Tensor, matrix: Tensor) -> float:
        place = _of_heatmaps(into_crop(_middle(vertebra)[None], center, matrix, self.options.size))[0]
        limit = torch.tensor(heatmaps.shape[1:]) - 1
        row, column = place.round().clamp(torch.zeros(2), limit).long().tolist()
        return float(int(heatmaps[:, row, column].argmax()) == self.options.levels.index(vertebra.level))

    def _drawn(self, generator: Generator) -> dict[str, Tensor]:
        options = self.options
        film = self.training[int(torch.randint(len(self.training), (), generator=generator))]
        center, matrix = fitting(film.pixels.shape, options.size)
        matrix = matrix @ pose(generator, options.degrees) * uniform(generator, *options.scale)
        extent = torch.tensor(film.pixels.shape, dtype=torch.float32)
        center = center + options.shift * extent * normal(generator, 2).clamp(-2, 2)
        image = film_contrast(crop(film.pixels, center, matrix, options.size))
        positions = torch.full((len(options.levels), 2), math.nan)
        body = torch.zeros(options.size, dtype=torch.uint8)
        offset = torch.zeros(2, *options.size)
        limit = torch.tensor(options.size)
        for vertebra in film.vertebrae:
            place = into_crop(_middle(vertebra)[None], center, matrix, options.size)[0]
            seen = vertebra.visible >= options.visible and bool(((place > -1) & (place < limit)).all())
            if seen and vertebra.level in options.levels:
                positions[options.levels.index(vertebra.level)] = place
            # The sacrum is named, but it is no body with two endplates.
            if vertebra.level is not Level.S1:
                outline = into_crop(torch.from_numpy(vertebra.outline).float(), center, matrix, options.size)
                mask = torch.from_numpy(polygon_mask(outline.numpy(), options.size))
                where = mask.nonzero()
                body[mask] = 1
                offset[:, where[:, 0], where[:, 1]] = ((place - where) / OFFSET_UNIT).T
        return {
            "image": (2 * vary_film(generator, image, options.look) - 1)[None],
            "body": body,
            "offset": offset,
            "positions": positions,
        }


def _of_heatmaps(places: Tensor) -> Tensor:
    """Pixels of the picture as pixels of the heatmaps."""
    return (places - (HEATMAP_STRIDE - 1) / 2) / HEATMAP_STRIDE


def _middle(vertebra: FilmVertebra) -> Tensor:
    return torch.from_numpy((vertebra.box[:2] + vertebra.box[2:]) / 2).float()
