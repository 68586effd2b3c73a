"""How large a pixel of a radiograph is at the patient, and how well that is known (PS3.3 10.7.1.3).

A detector's pixel shows less than its own size of the patient: the image is magnified. Millimetres at the
patient stand where the header tells a calibration or the magnification; else only ratios can be told.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.imaging.header import number, numbers, text
from dicom_ai_node.report import Reason

Calibration = Literal["fiducial", "geometry", "magnification", "distances", "detector"]


@dataclass(frozen=True)
class FilmSpacing:
    """The size of a pixel.

    Attributes:
        rows_mm, columns_mm: distance of neighbouring rows, of neighbouring columns.
        calibration: where it comes from; "detector" means the detector's plane, not the patient's.
    """

    rows_mm: float
    columns_mm: float
    calibration: Calibration

    @property
    def at_patient(self) -> bool:
        """Whether lengths in millimetres are lengths in the patient."""
        return self.calibration != "detector"


def spacing_of(header: Dataset, path: Path) -> tuple[FilmSpacing | None, tuple[Reason, ...]]:
    """The size of a radiograph's pixels, and what the reader must know about it."""
    notes: list[Reason] = []
    patient = _pair(header, "PixelSpacing", path, notes)
    detector = _pair(header, "ImagerPixelSpacing", path, notes)
    detector = detector or _pair(header, "NominalScannedPixelSpacing", path, notes)
    kind = (_text(header, "PixelSpacingCalibrationType", path) or "").upper()
    if patient is not None and kind in {"FIDUCIAL", "GEOMETRY"}:
        return FilmSpacing(*patient, "fiducial" if kind == "FIDUCIAL" else "geometry"), tuple(notes)
    if patient is not None and detector is not None and not _alike(patient, detector):
        # Values that differ from the detector's are corrected for magnification (PS3.3 10.7.1.3).
        return FilmSpacing(*patient, "geometry"), tuple(notes)
    plane = detector or patient
    if plane is None:
        notes.append(
            Reason(
                "spacing",
                "The header tells no pixel spacing: ratios of heights are given, no millimetres.",
            )
        )
        return None, tuple(notes)
    factor, calibration = _magnification(header, path)
    if factor is not None:
        return FilmSpacing(plane[0] / factor, plane[1] / factor, calibration), tuple(notes)
    notes.append(
        Reason(
            "spacing",
            "The magnification is not known: ratios of heights are given, millimetres would be those of the "
            "detector.",
        )
    )
    return FilmSpacing(*plane, "detector"), tuple(notes)


def _magnification(header: Dataset, path: Path) -> tuple[float | None, Calibration]:
    factor = _number(header, "EstimatedRadiographicMagnificationFactor", path)
    if factor is not None and 1.0 < factor < 3.0:
        return factor, "magnification"
    detector = _number(header, "DistanceSourceToDetector", path)
    patient = _number(header, "DistanceSourceToPatient", path)
    if detector is not None and patient is not None and 1.0 < detector / max(patient, 1.0) < 3.0:
        return detector / patient, "distances"
    return None, "detector"


def _pair(header: Dataset, keyword: str, path: Path, notes: list[Reason]) -> tuple[float, float] | None:
    try:
        found = numbers(header, keyword, path, 2)
    except UnreadableInstance as error:
        notes.append(Reason("spacing", f"{error} The value was not used."))
        return None
    if found is None:
        return None
    rows, columns = found
    if not (0.005 < rows < 5.0 and 0.005 < columns < 5.0):
        notes.append(Reason("spacing", f"{keyword} says {rows:g} by {columns:g} mm and was not used."))
        return None
    return rows, columns


def _number(header: Dataset, keyword: str, path: Path) -> float | None:
    try:
        return number(header, keyword, path)
    except UnreadableInstance:
        return None


def _text(header: Dataset, keyword: str, path: Path) -> str | None:
    try:
        return text(header, keyword, path)
    except UnreadableInstance:
        return None


def _alike(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return all(abs(a - b) < 1e-3 * b for a, b in zip(first, second, strict=True))
