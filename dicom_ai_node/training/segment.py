"""ct-segment: a 3-D U-Net learns background, normal and fractured body in crops (P3 section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.networks.intensity import marker, standardise
from dicom_ai_node.networks.unet import UNet
from dicom_ai_node.training.augment import (
    Intensity,
    Pose,
    chance,
    normal,
    random_affine,
    sample_patch,
    vary_contrast,
    vary_intensity,
)
from dicom_ai_node.training.cases import Case, LabelledVertebra
from dicom_ai_node.training.losses import class_weights, dice_cross_entropy
from dicom_ai_node.training.metrics import dice, pooled, precision, recall, surface_distances

_AIR_HU = -1024.0
CLASSES = ("background", "normal", "fractured")
_MEASURES = (
    "dice",
    "assd_mm",
    "mssd_mm",
    "precision",
    "recall",
    "normal_right",
    "fractured_right",
    "nothing_drawn",
)


@dataclass(frozen=True)
class SegmentOptions:
    """Sizes of ct-segment; published: 1 mm, crops of 128x128x128, batch 4.

    Attributes:
        spacing_mm: of the cubic voxels.
        size: of a crop (slices, rows, columns).
        marker_sigma_mm: of the Gaussian in the second channel, which says which vertebra is meant; None for
            one channel, as published: the vertebra in the middle is meant.
        jitter_mm: standard deviation of the localisation error that training imitates.
        fractured: share of crops drawn from fractured vertebrae.
        elsewhere: share of crops centred where no body is; their target is empty.
        reflected: share of crops that continue beyond a small field of view as its mirror image, as tissue
            would, and not as air.
        left_out: levels that are neither taught nor tested; the sacrum has no heights.
        channels: of the U-Net.
        batch: crops per step.
    """

    spacing_mm: float = 1.5
    size: tuple[int, int, int] = (64, 48, 48)
    marker_sigma_mm: float | None = 9.0
    jitter_mm: float = 4.0
    fractured: float = 0.5
    elsewhere: float = 0.05
    reflected: float = 0.6
    left_out: frozenset[Level] = frozenset({Level.S1})
    channels: tuple[int, ...] = (16, 32, 64, 96)
    batch: int = 2
    pose: Pose = field(
        default_factory=lambda: Pose(degrees=(8.0, 8.0, 12.0), scale=(0.85, 1.15), stretch=0.03)
    )
    intensity: Intensity = field(
        default_factory=lambda: Intensity(thick_slices=0.3, blur=0.2, noise=0.4, noise_hu=50.0)
    )

    @property
    def in_channels(self) -> int:
        """Of the network."""
        return 1 if self.marker_sigma_mm is None else 2


class SegmentTask:
    """Crops, loss and validation for `training.loop.train`."""

    name = "ct-segment"

    def __init__(self, training: Sequence[Case], validation: Sequence[Case], options: SegmentOptions) -> None:
        self.training, self.validation, self.options = training, validation, options
        pairs = [
            (case, vertebra)
            for case in training
            for vertebra in case.vertebrae
            if vertebra.level not in options.left_out
        ]
        self.normal_pairs = [pair for pair in pairs if not pair[1].fractured]
        self.fractured_pairs = [pair for pair in pairs if pair[1].fractured]

    def build(self) -> UNet:
        """A fresh network."""
        return UNet(self.options.in_channels, len(CLASSES), 3, self.options.channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 2, *size) and `target` (batch, *size) of class numbers."""
        crops = [self._crop(generator) for _ in range(self.options.batch)]
        return {
            "image": torch.stack([image for image, _ in crops]),
            "target": torch.stack([target for _, target in crops]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Dice with cross-entropy, and inside the bodies the cross-entropy of normal against fractured alone.

        A body fills a twentieth of its crop: averaged over the crop, the question that matters would hardly
        be asked.
        """
        target = batch["target"]
        weight = class_weights(1.0, 2.0, len(CLASSES)).to(target.device)
        logits = network(batch["image"])
        body = target > 0
        kinds = logits[:, 1:].movedim(1, -1)[body]
        kind = functional.cross_entropy(kinds, target[body] - 1) if len(kinds) else logits.sum() * 0
        return dice_cross_entropy(logits, target, weight) + 0.2 * kind

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the vertebrae of the held-out cases; see `measure`."""
        return pooled([self.measure(network, case) for case in self.validation])

    def measure(self, network: nn.Module, case: Case) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra (P3 section 3.3), NaN where it does not apply.

        Crops are centred as inaccurately as in training. Surface distances in millimetres stand only where
        something was drawn; `normal_right` and `fractured_right` say whether most voxels got the true class.
        """
        rows: dict[str, list[float]] = {name: [] for name in _MEASURES}
        generator = case.generator()
        device = next(network.parameters()).device
        spacing = (self.options.spacing_mm,) * 3
        for vertebra in case.vertebrae:
            if vertebra.level in self.options.left_out:
                continue
            jitter = normal(generator, 3) * self.options.jitter_mm / self.options.spacing_mm
            image, target = self._cut(case, vertebra, vertebra.center + jitter.clamp(-4, 4), torch.eye(3))
            image = standardise(image, self.options.intensity.clip_hu)
            predicted = network(self._channels(image)[None].to(device))[0].argmax(dim=0).cpu()
            drawn, truth = (predicted > 0).numpy(), (target > 0).numpy()
            said = int((predicted == 2).sum()) > int((predicted == 1).sum())
            right = float(said == vertebra.fractured and bool(drawn.any()))
            missing = float("nan")
            average, largest = (
                surface_distances(drawn, truth, spacing)
                if drawn.any() and truth.any()
                else (missing, missing)
            )
            values = (
                dice(drawn, truth),
                average,
                largest,
                precision(drawn, truth),
                recall(drawn, truth),
                missing if vertebra.fractured else right,
                right if vertebra.fractured else missing,
                float(not drawn.any()),
            )
            for name, value in zip(_MEASURES, values, strict=True):
                rows[name].append(value)
        return rows

    def _crop(self, generator: Generator) -> tuple[Tensor, Tensor]:
        options = self.options
        fractured = bool(self.fractured_pairs) and chance(generator, options.fractured)
        pairs = self.fractured_pairs if fractured else self.normal_pairs
        case, vertebra = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        matrix = random_affine(generator, options.pose)
        jitter = normal(generator, 3).clamp(-2.5, 2.5) * options.jitter_mm
        center = vertebra.center + jitter / options.spacing_mm
        meant: LabelledVertebra | None = vertebra
        if chance(generator, options.elsewhere):
            # Clearly off the column: nothing is meant, nothing may be drawn.
            aside = torch.tensor([0.0, 45.0, 45.0]) * torch.sign(normal(generator, 3))
            center, meant = center + aside / options.spacing_mm, None
        image, target = self._cut(case, meant, center, matrix, reflected=chance(generator, options.reflected))
        image = vary_intensity(generator, image, options.intensity)
        image = standardise(image, options.intensity.clip_hu)
        return self._channels(vary_contrast(generator, image, options.intensity)), target

    def _cut(
        self,
        case: Case,
        vertebra: LabelledVertebra | None,
        center: Tensor,
        matrix: Tensor,
        *,
        reflected: bool = False,
    ) -> tuple[Tensor, Tensor]:
        size = self.options.size
        image = sample_patch(case.voxels[None], center, matrix, size, outside=_AIR_HU, reflected=reflected)[0]
        if vertebra is None:
            return image, torch.zeros(size, dtype=torch.int64)
        labels = sample_patch(case.labels[None], center, matrix, size, outside=0.0, nearest=True)[0]
        body = labels == verse_label(vertebra.level)
        return image, body.long() * (2 if vertebra.fractured else 1)

    def _channels(self, image: Tensor) -> Tensor:
        options = self.options
        if options.marker_sigma_mm is None:
            return image[None]
        return torch.stack([image, marker(options.size, options.marker_sigma_mm / options.spacing_mm)])
