"""Sagittal CT slices of a phantom, and stand-ins for P2's networks that know what is on them.

The stand-ins see nothing: they look up the truth at the place of a box, with the errors that a test asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.resample import resample_labels_to
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.inference.ct_slices import SliceBox
from dicom_ai_node.networks.ct_diseases import NORMAL, OUTPUTS
from dicom_ai_node.phantom.ct import CtAcquisition, CtPhantom, render_ct
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.pipelines.ct_planes import SagittalPlanes

Array = npt.NDArray[np.float64]

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


def sagittal_phantom(
    spine: Spine, first: Level, last: Level, *, slices: int = 7, step_mm: float = 5.5, pixel_mm: float = 1.2
) -> CtPhantom:
    """Thick sagittal slices from right to left through these levels, rows foot-ward, columns back-ward."""
    top, bottom = spine[first].frame[:3, 3], spine[last].frame[:3, 3]
    middle = (top + bottom) / 2
    tall, deep = float(top[2] - bottom[2]) + 110.0, 190.0
    affine = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = step_mm, -pixel_mm, pixel_mm, 1.0
    affine[:3, 3] = middle[0] - (slices - 1) / 2 * step_mm, middle[1] - 0.6 * deep, top[2] + 40.0
    shape = (slices, round(tall / pixel_mm), round(deep / pixel_mm))
    return render_ct(
        spine, CtAcquisition(shape, affine, slice_thickness_mm=min(step_mm, 3.0), seed=1, streaks=0.0)
    )


def volume_of(phantom: CtPhantom, keep: slice = slice(None)) -> Volume:
    """The phantom as `load_volume` would give it."""
    affine = phantom.affine.copy()
    start = keep.start or 0
    affine[:3, 3] += affine[:3, 0] * start
    voxels = phantom.hu[keep]
    instances = tuple(
        SliceRef(CT_IMAGE, f"1.2.{k + 1 + start}", 1, Path("phantom")) for k in range(len(voxels))
    )
    return Volume(voxels, affine, instances, "1.2", "1.3", "1.4", "CT")


@dataclass
class KnowingNetworks:
    """Both networks of P2 for one phantom.

    Attributes:
        phantom: whose truth they know.
        planes: that they are shown.
        diseases: level -> output -> probability on every slice; other vertebrae are normal.
        missed: (plane, level) that are not found.
        false: (plane, box) that are found and are nothing.
        noise_px: standard deviation of the edges of boxes.
    """

    phantom: CtPhantom
    planes: SagittalPlanes
    diseases: Mapping[Level, Mapping[str, float]]
    missed: frozenset[tuple[int, Level]] = frozenset()
    false: tuple[tuple[int, SliceBox], ...] = ()
    noise_px: float = 0.0
    only_on: Mapping[tuple[Level, str], frozenset[int]] | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.planes.images.shape)
        self.labels = resample_labels_to(self.phantom.labels, self.phantom.affine, shape, self.planes.affine)
        self.random = np.random.default_rng(0)

    def detect(self, images: Tensor, spacing_mm: tuple[float, float]) -> list[list[SliceBox]]:
        assert images.shape == self.planes.images.shape
        found = [self._on(plane, spacing_mm) for plane in range(len(images))]
        for plane, box in self.false:
            found[plane].append(box)
        return found

    def judge(self, images: Tensor, spacing_mm: tuple[float, float], boxes: Sequence[Tensor]) -> list[Tensor]:
        assert images.shape == self.planes.images.shape
        assert spacing_mm == self.planes.spacing_mm
        return [
            torch.stack([self._said(k, box) for box in own]) if len(own) else torch.zeros((0, 6))
            for k, own in enumerate(boxes)
        ]

    def _on(self, plane: int, spacing_mm: tuple[float, float]) -> list[SliceBox]:
        found = []
        for level in Level:
            if level is Level.S1 or (plane, level) in self.missed:
                continue
            rows, columns = np.nonzero(self.labels[plane] == verse_label(level))
            if rows.size * spacing_mm[0] * spacing_mm[1] < 150:
                continue
            edges = np.array([rows.min(), rows.max(), columns.min(), columns.max()], dtype=float)
            edges += self.random.normal(0, self.noise_px, 4)
            found.append(SliceBox((edges[0], edges[1]), (edges[2], edges[3]), 0.98))
        return found

    def _said(self, plane: int, box: Tensor) -> Tensor:
        left, top, right, bottom = (round(float(value)) for value in box)
        part = self.labels[plane, max(0, top) : bottom, max(0, left) : right]
        values, counts = np.unique(part[part > 0], return_counts=True)
        level = next(
            (item for item in Level if counts.size and verse_label(item) == values[counts.argmax()]), None
        )
        own = {} if level is None else self.diseases.get(level, {})
        told = {
            name: share
            for name, share in own.items()
            if self.only_on is None or plane in self.only_on.get((level, name), {plane})  # type: ignore[arg-type]
        }
        normal = 0.95 if not told else 0.03
        return torch.tensor([told.get(name, normal if name == NORMAL else 0.02) for name in OUTPUTS])
