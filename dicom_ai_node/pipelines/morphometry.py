"""From six points to heights: one body in its mid-sagittal plane, and whether to believe what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.genant import Heights
from dicom_ai_node.pipelines.body_frame import BodyFrame

PLAUSIBLE_HEIGHT_MM: Final = (3.0, 50.0)
"""No body of an adult is lower, even crushed, or higher than this."""

PLAUSIBLE_DEPTH_MM: Final = (10.0, 55.0)
"""Distance from the anterior to the posterior points (Panjabi 1991, 1992: 15 to 36 mm on average)."""


@dataclass(frozen=True)
class SagittalPlane:
    """The mid-sagittal plane of a body as an image: rows run caudally, columns run posteriorly.

    Attributes:
        origin_mm: patient LPS position of pixel (0, 0).
        row_step_mm: from one row to the next, shape (3,), patient LPS millimetres.
        column_step_mm: from one column to the next.
        shape: (rows, columns).
    """

    origin_mm: npt.NDArray[np.float64]
    row_step_mm: npt.NDArray[np.float64]
    column_step_mm: npt.NDArray[np.float64]
    shape: tuple[int, int]

    @classmethod
    def through(cls, frame: BodyFrame, shape: tuple[int, int], spacing_mm: float) -> SagittalPlane:
        """The plane with the frame's centre in its middle."""
        row_step, column_step = -frame.superior * spacing_mm, frame.posterior * spacing_mm
        middle = (np.array(shape) - 1) / 2
        return cls(
            frame.center_mm - middle[0] * row_step - middle[1] * column_step, row_step, column_step, shape
        )

    def affine(self) -> npt.NDArray[np.float64]:
        """4x4 for a volume of one slice, (0, row, column, 1) to LPS; the slice axis is the plane's normal."""
        affine = np.eye(4)
        normal = np.cross(self.row_step_mm, self.column_step_mm)
        affine[:3, 0] = normal / np.linalg.norm(normal)
        affine[:3, 1], affine[:3, 2], affine[:3, 3] = self.row_step_mm, self.column_step_mm, self.origin_mm
        return affine

    def to_patient(self, points_px: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Points [row, column] of shape (n, 2), sub-pixel, as LPS millimetres of shape (n, 3)."""
        points = np.asarray(points_px, dtype=np.float64)
        return self.origin_mm + points[:, :1] * self.row_step_mm + points[:, 1:] * self.column_step_mm


def six_point_heights(points_mm: npt.NDArray[np.floating[Any]]) -> Heights:
    """Anterior, middle and posterior height of one vertebral body (P3 eq. 17).

    Args:
        points_mm: anterior-superior, anterior-inferior, middle-superior, middle-inferior,
            posterior-superior, posterior-inferior; shape (6, 2) or (6, 3); millimetres or pixels.
    """
    pairs = np.asarray(points_mm, dtype=np.float64).reshape(3, 2, -1)
    anterior, middle, posterior = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=1)
    return Heights(float(anterior), float(middle), float(posterior))


def held_to_outline(
    points_px: npt.NDArray[np.floating[Any]], outline: npt.NDArray[np.floating[Any]], reach_px: float
) -> npt.NDArray[np.float64]:
    """Six points, each moved back to `reach_px` from the outlined body where it lies farther outside.

    The rims of old and thick-sliced bodies seem to go on over the disc, and the points go with them.

    Args:
        points_px: [row, column], shape (6, 2).
        outline: probability that a pixel is the body, shape (rows, columns); without any body nothing moves.
        reach_px: how far outside of it a rim may lie, in pixels.
    """
    points = np.array(points_px, dtype=np.float64)
    pieces, count = ndimage.label(outline >= 0.5)
    if count == 0:
        return points
    body = np.argwhere(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))).astype(np.float64)
    for number, point in enumerate(points):
        away = point - body
        distances = np.hypot(*away.T)
        nearest = int(distances.argmin())
        if distances[nearest] > reach_px:
            points[number] = body[nearest] + away[nearest] * (reach_px / distances[nearest])
    return points


def implausible(points_mm: npt.NDArray[np.float64], frame: BodyFrame) -> str | None:
    """Why six points cannot be those of a body, in words; None where they can.

    Args:
        points_mm: shape (6, 3), patient LPS millimetres, in the order of `six_point_heights`.
    """
    relative = points_mm - frame.center_mm
    up, back = relative @ frame.superior, relative @ frame.posterior
    for name, upper, lower in (("anterior", 0, 1), ("middle", 2, 3), ("posterior", 4, 5)):
        if up[upper] <= up[lower]:
            return f"the {name} points of the two endplates are in the wrong order"
    anterior, middle, posterior = back[:2].mean(), back[2:4].mean(), back[4:].mean()
    if not anterior < middle < posterior:
        return "the points are not in order from front to back"
    low, high = PLAUSIBLE_DEPTH_MM
    if not low <= posterior - anterior <= high:
        return f"the body would be {posterior - anterior:.0f} mm deep"
    heights = six_point_heights(points_mm)
    low, high = PLAUSIBLE_HEIGHT_MM
    for value in (heights.anterior, heights.middle, heights.posterior):
        if not low <= value <= high:
            return f"one height would be {value:.1f} mm"
    return None
