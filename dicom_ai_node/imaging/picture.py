"""`sagittal_sheet`: a volume as one picture of the whole spine, with the bodies that were found in it.

A curved sagittal reformat, CT in a bone window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.imaging.reformat import CurvedReformat, curved_sagittal_reformat, shown_extent
from dicom_ai_node.imaging.resample import sample_points
from dicom_ai_node.imaging.sheet import Body, Mask, Sheet
from dicom_ai_node.imaging.signal_window import signal_window
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.report import Analysis, LabelMap, Vertebra

BONE_WINDOW: Final = (-350.0, 1150.0)
"""Hounsfield units that are black and white."""

_HEIGHT: Final = 1200
"""Pixels of the reformat from head to feet, at most."""
_FINEST_MM: Final = 0.3


def sagittal_sheet(volume: Volume, analysis: Analysis) -> tuple[Sheet, list[Body]]:
    """What is drawn on, and where the bodies are.

    Args:
        volume: that was analysed.
        analysis: what was found; without a label map, bodies are drawn by their six points or centres.
    """
    seen = [item for item in analysis.report.vertebrae if item.center_mm is not None]
    centers = np.array([item.center_mm for item in seen], dtype=np.float64).reshape(-1, 3)
    sheet = curved_sagittal_reformat(volume, centers, spacing_mm=_spacing(volume, centers), thickness_mm=4.0)
    masks = _body_masks(sheet, analysis.label_map, seen, volume)
    bodies = [
        Body(
            item,
            float(sheet.to_pixels(item.center_mm or (0, 0, 0))[0]),
            mask,
            None if item.six_points is None else sheet.to_pixels(item.six_points.to_array()),
        )
        for item, mask in zip(seen, masks, strict=True)
    ]
    window = signal_window(volume.voxels) if volume.modality == "MR" else BONE_WINDOW
    shown = Sheet(
        _windowed(sheet.pixels, *window),
        "reformat",
        ("A", "P", "H", "F"),
        sheet.spacing_mm,
    )
    return shown, bodies


def _spacing(volume: Volume, centers: npt.NDArray[np.float64]) -> float:
    """Small enough for smooth outlines, large enough for a screen."""
    low, high = shown_extent(volume, centers)
    return max(_FINEST_MM, float(high[2] - low[2]) / _HEIGHT, float(high[1] - low[1]) / _HEIGHT)


def _windowed(pixels: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.uint8]:
    grey = np.clip((pixels - low) / (high - low), 0, 1)
    return np.asarray(grey * 255, dtype=np.uint8)


def _body_masks(
    sheet: CurvedReformat, label_map: LabelMap | None, seen: Sequence[Vertebra], volume: Volume
) -> list[Mask]:
    """Which pixels of the sheet show which body: from the label map, else between the six points.

    Without either, the box of a vertebra on a sagittal slice.
    """
    boxes = [] if label_map is None else ndimage.find_objects(label_map.labels)
    masks = []
    for vertebra in seen:
        label = verse_label(vertebra.level)
        box = boxes[label - 1] if label <= len(boxes) else None
        if label_map is not None and label_map.affine is not None and box is not None:
            masks.append(_label_mask(sheet, label_map.labels, label_map.affine, box, label))
        else:
            masks.append(_polygon_mask(sheet, vertebra, volume))
    return masks


def _label_mask(
    sheet: CurvedReformat,
    labels: npt.NDArray[np.uint8],
    affine: npt.NDArray[np.float64],
    box: tuple[slice, slice, slice],
    label: int,
) -> Mask:
    """Interpolated, so that thick slices give a smooth outline and no stairs."""
    mask = np.zeros(sheet.pixels.shape, bool)
    body = np.pad((labels[box] == label).astype(np.float32), 1)
    start = np.array([part.start - 1 for part in box])
    part_affine = affine.copy()
    part_affine[:3, 3] += affine[:3, :3] @ start
    ends = [(0, size - 1) for size in body.shape]
    corners = np.array([[i, j, k] for i in ends[0] for j in ends[1] for k in ends[2]])
    at = sheet.to_pixels(corners @ part_affine[:3, :3].T + part_affine[:3, 3])
    first = np.clip(np.floor(at.min(axis=0)), 0, mask.shape).astype(int)
    last = np.clip(np.ceil(at.max(axis=0)) + 1, 0, mask.shape).astype(int)
    if (first >= last).any():
        return mask
    grid = np.moveaxis(np.indices(tuple(last - first)), 0, -1) + first
    values = sample_points(body, part_affine, sheet.to_mm(grid), fill=0.0).numpy()
    mask[first[0] : last[0], first[1] : last[1]] = values >= 0.5
    return mask


def _polygon_mask(sheet: CurvedReformat, vertebra: Vertebra, volume: Volume) -> Mask:
    picture = Image.new("L", sheet.pixels.shape[::-1], 0)
    corners = _box_corners_mm(vertebra, volume) if vertebra.six_points is None else None
    if corners is not None:
        outline = [(float(column), float(row)) for row, column in sheet.to_pixels(corners)]
        ImageDraw.Draw(picture).polygon(outline, fill=255)
    elif vertebra.six_points is not None:
        points = sheet.to_pixels(vertebra.six_points.to_array())
        outline = [(float(points[k, 1]), float(points[k, 0])) for k in (0, 2, 4, 5, 3, 1)]
        ImageDraw.Draw(picture).polygon(outline, fill=255)
    else:
        row, column = sheet.to_pixels(vertebra.center_mm or (0, 0, 0))
        ImageDraw.Draw(picture).ellipse((column - 6, row - 6, column + 6, row + 6), fill=255)
    return np.asarray(picture) > 0


def _box_corners_mm(vertebra: Vertebra, volume: Volume) -> npt.NDArray[np.float64] | None:
    """The four corners of a vertebra's box in order around it; None where no sagittal slice shows it."""
    told = vertebra.box_px
    normal = np.cross(volume.direction[:, 2], volume.direction[:, 1])
    if told is None or abs(normal[0]) < np.sqrt(0.5):
        return None
    places = [
        number
        for number, image in enumerate(volume.instances)
        if (image.sop_instance_uid, image.frame) == (told.sop_instance_uid, told.frame)
    ]
    if not places:
        return None
    (top, bottom), (left, right) = told.rows, told.columns
    index = np.array([(places[0], row, column) for row, column in
                      ((top, left), (top, right), (bottom, right), (bottom, left))])  # fmt: skip
    corners: npt.NDArray[np.float64] = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    return corners
