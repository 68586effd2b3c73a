"""The labelled real scans of CT and MR, turned to one orientation.

CT: TotalSegmentator's example with its vertebral bodies. MR: the sagittal volumes of Chu et al. (VB1, VB2)
and the water-fat images (VB3), one mask per body.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import torch

from conformance.phantom.recipes import Stack


@dataclass(frozen=True)
class RealScan:
    """A real scan; `labels` are 1 for its lowest labelled body, 2 for the next one up, and so on."""

    name: str
    stack: Stack


def real_scans(kind: str, data: Path) -> Iterator[RealScan]:
    """The labelled real scans of a modality, as stacks (left, superior, posterior)."""
    if kind == "ct":
        folder = data / "ct" / "totalsegmentator"
        image, affine = _loaded(folder / "example_ct.nii.gz")
        bodies, _ = _loaded(folder / "totalseg_vertebrae_body.nii.gz")
        levels, _ = _loaded(folder / "totalseg.nii.gz")
        labels = np.where((bodies == 1) & (levels > 0), levels - 25, 0)
        yield RealScan("totalsegmentator", _stack(image, labels, affine, air=-1000.0))
        return
    folder = data / "mr" / "vertebrae"
    for entry in json.loads((folder / "manifest.json").read_text()):
        image, affine = _loaded(folder / f"{entry['id']}_img.nii.gz")
        labels, _ = _loaded(folder / f"{entry['id']}_seg.nii.gz")
        yield RealScan(entry["id"], _stack(image, labels, affine, air=None))


def _loaded(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    image: Any = nibabel.load(path)
    return np.asarray(image.dataobj), np.asarray(image.affine)


def _stack(
    image: npt.NDArray[Any], labels: npt.NDArray[Any], affine: npt.NDArray[np.float64], air: float | None
) -> Stack:
    """Axes turned to (left, superior, posterior); NIfTI's affine is RAS."""
    axes: Any = nibabel.orientations
    turn = axes.ornt_transform(axes.io_orientation(affine), axes.axcodes2ornt(("L", "S", "P")))
    turned = [
        np.ascontiguousarray(axes.apply_orientation(array, turn))
        for array in (image.astype(np.float32), labels.astype(np.uint8))
    ]
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = [0.0, 0.0, 0.0]
    for axis, (place, _) in enumerate(turn):
        spacing[int(place)] = float(edges[axis])
    return Stack(
        torch.from_numpy(turned[0]), torch.from_numpy(turned[1]), (spacing[0], spacing[1], spacing[2]), air
    )


def labelled_part(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where a prediction may be judged: between the ends of the labelled column.

    Bodies above and below are real but not labelled. The ends are planes across the column, 2 voxels beyond
    the outermost labelled voxels.
    """
    numbers = [int(n) for n in np.unique(labels) if n]
    places = {n: np.argwhere(labels == n).astype(np.float64) for n in numbers}
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in labels.shape), indexing="ij"), axis=-1)
    inside = np.ones(labels.shape, dtype=bool)
    for end, inner in ((numbers[0], numbers[1]), (numbers[-1], numbers[-2])):
        outwards = places[end].mean(axis=0) - places[inner].mean(axis=0)
        outwards[0] = 0.0
        outwards /= np.linalg.norm(outwards)
        inside &= grid @ outwards <= float((places[end] @ outwards).max()) + 2.0
    return inside
