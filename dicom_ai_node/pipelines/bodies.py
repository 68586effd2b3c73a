"""Segmented vertebral bodies: crops of probabilities, put back onto the source grid and measured there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.resample import resample_to_grid
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.report import BoxPx, LabelMap

MIN_BODY_ML: Final = 1.5
"""Less than this is no adult vertebral body, even a crushed one (a sound T1 has about 6 ml)."""

EDGE_MM: Final = 2.5
"""A body nearer than this to the edge of the image is cut off."""

CUT_SHARE: Final = 0.005
"""So much of a body may lie there all the same: stray voxels of the outline."""

METAL_HU: Final = 2500.0
"""No bone is as dense, and cement seldom."""

METAL_ML: Final = 0.15
"""So much of it is the end of a screw; less may be noise, or a clip."""

METAL_REACH_MM: Final = 3.0
"""Metal this near to the outline counts too: what is so bright is often left out of it, as a cage is."""

TRABECULAR_MARGIN_MM: Final = 4.0
"""How far inside the body's surface attenuation is averaged, so that the cortex does not count."""


@dataclass(frozen=True)
class Body:
    """One segmented body on its own cubic crop.

    Attributes:
        probability: shape (slices, rows, columns), 0 to 1: this voxel is body, sound or fractured.
        fractured: share of the body that the network calls fractured, weighted by probability.
        affine: of the crop, to patient LPS millimetres.
    """

    probability: npt.NDArray[np.float32]
    fractured: float
    affine: npt.NDArray[np.float64]

    @property
    def volume_ml(self) -> float:
        """Volume of the voxels that are more likely body than not."""
        voxel_ml = abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000
        return float((self.probability >= 0.5).sum()) * voxel_ml

    def points_mm(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Voxel centres of the body, shape (n, 3) LPS, and their probabilities, shape (n,)."""
        inside = np.argwhere(self.probability >= 0.5)
        weights = self.probability[tuple(inside.T)].astype(np.float64)
        return inside @ self.affine[:3, :3].T + self.affine[:3, 3], weights

    def center_mm(self) -> npt.NDArray[np.float64]:
        """Centroid of the body, LPS millimetres."""
        points, weights = self.points_mm()
        return np.asarray(np.average(points, axis=0, weights=weights))


def body_from_probabilities(
    probabilities: npt.NDArray[np.float32], affine: npt.NDArray[np.float64]
) -> Body | None:
    """The body in the middle of a crop; None where there is none.

    Of several pieces the one that lies about the middle is kept: the others belong to neighbours.

    Args:
        probabilities: shape (3, slices, rows, columns): background, normal, fractured (P3 section 2.3.1).
    """
    body = probabilities[1:].sum(axis=0)
    pieces, count = ndimage.label(body >= 0.5)
    if count == 0:
        return None
    index = np.arange(1, count + 1)
    sizes = ndimage.sum_labels(np.ones_like(body), pieces, index)
    centres = np.array(ndimage.center_of_mass(pieces > 0, pieces, index))
    far = np.linalg.norm(centres - (np.array(body.shape) - 1) / 2, axis=1)
    # Nearness counts in voxels from the middle; a piece of neighbour is both far and small.
    kept = pieces == index[int(np.argmax(sizes / (1 + far) ** 2))]
    body = np.where(ndimage.binary_dilation(kept, iterations=2), body, 0).astype(np.float32)
    share = float((probabilities[2] * kept).sum() / (body * kept).sum())
    found = Body(body, share, affine)
    return found if found.volume_ml >= MIN_BODY_ML else None


def is_cut_off(body: Body, volume: Volume) -> bool:
    """Whether the body runs into the border of the image: some of it was not seen.

    A body counts as cut when some of its voxels lie within `EDGE_MM` of the outermost samples: what
    lies beyond them is air to the network, which then ends the body too early.
    """
    points, _ = body.points_mm()
    return bool(at_edge(points, volume).sum() > CUT_SHARE * len(points))


def at_edge(points_mm: npt.NDArray[np.float64], volume: Volume) -> npt.NDArray[np.bool_]:
    """Which of these points, shape (n, 3) LPS, lie within `EDGE_MM` of the outermost samples, or beyond."""
    to_index = np.linalg.inv(volume.affine)
    index = points_mm @ to_index[:3, :3].T + to_index[:3, 3]
    margin = EDGE_MM / volume.spacing_mm
    outside: npt.NDArray[np.bool_] = ((index < margin) | (index > np.array(volume.shape) - 1 - margin)).any(
        axis=1
    )
    return outside


def metal_ml(body: Body, volume: Volume) -> float:
    """How much metal lies in a body or within `METAL_REACH_MM` of it, millilitres."""
    spacing = np.linalg.norm(body.affine[:3, :3], axis=0)
    away = ndimage.distance_transform_edt(body.probability < 0.5, sampling=spacing)
    affine, shape = body.affine, body.probability.shape
    # The nearest voxels, not their mean: an average over a screw and the bone around it is neither.
    grid = np.indices(shape).reshape(3, -1)[:, (away <= METAL_REACH_MM).ravel()]
    points = affine[:3, :3] @ grid + affine[:3, 3:]
    to_index = np.linalg.inv(volume.affine)
    index = np.rint(to_index[:3, :3] @ points + to_index[:3, 3:]).astype(int)
    seen = ((index >= 0) & (index < np.array(volume.shape)[:, None])).all(axis=0)
    bright = volume.voxels[tuple(index[:, seen])] >= METAL_HU
    return float(bright.sum()) * abs(float(np.linalg.det(affine[:3, :3]))) / 1000


def paste(bodies: Mapping[Level, Body], volume: Volume) -> LabelMap:
    """The bodies on the source grid: each voxel goes to the likeliest body, or to none."""
    labels = np.zeros(volume.shape, np.uint8)
    best = np.zeros(volume.shape, np.float16)
    for level, body in bodies.items():
        region = _region(body, volume)
        if region is None:
            continue
        affine = volume.affine.copy()
        affine[:3, 3] = volume.affine[:3, :3] @ [part.start for part in region] + volume.affine[:3, 3]
        shape = [part.stop - part.start for part in region]
        probability = resample_to_grid(
            torch.from_numpy(body.probability), body.affine, affine, shape, antialias=False, fill=0.0
        ).numpy()
        better = (probability >= 0.5) & (probability > best[region])
        labels[region][better] = verse_label(level)
        best[region][better] = probability[better]
    return LabelMap(labels, volume.affine)


def mean_hu(level: Level, body: Body, volume: Volume, label_map: LabelMap) -> float | None:
    """Mean attenuation `TRABECULAR_MARGIN_MM` inside a body's surface; None if there is too little of it."""
    region = _region(body, volume)
    if region is None:
        return None
    inside = label_map.labels[region] == verse_label(level)
    depth = ndimage.distance_transform_edt(np.pad(inside, 1), sampling=volume.spacing_mm)[1:-1, 1:-1, 1:-1]
    core = depth >= min(TRABECULAR_MARGIN_MM, 0.6 * float(depth.max(initial=0.0)))
    core &= inside
    return float(volume.voxels[region][core].mean()) if core.sum() >= 10 else None


def axial_box(level: Level, body: Body, volume: Volume, label_map: LabelMap) -> BoxPx | None:
    """The body's box on the image nearest to its centre; None where no voxel of it is there."""
    to_index = np.linalg.inv(volume.affine)
    index = round(float((to_index @ [*body.center_mm(), 1.0])[0]))
    if not 0 <= index < volume.shape[0]:
        return None
    rows, columns = np.nonzero(label_map.labels[index] == verse_label(level))
    if rows.size == 0:
        return None
    instance = volume.instances[index]
    return BoxPx(
        instance.sop_instance_uid,
        instance.frame,
        (float(rows.min()), float(rows.max())),
        (float(columns.min()), float(columns.max())),
    )


def _region(body: Body, volume: Volume) -> tuple[slice, slice, slice] | None:
    """The part of the source grid that the crop of a body covers."""
    points, _ = body.points_mm()
    to_index = np.linalg.inv(volume.affine)
    index = points @ to_index[:3, :3].T + to_index[:3, 3]
    reach = 3.0 / volume.spacing_mm
    low = np.maximum(np.floor(index.min(axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0) + reach) + 1, volume.shape).astype(int)
    if (high <= low).any():
        return None
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
