"""ct-segment: a 3-D U-Net learns background, normal and fractured body in crops (P3 section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.networks.intensity import clipped_moments, marker
from dicom_ai_node.networks.overlapping import AIR_HU, PatchInput
from dicom_ai_node.networks.unet import UNet
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
from dicom_ai_node.training.cases import Case, LabelledVertebra
from dicom_ai_node.training.losses import (
    dice_cross_entropy,
    published_dice_cross_entropy,
)
from dicom_ai_node.training.metrics import dice, pooled, precision, recall, surface_distances

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

_JUDGED_CROPS = 4
"""Crops of every held-out case whose loss is the validation loss."""


@dataclass(frozen=True)
class SegmentOptions:
    """Sizes of ct-segment and how it is taught; see `segment_recipes` for what is published.

    Attributes:
        spacing_mm: of the cubic voxels.
        size: of a crop (slices, rows, columns).
        marker_sigma_mm: of the Gaussian in the second channel, which says which vertebra is meant; None for
            one channel, as published: the vertebra in the middle is meant.
        jitter_mm: standard deviation of the localisation error that training imitates.
        fractured: share of crops drawn from fractured vertebrae; None: as frequent as they are.
        elsewhere: share of crops centred where no body is; their target is empty.
        towards: share of crops centred up to nearly half way to a neighbour: rough centres of vertebrae often
            lie on a disc. The nearer body is meant.
        reflected: share of crops that continue beyond a small field of view as its mirror image, as tissue
            would, and not as air.
        left_out: levels that are neither taught nor tested; the sacrum has no heights.
        channels: of the U-Net.
        batch: crops per step.
        pose: how crops are turned, resized and mirrored.
        intensity: window, and how contrast, sharpness and noise vary.
        varied: whether they vary at all; P3 only turns, mirrors and moves.
        loss: "published": Dice and cross-entropy (P3 eq. 13) alone; "guided": inside the bodies normal is
            asked against fractured once more.
        smoothing_mm: of the Gaussian filter before standardisation (P3 table 1); 0 for none.
        of_volume: standardise with mean and deviation of the whole volume (P3 eq. 19), not of the crop.
    """

    spacing_mm: float = 1.5
    size: tuple[int, int, int] = (64, 48, 48)
    marker_sigma_mm: float | None = 9.0
    jitter_mm: float = 4.0
    fractured: float | None = 0.5
    elsewhere: float = 0.05
    towards: float = 0.15
    reflected: float = 0.6
    left_out: frozenset[Level] = frozenset({Level.S1})
    channels: tuple[int, ...] = (16, 32, 64, 96)
    batch: int = 2
    pose: Pose = field(
        default_factory=lambda: Pose(degrees=(8.0, 8.0, 12.0), scale=(0.85, 1.15), stretch=0.03)
    )
    intensity: Intensity = field(
        default_factory=lambda: Intensity(thick_slices=0.45, blur=0.2, noise=0.4, noise_hu=50.0)
    )

    varied: bool = True
    loss: Literal["guided", "published"] = "guided"
    smoothing_mm: float = 0.0
    of_volume: bool = False

    @property
    def in_channels(self) -> int:
        """Of the network."""
        return 1 if self.marker_sigma_mm is None else 2

    def look(self, volume: Tensor) -> PatchInput:
        """What is done to crops of a volume (HU)."""
        clip = self.intensity.clip_hu
        moments = clipped_moments(volume, clip) if self.of_volume else None
        return PatchInput(clip, self.smoothing_mm / self.spacing_mm, moments)


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
        self._looks: dict[str, PatchInput] = {}

    @property
    def taught_shares(self) -> dict[str, float]:
        """How frequent fractured vertebrae are among the crops that are drawn; empty without cases."""
        broken, sound = len(self.fractured_pairs), len(self.normal_pairs)
        if self.options.fractured is not None or not broken + sound:
            return {} if self.options.fractured is None else {"fractured": self.options.fractured}
        return {"fractured": broken / (broken + sound)}

    def build(self) -> UNet:
        """A fresh network."""
        return UNet(self.options.in_channels, len(CLASSES), 3, self.options.channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, channels, *size) and `target` (batch, *size) of class numbers."""
        crops = [self._crop(generator, self._pairs(generator)) for _ in range(self.options.batch)]
        return {
            "image": torch.stack([image for image, _ in crops]),
            "target": torch.stack([target for _, target in crops]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Dice with cross-entropy (P3 eq. 13); see `SegmentOptions.loss`.

        Guided, inside the bodies the cross-entropy of normal against fractured alone is added: a body fills a
        twentieth of its crop, and averaged over the crop, the question that matters would hardly be asked.
        """
        target = batch["target"]
        logits = network(batch["image"])
        if self.options.loss == "published":
            return published_dice_cross_entropy(logits, target)
        body = target > 0
        kinds = logits[:, 1:].movedim(1, -1)[body]
        kind = functional.cross_entropy(kinds, target[body] - 1) if len(kinds) else logits.sum() * 0
        return dice_cross_entropy(logits, target) + 0.2 * kind

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the vertebrae of the held-out cases; see `measure`.

        With the published loss also `loss` over the same few crops of them every time: what the plateau of
        the published schedule is told by.
        """
        rows = [self.measure(network, case) for case in self.validation]
        if self.options.loss == "published":
            losses = [loss for case in self.validation for loss in self._held_out_losses(network, case)]
            rows.append({"loss": losses})
        return pooled(rows)

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
            image = self._look(case).standardised(image)
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

    def _held_out_losses(self, network: nn.Module, case: Case) -> list[float]:
        generator = case.generator()
        device = next(network.parameters()).device
        pairs = [(case, item) for item in case.vertebrae if item.level not in self.options.left_out]
        losses = []
        for _ in range(_JUDGED_CROPS if pairs else 0):
            image, target = self._crop(generator, pairs)
            batch = {"image": image[None].to(device), "target": target[None].to(device)}
            losses.append(float(self.loss(network, batch)))
        return losses

    def _look(self, case: Case) -> PatchInput:
        if case.name not in self._looks:
            self._looks[case.name] = self.options.look(case.voxels)
        return self._looks[case.name]

    def _pairs(self, generator: Generator) -> list[tuple[Case, LabelledVertebra]]:
        """The vertebrae that a crop is drawn from."""
        share = self.options.fractured
        if share is None:
            return self.normal_pairs + self.fractured_pairs
        fractured = bool(self.fractured_pairs) and chance(generator, share)
        return self.fractured_pairs if fractured else self.normal_pairs

    def _crop(
        self, generator: Generator, pairs: Sequence[tuple[Case, LabelledVertebra]]
    ) -> tuple[Tensor, Tensor]:
        options = self.options
        case, vertebra = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        look = self._look(case)
        matrix = random_affine(generator, options.pose)
        jitter = normal(generator, 3).clamp(-2.5, 2.5) * options.jitter_mm
        center = vertebra.center + jitter / options.spacing_mm
        if options.towards and chance(generator, options.towards):
            center = _towards_neighbour(generator, case, vertebra) + 0.5 * jitter / options.spacing_mm
        meant: LabelledVertebra | None = vertebra
        if chance(generator, options.elsewhere):
            # Clearly off the column: nothing is meant, nothing may be drawn.
            aside = torch.tensor([0.0, 45.0, 45.0]) * torch.sign(normal(generator, 3))
            center, meant = center + aside / options.spacing_mm, None
        image, target = self._cut(case, meant, center, matrix, reflected=chance(generator, options.reflected))
        if not options.varied:
            return self._channels(look.standardised(image)), target
        image = look.standardised(vary_intensity(generator, image, options.intensity))
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
        size, look = self.options.size, self._look(case)
        seen = [edge + 2 * look.margin for edge in size]
        image = sample_patch(case.voxels[None], center, matrix, seen, outside=AIR_HU, reflected=reflected)[0]
        image = look.filtered(image)
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


def _towards_neighbour(generator: Generator, case: Case, vertebra: LabelledVertebra) -> Tensor:
    """A place between this body and one next to it, nearer to this one; its centre where it has none."""
    place = next(number for number, item in enumerate(case.vertebrae) if item is vertebra)
    beside = [
        case.vertebrae[number] for number in (place - 1, place + 1) if 0 <= number < len(case.vertebrae)
    ]
    if not beside:
        return vertebra.center
    other = beside[int(torch.randint(len(beside), (), generator=generator))]
    return vertebra.center + uniform(generator, 0.15, 0.45) * (other.center - vertebra.center)
