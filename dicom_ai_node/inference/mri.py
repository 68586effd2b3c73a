"""The networks of the MR pipeline as functions from arrays to dense answers.

Stacks run to the patient's left, rows foot-ward, columns back-ward, with square pixels of `spacing_mm`;
planes likewise. Signal is -1 to 1, as `networks.mr_intensity.mr_contrast` gives it for a whole series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ModelError
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.networks.column_detector import HEATMAP_STRIDE
from dicom_ai_node.networks.heatmaps import peak_positions
from dicom_ai_node.networks.mr_columns import OFFSET_UNIT_MM, answer_stack
from dicom_ai_node.networks.mr_intensity import mr_contrast, signal_range

BATCH = 4
"""Slices that run at once: enough to keep a device busy, few enough for a small memory."""


@dataclass(frozen=True)
class DenseAnswer:
    """What mri-detect says of a stack.

    Attributes:
        body: probability that a pixel is a vertebral body, (slices, rows, columns).
        pointed_at: [row, column] of the centre of the pixel's body, (slices, 2, rows, columns), in pixels; it
            may lie outside of the stack.
        heatmaps: (slices, levels, rows, columns) on a grid `stride` times as coarse; 1 is a sure name.
        stride: pixels per pixel of the heatmaps.
        levels: one per heatmap.
    """

    body: npt.NDArray[np.float32]
    pointed_at: npt.NDArray[np.float32]
    heatmaps: npt.NDArray[np.float32]
    stride: int
    levels: tuple[Level, ...]


def spacing_mm(bundle: Bundle) -> float:
    """Edge of a pixel that the network was trained on."""
    return bundle.metadata.mr.spacing_mm


def plane_shape(bundle: Bundle) -> tuple[int, int]:
    """Size of the plane that the network was trained on.

    Raises:
        ModelError: the bundle takes any size.
    """
    size = bundle.metadata.mr.size
    if size is None:
        raise ModelError(f"{bundle.name}: metadata.json names no preprocessing.size")
    return size


def levels(bundle: Bundle) -> tuple[Level, ...]:
    """What each heatmap of mri-detect stands for."""
    return tuple(Level(name) for name in bundle.metadata.output_channels)


def signal_range_of(bundle: Bundle, voxels: npt.NDArray[Any] | Tensor) -> tuple[float, float]:
    """Signal of a whole series that the network is shown as black and as white."""
    return signal_range(torch.as_tensor(voxels), bundle.metadata.mr.percentiles)


def detect(bundle: Bundle, stack: Tensor, signal: tuple[float, float]) -> DenseAnswer:
    """Bodies, their centres and their names on every slice.

    Args:
        bundle: of mri-detect.
        stack: signal, shape (slices, rows, columns), pixels of `spacing_mm`, any size.
        signal: what is black and what is white, see `signal_range_of`.
    """
    outline = bundle.metadata.mr.outline_at
    answer = answer_stack(bundle.network, mr_contrast(stack, *signal), BATCH)
    rows, columns = stack.shape[1:]
    places = torch.stack(
        torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    ) + answer.offset * (OFFSET_UNIT_MM / spacing_mm(bundle))
    return DenseAnswer(
        (answer.body - math.log(outline / (1 - outline))).sigmoid().numpy(),
        places.numpy(),
        answer.heatmaps.numpy(),
        HEATMAP_STRIDE,
        levels(bundle),
    )


def six_points(bundle: Bundle, planes: Tensor, signal: tuple[float, float]) -> Tensor:
    """The six morphometry points on mid-sagittal planes.

    Args:
        bundle: of mri-points.
        planes: shape (planes, 2, rows, columns): signal, and the probability that a pixel is the body.
        signal: as in `detect`.

    Returns:
        float32, shape (planes, 6, 2): [row, column], sub-pixel, in the order of `report.SIX_POINT_NAMES`.
    """
    answers = []
    for batch in torch.split(planes, 4 * BATCH):
        image = torch.cat([mr_contrast(batch[:, :1], *signal), batch[:, 1:].float()], dim=1)
        with torch.inference_mode():
            heatmaps = bundle.network(image.to(bundle.device)).product
        answers.append(peak_positions(heatmaps.float().cpu())[0])
    return torch.cat(answers)
