"""radiograph-points: a 2-D M-SCN learns six points on a crop about a vertebra (P3 section 2.3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.networks.film_geometry import crop, into_crop, square_crop
from dicom_ai_node.networks.film_intensity import film_contrast
from dicom_ai_node.networks.film_points import MIRROR, PointCrops, faces_left, six_points, with_marker
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.training.augment import chance, normal, uniform
from dicom_ai_node.training.film_augment import FilmLook, pose, vary_film
from dicom_ai_node.training.films import Film, FilmVertebra
from dicom_ai_node.training.losses import heatmap_loss
from dicom_ai_node.training.metrics import pooled


@dataclass(frozen=True)
class FilmPointsOptions:
    """Sizes of radiograph-points.

    Attributes:
        size: of the crop in pixels.
        margin: edge of the crop over the larger edge of the vertebra's box.
        sigma: of the target Gaussians, in pixels of the crop.
        marker_sigma: of the Gaussian in the second channel, which says which vertebra is meant.
        channels, global_channels: of the M-SCN.
        batch: crops per step.
        degrees: how far crops are turned; the detector's boxes are upright and bodies are not.
        jitter: standard deviation of the box's place and of the logarithm of its size, as shares of it.
        visible: a body of which less is in the field is left out.
        fractured: share of fractured bodies in what is drawn, near that of films. Where there are more the
            network takes healthy endplates for deeper than they are: at a half their middle height was 2 %
            short, at 0.3 it was 0.9 %.
        look: see `FilmLook`.
    """

    size: tuple[int, int] = (128, 128)
    margin: float = 1.35
    sigma: float = 2.5
    marker_sigma: float = 12.0
    channels: tuple[int, ...] = (16, 32, 64, 96, 96)
    global_channels: int = 16
    batch: int = 8
    degrees: float = 25.0
    jitter: float = 0.05
    visible: float = 0.95
    fractured: float = 0.15
    look: FilmLook = field(default_factory=lambda: FilmLook(smear=0.2))


class FilmPointsTask:
    """Crops, loss and validation for `training.loop.train`."""

    name = "radiograph-points"

    def __init__(
        self, training: Sequence[Film], validation: Sequence[Film], options: FilmPointsOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        pairs = [
            (film, vertebra) for film in training for vertebra in film.vertebrae if self._usable(vertebra)
        ]
        self.normal_pairs = [pair for pair in pairs if not pair[1].fractured]
        self.fractured_pairs = [pair for pair in pairs if pair[1].fractured]

    def build(self) -> MSCN:
        """A fresh network."""
        return MSCN(2, 6, 2, self.options.channels, global_channels=self.options.global_channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 2, *size) and `positions` (batch, 6, 2) in pixels [row, column]."""
        crops = [self._drawn(generator) for _ in range(self.options.batch)]
        return {
            "image": torch.stack([image for image, _ in crops]),
            "positions": torch.stack([positions for _, positions in crops]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Weighted smooth L1."""
        target = gaussian_heatmaps(batch["positions"], self.options.size, self.options.sigma)
        return 20 * heatmap_loss(network(batch["image"]).product, target)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the vertebrae of the held-out films; see `measure`."""
        return pooled([self.measure(network, film) for film in self.validation])

    def measure(self, network: nn.Module, film: Film) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra, with boxes as inaccurate as a detector's.

        `height_error`: mean over the three heights of the error as a share of the true height;
        `ratio_error`: absolute error of the smallest over the largest height; `point_error`: mean distance as
        a share of the largest true height; `point_error_mm` where the spacing is known.
        """
        rows: dict[str, list[float]] = {
            "height_error": [], "ratio_error": [], "point_error": [], "point_error_mm": []
        }  # fmt: skip
        generator = film.generator()
        usable = [vertebra for vertebra in film.vertebrae if self._usable(vertebra)]
        boxes = [_jittered(generator, vertebra.box, self.options.jitter) for vertebra in usable]
        for vertebra, found in zip(usable, self.find(network, film, boxes), strict=True):
            assert vertebra.six_points is not None
            error = np.linalg.norm(found - vertebra.six_points, axis=1).mean()
            true, measured = heights(vertebra.six_points), heights(found)
            rows["height_error"].append(float((np.abs(measured - true) / true).mean()))
            ratio = measured.min() / max(float(measured.max()), 1e-6) - true.min() / true.max()
            rows["ratio_error"].append(abs(float(ratio)))
            rows["point_error"].append(float(error / true.max()))
            rows["point_error_mm"].append(float(error * (film.spacing_mm or np.nan)))
        return rows

    def find(
        self, network: nn.Module, film: Film, boxes: Sequence[npt.NDArray[np.float64]]
    ) -> npt.NDArray[np.float64]:
        """Six points in film pixels [row, column], shape (boxes, 6, 2), of the vertebrae in boxes."""
        options = self.options
        crops = PointCrops(options.size, options.margin, options.marker_sigma)
        return six_points(network, film.pixels, boxes, crops).places

    def _usable(self, vertebra: FilmVertebra) -> bool:
        return vertebra.six_points is not None and vertebra.visible >= self.options.visible

    def _drawn(self, generator: Generator) -> tuple[Tensor, Tensor]:
        fractured = bool(self.fractured_pairs) and (
            not self.normal_pairs or chance(generator, self.options.fractured)
        )
        pairs = self.fractured_pairs if fractured else self.normal_pairs
        film, vertebra = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        assert vertebra.six_points is not None
        box = _jittered(generator, vertebra.box, self.options.jitter)
        center, matrix = square_crop(box, self.options.margin, self.options.size)
        matrix = matrix @ pose(generator, self.options.degrees, mirrored=0.0)
        if not faces_left(vertebra.six_points):
            matrix = matrix @ MIRROR
        image = film_contrast(crop(film.pixels, center, matrix, self.options.size))
        points = torch.from_numpy(vertebra.six_points).float()
        image = vary_film(generator, image, self.options.look)
        image = with_marker(image, self.options.marker_sigma)
        return image, into_crop(points, center, matrix, self.options.size)


def heights(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Anterior, middle and posterior height in pixels, shape (3,), of six points, shape (6, 2)."""
    answer: npt.NDArray[np.float64] = np.linalg.norm(points[0::2] - points[1::2], axis=1)
    return answer


def _jittered(generator: Generator, box: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    extent = box[2:] - box[:2]
    center = (box[:2] + box[2:]) / 2 + share * extent * normal(generator, 2).clamp(-2.5, 2.5).numpy()
    half = extent / 2 * np.exp(share * normal(generator, 2).clamp(-2.5, 2.5).numpy())
    half = half * uniform(generator, 0.97, 1.06)
    return np.concatenate([center - half, center + half])
