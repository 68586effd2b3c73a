"""A CT on any grid as files: one image per slice, or one enhanced multi-frame image."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from conformance.grids import Grid


def _uid(*parts: object) -> str:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _decimals(values: npt.ArrayLike) -> list[DSfloat]:
    return [DSfloat(round(float(value), 9) + 0.0, auto_format=True) for value in np.asarray(values).ravel()]


def _header(grid: Grid, sop_class_uid: str, sop_instance_uid: str, patient: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_uid("writer"))
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_instance_uid
    dataset.StudyInstanceUID = _uid(grid.name, "study")
    dataset.SeriesInstanceUID = _uid(grid.name, "series")
    dataset.FrameOfReferenceUID = _uid(grid.name, "space")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20240131"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "083000"
    dataset.PatientName, dataset.PatientID = patient, "CONF-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "F"
    dataset.ReferringPhysicianName, dataset.StudyID, dataset.AccessionNumber = "", "1", "A1"
    dataset.Modality, dataset.SeriesNumber = "CT", 2
    dataset.Manufacturer, dataset.ManufacturerModelName = "Block Scanner Works", "One"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    dataset.KVP, dataset.AcquisitionNumber = 120, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.Rows, dataset.Columns = grid.shape[1:]
    return dataset


def _measures(grid: Grid) -> tuple[list[DSfloat], list[DSfloat], DSfloat]:
    """Pixel spacing, orientation and thickness of slices."""
    row_step, column_step = grid.affine[:3, 1], grid.affine[:3, 2]
    lengths = np.linalg.norm(row_step), np.linalg.norm(column_step)
    cosines = np.concatenate([column_step / lengths[1], row_step / lengths[0]])
    distance = abs(float(np.cross(cosines[:3], cosines[3:]) @ grid.affine[:3, 0]))
    thickness = distance if grid.thickness is None else grid.thickness
    return _decimals(lengths), _decimals(cosines), DSfloat(thickness, auto_format=True)


def write_classic_ct(hu: npt.NDArray[np.int16], grid: Grid, folder: Path, patient: str) -> list[Path]:
    """One CT Image per slice."""
    spacing, orientation, thickness = _measures(grid)
    paths = []
    for index, plane in enumerate(hu):
        dataset = _header(grid, CTImageStorage, _uid(grid.name, "instance", index), patient)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = len(hu) - index if grid.reversed_numbers else index + 1
        dataset.PixelSpacing, dataset.ImageOrientationPatient = spacing, orientation
        dataset.SliceThickness = thickness
        dataset.ImagePositionPatient = _decimals(grid.affine[:3, 3] + index * grid.affine[:3, 0])
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = 300, 1500
        dataset.PixelData = (plane.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        paths.append(folder / f"{dataset.InstanceNumber:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced_ct(hu: npt.NDArray[np.int16], grid: Grid, folder: Path, patient: str) -> list[Path]:
    """One Enhanced CT Image with a frame per slice."""
    spacing, orientation, thickness = _measures(grid)
    dataset = _header(grid, EnhancedCTImageStorage, _uid(grid.name, "instance"), patient)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber, dataset.NumberOfFrames = 1, len(hu)
    measures, plane_orientation, rescale, window = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = spacing, thickness
    plane_orientation.ImageOrientationPatient = orientation
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = -1024, 1, "HU"
    window.WindowCenter, window.WindowWidth = 300, 1500
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane_orientation]
    shared.PixelValueTransformationSequence, shared.FrameVOILUTSequence = [rescale], [window]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for index in range(len(hu)):
        position, content, groups = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _decimals(grid.affine[:3, 3] + index * grid.affine[:3, 0])
        content.DimensionIndexValues = [index + 1]
        groups.PlanePositionSequence, groups.FrameContentSequence = [position], [content]
        dataset.PerFrameFunctionalGroupsSequence.append(groups)
    dataset.PixelData = (hu.astype(np.int32) + 1024).astype(np.uint16).tobytes()
    path = folder / "enhanced.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return [path]
