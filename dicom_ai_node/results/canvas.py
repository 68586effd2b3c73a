"""What a presentation state is drawn on: images of one size, one grey scale, one pose on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.signal_window import signal_window
from dicom_ai_node.imaging.slices import read_slices
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.results.decimals import decimals
from dicom_ai_node.results.reformat import MR_WHITE, WINDOW_CENTER, WINDOW_WIDTH
from dicom_ai_node.results.source import SourceImages
from dicom_ai_node.results.views import VertebraView

FloatArray = npt.NDArray[np.float64]

_AS_STORED: Final = FilmPose()


@dataclass(frozen=True)
class Canvas:
    """Images of one size, spacing and grey scale.

    Attributes:
        series_instance_uid: the series of the images.
        shape: rows, columns as stored.
        spacing_mm: distance of rows, of columns; None where the image does not say.
        greys: the modality LUT, softcopy VOI LUT and presentation LUT that the state carries (PS3.3 C.11.1,
            C.11.8, C.11.6); of images in colour their ICC profile (C.11.15).
        at_patient: whether lengths measured with `spacing_mm` are lengths in the patient.
        pose: how the images are turned to be shown.
    """

    series_instance_uid: str
    shape: tuple[int, int]
    spacing_mm: tuple[float, float] | None
    greys: Dataset = field(repr=False)
    at_patient: bool = True
    pose: FilmPose = _AS_STORED

    @property
    def coloured(self) -> bool:
        """Whether the images are stored in colours, be they grey."""
        return "ICCProfile" in self.greys

    @property
    def shown_shape(self) -> tuple[int, int]:
        """Rows, columns as shown."""
        rows, columns = self.shape
        return (rows, columns) if self.pose.quarters % 2 == 0 else (columns, rows)

    def to_stored(self, points: npt.ArrayLike) -> FloatArray:
        """Shown (row, column) edges, shape (n, 2), in the image as stored."""
        return self.pose.as_stored(np.asarray(points, dtype=np.float64) - 0.5, self.shape) + 0.5

    def to_shown(self, points: npt.ArrayLike) -> FloatArray:
        """Stored (row, column) edges, shape (n, 2), in the image as shown."""
        return self.pose.as_upright(np.asarray(points, dtype=np.float64) - 0.5, self.shape) + 0.5


def hounsfield_greys(slope: float, intercept: float) -> Dataset:
    """A CT in a bone window."""
    greys = Dataset()
    greys.RescaleIntercept, greys.RescaleSlope = decimals([intercept, slope])
    greys.RescaleType = "HU"
    window = Dataset()
    window.WindowCenter, window.WindowWidth = WINDOW_CENTER, WINDOW_WIDTH
    greys.SoftcopyVOILUTSequence = [window]
    greys.PresentationLUTShape = "IDENTITY"
    return greys


def signal_greys(slope: float, intercept: float, window: tuple[float, float]) -> Dataset:
    """An MR between two signals, black and white (PS3.3 C.11.2.1.2)."""
    low, high = window
    greys = Dataset()
    greys.RescaleIntercept, greys.RescaleSlope = decimals([intercept, slope])
    greys.RescaleType = "US"
    item = Dataset()
    # A linear window reaches from center - 0.5 - (width - 1) / 2 to center - 0.5 + (width - 1) / 2.
    width = max(2.0, high - low + 1)
    item.WindowCenter, item.WindowWidth = decimals([round(low + (width - 1) / 2 + 0.5, 4), round(width, 4)])
    greys.SoftcopyVOILUTSequence = [item]
    greys.PresentationLUTShape = "IDENTITY"
    return greys


def canvas_of(reformat: Dataset) -> Canvas:
    """The derived sagittal image."""
    rows, columns = (float(value) for value in reformat.PixelSpacing)
    if reformat.Modality == "MR":
        greys = signal_greys(1.0, 0.0, (0.0, float(MR_WHITE)))
    else:
        greys = hounsfield_greys(float(reformat.RescaleSlope), float(reformat.RescaleIntercept))
    return Canvas(
        str(reformat.SeriesInstanceUID), (int(reformat.Rows), int(reformat.Columns)), (rows, columns), greys
    )


def canvases_of_slices(
    views: Sequence[VertebraView], source: SourceImages, volume: Volume | None = None
) -> list[tuple[Canvas, tuple[VertebraView, ...]]]:
    """The views on source slices, parted by the rescale of their slices.

    Args:
        views: all with a slice.
        source: of the views.
        volume: the same as `source`; needed to tell the greys of MR.
    """
    if source.affine is None or source.shape is None:
        return []
    rescales = _rescales(views, source)
    lengths = np.linalg.norm(source.affine[:3, 1:3], axis=0)
    spacing_mm = (float(lengths[0]), float(lengths[1]))
    parted: dict[tuple[float, float], list[VertebraView]] = {}
    for view in views:
        assert view.slice_index is not None
        parted.setdefault(rescales[view.slice_index], []).append(view)
    window = signal_window(volume.voxels) if volume is not None and volume.modality == "MR" else None
    return [
        (
            Canvas(
                source.series[0][0],
                source.shape[1:],
                spacing_mm,
                hounsfield_greys(*rescale) if window is None else signal_greys(*rescale, window),
            ),
            tuple(found),
        )
        for rescale, found in parted.items()
    ]


def _rescales(views: Sequence[VertebraView], source: SourceImages) -> dict[int, tuple[float, float]]:
    indices = sorted({view.slice_index for view in views if view.slice_index is not None})
    found: dict[int, tuple[float, float]] = {}
    by_file = {}
    for index in indices:
        path, reference = source.paths[index], source.slices[index]
        if path not in by_file:
            by_file[path] = {item.frame: item.pixels for item in read_slices(path)}
        pixels = by_file[path][(reference.frame if reference is not None else None) or 1]
        found[index] = (pixels.slope, pixels.intercept)
    return found
