"""mri-detect: a dense 2.5-D network finds, parts and names the vertebral bodies of a sagittal MR series."""

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
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps
from dicom_ai_node.networks.mr_columns import NEIGHBOURS, OFFSET_UNIT_MM, answer_stack
from dicom_ai_node.networks.mr_intensity import mr_contrast
from dicom_ai_node.training.augment import chance, normal, sample_patch, uniform
from dicom_ai_node.training.localise import TAUGHT_LEVELS
from dicom_ai_node.training.losses import heatmap_loss
from dicom_ai_node.training.metrics import dice, pooled, surface_distances
from dicom_ai_node.training.mri_augment import MrLook, field_of_view, vary_mr
from dicom_ai_node.training.mri_cases import UNLABELLED, MrCase, MrVertebra

_NAMING_SHARPNESS = 12.0
"""Turns heatmap values into logits: a peak of 1 beside zeros is a certain name."""

_THIN_MM = 2.0
"""Slices nearer to each other than this are not what scanners measure: neighbours are taken further off."""

_SEEN_PIXELS = 80
"""A body of which a slice shows fewer square millimetres is not named there."""

_REACH_MM = 14.0
"""A pixel belongs to a body whose centre it points to within this."""


@dataclass(frozen=True)
class MriDetectOptions:
    """Sizes of mri-detect.

    Attributes:
        spacing_mm: of the square pixels.
        sizes: rows and columns of a patch to draw from; multiples of 2 ** (len(channels) - 1).
        sigma_mm: of the target Gaussians.
        channels, global_channels: of the `ColumnDetector`.
        neighbour_mm: how far a neighbouring slice is where the case's slices are thin.
        batch: patches per step.
        elsewhere: share of patches from any slice, not from one that shows bodies.
        degrees, tilt, scale, stretch: how patches are turned in their plane, out of it (where slices are
            thin), resized and stretched.
        levels: one heatmap each.
        look: see `MrLook`.
    """

    spacing_mm: float = 1.0
    sizes: tuple[tuple[int, int], ...] = ((256, 160), (320, 128), (192, 224), (288, 160))
    sigma_mm: float = 7.0
    channels: tuple[int, ...] = (12, 24, 48, 64, 96, 96)
    global_channels: int = 32
    neighbour_mm: tuple[float, float] = (2.5, 5.5)
    batch: int = 4
    elsewhere: float = 0.12
    degrees: float = 15.0
    tilt: float = 8.0
    scale: tuple[float, float] = (0.78, 1.28)
    stretch: float = 0.07
    levels: tuple[Level, ...] = TAUGHT_LEVELS
    look: MrLook = field(default_factory=MrLook)


class MriDetectTask:
    """Patches, loss and validation for `training.loop.train`."""

    name = "mri-detect"

    def __init__(
        self, training: Sequence[MrCase], validation: Sequence[MrCase], options: MriDetectOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options

    def build(self) -> ColumnDetector:
        """A fresh network."""
        options = self.options
        return ColumnDetector(NEIGHBOURS, len(options.levels), options.channels, options.global_channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 3, *size), -1 to 1; `body` uint8 (batch, *size), 2 where it is not known;
        `offset` (batch, 2, *size) in `OFFSET_UNIT_MM`; `positions` (batch, levels, 2) in pixels, NaN where
        absent.
        """
        options = self.options
        size = options.sizes[int(torch.randint(len(options.sizes), (), generator=generator))]
        drawn = [self._patch(generator, size) for _ in range(options.batch)]
        return {name: torch.stack([patch[name] for patch in drawn]) for name in drawn[0]}

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Dice and cross-entropy of bodies, smooth L1 of offsets inside them, and the names' loss.

        Names are taught as in `training.localise`: smooth L1 of the heatmaps, and at every centre the
        cross-entropy between them, for neighbours look alike.
        """
        answer: ColumnAnswer = network(batch["image"])
        known = (batch["body"] != 2).float()
        body = (batch["body"] == 1).float()
        entropy = functional.binary_cross_entropy_with_logits(answer.body, body, reduction="none")
        probability = answer.body.sigmoid() * known
        overlap = 2 * (probability * body).sum() / (probability.sum() + body.sum() + 1.0)
        drawn = (entropy * known).sum() / known.sum().clamp(min=1.0) + 1 - overlap
        distance = functional.smooth_l1_loss(answer.offset, batch["offset"], reduction="none", beta=0.2)
        pointed = (distance.sum(dim=1) * body).sum() / body.sum().clamp(min=1.0)
        return drawn + 0.5 * pointed + self._naming_loss(answer.heatmaps, batch["positions"], known)

    def _naming_loss(self, heatmaps: Tensor, positions: Tensor, known: Tensor) -> Tensor:
        options = self.options
        # Where nobody labelled bodies there may be one that no map is told of.
        told = (functional.avg_pool2d(known[:, None], HEATMAP_STRIDE) > 0.5).float()
        places = (positions - (HEATMAP_STRIDE - 1) / 2) / HEATMAP_STRIDE
        sigma = options.sigma_mm / options.spacing_mm / HEATMAP_STRIDE
        target = told * gaussian_heatmaps(places, heatmaps.shape[2:], sigma)
        heatmaps = told * heatmaps
        weight, level = target.max(dim=1)
        seen = heatmaps.amax(dim=1, keepdim=True)
        drawn = 4 * (heatmap_loss(heatmaps, target) + heatmap_loss(seen, weight[:, None]))
        named = functional.cross_entropy(_NAMING_SHARPNESS * heatmaps, level, reduction="none")
        weight = weight * (weight > 0.2)
        return drawn + (named * weight).sum() / weight.sum().clamp(min=1.0)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the vertebrae of the held-out cases; see `measure`."""
        return pooled([self.measure(network, case) for case in self.validation])

    def measure(self, network: nn.Module, case: MrCase) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra of the case.

        `found`: half of its pixels are called body and point to it; `dice`, `assd_mm`: of those pixels;
        `level_right`: its own heatmap is the brightest at its centre, over the slices that show it;
        `offset_mm`: mean error of its pixels' centre; and once per case `false_body_ml`: what is called body
        beyond 3 mm of any.
        """
        stack, labels, to_case = measured_grid(case, self.options)
        body, offset, heatmaps = answer_stack(network, stack)
        rows: dict[str, list[float]] = {
            name: [] for name in ("found", "dice", "assd_mm", "level_right", "offset_mm")
        }
        called = (body >= 0) & (labels != UNLABELLED)
        shown = [item for item in case.vertebrae if int((labels == item.label).sum()) >= _SEEN_PIXELS]
        centers = [(item.center[1:] + 0.5) / to_case[1] - 0.5 for item in shown]
        distances = self._pointed_at(offset, centers)
        nearest = distances.argmin(dim=0)
        spacing = (case.slice_mm * to_case[0], self.options.spacing_mm, self.options.spacing_mm)
        for number, (vertebra, center) in enumerate(zip(shown, centers, strict=True)):
            truth = labels == vertebra.label
            far = distances[number]
            mine = called & (nearest == number) & (far <= _REACH_MM)
            rows["found"].append(float(int((mine & truth).sum()) >= 0.5 * int(truth.sum())))
            rows["dice"].append(dice(mine.numpy(), truth.numpy()))
            distance = surface_distances(mine.numpy(), truth.numpy(), spacing)[0]
            rows["assd_mm"].append(distance if math.isfinite(distance) else math.nan)
            rows["offset_mm"].append(float(far[truth].mean()))
            rows["level_right"].append(self._level_right(vertebra, truth, center, heatmaps))
        near = _grown(labels > 0, round(3 / self.options.spacing_mm))
        false_ml = float((called & ~near).sum()) * float(np.prod(spacing)) / 1000
        return {**rows, "false_body_ml": [false_ml]}

    def _pointed_at(self, offset: Tensor, centers: Sequence[Tensor]) -> Tensor:
        """How far from each centre every pixel points, (centres + 1, slices, rows, columns) in mm; the last
        entry is infinite: a case without a vertebra has a nearest one too.
        """
        rows, columns = offset.shape[2:]
        pixels = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"))
        votes = pixels + offset * (OFFSET_UNIT_MM / self.options.spacing_mm)
        far = [
            torch.linalg.vector_norm(votes - center[:, None, None], dim=1) * self.options.spacing_mm
            for center in centers
        ]
        return torch.stack([*far, torch.full_like(offset[:, 0], math.inf)])

    def _level_right(self, vertebra: MrVertebra, truth: Tensor, center: Tensor, heatmaps: Tensor) -> float:
        if vertebra.level not in self.options.levels:
            return math.nan
        shown = truth.flatten(1).sum(dim=1)
        limit = torch.tensor(heatmaps.shape[2:]) - 1
        row, column = ((center / HEATMAP_STRIDE).round().clamp(torch.zeros(2), limit)).long().tolist()
        evidence = (heatmaps[:, :, row, column] * shown[:, None]).sum(dim=0)
        return float(int(evidence.argmax()) == self.options.levels.index(vertebra.level))

    def _patch(self, generator: Generator, size: tuple[int, int]) -> dict[str, Tensor]:
        options = self.options
        case = self.training[int(torch.randint(len(self.training), (), generator=generator))]
        center, matrix = self._pose(generator, case, size)
        low, high = case.range
        image = sample_patch(case.image[None], center, matrix, (3, *size), outside=low)[0]
        # The outermost slices stand for the neighbours they lack, as before inference.
        for number, side in ((0, -1.0), (2, 1.0)):
            if not -0.5 <= float(center[0] + side * matrix[0, 0]) <= case.image.shape[0] - 0.5:
                image[number] = image[1]
        image = vary_mr(generator, mr_contrast(image, low, high), options.look)
        image, inside = field_of_view(generator, image, options.look)
        # Only the middle slice is judged.
        labels = sample_patch(case.labels[None], center, matrix, (1, *size), outside=0.0, nearest=True)[
            0, 0
        ].to(torch.uint8)
        labels = torch.where(inside, labels, torch.zeros_like(labels))
        body = (labels > 0).to(torch.uint8) + (labels == UNLABELLED).to(torch.uint8)
        offset = torch.zeros(2, *size)
        positions = torch.full((len(options.levels), 2), math.nan)
        pixels = torch.stack(torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")).float()
        middle = (torch.tensor(size) - 1) / 2
        for vertebra in case.vertebrae:
            mine = labels == vertebra.label
            if not bool(mine.any()):
                continue
            place = torch.linalg.solve(matrix, vertebra.center - center)[1:] + middle
            scale = options.spacing_mm / OFFSET_UNIT_MM
            offset = torch.where(mine, (place[:, None, None] - pixels) * scale, offset)
            shown = int(mine.sum()) * options.spacing_mm**2 >= _SEEN_PIXELS
            if shown and vertebra.level in options.levels and _within(place, inside):
                positions[options.levels.index(vertebra.level)] = place
        return {"image": image, "body": body, "offset": offset, "positions": positions}

    def _pose(self, generator: Generator, case: MrCase, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Centre of a patch in the case, and the matrix from its voxel offsets to the case's."""
        options = self.options
        count = case.image.shape[0]
        shown = case.slices_with_bodies
        if len(shown) == 0 or chance(generator, options.elsewhere):
            index = int(torch.randint(count, (), generator=generator))
        else:
            index = int(shown[int(torch.randint(len(shown), (), generator=generator))])
        thin = case.slice_mm < _THIN_MM
        step = uniform(generator, *options.neighbour_mm) / case.slice_mm if thin else 1.0
        pixel = options.spacing_mm / case.pixel_mm
        # In millimetres first, so that turning out of the plane honours the distance of the slices.
        turn = _turn(generator, options.degrees, options.tilt if thin else 0.0)
        scale = uniform(generator, *options.scale)
        stretch = torch.tensor([1.0, *(1 + uniform(generator, -1, 1) * options.stretch for _ in range(2))])
        to_mm = turn @ torch.diag(torch.tensor([step * case.slice_mm, *[options.spacing_mm * scale] * 2]))
        to_mm = to_mm * stretch
        matrix = torch.diag(torch.tensor([1 / case.slice_mm, *[1 / case.pixel_mm] * 2])) @ to_mm
        if chance(generator, 0.5):  # what is left and right does not matter
            matrix = matrix @ torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
        return torch.cat([torch.tensor([float(index)]), self._center(generator, case, size, pixel)]), matrix

    def _center(self, generator: Generator, case: MrCase, size: tuple[int, int], pixel: float) -> Tensor:
        """In plane: about a vertebra, mostly such that the patch stays in the image."""
        shape = torch.tensor(case.image.shape[1:], dtype=torch.float32)
        if not case.vertebrae:
            return torch.rand(2, generator=generator) * shape
        vertebra = case.vertebrae[int(torch.randint(len(case.vertebrae), (), generator=generator))]
        spread = torch.tensor([60.0, 25.0]) / case.pixel_mm
        center = vertebra.center[1:] + spread * normal(generator, 2).clamp(-2, 2)
        half = torch.tensor(size) * pixel / 2
        inner = torch.minimum(torch.maximum(center, half), torch.maximum(shape - half, half))
        return inner if chance(generator, 0.7) else center


def measured_grid(case: MrCase, options: MriDetectOptions) -> tuple[Tensor, Tensor, tuple[int, float]]:
    """The case's slices as inference shows them, their labels, and the steps back to the case.

    Returns:
        (slices, rows, columns) in -1 to 1; uint8 labels; how many slices and pixels of the case one step is.
    """
    every = max(1, round(3.0 / case.slice_mm)) if case.slice_mm < _THIN_MM else 1
    pixel = options.spacing_mm / case.pixel_mm
    image = mr_contrast(case.image[::every], *case.range)
    size = [max(1, round(length / pixel)) for length in image.shape[1:]]
    image = functional.interpolate(image[None], size=size, mode="area" if pixel > 1.5 else "bilinear")[0]
    labels = functional.interpolate(case.labels[::every][None].float(), size=size, mode="nearest-exact")[0]
    return image, labels.to(torch.uint8), (every, pixel)


def _turn(generator: Generator, degrees: float, tilt: float) -> Tensor:
    """A rotation in the plane (about axis 0) and out of it."""
    answer = torch.eye(3)
    for axis, limit in enumerate((degrees, tilt, tilt)):
        angle = math.radians(uniform(generator, -limit, limit))
        first, second = [other for other in range(3) if other != axis]
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        answer = answer @ turn
    return answer


def _within(place: Tensor, inside: Tensor) -> bool:
    row, column = place.round().long().tolist()
    rows, columns = inside.shape
    return 0 <= row < rows and 0 <= column < columns and bool(inside[row, column])


def _grown(mask: Tensor, pixels: int) -> Tensor:
    size = 2 * max(1, pixels) + 1
    grown = functional.max_pool2d(mask[:, None].float(), size, stride=1, padding=size // 2)[:, 0]
    return grown > 0
