"""How a segmentation's pixels are shown and stored: the palette of a label map, the transfer syntax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from pydicom.dataset import FileDataset

from dicom_ai_node.colours import Rgb
from dicom_ai_node.presets import Compression
from dicom_ai_node.results.icc import srgb_profile
from dicom_ai_node.results.rendition import TRANSFER_SYNTAXES

_ENTRIES: Final = 256


def label_map_pixels(dataset: FileDataset, colours: Sequence[Rgb]) -> None:
    """Eight bits per pixel through a palette (PS3.3 C.7.6.3, C.7.9); the background is black.

    Args:
        colours: sRGB of segment 1, 2, and so on.
    """
    dataset.SegmentationType = "LABELMAP"
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelPaddingValue = 0
    table = np.zeros((_ENTRIES, 3), np.uint8)
    table[1 : 1 + len(colours)] = np.array(colours, np.uint8).reshape(-1, 3)
    # No pixel has this value. Where all entries of a channel stay below 128, dciodvfy takes it for one of
    # fewer bits.
    table[-1] = 255
    for channel, name in enumerate(("Red", "Green", "Blue")):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [_ENTRIES, 0, 8])
        setattr(dataset, f"{name}PaletteColorLookupTableData", table[:, channel].tobytes())
    dataset.ICCProfile = srgb_profile()
    dataset.ColorSpace = "SRGB"


def compress(dataset: FileDataset, compression: Compression) -> None:
    """Puts a segmentation with plain pixels into the transfer syntax of `compression`; nothing is lost."""
    syntax = TRANSFER_SYNTAXES[compression]
    if compression == "rle":
        dataset.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        return
    # Deflated as it is written.
    dataset.file_meta.TransferSyntaxUID = syntax
