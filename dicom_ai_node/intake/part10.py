"""The 132 bytes and the file meta information that turn a received data set into a DICOM file.

Source: PS3.10 section 7.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

_PREAMBLE: Final = b"\0" * 128 + b"DICM"
_LENGTH_OF_LENGTHS: Final = frozenset((b"OB", b"OW", b"UN", b"UT", b"SQ"))


@dataclass(frozen=True)
class FileMeta:
    """What the file meta information says of the data set behind it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    sending_ae_title: str = ""
    receiving_ae_title: str = ""


def encode_file_meta(meta: FileMeta) -> bytes:
    """Preamble, prefix and file meta information, to stand before a data set as received."""
    elements = [
        struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, 2) + b"\0\1",
        _short(0x0002, b"UI", meta.sop_class_uid),
        _short(0x0003, b"UI", meta.sop_instance_uid),
        _short(0x0010, b"UI", meta.transfer_syntax_uid),
        _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
    ]
    if meta.sending_ae_title:
        elements.append(_short(0x0017, b"AE", meta.sending_ae_title))
    if meta.receiving_ae_title:
        elements.append(_short(0x0018, b"AE", meta.receiving_ae_title))
    body = b"".join(elements)
    return _PREAMBLE + struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(body)) + body


def split_file(data: bytes | memoryview, name: str) -> tuple[FileMeta, int]:
    """The file meta information of a DICOM file, and where its data set begins.

    Args:
        data: the file, or its first bytes as far as the data set.
        name: what an error calls the file.

    Raises:
        UnreadableInstance: no prefix DICM, or file meta information that ends early or names no
            transfer syntax.
    """
    if bytes(data[128:132]) != b"DICM":
        raise UnreadableInstance(f"{name}: no DICOM file (the prefix DICM is missing)")
    values: dict[int, str] = {}
    position = 132
    try:
        # the group length is often wrong in the wild; the group ends where the next one begins
        while position + 8 <= len(data):
            group, element = struct.unpack_from("<HH", data, position)
            if group != 0x0002:
                break
            if bytes(data[position + 4 : position + 6]) in _LENGTH_OF_LENGTHS:
                (length,) = struct.unpack_from("<I", data, position + 8)
                position += 12
            else:
                (length,) = struct.unpack_from("<H", data, position + 6)
                position += 8
            value = bytes(data[position : position + length])
            values[element] = value.decode("ascii", "replace").strip("\0 ")
            position += length
    except struct.error as error:
        raise UnreadableInstance(
            f"{name}: the file meta information ends early; send the file again"
        ) from error
    if position > len(data):
        raise UnreadableInstance(f"{name}: the file meta information ends early; send the file again")
    if not values.get(0x0010):
        raise UnreadableInstance(f"{name}: TransferSyntaxUID (0002,0010) is missing; write the file anew")
    meta = FileMeta(
        sop_class_uid=values.get(0x0002, ""),
        sop_instance_uid=values.get(0x0003, ""),
        transfer_syntax_uid=values[0x0010],
        sending_ae_title=values.get(0x0017, ""),
        receiving_ae_title=values.get(0x0018, ""),
    )
    return meta, position


def read_file(path: Path, at_most: int | None = None) -> tuple[FileMeta, memoryview]:
    """The file meta information of a DICOM file and the bytes of its data set.

    Args:
        path: the file.
        at_most: read no more than this many bytes of it; None reads all.

    Raises:
        UnreadableInstance: see `split_file`; or the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            data = memoryview(file.read(-1 if at_most is None else at_most))
    except OSError as error:
        raise UnreadableInstance(f"{path}: cannot be read ({error.strerror})") from error
    meta, start = split_file(data, str(path))
    return meta, data[start:]


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
