"""radiograph-acuity (P1) and radiograph-view: classifiers of crops and of whole films."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from dicom_ai_node.networks.film_classes import HEALTHY
from dicom_ai_node.networks.film_classifiers import ResNet18, ViewNetwork
from dicom_ai_node.networks.film_geometry import box_crop, crop, fitting
from dicom_ai_node.networks.film_intensity import film_contrast
from dicom_ai_node.training.augment import chance, normal, uniform
from dicom_ai_node.training.classification_metrics import area_under_roc, classification_scores
from dicom_ai_node.training.film_augment import FilmLook, collimated, pose, vary_film
from dicom_ai_node.training.film_folders import leave_one_patient_out
from dicom_ai_node.training.films import ACUITIES, VIEWS, Film, FilmVertebra

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FilmAcuityOptions:
    """Sizes of radiograph-acuity.

    Attributes:
        size: of the crop (P1: 224x224); boxes are stretched to it as P1's are.
        margin: edge of the crop over the edge of the body's box. P1's boxes were drawn by hand, not
            about the body alone; how far beyond it, the paper does not say.
        jitter: standard deviation of each edge of the box, as a share of the box, as hands differ.
        degrees: of turning (P1: "rotations at random angles").
        mirrored, upside_down: share of crops flipped (P1: horizontal and vertical flips).
        batch: crops per step.
        dropout: before the last layer.
        visible: a body of which less is in the field is neither taught nor judged.
        healthy: share of bodies that are not broken. P1 classifies fractures that a reader has found; without
            one, the network is asked that too and has a fourth class.
        look: see `FilmLook`.
    """

    size: tuple[int, int] = (224, 224)
    margin: float = 1.2
    jitter: float = 0.05
    degrees: float = 180.0
    mirrored: float = 0.5
    upside_down: float = 0.5
    batch: int = 16
    dropout: float = 0.0
    visible: float = 0.8
    healthy: float = 0.0
    look: FilmLook = field(default_factory=FilmLook)

    @property
    def classes(self) -> tuple[str, ...]:
        """What the network tells apart."""
        return (*ACUITIES, HEALTHY) if self.healthy else ACUITIES


class FilmAcuityTask:
    """Crops, loss and validation for `training.loop.train`."""

    name = "radiograph-acuity"

    def __init__(
        self, training: Sequence[Film], validation: Sequence[Film], options: FilmAcuityOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        self.pairs = [
            _as_often(
                [(film, item) for film in training for item in self._judged(film) if item.acuity == acuity]
            )
            for acuity in ACUITIES
        ]
        self.healthy = [
            (film, item) for film in training for item in self._visible(film) if not item.fractured
        ]

    def build(self) -> ResNet18:
        """A fresh network."""
        return ResNet18(len(self.options.classes), self.options.dropout)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), 0 to 1, and `target` (batch,); all ages equally often."""
        known = [number for number, pairs in enumerate(self.pairs) if pairs]
        images, targets = [], []
        for _ in range(self.options.batch):
            if self.healthy and self.options.healthy and chance(generator, self.options.healthy):
                number, pairs = len(ACUITIES), self.healthy
            else:
                number = known[int(torch.randint(len(known), (), generator=generator))]
                pairs = self.pairs[number]
            film, vertebra = pairs[int(torch.randint(len(pairs), (), generator=generator))]
            images.append(self._drawn(generator, film, vertebra))
            targets.append(number)
        return {"image": torch.stack(images)[:, None], "target": torch.tensor(targets)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy (P1, "Establishment of deep learning model")."""
        return functional.cross_entropy(network(batch["image"]), batch["target"])

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Accuracy and areas under the ROC over the held-out fractures; see `classification_scores`.

        With `healthy` also `auc_fractured`, over all held-out bodies.
        """
        probabilities, truth, groups = self.answers(network, self.validation)
        scores = {"accuracy": float("nan")}
        if len(truth):
            scores = classification_scores(probabilities, truth, ACUITIES, groups=groups, resamples=1)[0]
        if self.options.healthy:
            scores["auc_fractured"] = self._auc_fractured(network)
        return scores

    def _auc_fractured(self, network: nn.Module) -> float:
        seen = [(film, item) for film in self.validation for item in self._visible(film)]
        broken = np.array([item.fractured for _, item in seen], dtype=np.bool_)
        if not broken.any() or broken.all():
            return float("nan")
        said = np.array([1 - self.said(network, film, item.box)[-1] for film, item in seen])
        return area_under_roc(said, broken)

    def measure(self, network: nn.Module, film: Film) -> dict[str, list[float]]:
        """Quantity -> one value per fracture of known age: `right`, and `right_<class>` for its class."""
        probabilities, truth, _ = self.answers(network, [film])
        rows: dict[str, list[float]] = {"right": [], **{f"right_{name}": [] for name in ACUITIES}}
        for values, number in zip(probabilities, truth, strict=True):
            right = float(values.argmax() == number)
            rows["right"].append(right)
            rows[f"right_{ACUITIES[number]}"].append(right)
        return rows

    def answers(
        self, network: nn.Module, films: Sequence[Film]
    ) -> tuple[Floats, npt.NDArray[np.int64], list[str]]:
        """Probabilities (n, 3), class numbers (n,) and patients of all fractures whose age is known."""
        probabilities, numbers, groups = [], [], []
        for film in films:
            for vertebra in self._judged(film):
                probabilities.append(self.probabilities(network, film, vertebra.box))
                numbers.append(ACUITIES.index(str(vertebra.acuity)))
                groups.append(film.group)
        return np.array(probabilities).reshape(-1, len(ACUITIES)), np.array(numbers, dtype=np.int64), groups

    def probabilities(self, network: nn.Module, film: Film, box: Floats) -> Floats:
        """Of `ACUITIES`, shape (3,), given that the vertebra in a box is broken."""
        ages = self.said(network, film, box)[: len(ACUITIES)]
        answer: Floats = ages / ages.sum()
        return answer

    def said(self, network: nn.Module, film: Film, box: Floats) -> Floats:
        """Probability of every class of the network, shape (classes,), for the vertebra in a box."""
        center, matrix = self._crop(film, box)
        image = film_contrast(crop(film.pixels, center, matrix, self.options.size))
        device = next(network.parameters()).device
        with torch.inference_mode():
            logits = network(image[None, None].to(device))
        answer: Floats = logits[0].detach().softmax(dim=0).cpu().double().numpy()
        return answer

    def _judged(self, film: Film) -> list[FilmVertebra]:
        return [item for item in self._visible(film) if item.acuity is not None and item.fractured]

    def _visible(self, film: Film) -> list[FilmVertebra]:
        """Bodies that have six points (the sacrum is no body to break) or are called broken."""
        return [
            item
            for item in film.vertebrae
            if item.visible >= self.options.visible and (item.six_points is not None or item.fractured)
        ]

    def _drawn(self, generator: Generator, film: Film, vertebra: FilmVertebra) -> Tensor:
        options = self.options
        box = vertebra.box
        extent = np.tile(box[2:] - box[:2], 2)
        edges = box + options.jitter * extent * normal(generator, 4).clamp(-2.5, 2.5).numpy()
        center, matrix = self._crop(film, edges)
        turn = pose(generator, options.degrees, mirrored=options.mirrored, upside_down=options.upside_down)
        # The crop is stretched to a square first and turned then, as a published crop would be.
        matrix = matrix @ turn * uniform(generator, 0.92, 1.08)
        image = film_contrast(crop(film.pixels, center, matrix, options.size))
        return vary_film(generator, image, options.look)

    def _crop(self, film: Film, box: Floats) -> tuple[Tensor, Tensor]:
        return box_crop(box, self.options.margin, self.options.size, film.pixels.shape)


def _as_often(pairs: list[tuple[Film, FilmVertebra]]) -> list[tuple[Film, FilmVertebra]]:
    """Fractures of patients so often that they are drawn as often as those of phantoms."""
    real = [pair for pair in pairs if pair[0].patient]
    made = [pair for pair in pairs if not pair[0].patient]
    return real * max(1, round(len(made) / len(real))) + made if real else made


def leave_one_out(
    films: Sequence[Film],
    fit: Callable[[Sequence[Film]], nn.Module],
    options: FilmAcuityOptions,
    *,
    resamples: int = 1000,
) -> tuple[dict[str, float], dict[str, tuple[float, float]], Floats]:
    """Scores of films that the network which reads them never saw, nor any other film of that patient.

    Args:
        films: to be read; what every fold also trains on (phantoms) is the business of `fit`.
        fit: trains on the films it is given and gives the network in evaluation mode.
        options: of the task.
        resamples: of the bootstrap, over patients.

    Returns:
        Values and intervals as `classification_scores`, and the probabilities in the order of the folds.
    """
    parts, numbers, groups = [], [], []
    for training, held_out in leave_one_patient_out(films):
        probabilities, truth, owners = FilmAcuityTask([], [], options).answers(fit(training), held_out)
        parts.append(probabilities)
        numbers.append(truth)
        groups += owners
    together, truth = np.concatenate(parts), np.concatenate(numbers)
    values, intervals = classification_scores(together, truth, ACUITIES, groups=groups, resamples=resamples)
    return values, intervals, together


@dataclass(frozen=True)
class FilmViewOptions:
    """Sizes of radiograph-view; the whole film is fitted into `size`, its border repeated around it.

    `turned` is the share of films that lie on their side or on their head: those are "other", so that the
    network tells which way is up. `collimated` is the share of which a part is left unexposed, whatever they
    show: else a narrow field would mean a spine.
    """

    size: tuple[int, int] = (128, 128)
    channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    degrees: float = 15.0
    scale: tuple[float, float] = (0.7, 1.15)
    turned: float = 0.2
    collimated: float = 0.4
    batch: int = 16
    look: FilmLook = field(default_factory=lambda: FilmLook(inverted=0.3))


class FilmViewTask:
    """Films, loss and validation for `training.loop.train`."""

    name = "radiograph-view"

    def __init__(
        self, training: Sequence[Film], validation: Sequence[Film], options: FilmViewOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        self.by_view = [[film for film in training if film.view == view] for view in VIEWS]

    def build(self) -> ViewNetwork:
        """A fresh network."""
        return ViewNetwork(len(VIEWS), self.options.channels)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), 0 to 1, and `target` (batch,); all views equally often."""
        known = [number for number, films in enumerate(self.by_view) if films]
        images, targets = [], []
        for _ in range(self.options.batch):
            number = known[int(torch.randint(len(known), (), generator=generator))]
            films = self.by_view[number]
            film = films[int(torch.randint(len(films), (), generator=generator))]
            center, matrix = fitting(film.pixels.shape, self.options.size)
            matrix = matrix @ pose(generator, self.options.degrees) * uniform(generator, *self.options.scale)
            image = film_contrast(crop(film.pixels, center, matrix, self.options.size))
            if chance(generator, self.options.collimated):
                image = collimated(generator, image)
            if chance(generator, self.options.turned):
                quarters = 1 + int(torch.randint(3, (), generator=generator))
                image, number = torch.rot90(image, quarters), VIEWS.index("other")
            images.append(vary_film(generator, image, self.options.look))
            targets.append(number)
        return {"image": torch.stack(images)[:, None], "target": torch.tensor(targets)}

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy."""
        return functional.cross_entropy(network(batch["image"]), batch["target"])

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Share of held-out films whose view is told right."""
        right = [self.measure(network, film)["right"][0] for film in self.validation]
        return {"accuracy": float(np.mean(right)) if right else float("nan")}

    def measure(self, network: nn.Module, film: Film) -> dict[str, list[float]]:
        """Whether the view of a film is told right, and the probability of the true one."""
        values = self.probabilities(network, film)
        number = VIEWS.index(film.view)
        return {"right": [float(values.argmax() == number)], "probability": [float(values[number])]}

    def probabilities(self, network: nn.Module, film: Film) -> Floats:
        """Of `VIEWS`, shape (4,)."""
        center, matrix = fitting(film.pixels.shape, self.options.size)
        image = film_contrast(crop(film.pixels, center, matrix, self.options.size))
        device = next(network.parameters()).device
        with torch.inference_mode():
            logits = network(image[None, None].to(device))
        answer: Floats = logits[0].detach().softmax(dim=0).cpu().double().numpy()
        return answer
