"""One projection image to DICOM, as a DX or CR station would have written it (PS3.3 A.26.3, A.2.3).

For the phantom, and for tests that need odd radiographs. The same arguments give the same bytes: identifiers
derive from the seed and the content, dates from the seed; those of a study that holds more than films can be
given in the header. The patient is fictional.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from pydicom.valuerep import DSfloat

import dicom_ai_node

_NAMESPACE: Final = uuid.UUID("4e0d3b0a-31f7-5a0e-9d0b-7b8e2f6a9c31")

# Context groups 4009/4010 (views) and 4030/4031 (anatomy) of PS3.16, SNOMED CT.
_VIEWS: Final = {
    "LL": ("399173006", "left lateral"),
    "RL": ("399198007", "right lateral"),
    "AP": ("399348003", "antero-posterior"),
    "PA": ("272479007", "postero-anterior"),
}
_ANATOMY: Final = {
    "LSPINE": ("122496007", "Lumbar spine"),
    "TSPINE": ("122495006", "Thoracic spine"),
    "SPINE": ("421060004", "Spine"),
}

TransferSyntax = Literal["explicit", "implicit", "deflated", "rle", "jpeg-ls", "jpeg-2000"]

_TRANSFER_SYNTAXES: Final[dict[TransferSyntax, UID]] = {
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}
"""All of them lose nothing."""

_ENCODERS: Final[dict[TransferSyntax, str]] = {
    "rle": "pydicom",
    "jpeg-ls": "pyjpegls",
    "jpeg-2000": "pylibjpeg",
}


@dataclass(frozen=True)
class RadiographHeader:
    """What a radiograph says about itself; the defaults are those of a lateral lumbar spine on a DX station.

    Attributes:
        object_class: "DX" (Digital X-Ray Image Storage - For Presentation) or "CR".
        photometric: "MONOCHROME1" or "MONOCHROME2", as the values are stored.
        bits_stored: 10 to 16.
        imager_pixel_mm: pixel edge on the detector.
        pixel_spacing: which spacing is told: "imager" only, "detector" for Pixel Spacing equal to it, or
            "calibrated" for Pixel Spacing at the patient, divided by the magnification (PS3.3 10.7.1.3).
        magnification: Estimated Radiographic Magnification Factor; None leaves it out.
        source_detector_mm, source_patient_mm: distances; None leaves them out.
        view: View Position: LL, RL, AP or PA; None leaves it empty or out.
        patient_orientation: direction of the rows and of the columns, such as ("A", "F"); () is left empty,
            which CR allows and DX does not.
        laterality: of the image: U (unpaired) as a spine has; None leaves it out of CR.
        body_part_examined: None leaves it empty or out; any code string, as odd as real ones.
        patient_name: as the character set can write it, with its ideographic and phonetic parts after "=".
        character_set: Specific Character Set, one or several values (PS3.3 C.12.1.1.2), such as "ISO_IR 192"
            or ("", "ISO 2022 IR 87").
        burned_in: whether there is text in the pixels.
        private: whether the station adds a block of private attributes.
        transfer_syntax: how the data set and its pixels are encoded.
        omit: keywords of optional attributes to leave out, for headers as odd as real ones.
        study_instance_uid, study_date, study_time, study_id, accession_number: those of a study that the film
            shares with other images; None derives them from the seed.
        series_instance_uid: None derives it from the seed, the class and the series number.
        frame_of_reference_uid: of a DX image that tells one (a film's pixels have no place in it); None
            leaves it out, as stations do.
    """

    object_class: Literal["DX", "CR"] = "DX"
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2"
    bits_stored: int = 12
    imager_pixel_mm: float = 0.2
    pixel_spacing: Literal["imager", "detector", "calibrated"] = "imager"
    magnification: float | None = None
    source_detector_mm: float | None = None
    source_patient_mm: float | None = None
    view: Literal["LL", "RL", "AP", "PA"] | None = "LL"
    patient_orientation: tuple[str, ...] = ("P", "F")
    laterality: Literal["U", "L", "R", "B"] | None = "U"
    body_part_examined: str | None = "LSPINE"
    kvp: float | None = 85.0
    mas: float | None = 40.0
    patient_name: str = "Phantom^Spine"
    patient_id: str | None = None
    patient_sex: Literal["F", "M", "O", ""] = "O"
    patient_age: int | None = 70
    study_description: str = "Spine"
    series_description: str = "Lateral"
    series_number: int = 1
    instance_number: int = 1
    manufacturer: str = "dicom-ai-node"
    model_name: str = "Spine phantom"
    character_set: str | tuple[str, ...] = "ISO_IR 100"
    burned_in: bool = False
    private: bool = False
    transfer_syntax: TransferSyntax = "explicit"
    omit: tuple[str, ...] = ()
    study_instance_uid: str | None = None
    study_date: date | None = None
    study_time: str | None = None
    study_id: str | None = None
    accession_number: str | None = None
    series_instance_uid: str | None = None
    frame_of_reference_uid: str | None = None


def write_radiograph(
    pixels: npt.NDArray[np.integer],
    path: Path,
    *,
    header: RadiographHeader = RadiographHeader(),
    seed: int = 0,
) -> Path:
    """Writes one file.

    Args:
        pixels: shape (rows, columns), stored values.
        path: the file; its folder is made where it is missing.
        header: what it says.
        seed: gives patient, study and dates their identity where the header names none; content and header
            add that of the image.

    Raises:
        ValueError: the values are no image of `header.bits_stored` unsigned bits, or the header asks for a
            calibrated spacing without a magnification.
    """
    if pixels.ndim != 2 or not 8 < header.bits_stored <= 16:
        raise ValueError("pixels have shape (rows, columns), and 9 to 16 bits are stored")
    if int(pixels.min()) < 0 or int(pixels.max()) >= 1 << header.bits_stored:
        raise ValueError(
            f"values {pixels.min()} to {pixels.max()} do not fit into {header.bits_stored} unsigned bits; "
            "clip them, or choose another RadiographHeader.bits_stored"
        )
    if header.pixel_spacing == "calibrated" and header.magnification is None:
        raise ValueError("a spacing calibrated to the patient needs RadiographHeader.magnification")
    digest = hashlib.sha256(np.ascontiguousarray(pixels, dtype="<u2").tobytes())
    digest.update(repr(header).encode())
    dataset = _dataset(header, seed, f"{seed}/{digest.hexdigest()}")
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.PixelData = np.ascontiguousarray(pixels, dtype="<u2").tobytes()
    for keyword in header.omit:
        if keyword in dataset:
            delattr(dataset, keyword)
    path.parent.mkdir(parents=True, exist_ok=True)
    if header.transfer_syntax in _ENCODERS:
        dataset.compress(
            _TRANSFER_SYNTAXES[header.transfer_syntax],
            encoding_plugin=_ENCODERS[header.transfer_syntax],
            generate_instance_uid=False,
        )
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


def _dataset(about: RadiographHeader, seed: int, identity: str) -> Dataset:
    one = _study(about, seed)
    digital = about.object_class == "DX"
    one.SOPClassUID = DigitalXRayImageStorageForPresentation if digital else ComputedRadiographyImageStorage
    one.SOPInstanceUID = _uid("image", identity)
    # A station writes one series per view; the header tells the series apart, the pixels do not.
    one.SeriesInstanceUID = about.series_instance_uid or _uid(
        "series", about.study_instance_uid or seed, about.object_class, about.series_number
    )
    one.Modality = about.object_class
    _pixel_module(one, about)
    _spacing(one, about)
    one.PatientOrientation = list(about.patient_orientation)
    if about.kvp is not None:
        one.KVP = _ds(about.kvp)
    if about.mas is not None:
        one.Exposure = round(about.mas)
        one.ExposureInuAs = round(about.mas * 1000)
    if about.view is not None:
        one.ViewPosition = about.view
    if digital:
        _digital(one, about)
    else:
        # Type 2 in CR Series (C.8.1.1): empty where the station does not know.
        one.BodyPartExamined = about.body_part_examined or ""
        one.ViewPosition = about.view or ""
        if about.laterality in {"L", "R"} or about.body_part_examined is None:
            # Type 2C in General Series: empty where the part might be a paired one.
            one.Laterality = about.laterality if about.laterality in {"L", "R"} else ""
    if about.private:
        block = one.private_block(0x0019, "DICOM_AI_NODE PHANTOM", create=True)
        block.add_new(0x01, "LO", "SPINE")
        block.add_new(0x02, "DS", _ds(1.25))
        block.add_new(0x03, "OB", b"\x01\x02\x03\x04")
    one.file_meta = FileMetaDataset()
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    # Compression, where it is asked for, comes last and says so itself.
    plain = about.transfer_syntax not in _ENCODERS
    one.file_meta.TransferSyntaxUID = (
        _TRANSFER_SYNTAXES[about.transfer_syntax] if plain else ExplicitVRLittleEndian
    )
    one.file_meta.ImplementationClassUID = _uid("implementation")
    one.file_meta.ImplementationVersionName = "DICOM_AI_NODE"
    return one


def _study(about: RadiographHeader, seed: int) -> Dataset:
    """Patient (C.7.1.1), Study (C.7.2.1), Series (C.7.3.1), Equipment (C.7.5.1), Image (C.7.6.1)."""
    day = f"{about.study_date or date(2020, 1, 1) + timedelta(days=seed % 1461):%Y%m%d}"
    one = Dataset()
    character_set = about.character_set
    one.SpecificCharacterSet = character_set if isinstance(character_set, str) else list(character_set)
    one.PatientName = about.patient_name
    one.PatientID = about.patient_id or f"PHANTOM-{seed:06d}"
    one.PatientBirthDate = ""
    one.PatientSex = about.patient_sex
    if about.patient_age is not None:
        one.PatientAge = f"{about.patient_age:03d}Y"
    one.StudyInstanceUID = about.study_instance_uid or _uid("study", seed)
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = day
    one.StudyTime, one.SeriesTime = about.study_time or "090000", "090300"
    one.AcquisitionTime = one.ContentTime = f"0903{10 + about.instance_number % 50:02d}"
    one.ReferringPhysicianName = ""
    one.StudyID = str(seed % 10**8) if about.study_id is None else about.study_id
    one.AccessionNumber = f"P{seed % 10**8:08d}" if about.accession_number is None else about.accession_number
    one.StudyDescription = about.study_description
    one.SeriesNumber = about.series_number
    one.SeriesDescription = about.series_description
    one.InstanceNumber = about.instance_number
    if about.body_part_examined is not None:
        one.BodyPartExamined = about.body_part_examined
    one.Manufacturer = about.manufacturer
    one.ManufacturerModelName = about.model_name
    one.DeviceSerialNumber = "0"
    one.SoftwareVersions = dicom_ai_node.__version__
    one.ImageType = ["ORIGINAL", "PRIMARY"]
    one.BurnedInAnnotation = "YES" if about.burned_in else "NO"
    one.LossyImageCompression = "00"
    return one


def _pixel_module(one: Dataset, about: RadiographHeader) -> None:
    """Image Pixel (C.7.6.3), VOI LUT (C.11.2): the whole range is shown."""
    one.SamplesPerPixel = 1
    one.PhotometricInterpretation = about.photometric
    one.BitsAllocated = 16
    one.BitsStored = about.bits_stored
    one.HighBit = about.bits_stored - 1
    one.PixelRepresentation = 0
    one.WindowCenter = _ds(2 ** (about.bits_stored - 1))
    one.WindowWidth = _ds(2**about.bits_stored)


def _spacing(one: Dataset, about: RadiographHeader) -> None:
    """Basic Pixel Spacing Calibration (PS3.3 10.7) and what geometry the station tells."""
    edge = about.imager_pixel_mm
    one.ImagerPixelSpacing = [_ds(edge), _ds(edge)]
    if about.pixel_spacing == "detector":
        one.PixelSpacing = [_ds(edge), _ds(edge)]
    elif about.pixel_spacing == "calibrated" and about.magnification is not None:
        patient = edge / about.magnification
        one.PixelSpacing = [_ds(patient), _ds(patient)]
        one.PixelSpacingCalibrationType = "GEOMETRY"
        one.PixelSpacingCalibrationDescription = "Assumed depth of the spine"
    if about.magnification is not None:
        one.EstimatedRadiographicMagnificationFactor = _ds(about.magnification)
    if about.source_detector_mm is not None:
        one.DistanceSourceToDetector = _ds(about.source_detector_mm)
    if about.source_patient_mm is not None:
        one.DistanceSourceToPatient = _ds(about.source_patient_mm)


def _digital(one: Dataset, about: RadiographHeader) -> None:
    """DX Series, Anatomy Imaged, Image, Detector, Positioning (C.8.11.1 to C.8.11.5), Acquisition Context."""
    one.PresentationIntentType = "FOR PRESENTATION"
    one.ImageLaterality = about.laterality or "U"
    code, meaning = _ANATOMY.get(about.body_part_examined or "", _ANATOMY["SPINE"])
    one.AnatomicRegionSequence = Sequence([_code(code, meaning)])
    one.PixelIntensityRelationship = "LOG"
    # Brightness of MONOCHROME2 falls with the exposure, that of MONOCHROME1 is stored inverted.
    one.PixelIntensityRelationshipSign = 1 if about.photometric == "MONOCHROME1" else -1
    one.RescaleIntercept, one.RescaleSlope, one.RescaleType = _ds(0), _ds(1), "US"
    one.PresentationLUTShape = "INVERSE" if about.photometric == "MONOCHROME1" else "IDENTITY"
    one.DetectorType = "SCINTILLATOR"
    one.AcquisitionContextSequence = Sequence([])
    one.PositionerType = "NONE"
    if about.frame_of_reference_uid is not None:
        one.FrameOfReferenceUID = about.frame_of_reference_uid
        one.PositionReferenceIndicator = ""
    if about.view is not None:
        one.ViewCodeSequence = Sequence([_code(*_VIEWS[about.view])])


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _uid(*parts: object) -> UID:
    """A UUID-derived UID (PS3.5 B.2)."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}")


def _ds(value: float) -> DSfloat:
    return DSfloat(round(float(value), 9) + 0.0, auto_format=True)
