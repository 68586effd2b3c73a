"""The report of one page as an HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape
from typing import Final

from PIL.Image import Image

from dicom_ai_node.colours import Rgb
from dicom_ai_node.results.page import Page, Row

_STYLE: Final = """
body { font: 15px/1.45 "DejaVu Sans", Verdana, Arial, sans-serif; color: #1c1c20; margin: 0 auto;
  max-width: 60em; padding: 1.5em }
header { display: flex; justify-content: space-between; align-items: center; gap: 1em;
  border-bottom: 2px solid #1c1c20 }
h1 { font-size: 1.25em } h2 { font-size: 1em; margin: 1.2em 0 .3em }
.mark { border: 2px solid #a33a00; color: #a33a00; font-weight: bold; padding: .2em .6em;
  white-space: nowrap }
dl { display: grid; grid-template-columns: max-content 1fr max-content 1fr; gap: .1em 1em }
dt { color: #55555c } dd { margin: 0 }
.headline { font-size: 1.1em; font-weight: bold }
main { display: grid; grid-template-columns: minmax(14em, 22em) 1fr; gap: 1.5em }
img { width: 100% } figure { margin: 0 } figcaption, footer { color: #55555c; font-size: .85em }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: .25em .6em;
  border-bottom: 1px solid #d5d5da; vertical-align: top } th { font-weight: normal; color: #55555c }
td:nth-child(n+3), th:nth-child(n+3) { white-space: nowrap }
.key { display: inline-block; width: .8em; height: .8em; border-radius: .15em; margin-right: .5em;
  border: 1px solid #1c1c20 }
@media (max-width: 45em) { main { grid-template-columns: 1fr } dl { grid-template-columns: max-content 1fr } }
@media print { body { padding: 0; font-size: 11px } }
"""


def html_page(page: Page, picture: Image | None) -> str:
    """The page with its picture inside."""
    return "\n".join(_lines(page, picture)) + "\n"


def _lines(page: Page, picture: Image | None) -> Iterator[str]:
    words = page.words
    yield f'<!doctype html>\n<html lang="{page.language.tag}">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(words.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>"
    mark = f'<span class="mark">{escape(page.language.research_use)}</span>'
    yield f"<header><h1>{escape(words.title)}</h1>{mark}</header>"
    facts = (f"<dt>{escape(name)}</dt><dd>{escape(fact) or '–'}</dd>" for name, fact in page.facts)
    yield f"<dl>{''.join(facts)}</dl>\n<main>"
    yield "<figure>"
    if picture is not None:
        yield f'<img alt="{escape(words.picture)}" src="data:image/png;base64,{_png(picture)}">'
        yield f"<figcaption>{escape(words.picture)}</figcaption>"
    yield "</figure>\n<div>"
    yield f'<h2>{escape(words.impression)}</h2>\n<p class="headline">{escape(page.headline)}</p>'
    yield from _list(page.impression)
    if page.remarks:
        yield f"<h2>{escape(words.remarks)}</h2>"
        yield from _list(page.remarks)
    yield "</div>\n</main>"
    if page.rows:
        yield f"<h2>{escape(words.table)}</h2>\n<table>"
        heads = (words.level, words.finding, words.grade, words.loss, words.heights)
        yield f"<tr>{''.join(f'<th>{escape(head)}</th>' for head in heads)}</tr>"
        yield from map(_row, page.rows)
        yield "</table>"
    if page.rest:
        yield f"<p>{escape(page.rest)}</p>"
    keys = " ".join(f"{_key(colour)}{escape(name)}&emsp;" for colour, name in page.legend)
    yield f"<footer><p>{escape(page.language.how_to_read)}</p><p>{keys}</p><p>{escape(words.disclaimer)}</p>"
    yield f"<p>{escape(page.made_by)}</p></footer>\n</body>\n</html>"


def _list(sentences: tuple[str, ...]) -> Iterator[str]:
    yield f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _row(row: Row) -> str:
    cells = (
        f"{_key(row.colour)}{escape(row.level)}",
        *map(escape, (row.finding, row.grade, row.loss, row.heights)),
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _key(colour: Rgb) -> str:
    return f'<span class="key" style="background: rgb{colour}"></span>'


def _png(picture: Image) -> str:
    data = io.BytesIO()
    picture.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode("ascii")
