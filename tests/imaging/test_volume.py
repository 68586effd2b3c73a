"""Slices in, one volume out: geometry that must survive, and series that must be refused with reasons."""

from __future__ import annotations

import random
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from scipy.spatial.transform import Rotation

from dicom_ai_node.errors import InconsistentGeometry, InputError, NotAnalysable, UnreadableInstance
from dicom_ai_node.imaging.volume import Volume, load_volume, split_stacks
from dicom_ai_node.imaging.write_ct import write_ct_series
from tests.imaging.conftest import AXIAL, change, numbered_voxels

FloatArray = npt.NDArray[np.float64]
WriteSeries = Callable[..., list[Path]]


def assert_same_place(volume: Volume, voxels: npt.NDArray[np.int16], affine: FloatArray) -> None:
    """Every voxel is found, with its value, at its point in patient space."""
    index = np.argwhere(np.ones(voxels.shape, bool))
    points = index @ affine[:3, :3].T + affine[:3, 3]
    inverse = np.linalg.inv(volume.affine)
    found = points @ inverse[:3, :3].T + inverse[:3, 3]
    assert np.abs(found - np.rint(found)).max() < 1e-3
    at = np.rint(found).astype(int)
    assert volume.voxels.shape == voxels.shape
    np.testing.assert_array_equal(volume.voxels[tuple(at.T)], voxels.reshape(-1))


@st.composite
def scanner_affines(draw: st.DrawFn) -> FloatArray:
    """Any orientation, with negated cosines, reversed order, gantry tilt and any spacing."""
    size = st.floats(0.2, 3.0)
    rotation = draw(
        st.one_of(
            st.sampled_from(
                [np.eye(3)[list(order)] for order in [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)]]
            ),
            st.integers(0, 10**6).map(lambda seed: Rotation.random(random_state=seed).as_matrix()),
        )
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * [draw(st.floats(0.3, 8.0)), draw(size), draw(size)]
    affine[:3, :3] *= [draw(st.sampled_from([1, -1])) for _ in range(3)]
    tilt = np.tan(np.radians(draw(st.sampled_from([0.0, 0.0, 20.0, -27.0]))))
    affine[:3, 0] += affine[:3, 1] / np.linalg.norm(affine[:3, 1]) * np.linalg.norm(affine[:3, 0]) * tilt
    affine[:3, 3] = [draw(st.floats(-900, 900)) for _ in range(3)]
    return affine


@given(affine=scanner_affines(), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_any_scanner_geometry_comes_back_voxel_by_voxel(affine: FloatArray, seed: int) -> None:
    voxels = numbered_voxels((4, 3, 5))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_ct_series(voxels, affine, Path(folder), seed=seed)
        random.Random(seed).shuffle(paths)
        volume = load_volume(paths)
    assert_same_place(volume, voxels, affine)
    # Whatever came in: slices ascend along row cosines x column cosines.
    slice_step, row_step, column_step = volume.affine[:3, :3].T
    assert np.cross(column_step, row_step) @ slice_step > 0
    assert [item.path.name for item in volume.instances] in (
        sorted(path.name for path in paths),
        sorted((path.name for path in paths), reverse=True),
    )


def test_a_volume_knows_its_identity_and_spacing(axial_series: list[Path]) -> None:
    volume = load_volume(axial_series)
    header = pydicom.dcmread(axial_series[0])
    assert volume.study_instance_uid == header.StudyInstanceUID
    assert volume.series_instance_uid == header.SeriesInstanceUID
    assert volume.frame_of_reference_uid == header.FrameOfReferenceUID
    assert volume.modality == "CT"
    np.testing.assert_allclose(volume.spacing_mm, [1.25, 0.7, 0.7])
    np.testing.assert_allclose(np.abs(np.linalg.det(volume.direction)), 1)
    assert volume.instances[0].sop_instance_uid == header.SOPInstanceUID
    assert volume.instances[0].frame == 1
    np.testing.assert_allclose(volume.affine, AXIAL, atol=1e-9)


def test_copies_of_an_instance_count_once(axial_series: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "again.dcm"
    shutil.copy(axial_series[3], copy)
    volume = load_volume([copy, *axial_series, axial_series[0]])
    np.testing.assert_array_equal(volume.voxels, numbered_voxels())
    assert len(volume.notes) == 1
    assert "IM0001.dcm" in volume.notes[0].text


def test_of_two_passes_in_one_series_the_longer_is_taken_whole(
    axial_series: list[Path], tmp_path: Path
) -> None:
    other = write_ct_series(numbered_voxels() + 1000, AXIAL, tmp_path / "other", seed=0)[2:5]
    series = pydicom.dcmread(axial_series[0]).SeriesInstanceUID
    for path in other:
        change(path, SeriesInstanceUID=series, AcquisitionNumber=0)
        path.rename(path.with_name(f"late-{path.name}"))
    volume = load_volume([*sorted((tmp_path / "other").glob("late*")), *axial_series])
    np.testing.assert_array_equal(volume.voxels, numbered_voxels())
    assert "late-IM0003.dcm" in volume.notes[0].text
    assert volume.notes[0].code == "partial"


def test_a_missing_slice_is_named_by_its_neighbours(axial_series: list[Path]) -> None:
    del axial_series[3]
    with pytest.raises(InconsistentGeometry) as caught:
        load_volume(axial_series)
    message = str(caught.value)
    assert "IM0003.dcm and IM0005.dcm are 2.5 mm apart" in message
    assert "1.25 mm" in message
    assert "Image Position (Patient) (0020,0032)" in message
    assert "max_gap_mm" in message


def test_missing_slices_within_the_allowed_gap_are_interpolated_and_noted(axial_series: list[Path]) -> None:
    del axial_series[3:5]
    with pytest.raises(InconsistentGeometry, match=r"3\.75 mm"):
        load_volume(axial_series, max_gap_mm=2.5)
    volume = load_volume(axial_series, max_gap_mm=3.8)
    assert volume.interpolated == {3, 4}
    np.testing.assert_allclose(volume.voxels, numbered_voxels(), atol=1)
    np.testing.assert_allclose(volume.affine, AXIAL, atol=1e-6)
    assert [item.path.name for item in volume.instances[2:6]] == [
        "IM0003.dcm",
        "IM0003.dcm",
        "IM0006.dcm",
        "IM0006.dcm",
    ]
    assert "interpolated" in volume.notes[0].text


def test_unequal_steps_are_refused_and_named(write_series: WriteSeries) -> None:
    paths = write_series(numbered_voxels())
    change(paths[4], ImagePositionPatient=[-50, -60, -300 + 4 * 1.25 + 0.5])
    with pytest.raises(InconsistentGeometry, match=r"IM0005.dcm .*equal steps"):
        load_volume(paths, max_gap_mm=100)


def test_positions_rounded_by_the_scanner_are_accepted(write_series: WriteSeries) -> None:
    affine = AXIAL.copy()
    affine[2, 0] = 0.625
    paths = write_series(numbered_voxels((40, 4, 4)), affine)
    for path in paths:
        position = pydicom.dcmread(path).ImagePositionPatient
        change(path, ImagePositionPatient=[round(float(value), 1) for value in position])
    volume = load_volume(paths)
    np.testing.assert_allclose(volume.affine[:3, 0], [0, 0, 0.625], atol=2e-3)


def test_a_slice_off_the_line_is_named(axial_series: list[Path]) -> None:
    change(axial_series[5], ImagePositionPatient=[-48, -60, -300 + 5 * 1.25])
    with pytest.raises(InconsistentGeometry, match=r"IM0006.dcm .* off the line"):
        load_volume(axial_series)


@pytest.mark.parametrize(
    ("values", "tag"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "(0020,0037)"),
        ({"PixelSpacing": [0.7, 0.8]}, "(0028,0030)"),
        ({"SeriesInstanceUID": "1.2.3"}, "(0020,000E)"),
        ({"FrameOfReferenceUID": "1.2.3"}, "(0020,0052)"),
        ({"Rows": 5, "PixelData": bytes(5 * 12 * 2)}, "(0028,0010)"),
    ],
)
def test_an_odd_image_out_is_named_with_its_tag(
    axial_series: list[Path], values: dict[str, object], tag: str
) -> None:
    change(axial_series[6], **values)
    with pytest.raises(InconsistentGeometry) as caught:
        load_volume(axial_series)
    assert "IM0007.dcm" in str(caught.value)
    assert tag in str(caught.value)


def test_a_mixed_series_splits_into_its_stacks(axial_series: list[Path], tmp_path: Path) -> None:
    header = pydicom.dcmread(axial_series[0])
    sagittal = np.array([[0.9, 0, 0, 0], [0, 0, 0.7, 0], [0, -0.7, 0, 0], [0, 0, 0, 1.0]])
    others = write_ct_series(numbered_voxels((3, 10, 12)), sagittal, tmp_path / "sagittal")
    far = write_ct_series(
        numbered_voxels((4, 10, 12)), AXIAL + np.eye(4)[2][:, None] * [0, 0, 0, 90], tmp_path / "far"
    )
    for path in [*others, *far]:
        change(path, SeriesInstanceUID=header.SeriesInstanceUID)
    found = split_stacks([*far, *others, *axial_series])
    assert [len(group) for group in found] == [8, 4, 3]
    volume = load_volume([item.path for item in found[0]])
    np.testing.assert_array_equal(volume.voxels, numbered_voxels())
    np.testing.assert_array_equal(load_volume([item.path for item in found[2]]).voxels.shape, (3, 10, 12))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", None),
        ("ImageOrientationPatient", None),
        ("PixelSpacing", None),
        ("PixelSpacing", [0, 0.7]),
        ("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
        ("ImageOrientationPatient", [2, 0, 0, 0, 1, 0]),
        ("SeriesInstanceUID", None),
        ("StudyInstanceUID", None),
        ("Rows", None),
        ("BitsAllocated", None),
        ("PixelData", None),
        ("RescaleType", "Z_EFF"),
        ("SamplesPerPixel", 3),
    ],
)
def test_a_missing_or_broken_tag_is_named_with_its_file(
    axial_series: list[Path], keyword: str, value: object
) -> None:
    change(axial_series[2], **{keyword: value})
    with pytest.raises(InputError) as caught:
        load_volume(axial_series)
    assert "IM0003.dcm" in str(caught.value)
    tag = pydicom.tag.Tag(keyword)
    assert f"({tag.group:04X},{tag.element:04X})" in str(caught.value)


def test_a_number_that_is_none_is_named(axial_series: list[Path]) -> None:
    content = axial_series[2].read_bytes()
    axial_series[2].write_bytes(content.replace(b"0.7\\0.7 ", b"0,7\\0,7 "))
    with pytest.raises(UnreadableInstance, match=r"IM0003.dcm: Pixel Spacing \(0028,0030\) is 0,7.0,7"):
        load_volume(axial_series)


def test_one_slice_is_no_volume(axial_series: list[Path]) -> None:
    with pytest.raises(NotAnalysable, match=r"one slice only \(IM0004.dcm\)") as caught:
        load_volume(axial_series[3:4])
    assert caught.value.code == "coverage"
    with pytest.raises(NotAnalysable, match="no image"):
        load_volume([])


def test_other_objects_are_refused_by_name(axial_series: list[Path], tmp_path: Path) -> None:
    change(axial_series[0], SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    with pytest.raises(NotAnalysable, match=r"IM0001.dcm: SOP Class UID \(0008,0016\)") as caught:
        load_volume(axial_series)
    assert caught.value.code == "modality-mismatch"
    note = tmp_path / "note.txt"
    note.write_text("not an image")
    with pytest.raises(UnreadableInstance, match=r"note\.txt: no DICOM"):
        load_volume([note])
    with pytest.raises(UnreadableInstance, match=r"gone\.dcm: the file cannot be opened"):
        load_volume([tmp_path / "gone.dcm"])


@given(length=st.integers(0, 1500), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_short_or_damaged_anywhere_is_an_input_error_or_no_error(length: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_ct_series(numbered_voxels((2, 4, 5)), AXIAL, Path(folder))
        content = paths[0].read_bytes()
        cut = min(length, len(content) - 1)
        paths[0].write_bytes(content[:cut])
        with pytest.raises(InputError):
            load_volume(paths)
        damaged = bytearray(content)
        for _ in range(3):
            damaged[random.Random(seed).randrange(132, len(damaged))] ^= 1 << (seed % 8)
        paths[0].write_bytes(damaged)
        try:
            load_volume(paths)
        except InputError as error:
            assert str(error)  # noqa: PT017 - a damaged byte may also be harmless


def test_files_without_preamble_and_meta_information_are_read(axial_series: list[Path]) -> None:
    for path in axial_series:
        dataset = pydicom.dcmread(path)
        bare = Dataset()
        bare.update(dataset)
        bare.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(load_volume(axial_series).voxels, numbered_voxels())


def test_implicit_little_endian_is_read(axial_series: list[Path]) -> None:
    for path in axial_series:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(load_volume(axial_series).voxels, numbered_voxels())


def test_legacy_converted_multi_frame_is_the_same_volume(axial_series: list[Path], tmp_path: Path) -> None:
    datasets = [pydicom.dcmread(path) for path in axial_series]
    random.Random(3).shuffle(datasets)
    enhanced = LegacyConvertedEnhancedCTImage(
        datasets,
        series_instance_uid="1.2.3.4",
        series_number=5,
        sop_instance_uid="1.2.3.4.5",
        instance_number=1,
    )
    path = tmp_path / "enhanced.dcm"
    enhanced.save_as(path)
    volume = load_volume([path])
    np.testing.assert_array_equal(volume.voxels, numbered_voxels())
    np.testing.assert_allclose(volume.affine, AXIAL, atol=1e-9)
    assert sorted(item.frame for item in volume.instances) == list(range(1, 9))
    assert {item.sop_instance_uid for item in volume.instances} == {"1.2.3.4.5"}


def copies_of_a_slice(template: Path, folder: Path, count: int) -> list[Path]:
    """Slices 1 mm apart that differ in position and identity only."""
    content, uid = template.read_bytes(), pydicom.dcmread(template).SOPInstanceUID.encode()
    folder.mkdir()
    paths = [folder / f"{k}.dcm" for k in range(count)]
    for k, path in enumerate(paths):
        own = content.replace(uid[-5:], f"{k:05d}".encode())
        path.write_bytes(own.replace(b"-50.0\\-60.0\\-300.0", f"-50.0\\-60.0\\{k:6.1f}".encode()))
    return paths


def test_three_thousand_slices_load(axial_series: list[Path], tmp_path: Path) -> None:
    volume = load_volume(copies_of_a_slice(axial_series[0], tmp_path / "many", 3000))
    assert volume.shape == (3000, 10, 12)
    np.testing.assert_allclose(volume.spacing_mm[0], 1.0)
    assert (volume.voxels == numbered_voxels()[0]).all()


def test_loading_needs_little_more_memory_than_the_voxels(write_series: WriteSeries, tmp_path: Path) -> None:
    template = write_series(np.zeros((1, 256, 256), np.int16))[0]
    paths = copies_of_a_slice(template, tmp_path / "many", 150)
    load_volume(paths[:10])
    tracemalloc.start()
    volume = load_volume(paths)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Headers are a few kilobytes per slice whatever its size, pixels are held once, and a few are in work.
    assert (
        volume.voxels.nbytes < peak < volume.voxels.nbytes + len(paths) * 8000 + 8 * volume.voxels[0].nbytes
    )
