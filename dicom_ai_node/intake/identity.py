"""Who an instance is: the five header values the spool needs, read from an encoded data set in microseconds.

A receiver reads these for every instance before it may answer, so the little-endian encodings have a walk of
their own that stops after group 0020; everything else (deflated, big endian, odd content) goes to pydicom.

Source: PS3.5 sections 7.1 (data elements), 7.5 (sequences), Annex A (transfer syntaxes).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from dicom_ai_node.errors import UnreadableInstance

_TAGS: Final[Mapping[int, str]] = {
    0x00080016: "SOPClassUID",
    0x00080018: "SOPInstanceUID",
    0x00080060: "Modality",
    0x0020000D: "StudyInstanceUID",
    0x0020000E: "SeriesInstanceUID",
}
_FIRST_TAG: Final = 0x00080000
_LAST_TAG: Final = max(_TAGS)
_REQUIRED: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_SHORT_VRS: Final = frozenset(
    (
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH",
        b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
    )
)  # fmt: skip
_EXPLICIT: Final = struct.Struct("<HH2sH")
_LENGTH: Final = struct.Struct("<I")
_DEEPEST_SEQUENCE: Final = 32
HEADER_BYTES: Final = 4 * 1024 * 1024
"""The UIDs of an instance are looked for within its first 4 MiB: pydicom can be made to look for minutes."""


@dataclass(frozen=True)
class InstanceIdentity:
    """The UIDs that place one instance, and its modality ("" where the header has none)."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str


class _Unusual(Exception):
    """The fast walk met something that it leaves to pydicom."""


def read_identity(data_set: bytes | memoryview, transfer_syntax_uid: str) -> InstanceIdentity:
    """The identity of an encoded data set (without preamble and file meta information).

    Raises:
        UnreadableInstance: the data set cannot be parsed as far as group 0020, or a UID is missing or no UID
            at all (empty, over 64 characters).
    """
    try:
        values = _fast(data_set, transfer_syntax_uid)
    except (_Unusual, struct.error, IndexError):
        values = _thorough(data_set, transfer_syntax_uid)
    for keyword in _REQUIRED:
        value = values.get(keyword, "")
        if not 0 < len(value) <= 64 or not value.isprintable():
            tag = Tag(keyword)
            raise UnreadableInstance(
                f"the data set's {keyword} {tag} is {'missing' if not value else 'no UID'}; "
                "correct the instance at its source and send it again"
            )
    return InstanceIdentity(
        sop_class_uid=values["SOPClassUID"],
        sop_instance_uid=values["SOPInstanceUID"],
        study_instance_uid=values["StudyInstanceUID"],
        series_instance_uid=values["SeriesInstanceUID"],
        modality=values.get("Modality", ""),
    )


def _fast(data: bytes | memoryview, transfer_syntax_uid: str) -> dict[str, str]:
    if transfer_syntax_uid in {DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian}:
        raise _Unusual
    explicit = transfer_syntax_uid != ImplicitVRLittleEndian
    values: dict[str, str] = {}
    position, end, previous = 0, len(data), 0
    while position < end:
        tag, length, position = _element(data, position, explicit)
        if tag > _LAST_TAG:
            return values
        # elements rise (PS3.5 7.1); where they do not, this is no data set or not in this encoding
        if tag <= previous or tag < _FIRST_TAG:
            raise _Unusual
        previous = tag
        if length == _UNDEFINED:
            position = _after_sequence(data, position, explicit, 0)
            continue
        if position + length > end:
            raise _Unusual
        if tag in _TAGS:
            values[_TAGS[tag]] = _text(bytes(data[position : position + length]))
        position += length
    return values


def _element(data: bytes | memoryview, position: int, explicit: bool) -> tuple[int, int, int]:
    """Tag, value length and where the value begins."""
    length: int
    group, element, vr, length = _EXPLICIT.unpack_from(data, position)
    tag: int = group << 16 | element
    if not explicit or group == 0xFFFE:
        (length,) = _LENGTH.unpack_from(data, position + 4)
        return tag, length, position + 8
    if vr in _SHORT_VRS:
        return tag, length, position + 8
    if vr not in _LONG_VRS:
        raise _Unusual
    (length,) = _LENGTH.unpack_from(data, position + 8)
    if length == _UNDEFINED and vr != b"SQ":
        # UN of undefined length is encoded implicitly whatever the transfer syntax (PS3.5 6.2.2)
        raise _Unusual
    return tag, length, position + 12


def _after_sequence(data: bytes | memoryview, position: int, explicit: bool, depth: int) -> int:
    """Where a sequence of undefined length that begins at `position` has ended."""
    if depth > _DEEPEST_SEQUENCE:
        raise _Unusual
    while True:
        tag, length, position = _element(data, position, explicit)
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM:
            raise _Unusual
        if length != _UNDEFINED:
            position += length
            continue
        while True:
            tag, length, position = _element(data, position, explicit)
            if tag == _ITEM_END:
                break
            if length == _UNDEFINED:
                position = _after_sequence(data, position, explicit, depth + 1)
            else:
                position += length


def _thorough(data: bytes | memoryview, transfer_syntax_uid: str) -> dict[str, str]:
    deflated = transfer_syntax_uid == DeflatedExplicitVRLittleEndian
    raw = bytes(data[:HEADER_BYTES])
    try:
        if deflated:
            # a few bytes can inflate to gigabytes
            raw = zlib.decompressobj(-zlib.MAX_WBITS).decompress(raw, HEADER_BYTES)
        found = read_dataset(
            BytesIO(raw),
            is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
            stop_when=lambda tag, _vr, _length: not _FIRST_TAG <= tag <= _LAST_TAG,
            specific_tags=[Tag(tag) for tag in _TAGS],
        )
        return {
            keyword: _text(str(found.get(keyword) or "").encode("ascii", "replace"))
            for keyword in _TAGS.values()
        }
    # pydicom raises whatever its converters raise; the sender only needs to know that it is unreadable
    except Exception as error:
        raise UnreadableInstance(
            f"the data set cannot be parsed ({type(error).__name__}: {error}); "
            "check that it is whole and in the transfer syntax it was sent under"
        ) from error


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")
