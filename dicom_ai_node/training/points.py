"""ct-points: a 2-D M-SCN learns the six morphometry points on sagittal planes of a body (P3 section 2.3.3).

Most planes run through the middle. The six points of a plane beside it have a truth of their own, by the
phantom's geometry: the rims lie further back there, the bowl is shallower, and a broken body may be lower.
Within the error of the middle plane that training imitates (`jitter_mm`) they differ by a few tenths of a
millimetre, and those of the middle are the truth: they are what the node wants to know.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps, peak_positions
from dicom_ai_node.networks.intensity import OUTLINED, standardise
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.report import SIX_POINT_NAMES
from dicom_ai_node.training.augment import (
    Intensity,
    chance,
    normal,
    sample_patch,
    uniform,
    vary_contrast,
    vary_intensity,
)
from dicom_ai_node.training.cases import Case, LabelledVertebra
from dicom_ai_node.training.losses import heatmap_loss
from dicom_ai_node.training.mask_faults import faulty
from dicom_ai_node.training.metrics import pooled

_AIR_HU = -1024.0

_SLICED_MM = (2.0, 6.5)
"""How far apart the slices lie that a plane may look cut out of: as far as the router lets pass."""

_JUDGED_PLANES = 8
"""Planes of every held-out case whose loss is the validation loss."""


@dataclass(frozen=True)
class PointsOptions:
    """Sizes of ct-points and how it is taught; see `points_recipes` for what is published.

    Attributes:
        spacing_mm: of the plane's pixels.
        size: of the plane; rows run from head to foot, columns from anterior to posterior.
        sigma_mm: of the target Gaussians.
        channels, global_channels: of the M-SCN.
        batch: planes per step.
        tilt_degrees: standard deviation of the error of the plane's axes that training imitates.
        jitter_mm: standard deviation of the error of its centre.
        reflected: share of planes that continue beyond a small field of view as its mirror image.
        sliced: share of planes that look cut out of a series of thick slices.
        hole, disc: faults of the outline, see `mask_faults.faulty`; discs are twice as frequent where slices
            are thick, for there the outlines of ct-segment are too tall.
        beside: share of planes a quarter of the body's width beside the middle, where the truth has them.
        fractured: share of planes of fractured vertebrae; None: as frequent as they are.
        outline_only: the network sees the body's mask (P3 eq. 14), and no image.
        varied: whether size, contrast, sharpness and outline vary; P3 only turns and moves.
        loss: "published": smooth L1 (P3 eq. 9) alone; "weighted": more near the points.
    """

    spacing_mm: float = 0.6
    size: tuple[int, int] = (96, 96)
    sigma_mm: float = 1.8
    channels: tuple[int, ...] = (16, 32, 64, 96, 96)
    global_channels: int = 16
    batch: int = 8
    tilt_degrees: float = 5.0
    jitter_mm: float = 2.0
    reflected: float = 0.6
    sliced: float = 0.5
    hole: float = 0.15
    disc: float = 0.3
    beside: float = 0.4
    fractured: float | None = 0.5
    outline_only: bool = False
    varied: bool = True
    loss: Literal["weighted", "published"] = "weighted"
    intensity: Intensity = field(default_factory=lambda: Intensity(thick_slices=0.0))

    def network_arguments(self) -> dict[str, Any]:
        """All arguments of the M-SCN."""
        return {
            "in_channels": 1 if self.outline_only else 2,
            "out_channels": len(SIX_POINT_NAMES),
            "dimensions": 2,
            "channels": list(self.channels),
            "global_channels": self.global_channels,
        }


class PointsTask:
    """Planes, loss and validation for `training.loop.train`."""

    name = "ct-points"

    def __init__(self, training: Sequence[Case], validation: Sequence[Case], options: PointsOptions) -> None:
        self.training, self.validation, self.options = training, validation, options
        pairs = [(c, v) for c in training for v in c.vertebrae if v.six_points is not None]
        self.normal_pairs = [pair for pair in pairs if not pair[1].fractured]
        self.fractured_pairs = [pair for pair in pairs if pair[1].fractured]
        if training and not pairs:
            raise ConfigurationError(
                "ct-points learns from cases with six points per vertebra; none has them"
            )

    def build(self) -> MSCN:
        """A fresh network."""
        return MSCN(**self.options.network_arguments())

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, channels, *size) and `positions` (batch, 6, 2) in pixels [row, column]."""
        planes = [self._plane(generator, self._pairs(generator)) for _ in range(self.options.batch)]
        return {
            "image": torch.stack([image for image, _ in planes]),
            "positions": torch.stack([positions for _, positions in planes]),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Smooth L1; see `PointsOptions.loss`."""
        options = self.options
        target = gaussian_heatmaps(batch["positions"], options.size, options.sigma_mm / options.spacing_mm)
        if options.loss == "published":
            # Summed over pixels as in P3 eq. 3: of their mean, SGD at 1e-4 would take no step worth the name.
            product: Tensor = network(batch["image"]).product
            return target[0, 0].numel() * heatmap_loss(product, target, near=1.0)
        return 20 * heatmap_loss(network(batch["image"]).product, target)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Mean point error and mean absolute height error in mm, with true planes and true masks.

        With the published loss also `loss` over the same few planes of them every time: what the plateau of
        the published schedule is told by.
        """
        rows = [self.measure(network, case) for case in self.validation]
        if self.options.loss == "published":
            losses = [loss for case in self.validation for loss in self._held_out_losses(network, case)]
            rows.append({"loss": losses})
        return pooled(rows)

    def measure(self, network: nn.Module, case: Case) -> dict[str, list[float]]:
        """Quantity -> means over six points and over three heights, in mm.

        One value per vertebra, and one per plane beside its middle where the truth has such.
        """
        rows: dict[str, list[float]] = {"point_error_mm": [], "height_error_mm": []}
        generator = case.generator()
        for vertebra in case.vertebrae:
            if vertebra.six_points is None:
                continue
            point, height = self._errors_mm(network, generator, case, vertebra, vertebra.six_points)
            rows["point_error_mm"].append(point)
            rows["height_error_mm"].append(height)
            for points in vertebra.beside:
                point, height = self._errors_mm(network, generator, case, vertebra, points)
                rows.setdefault("point_error_beside_mm", []).append(point)
                rows.setdefault("height_error_beside_mm", []).append(height)
        return rows

    def _errors_mm(
        self,
        network: nn.Module,
        generator: Generator,
        case: Case,
        vertebra: LabelledVertebra,
        points: Tensor,
    ) -> tuple[float, float]:
        """Mean error of the six points of a plane, and of its three heights."""
        device = next(network.parameters()).device
        image, truth = self._cut(generator, case, vertebra, points, exact=True)
        positions, _ = peak_positions(network(image[None].to(device)).product.cpu())
        difference = (positions[0] - truth) * self.options.spacing_mm
        error = (_heights(positions[0]) - _heights(truth)).abs() * self.options.spacing_mm
        return float(torch.linalg.vector_norm(difference, dim=1).mean()), float(error.mean())

    def _held_out_losses(self, network: nn.Module, case: Case) -> list[float]:
        generator = case.generator()
        device = next(network.parameters()).device
        pairs = [(case, item) for item in case.vertebrae if item.six_points is not None]
        losses = []
        for _ in range(_JUDGED_PLANES if pairs else 0):
            image, positions = self._plane(generator, pairs)
            batch = {"image": image[None].to(device), "positions": positions[None].to(device)}
            losses.append(float(self.loss(network, batch)))
        return losses

    def _pairs(self, generator: Generator) -> list[tuple[Case, LabelledVertebra]]:
        """The vertebrae that a plane is drawn from."""
        share = self.options.fractured
        if share is None:
            return self.normal_pairs + self.fractured_pairs
        fractured = not self.normal_pairs or (bool(self.fractured_pairs) and chance(generator, share))
        return self.fractured_pairs if fractured else self.normal_pairs

    def _plane(
        self, generator: Generator, pairs: Sequence[tuple[Case, LabelledVertebra]]
    ) -> tuple[Tensor, Tensor]:
        case, vertebra = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        points = vertebra.six_points
        assert points is not None
        if vertebra.beside and chance(generator, self.options.beside):
            points = vertebra.beside[int(torch.randint(len(vertebra.beside), (), generator=generator))]
        return self._cut(generator, case, vertebra, points, exact=False)

    def _cut(
        self, generator: Generator, case: Case, vertebra: LabelledVertebra, points: Tensor, *, exact: bool
    ) -> tuple[Tensor, Tensor]:
        """The plane of six points: its image, and where the points lie on it."""
        options = self.options
        matrix = plane_matrix(vertebra.axes, options.spacing_mm / case.spacing_mm)
        left = vertebra.axes[0]
        center = vertebra.center + left * ((points.mean(dim=0) - vertebra.center) @ left)
        if not exact:
            matrix = matrix @ _tilt(generator, options.tilt_degrees)
            if options.varied:
                matrix = matrix * uniform(generator, 0.85, 1.18)
                matrix = matrix * torch.tensor(
                    [1.0, uniform(generator, 0.92, 1.08), uniform(generator, 0.92, 1.08)]
                )
            center = center + normal(generator, 3).clamp(-2.5, 2.5) * options.jitter_mm / case.spacing_mm
        size = (1, *options.size)
        reflected = not exact and chance(generator, options.reflected)
        image = sample_patch(case.voxels[None], center, matrix, size, outside=_AIR_HU, reflected=reflected)[0]
        label = verse_label(vertebra.level)
        mask = sample_patch(case.labels[None], center, matrix, size, outside=0.0, label=label)[0]
        offset = torch.linalg.solve(matrix, (points - center).T).T
        positions = offset[:, 1:] + (torch.tensor(options.size) - 1) / 2
        if options.outline_only:
            return (mask >= OUTLINED).float(), positions
        if exact or not options.varied:
            return torch.cat([standardise(image, options.intensity.clip_hu), mask]), positions
        sliced = bool(options.sliced) and chance(generator, options.sliced)
        if sliced:
            image = _sliced(generator, image, options.spacing_mm)
        # Two more slices let the three-dimensional changes of contrast and sharpness serve a plane too.
        image = vary_intensity(generator, image.expand(3, -1, -1).clone(), options.intensity)[1:2]
        image = standardise(image, options.intensity.clip_hu)
        image = vary_contrast(generator, image, options.intensity)
        disc = min(1.0, (1 + sliced) * options.disc)
        return torch.cat(
            [image, faulty(generator, mask, options.spacing_mm, hole=options.hole, disc=disc)]
        ), positions


def _sliced(generator: Generator, plane: Tensor, spacing_mm: float) -> Tensor:
    """The plane as a series of thick slices gives it: averaged across them, and interpolated between them.

    The slices run from front to back and lie askew to the body as axial ones do in lordosis and kyphosis, and
    they may be thicker than they are apart.
    """
    angle = math.radians(15.0) * float(normal(generator, 1).clamp(-2.0, 2.0))
    pixels = uniform(generator, *_SLICED_MM) / spacing_mm
    rows = plane.shape[1]
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    turned = _turned(plane, turn)
    reach = int(0.25 * pixels * uniform(generator, 0.0, 1.0))
    if reach:
        turned = functional.avg_pool2d(
            turned[None], (2 * reach + 1, 1), stride=1, padding=(reach, 0), count_include_pad=False
        )[0]
    count = max(4, round(rows / pixels))
    shift = int(torch.randint(max(1, int(pixels)), (), generator=generator))
    slices = functional.adaptive_avg_pool2d(turned.roll(shift, dims=1)[None], (count, plane.shape[2]))
    back = functional.interpolate(slices, size=plane.shape[1:], mode="bilinear", align_corners=False)[0]
    return _turned(back.roll(-shift, dims=1), turn.T)


def _turned(plane: Tensor, turn: Tensor) -> Tensor:
    _, rows, columns = plane.shape
    aspect = torch.tensor([[1.0, rows / columns], [columns / rows, 1.0]])
    grid = functional.affine_grid(
        torch.cat([turn * aspect, torch.zeros(2, 1)], dim=1)[None], [1, 1, rows, columns], align_corners=False
    )
    return functional.grid_sample(
        plane[None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def plane_matrix(axes: Tensor, pixel: float) -> Tensor:
    """Columns take plane offsets [left, row, column] to voxels; rows run foot-ward, columns back-ward.

    Args:
        axes: shape (3, 3), rows left, posterior, superior.
        pixel: edge of a pixel in voxels.
    """
    left, posterior, superior = axes
    return torch.stack([left, -superior, posterior], dim=1) * pixel


def _heights(points: Tensor) -> Tensor:
    answer: Tensor = torch.linalg.vector_norm(points[0::2] - points[1::2], dim=1)
    return answer


def _tilt(generator: Generator, degrees: float) -> Tensor:
    # The plane's own turn is taught more widely than its tilt: heights do not depend on it.
    answer = torch.eye(3)
    for axis, deviation in enumerate((2 * degrees, degrees, degrees)):
        angle = math.radians(float(normal(generator, 1).clamp(-2.5, 2.5)) * deviation)
        first, second = [other for other in range(3) if other != axis]
        turn = torch.eye(3)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        answer = answer @ turn
    return answer
