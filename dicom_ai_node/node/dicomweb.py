"""How the node speaks to a DICOMweb server: its address, its certificate, and who the node says it is."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final, Protocol

import httpx

from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.implementation import IMPLEMENTATION_VERSION_NAME

CONNECTION_TIMEOUT_S: Final = 10.0
_LARGEST_SECRET: Final = 4096
_WORDS: Final = 400
"""Of a server's own words so many characters are told on."""


class Server(Protocol):
    """Where to, and how to log in."""

    @property
    def url(self) -> str:
        """The service root (PS3.18 section 8.2), without a slash at its end."""

    @property
    def token_file(self) -> Path | None:
        """Holds a bearer token."""

    @property
    def user(self) -> str | None:
        """For basic authentication."""

    @property
    def password_file(self) -> Path | None:
        """Holds the user's password."""

    @property
    def ca_file(self) -> Path | None:
        """Certificates to trust instead of the machine's."""


def client_of(server: Server, response_timeout_s: float) -> httpx.Client:
    """A client that knows how to log in there, and goes nowhere else: no proxies, no redirects.

    Raises:
        ConfigurationError: a file with a secret or with certificates cannot be read.
    """
    headers = {"User-Agent": IMPLEMENTATION_VERSION_NAME}
    login: tuple[str, str] | None = None
    if server.token_file is not None:
        headers["Authorization"] = f"Bearer {_secret(server.token_file, server)}"
    elif server.user is not None and server.password_file is not None:
        login = (server.user, _secret(server.password_file, server))
    return httpx.Client(
        headers=headers,
        auth=login,
        verify=_trusted(server),
        timeout=httpx.Timeout(response_timeout_s, connect=CONNECTION_TIMEOUT_S),
        trust_env=False,
        follow_redirects=False,
    )


def words_of(answer: httpx.Response, largest: int = 65536) -> bytes:
    """The first bytes of an answer that is being streamed; an endless one is cut."""
    found = b""
    for piece in answer.iter_bytes(8192):
        found += piece
        if len(found) >= largest:
            break
    return found[:largest]


def in_words(answer: httpx.Response, body: bytes) -> str:
    """Status and what the server said to it, in one line."""
    said = " ".join(body.decode("utf-8", "replace").split())[:_WORDS]
    return f"HTTP {answer.status_code} {answer.reason_phrase}".strip() + (f": {said}" if said else "")


def _trusted(server: Server) -> ssl.SSLContext | bool:
    if server.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(server.ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"{server.url}: ca_file = {str(server.ca_file)!r} cannot be used ({error.strerror or error})"
        ) from error


def _secret(path: Path, server: Server) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            found = file.read(_LARGEST_SECRET).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise ConfigurationError(f"{server.url}: {path} cannot be read ({reason})") from error
    if not found or not found.isprintable():
        raise ConfigurationError(f"{server.url}: {path} holds no token or password, alone on one line")
    return found
