"""The overview picture as a Secondary Capture, for viewers that show nothing else (PS3.3 A.8.1); optional."""

from __future__ import annotations

from typing import Final

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_ai_node.report import Analysis
from dicom_ai_node.results import codes
from dicom_ai_node.results.identity import ResultIdentity, in_language
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.modules import RESEARCH_USE_ONLY, Stamp, new_object
from dicom_ai_node.results.source import SourceImages

SERIES_NUMBER: Final = 9105


def encode_capture(
    picture: Image.Image,
    analysis: Analysis,
    source: SourceImages,
    identity: ResultIdentity,
    stamp: Stamp,
    *,
    language: Language = ENGLISH,
) -> FileDataset:
    """The picture, which says what it is, as an RGB image."""
    dataset = new_object(
        source,
        identity,
        analysis.report.algorithms,
        stamp,
        kind=in_language("sc-1", language),
        sop_class_uid=SecondaryCaptureImageStorage,
        modality="OT",
        series_number=SERIES_NUMBER,
        series_description="AI spine overview",
    )
    pixels = np.asarray(picture.convert("RGB"))
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    if source.is_film:
        # How the film lies in the picture is drawn into it; its header may be wrong about it.
        dataset.PatientOrientation = ""
        what, derivation = "Radiograph", codes.SPATIAL_RESAMPLING
    else:
        dataset.PatientOrientation = ["P", "F"]
        what, derivation = "Curved sagittal reformat", codes.CURVED_MULTIPLANAR_REFORMATTING
    # Nothing in it tells who the patient is (PS3.3 C.7.6.1.1.3).
    dataset.BurnedInAnnotation = "NO"
    dataset.DerivationDescription = f"{what} with findings. {RESEARCH_USE_ONLY}"
    dataset.DerivationCodeSequence = [codes.item(derivation)]
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    packed = pixels.tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    return dataset
