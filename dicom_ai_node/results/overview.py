"""The one picture that shows what was found, for people who look before they read.

Every body is outlined in the colour of its grade; names, findings and a legend stand beside the image, never
on the spine. Nothing in a picture tells who the patient is.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import dicom_ai_node
from dicom_ai_node.colours import POINT_COLOUR, UNGRADED_COLOUR, Rgb, grade_colour
from dicom_ai_node.imaging.sheet import Body, Mask, Sheet
from dicom_ai_node.report import SpineReport, Vertebra
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.typeface import font
from dicom_ai_node.results.wording import explained

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


def draw_overview(
    sheet: Sheet, bodies: Sequence[Body], report: SpineReport, language: Language = ENGLISH
) -> Image.Image:
    """The image with its findings, RGB, about 1,400 pixels high; `bodies` from head to tail."""
    pixels = _coloured(sheet, bodies)
    rows, columns = sheet.grey.shape
    widest = max((font(17).getlength(short_finding(body.vertebra, language)) for body in bodies), default=0)
    width = max(_NARROWEST, columns + _LEFT + max(_RIGHT, int(widest) + 40))
    canvas = Image.new("RGB", (width, rows + _TOP + _BOTTOM), _PAPER)
    canvas.paste(Image.fromarray(pixels), (_LEFT, _TOP))
    draw = ImageDraw.Draw(canvas)
    _draw_points(draw, sheet, bodies)
    _draw_names(draw, columns, bodies, language)
    _draw_frame(draw, sheet, canvas.size[0], report, language)
    _draw_legend(draw, canvas.size, report, language)
    if report.status != "analysed":
        _draw_refusal(draw, columns, report, language)
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
        draw.text((_KEY_LEFT - 18, place), name, fill=colour, font=font(38), anchor="rm")
    _draw_letters(draw, sheet, (_KEY_LEFT, 0), font(40))
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


def _draw_names(draw: ImageDraw.ImageDraw, columns: int, bodies: Sequence[Body], language: Language) -> None:
    """Level in the left margin, findings in the right one, each joined to its body by a hairline."""
    large, small = font(24), font(17)
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
        draw.text((edge + 18, place), short_finding(vertebra, language), fill=_INK, font=small, anchor="lm")


def short_finding(vertebra: Vertebra, language: Language) -> str:
    """What the picture says of a vertebra beside its name."""
    short = language.picture
    if vertebra.status != "analysed":
        why = ", ".join(reason.code for reason in vertebra.reasons)
        return f"{short.not_judged} ({why})" if why else short.not_judged
    words = []
    if vertebra.height_loss is not None and vertebra.genant_grade is not None:
        words.append(short.loss.format(language.rounded_share(vertebra.height_loss)))
    elif vertebra.ungraded_fracture:
        words += [language.classes["fractured"], language.grades[-1]]
    elif not vertebra.abnormal and vertebra.diseases is None:
        return short.level_only
    if vertebra.genant_grade:
        words.append(short.grade.format(vertebra.genant_grade))
        shape = short.deformities.get(vertebra.deformity or "none")
        words += [] if shape is None else [shape]
    elif vertebra.fractured and vertebra.height_loss is not None:
        words.append(language.classes["fractured"])
    words += _diseases(vertebra, language)
    by_height = bool(vertebra.fractured) and vertebra.height_loss is not None
    if vertebra.fracture_probability is not None and (by_height or vertebra.ungraded_fracture):
        words.append(f"p {language.number(vertebra.fracture_probability, 2)}")
    if vertebra.acuity is not None:
        words.append(_opinion(vertebra.acuity, short.acuities, language))
    if vertebra.abnormal and not vertebra.genant_grade:
        words.append(short.abnormal)
    if vertebra.opinion is not None:
        words.append(_opinion(vertebra.opinion, short.malignancies, language))
    return "   ".join(words)


def _opinion(opinion: tuple[str, float], names: Mapping[str, str], language: Language) -> str:
    return f"{names[opinion[0]]} {language.rounded_share(opinion[1])}"


def _diseases(vertebra: Vertebra, language: Language) -> list[str]:
    """``OVCF 91 % (5 of 7)``: slices that show it; where no disease was seen and no height told, that."""
    if vertebra.diseases is None:
        return []
    shares, short = vertebra.disease_shares or {}, language.picture
    words = []
    for name in vertebra.diseases:
        seen = vertebra.seen_on.get(name)
        slices = "" if seen is None else f" ({short.slices.format(slices=seen.slices, of=seen.of)})"
        words.append(f"{short.diseases[name]} {language.rounded_share(shares.get(name, 0.0))}{slices}")
    return words if words or vertebra.height_loss is not None else [short.no_disease]


def _spread(rows: Sequence[float], distance: float) -> list[float]:
    """Rows for the texts of rows, in order, at least `distance` apart."""
    places: list[float] = []
    for row in rows:
        places.append(max(row, places[-1] + distance) if places else row)
    return places


def _draw_frame(
    draw: ImageDraw.ImageDraw, sheet: Sheet, width: int, report: SpineReport, language: Language
) -> None:
    rows, columns = sheet.grey.shape
    large, small = font(21), font(15)
    notice = language.research_use
    title = language.picture.film if sheet.kind == "film" else language.picture.reformat
    room = width - 60 - large.getlength(notice)
    draw.text((20, 14), _fitting(title, large, room), fill=_INK, font=large)
    draw.text((20, 42), _fitting(_algorithms(report), small, width - 40), fill=_FAINT, font=small)
    draw.text((width - 20, 14), notice, fill=_INK, font=large, anchor="ra")
    _draw_letters(draw, sheet, (_LEFT, _TOP), font(25))
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
    letters: ImageFont.FreeTypeFont,
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


def _fitting(words: str, typeface: ImageFont.FreeTypeFont, width: float) -> str:
    """The words, or as many letters of them as the width holds."""
    if typeface.getlength(words) <= width:
        return words
    longest = next((n for n in range(len(words), 0, -1) if typeface.getlength(f"{words[:n]}…") <= width), 0)
    return f"{words[:longest]}…"


def _two_lines(words: str, typeface: ImageFont.FreeTypeFont, width: float) -> tuple[str, str]:
    """As much of the words as two lines hold."""
    first: list[str] = []
    rest = words.split()
    while rest and typeface.getlength(" ".join([*first, rest[0]])) <= width:
        first.append(rest.pop(0))
    return " ".join(first), _fitting(" ".join(rest), typeface, width)


def _draw_legend(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], report: SpineReport, language: Language
) -> None:
    small = font(15)
    x, y = 20.0, size[1] - _BOTTOM + 30.0
    colours = map(grade_colour, (0, 1, 2, 3, None))
    for colour, name in zip(colours, language.grades, strict=True):
        draw.rounded_rectangle((x, y - 8, x + 22, y + 8), radius=3, fill=colour)
        draw.text((x + 30, y), name, fill=_INK, font=small, anchor="lm")
        x += 30 + small.getlength(name) + 26
    draw.ellipse((x + 4, y - 5, x + 14, y + 5), fill=POINT_COLOUR)
    draw.text((x + 24, y), language.picture.six_points, fill=_INK, font=small, anchor="lm")
    limits = [explained(item, language)[0] for item in report.limitations if item.code not in _SAID_ANYWAY]
    words = [language.how_to_read, language.reasons["research-use"], *limits]
    for up, line in zip((42, 16), _two_lines(" ".join(words), small, size[0] - 40), strict=True):
        draw.text((20, size[1] - up), line, fill=_FAINT, font=small, anchor="ls")


def _draw_refusal(draw: ImageDraw.ImageDraw, columns: int, report: SpineReport, language: Language) -> None:
    """Why there is nothing to see, beside the picture."""
    left, top = _LEFT + columns + 24, _TOP + 8
    for sentence, size, colour in (
        (language.refused, 22, UNGRADED_COLOUR),
        *((explained(reason, language)[0], 17, _INK) for reason in report.reasons),
    ):
        lines = textwrap.wrap(sentence, int(620 / size))
        draw.multiline_text((left, top), "\n".join(lines), fill=colour, font=font(size), spacing=8)
        top += round(len(lines) * (1.2 * size + 8)) + 12
