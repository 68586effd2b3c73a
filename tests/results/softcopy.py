"""A second opinion on presentation states: PS3.3 A.33.1 read anew, and shown without any of the node's code.

What is read: modality, VOI and presentation LUT (C.11.1, C.11.8, C.11.6), rotation and flip (C.10.6),
displayed area (C.10.4), and per image the layers from the lowest to the highest with their colour (C.10.7),
graphics and texts in pixels of the image or shares of the display (C.10.5).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image, ImageDraw

ZOOM = 4
"""Pixels of the screen for one of the image."""

Picture = npt.NDArray[np.uint8]


def shown(state: pydicom.Dataset, image: pydicom.Dataset, *, frame: int = 1, texts: bool = True) -> Picture:
    """The image under the presentation state, RGB, shape (rows, columns, 3)."""
    plane = image.pixel_array
    plane = plane[frame - 1] if plane.ndim == 3 else plane
    greys = turned(_greys(state, plane.astype(np.float64)), state)
    canvas = Image.fromarray(np.repeat(np.repeat(greys, ZOOM, 0), ZOOM, 1)).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    orders = sorted(state.GraphicLayerSequence, key=lambda item: int(item.GraphicLayerOrder))
    for layer in orders:
        colour = srgb(layer.GraphicLayerRecommendedDisplayCIELabValue)
        for annotation in state.GraphicAnnotationSequence:
            if annotation.GraphicLayer != layer.GraphicLayer or not _is_for(annotation, image, frame):
                continue
            for graphic in annotation.get("GraphicObjectSequence", ()):
                _draw(pen, graphic, state, plane.shape, colour)
            for text in annotation.get("TextObjectSequence", ()) if texts else ():
                _write(pen, text, state, plane.shape, colour)
    return np.asarray(_displayed(canvas, state, plane.shape))


def turned(stored: npt.NDArray, state: pydicom.Dataset) -> npt.NDArray:
    """Rotated clockwise by Image Rotation, then flipped from left to right."""
    rotated = np.rot90(stored, -(int(state.get("ImageRotation", 0)) // 90))
    return rotated[:, ::-1] if state.get("ImageHorizontalFlip") == "Y" else rotated


def place(points: npt.NDArray, state: pydicom.Dataset, shape: tuple[int, ...]) -> npt.NDArray:
    """(column, row) edges of the stored image, as (column, row) of the turned one."""
    x, y = points[:, 0].copy(), points[:, 1].copy()
    rows, columns = shape
    for _ in range(int(state.get("ImageRotation", 0)) // 90 % 4):
        # A quarter clockwise: what was at the bottom is at the left.
        x, y = rows - y, x
        rows, columns = columns, rows
    return np.column_stack([columns - x if state.get("ImageHorizontalFlip") == "Y" else x, y])


def srgb(cielab: list[int]) -> tuple[int, int, int]:
    """PCS values under D50 as a colour of a screen."""
    lightness = cielab[0] / 65535 * 100
    a, b = (value / 65535 * 255 - 128 for value in cielab[1:])
    y = (lightness + 16) / 116
    cubes = np.array([y + a / 500, y, y - b / 200])
    xyz = np.where(cubes > 6 / 29, cubes**3, (cubes - 16 / 116) * 3 * (6 / 29) ** 2)
    xyz *= (0.9642, 1.0, 0.8249)
    to_linear = np.array([[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]])
    linear = np.clip(to_linear @ xyz, 0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(value) for value in np.rint(255 * curve))
    return red, green, blue


def _greys(state: pydicom.Dataset, values: npt.NDArray) -> Picture:
    if "ModalityLUTSequence" in state:
        values = _through(state.ModalityLUTSequence[0], values)
    elif "RescaleSlope" in state:
        values = values * float(state.RescaleSlope) + float(state.RescaleIntercept)
    voi = state.SoftcopyVOILUTSequence[0]
    if "VOILUTSequence" in voi:
        bits = int(voi.VOILUTSequence[0].LUTDescriptor[2])
        share = _through(voi.VOILUTSequence[0], values) / (2**bits - 1)
    else:
        centre, width = float(voi.WindowCenter), float(voi.WindowWidth)
        share = (values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
    share = np.clip(share, 0, 1)
    share = 1 - share if state.get("PresentationLUTShape") == "INVERSE" else share
    return np.rint(255 * share).astype(np.uint8)


def _through(table: pydicom.Dataset, values: npt.NDArray) -> npt.NDArray:
    entries, first, bits = (int(value) for value in table.LUTDescriptor)
    data = np.frombuffer(table.LUTData, "<u2" if bits > 8 else "u1")[: entries or 65536]
    return data[np.clip(np.rint(values) - first, 0, len(data) - 1).astype(int)].astype(np.float64)


def _is_for(annotation: pydicom.Dataset, image: pydicom.Dataset, frame: int) -> bool:
    if "ReferencedImageSequence" not in annotation:
        return True
    return any(
        item.ReferencedSOPInstanceUID == image.SOPInstanceUID
        and frame in np.atleast_1d(item.get("ReferencedFrameNumber", frame))
        for item in annotation.ReferencedImageSequence
    )


def _on_canvas(
    numbers: list[float], units: str, state: pydicom.Dataset, shape: tuple[int, ...]
) -> npt.NDArray:
    points = np.array(numbers, float).reshape(-1, 2)
    if units == "PIXEL":
        return ZOOM * place(points, state, shape)
    first, last = _area(state, shape)
    return ZOOM * (first + points * (last - first))


def _draw(pen: ImageDraw.ImageDraw, graphic: pydicom.Dataset, state, shape, colour) -> None:
    points = _on_canvas(graphic.GraphicData, graphic.GraphicAnnotationUnits, state, shape)
    filled = graphic.get("GraphicFilled") == "Y"
    if graphic.GraphicType == "POLYLINE":
        line = [tuple(point) for point in points]
        pen.polygon(line, fill=colour) if filled else pen.line(line, fill=colour)
    elif graphic.GraphicType == "CIRCLE":
        radius = float(np.linalg.norm(points[1] - points[0]))
        box = [*(points[0] - radius), *(points[0] + radius)]
        pen.ellipse(box, outline=colour, fill=colour if filled else None)
    else:
        raise NotImplementedError(graphic.GraphicType)


def _write(pen: ImageDraw.ImageDraw, text: pydicom.Dataset, state, shape, colour) -> None:
    corners = [*text.BoundingBoxTopLeftHandCorner, *text.BoundingBoxBottomRightHandCorner]
    (left, top), (right, bottom) = _on_canvas(corners, text.BoundingBoxAnnotationUnits, state, shape)
    # The top left corner is the shown one, whichever way the image is turned.
    assert left < right
    assert top < bottom
    anchor = {"LEFT": (left, "lm"), "RIGHT": (right, "rm"), "CENTER": ((left + right) / 2, "mm")}
    where, how = anchor[text.BoundingBoxTextHorizontalJustification]
    size = 0.8 * (bottom - top)
    pen.text((where, (top + bottom) / 2), text.UnformattedTextValue, fill=colour, anchor=how, font_size=size)


def _area(state: pydicom.Dataset, shape: tuple[int, ...]) -> tuple[npt.NDArray, npt.NDArray]:
    """First and last (column, row) edge of what is shown, in the turned image."""
    area = state.DisplayedAreaSelectionSequence[0]
    corners = [area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner]
    # Pixels are counted from 1: their middles.
    middles = place(np.array(corners, float) - 0.5, state, shape)
    assert (middles[0] < middles[1]).all()
    return middles[0] - 0.5, middles[1] + 0.5


def _displayed(canvas: Image.Image, state: pydicom.Dataset, shape: tuple[int, ...]) -> Image.Image:
    first, last = _area(state, shape)
    return canvas.crop(tuple(int(value) for value in ZOOM * np.concatenate([first, last])))
