"""The header of one instance as routing and completeness need it, and whether its pixel data is whole.

Nothing is decoded: whether pixel data is there and as long as it says is seen from the element's own length.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.imaging.mr_tags import MR_TAGS
from dicom_ai_node.imaging.slices import SLICE_TAGS

ROUTING_TAGS: Final[tuple[str, ...]] = tuple(
    dict.fromkeys(
        (
            *SLICE_TAGS,
            *MR_TAGS,
            "SeriesDescription",
            "ProtocolName",
            "BodyPartExamined",
            "PhotometricInterpretation",
            "LossyImageCompression",
            "Manufacturer",
            "ManufacturerModelName",
            "ContributingEquipmentSequence",
            "NumberOfSeriesRelatedInstances",
            "ImagesInAcquisition",
            "ConcatenationUID",
            "InConcatenationTotalNumber",
        )
    )
)
"""Keywords of the attributes that `read_instance` keeps."""

_PIXEL_DATA: Final = (0x7FE0, 0x0010)
_FLOAT_PIXEL_DATA: Final = ((0x7FE0, 0x0008), (0x7FE0, 0x0009))
_UNDEFINED: Final = 0xFFFFFFFF
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_TRAILING_PADDING: Final = 4096


@dataclass(frozen=True)
class Instance:
    """One file's header; `complaint` says what is wrong with its pixel data, None where it is whole."""

    path: Path
    header: Dataset
    complaint: str | None = None


def read_instance(path: Path) -> Instance:
    """The header of a DICOM file, with or without preamble and file meta information.

    Raises:
        UnreadableInstance: the file cannot be opened, is no DICOM instance, or ends inside its header.
    """
    try:
        with path.open("rb") as file, reading_quietly():
            header = pydicom.dcmread(
                file, stop_before_pixels=True, force=True, specific_tags=list(ROUTING_TAGS)
            )
            if not header.get("SOPClassUID") and not header.file_meta.get("MediaStorageSOPClassUID"):
                raise UnreadableInstance(
                    f"{path.name}: no DICOM instance, SOPClassUID (0008,0016) is missing; "
                    "send DICOM files only"
                )
            return Instance(path, header, _complaint(file, header))
    except UnreadableInstance:
        raise
    except OSError as error:
        raise UnreadableInstance(f"{path.name}: the file cannot be opened ({error.strerror})") from error
    # pydicom lets struct, zlib, value, key, recursion and its own errors through for damaged bytes
    except Exception as error:
        raise UnreadableInstance(
            f"{path.name}: the header cannot be read ({type(error).__name__}); "
            "the file is damaged or cut short, send it again"
        ) from error


def _complaint(file: BinaryIO, header: Dataset) -> str | None:
    """What is wrong with the pixel data that begins where `file` stands."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        # pydicom reads the inflated copy, so this file stands elsewhere; the decoder will find out
        return None
    start = file.read(12)
    if len(start) < 12:
        return "the file ends before its pixel data (7FE0,0010); send it again"
    big = syntax == ExplicitVRBigEndian
    order = ">" if big else "<"
    tag = struct.unpack_from(f"{order}HH", start)
    if tag not in {_PIXEL_DATA, *_FLOAT_PIXEL_DATA}:
        return "it has no pixel data (7FE0,0010); send it again from its source"
    explicit = start[4:6].isalpha() and syntax != ImplicitVRLittleEndian
    (length,) = struct.unpack_from(f"{order}I", start, 8 if explicit else 4)
    begin = file.tell() - (0 if explicit else 4)
    there = os.fstat(file.fileno()).st_size - begin
    if length != _UNDEFINED:
        if there < length:
            return f"its pixel data (7FE0,0010) is cut short ({there} of {length} bytes); send it again"
        return None
    file.seek(max(begin, begin + there - _TRAILING_PADDING))
    if _SEQUENCE_END not in file.read():
        return "its compressed pixel data (7FE0,0010) is cut short (no end of sequence); send it again"
    return None
