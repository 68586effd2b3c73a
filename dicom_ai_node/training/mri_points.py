"""mri-points: a 2-D M-SCN learns six morphometry points on a body's mid-sagittal slice (P3 section 2.3.3).

As `training.points` does on CT; but a plane of MR lies in a slice as it was measured, for slices are some
millimetres thick, and a plane that crosses them would show their steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps, peak_positions
from dicom_ai_node.networks.mr_intensity import mr_contrast
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.training.augment import chance, normal, sample_patch, uniform
from dicom_ai_node.training.losses import heatmap_loss
from dicom_ai_node.training.mask_faults import faulty
from dicom_ai_node.training.metrics import pooled
from dicom_ai_node.training.mri_augment import MrLook, vary_mr
from dicom_ai_node.training.mri_cases import MrCase, MrVertebra


@dataclass(frozen=True)
class MriPointsOptions:
    """Sizes of mri-points.

    Attributes:
        spacing_mm: of the plane's pixels.
        size: of the plane; rows run from head to foot, columns from anterior to posterior.
        sigma_mm: of the target Gaussians.
        channels, global_channels: of the M-SCN.
        batch: planes per step.
        turn_degrees: standard deviation of the error of the body's axis that training imitates.
        jitter_mm: standard deviation of the error of its centre.
        aside_mm: the slice may lie so far from the middle of the body.
        fractured: share of planes that show a fracture.
        hole, disc: faults of the outline, see `mask_faults.faulty`.
        look: see `MrLook`.
    """

    spacing_mm: float = 0.7
    size: tuple[int, int] = (80, 80)
    sigma_mm: float = 1.8
    channels: tuple[int, ...] = (12, 24, 48, 80, 96)
    global_channels: int = 12
    batch: int = 8
    turn_degrees: float = 8.0
    jitter_mm: float = 2.0
    aside_mm: float = 3.5
    fractured: float = 0.5
    hole: float = 0.0
    disc: float = 0.5
    look: MrLook = field(default_factory=lambda: MrLook(cropped=0.0, lost=0.0, moved=0.0))


class MriPointsTask:
    """Planes, loss and validation for `training.loop.train`."""

    name = "mri-points"

    def __init__(
        self, training: Sequence[MrCase], validation: Sequence[MrCase], options: MriPointsOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        pairs = [(case, vertebra) for case in training for vertebra in measurable(case)]
        self.normal_pairs = [pair for pair in pairs if not pair[1].fractured]
        self.fractured_pairs = [pair for pair in pairs if pair[1].fractured]
        if training and not pairs:
            raise ConfigurationError(
                "mri-points learns from cases with six points per vertebra; none has them"
            )

    def build(self) -> MSCN:
        """A fresh network."""
        return MSCN(2, 6, 2, self.options.channels, global_channels=self.options.global_channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 2, *size): signal -1 to 1 and the body's mask; `positions` (batch, 6, 2)
        in pixels [row, column].
        """
        planes = [self._drawn(generator) for _ in range(self.options.batch)]
        return {
            "image": torch.stack([image for image, _ in planes]),
            "positions": torch.stack([positions for _, positions in planes]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Weighted smooth L1."""
        options = self.options
        target = gaussian_heatmaps(batch["positions"], options.size, options.sigma_mm / options.spacing_mm)
        return 20 * heatmap_loss(network(batch["image"]).product, target)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the measurable vertebrae of the held-out cases; see `measure`."""
        return pooled([self.measure(network, case) for case in self.validation])

    def measure(self, network: nn.Module, case: MrCase) -> dict[str, list[float]]:
        """Quantity -> one value per vertebra: means over its six points and its three heights, in mm; with
        true planes and true masks.
        """
        rows: dict[str, list[float]] = {"point_error_mm": [], "height_error_mm": []}
        device = next(network.parameters()).device
        for vertebra in measurable(case):
            image, truth = self._cut(case.generator(), case, vertebra, exact=True)
            positions, _ = peak_positions(network(image[None].to(device)).product.cpu())
            difference = (positions[0] - truth) * self.options.spacing_mm
            rows["point_error_mm"].append(float(torch.linalg.vector_norm(difference, dim=1).mean()))
            error = (_heights(positions[0]) - _heights(truth)).abs() * self.options.spacing_mm
            rows["height_error_mm"].append(float(error.mean()))
        return rows

    def _drawn(self, generator: Generator) -> tuple[Tensor, Tensor]:
        broken = not self.normal_pairs or chance(generator, self.options.fractured)
        pairs = self.fractured_pairs if broken and self.fractured_pairs else self.normal_pairs
        case, vertebra = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        return self._cut(generator, case, vertebra, exact=False)

    def _cut(
        self, generator: Generator, case: MrCase, vertebra: MrVertebra, *, exact: bool
    ) -> tuple[Tensor, Tensor]:
        options = self.options
        assert vertebra.six_points is not None
        axis, aside, jitter = vertebra.superior, 0.0, torch.zeros(2)
        scale = torch.ones(2)
        if not exact:
            axis = _turned(
                axis, math.radians(float(normal(generator, 1).clamp(-2.5, 2.5))) * options.turn_degrees
            )
            aside = uniform(generator, -1, 1) * options.aside_mm / case.slice_mm
            jitter = normal(generator, 2).clamp(-2.5, 2.5) * options.jitter_mm / case.pixel_mm
            scale = scale * uniform(generator, 0.85, 1.18)
            scale = scale * torch.tensor([uniform(generator, 0.92, 1.08), uniform(generator, 0.92, 1.08)])
        index = (vertebra.center[0] + aside).clamp(0, case.image.shape[0] - 1)
        center = torch.cat([index.round()[None], vertebra.center[1:] + jitter])
        matrix = slice_plane(axis, options.spacing_mm / case.pixel_mm)
        matrix = matrix @ torch.diag(torch.tensor([1.0, *scale.tolist()]))
        size = (1, *options.size)
        low, high = case.range
        image = sample_patch(case.image[None], center, matrix, size, outside=low)[0]
        mask = sample_patch(case.labels[None], center, matrix, size, outside=0.0, label=vertebra.label)[0]
        flat = vertebra.six_points - center
        offset = torch.linalg.solve(matrix[1:, 1:], flat[:, 1:].T).T
        positions = offset + (torch.tensor(options.size) - 1) / 2
        image = mr_contrast(image, low, high)
        if exact:
            return torch.cat([image, mask]), positions
        image = vary_mr(generator, image.expand(3, -1, -1), options.look)[1:2]
        return torch.cat(
            [image, faulty(generator, mask, options.spacing_mm, hole=options.hole, disc=options.disc)]
        ), positions


def measurable(case: MrCase) -> list[MrVertebra]:
    """The vertebrae of a case whose six points lie in the image, and their middle between its slices."""
    limit = torch.tensor(case.image.shape[1:]) - 1
    return [
        vertebra
        for vertebra in case.vertebrae
        if vertebra.six_points is not None
        and 0 <= float(vertebra.center[0]) <= case.image.shape[0] - 1
        and bool((vertebra.six_points[:, 1:] >= 0).all() and (vertebra.six_points[:, 1:] <= limit).all())
    ]


def slice_plane(superior: Tensor, pixel: float) -> Tensor:
    """3x3: columns take plane offsets [slice, row, column] to the case's; rows run down the body's own axis.

    Args:
        superior: the axis in the slice, [row, column], a unit vector.
        pixel: edge of the plane's pixel in the case's pixels.
    """
    row, column = superior.tolist()
    return torch.tensor(
        [[1.0, 0.0, 0.0], [0.0, -row * pixel, column * pixel], [0.0, -column * pixel, -row * pixel]]
    )


def _turned(axis: Tensor, angle: float) -> Tensor:
    cosine, sine = math.cos(angle), math.sin(angle)
    return torch.tensor([[cosine, -sine], [sine, cosine]]) @ axis


def _heights(points: Tensor) -> Tensor:
    answer: Tensor = torch.linalg.vector_norm(points[0::2] - points[1::2], dim=1)
    return answer
