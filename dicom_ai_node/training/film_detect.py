"""radiograph-detect: instances of vertebrae on lateral films, by level and state (P0)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from dicom_ai_node.networks.detector_parts import total_loss
from dicom_ai_node.networks.film_classes import EVERY_VERTEBRA, FRACTURED, DetectClass
from dicom_ai_node.networks.film_detector import FilmDetector
from dicom_ai_node.networks.film_geometry import crop, fitting, into_crop
from dicom_ai_node.networks.film_intensity import film_contrast
from dicom_ai_node.training.augment import normal, uniform
from dicom_ai_node.training.detection_metrics import (
    Instances,
    average_precision,
    box_overlaps,
    image_measures,
    mean_average_precision,
)
from dicom_ai_node.training.film_augment import FilmLook, pose, vary_film
from dicom_ai_node.training.films import Film, FilmVertebra, polygon_mask


@dataclass(frozen=True)
class FilmDetectOptions:
    """Sizes of radiograph-detect.

    Attributes:
        classes: see `networks.film_classes`.
        network: arguments of `FilmDetector` besides the number of classes.
        size: rows and columns that a film is fitted into, as large as it goes.
        visible: a body of which less is in the field is no target.
        degrees, scale, shift: how films are turned, resized and moved (share of the picture).
        batch: films per step (P0 does not say; torchvision's reference takes two per device).
        score: from which on a fracture makes the image positive.
        look: see `FilmLook`.
    """

    classes: tuple[DetectClass, ...] = EVERY_VERTEBRA
    network: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] = (1024, 576)
    visible: float = 0.6
    degrees: float = 10.0
    scale: tuple[float, float] = (0.85, 1.3)
    shift: float = 0.06
    batch: int = 2
    score: float = 0.5
    look: FilmLook = field(default_factory=FilmLook)


class FilmDetectTask:
    """Batches, loss and validation for `training.loop.train`."""

    name = "radiograph-detect"

    def __init__(
        self, training: Sequence[Film], validation: Sequence[Film], options: FilmDetectOptions
    ) -> None:
        self.training, self.validation, self.options = training, validation, options
        self.numbers = {item: number for number, item in enumerate(options.classes, start=1)}

    @property
    def taught_shares(self) -> dict[str, float]:
        """How frequent fractures are among what the training films show; empty without films."""
        shown = [item for film in self.training for item in film.vertebrae if self._number(item) is not None]
        if not shown:
            return {}
        return {FRACTURED: sum(item.fractured for item in shown) / len(shown)}

    def build(self) -> FilmDetector:
        """A fresh network."""
        return FilmDetector(len(self.options.classes), **self.options.network)

    def draw(self, generator: Generator) -> dict[str, Tensor]:
        """A batch: `image` (batch, 1, *size), and of all its instances `boxes` (n, 4), `labels` (n,), `masks`
        (n, *size) and `film` (n,), the place in the batch.
        """
        films = [
            self.training[int(torch.randint(len(self.training), (), generator=generator))]
            for _ in range(self.options.batch)
        ]
        return self._batch([self._drawn(generator, film) for film in films])

    def loss(self, network: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The sum of the detector's losses."""
        targets = []
        for number in range(len(batch["image"])):
            mine = batch["film"] == number
            targets.append({name: batch[name][mine] for name in ("boxes", "labels", "masks")})
        return total_loss(network(batch["image"], targets))

    def validate(self, network: nn.Module) -> dict[str, float]:
        """See `scores`."""
        return self.scores(network, self.validation)

    def scores(self, network: nn.Module, films: Sequence[Film]) -> dict[str, float]:
        """P0's measures: mean average precision of boxes and masks, and of whole images by fractures."""
        return self.scores_of([self.detect(network, film) for film in films], [*map(self.truth, films)])

    def scores_of(self, found: Sequence[Instances], truth: Sequence[Instances]) -> dict[str, float]:
        """As `scores`, of what was found and what is true on each film."""
        numbers = list(self.numbers.values())
        answer = {f"box_{k}": v for k, v in mean_average_precision(found, truth, numbers).items()}
        if all(len(item.masks) == len(item.labels) for item in found):
            masks = mean_average_precision(found, truth, numbers, masks=True)
            answer |= {f"mask_{name}": value for name, value in masks.items()}
        broken = np.array([number for item, number in self.numbers.items() if item.fractured])
        said = [
            bool((np.isin(item.labels, broken) & (item.scores >= self.options.score)).any()) for item in found
        ]
        true = [bool(np.isin(item.labels, broken).any()) for item in truth]
        return answer | {f"image_{name}": value for name, value in image_measures(said, true).items()}

    def precision_of_classes(
        self, found: Sequence[Instances], truth: Sequence[Instances]
    ) -> dict[str, dict[str, float]]:
        """Class -> `box_ap_50`, `box_ap_50_95`, and the same of masks where there are any (P0, table 2).

        Classes that no film shows are left out.
        """
        kinds = {"box": False}
        if all(len(item.masks) == len(item.labels) for item in found):
            kinds["mask"] = True
        numbers = list(self.numbers.values())
        tables = {kind: average_precision(found, truth, numbers, masks=on) for kind, on in kinds.items()}
        answer: dict[str, dict[str, float]] = {}
        for column, item in enumerate(self.numbers):
            if np.isnan(tables["box"][0, column]):
                continue
            answer[item.name] = {
                f"{kind}_{name}": float(value)
                for kind, table in tables.items()
                for name, value in (("ap_50", table[0, column]), ("ap_50_95", table[:, column].mean()))
            }
        return answer

    def measure(self, network: nn.Module, film: Film) -> dict[str, list[float]]:
        """Quantity -> values: per true instance `found`, `class_right` and `overlap`; per film `false`.

        Detections below the score do not count; classes are told apart only in `class_right`.
        """
        return self.measured(self.detect(network, film), self.truth(film))

    def measured(self, found: Instances, truth: Instances) -> dict[str, list[float]]:
        """As `measure`, of what was found and what is true."""
        kept = np.flatnonzero(found.scores >= self.options.score)
        kept = kept[np.argsort(-found.scores[kept], kind="stable")]
        overlaps = box_overlaps(truth.boxes, found.boxes[kept])
        rows: dict[str, list[float]] = {"found": [], "class_right": [], "overlap": []}
        for number, values in zip(truth.labels, overlaps, strict=True):
            best = int(values.argmax()) if values.size else 0
            seen = bool(values.size and values[best] >= 0.5)
            rows["found"].append(float(seen))
            rows["overlap"].append(float(values[best]) if seen else float("nan"))
            # The surest detection of this place names it.
            here = np.flatnonzero(values >= 0.5)
            rows["class_right"].append(
                float(found.labels[kept[here[0]]] == number) if here.size else float("nan")
            )
        false = int((overlaps.max(axis=0, initial=0.0) < 0.5).sum())
        return rows | {"false": [float(false)]}

    def detect(self, network: nn.Module, film: Film) -> Instances:
        """What the network finds on a film, in pixels of the fitted picture (see `fitting`)."""
        center, matrix = fitting(film.pixels.shape, self.options.size)
        image = film_contrast(crop(film.pixels, center, matrix, self.options.size))
        device = next(network.parameters()).device
        with torch.inference_mode():
            (answer,) = network(image[None, None].to(device))
        boxes = answer["boxes"].cpu().double().numpy()
        masks = answer.get("masks")
        return Instances(
            labels=answer["labels"].cpu().numpy(),
            boxes=boxes[:, [1, 0, 3, 2]],
            scores=answer["scores"].cpu().double().numpy(),
            masks=() if masks is None else list((masks[:, 0] >= 0.5).cpu().numpy()),
        )

    def truth(self, film: Film) -> Instances:
        """What is true on a film, in pixels of the fitted picture."""
        center, matrix = fitting(film.pixels.shape, self.options.size)
        boxes, labels, masks = self._targets(film, center, matrix)
        return Instances(
            labels=labels.numpy(),
            boxes=boxes.double().numpy()[:, [1, 0, 3, 2]],
            masks=list(masks.bool().numpy()),
        )

    def _drawn(self, generator: Generator, film: Film) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        options = self.options
        center, matrix = fitting(film.pixels.shape, options.size)
        matrix = matrix @ pose(generator, options.degrees) * uniform(generator, *options.scale)
        shift = normal(generator, 2).clamp(-2, 2) * options.shift * torch.tensor(options.size)
        center = center + matrix @ shift
        image = film_contrast(crop(film.pixels, center, matrix, options.size))
        return vary_film(generator, image, options.look), self._targets(film, center, matrix)

    def _targets(self, film: Film, center: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = self.options.size
        boxes, labels, masks = [], [], []
        for vertebra in film.vertebrae:
            number = self._number(vertebra)
            if number is None:
                continue
            outline = into_crop(torch.from_numpy(vertebra.outline).float(), center, matrix, size)
            mask = polygon_mask(outline.numpy(), size)
            area = abs(_signed_area(outline))
            # Moved out of the picture: no longer a target either.
            if area < 4 or int(mask.sum()) < self.options.visible * area:
                continue
            rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            labels.append(number)
            masks.append(torch.from_numpy(mask))
        return (
            torch.tensor(np.array(boxes, dtype=np.float32).reshape(-1, 4)),
            torch.tensor(labels, dtype=torch.int64),
            torch.stack(masks).to(torch.uint8) if masks else torch.zeros(0, *size, dtype=torch.uint8),
        )

    def _number(self, vertebra: FilmVertebra) -> int | None:
        if vertebra.visible < self.options.visible:
            return None
        return self.numbers.get(DetectClass(vertebra.level, vertebra.fractured))

    @staticmethod
    def _batch(parts: Sequence[tuple[Tensor, tuple[Tensor, Tensor, Tensor]]]) -> dict[str, Tensor]:
        counts = torch.tensor([len(labels) for _, (_, labels, _) in parts])
        return {
            "image": torch.stack([image for image, _ in parts])[:, None],
            "boxes": torch.cat([boxes for _, (boxes, _, _) in parts]),
            "labels": torch.cat([labels for _, (_, labels, _) in parts]),
            "masks": torch.cat([masks for _, (_, _, masks) in parts]),
            "film": torch.repeat_interleave(torch.arange(len(parts)), counts),
        }


def _signed_area(outline: Tensor) -> float:
    row, column = outline[:, 0], outline[:, 1]
    return float((row * column.roll(-1) - column * row.roll(-1)).sum()) / 2
