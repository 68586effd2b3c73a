"""One derived sagittal CT image through the spine of an axial series (PS3.3 A.3, C.7.6.1.1.3).

A real plane in the source's frame of reference, so that viewers can cross-reference it; it carries the boxes
of the whole spine at once.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat

from dicom_ai_node.imaging.reformat import FlatReformat, sagittal_reformat
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


def spine_plane(volume: Volume, analysis: Analysis) -> FlatReformat:
    """The sagittal plane that passes best through the centres of the vertebrae found."""
    centers = [vertebra.center_mm for vertebra in analysis.report if vertebra.center_mm is not None]
    return sagittal_reformat(
        volume, np.array(centers, dtype=np.float64).reshape(-1, 3), thickness_mm=THICKNESS_MM
    )


def encode_reformat(
    plane: FlatReformat, analysis: Analysis, source: SourceImages, identity: ResultIdentity, stamp: Stamp
) -> FileDataset:
    """The plane as a CT Image derived from the source series."""
    dataset = new_object(
        source,
        identity,
        analysis.report.algorithms,
        stamp,
        kind="reformat",
        sop_class_uid=CTImageStorage,
        modality="CT",
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
    dataset.KVP = header.get("KVP")
    dataset.PatientPosition = header.get("PatientPosition") or ""
    if header.get("ContrastBolusAgent"):
        dataset.ContrastBolusAgent = header.ContrastBolusAgent
    dataset.FrameOfReferenceUID = source.frame_of_reference_uid
    dataset.PositionReferenceIndicator = header.get("PositionReferenceIndicator") or ""
    _plane_module(dataset, plane)
    _pixel_module(dataset, plane)
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


def _pixel_module(dataset: Dataset, plane: FlatReformat) -> None:
    stored = np.clip(plane.pixels.astype(np.int32) - INTERCEPT, 0, 65535).astype("<u2")
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = INTERCEPT, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = WINDOW_CENTER, WINDOW_WIDTH
    dataset.PixelData = stored.tobytes()


def _source_item(item: Dataset) -> Dataset:
    item.PurposeOfReferenceCodeSequence = [codes.item(codes.SOURCE_IMAGE_FOR_PROCESSING)]
    item.SpatialLocationsPreserved = "NO"
    return item
