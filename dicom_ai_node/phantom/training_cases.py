"""Labelled CTs for training: a new person, a new scan, cubic voxels on an upright grid.

Pure functions of a seed, so that a pool of cases can be made by as many processes as there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.ct import CtAcquisition, for_training, render_ct, scan_range
from dicom_ai_node.phantom.ct_palette import CtPalette
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.spine import Spine, sample_spine
from dicom_ai_node.phantom.truth import visible_share
from dicom_ai_node.report import SIX_POINT_NAMES

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TrainingCase:
    """One labelled CT with cubic voxels; slices run to superior, rows to posterior, columns to the left.

    Attributes:
        hu: int16, (slices, rows, columns).
        labels: uint8, vertebral bodies as VerSe numbers.
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres.
        centers_mm, centers_voxel: body centre per visible level, LPS mm and [slice, row, column].
        six_points_mm: shape (6, 3) per visible level but S1, in the order of `report.SIX_POINT_NAMES`.
        fractured: visible levels with Genant grade 1 or more.
        truth: the whole truth, see `truth`.
    """

    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    affine: Array
    centers_mm: dict[Level, Array]
    centers_voxel: dict[Level, Array]
    six_points_mm: dict[Level, Array]
    fractured: frozenset[Level]
    truth: dict[str, Any]


def render_training_case(
    seed: int,
    spacing_mm: float = 1.5,
    *,
    width_mm: float | None = None,
    training: bool = True,
    spine: Spine | None = None,
) -> TrainingCase:
    """A labelled CT of a random person in a random field of view.

    Args:
        seed: decides everything.
        spacing_mm: edge of the voxels.
        width_mm: edge of the field of view in the plane; random (130 to 420 mm) by default.
        training: randomise contrast and noise beyond realism in about a third of the cases.
        spine: the person; drawn from the seed by default.
    """
    person = sample_spine(seed) if spine is None else spine
    acquisition = upright_acquisition(seed, person, spacing_mm, width_mm=width_mm, training=training)
    phantom = render_ct(person, acquisition)
    seen = [entry for entry in phantom.truth["vertebrae"] if entry["visible"] > 0.0]
    inside = np.linalg.inv(phantom.affine)
    centers = {Level(entry["level"]): np.array(entry["center_mm"]) for entry in seen}
    return TrainingCase(
        hu=phantom.hu,
        labels=phantom.labels,
        affine=phantom.affine,
        centers_mm=centers,
        centers_voxel={level: inside[:3, :3] @ point + inside[:3, 3] for level, point in centers.items()},
        six_points_mm={
            Level(entry["level"]): np.array([entry["six_points"][name] for name in SIX_POINT_NAMES])
            for entry in seen
            if entry["six_points"] is not None
        },
        fractured=frozenset(Level(entry["level"]) for entry in seen if entry["fractured"]),
        truth=phantom.truth,
    )


def upright_acquisition(
    seed: int, spine: Spine, spacing_mm: float, *, width_mm: float | None = None, training: bool = True
) -> CtAcquisition:
    """A scan of a random part of the person on cubic voxels, parallel to the LPS axes."""
    generator = stream(seed, "training-case")
    top, bottom = scan_range(spine, generator)
    inner = [v.frame[:3, 3] for v in spine.vertebrae if bottom < v.frame[2, 3] < top]
    middle = np.mean(inner, axis=0) if inner else spine.vertebrae[-1].frame[:3, 3]
    wide = generator.random() < 0.45
    width = width_mm or (between(generator, 300.0, 420.0) if wide else between(generator, 130.0, 220.0))
    deep = width if wide else width * between(generator, 0.8, 1.1)
    ahead = between(generator, 40.0, 90.0) if wide else between(generator, -10.0, 30.0)
    aside = between(generator, -20.0, 20.0)
    shape = tuple(max(16, round(edge / spacing_mm)) for edge in (top - bottom, deep, width))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]) * spacing_mm
    affine[:3, 3] = [middle[0] + aside - width / 2, middle[1] - ahead - deep / 2, bottom]
    sharp = generator.random() < 0.4
    acquisition = CtAcquisition(
        shape=(shape[0], shape[1], shape[2]),
        affine=affine,
        slice_thickness_mm=max(spacing_mm, float(generator.choice([1.0, 1.5, 2.0, 3.0, 5.0]))),
        palette=CtPalette.sample(
            stream(seed, "palette"), training=training and bool(generator.random() < 0.6)
        ),
        resolution_mm=max(0.8 * spacing_mm, between(generator, 0.7, 1.8)),
        enhancement=between(generator, 0.2, 1.2) if sharp else between(generator, 0.0, 0.2),
        noise_hu=between(generator, 4.0, 30.0),
        noise_grain_mm=between(generator, 0.8, 2.0),
        table=bool(generator.random() < 0.85),
        circle=bool(wide and generator.random() < 0.3),
        padding_hu=int(generator.choice([-1024, -2000])),
        seed=int(generator.integers(2**31)),
    )
    return for_training(acquisition, generator) if training else acquisition


def plane_acquisition(
    like: CtAcquisition,
    center: Array,
    row_direction: Array,
    column_direction: Array,
    *,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
) -> CtAcquisition:
    """The same scanner's image on a small oblique grid, for example the mid-sagittal plane of one body.

    Args:
        like: kernel, noise, palette.
        center: LPS mm of the grid's middle.
        row_direction: unit vector from one row to the next; `column_direction` from one column to the next.
        shape: (slices, rows, columns).
        spacing_mm: of slices, rows, columns.
    """
    rows, columns = (
        np.asarray(row_direction, dtype=np.float64),
        np.asarray(column_direction, dtype=np.float64),
    )
    affine = np.eye(4)
    affine[:3, :3] = np.stack([np.cross(rows, columns), rows, columns], axis=1) * np.array(spacing_mm)
    affine[:3, 3] = np.asarray(center) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return CtAcquisition(
        shape=shape,
        affine=affine,
        slice_thickness_mm=max(spacing_mm[0], 0.5),
        palette=like.palette,
        resolution_mm=like.resolution_mm,
        enhancement=like.enhancement,
        noise_hu=like.noise_hu,
        noise_grain_mm=like.noise_grain_mm,
        table=False,
        seed=like.seed,
        randomise=like.randomise,
    )


def visible_levels(spine: Spine, acquisition: CtAcquisition, least: float = 0.9) -> tuple[Level, ...]:
    """The levels whose bodies lie in the image to at least this share."""
    grid = Grid(acquisition.shape, acquisition.affine, torch.device("cpu"))
    return tuple(v.level for v in spine.vertebrae if visible_share(v, grid) >= least)
