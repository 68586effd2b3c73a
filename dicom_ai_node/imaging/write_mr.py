"""Arrays with geometry to an MR series, classic (PS3.3 A.4) or enhanced (A.36), as a scanner writes it.

For the phantom, and for tests that turn other formats into DICOM. The same arguments give the same bytes:
identifiers derive from the seed and the content, dates from the seed. The patient is fictional.
What vendors put into the header is the business of `mr_habits`.
"""

from __future__ import annotations

import copy
import hashlib
import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage
from pydicom.valuerep import DSfloat

import dicom_ai_node

_NAMESPACE: Final = uuid.UUID("9c1f6f3e-6d0b-5b52-8a3e-0a7c6a2f5f10")

_UNPAIRED: Final = frozenset(
    ("CSPINE", "TSPINE", "LSPINE", "SSPINE", "SPINE", "BACK", "PELVIS", "HEAD", "NECK", "CHEST", "ABDOMEN")
)

Affine = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint16]
Stack = tuple[Pixels, Affine]


@dataclass(frozen=True)
class PrivateElement:
    """One private element (PS3.5 7.8): group (odd), creator, element within the block, VR and value."""

    group: int
    creator: str
    element: int
    vr: str
    value: str | int | float | bytes


@dataclass(frozen=True)
class StudyIdentity:
    """What all series of a study share, where others than this module write series of it.

    Attributes:
        study_instance_uid: (0020,000D).
        study_date: (0008,0020) as YYYYMMDD; the series were measured on that day.
        frame_of_reference_uid: (0020,0052); None for one of the MR's own, as scanners give.
    """

    study_instance_uid: str
    study_date: str
    frame_of_reference_uid: str | None = None


@dataclass(frozen=True)
class MrHeader:
    """What a written series says about itself beyond its geometry; by default that of a sagittal T2."""

    patient_name: str = "Phantom^Spine"
    patient_id: str | None = None
    """None derives one from the seed."""
    patient_sex: Literal["F", "M", "O", ""] = "O"
    patient_age: int | None = 70
    character_set: str | tuple[str, ...] | None = "ISO_IR 100"
    study_description: str = "MR spine"
    study_identity: str = "mr"
    """Series with the same seed and the same word belong to one study."""
    study: StudyIdentity | None = None
    """Given where the study is not this module's own."""
    series_description: str = "T2 TSE sag"
    protocol_name: str | None = None
    """None repeats the series description."""
    series_number: int = 2
    body_part_examined: str | None = "LSPINE"
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "M", "ND")
    manufacturer: str = "dicom-ai-node"
    model_name: str = "Spine phantom"
    field_t: float = 1.5
    scanning_sequence: tuple[str, ...] = ("SE",)
    sequence_variant: tuple[str, ...] = ("SK", "SP")
    scan_options: tuple[str, ...] = ()
    sequence_name: str | None = "*tse2d1_17"
    contrast: Literal["T1", "T2", "STIR", "PROTON_DENSITY", "UNKNOWN"] = "T2"
    """Acquisition Contrast of an enhanced image."""
    fat_suppressed: bool = False
    repetition_ms: float = 3500.0
    echo_ms: float = 100.0
    inversion_ms: float | None = None
    flip_deg: float = 90.0
    echo_train: int | None = 17
    bandwidth_hz: float = 180.0
    phase_direction: Literal["ROW", "COL"] = "COL"
    matrix: tuple[int, int] | None = None
    """Sampled (rows, columns); None takes those of the image."""
    slice_thickness_mm: float | None = None
    """None writes the distance of the slices."""
    patient_position: str = "HFS"
    window: tuple[float, float] | None = None
    """Centre and width; None derives them from the pixels."""
    bits_stored: Literal[12, 16] = 16
    signed: bool = False
    transfer_syntax: str = ExplicitVRLittleEndian
    """Any lossless one that pydicom can encode to."""
    private: tuple[PrivateElement, ...] = ()
    omit: tuple[str, ...] = ()
    """Keywords to leave out, for headers as odd as real ones."""


def write_mr_series(
    stacks: Sequence[Stack], folder: Path, *, seed: int = 0, header: MrHeader | None = None
) -> list[Path]:
    """Writes one classic file per slice, ``IM0001.dcm`` and so on, stack after stack.

    Args:
        stacks: (pixels, affine) of parallel slices: shape (slices, rows, columns), and 4x4 from (slice, row,
            column, 1) to LPS millimetres. A localizer has one for each plane. Rows and columns stand at right
            angles.
        folder: made where it is missing.
        seed: gives patient, study and dates their identity; the content adds that of series and images.
        header: further header values.

    Returns:
        The files.

    Raises:
        ValueError: rows and columns not at right angles, or values that do not fit the stored bits.
    """
    about = header or MrHeader()
    for stack in stacks:
        _check(*stack, about)
    folder.mkdir(parents=True, exist_ok=True)
    identity = _identity(stacks, about, seed)
    top = max(int(pixels.max()) for pixels, _ in stacks)
    paths: list[Path] = []
    for pixels, affine in stacks:
        plane = _series(about, seed, identity)
        _image_plane(plane, pixels, affine, about)
        _mr_image(plane, pixels, about)
        plane.WindowCenter, plane.WindowWidth = (
            _ds(v) for v in about.window or (0.4 * top, max(1.0, 0.8 * top))
        )
        for k, values in enumerate(pixels):
            number = len(paths) + 1
            one = copy.copy(plane)
            one.SOPClassUID = MRImageStorage
            one.SOPInstanceUID = _uid("image", identity, number)
            one.InstanceNumber = number
            position = affine[:3, 3] + affine[:3, 0] * k
            one.ImagePositionPatient = [_ds(float(value)) for value in position]
            normal = np.cross(affine[:3, 2], affine[:3, 1])
            one.SliceLocation = _ds(float(position @ normal / np.linalg.norm(normal)))
            one.PixelData = values.astype("<u2").tobytes()
            path = folder / f"IM{number:04d}.dcm"
            _write(one, path, about)
            paths.append(path)
    return paths


def write_enhanced_mr(
    pixels: Pixels, affine: Affine, folder: Path, *, seed: int = 0, header: MrHeader | None = None
) -> Path:
    """Writes one enhanced multi-frame file, ``IM0001.dcm``; arguments and errors as `write_mr_series`.

    Frames follow the order of the array; the dimension index counts them by position along the stack.
    """
    from dicom_ai_node.imaging.write_mr_enhanced import enhanced_attributes  # noqa: PLC0415

    about = header or MrHeader()
    _check(pixels, affine, about)
    folder.mkdir(parents=True, exist_ok=True)
    identity = _identity([(pixels, affine)], about, seed)
    one = _series(about, seed, identity)
    one.SOPClassUID = EnhancedMRImageStorage
    one.SOPInstanceUID = _uid("image", identity, 1)
    one.InstanceNumber = 1
    one.Rows, one.Columns = pixels.shape[1:]
    _stored_bits(one, about)
    enhanced_attributes(one, pixels, affine, about, str(_uid("dimensions", identity)))
    one.PixelData = pixels.astype("<u2").tobytes()
    path = folder / "IM0001.dcm"
    _write(one, path, about)
    return path


def _check(pixels: Pixels, affine: Affine, about: MrHeader) -> None:
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    lengths = np.linalg.norm(row_step), np.linalg.norm(column_step)
    if pixels.ndim != 3 or min(lengths) <= 0:
        raise ValueError("pixels have shape (slices, rows, columns), and steps of the affine are not 0")
    if abs(float(row_step @ column_step)) > 1e-4 * float(lengths[0] * lengths[1]):
        raise ValueError("rows and columns must stand at right angles in DICOM; resample the stack first")
    highest = (1 << (about.bits_stored - int(about.signed))) - 1
    if int(pixels.min()) < 0 or int(pixels.max()) > highest:
        raise ValueError(
            f"pixels from {pixels.min()} to {pixels.max()} do not fit into {about.bits_stored} "
            f"{'signed' if about.signed else 'unsigned'} bits; scale them, or choose other "
            "MrHeader.bits_stored or signed"
        )


def _identity(stacks: Sequence[Stack], about: MrHeader, seed: int) -> str:
    digest = hashlib.sha256(repr(about).encode())
    for pixels, affine in stacks:
        digest.update(np.ascontiguousarray(pixels).data)
        digest.update(np.ascontiguousarray(affine, dtype=np.float64).data)
    return f"{seed}/{digest.hexdigest()}"


def _uid(*parts: object) -> UID:
    """A UUID-derived UID (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}")


def _series(about: MrHeader, seed: int, identity: str) -> Dataset:
    """Patient, study, series, frame of reference and equipment."""
    study = about.study
    day = study.study_date if study else f"{date(2020, 1, 1) + timedelta(days=seed % 1461):%Y%m%d}"
    minutes = 5 * (about.series_number % 10)
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
    one.StudyInstanceUID = (
        UID(study.study_instance_uid) if study else _uid("study", about.study_identity, seed)
    )
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = one.InstanceCreationDate = day
    one.StudyTime = "090000"
    one.SeriesTime = one.AcquisitionTime = f"09{minutes:02d}10"
    one.ContentTime = one.InstanceCreationTime = f"09{minutes:02d}40"
    one.ReferringPhysicianName = ""
    one.StudyID = str(seed % 10**8)
    one.AccessionNumber = f"M{seed % 10**8:08d}"
    one.StudyDescription = about.study_description
    # General Series (C.7.3.1), Frame of Reference (C.7.4.1), General Equipment (C.7.5.1)
    one.Modality = "MR"
    one.SeriesInstanceUID = _uid("series", identity)
    one.SeriesNumber = about.series_number
    one.SeriesDescription = about.series_description
    one.ProtocolName = about.protocol_name or about.series_description
    one.PatientPosition = about.patient_position
    if about.body_part_examined is not None:
        one.BodyPartExamined = about.body_part_examined
    if about.body_part_examined not in _UNPAIRED:
        # Type 2C: asked for wherever the body part may be one of a pair.
        one.Laterality = ""
    place = study.frame_of_reference_uid if study else None
    one.FrameOfReferenceUID = UID(place) if place else _uid("frame of reference", about.study_identity, seed)
    one.PositionReferenceIndicator = ""
    one.Manufacturer = about.manufacturer
    one.ManufacturerModelName = about.model_name
    one.DeviceSerialNumber = "0"
    one.SoftwareVersions = dicom_ai_node.__version__
    one.ImageType = list(about.image_type)
    one.AcquisitionNumber = 1
    for element in about.private:
        block = one.private_block(element.group, element.creator, create=True)
        block.add_new(element.element, element.vr, element.value)
    return one


def _stored_bits(one: Dataset, about: MrHeader) -> None:
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.BitsAllocated = 16
    one.BitsStored = about.bits_stored
    one.HighBit = about.bits_stored - 1
    one.PixelRepresentation = int(about.signed)


def _image_plane(one: Dataset, pixels: Pixels, affine: Affine, about: MrHeader) -> None:
    """Image Plane (C.7.6.2) and Image Pixel (C.7.6.3)."""
    spacing, orientation, distance = plane_geometry(affine)
    one.PixelSpacing = [_ds(value) for value in spacing]
    one.ImageOrientationPatient = [_ds(value) for value in orientation]
    one.SliceThickness = _ds(about.slice_thickness_mm or distance)
    one.SpacingBetweenSlices = _ds(distance)
    one.Rows, one.Columns = pixels.shape[1:]
    _stored_bits(one, about)


def plane_geometry(affine: Affine) -> tuple[tuple[float, float], list[float], float]:
    """(row and column spacing, Image Orientation (Patient), distance of the slices) in mm of an affine."""
    row_step, column_step = affine[:3, 1], affine[:3, 2]
    spacing = float(np.linalg.norm(row_step)), float(np.linalg.norm(column_step))
    orientation = [float(v) for v in (*(column_step / spacing[1]), *(row_step / spacing[0]))]
    normal = np.cross(column_step / spacing[1], row_step / spacing[0])
    return spacing, orientation, abs(float(affine[:3, 0] @ normal))


def _mr_image(one: Dataset, pixels: Pixels, about: MrHeader) -> None:
    """MR Image (C.8.3.1)."""
    rows, columns = about.matrix or (int(pixels.shape[1]), int(pixels.shape[2]))
    one.ScanningSequence = list(about.scanning_sequence)
    one.SequenceVariant = list(about.sequence_variant)
    one.ScanOptions = list(about.scan_options) or ""
    one.MRAcquisitionType = "2D"
    if about.sequence_name is not None:
        one.SequenceName = about.sequence_name
    one.AngioFlag = "N"
    one.RepetitionTime = _ds(about.repetition_ms)
    one.EchoTime = _ds(about.echo_ms)
    if about.inversion_ms is not None:
        one.InversionTime = _ds(about.inversion_ms)
    one.EchoTrainLength = about.echo_train if about.echo_train is not None else ""
    one.FlipAngle = _ds(about.flip_deg)
    one.NumberOfAverages = _ds(1)
    one.ImagingFrequency = _ds(42.577 * about.field_t)
    one.ImagedNucleus = "1H"
    one.EchoNumbers = 1
    one.MagneticFieldStrength = _ds(about.field_t)
    one.PixelBandwidth = _ds(about.bandwidth_hz)
    by_rows = about.phase_direction == "COL"
    one.NumberOfPhaseEncodingSteps = rows if by_rows else columns
    one.PercentSampling = _ds(100)
    one.PercentPhaseFieldOfView = _ds(100)
    one.AcquisitionMatrix = [0, columns, rows, 0] if by_rows else [rows, 0, 0, columns]
    one.InPlanePhaseEncodingDirection = about.phase_direction
    one.ReceiveCoilName = "SPINE"
    one.SAR = _ds(0.8)


def _write(one: Dataset, path: Path, about: MrHeader) -> None:
    for keyword in about.omit:
        if keyword in one:
            delattr(one, keyword)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = one.SOPClassUID
    meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")
    meta.ImplementationVersionName = "DICOM_AI_NODE"
    one.file_meta = meta
    one["PixelData"].VR = "OW"
    if about.transfer_syntax != ExplicitVRLittleEndian:
        one.compress(UID(about.transfer_syntax), generate_instance_uid=False)
    buffer = io.BytesIO()
    dcmwrite(buffer, one, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())


def _ds(value: float) -> DSfloat:
    # Without the noise of the last bits, and 0 without a sign: a decimal string has 16 characters.
    return DSfloat(round(float(value), 12) + 0.0, auto_format=True)
