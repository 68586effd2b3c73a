"""Command sets of the two services that the node provides, C-ECHO and C-STORE.

A store request's command set is decoded and answered in microseconds here; a data set is not looked at.

Source: PS3.7 section 9.3 (DIMSE-C protocol), annex E (command dictionary), PS3.5 section 7.1.3 (encoding).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_AFFECTED_SOP_CLASS: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_RESPONDED_TO: Final = 0x0120
_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_AFFECTED_SOP_INSTANCE: Final = 0x1000

_NO_DATA_SET: Final = 0x0101
_RESPONSE: Final = 0x8000
_ERROR_COMMENT_LENGTH: Final = 64


class Request(IntEnum):
    """Command Field (0000,0100) of the requests that get a treatment of their own."""

    C_STORE = 0x0001
    C_ECHO = 0x0030
    C_CANCEL = 0x0FFF


class MalformedCommand(Exception):
    """A command set breaks PS3.7 annex E so that it cannot be answered."""


@dataclass(frozen=True)
class Command:
    """A request's command set, as far as it is needed to answer it.

    Attributes:
        field: Command Field; one of `Request`, or another number.
        has_data_set: a data set follows.
    """

    field: int
    message_id: int
    affected_sop_class_uid: str
    affected_sop_instance_uid: str
    has_data_set: bool


def decode_command(data: bytes | bytearray | memoryview) -> Command:
    """The command set of a request, encoded as implicit VR little endian.

    Raises:
        MalformedCommand: it ends early, holds elements of another group, or lacks what every request has.
    """
    elements: dict[int, bytes] = {}
    position = 0
    try:
        while position < len(data):
            group, element, length = struct.unpack_from("<HHI", data, position)
            position += 8
            if group != 0x0000 or position + length > len(data):
                raise MalformedCommand("command set holds another group, or ends early")
            elements[element] = bytes(data[position : position + length])
            position += length
    except struct.error as error:
        raise MalformedCommand("command set ends early") from error
    return Command(
        field=_number(elements, _COMMAND_FIELD),
        # a C-CANCEL has no Message ID, only the one that it cancels
        message_id=_number(elements, _MESSAGE_ID if _MESSAGE_ID in elements else _RESPONDED_TO),
        affected_sop_class_uid=_uid(elements, _AFFECTED_SOP_CLASS),
        affected_sop_instance_uid=_uid(elements, _AFFECTED_SOP_INSTANCE),
        has_data_set=_number(elements, _DATA_SET_TYPE) != _NO_DATA_SET,
    )


def encode_response(request: Command, status: int, comment: str = "") -> bytes:
    """The command set that answers `request`, with Error Comment (0000,0902) of 64 characters at most."""
    elements = [
        _text(_AFFECTED_SOP_CLASS, request.affected_sop_class_uid, b"\0"),
        _short(_COMMAND_FIELD, request.field | _RESPONSE),
        _short(_RESPONDED_TO, request.message_id),
        _short(_DATA_SET_TYPE, _NO_DATA_SET),
        _short(_STATUS, status),
        _text(_ERROR_COMMENT, comment.replace("\\", "/")[:_ERROR_COMMENT_LENGTH].strip(), b" "),
        _text(_AFFECTED_SOP_INSTANCE, request.affected_sop_instance_uid, b"\0"),
    ]
    body = b"".join(elements)
    return struct.pack("<HHII", 0x0000, 0x0000, 4, len(body)) + body


def _number(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != 2:
        raise MalformedCommand(f"(0000,{element:04X}) is missing or no number")
    return int.from_bytes(value, "little")


def _uid(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").decode("ascii", "replace").strip("\0 ")


def _short(element: int, value: int) -> bytes:
    return struct.pack("<HHIH", 0x0000, element, 2, value)


def _text(element: int, text: str, padding: bytes) -> bytes:
    if not text:
        return b""
    value = text.encode("ascii", "replace")
    value += padding * (len(value) % 2)
    return struct.pack("<HHI", 0x0000, element, len(value)) + value
