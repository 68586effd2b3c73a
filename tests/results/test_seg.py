"""The segmentation, read back by others: the same voxels at the same place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest

from conformance import checks
from conformance.studies import GRIDS, SPINE
from dicom_ai_node.anatomy import Level, code, verse_label
from dicom_ai_node.colours import grade_colour, pcs_cielab
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.report import Algorithm, LabelMap
from dicom_ai_node.results.encode import encode

NAMES = [grid.name for grid in GRIDS]


def frames_in_space(dataset: Any) -> dict[tuple[int, int], Any]:
    """(segment, slice along the source's affine) -> (pixels, positions of all pixels)."""
    shared = dataset.SharedFunctionalGroupsSequence[0]
    spacing = [float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    rows, columns = np.indices((dataset.Rows, dataset.Columns))
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {}
    for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        where = (
            origin
            + rows[..., None] * spacing[0] * cosines[3:]
            + columns[..., None] * spacing[1] * cosines[:3]
        )
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found[segment, number] = pixels[number] > 0, where
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_marked_pixel_lies_in_its_vertebra_and_none_is_missing(encoded, name):
    study = encoded(name).study
    dataset = encoded(name).read("seg")
    levels = {item.SegmentNumber: Level(item.SegmentLabel) for item in dataset.SegmentSequence}
    marked = dict.fromkeys(levels, 0)
    for (segment, _), (pixels, where) in frames_in_space(dataset).items():
        block = next(block for block in SPINE if block.level is levels[segment])
        # A hair's breadth less, where a voxel's centre lies on the very face of the block.
        np.testing.assert_array_less(np.abs(where[pixels][:, 0] - block.centre[0]), block.half_width + 1e-4)
        np.testing.assert_array_less(np.abs(where[pixels][:, 1] - block.centre[1]), block.half_depth + 1e-4)
        heights = block.half_height(where[pixels][:, 1])
        np.testing.assert_array_less(np.abs(where[pixels][:, 2] - block.centre[2]), heights + 1e-4)
        assert pixels.any()
        marked[segment] += int(pixels.sum())
    assert marked == {segment: int(study.truth(level).sum()) for segment, level in levels.items()}


@pytest.mark.parametrize("name", NAMES)
def test_dcmqi_reads_the_same_masks_at_the_same_place(encoded, with_tools, name):
    assert with_tools(checks.same_masks, encoded(name).study, encoded(name).folder / "seg.dcm") == []


def test_a_mask_that_differs_by_one_voxel_is_noticed(encoded, with_tools):
    study = encoded("axial").study
    labels = study.analysis.label_map.labels.copy()
    labels[tuple(np.argwhere(labels == 20)[0])] = 0
    other = replace(study, analysis=replace(study.analysis, label_map=LabelMap(labels, None)))
    complaints = with_tools(checks.same_masks, other, encoded("axial").folder / "seg.dcm")
    assert complaints == ["L1: other voxels than in the label map"]


@pytest.mark.parametrize("name", ["axial", "oblique axial", "sagittal, row cosine negated"])
def test_highdicom_reads_the_same_volume(encoded, name):
    study = encoded(name).study
    read = highdicom.seg.segread(encoded(name).folder / "seg.dcm")
    volume = read.get_volume(combine_segments=True)
    labels = study.analysis.label_map.labels
    expected = np.zeros(labels.shape, np.uint8)
    for number in read.segment_numbers:
        level = Level(read.get_segment_description(number).segment_label)
        expected[labels == verse_label(level)] = number
    where = np.argwhere(volume.array > 0) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    to_index = np.linalg.inv(study.source.volume.affine)
    index = np.rint(where @ to_index[:3, :3].T + to_index[:3, 3]).astype(int)
    seen = np.zeros(labels.shape, np.uint8)
    seen[tuple(index.T)] = volume.array[volume.array > 0]
    np.testing.assert_array_equal(seen, expected)


@pytest.mark.parametrize("name", ["axial", "sagittal, enhanced multi-frame"])
def test_every_frame_names_the_image_that_lies_under_it(encoded, name):
    source, dataset = encoded(name).study.source, encoded(name).read("seg")
    by_reference = {
        (item.sop_instance_uid, item.frame): source.volume.affine[:3, 3] + index * source.volume.affine[:3, 0]
        for index, item in enumerate(source.volume.instances)
    }
    for groups in dataset.PerFrameFunctionalGroupsSequence:
        image = groups.DerivationImageSequence[0].SourceImageSequence[0]
        position = by_reference[image.ReferencedSOPInstanceUID, image.get("ReferencedFrameNumber", 1)]
        np.testing.assert_allclose(
            np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float), position, atol=1e-6
        )


def test_each_segment_says_level_colour_and_algorithm(encoded):
    study, dataset = encoded("axial").study, encoded("axial").read("seg")
    vertebrae = {vertebra.level: vertebra for vertebra in study.analysis.report}
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == [block.level for block in SPINE]
    for item in dataset.SegmentSequence:
        level = Level(item.SegmentLabel)
        region = item.AnatomicRegionSequence[0]
        assert (region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning) == code(level)
        colour = grade_colour(vertebrae[level].genant_grade)
        assert list(item.RecommendedDisplayCIELabValue) == pcs_cielab(colour)
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        assert "block-spine-segment 1.0" in item.SegmentAlgorithmName
    assert len({item.TrackingUID for item in dataset.SegmentSequence}) == len(SPINE)


def test_patient_and_study_are_the_source_s(encoded):
    dataset = encoded("axial").read("seg")
    assert dataset.PatientName == "Conformance^Spine"
    assert dataset.StudyInstanceUID == encoded("axial").study.source.volume.study_instance_uid
    assert dataset.FrameOfReferenceUID == encoded("axial").study.source.volume.frame_of_reference_uid
    assert (dataset.AccessionNumber, dataset.StudyDate) == ("A1", "20240131")


def test_a_slice_that_was_interpolated_is_no_source_image(encoded, tmp_path):
    study = encoded("axial").study
    missing = int(np.flatnonzero(study.analysis.label_map.labels.any(axis=(1, 2)))[5])
    volume = replace(study.source.volume, interpolated=frozenset({missing}))
    source = replace(study.source, volume=volume)
    encode(study.analysis, source, tmp_path, overlay=False)
    frames = pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence
    z = round(float(volume.affine[2, 3] + missing * volume.affine[2, 0]), 3)
    there = [f for f in frames if round(float(f.PlanePositionSequence[0].ImagePositionPatient[2]), 3) == z]
    assert there
    # Type 2 (PS3.3 table C.7.6.16-7): there, and empty.
    assert [len(frame.DerivationImageSequence) for frame in there] == [0] * len(there)
    assert sum(len(frame.DerivationImageSequence) for frame in frames) == len(frames) - len(there)


@pytest.mark.parametrize("wrong", ["shape", "affine", "label"])
def test_a_label_map_that_does_not_fit_is_refused(encoded, tmp_path: Path, wrong):
    study = encoded("axial").study
    labels, affine = study.analysis.label_map.labels, study.analysis.label_map.affine
    changed = {
        "shape": LabelMap(labels[1:], affine),
        "affine": LabelMap(labels, affine + np.eye(4)[0][:, None] * 0.5),
        "label": LabelMap(np.where(labels > 0, np.uint8(77), labels), affine),
    }[wrong]
    with pytest.raises(EncodingError, match={"shape": "shape", "affine": "affine", "label": "77"}[wrong]):
        encode(replace(study.analysis, label_map=changed), study.source, tmp_path, overlay=False)


def test_an_empty_label_map_makes_no_segmentation(encoded, tmp_path):
    study = encoded("axial").study
    empty = LabelMap(np.zeros_like(study.analysis.label_map.labels), study.analysis.label_map.affine)
    objects = encode(replace(study.analysis, label_map=empty), study.source, tmp_path, overlay=False)
    assert [item.kind for item in objects] == ["reformat", "pr", "sr"]


def test_the_algorithm_that_segmented_is_the_one_named(encoded, tmp_path):
    study = encoded("axial").study
    report = replace(
        study.analysis.report,
        algorithms=(
            Algorithm("ct-localise", "2", "aa", "2.25.1"),
            Algorithm("ct-segment", "3", "bb", "2.25.2"),
        ),
    )
    encode(replace(study.analysis, report=report), study.source, tmp_path, overlay=False)
    segment = highdicom.seg.segread(tmp_path / "seg.dcm").get_segment_description(1)
    assert segment.algorithm_identification.name == "ct-segment"
