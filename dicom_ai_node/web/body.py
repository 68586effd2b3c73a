"""Bodies of requests: small ones in memory, large ones on the disk, none beyond its limit.

What is on the disk has no name, so that nothing is left of a request that was cut short, nor of a node that
was killed under it.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Final, Self

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dicom_ai_node.web.problems import RequestRefused, problem

IN_MEMORY_BYTES: Final = 1024 * 1024
"""Up to this size a body never sees the disk before it lies in the spool: most single slices."""

LARGEST_HEADERS_BYTES: Final = 65536
LARGEST_JSON_BYTES: Final = 4 * 1024 * 1024

_DRAIN_BYTES: Final = 64 * 1024 * 1024
_DRAIN_SECONDS: Final = 5.0


class Keep:
    """Bytes that come piece by piece, to be looked at when they are all there.

    Args:
        folder: where those go that are too many for memory; on the disk of the spool.
        largest: more bytes than this are refused.
    """

    def __init__(self, folder: Path, largest: int) -> None:
        self._folder = folder
        self._largest = largest
        self._pieces: list[bytes] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self.size = 0

    async def add(self, piece: bytes) -> None:
        """Take the next bytes.

        Raises:
            RequestRefused: 413, there are too many.
            OSError: the disk does not take them.
        """
        if self._hold(piece):
            await run_in_threadpool(self._write)

    def add_now(self, piece: bytes) -> None:
        """As `add`, for whoever may wait for the disk."""
        if self._hold(piece):
            self._write()

    def view(self) -> memoryview:
        """All bytes; those on the disk are mapped, not read."""
        if self._file is None:
            return memoryview(b"".join(self._pieces))
        self._write()
        self._file.flush()
        return memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        """Let go of the bytes; views of them stay good."""
        if self._file is not None:
            self._file.close()
        self._pieces.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _hold(self, piece: bytes) -> bool:
        """Whether there is now too much for memory."""
        self.size += len(piece)
        if self.size > self._largest:
            raise too_large(self._largest)
        self._pieces.append(piece)
        self._held += len(piece)
        return self._held > IN_MEMORY_BYTES

    def _write(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by close
        for piece in self._pieces:
            self._file.write(piece)
        self._pieces.clear()
        self._held = 0


def too_large(largest: int) -> RequestRefused:
    """The refusal of an instance that is larger than the settings allow."""
    return RequestRefused(
        413, f"larger than {largest // 1_000_000} MB, which [node] max_instance_mb is the most of"
    )


async def pieces(request: Request, silence_seconds: float) -> AsyncIterator[bytes]:
    """The body of a request as it comes.

    Raises:
        RequestRefused: 408, nothing came for `silence_seconds`.
        ClientDisconnect: the sender has gone.
    """
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(silence_seconds):
                piece = await anext(stream, None)
        except TimeoutError:
            raise RequestRefused(408, f"nothing has come for {silence_seconds:g} s") from None
        if piece is None:
            return
        if piece:
            yield piece


def media_type(request: Request) -> tuple[str, dict[str, str]]:
    """Media type of the body, in small letters, and its parameters."""
    return parameters_of(request.headers.get("content-type", ""))


def parameters_of(content_type: str) -> tuple[str, dict[str, str]]:
    """A media type, in small letters, and its parameters (RFC 9110 section 8.3.1)."""
    kind, _, rest = content_type.partition(";")
    found: dict[str, str] = {}
    while rest.strip():
        name, _, rest = rest.partition("=")
        rest = rest.lstrip()
        if rest.startswith('"'):
            value, _, rest = rest[1:].partition('"')
            rest = rest.partition(";")[2]
        else:
            value, _, rest = rest.partition(";")
        found.setdefault(name.strip().lower(), value.strip())
    return kind.strip().lower(), found


class BodiesInBounds:
    """ASGI middleware: bodies that are not for the disk are small, and what is refused is still read.

    A sender that still writes when the connection is closed would never read why it was refused; so the rest
    of a refused body is read, as far as that is reasonable.

    Args:
        app: what is behind it.
        large_at: whether bodies for this path may be large; whoever answers there sees to their size.
    """

    def __init__(self, app: ASGIApp, large_at: Callable[[str], bool]) -> None:
        self._app = app
        self._large_at = large_at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; before a refusal goes out, read on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEADERS_BYTES:
            await problem(431, "the headers are too large")(scope, receive, send)
            return
        headers = Headers(scope=scope)
        left_for_small = None if self._large_at(scope["path"]) else LARGEST_JSON_BYTES
        # Whoever asks first whether to send waits for the answer, and sends nothing after a no.
        more = "expect" not in headers and bool(
            headers.get("transfer-encoding") or headers.get("content-length", "0") != "0"
        )

        async def received() -> Message:
            nonlocal more, left_for_small
            message = await receive()
            more = more and message["type"] == "http.request" and bool(message.get("more_body"))
            if left_for_small is not None:
                left_for_small -= len(message.get("body", b""))
                if left_for_small < 0:
                    left_for_small = None
                    raise HTTPException(413, f"larger than {LARGEST_JSON_BYTES} bytes")
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= 400 and more:
                await drain()
            await send(message)

        async def drain() -> None:
            nonlocal left_for_small
            # Nobody reads it any more: it may be as large as it likes.
            left_for_small, left = None, _DRAIN_BYTES
            try:
                async with asyncio.timeout(_DRAIN_SECONDS):
                    while more and left > 0:
                        left -= len((await received()).get("body", b""))
            except TimeoutError:
                return

        await self._app(scope, received, sent)
