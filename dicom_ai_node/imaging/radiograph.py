"""`load_radiograph`: one projection radiograph to brightness, with what its header says about size and pose.

CR, DX (for presentation and for processing), and secondary captures of films. Rows and columns stay as they
are stored: whoever turns the film upright keeps `FilmPose` to find the way back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut, apply_windowing
from pydicom.pixels.utils import pixel_array

from dicom_ai_node.errors import NotAnalysable, UnreadableInstance
from dicom_ai_node.imaging.film_pose import FilmPose, View, pose_of, said_view
from dicom_ai_node.imaging.film_spacing import FilmSpacing, spacing_of
from dicom_ai_node.imaging.header import name_of, number, read_header, reading_quietly, required_text, text
from dicom_ai_node.imaging.pixels import JPEG_12_BIT, decoded_with_gdcm
from dicom_ai_node.imaging.volume import SliceRef
from dicom_ai_node.report import Reason

Brightness = npt.NDArray[np.float32]

RADIOGRAPH_SOP_CLASSES: Final[dict[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.2": "Multi-frame Grayscale Byte Secondary Capture Image Storage",
    "1.2.840.10008.5.1.4.1.1.7.3": "Multi-frame Grayscale Word Secondary Capture Image Storage",
}

CAPTURE_SOP_CLASSES: Final = frozenset(uid for uid in RADIOGRAPH_SOP_CLASSES if ".1.1.7" in uid)

MAX_PIXELS: Final = 2**27
"""A stitched film of the whole spine has some 30 million."""

_CHANNELS: Final = 3

_BURNT_OUT: Final = 0.6
"""A window that makes this share of a film black or white was meant for another image."""

_HUE: Final = 0.06
"""Red, green and blue of a pixel that differ by more than this share of white make a colour. Lossy
compression of a grey film leaves less."""

_COLOURED: Final = 0.001
"""A picture with a larger share of coloured pixels is no film. A coloured letter on a film is smaller."""


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One radiograph as it is stored.

    Attributes:
        pixels: float32, shape (rows, columns), 0 to 1; bone is bright. No unit: makers' scales share none.
        instance: where it came from.
        study_instance_uid, series_instance_uid, modality: of the source.
        spacing: size of a pixel, None where nothing tells it.
        pose: what the header says about how the patient lies in the image, None where it is silent.
        notes: what was tolerated, for the report's limitations.
        view, view_source: the view that the header tells, and the tag that tells it; None where it is silent.
    """

    pixels: Brightness
    instance: SliceRef
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    spacing: FilmSpacing | None
    pose: FilmPose | None
    notes: tuple[Reason, ...] = ()
    view: View | None = None
    view_source: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        rows, columns = self.pixels.shape
        return rows, columns


def load_radiograph(path: Path) -> Radiograph:
    """Reads one radiograph in any decodable transfer syntax.

    Modality LUT, VOI LUT or window, MONOCHROME1, Presentation LUT Shape and, for images for processing, the
    pixel intensity relationship are applied (PS3.3 C.11.1, C.11.2, C.11.6, C.8.11.3). A secondary capture
    whose colours are all grey is read as the grey film that it shows.

    Raises:
        UnreadableInstance: no DICOM, cut short, a needed tag missing, or pixels that cannot be decoded.
        NotAnalysable: another kind of object, a colour picture, several frames, or an image without contrast.
    """
    with reading_quietly():
        header = read_header(path)
        sop_class = text(header, "SOPClassUID", path) or str(header.file_meta.get("MediaStorageSOPClassUID"))
        _refuse_unfit(header, sop_class, path)
        stored, dataset = stored_pixels(path)
        pixels, notes = _brightness(stored, dataset, path)
        spacing, spacing_notes = spacing_of(header, path)
        pose, pose_notes = pose_of(header, path)
        view, view_source = said_view(header)
        return Radiograph(
            pixels=pixels,
            instance=SliceRef(sop_class, required_text(header, "SOPInstanceUID", path), 1, path),
            study_instance_uid=required_text(header, "StudyInstanceUID", path),
            series_instance_uid=required_text(header, "SeriesInstanceUID", path),
            modality=text(header, "Modality", path) or "DX",
            spacing=spacing,
            pose=pose,
            notes=(*notes, *spacing_notes, *pose_notes),
            view=view,
            view_source=view_source,
        )


def _refuse_unfit(header: Dataset, sop_class: str, path: Path) -> None:
    if sop_class not in RADIOGRAPH_SOP_CLASSES:
        raise NotAnalysable(
            "modality-mismatch",
            f"{path.name}: SOP Class UID (0008,0016) {sop_class} is no radiograph. "
            "Send CR, DX, or secondary captures of films.",
        )
    if (number(header, "SamplesPerPixel", path) or 1) != 1 and sop_class not in CAPTURE_SOP_CLASSES:
        raise NotAnalysable(
            "modality-mismatch",
            f"{path.name}: Samples per Pixel (0028,0002) is not 1: a colour picture is no radiograph. "
            "Send the original image.",
        )
    if (number(header, "NumberOfFrames", path) or 1) != 1:
        raise NotAnalysable(
            "modality-mismatch",
            f"{path.name}: Number of Frames (0028,0008) is not 1. Send each radiograph as its own image.",
        )
    rows, columns = number(header, "Rows", path), number(header, "Columns", path)
    if rows is None or columns is None or not 0 < rows * columns <= MAX_PIXELS:
        raise UnreadableInstance(
            f"{path.name}: {name_of('Rows')} and {name_of('Columns')} are {rows} and {columns}. "
            "Correct the header at its source and send the image again."
        )


def is_coloured(header: Dataset) -> bool:
    """Whether pixels are stored as colours, be they grey: red, green and blue, YCbCr, or a palette."""
    photometric = str(header.get("PhotometricInterpretation", "")).strip()
    return bool(header.get("SamplesPerPixel") == _CHANNELS) or photometric == "PALETTE COLOR"


def stored_pixels(path: Path) -> tuple[npt.NDArray[Any], Dataset]:
    """The values as stored, or the greys of stored colours, shape (rows, columns); and the whole data set.

    Raises:
        UnreadableInstance: the pixels cannot be decoded, or are no single image.
        NotAnalysable: a picture with colours.
    """
    try:
        dataset = pydicom.dcmread(path, force=True)
        if dataset.file_meta.get("TransferSyntaxUID") in JPEG_12_BIT and dataset.BitsAllocated == 16:
            stored: npt.NDArray[Any] = decoded_with_gdcm(path, 1)
        elif is_coloured(dataset):
            # YCbCr comes as red, green and blue.
            stored = pixel_array(dataset)
            if dataset.SamplesPerPixel == 1:
                stored = apply_color_lut(stored, dataset)
        else:
            stored = dataset.pixel_array
    except Exception as error:
        # Whatever a codec raises: the message names the file.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnreadableInstance(
            f"{path.name}: Pixel Data (7FE0,0010) cannot be decoded ({reason}). "
            "If the file was cut short send it again, else send it uncompressed."
        ) from error
    if is_coloured(dataset) and stored.ndim == _CHANNELS and stored.shape[2] == _CHANNELS:
        stored = _greys(stored, path)
    if stored.ndim != 2:
        raise UnreadableInstance(
            f"{path.name}: Pixel Data (7FE0,0010) decodes to {'x'.join(map(str, stored.shape))} values, "
            "one grey image belongs there. Send the image again from its source."
        )
    return stored, dataset


def _greys(colours: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """The mean of red, green and blue, shape (rows, columns), where they say the same."""
    spread = colours.max(axis=2) - colours.min(axis=2)
    white = np.iinfo(colours.dtype).max
    share = float((spread > _HUE * white).mean())
    if share > _COLOURED:
        raise NotAnalysable(
            "modality-mismatch",
            f"{path.name}: {share:.1%} of the pixels are coloured: a colour picture is no radiograph. "
            "Send the original image.",
        )
    greys: npt.NDArray[Any] = np.rint(colours.mean(axis=2, dtype=np.float32)).astype(colours.dtype)
    return greys


def _brightness(stored: npt.NDArray[Any], dataset: Dataset, path: Path) -> tuple[Brightness, list[Reason]]:
    notes: list[Reason] = []
    # Lookup tables, windows, padding and inversion belong to grey images alone (PS3.3 C.7.6.3.1.2).
    coloured = is_coloured(dataset)
    padded = None if coloured else padding(stored, dataset)
    values = stored.astype(np.float64) if coloured else _meant(stored, dataset, path, notes)
    real = values[~padded] if padded is not None else values
    low, high = (float(real.min()), float(real.max())) if real.size else (0.0, 0.0)
    if not high > low:
        raise NotAnalysable("unreadable", f"{path.name}: all pixels are alike. Send the image again.")
    shown = (values - low) / (high - low)
    if not coloured and shown_inverted(dataset):
        shown = 1.0 - shown
    if padded is not None:
        # Outside the exposed field a film is black.
        shown[padded] = 0.0
    return np.clip(shown, 0.0, 1.0).astype(np.float32), notes


def _meant(
    stored: npt.NDArray[Any], dataset: Dataset, path: Path, notes: list[Reason]
) -> npt.NDArray[np.float64]:
    """Values after modality LUT, logarithm and VOI, in the direction in which they are stored."""
    values = np.asarray(_applied(apply_modality_lut, stored, dataset, notes), dtype=np.float64)
    if text(dataset, "PixelIntensityRelationship", path) == "LIN":
        # Linear in exposure: tissue lies along the logarithm, which keeps its order.
        span = float(values.max() - values.min()) or 1.0
        logarithm: npt.NDArray[np.float64] = np.log2(1.0 + 1023.0 * (values - values.min()) / span)
        return logarithm
    if "VOILUTSequence" in dataset:
        return np.asarray(_applied(_voi_table, stored, dataset, notes, given=values), dtype=np.float64)
    if "WindowCenter" not in dataset:
        return values
    windowed = np.asarray(_applied(apply_windowing, values, dataset, notes), dtype=np.float64)
    low, high = float(windowed.min()), float(windowed.max())
    burnt = float(((windowed <= low) | (windowed >= high)).mean()) if high > low else 1.0
    before = float(((values <= values.min()) | (values >= values.max())).mean())
    if burnt > max(_BURNT_OUT, 1.2 * before):
        notes.append(Reason("partial", "The stored window does not fit this image and was not applied."))
        return values
    return windowed


def _voi_table(values: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[Any]:
    # Lookup tables take whole numbers.
    answer: npt.NDArray[Any] = apply_voi_lut(np.rint(values).astype(np.int64), dataset, prefer_lut=True)
    return answer


def _applied(
    table: Any,
    values: npt.NDArray[Any],
    dataset: Dataset,
    notes: list[Reason],
    *,
    given: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    start = values if given is None else given
    try:
        answer: npt.NDArray[Any] = table(start, dataset)
    except Exception:
        # Broken tables and windows are frequent; the image itself is still there.
        notes.append(
            Reason("partial", "A lookup table or window of the image is broken and was not applied.")
        )
        return start
    return answer


def padding(stored: npt.NDArray[Any], dataset: Dataset) -> npt.NDArray[np.bool_] | None:
    """Which pixels are padding (PS3.3 C.7.5.1.1.2); None where none is."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit", first)
    last = last if isinstance(last, int) else first
    mask: npt.NDArray[np.bool_] = (stored >= min(first, last)) & (stored <= max(first, last))
    return mask if 0 < int(mask.sum()) < mask.size else None


def shown_inverted(dataset: Dataset) -> bool:
    """Whether large values mean dark: what a display turns over (PS3.3 C.7.6.3.1.2, C.11.6.1.2)."""
    inverted = str(dataset.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1"
    shape = str(dataset.get("PresentationLUTShape", "")).strip()
    if shape in {"IDENTITY", "INVERSE"}:
        return shape == "INVERSE"
    # For processing: no presentation is defined; the sign says whether values grow with exposure, and
    # exposure is high where there is no bone (C.8.11.3.1.2).
    sign = dataset.get("PixelIntensityRelationshipSign")
    if str(dataset.get("PresentationIntentType", "")).strip() == "FOR PROCESSING" and sign in (1, -1):
        return bool(sign == 1)
    return inverted
