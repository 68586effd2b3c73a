"""ct-localise: a 3-D network learns to draw one heatmap per level (P3 section 2.2).

The network is M-SCN or one that P3 compares it with; it learns from patches, and is shown whole volumes at
once or, as published, in overlapping patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.anatomy import LEVELS, SUPERNUMERARY, Level, order
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps, peak_positions
from dicom_ai_node.networks.intensity import clipped_moments, standardise
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.networks.mscn_parts import GlobalNetwork, LocalNetwork
from dicom_ai_node.networks.overlapping import (
    AIR_HU,
    PatchInput,
    Tiling,
    block_of,
    merged_heatmaps,
    reader_of,
)
from dicom_ai_node.networks.scn import SCN
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

_NAMING_SHARPNESS = 12.0
"""Turns heatmap values into logits: a peak of 1 beside zeros is a certain name."""


NETWORKS: Final[Mapping[str, type[nn.Module]]] = {
    "MSCN": MSCN,
    "SCN": SCN,
    "LocalNetwork": LocalNetwork,
    "GlobalNetwork": GlobalNetwork,
}
"""The architectures that draw heatmaps of a volume: each is given channels in, landmarks and 3 dimensions."""

_MEASURED_MM = 2.0
"""Merged heatmaps are measured in blocks no longer than this: a peak is found between them."""

_SMALL_STEP = 16
"""Networks whose sizes are multiples of this take every small field of view as training shows it."""

_LEAST_SHOWN = 8
"""Voxels: no field of view is shorter than 40 mm."""

_JUDGED_PATCHES = 4
"""Patches of every held-out case whose loss is the validation loss."""


@dataclass(frozen=True)
class LocaliseOptions:
    """Sizes of ct-localise and how it is taught; see `localise_recipes` for those that are published.

    Attributes:
        spacing_mm: of the cubic voxels.
        sizes: patch sizes (slices, rows, columns) to draw from; multiples of the network's `multiple`.
        sigma_mm: of the target Gaussians, whose peak is 1.
        architecture: one of `NETWORKS`.
        arguments: of it, beyond its channels in and out and its dimensions.
        batch: patches per step.
        elsewhere: share of patches that are centred anywhere instead of at the spine.
        small: share of batches of small fields of view, as a reconstruction of a few vertebrae is: each ends
            within the last `_SMALL_STEP` of a size of `small_sizes`, and `padded` fills it up to that, as it
            does before inference.
        levels: one heatmap each.
        pose: how patches are turned, resized and mirrored.
        intensity: window, and how contrast, sharpness and noise vary.
        varied: whether they vary at all, and fields of view are cut; P3 only turns, mirrors and moves.
        loss: "published": smooth L1 (P3 eq. 9) alone; "named": weighted, and with a cross-entropy of names.
        overlapping: whole volumes are seen in overlapping patches of the first size, instead of at once.
        smoothing_mm: of the Gaussian filter before standardisation (P3 table 1); 0 for none.
        of_volume: standardise with mean and deviation of the whole volume (P3 eq. 19), not of the patch.
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
    architecture: str = "MSCN"
    arguments: Mapping[str, Any] = field(
        default_factory=lambda: {"channels": [12, 24, 48, 80, 80], "global_channels": 12, "global_stride": 2}
    )
    batch: int = 2
    elsewhere: float = 0.2
    small: float = 0.4
    small_sizes: tuple[tuple[int, int, int], ...] = (
        (16, 16, 16),
        (32, 16, 16),
        (32, 32, 16),
        (32, 32, 32),
        (48, 16, 16),
        (48, 32, 16),
    )
    levels: tuple[Level, ...] = TAUGHT_LEVELS
    pose: Pose = field(default_factory=Pose)
    intensity: Intensity = field(
        default_factory=lambda: Intensity(thick_slices=0.1, blur=0.2, noise=0.4, noise_hu=40.0)
    )
    varied: bool = True
    loss: Literal["named", "published"] = "named"
    overlapping: bool = False
    smoothing_mm: float = 0.0
    of_volume: bool = False

    def network_arguments(self) -> dict[str, Any]:
        """All arguments of the architecture."""
        return {"in_channels": 1, "out_channels": len(self.levels), "dimensions": 3, **self.arguments}

    def look(self, volume: Tensor) -> PatchInput:
        """What is done to patches of a volume (HU)."""
        clip = self.intensity.clip_hu
        moments = clipped_moments(volume, clip) if self.of_volume else None
        return PatchInput(clip, self.smoothing_mm / self.spacing_mm, moments)


@dataclass(frozen=True)
class Located:
    """What a network says of the vertebrae of one case.

    Attributes:
        levels: the taught levels whose centre lies in the case, from head to tail.
        errors_mm: of each, how far the maximum of its heatmap is from its centre.
        called: of each, the level whose heatmap is the brightest at its centre.
        absent_peaks: of each taught level that is not there, the maximum of its heatmap.
    """

    levels: tuple[Level, ...]
    errors_mm: tuple[float, ...]
    called: tuple[Level, ...]
    absent_peaks: tuple[float, ...]

    def measured(self) -> dict[str, list[float]]:
        """Errors beyond 4, 10 and 20 mm (P3 table 4), right names, peaks where nothing is."""
        found = localisation_values(self.errors_mm)
        right = [float(called is level) for called, level in zip(self.called, self.levels, strict=True)]
        return {
            **{name: values.tolist() for name, values in found.items()},
            "name_right": right,
            "absent_peak": list(self.absent_peaks),
        }


class LocaliseTask:
    """Patches, loss and validation for `training.loop.train`."""

    name = "ct-localise"

    def __init__(
        self, training: Sequence[Case], validation: Sequence[Case], options: LocaliseOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        self._looks: dict[str, PatchInput] = {}

    def build(self) -> nn.Module:
        """A fresh network."""
        return NETWORKS[self.options.architecture](**self.options.network_arguments())

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), `positions` (batch, levels, 3) in voxels, NaN where absent."""
        options = self.options
        small = chance(generator, options.small)
        sizes = options.small_sizes if small else options.sizes
        size = sizes[int(torch.randint(len(sizes), (), generator=generator))]
        return _batch(
            [self._patch(generator, self._any(generator), size, small=small) for _ in range(options.batch)]
        )

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """How far the product of the network is from the target heatmaps; see `LocaliseOptions.loss`."""
        options = self.options
        size = tuple(batch["image"].shape[2:])
        target = gaussian_heatmaps(batch["positions"], size, options.sigma_mm / options.spacing_mm)
        product: Tensor = network(batch["image"]).product
        if options.loss == "published":
            # Summed over voxels as in P3 eq. 3: of their mean, SGD at 1e-4 would take no step worth the name.
            return target[0, 0].numel() * heatmap_loss(product, target, near=1.0)
        return _named_loss(product, target)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Localisation errors over whole held-out cases (P3 table 4), and how high false peaks reach.

        With the published loss also `loss` over the same few patches of them every time: what the plateau of
        the published schedule is told by.
        """
        rows = [self.measure(network, case) for case in self.validation]
        if self.options.loss == "published":
            rows.append({"loss": [self._held_out_loss(network, case) for case in self.validation]})
        return pooled(rows)

    def measure(self, network: nn.Module, case: Case) -> dict[str, list[float]]:
        """Quantity -> one value per level that is in the case (`absent_peak`: per level that is not)."""
        return self.located(network, case).measured()

    def located(self, network: nn.Module, case: Case) -> Located:
        """Where the network sees each level of a whole case: in the maximum of its heatmap (P3 eq. 2)."""
        heatmaps, block = self._heatmaps(network, case)
        positions, values = peak_positions(heatmaps[None])
        places = positions[0] * block + (block - 1) / 2
        taught = self.options.levels
        there = {item.level: item.center for item in case.vertebrae if item.level in taught}
        limit = torch.tensor(heatmaps.shape[1:]) - 1
        errors, called = [], []
        for level, center in there.items():
            distance = torch.linalg.vector_norm(places[taught.index(level)] - center)
            errors.append(float(distance) * self.options.spacing_mm)
            z, y, x = ((center + 0.5) / block).floor().long().clamp(min=0).minimum(limit).tolist()
            called.append(taught[int(heatmaps[:, z, y, x].argmax())])
        absent = [
            float(values[0, index])
            for index, level in enumerate(taught)
            if level not in there and level not in SUPERNUMERARY
        ]
        return Located(tuple(there), tuple(errors), tuple(called), tuple(absent))

    def _heatmaps(self, network: nn.Module, case: Case) -> tuple[Tensor, int]:
        """Heatmaps of a whole case, shape (levels, *size), and the edge of their voxels in voxels of it."""
        options = self.options
        device = next(network.parameters()).device
        if options.overlapping:
            block = block_of(options.spacing_mm, _MEASURED_MM)
            merged = merged_heatmaps(
                lambda patches: network(patches.to(device)).product,
                reader_of(case.voxels),
                Tiling(tuple(case.voxels.shape), options.sizes[0], block),
                self._look(case),
            )
            return merged, block
        image = standardise(case.voxels, options.intensity.clip_hu)[None, None]
        return network(padded(image, network.multiple).to(device)).product[0].cpu(), 1  # type: ignore[arg-type]

    def _held_out_loss(self, network: nn.Module, case: Case) -> float:
        generator = case.generator()
        device = next(network.parameters()).device
        losses = []
        for _ in range(_JUDGED_PATCHES):
            batch = _batch([self._patch(generator, case, self.options.sizes[0])])
            losses.append(float(self.loss(network, {name: item.to(device) for name, item in batch.items()})))
        return sum(losses) / len(losses)

    def _any(self, generator: Generator) -> Case:
        return self.training[int(torch.randint(len(self.training), (), generator=generator))]

    def _look(self, case: Case) -> PatchInput:
        if case.name not in self._looks:
            self._looks[case.name] = self.options.look(case.voxels)
        return self._looks[case.name]

    def _patch(
        self, generator: Generator, case: Case, size: tuple[int, int, int], *, small: bool = False
    ) -> tuple[Tensor, Tensor]:
        options = self.options
        look = self._look(case)
        matrix = random_affine(generator, options.pose)
        shown = torch.tensor(size)
        if small:
            shown = (shown - torch.randint(_SMALL_STEP, (3,), generator=generator)).clamp(min=_LEAST_SHOWN)
        # Half of what is shown to either side, at most: something of the spine is in a small field of view.
        spread = shown * options.spacing_mm / 4 if small else torch.tensor([80.0, 45.0, 35.0])
        center = self._center(generator, case, spread)
        seen = [int(edge) + 2 * look.margin for edge in shown]
        image = look.filtered(sample_patch(case.voxels[None], center, matrix, seen, outside=AIR_HU)[0])
        positions = torch.full((len(options.levels), 3), float("nan"))
        middle = (shown - 1) / 2
        for vertebra in case.vertebrae:
            if vertebra.level in options.levels:
                place = torch.linalg.solve(matrix, vertebra.center - center) + middle
                # A vertebra half outside is still taught: its Gaussian reaches into the patch.
                if bool((place > -1).all() and (place < shown).all()):
                    positions[options.levels.index(vertebra.level)] = place
        if not options.varied:
            return look.standardised(image), positions
        image = _cut_field_of_view(generator, image)
        image = vary_intensity(generator, image, options.intensity)
        image = look.standardised(image)
        image = vary_contrast(generator, image, options.intensity)
        return padded(image[None, None], size)[0, 0], positions

    def _center(self, generator: Generator, case: Case, spread_mm: Tensor) -> Tensor:
        shape = torch.tensor(case.voxels.shape, dtype=torch.float32)
        if not case.vertebrae or chance(generator, self.options.elsewhere):
            return torch.rand(3, generator=generator) * shape
        vertebra = case.vertebrae[int(torch.randint(len(case.vertebrae), (), generator=generator))]
        spread = spread_mm / self.options.spacing_mm
        return vertebra.center + spread * normal(generator, 3).clamp(-2, 2)


def _named_loss(product: Tensor, target: Tensor) -> Tensor:
    """Weighted smooth L1 of the product (P3 eq. 9), and cross-entropy between names where a vertebra is.

    The heatmaps of neighbours look alike, and smooth L1 alone lingers at calling all vertebrae by one name;
    the cross-entropy asks at every centre which of the heatmaps is the brightest.
    """
    weight, level = target.max(dim=1)
    seen = product.amax(dim=1, keepdim=True)
    # 100: the target fills a thousandth of the patch; this puts the loss near 1 where learning starts.
    drawn = 100 * (heatmap_loss(product, target) + heatmap_loss(seen, weight[:, None]))
    named = functional.cross_entropy(_NAMING_SHARPNESS * product, level, reduction="none")
    weight = weight * (weight > 0.2)
    return drawn + (named * weight).sum() / weight.sum().clamp(min=1.0)


def _batch(pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    return {
        "image": torch.stack([image for image, _ in pairs])[:, None],
        "positions": torch.stack([positions for _, positions in pairs]),
    }


def padded(image: Tensor, multiple: int | Sequence[int]) -> Tensor:
    """The image with its far ends repeated until every size is a multiple (one for all axes, or one each)."""
    multiples = [multiple] * (image.ndim - 2) if isinstance(multiple, int) else multiple
    short = [(-length) % wanted for length, wanted in zip(image.shape[2:], multiples, strict=True)]
    padding = [amount for axis in reversed(short) for amount in (0, axis)]
    return torch.nn.functional.pad(image, padding, mode="replicate") if any(short) else image


def _cut_field_of_view(generator: Generator, image: Tensor) -> Tensor:
    """Air outside a circle, as small reconstructions have it."""
    if chance(generator, 0.15):
        rows, columns = image.shape[1:]
        row = torch.arange(rows)[:, None] - rows * uniform(generator, 0.4, 0.6)
        column = torch.arange(columns)[None, :] - columns * uniform(generator, 0.4, 0.6)
        radius = uniform(generator, 0.38, 0.6) * max(rows, columns)
        image = torch.where(row**2 + column**2 > radius**2, torch.tensor(AIR_HU), image)
    return image
