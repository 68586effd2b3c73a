"""P2's VDModule as a function from sagittal CT slices to boxes of vertebrae.

Slices are HU with the head up and the front left. Boxes lie in the slice's own pixels, whatever frame the
network sees: places are [row, column], integers at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dicom_ai_node.errors import InconsistentGeometry
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.networks.slice_detector import find_vertebrae

BATCH = 4
"""Slices that run at once: enough to keep a device busy, few enough for a small memory."""


@dataclass(frozen=True)
class SliceBox:
    """One vertebra on one slice.

    Attributes:
        rows, columns: first and last pixel of the box, as places of their centres.
        score: probability that it is one, 0 to 1; P2 counts boxes from 0.75 on.
    """

    rows: tuple[float, float]
    columns: tuple[float, float]
    score: float

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom with integers at pixel edges, as `training.ct_slices` has them."""
        return self.columns[0], self.rows[0], self.columns[1] + 1.0, self.rows[1] + 1.0


def detect(bundle: Bundle, image: Tensor, spacing_mm: tuple[float, float]) -> list[SliceBox]:
    """The vertebrae of one slice; see `detect_all`."""
    if image.ndim != 2:
        raise InconsistentGeometry(f"a slice has rows and columns, not the shape {tuple(image.shape)}")
    return detect_all(bundle, image[None], spacing_mm)[0]


@torch.inference_mode()
def detect_all(bundle: Bundle, images: Tensor, spacing_mm: tuple[float, float]) -> list[list[SliceBox]]:
    """The vertebrae of each slice, from head to foot.

    Args:
        bundle: of ct-detect.
        images: HU, shape (n, rows, columns), of any number type.
        spacing_mm: of rows and columns.

    Returns:
        Per slice its boxes from a score of 0.05 on; those that leave the slice end at its border.

    Raises:
        InconsistentGeometry: the images have another shape, or no spacing.
        ModelError: it is no bundle of ct-detect.
    """
    seen = bundle.metadata.ct_slice
    if images.ndim != 3 or 0 in images.shape[1:]:
        raise InconsistentGeometry(f"slices have the shape (n, rows, columns), not {tuple(images.shape)}")
    if min(spacing_mm) <= 0:
        raise InconsistentGeometry(f"slices need a spacing of rows and columns above 0 mm, not {spacing_mm}")
    answers: list[list[SliceBox]] = []
    for part in torch.split(images.to(bundle.device), BATCH) if len(images) else ():
        found = find_vertebrae(
            bundle.network,
            part,
            spacing_mm,
            size=seen.size,
            at_mm=seen.spacing_mm,
            clip_hu=seen.clip_hu,
        )
        answers += [_boxes(boxes, scores) for boxes, scores in found]
    return answers


def _boxes(boxes: Tensor, scores: Tensor) -> list[SliceBox]:
    rows = torch.cat([boxes, scores[:, None]], dim=1).cpu().double().tolist()
    return sorted(
        (
            SliceBox((top, bottom - 1.0), (left, right - 1.0), score)
            for left, top, right, bottom, score in rows
        ),
        key=lambda box: box.rows[0] + box.rows[1],
    )
