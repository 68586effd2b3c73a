"""Arrays with geometry to a classic CT series (PS3.3 A.3), as a scanner would have written it.

For the phantom, and for tests that turn other formats into DICOM. The same arguments give the same bytes:
identifiers derive from the seed and the content, dates from the seed. The patient is fictional.
"""

from __future__ import annotations

import copy
import hashlib
import io
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

import dicom_ai_node

_NAMESPACE: Final = uuid.UUID("9c1f6f3e-6d0b-5b52-8a3e-0a7c6a2f5f10")
_AIR: Final = -1024

Affine = npt.NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class CtHeader:
    """What a written series says about itself beyond its geometry; the defaults are those of a spine CT."""

    patient_name: str = "Phantom^Spine"
    patient_id: str | None = None
    """None derives one from the seed."""
    patient_sex: Literal["F", "M", "O", ""] = "O"
    patient_age: int | None = 70
    study_description: str = "CT spine"
    series_description: str = "Spine bone"
    series_number: int = 2
    body_part_examined: str | None = "SPINE"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    manufacturer: str = "dicom-ai-node"
    model_name: str = "Spine phantom"
    kernel: str = "B60s"
    kvp: float = 120.0
    tube_current_ma: int = 200
    slice_thickness_mm: float | None = None
    """None writes the distance of the slices."""
    patient_position: str = "HFS"
    window: tuple[float, float] = (400.0, 1800.0)
    """Centre and width."""
    rescale_intercept: int = -1024
    bits_stored: Literal[12, 16] = 16
    signed: bool = True
    pixel_padding_value: int | None = None
    """Stored value to declare as padding; None declares none."""
    omit: tuple[str, ...] = ()
    """Keywords to leave out, for headers as odd as real ones."""


def write_ct_series(
    voxels: npt.NDArray[np.integer],
    affine: Affine,
    folder: Path,
    *,
    patient_name: str = "Phantom^Spine",
    seed: int = 0,
    header: CtHeader | None = None,
) -> list[Path]:
    """Writes one file per slice, ``IM0001.dcm`` and so on, in the order of the array.

    Args:
        voxels: shape (slices, rows, columns), Hounsfield units.
        affine: 4x4, (slice, row, column, 1) to LPS millimetres. Rows and columns stand at right angles;
            slices may be sheared (a tilted gantry) and may run either way.
        folder: made where it is missing.
        patient_name: fictional, as DICOM writes names; ignored where `header` is given.
        seed: gives patient, study and dates their identity; the content adds that of series and images.
        header: further header values.

    Returns:
        The files.

    Raises:
        ValueError: rows and columns not at right angles, or values that do not fit the stored bits.
    """
    about = header or CtHeader(patient_name=patient_name)
    _check(voxels, affine, about)
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(np.ascontiguousarray(voxels).data)
    digest.update(np.ascontiguousarray(affine, dtype=np.float64).data)
    digest.update(repr(about).encode())
    identity = f"{seed}/{digest.hexdigest()}"
    series = _series(voxels, affine, about, seed)
    series.SeriesInstanceUID = _uid("series", identity)
    paths = []
    for number, dataset in enumerate(_images(series, voxels, affine, about, identity), start=1):
        path = folder / f"IM{number:04d}.dcm"
        buffer = io.BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
        path.write_bytes(buffer.getvalue())
        paths.append(path)
    return paths


def from_nifti_axes(voxels: npt.NDArray[_Scalar], affine: Affine) -> tuple[npt.NDArray[_Scalar], Affine]:
    """An array as NIfTI holds it, (x, y, z) with an affine to RAS, as (slices, rows, columns) to LPS."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    return np.ascontiguousarray(voxels.transpose(2, 1, 0)), lps[:, [2, 1, 0, 3]]


def _check(voxels: npt.NDArray[np.integer], affine: Affine, about: CtHeader) -> None:
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    lengths = np.linalg.norm(row_step), np.linalg.norm(column_step)
    if voxels.ndim != 3 or min(lengths) <= 0:
        raise ValueError("voxels have shape (slices, rows, columns), and steps of the affine are not 0")
    if abs(float(row_step @ column_step)) > 1e-4 * float(lengths[0] * lengths[1]):
        raise ValueError("rows and columns must stand at right angles in DICOM; resample the volume first")
    low, high = _range(about)
    stored_low, stored_high = (
        int(voxels.min()) - about.rescale_intercept,
        int(voxels.max()) - about.rescale_intercept,
    )
    if stored_low < low or stored_high > high:
        raise ValueError(
            f"Hounsfield units {voxels.min()} to {voxels.max()} do not fit into {about.bits_stored} "
            f"{'signed' if about.signed else 'unsigned'} bits with intercept {about.rescale_intercept}; "
            "clip them, or choose other CtHeader.bits_stored, signed or rescale_intercept"
        )


def _range(about: CtHeader) -> tuple[int, int]:
    if about.signed:
        return -(1 << (about.bits_stored - 1)), (1 << (about.bits_stored - 1)) - 1
    return 0, (1 << about.bits_stored) - 1


def _uid(*parts: object) -> UID:
    """A UUID-derived UID (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}")


def _series(voxels: npt.NDArray[np.integer], affine: Affine, about: CtHeader, seed: int) -> Dataset:
    """All that the images of the series have in common."""
    day = f"{date(2020, 1, 1) + timedelta(days=seed % 1461):%Y%m%d}"
    one = Dataset()
    # Patient (C.7.1.1), General Study (C.7.2.1), Patient Study (C.7.2.2)
    one.PatientName = about.patient_name
    one.PatientID = about.patient_id or f"PHANTOM-{seed:06d}"
    one.PatientBirthDate = ""
    one.PatientSex = about.patient_sex
    if about.patient_age is not None:
        one.PatientAge = f"{about.patient_age:03d}Y"
    one.StudyInstanceUID = _uid("study", seed)
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = one.InstanceCreationDate = day
    one.StudyTime, one.SeriesTime, one.AcquisitionTime = "080000", "080500", "080510"
    one.ContentTime = one.InstanceCreationTime = "080700"
    one.ReferringPhysicianName = ""
    one.StudyID = str(seed % 10**8)
    one.AccessionNumber = f"P{seed % 10**8:08d}"
    one.StudyDescription = about.study_description
    # General Series (C.7.3.1), Frame of Reference (C.7.4.1), General Equipment (C.7.5.1)
    one.Modality = "CT"
    one.SeriesNumber = about.series_number
    one.SeriesDescription = about.series_description
    one.ProtocolName = about.study_description
    one.PatientPosition = about.patient_position
    if about.body_part_examined is not None:
        one.BodyPartExamined = about.body_part_examined
    one.FrameOfReferenceUID = _uid("frame of reference", seed)
    one.PositionReferenceIndicator = ""
    one.Manufacturer = about.manufacturer
    one.ManufacturerModelName = about.model_name
    one.DeviceSerialNumber = "0"
    one.SoftwareVersions = dicom_ai_node.__version__
    # General Image (C.7.6.1), Image Plane (C.7.6.2), Image Pixel (C.7.6.3)
    one.SpecificCharacterSet = "ISO_IR 100"
    one.ImageType = list(about.image_type)
    one.AcquisitionNumber = 1
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    spacing = float(np.linalg.norm(row_step)), float(np.linalg.norm(column_step))
    one.PixelSpacing = [_ds(value) for value in spacing]
    one.ImageOrientationPatient = [
        _ds(float(value)) for value in (*(column_step / spacing[1]), *(row_step / spacing[0]))
    ]
    normal = np.cross(column_step / spacing[1], row_step / spacing[0])
    distance = abs(float(affine[:3, 0] @ normal))
    one.SliceThickness = _ds(about.slice_thickness_mm or distance)
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.Rows, one.Columns = voxels.shape[1:]
    one.BitsAllocated = 16
    one.BitsStored = about.bits_stored
    one.HighBit = about.bits_stored - 1
    one.PixelRepresentation = int(about.signed)
    if about.pixel_padding_value is not None:
        one.add_new("PixelPaddingValue", "SS" if about.signed else "US", about.pixel_padding_value)
    # CT Image (C.8.2.1), VOI LUT (C.11.2)
    one.RescaleIntercept = _ds(about.rescale_intercept)
    one.RescaleSlope = _ds(1)
    one.RescaleType = "HU"
    one.KVP = _ds(about.kvp)
    one.XRayTubeCurrent = about.tube_current_ma
    one.ExposureTime = 500
    one.ConvolutionKernel = about.kernel
    one.GantryDetectorTilt = _ds(_tilt(affine, normal))
    one.TableHeight = _ds(150)
    one.ReconstructionDiameter = _ds(spacing[1] * voxels.shape[2])
    one.WindowCenter, one.WindowWidth = _ds(about.window[0]), _ds(about.window[1])
    one.SOPClassUID = CTImageStorage
    return one


def _tilt(affine: Affine, normal: Affine) -> float:
    """Degrees between the slices' normal and the direction in which they are stacked."""
    step = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    cosine = min(1.0, abs(float(step @ normal)))
    return round(float(np.degrees(np.arccos(cosine))), 3) if cosine < 1 - 1e-9 else 0.0


def _images(
    series: Dataset,
    voxels: npt.NDArray[np.integer],
    affine: Affine,
    about: CtHeader,
    identity: str,
) -> Iterator[Dataset]:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = "DICOM_AI_NODE"
    mask = (1 << about.bits_stored) - 1
    for k, plane in enumerate(voxels):
        one = copy.copy(series)
        one.file_meta = copy.copy(meta)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = _uid("image", identity, k)
        one.InstanceNumber = k + 1
        position = affine[:3, 3] + affine[:3, 0] * k
        one.ImagePositionPatient = [_ds(float(value)) for value in position]
        one.SliceLocation = _ds(float(position[2]))
        stored = (plane.astype(np.int32) - about.rescale_intercept) & mask
        one.PixelData = stored.astype("<u2").tobytes()
        for keyword in about.omit:
            if keyword in one:
                delattr(one, keyword)
        yield one


def _ds(value: float) -> DSfloat:
    # Without the noise of the last bits, and 0 without a sign: a decimal string has 16 characters.
    return DSfloat(round(float(value), 12) + 0.0, auto_format=True)
