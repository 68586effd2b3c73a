"""ct-detect: boxes of all vertebrae on sagittal CT slices (P2, VDModule)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.networks.detector_parts import total_loss
from dicom_ai_node.networks.film_geometry import crop, into_crop
from dicom_ai_node.networks.slice_detector import SliceDetector, find_vertebrae
from dicom_ai_node.networks.slice_frame import AIR_HU
from dicom_ai_node.training.augment import chance, normal, uniform
from dicom_ai_node.training.ct_slices import CtSlice
from dicom_ai_node.training.film_augment import FilmLook, pose, vary_film
from dicom_ai_node.training.slice_scores import SliceBoxes, detection_scores

_OUTLINE_POINTS = 24
_ROUNDNESS = 4.0


@dataclass(frozen=True)
class CtDetectOptions:
    """Sizes of ct-detect.

    Attributes:
        network: arguments of `SliceDetector`.
        size: rows and columns of a frame (P2: 1024); where `at_mm` is given, of the least one.
        at_mm: edge of a frame's pixel; None for the slice's own pixels, as published.
        clip_hu: become black and white; P2 does not say.
        degrees, scale, shift, mirrored: how slices are turned, resized, moved (share of the frame) and turned
            over. P2 enlarges its slices eight-fold before training (figure S3); here each draw is a new one.
        about: how many frames lie about a body where the slice is larger than the frame.
        batch: slices per step.
        visible: a box of which less is in the frame is no target.
        score: from which on a box counts in counts and rates (P2: 0.75).
        look: see `FilmLook`.
    """

    network: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (1024, 1024)
    at_mm: float | None = None
    clip_hu: tuple[float, float] = (-300.0, 1000.0)
    degrees: float = 10.0
    scale: tuple[float, float] = (0.8, 1.3)
    shift: float = 0.1
    mirrored: float = 0.1
    about: float = 0.7
    batch: int = 2
    visible: float = 0.5
    score: float = 0.75
    look: FilmLook = field(default_factory=lambda: FilmLook(inverted=0.0, noise=0.4))


class CtDetectTask:
    """Batches, loss and validation for `training.loop.train`."""

    name = "ct-detect"

    def __init__(
        self, training: Sequence[CtSlice], validation: Sequence[CtSlice], options: CtDetectOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options

    def build(self) -> SliceDetector:
        """A fresh network."""
        return SliceDetector(**self.options.network)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), 0 to 1, `boxes` of all its slices (n, 4), and `slice` (n,), the
        place in the batch.
        """
        chosen = torch.randint(len(self.training), (self.options.batch,), generator=generator)
        parts = [self._drawn(generator, self.training[number]) for number in chosen.tolist()]
        counts = torch.tensor([len(boxes) for _, boxes in parts])
        return {
            "image": torch.stack([image for image, _ in parts])[:, None],
            "boxes": torch.cat([boxes for _, boxes in parts]),
            "slice": torch.repeat_interleave(torch.arange(len(parts)), counts),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The sum of the detector's losses."""
        boxes = [batch["boxes"][batch["slice"] == number] for number in range(len(batch["image"]))]
        return total_loss(network(batch["image"], boxes))

    def validate(self, network: nn.Module) -> dict[str, float]:
        """P2's measures on the held-out slices, see `slice_scores`."""
        found = [self.detect(network, one) for one in self.validation]
        return detection_scores(found, [*map(truth_of, self.validation)], score=self.options.score)

    def detect(self, network: nn.Module, one: CtSlice) -> SliceBoxes:
        """What the network finds on a slice, in its pixels."""
        options = self.options
        device = next(network.parameters()).device
        with torch.inference_mode():
            ((boxes, scores),) = find_vertebrae(
                network,
                torch.from_numpy(one.image).to(device)[None],
                one.spacing_mm,
                size=options.size,
                at_mm=options.at_mm,
                clip_hu=options.clip_hu,
            )
        return SliceBoxes(one.patient, boxes.cpu().double().numpy(), scores.cpu().double().numpy())

    def _drawn(self, generator: Generator, one: CtSlice) -> tuple[Tensor, Tensor]:
        """(image, boxes) of one slice, varied."""
        options = self.options
        edge = min(one.spacing_mm) if options.at_mm is None else options.at_mm
        zoom = torch.diag(torch.tensor([edge / one.spacing_mm[0], edge / one.spacing_mm[1]]))
        turned = pose(generator, options.degrees, mirrored=options.mirrored)
        matrix = zoom @ turned * uniform(generator, *options.scale)
        center = self._looked_at(generator, one, matrix)
        # Beyond the slice there is air, not its border again.
        ring = 2 + int(matrix.abs().max()) * 2
        padded = np.pad(one.image, ring, constant_values=int(AIR_HU))
        low, high = options.clip_hu
        image = ((crop(padded, center + ring, matrix, options.size) - low) / (high - low)).clamp(0, 1)
        return vary_film(generator, image, options.look), self._targets(one, center, matrix)

    def _looked_at(self, generator: Generator, one: CtSlice, matrix: Tensor) -> Tensor:
        """Where the frame's middle lies on the slice: mostly about a body, moved a little.

        A frame that is larger than the slice shows all of it, one that is smaller nothing beside it.
        """
        options = self.options
        shape = torch.tensor(one.image.shape, dtype=torch.float32)
        size = torch.tensor(options.size, dtype=torch.float32)
        half = torch.minimum(matrix.abs() @ size, shape) / 2
        center = torch.rand(2, generator=generator) * shape
        if len(one.boxes) and chance(generator, options.about):
            left, top, right, bottom = one.boxes[int(torch.randint(len(one.boxes), (), generator=generator))]
            center = torch.tensor([(top + bottom) / 2, (left + right) / 2], dtype=torch.float32)
            center = center + half * (torch.rand(2, generator=generator) - 0.5)
        center = torch.minimum(torch.maximum(center, half), shape - half) - 0.5
        return center + matrix @ (normal(generator, 2).clamp(-2, 2) * options.shift * size)

    def _targets(self, one: CtSlice, center: Tensor, matrix: Tensor) -> Tensor:
        """Boxes in the frame, (n, 4), of those that are not moved out of it."""
        size = self.options.size
        kept = []
        for box in one.boxes:
            outline = into_crop(_outline(box), center, matrix, size) + 0.5
            low, high = outline.amin(dim=0), outline.amax(dim=0)
            limit = torch.tensor(size, dtype=torch.float32)
            inner_low, inner_high = low.clamp(min=0), torch.minimum(high, limit)
            inner = (inner_high - inner_low).clamp(min=0)
            if float(inner.prod()) < self.options.visible * float((high - low).prod()) or inner.min() < 3:
                continue
            kept.append(torch.stack([inner_low[1], inner_low[0], inner_high[1], inner_high[0]]))
        return torch.stack(kept) if kept else torch.zeros(0, 4)


def truth_of(one: CtSlice) -> SliceBoxes:
    """What is true on a slice."""
    return SliceBoxes(one.patient, one.boxes.astype(np.float64))


def _outline(box: np.ndarray[Any, Any]) -> Tensor:
    """[row, column] of points on a rounded rectangle in a box, pixel centres whole, shape (n, 2).

    Its corners alone would make a turned box too large: bodies fill theirs but for the corners.
    """
    angle = torch.arange(_OUTLINE_POINTS) * (2 * torch.pi / _OUTLINE_POINTS)
    unit = torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)
    unit = unit / unit.abs().pow(_ROUNDNESS).sum(dim=1, keepdim=True).pow(1 / _ROUNDNESS)
    left, top, right, bottom = (float(edge) for edge in box)
    middle = torch.tensor([(top + bottom) / 2, (left + right) / 2])
    half = torch.tensor([(bottom - top) / 2, (right - left) / 2])
    return middle + half * unit - 0.5
