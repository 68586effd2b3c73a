"""The report of one page as PDF: always one page of A4, the same bytes for the same page.

The typeface is embedded, so that umlauts, accents, Greek and Cyrillic names are shown wherever the page is
read. There is no script, no link and no transparency in it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final
from xml.sax.saxutils import escape

from PIL.Image import Image
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, KeepInFrame, Paragraph, Spacer, Table, TableStyle

from dicom_ai_node.results.page import Page, Row
from dicom_ai_node.results.typeface import BOLD, PLAIN

_PLAIN, _BOLD = "DejaVuSans", "DejaVuSans-Bold"
_INK, _FAINT, _RULE, _WARNING = (HexColor(value) for value in ("#1c1c20", "#55555c", "#c8c8ce", "#a33a00"))
_MARGIN: Final = 14 * mm
_GAP: Final = 4 * mm
_PICTURE_WIDTH: Final = 82 * mm
_LOWEST_PICTURE, _HIGHEST_PICTURE = 85 * mm, 150 * mm


def pdf_page(page: Page, picture: Image | None) -> bytes:
    """The page as a PDF file."""
    _typefaces()
    data = io.BytesIO()
    tag = page.language.tag
    canvas = Canvas(data, pagesize=A4, pageCompression=1, invariant=1, lang=tag, initialFontName=_PLAIN)
    canvas.setTitle(page.words.title)
    canvas.setSubject(page.language.research_use)
    canvas.setCreator("dicom-ai-node")
    width, top = A4[0] - 2 * _MARGIN, A4[1] - _MARGIN
    top = _heading(canvas, page, width, top)
    top = _put(canvas, _facts(page, width), width, top) - _GAP
    bottom = _MARGIN + _footer(canvas, page, width) + _GAP
    table = _table(page, width)
    wanted = sum(item.wrap(width, A4[1])[1] for item in table)
    height = min(max(top - bottom - wanted - _GAP, _LOWEST_PICTURE), _HIGHEST_PICTURE)
    top -= _findings(canvas, page, picture, (width, top, height)) + 1.5 * _GAP
    _put(canvas, _fitted(table, width, top - bottom), width, top)
    canvas.showPage()
    canvas.save()
    return data.getvalue()


@lru_cache(maxsize=1)
def _typefaces() -> dict[str, Any]:
    found = {name: TTFont(name, str(file)) for name, file in ((_PLAIN, PLAIN), (_BOLD, BOLD))}
    for typeface in found.values():
        pdfmetrics.registerFont(typeface)
    pdfmetrics.registerFontFamily(_PLAIN, normal=_PLAIN, bold=_BOLD, italic=_PLAIN, boldItalic=_BOLD)
    return found


def _words(
    text: str, size: float = 9, *, bold: bool = False, colour: Color = _INK, indent: float = 0
) -> Flowable:
    """A paragraph; letters that the typeface lacks become question marks."""
    known = _typefaces()[_PLAIN].face.charToGlyph
    shown = "".join(sign if ord(sign) in known else "?" for sign in text)
    return _marked(escape(shown), size, bold=bold, colour=colour, indent=indent)


def _marked(
    text: str, size: float, *, bold: bool = False, colour: Color = _INK, indent: float = 0
) -> Flowable:
    """A paragraph with reportlab's own marks in it."""
    style = ParagraphStyle(
        "page",
        fontName=_BOLD if bold else _PLAIN,
        fontSize=size,
        leading=1.32 * size,
        textColor=colour,
        leftIndent=indent,
        bulletIndent=0,
        splitLongWords=1,
        bulletFontName=_PLAIN,
    )
    return Paragraph(text, style, bulletText="•" if indent else None)


def _put(canvas: Canvas, item: Flowable, width: float, top: float) -> float:
    """Draws from `top` down; returns where it ends."""
    _, height = item.wrapOn(canvas, width, top)
    item.drawOn(canvas, _MARGIN, top - height)
    return float(top - height)


def _fitted(items: Sequence[Flowable], width: float, height: float) -> KeepInFrame:
    return KeepInFrame(width, height, list(items), mode="shrink", hAlign="LEFT", vAlign="TOP")


def _heading(canvas: Canvas, page: Page, width: float, top: float) -> float:
    notice = page.language.research_use
    mark = pdfmetrics.stringWidth(notice, _BOLD, 10) + 6 * mm
    canvas.setStrokeColor(_WARNING)
    canvas.setFillColor(_WARNING)
    canvas.setLineWidth(1.2)
    canvas.rect(_MARGIN + width - mark, top - 7 * mm, mark, 7 * mm)
    canvas.setFont(_BOLD, 10)
    canvas.drawCentredString(_MARGIN + width - mark / 2, top - 4.8 * mm, notice)
    ends = _put(canvas, _words(page.words.title, 12.5, bold=True), width - mark - _GAP, top - 0.5 * mm)
    line = min(ends, top - 7 * mm) - 2 * mm
    canvas.setStrokeColor(_INK)
    canvas.line(_MARGIN, line, _MARGIN + width, line)
    return float(line - 2.5 * mm)


def _facts(page: Page, width: float) -> Table:
    """Two facts a line; the last one, what was examined, has a line of its own."""
    cells = [
        [_words(name, 8, colour=_FAINT), _words(fact or "–", 9, bold=number == 0)]
        for number, (name, fact) in enumerate(page.facts)
    ]
    pairs = cells[:-1]
    lines = [pairs[k] + (pairs[k + 1] if k + 1 < len(pairs) else ["", ""]) for k in range(0, len(pairs), 2)]
    lines.append([*cells[-1], "", ""])
    names = (0.2 * width, 0.3 * width)
    style = [("SPAN", (1, len(lines) - 1), (3, len(lines) - 1)), *_TIGHT]
    return Table(lines, colWidths=[*names, *names], style=TableStyle(style))


_TIGHT: Final = [
    ("FONTNAME", (0, 0), (-1, -1), _PLAIN),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ("TOPPADDING", (0, 0), (-1, -1), 1.2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.2),
]


def _findings(canvas: Canvas, page: Page, picture: Image | None, place: tuple[float, float, float]) -> float:
    """The key picture at the left, the impression beside it; returns the height of both."""
    width, top, height = place
    left, pictured = 0.0, 0.0
    if picture is not None:
        caption = _words(page.words.picture, 7, colour=_FAINT)
        _, below = caption.wrapOn(canvas, _PICTURE_WIDTH, height)
        room = height - below - 1.5 * mm
        scale = min(_PICTURE_WIDTH / picture.width, room / picture.height)
        size = picture.width * scale, picture.height * scale
        canvas.drawImage(ImageReader(picture.convert("RGB")), _MARGIN, top - size[1], *size)
        caption.wrapOn(canvas, max(size[0], 45 * mm), height)
        caption.drawOn(canvas, _MARGIN, top - size[1] - 1.5 * mm - caption.height)
        left = max(size[0], 45 * mm) + 2 * _GAP
        pictured = size[1] + 1.5 * mm + float(caption.height)
    words = [
        _words(page.words.impression, 9, colour=_FAINT),
        _words(page.headline, 11, bold=True),
        Spacer(0, 2 * mm),
        *_bullets(page.impression),
    ]
    if page.remarks:
        words += [Spacer(0, 3 * mm), _words(page.words.remarks, 9, colour=_FAINT), *_bullets(page.remarks, 8)]
    text = _fitted(words, width - left, height)
    _, used = text.wrapOn(canvas, width - left, height)
    text.drawOn(canvas, _MARGIN + left, top - used)
    return max(pictured, float(used))


def _bullets(sentences: Sequence[str], size: float = 9) -> list[Flowable]:
    return [item for text in sentences for item in (_words(text, size, indent=12), Spacer(0, 1 * mm))]


def _table(page: Page, width: float) -> list[Flowable]:
    words = page.words
    items: list[Flowable] = []
    if page.rows:
        heads = ("", words.level, words.finding, words.grade, words.loss, words.heights)
        lines = [[_words(head, 7.5, colour=_FAINT) for head in heads], *map(_line, page.rows)]
        shares = (0.025, 0.1, 0.45, 0.07, 0.135, 0.22)
        style = [
            *_TIGHT,
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE),
            *(
                ("BACKGROUND", (0, number), (0, number), Color(*(value / 255 for value in row.colour)))
                for number, row in enumerate(page.rows, start=1)
            ),
            ("LEFTPADDING", (1, 0), (1, -1), 5),
        ]
        items += [
            _words(words.table, 9, colour=_FAINT),
            Spacer(0, 1 * mm),
            Table(
                lines, colWidths=[share * width for share in shares], style=TableStyle(style), hAlign="LEFT"
            ),
            Spacer(0, 2 * mm),
        ]
    if page.rest:
        items.append(_words(page.rest, 8.5))
    return items


def _line(row: Row) -> list[Flowable | str]:
    return [
        "",
        _words(row.level, 9, bold=True),
        *(_words(text, 8) for text in (row.finding, row.grade, row.loss, row.heights)),
    ]


def _footer(canvas: Canvas, page: Page, width: float) -> float:
    """At the lower edge; returns its height."""
    words = page.words
    keys = (
        f'<font color="#{red:02x}{green:02x}{blue:02x}">\u25a0</font> {escape(name)}'
        for (red, green, blue), name in page.legend
    )
    lines = [_words(text, 7, colour=_FAINT) for text in (words.disclaimer, page.made_by)]
    lines.insert(0, _marked(f"{escape(page.language.how_to_read)} {' &nbsp; '.join(keys)}", 7, colour=_FAINT))
    height = sum(line.wrapOn(canvas, width, A4[1])[1] for line in lines) + 2 * mm
    canvas.setStrokeColor(_RULE)
    canvas.line(_MARGIN, _MARGIN + height, _MARGIN + width, _MARGIN + height)
    top = _MARGIN + height - 2 * mm
    for line in lines:
        top = _put(canvas, line, width, top)
    return float(height)
