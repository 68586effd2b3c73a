"""The interface's own description as a page: no script, nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

_QUOTED: Final = re.compile("`([^`]*)`")
_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1d2733; max-width: 60rem; margin: 2rem auto; }
body { padding: 0 1rem; }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid #cfd8e3; }
h3 { margin: 1.5rem 0 .25rem; font: 600 1rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
h3 b { display: inline-block; min-width: 3.5rem; color: #0b63a5; }
p { margin: .25rem 0; white-space: pre-line; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: .5rem 0; }
dt { font-family: ui-monospace, monospace; } dd { margin: 0; }
"""

router = APIRouter()


@router.get("/docs", response_class=HTMLResponse, include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """What the interface offers, for people. Needs no token."""
    described: dict[str, Any] = request.app.openapi()
    body = "".join(_body(described))
    title = escape(f"{described['info']['title']} {described['info']['version']}")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return HTMLResponse(
        f'<!doctype html><html lang="en">{head}<style>{_STYLE}</style><h1>{title}</h1>{body}</html>',
        headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
    )


def _body(described: Mapping[str, Any]) -> Iterator[str]:
    yield f"<p>{escape(described['info']['description'])} Every request but this page, the "
    yield '<a href="openapi.json">OpenAPI description</a> and /health shows the token: '
    yield "<code>Authorization: Bearer TOKEN</code>. Errors are problem details (RFC 9457).</p>"
    sections: dict[str, list[str]] = {}
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            tag = next(iter(operation.get("tags", [])), "other")
            sections.setdefault(tag, []).append("".join(_operation(method, path, operation)))
    for tag, texts in sections.items():
        yield f"<h2>{escape(tag)}</h2>{''.join(texts)}"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h3><b>{escape(method.upper())}</b> {escape(path)}</h3>"
    text = escape(operation.get("description") or operation.get("summary", ""))
    shown = _QUOTED.sub(r"<code>\1</code>", text)
    yield f"<p>{shown}</p><dl>"
    for parameter in operation.get("parameters", []):
        text = parameter.get("description", f"in {parameter['in']}")
        yield f"<dt>{escape(parameter['name'])}</dt><dd>{escape(text)}</dd>"
    for kind in operation.get("requestBody", {}).get("content", {}):
        yield f"<dt>body</dt><dd>{escape(kind)}</dd>"
    for status, answer in sorted(operation["responses"].items()):
        kinds = ", ".join(kind for kind in answer.get("content", {}) if "problem" not in kind)
        text = answer["description"] + (f" ({kinds})" if kinds else "")
        yield f"<dt>{escape(status)}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"
