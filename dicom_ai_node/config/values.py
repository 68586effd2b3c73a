"""The kinds of values that settings have, each with what is said of a wrong one."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field


def _ae_title(value: str) -> str:
    # PS3.5 table 6.2-1: 16 characters at most of the default repertoire, no backslash, not only spaces
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", value) or not value.strip():
        raise ValueError("an AE title has 1 to 16 ASCII characters, no backslash")
    return value.strip()


def _uid(value: str) -> str:
    if len(value) > 64 or not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", value):
        raise ValueError("a UID has digits and dots, 64 characters at most")
    return value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


def _path(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) and value else value


def _tuple(value: object) -> object:
    # TOML has arrays only; strict pydantic wants the tuple that keeps the settings immutable
    return tuple(value) if isinstance(value, list) else value


def _bounds(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] < value[1]:
        raise ValueError("two numbers of which the second is larger, the first 0.0 or more; inf for no end")
    return value


def _token(value: str) -> str:
    # RFC 6750 section 2.1
    if not re.fullmatch(r"[A-Za-z0-9._~+/-]{16,}=*", value):
        raise ValueError("a token has 16 or more letters, digits and signs of -._~+/")
    return value


def _service_root(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an address like https://archive.example/dicom-web, without ? and #")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user and password in the address; there are settings for them")
    return value.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether an address, or a name that means one, is this machine's own and no other machine sees it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


AETitle = Annotated[str, AfterValidator(_ae_title)]
Uid = Annotated[str, AfterValidator(_uid)]
Token = Annotated[str, AfterValidator(_token)]
Pattern = Annotated[str, AfterValidator(_pattern)]
FilePath = Annotated[Path, BeforeValidator(_path)]
ServiceRoot = Annotated[str, AfterValidator(_service_root)]
Host = Annotated[str, Field(min_length=1)]
Port = Annotated[int, Field(ge=0, le=65535)]
"""To listen on; 0 takes any free one."""
PeerPort = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Millimetres = Annotated[float, Field(gt=0)]
Loss = Annotated[float, Field(gt=0, lt=1)]

AS_TUPLE: Final = BeforeValidator(_tuple)
"""Stands with the type of every setting that is an array."""

Bounds = Annotated[tuple[float, float], AS_TUPLE, AfterValidator(_bounds)]
