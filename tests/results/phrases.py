"""A language as one flat table, for promises about all of its phrases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any


def phrases(words: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every phrase with its place in the table: ``fractures wedge 1``, ``page title``."""
    if isinstance(words, str):
        yield name, words
        return
    if isinstance(words, Mapping):
        parts = dict(words)
    elif is_dataclass(words):
        parts = {field.name: getattr(words, field.name) for field in fields(words)}
    else:
        parts = dict(enumerate(words))
    for key, part in parts.items():
        yield from phrases(part, f"{name} {key}".strip())
