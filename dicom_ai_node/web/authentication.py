"""Who may speak with the HTTP interface: whoever shows the node's token (RFC 6750, bearer tokens)."""

from __future__ import annotations

import hmac
import ssl
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from dicom_ai_node.config import HttpSettings, settings_from
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.web.problems import problem

HOW_TO_MAKE_ONE: Final = (
    'python3 -c "import secrets; print(secrets.token_urlsafe(32))" > http-token; chmod 600 http-token, '
    'and write token_file = "http-token"'
)

_LARGEST_TOKEN_FILE: Final = 4096


def read_token(settings: HttpSettings) -> str:
    """The token of the interface.

    Raises:
        ConfigurationError: there is none, or its file cannot be read or holds something else.
    """
    if settings.token is not None and settings.token_file is not None:
        raise ConfigurationError("[http] token and token_file are both given; keep one of them")
    if settings.token is not None:
        return settings.token
    if settings.token_file is None:
        raise ConfigurationError(f"[http] has no token_file; make a token with: {HOW_TO_MAKE_ONE}")
    try:
        with settings.token_file.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_TOKEN_FILE).strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise ConfigurationError(
            f"[http] token_file = {str(settings.token_file)!r}: cannot be read ({reason}); make it with: "
            f"{HOW_TO_MAKE_ONE}"
        ) from error
    try:
        settings_from({"http": {"token": text}})
    except ConfigurationError as error:
        raise ConfigurationError(
            f"[http] token_file = {str(settings.token_file)!r}: a token has 16 or more letters, digits and "
            f"signs of -._~+/, and is alone in its file; make it with: {HOW_TO_MAKE_ONE}"
        ) from error
    return text


def tls_context(settings: HttpSettings) -> ssl.SSLContext | None:
    """What TLS needs; None where the interface does without.

    Raises:
        ConfigurationError: certificate or key cannot be read, or do not belong together.
    """
    if settings.certificate is None or settings.private_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(settings.certificate, settings.private_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"[http] certificate = {str(settings.certificate)!r}, private_key = "
            f"{str(settings.private_key)!r}: cannot be used ({error.strerror or error}); "
            "both are PEM files, and the key is the certificate's and has no password"
        ) from error
    return context


class TokenRequired:
    """ASGI middleware: requests without the token go no further, whatever they ask for.

    Args:
        app: what is behind it.
        token: the one that is right.
        open_paths: what everybody may see.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: frozenset[str]) -> None:
        self._app = app
        self._expected = token.encode()
        self._open = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] != "http" or scope["path"] in self._open or self._knows(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        answer = problem(401, "send the node's token: Authorization: Bearer TOKEN")
        answer.headers["WWW-Authenticate"] = "Bearer"
        await answer(scope, receive, send)

    def _knows(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        shown = token.strip().encode("utf-8", "surrogateescape")
        # compare_digest takes as long for a nearly right token as for a wrong one.
        return hmac.compare_digest(shown, self._expected) and scheme.lower() == "bearer"
