"""Radiographs as DICOM: accepted by dciodvfy in every dress, and read back as they were written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicom_ai_node.imaging.write_radiograph import RadiographHeader, write_radiograph

PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30)

DRESSES: list[dict[str, Any]] = [
    {},
    {"object_class": "CR"},
    {"photometric": "MONOCHROME1", "bits_stored": 10},
    {"object_class": "CR", "photometric": "MONOCHROME1", "bits_stored": 14, "private": True},
    {"pixel_spacing": "detector", "view": "AP", "patient_orientation": ("L", "F")},
    {
        "pixel_spacing": "calibrated",
        "magnification": 1150.0 / 920.0,
        "source_detector_mm": 1150.0,
        "source_patient_mm": 920.0,
        "private": True,
    },
    {"view": None, "body_part_examined": None},
    {"object_class": "CR", "view": None, "body_part_examined": None, "patient_orientation": ()},
    {
        "object_class": "CR",
        "body_part_examined": "HIP",
        "laterality": "L",
        "kvp": None,
        "mas": None,
        "patient_age": None,
    },
]


@pytest.mark.parametrize("dress", DRESSES)
def test_validators_find_no_error(tmp_path: Path, dress: dict[str, Any]) -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed")
    path = write_radiograph(PIXELS, tmp_path / "one.dcm", header=RadiographHeader(**dress))
    verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in verdict.stderr, verdict.stderr


def test_what_is_written_is_read(tmp_path: Path) -> None:
    header = RadiographHeader(
        pixel_spacing="calibrated", magnification=1.25, imager_pixel_mm=0.15, private=True, omit=("StudyID",)
    )
    read = pydicom.dcmread(write_radiograph(PIXELS, tmp_path / "one.dcm", header=header, seed=3))
    np.testing.assert_array_equal(read.pixel_array, PIXELS)
    assert list(read.ImagerPixelSpacing) == [0.15, 0.15]
    assert list(read.PixelSpacing) == [0.12, 0.12]
    assert read.EstimatedRadiographicMagnificationFactor == 1.25
    assert (read.ViewPosition, list(read.PatientOrientation)) == ("LL", ["P", "F"])
    assert read.private_block(0x0019, "DICOM_AI_NODE PHANTOM")[0x01].value == "SPINE"
    assert "StudyID" not in read
    assert "Phantom" in str(read.PatientName)


def test_same_arguments_same_bytes_and_one_study_for_both_views(tmp_path: Path) -> None:
    first = write_radiograph(PIXELS, tmp_path / "a.dcm", seed=5)
    assert first.read_bytes() == write_radiograph(PIXELS, tmp_path / "b.dcm", seed=5).read_bytes()
    frontal = RadiographHeader(view="AP", series_number=2, patient_orientation=("L", "F"))
    one, two = (
        pydicom.dcmread(path)
        for path in (first, write_radiograph(PIXELS, tmp_path / "c.dcm", header=frontal, seed=5))
    )
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


@pytest.mark.parametrize(
    ("pixels", "header", "message"),
    [
        (PIXELS[None], RadiographHeader(), "shape"),
        (PIXELS + 4000, RadiographHeader(), "do not fit into 12"),
        (PIXELS, RadiographHeader(pixel_spacing="calibrated"), "magnification"),
        (PIXELS, RadiographHeader(bits_stored=17), "bits"),
    ],
)
def test_what_cannot_be_written_is_refused(
    tmp_path: Path, pixels: np.ndarray, header: RadiographHeader, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_radiograph(pixels, tmp_path / "one.dcm", header=header)
