"""The own axes of one vertebral body, and its mid-sagittal plane in them.

The superior axis follows the chain of centres; the left axis is the one about which the body mirrors best,
so that scoliosis and rotation do not tilt the plane in which heights are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

MAX_ROTATION_DEG: Final = 20.0
"""A body turned further than this against the patient is not believed: the patient's own axes are kept."""

_LEFT = np.array([1.0, 0.0, 0.0])


@dataclass(frozen=True)
class BodyFrame:
    """A right-handed frame in patient LPS: unit vectors of shape (3,), the centre in millimetres."""

    center_mm: npt.NDArray[np.float64]
    left: npt.NDArray[np.float64]
    posterior: npt.NDArray[np.float64]
    superior: npt.NDArray[np.float64]


def frames_along_chain(centers_mm: Sequence[npt.NDArray[np.float64]]) -> list[BodyFrame]:
    """A frame per centre, head to tail: superior along the chain, left as near to the patient's as it can be.

    A lone centre gets the patient's own axes.
    """
    centers = np.asarray(centers_mm, dtype=np.float64)
    if len(centers) == 1:
        superiors = np.array([[0.0, 0.0, 1.0]])
    else:
        superiors = -np.gradient(centers, axis=0)
        superiors /= np.linalg.norm(superiors, axis=1, keepdims=True)
    return [_frame(center, superior, _LEFT) for center, superior in zip(centers, superiors, strict=True)]


def turned_to_symmetry(
    frame: BodyFrame, points_mm: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> BodyFrame:
    """The frame turned about its superior axis until the body mirrors best in its sagittal plane.

    Args:
        frame: the frame to start from; its centre is replaced by the body's centroid.
        points_mm: voxel centres of the body, shape (n, 3), patient LPS millimetres.
        weights: how much each voxel belongs to the body, shape (n,).
    """
    centroid = np.average(points_mm, axis=0, weights=weights)
    relative = points_mm - centroid
    size, half = 64, 32.0
    shadow, _, _ = np.histogram2d(
        relative @ frame.posterior,
        relative @ frame.left,
        bins=size,
        range=[[-half, half]] * 2,
        weights=weights,
    )
    shadow = ndimage.gaussian_filter(shadow, 1.5)
    angles = np.arange(-MAX_ROTATION_DEG, MAX_ROTATION_DEG + 0.5, 2.0)
    likeness = np.array([_mirror_likeness(shadow, angle) for angle in angles])
    best = int(likeness.argmax())
    turn = 0.0 if best in (0, len(angles) - 1) else float(np.radians(_parabola_top(angles, likeness, best)))
    left = np.cos(turn) * frame.left + np.sin(turn) * frame.posterior
    return _frame(centroid, frame.superior, left)


def _mirror_likeness(shadow: npt.NDArray[np.float64], angle_deg: float) -> float:
    """Overlap of the shadow, turned back by the angle, with its mirror image (columns run to the left)."""
    turned = ndimage.rotate(shadow, angle_deg, reshape=False, order=1)
    return float((turned * turned[:, ::-1]).sum() / (turned**2).sum())


def _parabola_top(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], top: int) -> float:
    before, at, after = y[top - 1 : top + 2]
    bend = before - 2 * at + after
    return float(x[top] + (0.5 * (before - after) / bend if bend < 0 else 0.0) * (x[1] - x[0]))


def _frame(
    center: npt.NDArray[np.float64], superior: npt.NDArray[np.float64], left: npt.NDArray[np.float64]
) -> BodyFrame:
    left = left - (left @ superior) * superior
    left = left / np.linalg.norm(left)
    return BodyFrame(center, left, np.cross(superior, left), superior)
