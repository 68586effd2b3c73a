"""What all overview pictures share: bodies outlined in the colour of their grade, names, findings, a legend.

Texts stand beside the image, never on the spine. Nothing in a picture tells who the patient is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import dicom_ai_node
from dicom_ai_node.colours import GRADE_COLOURS, POINT_COLOUR, UNGRADED_COLOUR, grade_colour
from dicom_ai_node.report import SpineReport, Vertebra

Rgb = tuple[int, int, int]
Mask = npt.NDArray[np.bool_]

_LEFT, _RIGHT, _TOP, _BOTTOM = 110, 400, 64, 116
_KEY_LEFT: Final = 130
_NARROWEST: Final = 960
_INK: Final[Rgb] = (235, 235, 235)
_FAINT: Final[Rgb] = (150, 150, 150)
_HAIRLINE: Final[Rgb] = (105, 105, 105)
_PAPER: Final[Rgb] = (18, 18, 20)
_SOFTENING: Final = 4
"""Pixels that the edge of a colour reaches."""
_SAID_ANYWAY: Final = ("research-use", "thresholds")
_NAMES: Final = ("normal", "mild (grade 1)", "moderate (grade 2)", "severe (grade 3)")


@dataclass(frozen=True)
class Body:
    """One vertebra in the image.

    Attributes:
        row: of its centre, in pixels.
        mask: which pixels show it, shape of the image.
        points: the six points [row, column] in pixels, shape (6, 2); None where not known.
    """

    vertebra: Vertebra
    row: float
    mask: Mask
    points: npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class Sheet:
    """The image that is drawn on.

    Attributes:
        grey: uint8, shape (rows, columns).
        title: what it shows.
        letters: where left, right, top and bottom edge lie in the patient; empty where not known.
        spacing_mm: of its pixels; None where lengths in the patient are not known.
    """

    grey: npt.NDArray[np.uint8]
    title: str
    letters: tuple[str, str, str, str]
    spacing_mm: float | None


def draw_overview(sheet: Sheet, bodies: Sequence[Body], report: SpineReport) -> Image.Image:
    """The image with its findings, RGB; `bodies` from head to tail."""
    pixels = _coloured(sheet, bodies)
    rows, columns = sheet.grey.shape
    widest = max((font(19).getlength(_finding(body.vertebra)) for body in bodies), default=0)
    width = max(_NARROWEST, columns + _LEFT + max(_RIGHT, int(widest) + 40))
    canvas = Image.new("RGB", (width, rows + _TOP + _BOTTOM), _PAPER)
    canvas.paste(Image.fromarray(pixels), (_LEFT, _TOP))
    draw = ImageDraw.Draw(canvas)
    _draw_points(draw, sheet, bodies)
    _draw_names(draw, columns, bodies)
    _draw_frame(draw, sheet, canvas.size[0], report)
    _draw_legend(draw, canvas.size, report)
    if report.status != "analysed":
        _draw_refusal(draw, columns, report)
    return canvas


def draw_key_picture(sheet: Sheet, bodies: Sequence[Body]) -> Image.Image:
    """The image with its bodies and their names alone, RGB: for a page that says the rest in words.

    Letters are large enough to be read at a third of the size.
    """
    pixels = _coloured(sheet, bodies)
    rows, columns = sheet.grey.shape
    canvas = Image.new("RGB", (_KEY_LEFT + columns, rows), _PAPER)
    canvas.paste(Image.fromarray(pixels), (_KEY_LEFT, 0))
    draw = ImageDraw.Draw(canvas)
    _draw_points(draw, sheet, bodies, (_KEY_LEFT, 0))
    places = _spread([body.row for body in bodies], 46.0)
    for body, place in zip(bodies, places, strict=True):
        across = np.flatnonzero(body.mask[int(np.clip(body.row, 0, rows - 1))])
        front = across[0] if len(across) else columns // 2
        ends = [(_KEY_LEFT - 12, place), (_KEY_LEFT + 8, body.row), (_KEY_LEFT + front - 6, body.row)]
        draw.line(ends, fill=_HAIRLINE, width=2)
        name, colour = body.vertebra.level.value, _colour(body.vertebra)
        draw.text((_KEY_LEFT - 18, place), name, fill=colour, font=font(42), anchor="rm")
    _draw_letters(draw, sheet, (_KEY_LEFT, 0), font(44))
    return canvas


def _coloured(sheet: Sheet, bodies: Sequence[Body]) -> npt.NDArray[np.uint8]:
    coloured = [(body.mask, _colour(body.vertebra)) for body in bodies]
    return _colour_bodies(np.repeat(sheet.grey[..., None], 3, axis=-1), coloured)


def _colour(vertebra: Vertebra) -> Rgb:
    return grade_colour(vertebra.genant_grade if vertebra.status == "analysed" else None)


def _colour_bodies(
    pixels: npt.NDArray[np.uint8], bodies: Sequence[tuple[Mask, Rgb]]
) -> npt.NDArray[np.uint8]:
    """A strong outline and a breath of colour inside, with the bone still to be seen."""
    shown = pixels.astype(np.float32)
    for whole, colour in bodies:
        near = _around(whole)
        mask = whole[near]
        inner = ndimage.binary_erosion(mask, iterations=3)
        for part, weight in ((inner, 0.16), (mask & ~inner, 0.9)):
            # Softened by a pixel: outlines without stairs.
            alpha = ndimage.gaussian_filter(part.astype(np.float32), 0.7)[..., None] * weight
            shown[near] = shown[near] * (1 - alpha) + np.array(colour, np.float32) * alpha
    return np.asarray(np.clip(np.rint(shown), 0, 255), dtype=np.uint8)


def _around(mask: Mask) -> tuple[slice, slice]:
    """The part of the image that a body colours: its box and the width of the softening."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    return (
        slice(max(0, rows[0] - _SOFTENING), rows[-1] + _SOFTENING + 1),
        slice(max(0, columns[0] - _SOFTENING), columns[-1] + _SOFTENING + 1),
    )


def _draw_points(
    draw: ImageDraw.ImageDraw, sheet: Sheet, bodies: Sequence[Body], corner: tuple[int, int] = (_LEFT, _TOP)
) -> None:
    r = 4.0 if sheet.spacing_mm is None else float(np.clip(1.3 / sheet.spacing_mm, 3.0, 5.0))
    for body in bodies:
        for row, column in () if body.points is None else body.points:
            x, y = column + corner[0], row + corner[1]
            draw.ellipse((x - r, y - r, x + r, y + r), fill=POINT_COLOUR, outline=(0, 0, 0), width=1)


def _draw_names(draw: ImageDraw.ImageDraw, columns: int, bodies: Sequence[Body]) -> None:
    """Level in the left margin, findings in the right one, each joined to its body by a hairline."""
    large, small = font(26), font(19)
    rows = [body.row + _TOP for body in bodies]
    # A body at the upper edge keeps its name below the title.
    places = _spread([max(row, _TOP + 14) for row in rows], 34.0)
    for body, row, place in zip(bodies, rows, places, strict=True):
        vertebra, mask = body.vertebra, body.mask
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
    words = []
    if vertebra.height_loss is not None and vertebra.genant_grade is not None:
        words.append(f"loss {vertebra.height_loss * 100:.0f} %")
    elif not vertebra.abnormal:
        return "level only"
    if vertebra.genant_grade:
        words.append(f"grade {vertebra.genant_grade}")
        if vertebra.deformity not in {None, "none"}:
            words.append(str(vertebra.deformity))
    if vertebra.fracture_probability is not None and vertebra.fractured:
        words.append(f"p {vertebra.fracture_probability:.2f}")
    kind = vertebra.acuity
    if kind is not None:
        words.append(f"{kind[0]} {100 * kind[1]:.0f} %")
    if vertebra.abnormal and not vertebra.genant_grade:
        words.append("abnormal")
    if vertebra.opinion is not None:
        words.append(f"{vertebra.opinion[0]} {100 * vertebra.opinion[1]:.0f} %")
    return "   ".join(words)


def _spread(rows: Sequence[float], distance: float) -> list[float]:
    """Rows for the texts of rows, in order, at least `distance` apart."""
    places: list[float] = []
    for row in rows:
        places.append(max(row, places[-1] + distance) if places else row)
    return places


def _draw_frame(draw: ImageDraw.ImageDraw, sheet: Sheet, width: int, report: SpineReport) -> None:
    rows, columns = sheet.grey.shape
    title, small = font(24), font(17)
    draw.text((20, 14), sheet.title, fill=_INK, font=title)
    draw.text((20, 42), _fitting(_algorithms(report), small, width - 40), fill=_FAINT, font=small)
    draw.text((width - 20, 14), "RESEARCH USE ONLY", fill=_INK, font=title, anchor="ra")
    _draw_letters(draw, sheet, (_LEFT, _TOP), font(28))
    right, bottom = _LEFT + columns - 16, _TOP + rows - 14
    if sheet.spacing_mm is None:
        return
    bar = 50 / sheet.spacing_mm
    draw.line([(right - bar, bottom), (right, bottom)], fill=_INK, width=3)
    draw.text((right - bar / 2, bottom - 8), "50 mm", fill=_INK, font=small, anchor="mb")


def _draw_letters(
    draw: ImageDraw.ImageDraw,
    sheet: Sheet,
    corner: tuple[int, int],
    letters: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    """Where the edges of the image lie in the patient."""
    (rows, columns), (x, y) = sheet.grey.shape, corner
    left, right, top, bottom = x + 16, x + columns - 16, y + 14, y + rows - 14
    for at, letter, anchor in (
        ((left, y + rows // 2), sheet.letters[0], "lm"),
        ((right, y + rows // 2), sheet.letters[1], "rm"),
        # Off the middle, where the topmost body may reach the edge.
        ((x + columns // 5, top), sheet.letters[2], "mt"),
        ((x + columns // 5, bottom), sheet.letters[3], "mb"),
    ):
        draw.text(at, letter, fill=_INK, font=letters, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _algorithms(report: SpineReport) -> str:
    names: dict[str, list[str]] = {}
    for item in report.algorithms:
        names.setdefault(item.version, []).append(item.name)
    models = "; ".join(f"{', '.join(those)} {version}" for version, those in names.items())
    return f"dicom_ai_node {dicom_ai_node.__version__}{f' ({models})' if models else ''}"


def _fitting(words: str, typeface: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """The words, or as many letters of them as the width holds."""
    if typeface.getlength(words) <= width:
        return words
    longest = next((n for n in range(len(words), 0, -1) if typeface.getlength(f"{words[:n]}…") <= width), 0)
    return f"{words[:longest]}…"


def _draw_legend(draw: ImageDraw.ImageDraw, size: tuple[int, int], report: SpineReport) -> None:
    small = font(17)
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
    draw.text((20, size[1] - 16), _fitting(words, small, size[0] - 40), fill=_FAINT, font=small, anchor="ls")


def _draw_refusal(draw: ImageDraw.ImageDraw, columns: int, report: SpineReport) -> None:
    """Why there is nothing to see, beside the picture."""
    left = _LEFT + columns + 24
    draw.text((left, _TOP + 20), "Could not be analysed", fill=UNGRADED_COLOUR, font=font(26), anchor="lm")
    lines = [line for reason in report.reasons for line in textwrap.wrap(reason.text, 36)]
    draw.multiline_text((left, _TOP + 48), "\n".join(lines), fill=_INK, font=font(19), spacing=8)


def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface of all pictures."""
    return ImageFont.load_default(size)
