"""multipart/related as it comes, part by part (RFC 2046 section 5.1, PS3.18 section 8.6.1), of any size.

python-multipart does the parsing; what it finds is kept in memory or on the disk by `body.Keep`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError

from dicom_ai_node.errors import InputError
from dicom_ai_node.web.body import Keep

MOST_HEADERS: Final = 16
LONGEST_HEADER: Final = 4096

# It would quote the odd bytes that it meets.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class MalformedMultipart(InputError):
    """A body is not what its Content-Type says."""


@dataclass
class Part:
    """One part: its headers, names in small letters, and its bytes."""

    headers: dict[str, str]
    keep: Keep


@dataclass
class _Arrivals:
    """What the parser has met in one piece of the body, in order."""

    met: list[tuple[str, bytes]] = field(default_factory=list)

    def callbacks(self) -> Any:
        """As python-multipart calls them."""

        def note(name: str) -> Callable[..., None]:
            def met(data: bytes = b"", start: int = 0, end: int = 0) -> None:
                self.met.append((name, data[start:end]))

            return met

        names = (
            "part_begin",
            "header_field",
            "header_value",
            "header_end",
            "headers_finished",
            "part_data",
            "part_end",
            "end",
        )
        return {f"on_{name}": note(name) for name in names}


async def parts(
    body: AsyncIterator[bytes], boundary: str, new_keep: Callable[[], Keep]
) -> AsyncIterator[Part]:
    """The parts of a body, each when all of it has come; a part is gone when the next one is asked for.

    Args:
        body: as it comes.
        boundary: as the Content-Type names it.
        new_keep: where the bytes of a part go.

    Raises:
        MalformedMultipart: the body is not made of parts, or ends within one.
    """
    arrivals = _Arrivals()
    try:
        parser = MultipartParser(
            boundary.encode("latin-1"),
            arrivals.callbacks(),
            max_header_count=MOST_HEADERS,
            max_header_size=LONGEST_HEADER,
        )
    except (UnicodeEncodeError, ValueError) as error:
        raise MalformedMultipart("the boundary is not one (RFC 2046 section 5.1.1)") from error
    reading = _Reading(new_keep)
    try:
        async for piece in body:
            arrivals.met.clear()
            try:
                parser.write(piece)
            except MultipartParseError as error:
                raise MalformedMultipart(f"the body is no multipart body ({error})") from error
            for name, data in arrivals.met:
                part = await reading.take(name, data)
                if part is not None:
                    yield part
                    part.keep.close()
        if not reading.ended:
            raise MalformedMultipart("the body ends before its last boundary; send it again")
    finally:
        reading.close()


class _Reading:
    """Puts together what the parser meets."""

    def __init__(self, new_keep: Callable[[], Keep]) -> None:
        self._new_keep = new_keep
        self._keep: Keep | None = None
        self._headers: dict[str, str] = {}
        self._name = self._value = b""
        self.ended = False

    async def take(self, name: str, data: bytes) -> Part | None:
        """The part that has come to its end with this, if one has."""
        match name:
            case "part_begin":
                self._keep, self._headers = self._new_keep(), {}
            case "header_field":
                self._name += data
            case "header_value":
                self._value += data
            case "header_end":
                self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1").strip()
                self._name = self._value = b""
            case "part_data" if self._keep is not None:
                await self._keep.add(data)
            case "part_end" if self._keep is not None:
                part, self._keep = Part(self._headers, self._keep), None
                return part
            case "end":
                self.ended = True
        return None

    def close(self) -> None:
        """Let go of a part that has not come to its end."""
        if self._keep is not None:
            self._keep.close()
