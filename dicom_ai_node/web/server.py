"""Listens for HTTP in a thread of the node (uvicorn), and stops with it."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Final

import structlog
import uvicorn

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.web.app import make_app
from dicom_ai_node.web.authentication import read_token, tls_context
from dicom_ai_node.web.body import LARGEST_HEADERS_BYTES
from dicom_ai_node.web.inside import Inside

_MOST_CONNECTIONS: Final = 128
_GRACE_SECONDS: Final = 5
_START_SECONDS: Final = 30.0

_log = structlog.get_logger(__name__)


class HttpServer:
    """The HTTP interface of one node.

    Args:
        settings: `[http]` is used.

    Raises:
        ConfigurationError: there is no token, or certificate and key are of no use.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.http
        self._token = read_token(settings.http)
        self._tls = tls_context(settings.http) is not None
        self._listener: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; differs from the setting where that is 0 (any free port)."""
        return self._settings.port if self._listener is None else int(self._listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Where the interface is."""
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        return f"http{'s' if self._tls else ''}://{host}:{self.port}/api/v1"

    def start(self, inside: Inside) -> None:
        """Listen, in the background.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        self._listener = self._listen()
        # Faults are logged where they are answered; what uvicorn says of requests could name patients.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        config = uvicorn.Config(
            make_app(inside, self._token),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            http="h11",
            # Headers that are too large are told so, in however many pieces they come.
            h11_max_incomplete_event_size=16 * LARGEST_HEADERS_BYTES,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            ssl_certfile=self._settings.certificate,
            ssl_keyfile=self._settings.private_key,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([self._listener],), name="http", daemon=True
        )
        self._thread.start()
        _log.info("listening for HTTP", host=self._settings.host, port=self.port, tls=self._tls)

    def stop(self) -> None:
        """Take no more requests, let those that run finish, end everything else."""
        if self._server is None or self._thread is None:
            return
        self._server.should_exit = True
        self._thread.join(timeout=2 * _GRACE_SECONDS)
        if self._listener is not None:
            self._listener.close()

    def _listen(self) -> socket.socket:
        host, port = self._settings.host, self._settings.port
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(_MOST_CONNECTIONS)
            except BaseException:
                listener.close()
                raise
        except OSError as error:
            raise ConfigurationError(
                f"[http] host = {host!r}, port = {port}: cannot be listened on ({error.strerror}); "
                "choose another port, or stop the program that has it"
            ) from error
        return listener
