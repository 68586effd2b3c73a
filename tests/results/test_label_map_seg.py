"""The segmentation as a label map, compressed or not, read by others: the same voxels at the same place."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from conformance import checks
from conformance.films import DRESSES, make_film_study
from conformance.studies import GRIDS, SPINE
from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.colours import grade_colour
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.imaging.nifti import write_label_map
from dicom_ai_node.presets import Compression, SegmentationForm
from dicom_ai_node.results.encode import ResultObject, encode
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.iod import problems
from dicom_ai_node.results.modules import Stamp
from dicom_ai_node.results.rendition import Rendition
from dicom_ai_node.results.seg import encode_segmentation
from dicom_ai_node.results.source import read_source
from dicom_ai_node.results.validate import dciodvfy_errors, tool_complaints, validate

NAMES = [grid.name for grid in GRIDS]
READ_BY_DCMQI = [
    "axial, both cosines negated",
    "axial, gantry tilted 15 degrees",
    "oblique axial",
    "sagittal, row cosine negated",
    "axial, enhanced multi-frame",
]


def write(
    study: Any, path: Path, form: SegmentationForm = "labelmap", compression: Compression = "none"
) -> Path:
    source = read_source(study.source)
    identity = ResultIdentity.of(
        source.study_instance_uid,
        (item.sop_instance_uid for item in source.everything),
        study.analysis.report.algorithms,
    )
    stamp = Stamp.of(source.header)
    dataset = encode_segmentation(study.analysis, source, identity, stamp, form=form, compression=compression)
    assert dataset is not None
    dataset.save_as(path, enforce_file_format=True)
    return path


def body_numbers(dataset: Any) -> dict[int, Level]:
    return {
        item.SegmentNumber: Level(item.SegmentLabel)
        for item in dataset.SegmentSequence
        if item.SegmentNumber != dataset.PixelPaddingValue
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_value_lies_in_its_vertebra_and_none_is_missing(encoded, tmp_path, name):
    study = encoded(name).study
    dataset = pydicom.dcmread(write(study, tmp_path / "seg.dcm"))
    shared = dataset.SharedFunctionalGroupsSequence[0]
    spacing = [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    rows, columns = np.indices((dataset.Rows, dataset.Columns))
    levels = body_numbers(dataset)
    marked = dict.fromkeys(levels, 0)
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    for plane, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        where = (
            origin
            + rows[..., None] * spacing[0] * cosines[3:]
            + columns[..., None] * spacing[1] * cosines[:3]
        )
        for number, level in levels.items():
            inside = where[plane == number]
            block = next(block for block in SPINE if block.level is level)
            limits = np.column_stack(
                [
                    np.full(len(inside), block.half_width),
                    np.full(len(inside), block.half_depth),
                    block.half_height(inside[:, 1]),
                ]
            )
            np.testing.assert_array_less(np.abs(inside - np.array(block.centre)), limits + 1e-4)
            marked[number] += len(inside)
    assert marked == {number: int(study.truth(level).sum()) for number, level in levels.items()}


@pytest.mark.parametrize("name", READ_BY_DCMQI)
def test_dcmqi_reads_the_same_masks_at_the_same_place(encoded, with_tools, tmp_path, name):
    study = encoded(name).study
    assert with_tools(checks.same_masks, study, write(study, tmp_path / "seg.dcm")) == []


@pytest.mark.parametrize("compression", ["none", "rle", "deflated"])
def test_highdicom_reads_the_same_volume_whatever_the_compression(encoded, tmp_path, compression):
    study = encoded("oblique axial").study
    path = write(study, tmp_path / "seg.dcm", compression=compression)
    read = highdicom.seg.segread(path)
    volume = read.get_volume(combine_segments=True)
    labels = study.analysis.label_map.labels
    expected = np.zeros(labels.shape, np.uint8)
    for number, level in body_numbers(read).items():
        expected[labels == verse_label(level)] = number
    where = np.argwhere(volume.array > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    to_index = np.linalg.inv(study.source.volume.affine)
    index = np.rint(where @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
    seen = np.zeros(labels.shape, np.uint8)
    seen[tuple(index.T)] = volume.array[volume.array > 0]
    np.testing.assert_array_equal(seen, expected)


def test_both_forms_number_the_vertebrae_alike_and_are_two_objects(encoded, tmp_path):
    study = encoded("axial").study
    planes = pydicom.dcmread(write(study, tmp_path / "b.dcm", "binary"))
    labels = pydicom.dcmread(write(study, tmp_path / "l.dcm"))
    assert {i.SegmentNumber: Level(i.SegmentLabel) for i in planes.SegmentSequence} == body_numbers(labels)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID"):
        assert planes[keyword].value != labels[keyword].value
    assert [i.get("TrackingUID") for i in labels.SegmentSequence][1:] == [
        i.TrackingUID for i in planes.SegmentSequence
    ]


@pytest.mark.parametrize("form", ["binary", "labelmap"])
def test_compression_changes_the_transfer_syntax_and_nothing_else(encoded, tmp_path, form):
    study = encoded("axial, odd size, unequal spacing").study
    plain = pydicom.dcmread(write(study, tmp_path / "plain.dcm", form))
    packed: dict[Compression, Any] = {"deflated": DeflatedExplicitVRLittleEndian}
    if form == "labelmap":
        packed["rle"] = RLELossless
    for compression, syntax in packed.items():
        path = write(study, tmp_path / f"{compression}.dcm", form, compression)
        dataset = pydicom.dcmread(path)
        assert dataset.file_meta.TransferSyntaxUID == syntax
        assert path.stat().st_size < 0.4 * (tmp_path / "plain.dcm").stat().st_size
        np.testing.assert_array_equal(dataset.pixel_array, plain.pixel_array)
        del dataset.PixelData
        assert dataset == pydicom.dcmread(tmp_path / "plain.dcm", stop_before_pixels=True)
        assert path.read_bytes() == write(study, tmp_path / "again.dcm", form, compression).read_bytes()


def test_the_palette_shows_the_colour_of_the_grade(encoded, tmp_path):
    study = encoded("axial").study
    dataset = pydicom.dcmread(write(study, tmp_path / "seg.dcm"))
    shown = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    grades = {vertebra.level: vertebra.genant_grade for vertebra in study.analysis.report}
    assert tuple(shown[dataset.pixel_array == 0][0]) == (0, 0, 0)
    for number, level in body_numbers(dataset).items():
        assert set(map(tuple, shown[dataset.pixel_array == number])) == {grade_colour(grades[level])}
    read = highdicom.seg.segread(tmp_path / "seg.dcm")
    colours = read.get_volume(combine_segments=True, apply_palette_color_lut=True, apply_icc_profile=True)
    # The profile is sRGB, as the palette is: nothing moves by more than rounding.
    body = read.get_volume(combine_segments=True).array == 3
    assert np.abs(colours.array[body].astype(int) - np.array(grade_colour(2))).max() <= 2


@pytest.fixture(scope="module")
def film_results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, list[ResultObject]]:
    folder = tmp_path_factory.mktemp("film")
    film = make_film_study(DRESSES[0], folder)
    rendition = Rendition(segmentation="labelmap", compression="rle")
    return film, encode(film.analysis, film.source, folder / "r", renditions=[rendition], overlay=False)


def test_a_film_s_label_map_is_one_image_on_its_own_pixels(film_results):
    film, objects = film_results
    dataset = pydicom.dcmread(next(item.path for item in objects if item.kind == "seg"))
    expected = np.zeros_like(film.analysis.label_map.labels[0])
    for number, level in body_numbers(dataset).items():
        expected[film.analysis.label_map.labels[0] == verse_label(level)] = number
    np.testing.assert_array_equal(dataset.pixel_array.reshape(expected.shape), expected)
    assert "FrameOfReferenceUID" not in dataset
    validate(objects)


def test_the_report_of_a_film_points_at_the_segments_of_its_label_map(film_results):
    _, objects = film_results
    segmentation = pydicom.dcmread(next(item.path for item in objects if item.kind == "seg"))
    report = pydicom.dcmread(next(item.path for item in objects if item.kind == "sr"))
    named = [
        item.get("ReferencedSegmentNumber")
        for item in _references(report)
        if item.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
    ]
    assert [number for number in named if number] == sorted(body_numbers(segmentation))


def _references(item: Any) -> list[Any]:
    found = [*item.get("ReferencedSOPSequence", ())]
    for child in item.get("ContentSequence", ()):
        found += _references(child)
    return found


def test_every_report_points_at_the_segmentation_that_goes_with_it(encoded, tmp_path):
    study = encoded("sagittal").study
    forms = [
        Rendition(),
        Rendition(segmentation="labelmap", compression="deflated"),
        Rendition(kinds=("sr", "pr")),
    ]
    objects = encode(study.analysis, study.source, tmp_path, renditions=forms, overlay=False)
    validate(objects)
    by_variant = {(item.kind, item.variant): pydicom.dcmread(item.path) for item in objects}
    uids = {dataset.SOPInstanceUID for dataset in by_variant.values()}
    assert len(uids) == len(objects)
    segmentations = [by_variant["seg", "binary-none"], by_variant["seg", "labelmap-deflated"]]
    for variant, wanted in {
        "binary-closed": {by_variant["seg", "binary-none"].SOPInstanceUID},
        "labelmap-closed": {by_variant["seg", "labelmap-deflated"].SOPInstanceUID},
        "alone-closed": set(),
    }.items():
        pointed = {item.ReferencedSOPInstanceUID for item in _references(by_variant["sr", variant])}
        assert pointed & {item.SOPInstanceUID for item in segmentations} == wanted
    # What comes first keeps the plain name, whatever it is.
    assert {item.path.name for item in objects} >= {"seg.dcm", "sr.dcm", "seg-labelmap-deflated.dcm"}


def test_what_old_validators_say_of_a_label_map_they_say_of_everyone_s(encoded, tool, tmp_path):
    """The two lines that are passed over are about the SOP class: dcmqi's own label map gets them too."""
    study = encoded("axial").study
    ours = write(study, tmp_path / "ours.dcm")
    dcmqi = _by_dcmqi(study, tool, tmp_path)
    said = {}
    for path in (ours, dcmqi):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        said[path] = {line.split(" - have")[0] for line in output.splitlines() if line.startswith("Error")}
        assert dciodvfy_errors(output, label_map=True) == []
        assert dciodvfy_errors(output)
    assert said[ours] <= said[dcmqi] | {"Error - SegmentNumber not monotonically increasing from one by one"}
    assert "Error - Information Object Not found" in said[ours] & said[dcmqi]


def _by_dcmqi(study: Any, tool: Callable[..., str], folder: Path) -> Path:
    from dicom_ai_node.commands.bench_encode import segment_words

    labels = study.analysis.label_map
    write_label_map(folder / "labels.nii", labels.labels, labels.affine)
    words = segment_words(np.unique(labels.labels).tolist()[1:])
    (folder / "words.json").write_text(json.dumps(words))
    tool(
        "itkimage2segimage",
        *("--inputDICOMDirectory", study.source.paths[0].parent),
        *("--inputImageList", folder / "labels.nii"),
        *("--inputMetadata", folder / "words.json"),
        *("--outputDICOM", folder / "dcmqi.dcm"),
        *("--segmentationType", "labelmap", "--skip", "1"),
    )
    return folder / "dcmqi.dcm"


def test_a_deflated_object_is_validated_as_what_it_holds(encoded, tmp_path):
    path = write(encoded("axial").study, tmp_path / "seg.dcm", "binary", "deflated")
    assert list(tool_complaints(path, "seg")) == []
    dataset = pydicom.dcmread(path)
    del dataset.SegmentSequence[0].SegmentLabel
    dataset.save_as(path)
    assert any("SegmentLabel" in line for line in tool_complaints(path, "seg"))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda d: d.SegmentSequence.pop(1), "values of pixels"),
        (lambda d: d.SegmentSequence.pop(0), "pixel padding value"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "bytes"),
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), "Number of Frames"),
        (lambda d: delattr(d, "ICCProfile"), "ICC"),
    ],
)
def test_a_spoilt_label_map_does_not_leave(encoded, tmp_path, spoil, word):
    dataset = pydicom.dcmread(write(encoded("axial").study, tmp_path / "seg.dcm"))
    assert problems(dataset) == []
    spoil(dataset)
    assert any(word in words for words in problems(dataset))


def test_a_label_map_on_another_grid_is_refused(encoded, tmp_path):
    study = encoded("axial").study
    label_map = study.analysis.label_map
    moved = replace(label_map, labels=label_map.labels[:-1])
    with pytest.raises(EncodingError, match="shape"):
        write(replace(study, analysis=replace(study.analysis, label_map=moved)), tmp_path / "seg.dcm")
