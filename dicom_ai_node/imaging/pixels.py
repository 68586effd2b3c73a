"""Pixels of one slice to Hounsfield units, written straight into their place in the volume.

Decoding is pydicom's, with its plugins; here stands what the header says about the decoded values: unused
bits, sign, padding, rescale (modality LUT, PS3.3 C.11.1).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import gdcm
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.imaging.header import name_of
from dicom_ai_node.imaging.slices import Slice, StoredPixels

AIR_HU: Final = -1024
"""Where there is no pixel there is air, and in a CT nothing is below it."""

JPEG_12_BIT: Final = frozenset({JPEGExtended12Bit, "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"})
"""Extended, and the retired spectral selection and full progression (processes 2 & 4, 6 & 8, 10 & 12)."""

_INT16: Final = np.iinfo(np.int16)

_NATIVE_HEADS: Final[dict[str, bytes]] = {
    ImplicitVRLittleEndian: b"\xe0\x7f\x10\x00",
    ExplicitVRLittleEndian: b"\xe0\x7f\x10\x00OW\x00\x00",
}
"""How a pixel data element begins, up to its length."""

Stored = npt.NDArray[np.integer[Any]]


def read_hounsfield(item: Slice, out: npt.NDArray[np.int16]) -> None:
    """Decodes one slice into `out`, shape (rows, columns).

    Raises:
        UnreadableInstance: no pixel data, too little of it, or data that the decoder refuses.
    """
    stored = _decode(item)
    _check_shape(stored, item, out.shape)
    to_hounsfield(stored, item.pixels, out)
    if item.modality == "CT":
        # Padding that no tag declares, or that lossy compression moved off its declared value.
        np.maximum(out, AIR_HU, out=out)


def read_signal(item: Slice, out: npt.NDArray[np.float32], factor: float = 1.0) -> None:
    """Decodes one MR slice into `out`, shape (rows, columns): rescaled, then times `factor`; 0 at padding.

    Raises:
        UnreadableInstance: as `read_hounsfield`.
    """
    stored = _decode(item)
    _check_shape(stored, item, out.shape)
    pixels = item.pixels
    values = _meant(stored, pixels)
    np.multiply(values, np.float32(pixels.slope * factor), out=out, casting="unsafe")
    out += np.float32(pixels.intercept * factor)
    if pixels.padding is not None:
        first, last = pixels.padding
        out[(values >= first) & (values <= last)] = 0.0


def to_hounsfield(stored: Stored, pixels: StoredPixels, out: npt.NDArray[np.int16]) -> None:
    """Applies mask of unused bits, sign, padding and rescale; rounds, and clips to 16 bits."""
    values = _meant(stored, pixels)
    padded = None
    if pixels.padding is not None:
        first, last = pixels.padding
        padded = values == first if first == last else (values >= first) & (values <= last)
    _rescale(values, pixels, out)
    if padded is not None:
        out[padded] = AIR_HU


def _check_shape(stored: Stored, item: Slice, promised: tuple[int, ...]) -> None:
    if stored.shape != promised:
        raise UnreadableInstance(
            f"{item.path.name}: Pixel Data (7FE0,0010) decodes to {'x'.join(map(str, stored.shape))} values, "
            f"the header promises {promised[0]}x{promised[1]}. Send the image again from its source."
        )


def _meant(stored: Stored, pixels: StoredPixels) -> Stored:
    """The stored values without overlay bits, with their sign."""
    bits, shift = pixels.bits_stored, pixels.high_bit + 1 - pixels.bits_stored
    if bits == pixels.bits_allocated:
        return stored
    width = stored.dtype.itemsize * 8
    raw = stored.view(f"u{stored.dtype.itemsize}")
    # To the top and back: what stood above the high bit leaves, and the sign comes down.
    values: Stored = np.left_shift(raw, width - bits - max(shift, 0), dtype=raw.dtype)
    if pixels.signed:
        values = values.view(f"i{stored.dtype.itemsize}")
    values >>= width - bits
    return values


def _rescale(values: Stored, pixels: StoredPixels, out: npt.NDArray[np.int16]) -> None:
    slope, intercept = pixels.slope, pixels.intercept
    whole = slope == 1.0 and intercept == int(intercept)
    low, high = int(values.min()), int(values.max())
    if whole and low + intercept >= _INT16.min and high + intercept <= _INT16.max and high <= _INT16.max:
        np.add(values, np.int16(intercept), out=out, casting="unsafe", dtype=np.int16)
        return
    scaled = values * np.float64(slope)
    scaled += intercept
    np.rint(scaled, out=scaled)
    np.clip(scaled, _INT16.min, _INT16.max, out=scaled)
    out[...] = scaled


def _decode(item: Slice) -> Stored:
    path, frame = item.path, item.frame
    try:
        if item.transfer_syntax in JPEG_12_BIT and item.pixels.bits_allocated == 16:
            return decoded_with_gdcm(path, frame)
        native = _read_native(item)
        if native is not None:
            return native
        stored: Stored = pixel_array(path, index=frame - 1, raw=True)
    except AttributeError:
        return _decode_without_meta(item)
    except Exception as error:
        raise _undecodable(item, error) from error
    return stored


def _read_native(item: Slice) -> Stored | None:
    """Uncompressed pixels of a classic image straight from their place in the file; None for all others.

    Ten times faster than to parse the header again, which for thousands of slices is most of the work.
    """
    if item.header_end is None or item.pixels.bits_allocated != 16:
        return None
    head = _NATIVE_HEADS.get(item.transfer_syntax or "")
    if head is None:
        return None
    with item.path.open("rb") as file:
        file.seek(item.header_end)
        start = file.read(len(head) + 4)
        length = int.from_bytes(start[-4:], "little")
        needed = item.rows * item.columns * 2
        if not start.startswith(head) or length < needed:
            return None
        stored = np.fromfile(file, dtype="<i2" if item.pixels.signed else "<u2", count=needed // 2)
    if stored.size * 2 != needed:
        raise ValueError(f"{stored.size * 2} of {needed} bytes are there")
    return stored.reshape(item.rows, item.columns)


def decoded_with_gdcm(path: Path, frame: int) -> Stored:
    """For lossy 12-bit JPEG, which pydicom leaves alone and GDCM decodes."""
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    if not reader.Read():
        raise ValueError("GDCM cannot read the image")
    image = reader.GetImage()
    pixels = np.frombuffer(image.GetBuffer().encode("utf-8", "surrogateescape"), dtype=np.uint16)
    columns, rows = image.GetDimension(0), image.GetDimension(1)
    stored: Stored = pixels.reshape(-1, rows, columns)[frame - 1]
    return stored


def _decode_without_meta(item: Slice) -> Stored:
    """For data sets without file meta information, whose encoding pydicom finds out by trying."""
    try:
        dataset = pydicom.dcmread(item.path, force=True)
        if not dataset.file_meta.get("TransferSyntaxUID"):
            dataset.file_meta.TransferSyntaxUID = _native_syntax(dataset)
        stored: Stored = pixel_array(dataset, index=item.frame - 1, raw=True)
    except Exception as error:
        raise _undecodable(item, error) from error
    return stored


def _native_syntax(dataset: pydicom.Dataset) -> UID:
    implicit, little_endian = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _undecodable(item: Slice, error: Exception) -> UnreadableInstance:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UnreadableInstance(
        f"{item.path.name}: Pixel Data (7FE0,0010) of frame {item.frame} cannot be decoded "
        f"({name_of('TransferSyntaxUID')} {item.transfer_syntax or 'absent'}: {text}). "
        "If the file was cut short send it again, else send it uncompressed."
    )
