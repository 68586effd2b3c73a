"""Arrays with geometry to a CT series, classic (PS3.3 A.3) or enhanced (A.38), as a scanner would write it.

For the phantom, and for tests that turn other formats into DICOM. The same arguments give the same bytes:
identifiers derive from the seed and the content, dates from the seed, where the header names none. The
patient is fictional. What vendors put into the header is the business of `ct_habits`.
"""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

import dicom_ai_node
from dicom_ai_node.imaging.habits import UNPAIRED, PrivateElement, add_private, encoded

_NAMESPACE: Final = uuid.UUID("9c1f6f3e-6d0b-5b52-8a3e-0a7c6a2f5f10")

_AXIAL_COSINE: Final = 0.82
"""A gantry tilts by 35 degrees at most."""

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
    character_set: str | tuple[str, ...] | None = "ISO_IR 100"
    """None leaves it out: the name is then plain ASCII."""
    study_description: str = "CT spine"
    series_description: str = "Spine bone"
    protocol_name: str | None = None
    """None repeats the study description."""
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
    derivation: str | None = None
    """How a derived series was made."""
    transfer_syntax: str = ExplicitVRLittleEndian
    """Any of `habits.sample_transfer_syntax`."""
    private: tuple[PrivateElement, ...] = ()
    omit: tuple[str, ...] = ()
    """Keywords to leave out, for headers as odd as real ones."""
    study_instance_uid: str | None = None
    """This and the following are shared by the series of a study; None derives them from the seed."""
    study_date: date | None = None
    study_time: str | None = None
    study_id: str | None = None
    accession_number: str | None = None
    frame_of_reference_uid: str | None = None


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
    identity = _identity(voxels, affine, about, seed)
    series = _general(about, seed, identity)
    _ct_image(series, voxels, affine, about)
    paths = []
    for number, dataset in enumerate(_images(series, voxels, affine, about, identity), start=1):
        path = folder / f"IM{number:04d}.dcm"
        path.write_bytes(encoded(dataset, about.transfer_syntax, _uid("implementation")))
        paths.append(path)
    return paths


def write_enhanced_ct(
    voxels: npt.NDArray[np.integer],
    affine: Affine,
    folder: Path,
    *,
    seed: int = 0,
    header: CtHeader | None = None,
) -> Path:
    """Writes one enhanced multi-frame file, ``IM0001.dcm``; arguments and errors as `write_ct_series`.

    Frames follow the order of the array; the dimension index counts them by position along the stack.
    """
    from dicom_ai_node.imaging.write_ct_enhanced import enhanced_attributes  # noqa: PLC0415

    about = header or CtHeader()
    _check(voxels, affine, about)
    folder.mkdir(parents=True, exist_ok=True)
    identity = _identity(voxels, affine, about, seed)
    one = _general(about, seed, identity)
    one.SOPClassUID = EnhancedCTImageStorage
    one.SOPInstanceUID = _uid("image", identity, 0)
    one.InstanceNumber = 1
    _image_pixel(one, voxels, about)
    identifiers = _uid("dimensions", identity), _uid("irradiation", about.study_instance_uid or seed)
    enhanced_attributes(one, affine, about, (len(voxels), _tilt(affine, about)), identifiers)
    one.PixelData = _stored(voxels, about).tobytes()
    for keyword in about.omit:
        if keyword in one:
            delattr(one, keyword)
    path = folder / "IM0001.dcm"
    path.write_bytes(encoded(one, about.transfer_syntax, _uid("implementation")))
    return path


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


def _identity(voxels: npt.NDArray[np.integer], affine: Affine, about: CtHeader, seed: int) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(voxels).data)
    digest.update(np.ascontiguousarray(affine, dtype=np.float64).data)
    digest.update(repr(about).encode())
    return f"{seed}/{digest.hexdigest()}"


def _general(about: CtHeader, seed: int, identity: str) -> Dataset:
    """Patient, study, series, frame of reference and equipment."""
    day = f"{about.study_date or date(2020, 1, 1) + timedelta(days=seed % 1461):%Y%m%d}"
    start = about.study_time or "080000"
    one = Dataset()
    if about.character_set is not None:
        one.SpecificCharacterSet = (
            about.character_set if isinstance(about.character_set, str) else list(about.character_set)
        )
    # Patient (C.7.1.1), General Study (C.7.2.1), Patient Study (C.7.2.2)
    one.PatientName = about.patient_name
    one.PatientID = about.patient_id or f"PHANTOM-{seed:06d}"
    one.PatientBirthDate = ""
    one.PatientSex = about.patient_sex
    if about.patient_age is not None:
        one.PatientAge = f"{about.patient_age:03d}Y"
    one.StudyInstanceUID = about.study_instance_uid or _uid("study", seed)
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = one.InstanceCreationDate = day
    # Series follow each other by minutes.
    minute = f"{min(59, 5 + about.series_number):02d}"
    one.StudyTime, one.SeriesTime = start, f"{start[:2]}{minute}00"
    one.AcquisitionTime = f"{start[:2]}{minute}10"
    one.ContentTime = one.InstanceCreationTime = f"{start[:2]}{minute}50"
    one.ReferringPhysicianName = ""
    one.StudyID = str(seed % 10**8) if about.study_id is None else about.study_id
    one.AccessionNumber = f"P{seed % 10**8:08d}" if about.accession_number is None else about.accession_number
    one.StudyDescription = about.study_description
    # General Series (C.7.3.1), Frame of Reference (C.7.4.1), General Equipment (C.7.5.1)
    one.Modality = "CT"
    one.SeriesNumber = about.series_number
    one.SeriesDescription = about.series_description
    one.SeriesInstanceUID = _uid("series", identity)
    one.ProtocolName = about.protocol_name or about.study_description
    one.PatientPosition = about.patient_position
    if about.body_part_examined is not None:
        one.BodyPartExamined = about.body_part_examined
    if about.body_part_examined not in UNPAIRED:
        # Type 2C: asked for wherever the body part may be one of a pair.
        one.Laterality = ""
    one.FrameOfReferenceUID = about.frame_of_reference_uid or _uid("frame of reference", seed)
    one.PositionReferenceIndicator = ""
    one.Manufacturer = about.manufacturer
    one.ManufacturerModelName = about.model_name
    one.DeviceSerialNumber = "0"
    one.SoftwareVersions = dicom_ai_node.__version__
    one.ImageType = list(about.image_type)
    one.AcquisitionNumber = 1
    add_private(one, about.private)
    return one


def _image_pixel(one: Dataset, voxels: npt.NDArray[np.integer], about: CtHeader) -> None:
    """Image Pixel (C.7.6.3)."""
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.Rows, one.Columns = voxels.shape[1:]
    one.BitsAllocated = 16
    one.BitsStored = about.bits_stored
    one.HighBit = about.bits_stored - 1
    one.PixelRepresentation = int(about.signed)
    if about.pixel_padding_value is not None:
        one.add_new("PixelPaddingValue", "SS" if about.signed else "US", about.pixel_padding_value)


def _ct_image(one: Dataset, voxels: npt.NDArray[np.integer], affine: Affine, about: CtHeader) -> None:
    """General Image (C.7.6.1), Image Plane (C.7.6.2), CT Image (C.8.2.1), VOI LUT (C.11.2)."""
    _image_pixel(one, voxels, about)
    if about.derivation is not None:
        one.DerivationDescription = about.derivation
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    spacing = float(np.linalg.norm(row_step)), float(np.linalg.norm(column_step))
    one.PixelSpacing = [_ds(value) for value in spacing]
    one.ImageOrientationPatient = [
        _ds(float(value)) for value in (*(column_step / spacing[1]), *(row_step / spacing[0]))
    ]
    normal = np.cross(column_step / spacing[1], row_step / spacing[0])
    distance = abs(float(affine[:3, 0] @ normal))
    one.SliceThickness = _ds(about.slice_thickness_mm or distance)
    one.RescaleIntercept = _ds(about.rescale_intercept)
    one.RescaleSlope = _ds(1)
    one.RescaleType = "HU"
    one.KVP = _ds(about.kvp)
    one.XRayTubeCurrent = about.tube_current_ma
    one.ExposureTime = 500
    one.ConvolutionKernel = about.kernel
    one.GantryDetectorTilt = _ds(_tilt(affine, about))
    one.TableHeight = _ds(150)
    one.ReconstructionDiameter = _ds(spacing[1] * voxels.shape[2])
    one.WindowCenter, one.WindowWidth = _ds(about.window[0]), _ds(about.window[1])
    one.SOPClassUID = CTImageStorage


def _tilt(affine: Affine, about: CtHeader) -> float:
    """Degrees between the slices' normal and the direction in which they are stacked.

    Negative where the top of the gantry leans away from the side on which the table enters it (PS3.3
    C.8.15.3.3): for a supine patient, head first, where the front of the slices lies nearer to the head.
    """
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    normal = normal / np.linalg.norm(normal)
    step = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    cosine = min(1.0, abs(float(step @ normal)))
    if cosine >= 1 - 1e-9:
        return 0.0
    # The rise of a slice towards the patient's back: what of z the plane gains per step to posterior.
    back_is_higher = normal[1] * normal[2] < 0
    prone, feet_first = about.patient_position.endswith("P"), about.patient_position.startswith("FF")
    sign = 1.0 if back_is_higher != (prone != feet_first) else -1.0
    return round(sign * float(np.degrees(np.arccos(cosine))), 3)


def _images(
    series: Dataset,
    voxels: npt.NDArray[np.integer],
    affine: Affine,
    about: CtHeader,
    identity: str,
) -> Iterator[Dataset]:
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    normal = normal / np.linalg.norm(normal)
    # Axial slices say where the table stood, also in a tilted gantry; others lie along their normal.
    along = np.array([0.0, 0.0, 1.0]) if abs(normal[2]) > _AXIAL_COSINE else normal
    for k, plane in enumerate(voxels):
        one = copy.copy(series)
        one.SOPInstanceUID = _uid("image", identity, k)
        one.InstanceNumber = k + 1
        position = affine[:3, 3] + affine[:3, 0] * k
        one.ImagePositionPatient = [_ds(float(value)) for value in position]
        one.SliceLocation = _ds(float(position @ along))
        one.PixelData = _stored(plane, about).tobytes()
        for keyword in about.omit:
            if keyword in one:
                delattr(one, keyword)
        yield one


def _stored(voxels: npt.NDArray[np.integer], about: CtHeader) -> npt.NDArray[np.uint16]:
    mask = (1 << about.bits_stored) - 1
    return ((voxels.astype(np.int32) - about.rescale_intercept) & mask).astype("<u2")


def _ds(value: float) -> DSfloat:
    # Without the noise of the last bits, and 0 without a sign: a decimal string has 16 characters.
    return DSfloat(round(float(value), 12) + 0.0, auto_format=True)
