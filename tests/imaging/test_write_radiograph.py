"""Radiographs as DICOM: accepted by dciodvfy in every dress, and read back as they were written."""

from __future__ import annotations

import shutil
import subprocess
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pydicom
import pytest

from dicom_ai_node.commands.phantom_radiograph import film_header
from dicom_ai_node.imaging.write_radiograph import RadiographHeader, TransferSyntax, write_radiograph
from dicom_ai_node.phantom.radiograph import RadiographPhantom, sample_radiograph_acquisition
from dicom_ai_node.phantom.spine import sample_spine

# A size that every encoder takes.
PIXELS = (np.arange(64 * 72, dtype=np.uint16) % 997).reshape(64, 72)

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
    {"transfer_syntax": "implicit", "character_set": "ISO_IR 192", "patient_name": "Phantom^Röntgen^Süß"},
    {
        "transfer_syntax": "explicit",
        "body_part_examined": "BREAST",
        "omit": ("SoftwareVersions", "PatientAge"),
    },
    {"transfer_syntax": "rle", "photometric": "MONOCHROME1", "frame_of_reference_uid": "2.25.77"},
    {"transfer_syntax": "jpeg-ls", "object_class": "CR", "bits_stored": 14, "burned_in": True},
    {
        "transfer_syntax": "jpeg-2000",
        "character_set": ("", "ISO 2022 IR 87"),
        "patient_name": "Mokei^Sekitsui=模型^脊椎=もけい^せきつい",
    },
]


@pytest.mark.parametrize("dress", DRESSES)
def test_validators_find_no_error(tmp_path: Path, dress: dict[str, Any]) -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed")
    path = write_radiograph(PIXELS, tmp_path / "one.dcm", header=RadiographHeader(**dress))
    verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "Error" not in verdict.stderr, verdict.stderr


def test_validators_find_no_error_in_what_twelve_stations_write(tmp_path: Path) -> None:
    """The headers that `dicom-ai-node phantom` gives the films of twelve persons, about small pixels."""
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy is not installed")
    classes, syntaxes = set(), set()
    for seed in range(12):
        spine = sample_spine(seed)
        for number, view in enumerate(("lateral", "frontal"), start=1):
            taken = sample_radiograph_acquisition(seed, spine, view=view)  # type: ignore[arg-type]
            photometric = "MONOCHROME1" if taken.processing.inverted else "MONOCHROME2"
            film = RadiographPhantom(PIXELS, photometric, taken.processing.bits, taken, {})  # type: ignore[arg-type]
            header = film_header(film, spine, seed, number)
            path = write_radiograph(PIXELS, tmp_path / f"{seed}-{view}.dcm", header=header, seed=seed)
            verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
            assert "Error" not in verdict.stderr, (header, verdict.stderr)
            classes.add((header.object_class, header.photometric))
            syntaxes.add(header.transfer_syntax)
    assert len(classes) == 4
    assert len(syntaxes) >= 3


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


@pytest.mark.parametrize("transfer_syntax", get_args(TransferSyntax))
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_every_transfer_syntax_keeps_the_pixels(
    tmp_path: Path, transfer_syntax: TransferSyntax, photometric: Literal["MONOCHROME1", "MONOCHROME2"]
) -> None:
    header = RadiographHeader(transfer_syntax=transfer_syntax, photometric=photometric)
    first = write_radiograph(PIXELS, tmp_path / "a.dcm", header=header)
    read = pydicom.dcmread(first)
    np.testing.assert_array_equal(read.pixel_array, PIXELS)
    assert read.file_meta.TransferSyntaxUID.is_compressed == (
        transfer_syntax in {"rle", "jpeg-ls", "jpeg-2000"}
    )
    assert first.read_bytes() == write_radiograph(PIXELS, tmp_path / "b.dcm", header=header).read_bytes()


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Phantom^Röntgen"),
        ("ISO_IR 192", "Φάντασμα^Ράχη"),
        (("", "ISO 2022 IR 87"), "Mokei^Sekitsui=模型^脊椎=もけい^せきつい"),
    ],
)
def test_names_come_back_in_every_character_set(
    tmp_path: Path, character_set: str | tuple[str, ...], name: str
) -> None:
    header = RadiographHeader(character_set=character_set, patient_name=name)
    read = pydicom.dcmread(write_radiograph(PIXELS, tmp_path / "one.dcm", header=header))
    assert read.PatientName == name


def test_a_film_joins_a_study_that_is_given(tmp_path: Path) -> None:
    study: dict[str, Any] = {
        "study_instance_uid": "2.25.123",
        "study_date": date(2021, 3, 4),
        "study_time": "101112",
        "study_id": "S7",
        "accession_number": "A7",
        "patient_id": "PHANTOM-7",
    }
    one, two = (
        pydicom.dcmread(
            write_radiograph(
                PIXELS,
                tmp_path / f"{seed}.dcm",
                header=RadiographHeader(**study, series_number=seed),
                seed=seed,
            )
        )
        for seed in (1, 2)
    )
    for read in (one, two):
        assert (read.StudyInstanceUID, read.StudyDate, read.StudyTime) == ("2.25.123", "20210304", "101112")
        assert (read.StudyID, read.AccessionNumber, read.PatientID) == ("S7", "A7", "PHANTOM-7")
    assert one.SeriesInstanceUID != two.SeriesInstanceUID
    named = RadiographHeader(series_instance_uid="2.25.9", frame_of_reference_uid="2.25.10")
    read = pydicom.dcmread(write_radiograph(PIXELS, tmp_path / "named.dcm", header=named))
    assert (read.SeriesInstanceUID, read.FrameOfReferenceUID) == ("2.25.9", "2.25.10")


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
