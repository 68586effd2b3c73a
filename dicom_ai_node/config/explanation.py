"""What is wrong in `node.toml`, in words that name the key and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic_core import ErrorDetails

from dicom_ai_node.config.analysis import ModelSettings, WorkflowSettings
from dicom_ai_node.config.archives import DicomwebServer, PriorSettings, QuerySettings
from dicom_ai_node.config.destinations import Destination, DicomwebDestination
from dicom_ai_node.config.http import HttpSettings
from dicom_ai_node.config.node import NodeSettings, SecuritySettings, Sender
from dicom_ai_node.config.results import ResultSettings
from dicom_ai_node.config.routes import CtRoute, MriRoute, OtherRoute, RadiographRoute, Routes
from dicom_ai_node.config.section import Section
from dicom_ai_node.config.settings import Settings
from dicom_ai_node.config.storage import StorageSettings


def explain(detail: ErrorDetails) -> str:
    """One of pydantic's errors: the section and key, what was given (no secrets), and what is allowed."""
    place = list(detail["loc"])
    # The kind of a destination is no part of its place in the file.
    tag = place.pop(2) if len(place) > 2 and place[0] == "destinations" else None
    text = re.sub(r"^Value error, ", "", detail["msg"])
    kind = detail["type"]
    if kind == "value_error" and isinstance(detail["input"], Mapping):
        return f"{_section(place)} {text}".lstrip()
    if len(place) > 2 and isinstance(place[-1], int):
        place.pop()  # one value of an array; the message shows which
    if kind == "union_tag_invalid":
        return f"{_section(place)} kind: 'dimse' or 'dicomweb'"
    if place[0] in _ARRAYS and len(place) < 3:
        return f"{place[0]} are sections of their own: write [[{place[0]}]] and its keys on the lines below"
    if kind == "model_type":
        return f"{place[-1]} = {detail['input']!r}: a section, write [{'.'.join(map(str, place))}]"
    section, key = _section(place[:-1]), place[-1]
    if kind == "extra_forbidden":
        table = _TABLES[tuple(str(part) for part in place[:-1] if isinstance(part, str))]
        known = list((DicomwebDestination if tag == "dicomweb" else table).model_fields)
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        place_name = f"in {section}" if section else "as a section"
        return f"{key} is not known {place_name}; {hint}known: {', '.join(known)}"
    if kind == "missing":
        return f"{section} {key} is missing; add it"
    # Nor is a password shown that somebody wrote into an address.
    given = "..." if key in _SECRETS or "@" in str(detail["input"]) else repr(detail["input"])
    return f"{section} {key} = {given}: {text}"


def _section(place: Sequence[int | str]) -> str:
    """`("routes", "ct")` -> `[routes.ct]`; `("destinations", 1)` -> `[[destinations]] number 2`."""
    if not place:
        return ""
    if place[0] in _ARRAYS and len(place) > 1:
        return f"[[{place[0]}]] number {int(place[1]) + 1}"
    if isinstance(place[-1], int):
        return f"[[{'.'.join(map(str, place[:-1]))}]] number {place[-1] + 1}"
    return f"[{'.'.join(map(str, place))}]"


_SECRETS: Final = frozenset(("token", "password"))
_ARRAYS: Final = frozenset(("senders", "destinations"))
_TABLES: Final[Mapping[tuple[str, ...], type[Section]]] = {
    (): Settings,
    ("node",): NodeSettings,
    ("senders",): Sender,
    ("routes",): Routes,
    ("routes", "ct"): CtRoute,
    ("routes", "radiograph"): RadiographRoute,
    ("routes", "mri"): MriRoute,
    ("routes", "other"): OtherRoute,
    ("destinations",): Destination,
    ("http",): HttpSettings,
    ("http", "dicomweb"): DicomwebServer,
    ("query",): QuerySettings,
    ("priors",): PriorSettings,
    ("storage",): StorageSettings,
    ("workflow",): WorkflowSettings,
    ("security",): SecuritySettings,
    ("models",): ModelSettings,
    ("results",): ResultSettings,
}
