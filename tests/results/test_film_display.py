"""Windows, lookup tables and inversion of a film: what a viewer shows is what the pipeline saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ColorSoftcopyPresentationStateStorage, SecondaryCaptureImageStorage

from conformance.films import DRESSES, FilmStudy, make_film_study
from dicom_ai_node.imaging.radiograph import load_radiograph
from dicom_ai_node.report import Analysis
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.source import SourceSeries
from dicom_ai_node.results.validate import validate
from tests.results.shown import rendered


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FilmStudy:
    """An upright DX."""
    return make_film_study(DRESSES[0], tmp_path_factory.mktemp("film"))


def _narrow_window(image):
    image.WindowCenter, image.WindowWidth = 1800, 1200


def _exact_window(image):
    image.VOILUTFunction = "LINEAR_EXACT"
    _narrow_window(image)


def _unfit_window(image):
    image.WindowCenter, image.WindowWidth = 60000, 10


def _no_window(image):
    del image.WindowCenter, image.WindowWidth


def _rescaled(image):
    image.RescaleSlope, image.RescaleIntercept = 2, -500
    image.WindowCenter, image.WindowWidth = 3000, 5000


def _voi_table(image):
    _no_window(image)
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [3001, 500, 12])
    # Steep in the middle, not linear.
    shown = np.rint(4095 * (1 + np.tanh(np.linspace(-2, 2, 3001))) / 2).astype("<u2")
    table.add_new("LUTData", "OW", shown.tobytes())
    image.VOILUTSequence = [table]


def _broken_table(image):
    _voi_table(image)
    image.VOILUTSequence[0].LUTData = b"\x00\x01"


def _modality_table(image):
    _no_window(image)
    del image.RescaleSlope, image.RescaleIntercept, image.RescaleType
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 16])
    table.add_new("LUTData", "OW", np.rint(np.linspace(0, 1, 4096) ** 2 * 65535).astype("<u2").tobytes())
    table.ModalityLUTType = "US"
    image.ModalityLUTSequence = [table]


def _for_processing(image):
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1.1"
    image.PresentationIntentType = "FOR PROCESSING"
    image.PixelIntensityRelationship, image.PixelIntensityRelationshipSign = "LIN", 1
    del image.PresentationLUTShape
    _no_window(image)


@pytest.mark.parametrize(
    ("change", "photometric"),
    [
        (_narrow_window, "MONOCHROME2"),
        (_narrow_window, "MONOCHROME1"),
        (_exact_window, "MONOCHROME2"),
        (_unfit_window, "MONOCHROME1"),
        (_no_window, "MONOCHROME2"),
        (_rescaled, "MONOCHROME2"),
        (_voi_table, "MONOCHROME1"),
        (_voi_table, "MONOCHROME2"),
        (_broken_table, "MONOCHROME2"),
        (_modality_table, "MONOCHROME1"),
        (_for_processing, "MONOCHROME2"),
        (_for_processing, "MONOCHROME1"),
    ],
)
def test_dcmtk_shows_what_the_pipeline_saw(study, tool, tmp_path, change, photometric):
    """Window, lookup tables and inversion of the image stand in the state as the loader understands them."""
    image = pydicom.dcmread(study.path)
    values = np.add.outer(np.arange(80) * 30, np.arange(60) * 28).astype(np.uint16)
    image.Rows, image.Columns = values.shape
    image.BitsStored, image.HighBit = 12, 11
    image.PhotometricInterpretation = photometric
    image.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"
    image.PixelData = values.tobytes()
    change(image)
    path = tmp_path / "film.dcm"
    image.save_as(path)
    radiograph = load_radiograph(path)
    first = study.analysis.report.vertebrae[0]
    first = replace(first, box_px=replace(first.box_px, rows=(20, 40), columns=(10, 30)))
    report = replace(study.analysis.report, vertebrae=(first,))
    objects = encode(
        Analysis(report), SourceSeries((path,), radiograph=radiograph), tmp_path / "r", overlay=False
    )
    validate(objects)
    voi = pydicom.dcmread(tmp_path / "r" / "pr-1.dcm").SoftcopyVOILUTSequence[0]
    assert voi.get("VOILUTFunction") == image.get("VOILUTFunction")
    shown = rendered(tool, path, tmp_path / "r" / "pr-1.dcm", tmp_path)
    low, high = shown.min(), shown.max()
    assert high > 200
    np.testing.assert_allclose((shown - low) / (high - low), radiograph.pixels, atol=0.012)


def test_a_film_captured_in_colour_is_drawn_on_by_a_presentation_state_for_colours(
    study: FilmStudy, tmp_path: Path
) -> None:
    image = pydicom.dcmread(study.path)
    greys = (image.pixel_array >> (image.BitsStored - 8)).astype(np.uint8)
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    image.Modality, image.ConversionType = "OT", "WSD"
    image.SamplesPerPixel, image.PlanarConfiguration, image.PhotometricInterpretation = 3, 0, "RGB"
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.PixelData = np.repeat(greys[:, :, None], 3, axis=2).tobytes()
    image.save_as(tmp_path / "film.dcm")
    film = load_radiograph(tmp_path / "film.dcm")
    source = SourceSeries((tmp_path / "film.dcm",), None, film)
    objects = encode(study.analysis, source, tmp_path / "results")
    validate(objects)
    (state,) = (pydicom.dcmread(item.path) for item in objects if item.kind == "pr")
    assert state.SOPClassUID == ColorSoftcopyPresentationStateStorage
    assert state.ICCProfile
    assert not {"SoftcopyVOILUTSequence", "PresentationLUTShape", "RescaleSlope"} & {
        element.keyword for element in state
    }
    assert {"seg", "sr"} < {item.kind for item in objects}
