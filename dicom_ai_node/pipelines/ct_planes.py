"""Sagittal planes of a CT for the networks that look at slices, with their place in the patient.

A series that was sent in sagittal slices is shown slice by slice, only turned upright; out of any other
volume planes are cut along the column, as thick as a reformat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.imaging.resample import resample_to_grid
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.pipelines.sagittal_stack import sagittal_stack
from dicom_ai_node.report import BoxPx

Floats = npt.NDArray[np.float64]

OUTSIDE_HU: Final = -1000.0
"""What lies beyond the edges of a slice: air."""

FINEST_MM: Final = 0.4
"""Pixels of a plane are never finer: no network looks closer."""

CUT_STEP_MM: Final = 5.0
"""Distance of planes that are cut out of a volume: a body is met by six or more."""

CUT_THICKNESS_MM: Final = 3.0
"""What such a plane averages over, as reformats do."""

CUT_PIXEL_MM: Final = (0.7, 1.0)
"""Finest and coarsest pixel of such a plane."""

MARGIN_MM: Final = 45.0
"""How far such planes reach beyond the bodies, to the head, the feet, the front and the back."""


@dataclass(frozen=True, eq=False)
class SagittalPlanes:
    """Planes from the patient's right to his left.

    Attributes:
        images: HU, float32, shape (planes, rows, columns); rows run foot-ward, columns back-ward.
        affine: 4x4, (plane, row, column, 1) to patient LPS millimetres; integers at pixel centres.
        measured: whether these are the slices that were sent, so that an image shows each of them.
    """

    images: Tensor
    affine: Floats
    measured: bool

    def __len__(self) -> int:
        return len(self.images)

    @property
    def spacing_mm(self) -> tuple[float, float]:
        """Of the rows, and of the columns."""
        edges = np.linalg.norm(self.affine[:3, 1:3], axis=0)
        return float(edges[0]), float(edges[1])

    @property
    def step_mm(self) -> float:
        """Distance of neighbouring planes."""
        normal = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        return float(abs(normal @ self.affine[:3, 0]) / np.linalg.norm(normal))

    def to_mm(self, plane: float, rows: npt.ArrayLike, columns: npt.ArrayLike) -> Floats:
        """Places on a plane, pixels, to LPS millimetres of shape (n, 3)."""
        row, column = (np.atleast_1d(np.asarray(value, dtype=np.float64)) for value in (rows, columns))
        index = np.stack([np.full(row.shape, float(plane)), row, column], axis=1)
        places: Floats = index @ self.affine[:3, :3].T + self.affine[:3, 3]
        return places

    def corners_mm(
        self, plane: int, rows: tuple[float, float], columns: tuple[float, float]
    ) -> tuple[tuple[float, ...], ...]:
        """The four corners of a box on a plane, in order around it."""
        (top, bottom), (front, back) = rows, columns
        places = self.to_mm(plane, [top, top, bottom, bottom], [front, back, back, front])
        return tuple(tuple(round(float(value), 3) for value in place) for place in places)


def measured_planes(volume: Volume) -> SagittalPlanes:
    """The slices of a sagittal series, upright; thin ones are joined as `pipelines.sagittal_stack` does.

    Raises:
        NotAnalysable: the series is not sagittal, too coarse or too small.
    """
    across = int(np.abs(volume.direction[0]).argmax())
    pixel = min(float(volume.spacing_mm[axis]) for axis in range(3) if axis != across)
    stack = sagittal_stack(volume, max(pixel, FINEST_MM), OUTSIDE_HU)
    return SagittalPlanes(stack.signal, stack.affine, measured=True)


def cut_planes(volume: Volume, low_mm: Floats, high_mm: Floats) -> SagittalPlanes:
    """Sagittal planes through the part of a volume in which the bodies lie.

    Args:
        volume: any orientation.
        low_mm: lowest LPS corner of all bodies, shape (3,).
        high_mm: the highest.
    """
    pixel = float(np.clip(volume.spacing_mm.min(), *CUT_PIXEL_MM))
    count = max(1, int((high_mm[0] - low_mm[0]) / CUT_STEP_MM) + 1)
    first = (low_mm[0] + high_mm[0]) / 2 - (count - 1) / 2 * CUT_STEP_MM
    tall, deep = (float(high_mm[axis] - low_mm[axis]) + 2 * MARGIN_MM for axis in (2, 1))
    shape = (count, int(np.ceil(tall / pixel)), int(np.ceil(deep / pixel)))
    affine = np.zeros((4, 4))
    affine[0, 0], affine[2, 1], affine[1, 2], affine[3, 3] = CUT_STEP_MM, -pixel, pixel, 1.0
    affine[:3, 3] = first, low_mm[1] - MARGIN_MM, high_mm[2] + MARGIN_MM
    images = torch.zeros(shape)
    # Three looks across the thickness, as far apart as voxels of spine CT are.
    offsets = np.array([-1.0, 0.0, 1.0]) * CUT_THICKNESS_MM / 3
    for offset in offsets:
        beside = affine.copy()
        beside[0, 3] += offset
        images += resample_to_grid(
            volume.voxels, volume.affine, beside, shape, antialias=False, fill=OUTSIDE_HU
        )
    return SagittalPlanes(images / len(offsets), affine, measured=False)


def box_on_image(
    volume: Volume,
    planes: SagittalPlanes,
    plane: int,
    rows: tuple[float, float],
    columns: tuple[float, float],
) -> BoxPx | None:
    """A box on a measured plane as a box on the image that was sent; None on planes that were cut.

    Of joined slices the middle one is named. A slice that was not sent but interpolated has none.
    """
    if not planes.measured:
        return None
    to_index = np.linalg.inv(volume.affine)
    corners = np.array(planes.corners_mm(plane, rows, columns))
    index = corners @ to_index[:3, :3].T + to_index[:3, 3]
    number = int(np.clip(np.rint(index[:, 0].mean()), 0, volume.shape[0] - 1))
    if number in volume.interpolated:
        return None
    low = np.clip(index[:, 1:].min(axis=0), 0, np.array(volume.shape[1:]) - 1)
    high = np.clip(index[:, 1:].max(axis=0), 0, np.array(volume.shape[1:]) - 1)
    image = volume.instances[number]
    return BoxPx(
        image.sop_instance_uid,
        image.frame,
        (round(float(low[0]), 2), round(float(high[0]), 2)),
        (round(float(low[1]), 2), round(float(high[1]), 2)),
    )
