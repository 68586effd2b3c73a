"""mri-classify: benign or malignant, and the 15 features, of one vertebra on paired MR series (P4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.networks.mri_classifier import MriClassifier, over_slices
from dicom_ai_node.networks.mri_patch import (
    body_patches,
    cut_square,
    square_about,
    standardised,
    three_slices,
)
from dicom_ai_node.training.augment import chance, normal, uniform
from dicom_ai_node.training.calibration import platt
from dicom_ai_node.training.mri_crops import MrExample, patients_of
from dicom_ai_node.training.mri_scores import (
    Intervals,
    Values,
    VertebraAnswer,
    diagnostic_scores,
    feature_areas,
    per_patient,
)

MALIGNANT: Final = "malignant"

_OWN: Final = "t2"
"""The series on which the box is drawn; the others were registered to it."""


@dataclass(frozen=True)
class MriClassifyOptions:
    """What the classifier sees and how it is taught; the defaults are P4's where it tells them.

    Attributes:
        series: whose slices are the input channels (P4: T1 and T2).
        size: of the patch (P4: 64x64).
        margin: edge of the square over the longer edge of the body's box. P4's contains "the entire
            abnormal vertebra"; a little more, because hands and detectors cut corners.
        behind: how far the square lies behind the body, see `networks.mri_patch.square_about`.
        jitter: standard deviation of each edge of the box as a share of it, as hands and detectors differ.
        registration_mm: standard deviation of what registration leaves between the series.
        degrees, scale, shift: of the random affine transformations (P4: rotation, scaling, translation, no
            amounts given); shift as a share of the square.
        benign, malignant: weights with which examples are drawn: P4 augments them 20 and 40 times.
        healthy: the same for healthy vertebrae, which teach the features alone,
        healthy_benign: unless this says that they teach "not malignant" as well. P4's vertebrae were chosen
            by radiologists; those that a pipeline chooses by misread signal or height may be healthy.
        features: weight of the features' loss beside that of malignancy.
        batch: P4: 32.
        threshold: of malignancy (P4: 0.5).
        calibrated: whether the trained network's logit of malignancy is scaled such that 0.5 parts the
            held-out bodies, see `training.calibration`. P4's is not.
        network: arguments of `MriClassifier` but the channels.
    """

    series: tuple[str, ...] = ("t1", "t2")
    size: int = 64
    margin: float = 1.15
    behind: float = 0.0
    jitter: float = 0.04
    registration_mm: float = 0.5
    degrees: float = 15.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.05
    benign: float = 20.0
    malignant: float = 40.0
    healthy: float = 10.0
    healthy_benign: bool = False
    features: float = 0.5
    batch: int = 32
    threshold: float = 0.5
    calibrated: bool = False
    network: Mapping[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Of the network's input."""
        return 3 * len(self.series)


class MriClassifyTask:
    """Patches, loss and validation for `training.loop.train`."""

    name = "mri-classify"

    def __init__(
        self,
        training: Sequence[MrExample],
        validation: Sequence[MrExample],
        options: MriClassifyOptions,
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        weights = {None: options.healthy, False: options.benign, True: options.malignant}
        self._weights = torch.tensor([weights[example.malignant] for example in training])

    @property
    def taught_shares(self) -> dict[str, float]:
        """How frequent malignancy is among the answers that training asks for; empty without examples."""
        targets = torch.tensor([self._target(example) for example in self.training])
        asked = ~torch.isnan(targets)
        if not bool(asked.any()):
            return {}
        weights = self._weights[asked]
        return {MALIGNANT: round(float((weights * targets[asked]).sum() / weights.sum()), 4)}

    def build(self) -> MriClassifier:
        """A fresh network."""
        return MriClassifier(self.options.channels, **self.options.network)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, channels, size, size), `target` (batch,) and `features` (batch, 15).

        Targets are 0 or 1, NaN where nothing is asked.
        """
        chosen = torch.multinomial(self._weights, self.options.batch, True, generator=generator).tolist()
        examples = [self.training[number] for number in chosen]
        return {
            "image": torch.stack([self._drawn(generator, example) for example in examples]),
            "target": torch.tensor([self._target(example) for example in examples]),
            "features": torch.from_numpy(np.stack([example.features for example in examples])),
        }

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of malignancy (P4), and beside it that of the features."""
        logits = network(batch["image"])
        opinion = _known_entropy(logits[:, 0], batch["target"])
        return opinion + self.options.features * _known_entropy(logits[:, 1:], batch["features"])

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Scores of the held-out patients.

        `loss`, the mean cross-entropy of malignancy over the slices that show the lesion, as P4's early
        stopping looks at (beside a metastasis a slice may be healthy); per-patient scores, see
        `diagnostic_scores`; and `features_auc`, the mean of `feature_areas`.
        """
        answers = self.answers(network, self.validation)
        slices = [
            (float(value), answer.malignant)
            for example, answer in zip(self.validation, answers, strict=True)
            if answer.malignant is not None
            for number, value in zip(example.slices, answer.slices[:, 0], strict=True)
            if number in example.lesion_slices
        ]
        entropy = [-math.log(max(value if true else 1 - value, 1e-7)) for value, true in slices]
        probabilities, truth, _ = per_patient(answers)
        values, _ = diagnostic_scores(probabilities, truth, threshold=self.options.threshold, resamples=0)
        areas = [area for area in feature_areas(answers, resamples=0)[0].values() if math.isfinite(area)]
        return {
            "loss": float(np.mean(entropy)) if entropy else math.nan,
            **values,
            "features_auc": float(np.mean(areas)) if areas else math.nan,
        }

    def finish(self, network: nn.Module) -> str:
        """Scale the logit of malignancy, where that is wanted; what was found is said.

        A body is as malignant as its worst slice, and malignant examples are drawn more often: without it
        many a benign patient is called malignant by one slice or another.
        """
        if not self.options.calibrated:
            return ""
        asked = [example for example in self.validation if not math.isnan(self._target(example))]
        said = np.array([answer.together[0] for answer in self.answers(network, asked)]).clip(1e-6, 1 - 1e-6)
        truth = np.array([self._target(example) > 0.5 for example in asked], dtype=np.bool_)
        found = platt(np.log(said / (1 - said)), truth)
        if found is None:
            return "too few held-out bodies to calibrate by"
        slope, offset = found
        assert isinstance(network, MriClassifier)
        with torch.no_grad():
            network.malignant.weight.mul_(slope)
            network.malignant.bias.mul_(slope).add_(offset)
        return f"calibrated on {len(asked)} held-out bodies: slope {slope:.3f}, offset {offset:.3f}"

    def answers(self, network: nn.Module, examples: Sequence[MrExample]) -> list[VertebraAnswer]:
        """What a network in evaluation mode says of every vertebra, slice by slice; nothing is jittered."""
        options = self.options
        device = next(network.parameters()).device
        told = []
        for example in examples:
            patches = body_patches(
                example.stacks(options.series).float(),
                torch.from_numpy(example.box).float(),
                example.slices,
                size=options.size,
                margin=options.margin,
                behind=options.behind,
            )
            with torch.inference_mode():
                probabilities = network(patches.to(device)).sigmoid().cpu().double()
            told.append(
                VertebraAnswer(
                    example.patient,
                    example.malignant,
                    example.features.astype(np.float64),
                    probabilities.numpy(),
                    over_slices(probabilities).numpy(),
                )
            )
        return told

    def _target(self, example: MrExample) -> float:
        if example.malignant is None:
            return 0.0 if self.options.healthy_benign else math.nan
        return float(example.malignant)

    def _drawn(self, generator: Generator, example: MrExample) -> Tensor:
        options = self.options
        slices = example.lesion_slices
        middle = slices[int(torch.randint(len(slices), (), generator=generator))]
        box = torch.from_numpy(example.box).float()
        extent = (box[2:] - box[:2]).repeat(2)
        box = box + options.jitter * extent * normal(generator, 4).clamp(-2.5, 2.5)
        center, edge = square_about(box, options.margin, options.behind)
        center = center + options.shift * edge * normal(generator, 2).clamp(-2.5, 2.5)
        # What registration left is the same for all slices of a series.
        off = normal(generator, len(options.series), 2) * (options.registration_mm / example.pixel_mm)
        off = off * torch.tensor([float(name != _OWN) for name in options.series])[:, None]
        angle = math.radians(uniform(generator, -options.degrees, options.degrees))
        zoom = edge / options.size * uniform(generator, *options.scale)
        cosine, sine = zoom * math.cos(angle), zoom * math.sin(angle)
        matrix = torch.tensor([[cosine, -sine], [sine, cosine]])
        images = three_slices(example.stacks(options.series), middle).float()
        if chance(generator, 0.5):
            # Scanners count their slices from either side.
            images = images.reshape(-1, 3, *images.shape[1:]).flip(1).flatten(0, 1)
        centers = center + off.repeat_interleave(3, dim=0)
        return standardised(cut_square(images, centers, matrix, options.size))


def cross_validated(
    examples: Sequence[MrExample],
    fit: Callable[[Sequence[MrExample], Sequence[MrExample]], nn.Module],
    options: MriClassifyOptions,
    *,
    folds: int = 10,
    resamples: int = 1000,
) -> tuple[Values, Intervals, list[VertebraAnswer]]:
    """Scores of patients that the network which judges them never saw (P4: tenfold, by patient).

    P4 stops early by the loss on the very fold that it then reports; here training stops by the loss on
    another one, the next, so that a fold is met for the first time when it is judged.

    Args:
        examples: of all patients.
        fit: trains on its first argument, stops early by its second, and gives the network in evaluation
            mode.
        options: of the task.
        folds: how many; every patient is judged once.
        resamples: of the bootstrap.

    Returns:
        Values and intervals of `diagnostic_scores`, and all answers.

    Raises:
        ValueError: fewer than three folds, or fewer patients than folds.
    """
    patients = patients_of(examples)
    if not 3 <= folds <= len(patients):
        raise ValueError(f"{folds} folds of {len(patients)} patients")
    sick = {example.patient for example in examples if example.malignant}
    # Malignant and benign patients are dealt out in turn: every fold has its share of both.
    dealt = sorted(patients, key=lambda patient: patient not in sick)
    fold_of = {patient: number % folds for number, patient in enumerate(dealt)}
    answers: list[VertebraAnswer] = []
    task = MriClassifyTask([], [], options)
    for fold in range(folds):
        parts: dict[str, list[MrExample]] = {"judged": [], "stopping": [], "training": []}
        for example in examples:
            away = (fold_of[example.patient] - fold) % folds
            parts["judged" if away == 0 else "stopping" if away == 1 else "training"].append(example)
        answers += task.answers(fit(parts["training"], parts["stopping"]), parts["judged"])
    probabilities, truth, _ = per_patient(answers)
    values, intervals = diagnostic_scores(
        probabilities, truth, threshold=options.threshold, resamples=resamples
    )
    return values, intervals, answers


def _known_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy over the targets that are known."""
    known = ~torch.isnan(target)
    each = functional.binary_cross_entropy_with_logits(
        logits, target.nan_to_num().to(logits.dtype), reduction="none"
    )
    return (each * known).sum() / known.sum().clamp(min=1)


def preprocessing_of(options: MriClassifyOptions) -> dict[str, Any]:
    """What a bundle says about the input of its network."""
    return {
        "series": options.series,
        "size": options.size,
        "margin": options.margin,
        "behind": options.behind,
    }


def arguments_of(options: MriClassifyOptions) -> dict[str, Any]:
    """What a bundle says about its network."""
    return {"in_channels": options.channels, **options.network}
