"""MR stacks as volumes: signal, geometry with gaps, every way of writing, and what is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage

from dicom_ai_node.errors import InconsistentGeometry, NotAnalysable, UnreadableInstance
from dicom_ai_node.imaging.mr_series import mr_stacks
from dicom_ai_node.imaging.mr_volume import load_mr_series, load_mr_volume
from dicom_ai_node.imaging.write_mr import MrHeader
from tests.imaging.conftest import change
from tests.imaging.mr_files import AXIAL, SAGITTAL, pixels, write

SHAPE = (5, 8, 7)


def test_signal_and_geometry_are_those_that_were_written(tmp_path: Path) -> None:
    paths = list(write(tmp_path, shape=SHAPE))
    random.Random(1).shuffle(paths)
    volume = load_mr_series(paths)
    assert volume.voxels.dtype == np.float32
    # The normal of slices with rows to the feet and columns to the back points to the patient's right.
    back = np.linalg.det(volume.affine[:3, :3]) * np.linalg.det(SAGITTAL[:3, :3]) < 0
    expected = pixels(SHAPE)[::-1] if back else pixels(SHAPE)
    np.testing.assert_array_equal(volume.voxels, expected)
    corner = SAGITTAL @ [4 if back else 0, 3, 2, 1]
    np.testing.assert_allclose(volume.affine @ [0, 3, 2, 1], corner, atol=1e-6)
    np.testing.assert_allclose(volume.spacing_mm, [4.4, 1.3, 1.3], atol=1e-6)
    assert volume.modality == "MR"
    assert [item.frame for item in volume.instances] == [1] * 5


def test_classic_enhanced_and_legacy_converted_are_the_same_volume(tmp_path: Path) -> None:
    classic = list(write(tmp_path / "classic", shape=SHAPE))
    (enhanced,) = write(tmp_path / "enhanced", shape=SHAPE, enhanced=True)
    converted = tmp_path / "converted.dcm"
    LegacyConvertedEnhancedMRImage(
        [pydicom.dcmread(path) for path in classic],
        series_instance_uid="1.2.3.4",
        series_number=5,
        sop_instance_uid="1.2.3.4.5",
        instance_number=1,
    ).save_as(converted)
    first = load_mr_series(classic)
    for path in (enhanced, converted):
        other = load_mr_series([path])
        np.testing.assert_array_equal(other.voxels, first.voxels)
        np.testing.assert_allclose(other.affine, first.affine, atol=1e-6)
        assert mr_stacks([path])[0].identity.kind == "t2"


def test_rescale_is_applied_whatever_its_units_are_called(tmp_path: Path) -> None:
    paths = list(write(tmp_path, shape=SHAPE))
    before = load_mr_series(paths).voxels
    for path in paths:
        change(path, RescaleSlope=2.5, RescaleIntercept=-10, RescaleType="normalized")
    np.testing.assert_allclose(load_mr_series(paths).voxels, before * 2.5 - 10, rtol=1e-6)


def test_a_scale_that_philips_chose_for_each_slice_is_taken_back(tmp_path: Path) -> None:
    about = MrHeader(manufacturer="Philips Medical Systems")
    paths = list(write(tmp_path, about, shape=SHAPE))
    before = load_mr_series(paths).voxels
    scales = [1.0, 1.1, 1.25, 1.5, 2.0]
    for path, scale in zip(paths, scales, strict=True):
        # What is displayed is kept; what is stored is smaller by the scale, as this make writes it.
        dataset = pydicom.dcmread(path)
        dataset.RescaleSlope, dataset.RescaleIntercept = scale, 0
        dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "FL", 1.0)
        dataset.save_as(path)
    volume = load_mr_series(paths)
    assert any("one scale" in note.text for note in volume.notes)
    ratio = volume.voxels / np.where(before > 0, before, np.nan)
    # Stored values are alike in signal once both slopes are undone, but for one common factor.
    np.testing.assert_allclose(ratio[~np.isnan(ratio)], 1.25, rtol=1e-5)


def test_padding_is_no_signal(tmp_path: Path) -> None:
    paths = list(write(tmp_path, shape=SHAPE))
    before = load_mr_series(paths).voxels
    first = int(before[0, 0, 0])
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", "US", first)
        dataset.save_as(path)
    after = load_mr_series(paths).voxels
    assert after[0, 0, 0] == 0
    np.testing.assert_array_equal(after[before != first], before[before != first])


def test_missing_slices_are_filled_where_that_is_allowed(tmp_path: Path) -> None:
    paths = list(write(tmp_path, shape=SHAPE))
    (whole,) = mr_stacks(paths)
    gapped = replace(whole, slices=(*whole.slices[:2], *whole.slices[3:]))
    with pytest.raises(InconsistentGeometry):
        load_mr_volume(gapped)
    volume = load_mr_volume(gapped, max_gap_mm=9.0)
    assert volume.interpolated == {2}
    np.testing.assert_allclose(volume.voxels[2], 0.5 * (volume.voxels[1] + volume.voxels[3]))


@pytest.mark.parametrize(
    ("header", "affine", "shape", "code"),
    [
        (MrHeader(), SAGITTAL, (1, 8, 7), "coverage"),
        (MrHeader(), AXIAL, (5, 8, 7), "orientation"),
        (MrHeader(image_type=("ORIGINAL", "PRIMARY", "P", "ND")), SAGITTAL, SHAPE, "modality-mismatch"),
        (MrHeader(image_type=("ORIGINAL", "PRIMARY", "I", "ND")), SAGITTAL, SHAPE, "modality-mismatch"),
        (MrHeader(image_type=("ORIGINAL", "PRIMARY", "M", "MOSAIC")), SAGITTAL, SHAPE, "modality-mismatch"),
        (MrHeader(series_description="localizer"), SAGITTAL, SHAPE, "modality-mismatch"),
    ],
)
def test_what_cannot_be_measured_in_is_refused_with_its_code(
    tmp_path: Path, header: MrHeader, affine: np.ndarray, shape: tuple[int, int, int], code: str
) -> None:
    with pytest.raises(NotAnalysable) as caught:
        load_mr_series(list(write(tmp_path, header, affine=affine, shape=shape)))
    assert caught.value.code == code


def test_an_empty_series_and_a_truncated_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAnalysable):
        load_mr_series([])
    paths = list(write(tmp_path, shape=SHAPE))
    paths[1].write_bytes(paths[1].read_bytes()[:-30])
    with pytest.raises(UnreadableInstance, match="IM0002"):
        load_mr_series(paths)
