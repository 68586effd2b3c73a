"""One derived sagittal image through the spine of a series that is not sagittal (PS3.3 A.3, A.4).

A real plane in the source's frame of reference, so that viewers can cross-reference it; it carries the boxes
of the whole spine at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pydicom.valuerep import DSfloat

from dicom_ai_node.imaging.mr_tags import tags_of
from dicom_ai_node.imaging.reformat import FlatReformat, sagittal_reformat
from dicom_ai_node.imaging.signal_window import signal_window
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.report import Analysis
from dicom_ai_node.results import codes
from dicom_ai_node.results.decimals import decimals
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.modules import RESEARCH_USE_ONLY, Stamp, new_object, referenced_series
from dicom_ai_node.results.source import SourceImages

SERIES_NUMBER: Final = 9103
THICKNESS_MM: Final = 3.0
"""The image is the mean over this slab: thin enough to be sharp, thick enough to be quiet."""
INTERCEPT: Final = -1024
WINDOW_CENTER, WINDOW_WIDTH = 400, 1500
"""Bone."""
MR_WHITE: Final = 3000
"""Stored value of the signal that is shown white: MR has no unit, and whole numbers need room."""


def spine_plane(volume: Volume, analysis: Analysis) -> FlatReformat:
    """The sagittal plane that passes best through the centres of the vertebrae found.

    Its values are Hounsfield units of a CT; of an MR signal, 0 for what the series shows black and
    `MR_WHITE` for what it shows white.
    """
    centers = [vertebra.center_mm for vertebra in analysis.report if vertebra.center_mm is not None]
    if volume.modality == "MR":
        low, high = signal_window(volume.voxels)
        scaled = (volume.voxels.astype(np.float32) - low) * (MR_WHITE / (high - low))
        volume = replace(volume, voxels=np.clip(scaled, 0, np.iinfo(np.int16).max))
    return sagittal_reformat(
        volume, np.array(centers, dtype=np.float64).reshape(-1, 3), thickness_mm=THICKNESS_MM
    )


def encode_reformat(
    plane: FlatReformat, analysis: Analysis, source: SourceImages, identity: ResultIdentity, stamp: Stamp
) -> FileDataset:
    """The plane as an image of the source's modality, CT or MR, derived from the source series."""
    is_mr = source.header.get("Modality") == "MR"
    dataset = new_object(
        source,
        identity,
        analysis.report.algorithms,
        stamp,
        kind="reformat",
        sop_class_uid=MRImageStorage if is_mr else CTImageStorage,
        modality="MR" if is_mr else "CT",
        series_number=SERIES_NUMBER,
        series_description="AI sagittal reformat",
    )
    header = source.header
    dataset.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]
    dataset.AcquisitionDate, dataset.AcquisitionTime = (
        header.get("AcquisitionDate"),
        header.get("AcquisitionTime"),
    )
    dataset.AcquisitionNumber = header.get("AcquisitionNumber")
    if is_mr:
        _mr_module(dataset, header)
    else:
        dataset.KVP = header.get("KVP")
    dataset.PatientPosition = header.get("PatientPosition") or ""
    if header.get("ContrastBolusAgent"):
        dataset.ContrastBolusAgent = header.ContrastBolusAgent
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid
    dataset.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    _plane_module(dataset, plane)
    _pixel_module(dataset, plane, is_mr=is_mr)
    dataset.LossyImageCompression = "01" if header.get("LossyImageCompression") == "01" else "00"
    if dataset.LossyImageCompression == "01":
        for keyword, unknown in (
            ("LossyImageCompressionRatio", 1),
            ("LossyImageCompressionMethod", "UNKNOWN"),
        ):
            setattr(dataset, keyword, header.get(keyword) or unknown)
    dataset.DerivationDescription = (
        f"Sagittal plane through the vertebrae, mean over {THICKNESS_MM:g} mm. {RESEARCH_USE_ONLY}"
    )
    dataset.DerivationCodeSequence = [codes.item(codes.MULTIPLANAR_REFORMATTING)]
    dataset.SourceImageSequence = [_source_item(reference.item()) for reference in source.instances]
    dataset.ReferencedSeriesSequence = referenced_series(source, source.instances)
    dataset.BurnedInAnnotation = "NO"
    return dataset


def _plane_module(dataset: Dataset, plane: FlatReformat) -> None:
    affine = plane.affine
    spacing = plane.spacing_mm
    dataset.PixelSpacing = decimals([spacing, float(np.linalg.norm(affine[:3, 2]))])
    dataset.SliceThickness = DSfloat(THICKNESS_MM)
    dataset.ImagePositionPatient = decimals(affine[:3, 3])
    columns = affine[:3, 2] / np.linalg.norm(affine[:3, 2])
    dataset.ImageOrientationPatient = decimals([*columns, *(affine[:3, 1] / spacing)])


def _pixel_module(dataset: Dataset, plane: FlatReformat, *, is_mr: bool) -> None:
    lowest = 0 if is_mr else INTERCEPT
    stored = np.clip(plane.pixels.astype(np.int32) - lowest, 0, 65535).astype("<u2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    if is_mr:
        # Stored values are signal: the MR Image IOD has no modality LUT (PS3.3 A.4.3).
        dataset.WindowCenter, dataset.WindowWidth = MR_WHITE // 2, MR_WHITE
    else:
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = INTERCEPT, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = WINDOW_CENTER, WINDOW_WIDTH
    dataset.PixelData = stored.tobytes()


_SCANNING: Final = frozenset({"SE", "IR", "GR", "EP", "RM"})
_VARIANTS: Final = frozenset({"SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", "NONE"})


def _mr_module(dataset: Dataset, header: Dataset) -> None:
    """How the source was measured (PS3.3 C.8.3.1), as far as it says so in these words."""
    told = tags_of(header)[0]
    # Type 1: RM and NONE claim nothing.
    dataset.ScanningSequence = [word for word in told.scanning if word in _SCANNING] or ["RM"]
    dataset.SequenceVariant = [word for word in told.variant if word in _VARIANTS] or ["NONE"]
    dataset.ScanOptions = None
    dataset.MRAcquisitionType = "3D" if told.three_d else None
    for keyword, value in (
        ("RepetitionTime", told.repetition_ms),
        ("EchoTime", told.echo_ms),
        ("MagneticFieldStrength", told.field_t),
        ("FlipAngle", told.flip_deg),
    ):
        setattr(dataset, keyword, None if value is None else decimals([value])[0])
    if "IR" in dataset.ScanningSequence:
        # Type 2C: forbidden elsewhere.
        dataset.InversionTime = None if told.inversion_ms is None else decimals([told.inversion_ms])[0]
    dataset.EchoTrainLength = None if told.echo_train is None else round(told.echo_train)


def _source_item(item: Dataset) -> Dataset:
    item.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_IMAGE_FOR_PROCESSING)]
    item.SpatialLocationsPreserved = "NO"
    return item
