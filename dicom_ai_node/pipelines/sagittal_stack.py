"""A series as the stack of sagittal slices that the networks of MR are shown.

Slices stay the slices that were measured (several thin ones become one), so that nothing is interpolated
across them; only in their own plane they are turned upright and brought to the networks' pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.resample import resample_to_grid
from dicom_ai_node.imaging.volume import Volume

MAX_OBLIQUITY_DEG: Final = 40.0
"""Slices turned further than this out of the sagittal plane do not show the column."""

MAX_PIXEL_MM: Final = 2.5
"""Heights cannot be told from coarser pixels."""

MAX_SLICE_MM: Final = 10.0
"""Bodies are 30 to 50 mm wide: with slices further apart too few meet one."""

THIN_MM: Final = 2.0
"""Slices nearer to each other than this are joined to slices of `JOINED_MM`."""

JOINED_MM: Final = 3.0

MIN_COVERAGE_MM: Final = 40.0
"""Of the plane of the slices, each way: one vertebra with its discs."""


@dataclass(frozen=True)
class SagittalStack:
    """Upright sagittal slices of one series.

    Attributes:
        signal: float32, shape (slices, rows, columns); slices run to the left, rows foot-ward, columns
            back-ward.
        affine: 4x4, index to patient LPS millimetres.
        across: axis of the source volume along which the slices are stacked.
        thin: whether the source's slices were joined, so that planes between them may be cut as well.
    """

    signal: Tensor
    affine: npt.NDArray[np.float64]
    across: int
    thin: bool

    @property
    def normal(self) -> npt.NDArray[np.float64]:
        """Unit vector across the slices' planes, to the patient's left."""
        normal = np.cross(self.affine[:3, 2], self.affine[:3, 1])
        normal *= np.sign(normal @ self.affine[:3, 0])
        return np.asarray(normal / np.linalg.norm(normal))

    def slice_of(self, point_mm: npt.NDArray[np.float64]) -> float:
        """Index of the slice in which a point lies, between the slices too."""
        return float((np.linalg.inv(self.affine) @ [*point_mm, 1.0])[0])


def sagittal_stack(volume: Volume, spacing_mm: float, outside: float) -> SagittalStack:
    """The stack of a series.

    Args:
        volume: of MR, any orientation of its axes, oblique as well.
        spacing_mm: edge of the stack's pixels.
        outside: signal beyond the edges of the slices.

    Raises:
        NotAnalysable: the series is not sagittal and cannot be cut so, is too coarse or too small.
    """
    directions, spacing = volume.direction, volume.spacing_mm
    across = int(np.abs(directions[0]).argmax())
    _refuse_unfit(volume, across)
    first, second = (volume.affine[:3, axis] for axis in range(3) if axis != across)
    left = np.cross(first, second)
    left *= np.sign(left[0]) / np.linalg.norm(left)
    step = volume.affine[:3, across] * np.sign(volume.affine[:3, across] @ left)
    down = np.array([0.0, 0.0, -1.0]) - left * -left[2]
    down /= np.linalg.norm(down)
    back = np.cross(left, down)
    thin = bool(spacing[across] < THIN_MM)
    count = volume.shape[across]
    middle = volume.affine[:3, :3] @ ((np.array(volume.shape) - 1) / 2) + volume.affine[:3, 3]
    if thin:
        length = count * spacing[across]
        count = max(1, round(length / JOINED_MM))
        step = step * (JOINED_MM / spacing[across])
    # The corners of the plane, outer edges of the pixels included.
    half = [
        vector * volume.shape[axis] / 2
        for axis, vector in enumerate(volume.affine[:3, :3].T)
        if axis != across
    ]
    corners = np.array([a * half[0] + b * half[1] for a in (-1, 1) for b in (-1, 1)])
    sizes = [max(1, int(np.ceil(np.ptp(corners @ axis) / spacing_mm - 1e-6))) for axis in (down, back)]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, down * spacing_mm, back * spacing_mm
    shape = (count, sizes[0], sizes[1])
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    signal = resample_to_grid(volume.voxels, volume.affine, affine, shape, fill=outside)
    return SagittalStack(signal, affine, across, thin)


def plane_signal(
    volume: Volume, affine: npt.NDArray[np.float64], shape: tuple[int, int], outside: float
) -> Tensor:
    """The series on one plane; shape (1, rows, columns)."""
    return resample_to_grid(
        torch.as_tensor(volume.voxels), volume.affine, affine, (1, *shape), antialias=False, fill=outside
    )


def _refuse_unfit(volume: Volume, across: int) -> None:
    spacing = volume.spacing_mm
    in_plane = [axis for axis in range(3) if axis != across]
    normal = np.cross(volume.direction[:, in_plane[0]], volume.direction[:, in_plane[1]])
    turned = float(np.degrees(np.arccos(min(1.0, abs(normal[0]) / float(np.linalg.norm(normal))))))
    if turned > MAX_OBLIQUITY_DEG:
        raise NotAnalysable(
            "orientation",
            f"The slices are turned {turned:.0f} degrees out of the sagittal plane. Send a sagittal series.",
        )
    coarsest = float(spacing[in_plane].max())
    if coarsest > MAX_PIXEL_MM:
        words = "its slices are not sagittal and" if across != 0 else "its pixels"
        raise NotAnalysable(
            "spacing" if across == 0 else "orientation",
            f"The series cannot show sagittal planes finely enough: {words} lie {coarsest:.1f} mm apart, "
            f"heights need {MAX_PIXEL_MM:g} mm or less. Send a sagittal series.",
        )
    if spacing[across] > MAX_SLICE_MM:
        raise NotAnalysable(
            "spacing",
            f"Slices are {spacing[across]:.1f} mm apart; {MAX_SLICE_MM:g} mm or less are needed. "
            "Send the whole series.",
        )
    coverage = [float(spacing[axis] * volume.shape[axis]) for axis in in_plane]
    if min(coverage) < MIN_COVERAGE_MM:
        raise NotAnalysable(
            "coverage",
            f"The slices cover {coverage[0]:.0f} x {coverage[1]:.0f} mm; one vertebra with its discs needs "
            f"{MIN_COVERAGE_MM:g} mm each way. Send the whole series.",
        )
