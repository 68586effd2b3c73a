"""`sagittal_overview`: the one picture that shows what was found, for people who look before they read.

A curved sagittal reformat in a bone window; every body outlined in the colour of its grade and named beside
the spine, never on it; the six points; loss of height in words. Nothing in it tells who the patient is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import dicom_ai_node
from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.colours import GRADE_COLOURS, POINT_COLOUR, UNGRADED_COLOUR, grade_colour
from dicom_ai_node.imaging.reformat import CurvedReformat, curved_sagittal_reformat, shown_extent
from dicom_ai_node.imaging.resample import sample_points
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.report import Analysis, LabelMap, SpineReport, Vertebra

Rgb = tuple[int, int, int]
Mask = npt.NDArray[np.bool_]

WINDOW_CENTER, WINDOW_WIDTH = 400.0, 1500.0

_HEIGHT: Final = 1200
"""Pixels of the reformat from head to feet, at most."""
_FINEST_MM: Final = 0.3
_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 400, 64, 96
_NARROWEST: Final = 960
_INK: Final[Rgb] = (235, 235, 235)
_FAINT: Final[Rgb] = (150, 150, 150)
_HAIRLINE: Final[Rgb] = (105, 105, 105)
_PAPER: Final[Rgb] = (18, 18, 20)
_SAID_ANYWAY: Final = ("research-use", "thresholds")
_NAMES: Final = ("normal", "mild (grade 1)", "moderate (grade 2)", "severe (grade 3)")


def sagittal_overview(volume: Volume, analysis: Analysis) -> Image.Image:
    """Draws the findings of one series.

    Args:
        volume: that was analysed.
        analysis: what was found; without a label map, bodies are drawn by their six points or centres.

    Returns:
        RGB; about 1,400 pixels high where there is a whole spine to show.
    """
    seen = [item for item in analysis.report.vertebrae if item.center_mm is not None]
    centers = np.array([item.center_mm for item in seen], dtype=np.float64).reshape(-1, 3)
    sheet = curved_sagittal_reformat(volume, centers, spacing_mm=_spacing(volume, centers), thickness_mm=4.0)
    masks = _body_masks(sheet, analysis.label_map, seen)
    pixels = _colour_bodies(
        _windowed(sheet.pixels), [(masks[k], _colour(item)) for k, item in enumerate(seen)]
    )
    rows, columns = sheet.pixels.shape
    width = max(_NARROWEST, columns + _LEFT + _RIGHT)
    canvas = Image.new("RGB", (width, rows + _TOP + _BOTTOM), _PAPER)
    canvas.paste(Image.fromarray(pixels), (_LEFT, _TOP))
    draw = ImageDraw.Draw(canvas)
    _draw_points(draw, sheet, seen)
    _draw_names(draw, sheet, seen, masks)
    _draw_frame(draw, sheet, canvas.size[0], analysis.report)
    _draw_legend(draw, canvas.size, analysis.report)
    if analysis.report.status != "analysed":
        _draw_refusal(draw, sheet, analysis.report)
    return canvas


def _spacing(volume: Volume, centers: npt.NDArray[np.float64]) -> float:
    """Small enough for smooth outlines, large enough for a screen."""
    low, high = shown_extent(volume, centers)
    return max(_FINEST_MM, float(high[2] - low[2]) / _HEIGHT, float(high[1] - low[1]) / _HEIGHT)


def _windowed(pixels: npt.NDArray[np.int16]) -> npt.NDArray[np.uint8]:
    low = WINDOW_CENTER - WINDOW_WIDTH / 2
    grey = np.clip((pixels.astype(np.float32) - low) / WINDOW_WIDTH, 0, 1)
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=-1)


def _colour(vertebra: Vertebra) -> Rgb:
    return grade_colour(vertebra.genant_grade if vertebra.status == "analysed" else None)


def _body_masks(sheet: CurvedReformat, label_map: LabelMap | None, seen: Sequence[Vertebra]) -> list[Mask]:
    """Which pixels of the sheet show which body: from the label map, else between the six points."""
    boxes = [] if label_map is None else ndimage.find_objects(label_map.labels)
    masks = []
    for vertebra in seen:
        label = verse_label(vertebra.level)
        box = boxes[label - 1] if label <= len(boxes) else None
        if label_map is not None and label_map.affine is not None and box is not None:
            masks.append(_label_mask(sheet, label_map.labels, label_map.affine, box, label))
        else:
            masks.append(_polygon_mask(sheet, vertebra))
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


def _polygon_mask(sheet: CurvedReformat, vertebra: Vertebra) -> Mask:
    picture = Image.new("L", sheet.pixels.shape[::-1], 0)
    if vertebra.six_points is not None:
        points = sheet.to_pixels(vertebra.six_points.to_array())
        outline = [(float(points[k, 1]), float(points[k, 0])) for k in (0, 2, 4, 5, 3, 1)]
        ImageDraw.Draw(picture).polygon(outline, fill=255)
    else:
        row, column = sheet.to_pixels(vertebra.center_mm or (0, 0, 0))
        ImageDraw.Draw(picture).ellipse((column - 6, row - 6, column + 6, row + 6), fill=255)
    return np.asarray(picture) > 0


def _colour_bodies(
    pixels: npt.NDArray[np.uint8], bodies: Sequence[tuple[Mask, Rgb]]
) -> npt.NDArray[np.uint8]:
    """A strong outline and a breath of colour inside, with the bone still to be seen."""
    shown = pixels.astype(np.float32)
    for mask, colour in bodies:
        inner = ndimage.binary_erosion(mask, iterations=3)
        for part, weight in ((inner, 0.16), (mask & ~inner, 0.9)):
            # Softened by a pixel: outlines without stairs.
            alpha = ndimage.gaussian_filter(part.astype(np.float32), 0.7)[..., None] * weight
            shown = shown * (1 - alpha) + np.array(colour, np.float32) * alpha
    return np.asarray(np.clip(np.rint(shown), 0, 255), dtype=np.uint8)


def _draw_points(draw: ImageDraw.ImageDraw, sheet: CurvedReformat, seen: Sequence[Vertebra]) -> None:
    r = float(np.clip(1.3 / sheet.spacing_mm, 3.0, 5.0))
    for vertebra in seen:
        if vertebra.six_points is None:
            continue
        for row, column in sheet.to_pixels(vertebra.six_points.to_array()):
            x, y = column + _LEFT, row + _TOP
            draw.ellipse((x - r, y - r, x + r, y + r), fill=POINT_COLOUR, outline=(0, 0, 0), width=1)


def _draw_names(
    draw: ImageDraw.ImageDraw, sheet: CurvedReformat, seen: Sequence[Vertebra], masks: Sequence[Mask]
) -> None:
    """Level in the left margin, findings in the right one, each joined to its body by a hairline."""
    columns = sheet.pixels.shape[1]
    large, small = _font(26), _font(19)
    rows = [float(sheet.to_pixels(item.center_mm or (0, 0, 0))[0]) + _TOP for item in seen]
    places = _spread(rows, 34.0)
    for vertebra, mask, row, place in zip(seen, masks, rows, places, strict=True):
        colour = _colour(vertebra)
        across = np.flatnonzero(mask[int(np.clip(row - _TOP, 0, mask.shape[0] - 1))])
        front, back = (across[0], across[-1]) if len(across) else (columns // 2, columns // 2)
        draw.line([(_LEFT - 12, place), (_LEFT + 8, row), (_LEFT + front - 6, row)], fill=_HAIRLINE, width=1)
        edge = _LEFT + columns
        draw.line([(_LEFT + back + 6, row), (edge - 8, row), (edge + 12, place)], fill=_HAIRLINE, width=1)
        draw.text((_LEFT - 18, place), vertebra.level.value, fill=colour, font=large, anchor="rm")
        draw.text((edge + 18, place), _finding(vertebra), fill=_INK, font=small, anchor="lm")


def _finding(vertebra: Vertebra) -> str:
    if vertebra.status != "analysed":
        return f"not judged: {', '.join(reason.code for reason in vertebra.reasons) or 'no reason given'}"
    if vertebra.height_loss is None or vertebra.genant_grade is None:
        return "level only"
    words = [f"loss {vertebra.height_loss * 100:.0f} %"]
    if vertebra.genant_grade > 0:
        words.append(f"grade {vertebra.genant_grade}")
        if vertebra.deformity not in {None, "none"}:
            words.append(str(vertebra.deformity))
    if vertebra.fracture_probability is not None and vertebra.fractured:
        words.append(f"p {vertebra.fracture_probability:.2f}")
    return "   ".join(words)


def _spread(rows: Sequence[float], distance: float) -> list[float]:
    """Rows for the texts of rows, in order, at least `distance` apart."""
    places: list[float] = []
    for row in rows:
        places.append(max(row, places[-1] + distance) if places else row)
    return places


def _draw_frame(draw: ImageDraw.ImageDraw, sheet: CurvedReformat, width: int, report: SpineReport) -> None:
    rows, columns = sheet.pixels.shape
    title, small, letters = _font(24), _font(17), _font(28)
    draw.text((20, 14), "Vertebral bodies, curved sagittal reformat", fill=_INK, font=title)
    draw.text((20, 42), _algorithms(report), fill=_FAINT, font=small)
    draw.text((width - 20, 14), "RESEARCH USE ONLY", fill=_INK, font=title, anchor="ra")
    left, right, top, bottom = _LEFT + 16, _LEFT + columns - 16, _TOP + 14, _TOP + rows - 14
    middle = _TOP + rows // 2
    for at, letter, anchor in (
        ((left, middle), "A", "lm"),
        ((right, middle), "P", "rm"),
        # Off the middle, where the topmost body may reach the edge.
        ((_LEFT + columns // 5, top), "H", "mt"),
        ((_LEFT + columns // 5, bottom), "F", "mb"),
    ):
        draw.text(at, letter, fill=_INK, font=letters, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
    bar = 50 / sheet.spacing_mm
    draw.line([(right - bar, bottom), (right, bottom)], fill=_INK, width=3)
    draw.text((right - bar / 2, bottom - 8), "50 mm", fill=_INK, font=small, anchor="mb")


def _algorithms(report: SpineReport) -> str:
    models = ", ".join(f"{item.name} {item.version}" for item in report.algorithms)
    return f"dicom_ai_node {dicom_ai_node.__version__}{f' ({models})' if models else ''}"


def _draw_legend(draw: ImageDraw.ImageDraw, size: tuple[int, int], report: SpineReport) -> None:
    small = _font(17)
    x, y = 20.0, size[1] - _BOTTOM + 30.0
    for colour, name in [*zip(GRADE_COLOURS, _NAMES, strict=True), (UNGRADED_COLOUR, "not graded")]:
        draw.rounded_rectangle((x, y - 8, x + 22, y + 8), radius=3, fill=colour)
        draw.text((x + 30, y), name, fill=_INK, font=small, anchor="lm")
        x += 30 + small.getlength(name) + 26
        if x > size[0] - 150:
            x, y = 20.0, y + 28
    draw.ellipse((x + 4, y - 5, x + 14, y + 5), fill=POINT_COLOUR)
    draw.text((x + 24, y), "six points", fill=_INK, font=small, anchor="lm")
    limits = [item.text for item in report.limitations if item.code not in _SAID_ANYWAY]
    words = f"Loss of height by Genant; for research use, not validated clinically. {' '.join(limits)}"
    longest = next((n for n in range(len(words), 0, -1) if small.getlength(words[:n]) < size[0] - 60), 0)
    words = words if longest == len(words) else f"{words[:longest]}…"
    draw.text((20, size[1] - 16), words, fill=_FAINT, font=small, anchor="ls")


def _draw_refusal(draw: ImageDraw.ImageDraw, sheet: CurvedReformat, report: SpineReport) -> None:
    """Why there is nothing to see, beside the picture."""
    left = _LEFT + sheet.pixels.shape[1] + 24
    draw.text((left, _TOP + 20), "Could not be analysed", fill=UNGRADED_COLOUR, font=_font(26), anchor="lm")
    lines = [line for reason in report.reasons for line in textwrap.wrap(reason.text, 36)]
    draw.multiline_text((left, _TOP + 48), "\n".join(lines), fill=_INK, font=_font(19), spacing=8)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
