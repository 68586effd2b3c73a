"""radiograph-localise: a 2-D M-SCN draws one heatmap per level on a whole film (after P3 section 2.2).

The detector says where a body is and how it looks; which one it is, is told by what lies around it: the
pelvis, the last ribs, the diaphragm. This network sees the whole film at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.anatomy import Level
from dicom_ai_node.networks.film_geometry import crop, fitting, into_crop
from dicom_ai_node.networks.film_intensity import film_contrast
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps, peak_positions
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.training.augment import normal, uniform
from dicom_ai_node.training.film_augment import FilmLook, pose, vary_film
from dicom_ai_node.training.films import Film, FilmVertebra
from dicom_ai_node.training.localise import TAUGHT_LEVELS
from dicom_ai_node.training.losses import heatmap_loss
from dicom_ai_node.training.metrics import pooled

_NAMING_SHARPNESS = 12.0
"""Turns heatmap values into logits: a peak of 1 beside zeros is a certain name."""


@dataclass(frozen=True)
class FilmLocaliseOptions:
    """Sizes of radiograph-localise.

    Attributes:
        size: rows and columns that a film is fitted into, as large as it goes; multiples of
            2 ** (len(channels) - 1).
        sigma: of the target Gaussians, in pixels of the fitted picture.
        channels, global_channels, global_stride: of the M-SCN.
        visible: a body of which less is in the field is not taught.
        degrees, scale, shift: how films are turned, resized and moved (share of the picture).
        batch: films per step.
        levels: one heatmap each.
        look: see `FilmLook`.
    """

    size: tuple[int, int] = (256, 160)
    sigma: float = 2.6
    channels: tuple[int, ...] = (12, 24, 48, 80, 96)
    global_channels: int = 12
    global_stride: int = 2
    visible: float = 0.5
    degrees: float = 10.0
    scale: tuple[float, float] = (0.6, 1.3)
    shift: float = 0.12
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

    def build(self) -> MSCN:
        """A fresh network."""
        options = self.options
        return MSCN(
            1,
            len(options.levels),
            2,
            options.channels,
            global_channels=options.global_channels,
            global_stride=options.global_stride,
        )

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), -1 to 1, and `positions` (batch, levels, 2) in its pixels, NaN
        where absent.
        """
        pairs = [self._drawn(generator) for _ in range(self.options.batch)]
        return {
            "image": torch.stack([image for image, _ in pairs])[:, None],
            "positions": torch.stack([positions for _, positions in pairs]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """As `training.localise`: weighted smooth L1 of the product, and cross-entropy between names."""
        target = gaussian_heatmaps(batch["positions"], self.options.size, self.options.sigma)
        product = network(batch["image"]).product
        weight, level = target.max(dim=1)
        seen = product.amax(dim=1, keepdim=True)
        drawn = 100 * (heatmap_loss(product, target) + heatmap_loss(seen, weight[:, None]))
        named = functional.cross_entropy(_NAMING_SHARPNESS * product, level, reduction="none")
        weight = weight * (weight > 0.2)
        return drawn + (named * weight).sum() / weight.sum().clamp(min=1.0)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the vertebrae of the held-out films; see `measure`."""
        return pooled([self.measure(network, film) for film in self.validation])

    def measure(self, network: nn.Module, film: Film) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra: `named`, whether its own heatmap is the brightest at its
        centre; `seen`, the brightest value there; `found`, whether its heatmap's peak lies within its body.
        """
        center, matrix = fitting(film.pixels.shape, self.options.size)
        image = 2 * film_contrast(crop(film.pixels, center, matrix, self.options.size)) - 1
        device = next(network.parameters()).device
        with torch.inference_mode():
            heatmaps = network(image[None, None].to(device)).product.detach().cpu()
        peaks, _ = peak_positions(heatmaps)
        rows: dict[str, list[float]] = {"named": [], "seen": [], "found": []}
        limit = torch.tensor(self.options.size) - 1
        for vertebra in film.vertebrae:
            if vertebra.level not in self.options.levels or vertebra.visible < self.options.visible:
                continue
            number = self.options.levels.index(vertebra.level)
            place = into_crop(_middle(vertebra)[None], center, matrix, self.options.size)[0]
            row, column = place.round().clamp(torch.zeros(2), limit).long().tolist()
            values = heatmaps[0, :, row, column]
            rows["named"].append(float(int(values.argmax()) == number))
            rows["seen"].append(float(values.max()))
            half = (torch.from_numpy(vertebra.box[2:] - vertebra.box[:2]) / 2).min() / matrix[0, 0]
            rows["found"].append(float(torch.linalg.vector_norm(peaks[0, number] - place) <= half))
        return rows

    def _drawn(self, generator: Generator) -> tuple[Tensor, Tensor]:
        options = self.options
        film = self.training[int(torch.randint(len(self.training), (), generator=generator))]
        center, matrix = fitting(film.pixels.shape, options.size)
        matrix = matrix @ pose(generator, options.degrees) * uniform(generator, *options.scale)
        extent = torch.tensor(film.pixels.shape, dtype=torch.float32)
        center = center + options.shift * extent * normal(generator, 2).clamp(-2, 2)
        image = film_contrast(crop(film.pixels, center, matrix, options.size))
        positions = torch.full((len(options.levels), 2), float("nan"))
        limit = torch.tensor(options.size)
        for vertebra in film.vertebrae:
            if vertebra.level in options.levels and vertebra.visible >= options.visible:
                place = into_crop(_middle(vertebra)[None], center, matrix, options.size)[0]
                if bool((place > -1).all() and (place < limit).all()):
                    positions[options.levels.index(vertebra.level)] = place
        return 2 * vary_film(generator, image, options.look) - 1, positions


def _middle(vertebra: FilmVertebra) -> Tensor:
    return torch.from_numpy((vertebra.box[:2] + vertebra.box[2:]) / 2).float()
