"""A drawn spine on MR: bodies whose signal tells their level, on any grid, and networks that know as much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from dicom_ai_node.anatomy import LEVELS, Level, verse_label
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.inference.bundle import Bundle, Metadata, MrPreprocessing, NetworkDefinition, WeightsFile
from dicom_ai_node.networks.column_detector import HEATMAP_STRIDE, ColumnAnswer
from dicom_ai_node.networks.heatmaps import gaussian_heatmaps
from dicom_ai_node.networks.mr_columns import OFFSET_UNIT_MM
from dicom_ai_node.networks.mr_intensity import PERCENTILES
from dicom_ai_node.networks.mscn import Heatmaps
from dicom_ai_node.report import SIX_POINT_NAMES
from dicom_ai_node.training.localise import TAUGHT_LEVELS

Floats = npt.NDArray[np.float64]

FAT, SOFT, FIRST, STEP = 1000.0, 60.0, 250.0, 24.0
"""Signal: the brightest, what lies between bodies, the uppermost level's, and from one level to the next."""

UPRIGHT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Axes (as columns) of slices to the left, rows foot-ward, columns back-ward."""


@dataclass(frozen=True)
class DrawnBody:
    """An upright block, its front lower by a share; millimetres in patient LPS."""

    level: Level
    center: Floats
    height: float = 26.0
    depth: float = 32.0
    width: float = 40.0
    wedge: float = 0.0

    def holds(self, points: Floats) -> npt.NDArray[np.bool_]:
        """Which of the points, shape (..., 3), lie in it."""
        left, back, up = np.moveaxis(points - self.center, -1, 0)
        front = (back + self.depth / 2) / self.depth
        half = self.height / 2 * (1 - self.wedge * (1 - front))
        return (np.abs(left) <= self.width / 2) & (np.abs(back) <= self.depth / 2) & (np.abs(up) <= half)


def column(levels: Sequence[Level], gap_mm: float = 8.0, **wedges: float) -> list[DrawnBody]:
    """Bodies of these levels one above the other about the origin; lower ones lie further back."""
    bodies, up = [], 0.0
    for number, level in enumerate(levels):
        middle = np.array([0.0, 1.5 * number, up - 13.0])
        bodies.append(DrawnBody(level, middle, wedge=wedges.get(level.value, 0.0)))
        up -= 26.0 + gap_mm
    centre = np.mean([body.center for body in bodies], axis=0)
    return [replace(body, center=body.center - centre) for body in bodies]


def drawn_volume(
    bodies: Sequence[DrawnBody],
    *,
    axes: Floats = UPRIGHT,
    spacing_mm: tuple[float, float, float] = (4.0, 1.5, 1.5),
    size_mm: tuple[float, float, float] = (60.0, 290.0, 150.0),
    center_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """The bodies as a series, and their labels on its grid.

    Args:
        bodies: what is drawn.
        axes: directions of the volume's axes, as columns.
        spacing_mm, size_mm: of the volume, along its axes.
        center_mm: its middle.
    """
    shape = tuple(round(size / step) for size, step in zip(size_mm, spacing_mm, strict=True))
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing_mm)
    affine[:3, 3] = np.array(center_mm) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    signal = np.full(shape, SOFT)
    # Fat behind and air in front: they set what is black and what is white.
    back = points[..., 1] - center_mm[1]
    signal[back > 0.4 * np.ptp(points[..., 1])] = FAT
    signal[back < -0.42 * np.ptp(points[..., 1])] = 0.0
    labels = np.zeros(shape, dtype=np.uint8)
    for body in bodies:
        inside = body.holds(points)
        signal[inside] = FIRST + STEP * LEVELS.index(body.level)
        labels[inside] = verse_label(body.level)
    refs = tuple(
        SliceRef("1.2.840.10008.5.1.4.1.1.4", f"1.2.{k + 1}", 1, Path("drawn")) for k in range(shape[0])
    )
    volume = Volume(signal.round().astype(np.int16), affine, refs, "1.2", "1.3", "1.4", "MR")
    return volume, labels


class KnowingDetector(nn.Module):
    """Answers as a perfect mri-detect would, from the signal of the middle slices."""

    multiple = 16

    def __init__(self, spacing_mm: float, unseen: Sequence[Level] = ()) -> None:
        super().__init__()
        self.spacing_mm, self.unseen = spacing_mm, unseen

    def forward(self, x: Tensor) -> ColumnAnswer:
        """See `ColumnAnswer`."""
        answers = [self._slice(image) for image in x[:, 1].numpy()]
        return ColumnAnswer(*(torch.stack(items) for items in zip(*answers, strict=True)))

    def _slice(self, image: npt.NDArray[np.float32]) -> tuple[Tensor, Tensor, Tensor]:
        levels = _levels_of(image)
        body = torch.full(image.shape, -7.0)
        offset = torch.zeros(2, *image.shape)
        size = [length // HEATMAP_STRIDE for length in image.shape]
        maps = torch.zeros(len(TAUGHT_LEVELS), *size)
        middles = {}
        for number in np.unique(levels[levels >= 0]):
            inside = levels == number
            if inside.sum() * self.spacing_mm**2 < 60 or LEVELS[number] in self.unseen:
                continue
            rows, columns = np.nonzero(inside)
            if np.ptp(columns) * self.spacing_mm < 16:
                # A slice along a body's side mixes it with what lies beside: such signal is another level's.
                continue
            middles[number] = rows.mean()
            place = torch.tensor([(rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2])
            body[inside] = 7.0
            where = torch.from_numpy(np.argwhere(inside)).T
            offset[:, rows, columns] = ((place[:, None] - where) * self.spacing_mm / OFFSET_UNIT_MM).float()
            coarse = (place - (HEATMAP_STRIDE - 1) / 2) / HEATMAP_STRIDE
            peak = gaussian_heatmaps(coarse[None, None], size, 7.0 / self.spacing_mm / HEATMAP_STRIDE)[0, 0]
            # A thirteenth thoracic vertebra has no map of its own: it looks like both of its neighbours.
            split = LEVELS[number] is Level.T13
            names = (Level.T12, Level.L1) if split else (LEVELS[number],)
            for level in names if set(names) <= set(TAUGHT_LEVELS) else ():
                index = TAUGHT_LEVELS.index(level)
                maps[index] = torch.maximum(maps[index], peak * (0.5 if split else 1.0))
        # The picture stands upright: lower levels lie further down.
        assert list(middles.values()) == sorted(middles.values())
        return body, offset, maps


def _levels_of(image: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Index of the level that each pixel shows, -1 for none; edges take the level beside them."""
    signal = FAT * ((image + 1) / 2) ** 2
    number = np.rint((signal - FIRST) / STEP).astype(np.int64)
    sure = (np.abs(signal - FIRST - STEP * number) < 4) & (number >= 0) & (number < len(LEVELS))
    pieces = np.full(image.shape, -1, dtype=np.int64)
    for level in np.unique(number[sure]):
        # What is too thin for a body is a mixture at an edge.
        pieces[ndimage.binary_opening(sure & (number == level), np.ones((5, 5)))] = level
    if (pieces >= 0).any():
        far, (rows, columns) = ndimage.distance_transform_edt(pieces < 0, return_indices=True)
        inner = pieces[rows, columns]
        half = (SOFT + FIRST + STEP * inner) / 2
        edge = (far <= 1.5) & (signal >= half) & (signal <= FIRST + STEP * len(LEVELS))
        pieces[edge] = inner[edge]
    return pieces


class KnowingPoints(nn.Module):
    """Answers as a perfect mri-points would, from the mask beside the signal."""

    def forward(self, x: Tensor) -> Heatmaps:
        """Heatmaps of the six points."""
        points = torch.stack([torch.from_numpy(_points_of(mask)) for mask in x[:, 1].numpy()])
        maps = gaussian_heatmaps(points, tuple(x.shape[2:]), 2.0)
        return Heatmaps(maps, maps, maps)


def _points_of(mask: npt.NDArray[np.float32]) -> Floats:
    inside = mask >= 0.5
    columns = np.nonzero(inside.any(axis=0))[0]
    points = []
    for share in (0.06, 0.5, 0.94):
        column = round(columns[0] + share * (columns[-1] - columns[0]))
        rows = np.nonzero(inside[:, column])[0]
        for outer, inner in ((rows[0] - 1, rows[0]), (rows[-1] + 1, rows[-1])):
            low, high = mask[outer, column], mask[inner, column]
            points.append([outer + (inner - outer) * (0.5 - low) / (high - low), column])
    return np.array(points)


def knowing_bundle(name: str, network: nn.Module, preprocessing: MrPreprocessing) -> Bundle:
    """A stand-in as a bundle."""
    channels = SIX_POINT_NAMES if name == "mri-points" else tuple(level.value for level in TAUGHT_LEVELS)
    metadata = Metadata(
        name=name, version="0", task=name, description="", authors="", license="", intended_use="",
        training_data="", trained_on="", rebuild="", output_channels=channels,
        network=NetworkDefinition(architecture="ColumnDetector", arguments={}), preprocessing=preprocessing,
        metrics={}, weights=(WeightsFile(file="weights.safetensors", sha256=64 * "0"),), device_uid="2.25.1",
    )  # fmt: skip
    return Bundle(metadata, network, torch.device("cpu"))


def knowing_bundles(spacing_mm: float = 1.5, unseen: Sequence[Level] = ()) -> tuple[Bundle, Bundle]:
    """mri-detect and mri-points that know the truth."""
    return (
        knowing_bundle(
            "mri-detect",
            KnowingDetector(spacing_mm, unseen),
            MrPreprocessing(spacing_mm=spacing_mm, percentiles=PERCENTILES),
        ),
        knowing_bundle(
            "mri-points",
            KnowingPoints(),
            MrPreprocessing(spacing_mm=0.7, percentiles=PERCENTILES, size=(80, 80)),
        ),
    )
