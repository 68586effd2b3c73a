"""ct-classify: five diseases, or none, of every vertebra on sagittal CT slices (P2, VCModule)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.networks.ct_classifier import CtClassifier, answers_of
from dicom_ai_node.networks.ct_diseases import DISEASES, OUTPUTS
from dicom_ai_node.networks.ct_patch import (
    cut_patches,
    fixed_views,
    squares_about,
    vertebra_patches,
    windowed,
)
from dicom_ai_node.training.augment import Intensity, chance, normal, uniform, vary_intensity
from dicom_ai_node.training.ct_slices import CtSlice
from dicom_ai_node.training.disease_scores import (
    UNKNOWN,
    DiseaseAnswers,
    Truth,
    disease_scores,
    joined,
    truth_of,
)

BONE_WINDOW: Final = (-500.0, 1300.0)

_NO_CHANGE: Final = Intensity(thick_slices=0.0, blur=0.0, noise=0.0)


@dataclass(frozen=True)
class CtClassifyOptions:
    """What the classifier sees and how it is taught; more than its text P2 tells in an appendix.

    Attributes:
        size: of a patch.
        scales, shift: of the patches, see `networks.ct_patch`. P2's boxes hold whole vertebrae, those here
            bodies alone: the range is wider.
        windows_hu: that become the three channels; three times one grey value as published.
        jitter: standard deviation of each edge of the box as a share of it, as detectors differ.
        degrees: of turning.
        mirrored, quarter_turned: share of patches that are mirrored, and turned by any number of right
            angles (P2's eightfold augmentation).
        density: standard deviation of the factor and of the shift (in 100 HU) of all HU: contrast agents and
            tube voltages.
        look: noise and sharpness.
        batch: patches per step.
        threshold: a disease is said to be there from this probability on.
        judged: vertebrae that are looked at in a validation during training, at most.
        network: arguments of `CtClassifier`.
    """

    size: int = 224
    scales: tuple[float, float] = (1.2, 1.9)
    shift: float = 0.1
    windows_hu: tuple[tuple[float, float], ...] = (BONE_WINDOW,) * 3
    jitter: float = 0.03
    degrees: float = 0.0
    mirrored: float = 0.5
    quarter_turned: float = 0.75
    density: float = 0.0
    look: Intensity = _NO_CHANGE
    batch: int = 32
    threshold: float = 0.5
    judged: int = 500
    network: Mapping[str, Any] = field(default_factory=dict)


def resampling(truth: Truth) -> Tensor:
    """How often each vertebra is taken into P2's balanced training set, on average: (n,).

    The most frequent disease is the reference. Every diseased vertebra is taken once; those of the rarer
    diseases are duplicated until there are half as many as of the reference; of those without a known disease
    so many are chosen that there are twice as many ("Development of the VCModule": 8046 OVCF, 4023 of each
    other disease, 16 092 normal). P2 draws such a set once; a draw with these weights shows all normal
    vertebrae in time. Where diseases come together, a duplicate counts for each of them.

    Args:
        truth: (n, 6), see `disease_scores.truth_of`.
    """
    ill = torch.from_numpy(truth[:, : len(DISEASES)] == 1)
    weights = ill.any(dim=1).double()
    known = torch.from_numpy((truth != UNKNOWN).any(axis=1))
    counts = ill.sum(dim=0)
    reference = int(counts.max()) if len(truth) else 0
    for column in counts.argsort(stable=True).tolist():
        own = ill[:, column]
        missing = reference / 2 - float(weights[own].sum())
        if missing > 0 and bool(own.any()):
            weights[own] += missing / int(own.sum())
    sound = known & ~ill.any(dim=1)
    most = 2.0 * reference if reference else math.inf
    weights[sound] = min(1.0, most / max(1, int(sound.sum())))
    return weights


class CtClassifyTask:
    """Patches, loss and validation for `training.loop.train`."""

    name = "ct-classify"

    def __init__(
        self, training: Sequence[CtSlice], validation: Sequence[CtSlice], options: CtClassifyOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        truth = [truth_of(one.diseases) for one in training]
        self._places = [(number, row) for number, part in enumerate(truth) for row in range(len(part))]
        self.truth: Truth = np.concatenate([np.zeros((0, len(OUTPUTS)), dtype=np.int8), *truth])
        self._weights = resampling(self.truth)

    def build(self) -> CtClassifier:
        """A fresh network."""
        return CtClassifier(**self.options.network)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 3, size, size), 0 to 1, and `target` (batch, 6), NaN where not known."""
        chosen = torch.multinomial(self._weights, self.options.batch, True, generator=generator).tolist()
        target = torch.from_numpy(self.truth[chosen]).float()
        return {
            "image": torch.cat([self._drawn(generator, *self._places[number]) for number in chosen]),
            "target": torch.where(target == UNKNOWN, torch.nan, target),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Mean binary cross-entropy of the answers whose truth is known."""
        known = ~torch.isnan(batch["target"])
        each = functional.binary_cross_entropy_with_logits(
            network(batch["image"]), batch["target"].nan_to_num(), reduction="none"
        )
        return (each * known).sum() / known.sum().clamp(min=1)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Scores of the held-out patients, slice by slice.

        `loss`, the mean cross-entropy, as early stopping looks at; P2's means over four diseases; the area
        under the ROC and the F1 of each class.
        """
        answers = self.answers(network, _thinned(self.validation, self.options.judged))
        known = answers.truth != UNKNOWN
        right = np.where(answers.truth == 1, answers.said, 1 - answers.said)[known]
        values, _ = disease_scores(answers, threshold=self.options.threshold, resamples=0)
        told = [name for name in values if name.endswith("_mean") or name.startswith(("auc_", "f1_"))]
        return {
            "loss": float(-np.log(np.maximum(right, 1e-7)).mean()) if right.size else math.nan,
            **{name: values[name] for name in told},
        }

    def answers(
        self, network: nn.Module, slices: Sequence[CtSlice], done: Callable[[int], None] | None = None
    ) -> DiseaseAnswers:
        """What a network in evaluation mode says of every vertebra of every slice.

        Args:
            network: that answers.
            slices: with boxes.
            done: is told after each slice how many are done.
        """
        device = next(network.parameters()).device
        options = self.options
        views = fixed_views(options.scales, options.shift)
        parts = []
        for number, one in enumerate(slices, start=1):
            with torch.inference_mode():
                patches = vertebra_patches(
                    torch.from_numpy(one.image).to(device),
                    one.spacing_mm,
                    torch.from_numpy(one.boxes),
                    views,
                    size=options.size,
                    windows_hu=options.windows_hu,
                )
                said = answers_of(network, patches).cpu().double().numpy()
            count = len(one.boxes)
            parts.append(DiseaseAnswers(said, truth_of(one.diseases), (one.patient,) * count, one.levels))
            if done is not None:
                done(number)
        return joined(parts)

    def _drawn(self, generator: Generator, number: int, row: int) -> Tensor:
        options = self.options
        one = self.training[number]
        box = torch.from_numpy(one.boxes[row]).float()
        extent = (box[2:] - box[:2]).repeat(2)
        box = box + options.jitter * extent * normal(generator, 4).clamp(-2.5, 2.5)
        moved = options.shift * (2 * torch.rand(2, generator=generator) - 1)
        view = torch.cat([torch.tensor([uniform(generator, *options.scales)]), moved])
        centers, edges = squares_about(box[None], one.spacing_mm, view[None])
        angle = math.radians(uniform(generator, -options.degrees, options.degrees))
        if chance(generator, options.quarter_turned):
            angle += math.pi / 2 * int(torch.randint(4, (), generator=generator))
        mirror = -1.0 if chance(generator, options.mirrored) else 1.0
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[cosine, -sine * mirror], [sine, cosine * mirror]])
        patch = cut_patches(
            torch.from_numpy(one.image), one.spacing_mm, centers[0], edges[0], options.size, turns=turn[None]
        )
        factor, shift = (options.density * normal(generator, 2).clamp(-2, 2)).tolist()
        patch = patch * (1 + factor) + 100 * shift
        return windowed(vary_intensity(generator, patch, options.look), options.windows_hu)


def _thinned(slices: Sequence[CtSlice], vertebrae: int) -> Sequence[CtSlice]:
    """Every k-th slice, so that they hold not many more vertebrae than wanted."""
    count = sum(len(one.boxes) for one in slices)
    return slices[:: max(1, round(count / vertebrae))]


def preprocessing_of(options: CtClassifyOptions) -> dict[str, Any]:
    """What a bundle says about the input of its network."""
    return {
        "size": options.size,
        "scales": options.scales,
        "shift": options.shift,
        "windows_hu": options.windows_hu,
    }
