"""How a presentation state shows a film: its own grey scale, stored direction, and pose (PS3.3 C.11).

A presentation state replaces what the image says about its greys, so it repeats it: modality LUT, window or
VOI LUT, and whether large values mean dark. A film that was captured in colour has an ICC profile instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut

from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.header import read_header
from dicom_ai_node.imaging.radiograph import Radiograph, is_coloured, padding, shown_inverted, stored_pixels
from dicom_ai_node.results.canvas import Canvas
from dicom_ai_node.results.decimals import decimals
from dicom_ai_node.results.icc import srgb_profile

_TAGS: Final = (
    "SOPClassUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PresentationLUTShape",
    "PresentationIntentType",
    "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "PixelRepresentation",
    "BitsStored",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
)
_LOG_STEPS: Final = 1023.0
"""As `imaging.radiograph` takes the logarithm of images that are linear in exposure."""


def canvas_of_film(film: Radiograph, pose: FilmPose | None = None) -> Canvas:
    """The film; `pose` is how it is turned to be shown, None shows it as it is stored."""
    spacing = film.spacing
    return Canvas(
        film.series_instance_uid,
        film.shape,
        None if spacing is None else (spacing.rows_mm, spacing.columns_mm),
        film_greys(film),
        at_patient=spacing is not None and spacing.at_patient,
        pose=pose or FilmPose(),
    )


def film_greys(film: Radiograph) -> Dataset:
    """Modality LUT, softcopy VOI LUT and presentation LUT that show bone bright.

    A film without a window, or with one that does not fit it, is shown over its full range. One that is
    stored in colours has none of these, but the profile of its colours (PS3.3 A.33.2, C.11.15).

    Raises:
        UnreadableInstance: the file is no longer what was analysed.
    """
    header = read_header(film.instance.path, _TAGS)
    if is_coloured(header):
        profile = Dataset()
        profile.ICCProfile, profile.ColorSpace = srgb_profile(), "SRGB"
        return profile
    # What the loader could not apply to the image fits it in a presentation state no better.
    trusted = not any(note.code == "partial" for note in film.notes)
    greys = Dataset()
    _modality(greys, header)
    linear = str(header.get("PixelIntensityRelationship") or "").strip() == "LIN"
    voi = _stored_voi(header) if trusted and not linear else None
    greys.SoftcopyVOILUTSequence = [voi or _full_range(film, logarithmic=linear)]
    greys.PresentationLUTShape = "INVERSE" if shown_inverted(header) else "IDENTITY"
    return greys


def _modality(greys: Dataset, header: Dataset) -> None:
    table = _table(header.get("ModalityLUTSequence"), shown=False)
    if table is not None:
        table.ModalityLUTType = str(header.ModalityLUTSequence[0].get("ModalityLUTType") or "US")
        greys.ModalityLUTSequence = [table]
    elif header.get("RescaleSlope") is not None and header.get("RescaleIntercept") is not None:
        greys.RescaleIntercept, greys.RescaleSlope = decimals([header.RescaleIntercept, header.RescaleSlope])
        greys.RescaleType = str(header.get("RescaleType") or "US")


def _stored_voi(header: Dataset) -> Dataset | None:
    """The first VOI LUT or window of the image; None where there is none that can be used."""
    item = Dataset()
    table = _table(header.get("VOILUTSequence"), shown=True)
    if table is not None:
        item.VOILUTSequence = [table]
        return item
    try:
        center, width = _first(header.WindowCenter), _first(header.WindowWidth)
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    function = str(header.get("VOILUTFunction") or "LINEAR")
    if width < 1 or function not in {"LINEAR", "LINEAR_EXACT", "SIGMOID"}:
        return None
    item.WindowCenter, item.WindowWidth = decimals([center, width])
    if function != "LINEAR":
        item.VOILUTFunction = function
    return item


def _first(value: Any) -> float:
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return float(several[0])


def _table(sequence: Sequence[Dataset] | None, *, shown: bool) -> Dataset | None:
    """The first lookup table, with VRs that say what is in it; None where there is none, or a broken one.

    Args:
        shown: its entries are shown (VOI LUT); else they are values that a window follows (modality LUT).
    """
    if not sequence:
        return None
    try:
        entries, first, bits = (int(value) for value in sequence[0].LUTDescriptor)
        data = sequence[0].LUTData
        values = data if isinstance(data, bytes) else np.asarray(data, dtype="<u2").tobytes()
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None
    if len(values) < (entries or 2**16) * (1 if bits <= 8 else 2):
        return None
    if bits <= 8:
        return _lookup_table(entries, first, 8, values)
    # Entries stand in words of 16 bits, and those are what validators allow beside 8.
    table = np.frombuffer(values, dtype="<u2")
    if shown:
        # What is shown goes by the share of the largest entry that the bits allow.
        table = np.rint(table * (65535 / (2**bits - 1))).clip(0, 65535).astype("<u2")
    return _lookup_table(entries, first, 16, table.tobytes())


def _lookup_table(entries: int, first: int, bits: int, values: bytes) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [entries, first, bits])
    item.add_new("LUTData", "OW", values + b"\0" * (len(values) % 2))
    return item


def _full_range(film: Radiograph, *, logarithmic: bool) -> Dataset:
    """A window over all values but padding; a table of logarithms where values are linear in exposure."""
    stored, dataset = stored_pixels(film.instance.path)
    values: npt.NDArray[Any] = np.asarray(_rescaled(stored, dataset))
    padded = padding(stored, dataset)
    real = values if padded is None else values[~padded]
    low, high = float(real.min()), float(real.max())
    item = Dataset()
    first, last = int(np.floor(low)), int(np.ceil(high))
    if logarithmic and first >= -(2**15) and last - first < 2**16 and last < 2**16:
        share = np.clip((np.arange(first, last + 1) - low) / (high - low), 0, 1)
        shown = np.rint(np.log2(1 + _LOG_STEPS * share) / np.log2(1 + _LOG_STEPS) * 65535).astype("<u2")
        # 65,536 entries are written as 0 (PS3.3 C.11.2.1.1).
        item.VOILUTSequence = [_lookup_table(len(shown) % 2**16, first, 16, shown.tobytes())]
    else:
        # From the first to the last value (PS3.3 C.11.2.1.2.1).
        item.WindowCenter, item.WindowWidth = decimals([(low + high + 1) / 2, max(1.0, high - low + 1)])
    return item


def _rescaled(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[Any]:
    try:
        return apply_modality_lut(stored, dataset)
    except (AttributeError, ValueError, TypeError, NotImplementedError, IndexError):
        # A broken table is not in the presentation state either.
        return stored
