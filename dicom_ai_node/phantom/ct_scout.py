"""Scouts: the projections that a CT scanner takes to plan a scan (localizer, topogram, scanogram)."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.phantom.ct import CtAcquisition
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.painting import paint
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.phantom.spine import Spine

View = Literal["frontal", "lateral"]

_PIXEL_MM: Final = 2.0
_STEP_MM: Final = 4.0
_WIDTH_MM: Final = {"frontal": 420.0, "lateral": 340.0}
_AHEAD_MM: Final = 60.0
"""The middle of the trunk lies this far in front of the spine."""

_PER_MM_WATER: Final = 5.0
_ZERO: Final = -1000.0


def render_scout(
    spine: Spine, acquisition: CtAcquisition, view: View, *, margin_mm: float = 50.0
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.float64]]:
    """The scout of a scan: parallel rays, 5 units per millimetre of water along them (no Hounsfield units).

    Args:
        spine: who is scanned.
        acquisition: the scan that it plans; the scout covers it and a margin at head and feet.
        view: "frontal": columns run to the left; "lateral": columns run to posterior.
        margin_mm: beyond the scan.

    Returns:
        int16, shape (1, rows, columns), rows to the feet; and float64 4x4, (slice, row, column, 1) to LPS mm,
        the plane through the middle of the trunk.
    """
    corners = np.array(np.meshgrid(*[[0, n - 1] for n in acquisition.shape], indexing="ij")).reshape(3, -1)
    heights = (acquisition.affine[:3, :3] @ corners + acquisition.affine[:3, 3:])[2]
    top, bottom = float(heights.max()) + margin_mm, float(heights.min()) - margin_mm
    middle = spine.trunk.frame[:3, 3] - np.array([0.0, _AHEAD_MM, 0.0])
    depth_axis, across_axis = (1, 0) if view == "frontal" else (0, 1)
    width, depth = _WIDTH_MM[view], _WIDTH_MM["lateral" if view == "frontal" else "frontal"]
    shape = (
        round(depth / _STEP_MM),
        max(2, round((top - bottom) / _PIXEL_MM)),
        round(width / _PIXEL_MM),
    )
    affine = np.zeros((4, 4))
    affine[depth_axis, 0], affine[2, 1], affine[across_axis, 2] = _STEP_MM, -_PIXEL_MM, _PIXEL_MM
    affine[3, 3] = 1.0
    affine[depth_axis, 3] = middle[depth_axis] - 0.5 * (shape[0] - 1) * _STEP_MM
    affine[across_axis, 3] = middle[across_axis] - 0.5 * (shape[2] - 1) * _PIXEL_MM
    affine[2, 3] = top
    grid = Grid(shape, affine, torch.device("cpu"))
    water_mm = (paint(spine, grid, acquisition.palette).value + 1000.0).clamp(min=0.0).sum(dim=0)
    image = (water_mm * (_STEP_MM / 1000.0 * _PER_MM_WATER) + _ZERO).numpy()
    image = image + stream(acquisition.seed, "scout", view).normal(0.0, 6.0, image.shape)
    plane = affine.copy()
    plane[depth_axis, 3] = middle[depth_axis]
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16)[None], plane
