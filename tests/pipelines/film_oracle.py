"""Networks that know the truth of a drawn film, and the pipeline of radiographs around them.

The stand-ins see the picture that the real networks would see and answer from the film's truth, so that
everything between the networks is what runs in the node.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.film_spacing import FilmSpacing
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.imaging.volume import SliceRef
from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.bundle import (
    Bundle,
    FilmPreprocessing,
    Metadata,
    NetworkDefinition,
    WeightsFile,
)
from dicom_ai_node.networks.column_detector import HEATMAP_STRIDE, ColumnAnswer
from dicom_ai_node.networks.film_bodies import OFFSET_UNIT
from dicom_ai_node.networks.film_classes import EVERY_VERTEBRA, DetectClass
from dicom_ai_node.networks.film_geometry import crop, fitting, into_crop, square_crop
from dicom_ai_node.networks.film_points import LOOKS, MIRROR
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps
from dicom_ai_node.networks.mscn import Heatmaps
from dicom_ai_node.pipelines.radiograph import BUNDLES, RadiographPipeline
from dicom_ai_node.report import Analysis
from dicom_ai_node.training.films import Film, FilmVertebra, polygon_mask
from dicom_ai_node.training.localise import TAUGHT_LEVELS

SIZE = (200, 120)
LEVELS = (Level.T12, Level.L1, Level.L2, Level.L3, Level.L4)


def column(*, crushed: Level | None = Level.L2, facing: int = 1) -> Film:
    """Five bodies, one above the other, one of them wedged; the front is to the left (1) or right (-1)."""
    vertebrae = []
    for number, level in enumerate(LEVELS):
        top, left = 40.0 + 64 * number, 70.0 + 6 * number
        low = 44.0 * (0.65 if level is crushed else 1.0)
        points = np.array(
            [
                [top + 44 - low, left], [top + 44, left],
                [top + (44 - low) / 2, left + 32], [top + 44, left + 32],
                [top, left + 64], [top + 44, left + 64],
            ]
        )  # fmt: skip
        if facing < 0:
            points[:, 1] = 2 * (left + 32) - points[:, 1]
        outline = points[[0, 2, 4, 5, 3, 1]]
        broken = level is crushed
        vertebrae.append(
            FilmVertebra(level, outline, points, broken, 2 if broken else 0, "wedge" if broken else "none")
        )
    shape = (400, 240)
    pixels = np.full(shape, 0.3, dtype=np.float32)
    for vertebra in vertebrae:
        pixels[polygon_mask(vertebra.outline, shape)] = 0.8
    pixels[:28] = 0.0
    return Film("drawn", pixels, 0.55, tuple(vertebrae))


@dataclass
class Oracle:
    """What the stand-ins answer from."""

    film: Film
    age: tuple[float, float, float] = (0.1, 0.7, 0.2)
    sees_healthy: bool = False
    tells_apart: bool = False
    broken: float = 0.9
    unsure: float = 0.0
    unsure_of: tuple[Level, ...] = LEVELS
    sure: float = 6.0
    seen: tuple[Level, ...] = LEVELS
    drawn: tuple[Level, ...] = LEVELS
    lateral: Callable[[Tensor], bool] | None = None
    known: Callable[[Tensor], float] = lambda _picture: 1.0
    classes: tuple[DetectClass, ...] = EVERY_VERTEBRA
    draws: bool = True


class View(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> Tensor:
        # The dark stripe of the drawn film tells where up is.
        picture = x[0, 0]
        sides = [picture[1], picture[:, -2], picture[-2], picture[:, 1]]
        darkest = int(np.argmin([float(side.mean()) for side in sides]))
        upright = darkest == 0 if self.oracle.lateral is None else self.oracle.lateral(picture)
        return torch.tensor([[self.oracle.sure if upright else -6.0, 0.0, -3.0, 1.0]])


class Detector(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
        film, size = self.oracle.film, (x.shape[2], x.shape[3])
        center, matrix = fitting(film.pixels.shape, size)
        boxes, labels, scores, masks = [], [], [], []
        for item in film.vertebrae:
            if item.level not in self.oracle.seen:
                continue
            outline = into_crop(torch.from_numpy(item.outline).float(), center, matrix, size)
            low, high = outline.amin(dim=0), outline.amax(dim=0)
            share = self.oracle.broken if item.fractured else 1 - self.oracle.broken
            for broken, score in ((True, share), (False, 1 - share)):
                if DetectClass(item.level, broken) not in self.oracle.classes or score < 0.05:
                    continue
                boxes.append([float(low[1]), float(low[0]), float(high[1]) + 1, float(high[0]) + 1])
                labels.append(1 + self.oracle.classes.index(DetectClass(item.level, broken)))
                scores.append(score)
                masks.append(torch.from_numpy(polygon_mask(outline.numpy(), size)).float()[None])
        answer = {
            "boxes": torch.tensor(boxes).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores),
        }
        if self.oracle.draws:
            answer["masks"] = torch.stack(masks) if masks else torch.zeros(0, 1, *size)
        return [answer]


CUT: list[tuple[Tensor, Tensor]] = []
"""(center, matrix) of the crops that were cut out of a film, the last one at the end."""


@pytest.fixture
def crops_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that sees parts of a film is told where they lie."""

    def known(pixels: Any, center: Tensor, matrix: Tensor, size: tuple[int, int]) -> Tensor:
        CUT[:] = [(center, matrix)]
        return crop(pixels, center, matrix, size)

    monkeypatch.setattr(networks, "crop", known)


class Localiser(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> ColumnAnswer:
        size = (x.shape[2], x.shape[3])
        center, matrix = CUT[-1]
        places = torch.full((1, len(TAUGHT_LEVELS), 2), float("nan"))
        body, offset = torch.full((1, *size), -6.0), torch.zeros(1, 2, *size)
        for item in self.oracle.film.vertebrae:
            middle = torch.from_numpy((item.box[:2] + item.box[2:]) / 2).float()
            place = into_crop(middle[None], center, matrix, size)[0]
            places[0, TAUGHT_LEVELS.index(item.level)] = place
            if item.level not in self.oracle.drawn:
                continue
            outline = into_crop(torch.from_numpy(item.outline).float(), center, matrix, size)
            where = torch.from_numpy(polygon_mask(outline.numpy(), size)).nonzero()
            body[0, where[:, 0], where[:, 1]] = 4.0
            offset[0, :, where[:, 0], where[:, 1]] = ((place - where) / OFFSET_UNIT).T
        small = (size[0] // HEATMAP_STRIDE, size[1] // HEATMAP_STRIDE)
        maps = gaussian_heatmaps((places - (HEATMAP_STRIDE - 1) / 2) / HEATMAP_STRIDE, small, 1.3)
        return ColumnAnswer(body, offset, maps * self.oracle.known(x[0, 0]))


class Points(nn.Module):
    """Answers for crops in the order in which the pipeline asks: head to tail."""

    def __init__(self, oracle: Oracle, margin: float, size: tuple[int, int]) -> None:
        super().__init__()
        self.oracle, self.margin, self.size = oracle, margin, size
        # As a network that has not understood a body it sees something else at every look.
        self.looks = itertools.cycle(zip((torch.eye(2), MIRROR, *LOOKS), (0, 0, 1, -1), strict=True))

    def forward(self, x: Tensor) -> Heatmaps:
        places = []
        turn, sign = next(self.looks)
        for item in self.oracle.film.vertebrae[: len(x)]:
            assert item.six_points is not None
            center, matrix = square_crop(item.box, self.margin, self.size)
            points = torch.from_numpy(item.six_points).float()
            unsure = self.oracle.unsure if item.level in self.oracle.unsure_of else 0.0
            places.append(into_crop(points, center, matrix @ turn, self.size) + sign * unsure)
        maps = gaussian_heatmaps(torch.stack(places), self.size, 2.0)
        return Heatmaps(maps, maps, maps)


class Acuity(nn.Module):
    def __init__(self, oracle: Oracle) -> None:
        super().__init__()
        self.oracle = oracle

    def forward(self, x: Tensor) -> Tensor:
        age = torch.tensor(self.oracle.age)
        if not self.oracle.sees_healthy:
            return age.log().expand(len(x), -1)
        said = []
        for item in self.oracle.film.vertebrae[: len(x)]:
            sound = self.oracle.tells_apart and not item.fractured
            ages = age * (0.05 if sound else 1.0)
            said.append(torch.cat([ages, 1 - ages.sum()[None]]))
        return torch.stack(said).log()


def pipeline(oracle: Oracle) -> RadiographPipeline:
    crops = FilmPreprocessing(size=(96, 96), margin=1.7, marker_sigma=9.0)
    stand_ins: Mapping[str, tuple[nn.Module, FilmPreprocessing, tuple[str, ...]]] = {
        "radiograph-view": (
            View(oracle), FilmPreprocessing(size=(64, 64)),
            ("lateral-spine", "frontal-spine", "chest", "other"),
        ),
        "radiograph-detect": (
            Detector(oracle), FilmPreprocessing(size=SIZE), tuple(item.name for item in oracle.classes)
        ),
        "radiograph-localise": (
            Localiser(oracle), FilmPreprocessing(size=SIZE), tuple(level.value for level in TAUGHT_LEVELS)
        ),
        "radiograph-points": (Points(oracle, 1.7, (96, 96)), crops, ()),
        "radiograph-acuity": (
            Acuity(oracle), FilmPreprocessing(size=(32, 32), margin=1.2),
            ("acute", "chronic", "pathologic", *(("healthy",) if oracle.sees_healthy else ())),
        ),
    }  # fmt: skip
    assert tuple(stand_ins) == BUNDLES
    return RadiographPipeline({name: bundle(name, *parts) for name, parts in stand_ins.items()})


def bundle(
    name: str, network: nn.Module, preprocessing: FilmPreprocessing, channels: tuple[str, ...]
) -> Bundle:
    metadata = Metadata(
        name=name,
        version="1",
        task=name,
        description="stand-in",
        authors="",
        license="",
        intended_use="",
        training_data="",
        trained_on="cpu",
        rebuild="",
        output_channels=channels,
        network=NetworkDefinition(architecture="MSCN", arguments={}),
        preprocessing=preprocessing,
        metrics={},
        weights=(WeightsFile(file="weights.safetensors", sha256="0" * 64),),
        device_uid="2.25.1",
    )
    return Bundle(metadata, network, torch.device("cpu"))


def radiograph(film: Film, **changes: Any) -> Radiograph:
    pixels: npt.NDArray[np.float32] = np.ascontiguousarray(film.pixels)
    instance = SliceRef("1.2.840.10008.5.1.4.1.1.1.1", "1.2.9", 1, Path("film.dcm"))
    plain = Radiograph(pixels, instance, "1.2", "1.3", "DX", FilmSpacing(0.55, 0.55, "fiducial"), None)
    return replace(plain, **changes)


def by_level(analysis: Analysis) -> dict[Level, Any]:
    return {item.level: item for item in analysis.report}
