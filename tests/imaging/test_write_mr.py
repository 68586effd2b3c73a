"""What is written is a valid MR series whatever the make and the alphabet, and holds what was given."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_ai_node.imaging.mr_habits import MrSettings, mr_header, sample_site
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.imaging.write_mr import MrHeader, StudyIdentity, write_enhanced_mr, write_mr_series

SAGITTAL = np.array([[4.4, 0, 0, -30], [0, 0, 0.8, -40], [0, -0.8, 0, 50], [0, 0, 0, 1.0]])
CORONAL = np.array([[0, 0, 0.9, -50], [20.0, 0, 0, 0], [0, -0.9, 0, 60], [0, 0, 0, 1.0]])
TURN = np.array([[0.96, -0.28, 0, 0], [0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
SETTINGS = MrSettings(
    kind="t2", readout="SE", repetition_ms=3500, echo_ms=98, inversion_ms=None, flip_deg=90, echo_train=17,
    bandwidth_hz=190.5, field_t=1.5, fat_saturated=False, saturation_band=True, partial_fourier=True,
    phase_by_rows=True, matrix=(16, 20), slice_thickness_mm=4.0,
)  # fmt: skip
STIR = replace(SETTINGS, kind="stir", readout="IR", inversion_ms=160.0)
LOCALIZER = replace(SETTINGS, kind="localizer", readout="GR", echo_train=1, repetition_ms=8.0, echo_ms=3.0)


def numbered(shape: tuple[int, int, int] = (4, 36, 40)) -> npt.NDArray[np.uint16]:
    """Pixels that all differ in a slice, and fit into 12 bits."""
    return (np.arange(np.prod(shape)) % 4093).astype(np.uint16).reshape(shape)


def errors(path: Path) -> list[str]:
    """What dciodvfy calls an error; its exit code says nothing."""
    verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return [line for line in verdict.stderr.splitlines() if line.startswith("Error")]


needs_validator = pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")


@needs_validator
@pytest.mark.parametrize("settings", [SETTINGS, STIR, LOCALIZER], ids=lambda s: s.kind)
def test_dciodvfy_finds_no_error_whatever_the_site(tmp_path: Path, settings: MrSettings) -> None:
    makes, languages, parts = set(), set(), set()
    for seed in range(14):
        site = sample_site(seed)
        header = mr_header(seed, site, settings, number=2, highest=2000)
        path = write_mr_series([(numbered((1, 36, 40)), SAGITTAL)], tmp_path / str(seed), header=header)[0]
        assert errors(path) == [], (seed, site)
        makes.add(site.make)
        languages.add(site.language)
        parts.add(site.body_part)
    assert len(makes) >= 3
    assert len(languages) >= 5
    assert None in parts


@needs_validator
@pytest.mark.parametrize("settings", [SETTINGS, STIR, LOCALIZER], ids=lambda s: s.kind)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dciodvfy_finds_no_error_in_enhanced_files(tmp_path: Path, settings: MrSettings, seed: int) -> None:
    header = mr_header(seed, sample_site(seed), settings, number=2, highest=2000)
    assert errors(write_enhanced_mr(numbered(), SAGITTAL, tmp_path, header=header)) == []


def test_the_same_call_writes_the_same_bytes_and_another_seed_another_patient(tmp_path: Path) -> None:
    stack = [(numbered(), SAGITTAL)]
    first = write_mr_series(stack, tmp_path / "a", seed=7)
    second = write_mr_series(stack, tmp_path / "b", seed=7)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    others = [
        pydicom.dcmread(write_mr_series(stack, tmp_path / name, seed=seed, header=header)[0])
        for name, seed, header in (("c", 8, None), ("d", 7, MrHeader(series_description="other")))
    ]
    one = pydicom.dcmread(first[0])
    assert one.StudyInstanceUID != others[0].StudyInstanceUID
    assert one.PatientID != others[0].PatientID
    assert one.StudyInstanceUID == others[1].StudyInstanceUID
    assert one.FrameOfReferenceUID == others[1].FrameOfReferenceUID
    assert one.SeriesInstanceUID != others[1].SeriesInstanceUID


@pytest.mark.parametrize(
    "affine", [SAGITTAL, CORONAL, TURN @ SAGITTAL], ids=["sagittal", "coronal", "oblique"]
)
def test_pixels_come_back_where_they_were(tmp_path: Path, affine: npt.NDArray[np.float64]) -> None:
    pixels = numbered()
    volume = load_volume(write_mr_series([(pixels, affine)], tmp_path))
    index = np.array([2, 5, 7, 1])
    back = np.rint(np.linalg.inv(volume.affine) @ affine @ index)[:3].astype(int)
    assert volume.voxels[tuple(back)] == pixels[2, 5, 7]


def test_an_enhanced_file_holds_the_frames_in_place(tmp_path: Path) -> None:
    pixels = numbered()
    one = pydicom.dcmread(write_enhanced_mr(pixels, SAGITTAL, tmp_path))
    np.testing.assert_array_equal(one.pixel_array, pixels)
    for k, frame in enumerate(one.PerFrameFunctionalGroupsSequence):
        position = [float(v) for v in frame.PlanePositionSequence[0].ImagePositionPatient]
        np.testing.assert_allclose(position, SAGITTAL[:3, 3] + k * SAGITTAL[:3, 0], atol=1e-6)
        assert frame.FrameContentSequence[0].InStackPositionNumber == k + 1


def test_a_localizer_is_one_series_of_three_planes(tmp_path: Path) -> None:
    stacks = [(numbered((3, 36, 40)), affine) for affine in (SAGITTAL, CORONAL)]
    images = [pydicom.dcmread(path) for path in write_mr_series(stacks, tmp_path)]
    assert len(images) == 6
    assert len({str(image.SeriesInstanceUID) for image in images}) == 1
    assert len({str(image.ImageOrientationPatient) for image in images}) == 2
    assert [image.InstanceNumber for image in images] == [1, 2, 3, 4, 5, 6]
    assert len({str(image.SOPInstanceUID) for image in images}) == 6


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_pixels_are_the_same(tmp_path: Path, syntax: str) -> None:
    header = MrHeader(transfer_syntax=syntax, bits_stored=12)
    path = write_mr_series([(numbered(), SAGITTAL)], tmp_path, header=header)[2]
    one = pydicom.dcmread(path)
    assert one.file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(one.pixel_array, numbered()[2])


def test_names_come_back_in_every_alphabet(tmp_path: Path) -> None:
    seen = set()
    for seed in range(60):
        site = sample_site(seed)
        if site.language in seen:
            continue
        seen.add(site.language)
        header = replace(mr_header(seed, site, SETTINGS, number=2, highest=2000), omit=())
        path = write_mr_series([(numbered((1, 36, 40)), SAGITTAL)], tmp_path / site.language, header=header)[
            0
        ]
        one = pydicom.dcmread(path)
        assert str(one.PatientName) == site.patient_name
        assert one.StudyDescription == site.study_description
        assert one.SeriesDescription == header.series_description
    assert len(seen) >= 8


def test_makes_write_what_they_write(tmp_path: Path) -> None:
    for seed in range(30):
        site = sample_site(seed)
        header = mr_header(seed, site, STIR, number=4, highest=2000)
        assert header.inversion_ms == 160.0
        assert "IR" in header.scanning_sequence
        assert (header.bits_stored == 12) == (site.make != "ge")
        path = write_mr_series([(numbered((1, 36, 40)), SAGITTAL)], tmp_path / str(seed), header=header)[0]
        one = pydicom.dcmread(path)
        assert one.InversionTime == 160
        assert any(element.tag.is_private for element in one)
        assert not set(site.omit) & {element.keyword for element in one}


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    skewed = SAGITTAL.copy()
    skewed[1, 1] = 0.4
    with pytest.raises(ValueError, match="right angles"):
        write_mr_series([(numbered(), skewed)], tmp_path)
    with pytest.raises(ValueError, match="do not fit into 12 unsigned bits"):
        write_mr_series([(numbered() + 4000, SAGITTAL)], tmp_path, header=MrHeader(bits_stored=12))
    assert list(tmp_path.iterdir()) == []


def test_a_series_joins_the_study_that_it_is_told(tmp_path: Path) -> None:
    study = StudyIdentity("2.25.17", "20240229", "2.25.18")
    header = MrHeader(study=study)
    written = [
        *write_mr_series([(numbered(), SAGITTAL)], tmp_path / "classic", header=header),
        write_enhanced_mr(numbered(), SAGITTAL, tmp_path / "enhanced", header=header),
    ]
    for path in written:
        image = pydicom.dcmread(path)
        assert image.StudyInstanceUID == "2.25.17"
        assert image.FrameOfReferenceUID == "2.25.18"
        assert image.StudyDate == image.SeriesDate == "20240229"
    own = write_mr_series(
        [(numbered(), SAGITTAL)],
        tmp_path / "own",
        header=replace(header, study=replace(study, frame_of_reference_uid=None)),
    )
    image = pydicom.dcmread(own[0])
    assert image.StudyInstanceUID == "2.25.17"
    assert image.FrameOfReferenceUID not in ("2.25.17", "2.25.18")
