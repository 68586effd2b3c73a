"""Stored values to Hounsfield units, and every transfer syntax at hand against the uncompressed original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import JPEGLSLossless, RLELossless

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.imaging.pixels import read_hounsfield, to_hounsfield
from dicom_ai_node.imaging.slices import StoredPixels, read_slices
from dicom_ai_node.imaging.volume import load_volume
from tests.imaging.conftest import change, numbered_voxels

WriteSeries = Callable[..., list[Path]]


def stored_as(
    bits: int = 16,
    *,
    signed: bool = True,
    slope: float = 1.0,
    intercept: float = 0.0,
    padding: tuple[int, int] | None = None,
    high_bit: int | None = None,
) -> StoredPixels:
    return StoredPixels(
        bits_allocated=16,
        bits_stored=bits,
        high_bit=bits - 1 if high_bit is None else high_bit,
        signed=signed,
        slope=slope,
        intercept=intercept,
        rescaled=True,
        padding=padding,
    )


def hounsfield(stored: npt.NDArray[Any], pixels: StoredPixels) -> list[int]:
    out = np.empty(stored.shape, np.int16)
    to_hounsfield(stored, pixels, out)
    return [int(value) for value in out.ravel()]


def decoded(path: Path) -> npt.NDArray[np.int16]:
    with reading_quietly():
        item = read_slices(path)[0]
        out = np.empty((item.rows, item.columns), np.int16)
        read_hounsfield(item, out)
    return out


@given(
    value=st.integers(-2048, 2047),
    overlay=st.integers(0, 15),
    intercept=st.sampled_from([0, -1024]),
)
def test_bits_above_the_stored_ones_are_ignored(value: int, overlay: int, intercept: int) -> None:
    word = np.array([[(value & 0xFFF) | overlay << 12]], np.uint16)
    assert hounsfield(word.view(np.int16), stored_as(12, intercept=intercept)) == [value + intercept]
    assert hounsfield(word, stored_as(12, signed=False)) == [value & 0xFFF]
    high = np.array([[(value & 0xFFF) << 4 | overlay]], np.uint16)
    assert hounsfield(high.view(np.int16), stored_as(12, high_bit=15)) == [value]


@given(
    stored=st.lists(st.integers(-32768, 32767), min_size=1, max_size=9),
    slope=st.sampled_from([1.0, 0.5, 2.000244, 32.1]),
    intercept=st.sampled_from([0.0, -1024.0, -0.5, 4000.0]),
)
def test_rescale_rounds_and_stays_within_sixteen_bits(
    stored: list[int], slope: float, intercept: float
) -> None:
    expected = [int(np.clip(np.rint(value * slope + intercept), -32768, 32767)) for value in stored]
    found = hounsfield(np.array([stored], np.int16), stored_as(slope=slope, intercept=intercept))
    assert found == expected


def test_unsigned_sixteen_bits_do_not_wrap() -> None:
    stored = np.array([[0, 1024, 40000, 65535]], np.uint16)
    assert hounsfield(stored, stored_as(signed=False, intercept=-1024)) == [-1024, 0, 32767, 32767]
    assert hounsfield(stored[:, :2], stored_as(signed=False, intercept=-1024)) == [-1024, 0]


def test_padding_is_air() -> None:
    stored = np.array([[-2000, -1990, 0, 3000]], np.int16)
    assert hounsfield(stored, stored_as(padding=(-2000, -2000))) == [-1024, -1990, 0, 3000]
    assert hounsfield(stored, stored_as(padding=(-2000, -1990), intercept=-24)) == [-1024, -1024, -24, 2976]
    assert hounsfield(stored, stored_as(padding=(3000, 3000))) == [-2000, -1990, 0, -1024]


def test_padding_written_with_the_wrong_sign_still_counts(write_series: WriteSeries) -> None:
    voxels = numbered_voxels()
    voxels[:, 0] = -2000
    paths = write_series(voxels, rescale_intercept=0)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
        dataset.save_as(path)
    found = load_volume(paths).voxels
    assert (found[:, 0] == -1024).all()
    np.testing.assert_array_equal(found[:, 1:], voxels[:, 1:])


@pytest.mark.parametrize(
    "how",
    [
        {"bits_stored": 12, "signed": False},
        {"bits_stored": 12, "signed": True, "rescale_intercept": 0},
        {"bits_stored": 16, "signed": False, "rescale_intercept": -8192},
        {"bits_stored": 16, "signed": True, "rescale_intercept": 0},
    ],
)
def test_however_a_scanner_stores_them_units_are_the_same(
    write_series: WriteSeries, how: dict[str, object]
) -> None:
    np.testing.assert_array_equal(
        load_volume(write_series(numbered_voxels(), **how)).voxels, numbered_voxels()
    )


def test_each_slice_has_its_own_rescale(write_series: WriteSeries) -> None:
    paths = write_series(numbered_voxels(), rescale_intercept=0)
    change(paths[2], RescaleSlope=2, RescaleIntercept=-7)
    expected = numbered_voxels()
    expected[2] = np.maximum(expected[2] * 2 - 7, -1024)
    np.testing.assert_array_equal(load_volume(paths).voxels, expected)


def test_missing_rescale_is_taken_as_hounsfield_units_and_noted(write_series: WriteSeries) -> None:
    paths = write_series(numbered_voxels(), rescale_intercept=0, omit=("RescaleSlope", "RescaleIntercept"))
    volume = load_volume(paths)
    np.testing.assert_array_equal(volume.voxels, numbered_voxels())
    assert [note.code for note in volume.notes] == ["modality-mismatch"]
    assert "Rescale Intercept (0028,1052)" in volume.notes[0].text


def test_unsigned_values_without_rescale_are_brought_to_hounsfield_units(write_series: WriteSeries) -> None:
    paths = write_series(numbered_voxels(), signed=False, omit=("RescaleSlope", "RescaleIntercept"))
    volume = load_volume(paths)
    np.testing.assert_array_equal(volume.voxels, numbered_voxels())
    assert [note.code for note in volume.notes] == ["modality-mismatch"]
    assert "1024 was taken off" in volume.notes[0].text


def test_compressed_multi_slice_series_is_the_same(write_series: WriteSeries) -> None:
    paths = write_series(numbered_voxels((8, 40, 48)))
    original = load_volume(paths)
    for path, syntax in zip(paths, [RLELossless, JPEGLSLossless] * 4, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    np.testing.assert_array_equal(load_volume(paths).voxels, original.voxels)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless])
def test_pixel_data_cut_short_is_named(write_series: WriteSeries, syntax: pydicom.uid.UID | None) -> None:
    paths = write_series(numbered_voxels((4, 40, 48)))
    if syntax is not None:
        dataset = pydicom.dcmread(paths[1])
        dataset.compress(syntax)
        dataset.save_as(paths[1])
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[: len(content) * 3 // 4])
    with pytest.raises(UnreadableInstance, match=r"IM0002.dcm: .*\(7FE0,0010\).*send it again"):
        load_volume(paths)


def test_an_unknown_transfer_syntax_is_named(write_series: WriteSeries) -> None:
    paths = write_series(numbered_voxels())
    for path in paths:
        content = path.read_bytes()
        path.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.44", 1))
    with pytest.raises(UnreadableInstance, match=r"IM0001\.dcm: .*1\.2\.840\.10008\.1\.2\.44"):
        load_volume(paths)


LOSSLESS = (
    "LittleEndianExplicitTransferSyntax_1.2.840.10008.1.2.1",
    "BigEndianExplicitTransferSyntax_1.2.840.10008.1.2.2",
    "DeflatedExplicitVRLittleEndianTransferSyntax_1.2.840.10008.1.2.1.99",
    "JPEGProcess14TransferSyntax_1.2.840.10008.1.2.4.57",
    "JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70",
    "JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80",
    "JPEG2000LosslessOnlyTransferSyntax_1.2.840.10008.1.2.4.90",
    "RLELosslessTransferSyntax_1.2.840.10008.1.2.5",
)
LOSSY = {
    # Mean error that this image has in Hounsfield units; a wrong decoder is off by hundreds.
    "JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50": 25,
    "JPEGProcess2_4TransferSyntax_1.2.840.10008.1.2.4.51": 6,
    "JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53": 6,
    "JPEGProcess10_12TransferSyntax_1.2.840.10008.1.2.4.55": 6,
    "JPEGLSLossyTransferSyntax_1.2.840.10008.1.2.4.81": 1,
    "JPEG2000TransferSyntax_1.2.840.10008.1.2.4.91": 1,
}


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_lossless_real_ct_is_the_original_pixel_by_pixel(shared_data: Path, syntax: str) -> None:
    folder = shared_data / "dicom" / "cornerstone" / "testImages"
    original = decoded(folder / "CTImage.dcm")
    np.testing.assert_array_equal(decoded(folder / f"CTImage.dcm_{syntax}.dcm"), original)


@pytest.mark.parametrize("syntax", LOSSY)
def test_lossy_real_ct_is_near_the_original(shared_data: Path, syntax: str) -> None:
    folder = shared_data / "dicom" / "cornerstone" / "testImages"
    original = decoded(folder / "CTImage.dcm").astype(int)
    assert np.abs(decoded(folder / f"CTImage.dcm_{syntax}.dcm") - original).mean() < LOSSY[syntax]


@pytest.mark.parametrize("image", ["CT1", "CT2", "MR1", "MR2", "MR3"])
def test_lossless_nema_images_agree_over_all_codecs(shared_data: Path, image: str) -> None:
    folder = shared_data / "dicom" / "wg04"
    reference = decoded(folder / "RLE" / f"{image}_RLE")
    assert reference.std() > 100
    for codec in ("J2KR", "JLSL", "JPLL"):
        np.testing.assert_array_equal(decoded(folder / codec / f"{image}_{codec}"), reference, err_msg=codec)


def test_real_multi_frame_equals_its_classic_original(shared_data: Path) -> None:
    folder = shared_data / "dicom" / "dcmqi" / "data" / "segmentations" / "24x38x3"
    classic = load_volume(sorted((folder / "image").iterdir()))
    enhanced = load_volume([folder / "multiframe" / "mf.dcm"])
    np.testing.assert_array_equal(enhanced.voxels, classic.voxels)
    np.testing.assert_allclose(enhanced.affine, classic.affine, atol=1e-3)


def test_real_enhanced_ct_is_read_frame_by_frame(shared_data: Path) -> None:
    path = shared_data / "dicom" / "pydicom-data" / "data_store" / "data" / "eCT_Supplemental.dcm"
    volume = load_volume([path])
    stored = pydicom.dcmread(path)
    assert volume.shape == (2, 512, 512)
    np.testing.assert_allclose(volume.spacing_mm, [10, 0.388672, 0.388672])
    for k, item in enumerate(volume.instances):
        frame = stored.pixel_array[item.frame - 1].astype(int)
        np.testing.assert_array_equal(volume.voxels[k], frame - 1024)
        group = stored.PerFrameFunctionalGroupsSequence[item.frame - 1]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(volume.affine[:3] @ [k, 0, 0, 1], [float(value) for value in position])


def test_every_real_file_is_read_or_refused_with_a_reason(shared_data: Path) -> None:
    """Broken, odd and foreign objects: nothing but our own errors comes out, and each says what to do."""
    refusals: list[tuple[Path, Exception]] = []
    files = [path for path in sorted((shared_data / "dicom" / "pydicom").rglob("*")) if path.is_file()]
    for path in files:
        try:
            decoded(path)
        except Exception as error:
            refusals.append((path, error))
    assert len(files) - len(refusals) >= 10
    strangers = [item for item in refusals if type(item[1]).__module__ != "dicom_ai_node.errors"]
    assert strangers == []
    assert [path for path, error in refusals if path.name not in str(error)] == []
