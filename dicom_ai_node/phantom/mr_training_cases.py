"""Labelled MR series for training: a new person, a new scan, any sequence, on an upright sagittal grid.

Pure functions of a seed, so that a pool of cases can be made by as many processes as there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.mr import MrAcquisition, render_mr
from dicom_ai_node.phantom.mr_sequence import SeriesKind
from dicom_ai_node.phantom.mr_study import SAGITTAL, Region, sample_mr_series, stack_affine
from dicom_ai_node.phantom.painting import paint_column
from dicom_ai_node.phantom.painting_solids import Canvas
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine
from dicom_ai_node.phantom.tissues import Marrow, Matter
from dicom_ai_node.phantom.truth import truth
from dicom_ai_node.report import SIX_POINT_NAMES

Array = npt.NDArray[np.float64]

_KINDS: Final[dict[SeriesKind, float]] = {
    "t2": 0.34,
    "t1": 0.24,
    "stir": 0.14,
    "t2-fs": 0.08,
    "dixon-water": 0.06,
    "dixon-fat": 0.06,
    "dixon-in": 0.04,
    "dixon-opposed": 0.04,
}

_WILD_SHARE: Final = 0.45
"""Of training cases whose contrast, noise or texture no scanner would give."""


@dataclass(frozen=True)
class MrTrainingCase:
    """One labelled series; slices run to the left, rows to inferior, columns to posterior.

    Attributes:
        image: uint16, (slices, rows, columns), arbitrary units.
        labels: uint8, vertebral bodies as VerSe numbers (S1 is 26).
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres.
        series: what it shows.
        centers_mm, centers_voxel: body centre per visible level, LPS mm and [slice, row, column].
        six_points_mm: shape (6, 3) per visible level but S1, in the order of `report.SIX_POINT_NAMES`.
        fractured: visible levels with Genant grade 1 or more.
        truth: the whole truth, see `truth`.
    """

    image: npt.NDArray[np.uint16]
    labels: npt.NDArray[np.uint8]
    affine: Array
    series: SeriesKind
    centers_mm: dict[Level, Array]
    centers_voxel: dict[Level, Array]
    six_points_mm: dict[Level, Array]
    fractured: frozenset[Level]
    truth: dict[str, Any]


def render_mr_training_case(
    seed: int,
    spacing_mm: float = 1.0,
    *,
    slice_mm: float | None = None,
    series: SeriesKind | None = None,
    region: Region | None = None,
    edge_mm: float | None = None,
    training: bool = True,
    spine: Spine | None = None,
) -> MrTrainingCase:
    """A labelled MR series of a random person in a random field of view.

    Args:
        seed: decides everything.
        spacing_mm: edge of the pixels.
        slice_mm: None for the slices as they are measured, 3 to 5 mm thick with their gaps; else image and
            labels have slices this far apart: the image interpolated between its thick slices, as published
            sets are, the labels exact.
        series: what it shows; by chance mostly T2 and T1.
        region: what is examined; by chance mostly the lumbar spine.
        edge_mm: edge of the field of view; by the anatomy (220 to 420 mm) by default.
        training: randomise contrast, noise and texture beyond realism in about half of the cases, and cut off
            the brightest values in some.
        spine: the person; drawn from the seed by default, worn and in every second case ill.

    Raises:
        ValueError: a spacing that is not positive.
    """
    if spacing_mm <= 0 or (slice_mm is not None and slice_mm <= 0):
        raise ValueError("spacings must be positive")
    generator = stream(seed, "mr-training-case")
    person = _person(seed, generator) if spine is None else spine
    kind = series or list(_KINDS)[int(generator.choice(len(_KINDS), p=list(_KINDS.values())))]
    wild = training and bool(generator.random() < _WILD_SHARE)
    measured = sample_mr_series(seed, person, kind, region=region, training=wild)
    acquisition = _upright(measured, person, spacing_mm, edge_mm, generator)
    phantom = render_mr(person, acquisition)
    image, labels, affine = phantom.pixels, phantom.labels, phantom.affine
    if training and generator.random() < 0.4:
        # Published sets are often stored with a window that cuts off the brightest fat or fluid.
        top = np.percentile(image[:, ::3, ::3], between(generator, 94.0, 99.8))
        image = np.minimum(image, np.uint16(max(1.0, top)))
    about = phantom.truth
    if slice_mm is not None:
        grid = _between_slices(acquisition, slice_mm)
        image, labels, affine = _resliced(image, acquisition, grid), body_labels(person, grid), grid.affine
        about = truth(person, grid)
    seen = [entry for entry in about["vertebrae"] if entry["visible"] > 0.0]
    inside = np.linalg.inv(affine)
    centers = {Level(entry["level"]): np.array(entry["center_mm"]) for entry in seen}
    return MrTrainingCase(
        image=image,
        labels=labels,
        affine=affine,
        series=kind,
        centers_mm=centers,
        centers_voxel={level: inside[:3, :3] @ point + inside[:3, 3] for level, point in centers.items()},
        six_points_mm={
            Level(entry["level"]): np.array([entry["six_points"][name] for name in SIX_POINT_NAMES])
            for entry in seen
            if entry["six_points"] is not None
        },
        fractured=frozenset(Level(entry["level"]) for entry in seen if entry["fractured"]),
        truth=about,
    )


class _Nothing:
    """A palette of labels alone: everything is worth nothing."""

    def tissue(self, matter: Matter) -> float:  # noqa: ARG002
        return 0.0

    def bone(self, density: Tensor | float, marrow: Marrow) -> float:  # noqa: ARG002
        return 0.0

    def grain(self, matter: Matter) -> float:  # noqa: ARG002
        return 0.0


def body_labels(spine: Spine, grid: Grid) -> npt.NDArray[np.uint8]:
    """Vertebral bodies as VerSe numbers, (slices, rows, columns), without any image."""
    value = torch.zeros(grid.shape, dtype=torch.float32, device=grid.device)
    bodies: npt.NDArray[np.uint8] = paint_column(spine, Canvas(grid, value, _Nothing())).bodies.cpu().numpy()
    return bodies


def _person(seed: int, generator: np.random.Generator) -> Spine:
    ill = generator.random()
    return sample_spine(
        seed,
        options=SpineOptions(
            diseases="rich" if ill < 0.25 else "realistic" if ill < 0.5 else "none",
            degeneration="rich" if generator.random() < 0.3 else "realistic",
            sacralised=None,
            uncinate=True,
        ),
    )


def _upright(
    measured: MrAcquisition,
    spine: Spine,
    spacing_mm: float,
    edge_mm: float | None,
    generator: np.random.Generator,
) -> MrAcquisition:
    """The same scan on square pixels of a given edge, its slices parallel to the sagittal plane."""
    slices = measured.shape[0]
    step, _, pixel = measured.spacing_mm
    edge = edge_mm or pixel * measured.shape[2]
    matrix = max(32, round(edge / spacing_mm))
    center = measured.affine[:3, :3] @ ((np.array(measured.shape) - 1) / 2) + measured.affine[:3, 3]
    if edge_mm is not None and edge_mm < pixel * measured.shape[2]:
        # A narrow view may lie anywhere along the column.
        inner = [v.frame[:3, 3] for v in spine.vertebrae if abs(v.frame[2, 3] - center[2]) < edge]
        if inner:
            center = inner[int(generator.integers(len(inner)))] + np.array([0.0, -0.1 * edge, 0.0])
    finest = np.array(measured.readout.matrix) / np.array(measured.shape[1:]) * spacing_mm / pixel
    sampled = tuple(int(np.clip(round(matrix * share), matrix // 2, matrix)) for share in finest)
    return replace(
        measured,
        shape=(slices, matrix, matrix),
        affine=stack_affine(center, SAGITTAL, (slices, matrix, matrix), (step, spacing_mm)),
        readout=replace(measured.readout, matrix=(sampled[0], sampled[1])),
        subslice_mm=2.0,
    )


def _between_slices(acquisition: MrAcquisition, slice_mm: float) -> Grid:
    """The grid from the first to the last slice in steps of `slice_mm`."""
    slices, rows, columns = acquisition.shape
    step = acquisition.spacing_mm[0]
    affine = np.asarray(acquisition.affine, dtype=np.float64).copy()
    affine[:3, 0] *= slice_mm / step
    count = max(1, int((slices - 1) * step / slice_mm + 1e-6) + 1)
    return Grid((count, rows, columns), affine, torch.device("cpu"))


def _resliced(
    image: npt.NDArray[np.uint16], acquisition: MrAcquisition, grid: Grid
) -> npt.NDArray[np.uint16]:
    step = float(np.linalg.norm(grid.affine[:3, 0])) / acquisition.spacing_mm[0]
    place = np.arange(grid.shape[0]) * step
    low = np.minimum(place.astype(int), len(image) - 1)
    high = np.minimum(low + 1, len(image) - 1)
    share = (place - low).astype(np.float32)[:, None, None]
    mixed = image[low] * (np.float32(1.0) - share) + image[high] * share
    resliced: npt.NDArray[np.uint16] = np.rint(mixed).astype(np.uint16)
    return resliced
