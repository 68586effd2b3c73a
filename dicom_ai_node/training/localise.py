"""ct-localise: a 3-D M-SCN learns to draw one heatmap per level (P3 section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.anatomy import LEVELS, SUPERNUMERARY, Level, order
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps, peak_positions
from dicom_ai_node.networks.intensity import standardise
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.training.augment import (
    Intensity,
    Pose,
    chance,
    normal,
    random_affine,
    sample_patch,
    uniform,
    vary_contrast,
    vary_intensity,
)
from dicom_ai_node.training.cases import Case
from dicom_ai_node.training.losses import heatmap_loss
from dicom_ai_node.training.metrics import localisation_values, pooled

TAUGHT_LEVELS = tuple(level for level in LEVELS if order(level) >= order(Level.C7) and level is not Level.T13)
"""C7 to S1 with L6; T13 is too rare to be learned as a class of its own."""

_AIR_HU = -1024.0
_NAMING_SHARPNESS = 12.0
"""Turns heatmap values into logits: a peak of 1 beside zeros is a certain name."""


@dataclass(frozen=True)
class LocaliseOptions:
    """Sizes of ct-localise; published: 1 mm, patches of 96x96x128, batch 4.

    Attributes:
        spacing_mm: of the cubic voxels.
        sizes: patch sizes (slices, rows, columns) to draw from; multiples of 2 ** (len(channels) - 1).
        sigma_mm: of the target Gaussians.
        channels, global_channels, global_stride: of the M-SCN.
        batch: patches per step.
        elsewhere: share of patches that are centred anywhere instead of at the spine.
        small: share of patches that end early, as a reconstruction of a few vertebrae does; `padded` fills
            the rest as it does before inference.
        levels: one heatmap each.
    """

    spacing_mm: float = 5.0
    sizes: tuple[tuple[int, int, int], ...] = (
        (64, 48, 32),
        (64, 32, 48),
        (96, 32, 32),
        (48, 48, 48),
        (48, 48, 32),
    )
    sigma_mm: float = 7.5
    channels: tuple[int, ...] = (12, 24, 48, 80, 80)
    global_channels: int = 12
    global_stride: int = 2
    batch: int = 2
    elsewhere: float = 0.2
    small: float = 0.25
    levels: tuple[Level, ...] = TAUGHT_LEVELS
    pose: Pose = field(default_factory=Pose)
    intensity: Intensity = field(
        default_factory=lambda: Intensity(thick_slices=0.1, blur=0.2, noise=0.4, noise_hu=40.0)
    )


class LocaliseTask:
    """Patches, loss and validation for `training.loop.train`."""

    name = "ct-localise"

    def __init__(
        self, training: Sequence[Case], validation: Sequence[Case], options: LocaliseOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options

    def build(self) -> MSCN:
        """A fresh network."""
        options = self.options
        return MSCN(
            1,
            len(options.levels),
            3,
            options.channels,
            global_channels=options.global_channels,
            global_stride=options.global_stride,
        )

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), `positions` (batch, levels, 3) in voxels, NaN where absent."""
        options = self.options
        size = options.sizes[int(torch.randint(len(options.sizes), (), generator=generator))]
        pairs = [self._patch(generator, size) for _ in range(options.batch)]
        return {
            "image": torch.stack([image for image, _ in pairs])[:, None],
            "positions": torch.stack([positions for _, positions in pairs]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Weighted smooth L1 of the product (P3 eq. 9), and cross-entropy between names where a vertebra is.

        The heatmaps of neighbours look alike, and smooth L1 alone lingers at calling all vertebrae by one
        name; the cross-entropy asks at every centre which of the heatmaps is the brightest.
        """
        options = self.options
        size = tuple(batch["image"].shape[2:])
        target = gaussian_heatmaps(batch["positions"], size, options.sigma_mm / options.spacing_mm)
        product = network(batch["image"]).product
        weight, level = target.max(dim=1)
        seen = product.amax(dim=1, keepdim=True)
        # 100: the target fills a thousandth of the patch; this puts the loss near 1 where learning starts.
        drawn = 100 * (heatmap_loss(product, target) + heatmap_loss(seen, weight[:, None]))
        named = functional.cross_entropy(_NAMING_SHARPNESS * product, level, reduction="none")
        weight = weight * (weight > 0.2)
        return drawn + (named * weight).sum() / weight.sum().clamp(min=1.0)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Localisation errors over whole held-out cases (P3 table 4), and how high false peaks reach."""
        return pooled([self.measure(network, case) for case in self.validation])

    def measure(self, network: nn.Module, case: Case) -> dict[str, list[float]]:
        """Quantity -> one value per level that is in the case (`absent_peak`: per level that is not)."""
        device = next(network.parameters()).device
        image = standardise(case.voxels, self.options.intensity.clip_hu)[None, None]
        heatmaps = network(padded(image, network.multiple).to(device)).product.cpu()  # type: ignore[arg-type]
        positions, values = peak_positions(heatmaps)
        present = {vertebra.level: vertebra.center for vertebra in case.vertebrae}
        errors: list[float] = []
        false_peaks: list[float] = []
        for index, level in enumerate(self.options.levels):
            if level in present:
                distance = float(torch.linalg.vector_norm(positions[0, index] - present[level]))
                errors.append(distance * self.options.spacing_mm)
            elif level not in SUPERNUMERARY:
                false_peaks.append(float(values[0, index]))
        found = localisation_values(errors)
        return {**{name: found[name].tolist() for name in found}, "absent_peak": false_peaks}

    def _patch(self, generator: Generator, size: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        options = self.options
        case = self.training[int(torch.randint(len(self.training), (), generator=generator))]
        matrix = random_affine(generator, options.pose)
        center = self._center(generator, case)
        image = sample_patch(case.voxels[None], center, matrix, size, outside=_AIR_HU)[0]
        positions = torch.full((len(options.levels), 3), float("nan"))
        middle = (torch.tensor(size) - 1) / 2
        limit = torch.tensor(size) - 1
        for vertebra in case.vertebrae:
            if vertebra.level in options.levels:
                place = torch.linalg.solve(matrix, vertebra.center - center) + middle
                # A vertebra half outside is still taught: its Gaussian reaches into the patch.
                if bool((place > -1).all() and (place < limit + 1).all()):
                    positions[options.levels.index(vertebra.level)] = place
        image = _cut_field_of_view(generator, image)
        if chance(generator, options.small):
            image, positions = _end_early(generator, image, positions)
        image = vary_intensity(generator, image, options.intensity)
        image = standardise(image, options.intensity.clip_hu)
        image = vary_contrast(generator, image, options.intensity)
        return padded(image[None, None], size)[0, 0], positions

    def _center(self, generator: Generator, case: Case) -> Tensor:
        shape = torch.tensor(case.voxels.shape, dtype=torch.float32)
        if not case.vertebrae or chance(generator, self.options.elsewhere):
            return torch.rand(3, generator=generator) * shape
        vertebra = case.vertebrae[int(torch.randint(len(case.vertebrae), (), generator=generator))]
        spread = torch.tensor([80.0, 45.0, 35.0]) / self.options.spacing_mm
        return vertebra.center + spread * normal(generator, 3).clamp(-2, 2)


def padded(image: Tensor, multiple: int | Sequence[int]) -> Tensor:
    """The image with its far ends repeated until every size is a multiple (one for all axes, or one each)."""
    multiples = [multiple] * (image.ndim - 2) if isinstance(multiple, int) else multiple
    short = [(-length) % wanted for length, wanted in zip(image.shape[2:], multiples, strict=True)]
    padding = [amount for axis in reversed(short) for amount in (0, axis)]
    return torch.nn.functional.pad(image, padding, mode="replicate") if any(short) else image


def _end_early(generator: Generator, image: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """A part of the patch, at least 12 voxels (60 mm) long; what lies outside is no longer there."""
    shape = torch.tensor(image.shape)
    lengths = (shape * (0.25 + 0.75 * torch.rand(3, generator=generator))).long().clamp(min=12)
    starts = (torch.rand(3, generator=generator) * (shape - lengths + 1)).long()
    part = image[tuple(slice(int(s), int(s + n)) for s, n in zip(starts, lengths, strict=True))]
    moved = positions - starts
    outside = ((moved <= -1) | (moved >= lengths)).any(dim=1, keepdim=True)
    return part, torch.where(outside, torch.tensor(float("nan")), moved)


def _cut_field_of_view(generator: Generator, image: Tensor) -> Tensor:
    """Air outside a circle, as small reconstructions have it."""
    if chance(generator, 0.15):
        rows, columns = image.shape[1:]
        row = torch.arange(rows)[:, None] - rows * uniform(generator, 0.4, 0.6)
        column = torch.arange(columns)[None, :] - columns * uniform(generator, 0.4, 0.6)
        radius = uniform(generator, 0.38, 0.6) * max(rows, columns)
        image = torch.where(row**2 + column**2 > radius**2, torch.tensor(_AIR_HU), image)
    return image
