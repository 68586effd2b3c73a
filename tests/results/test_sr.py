"""The structured report, read back by DCMTK, dcmqi and highdicom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.sr import ValueTypeValues

from conformance import checks
from conformance.studies import SPINE, UNJUDGED
from dicom_ai_node.anatomy import code
from dicom_ai_node.report import Analysis, Reason, SpineReport
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.source import SourceSeries


def walk(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def texts(dataset: pydicom.Dataset, meaning: str) -> list[str]:
    return [
        item.TextValue
        for item in walk(dataset)
        if item.ValueType == "TEXT" and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


def codes_of(dataset: pydicom.Dataset, meaning: str) -> list[str]:
    return [
        item.ConceptCodeSequence[0].CodeMeaning
        for item in walk(dataset)
        if item.ValueType == "CODE" and item.ConceptNameCodeSequence[0].CodeMeaning == meaning
    ]


@pytest.mark.parametrize("name", ["axial", "sagittal", "axial, enhanced multi-frame"])
def test_dcmqi_reads_the_same_numbers_codes_and_segments(encoded, with_tools, name):
    assert with_tools(checks.same_numbers, encoded(name).study, encoded(name).folder / "sr.dcm") == []


def test_a_number_that_differs_is_noticed(encoded, with_tools):
    study = encoded("axial").study
    wedge = study.analysis.report.vertebrae[2]
    changed = replace(wedge, heights_mm=replace(wedge.heights_mm, anterior=18.02))
    vertebrae = tuple(changed if item is wedge else item for item in study.analysis.report)
    report = replace(study.analysis.report, vertebrae=vertebrae)
    other = replace(study, analysis=replace(study.analysis, report=report))
    assert len(with_tools(checks.same_numbers, other, encoded("axial").folder / "sr.dcm")) == 1


@pytest.mark.parametrize("name", ["axial", "sagittal, row cosine negated"])
def test_highdicom_reads_the_same_numbers_and_finds_segment_and_region(encoded, name):
    content = highdicom.sr.srread(encoded(name).folder / "sr.dcm").content
    segmentation = encoded(name).read("seg")
    vertebrae = encoded(name).study.analysis.report.vertebrae
    volumetric = content.get_volumetric_roi_measurement_groups()
    planar = content.get_planar_roi_measurement_groups()
    on_images = [item for item in planar if item.roi.value_type == ValueTypeValues.SCOORD]
    in_space = [item for item in planar if item.roi.value_type == ValueTypeValues.SCOORD3D]
    assert len(volumetric) == len(on_images) == len(in_space) == len(vertebrae)
    for vertebra, whole, region, box in zip(vertebrae, volumetric, on_images, in_space, strict=True):
        assert whole.tracking_identifier == region.tracking_identifier == vertebra.level
        assert whole.tracking_uid == region.tracking_uid == box.tracking_uid
        assert whole.finding_sites[0].value.value == code(vertebra.level).value
        read = {item.name.meaning: (item.value, item.unit.value) for item in whole.get_measurements()}
        for quantity, (value, unit) in checks.expected_numbers(vertebra).items():
            assert read[quantity] == (pytest.approx(value, abs=0.006), unit)
        assert whole.referenced_segment.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        corners = region.roi.value
        assert corners.shape == (5, 2)
        np.testing.assert_array_equal(corners[0], corners[-1])
        corners = box.roi.value
        assert corners.shape == (5, 3)
        np.testing.assert_array_equal(corners[0], corners[-1])
        # The body's centre lies in the box, and not beside its plane by more than the spine is curved.
        assert (corners.min(axis=0)[1:] < vertebra.center_mm[1:]).all()
        assert (corners.max(axis=0)[1:] > vertebra.center_mm[1:]).all()
        assert abs(corners[:, 0].mean() - vertebra.center_mm[0]) < 10


def test_dsrdump_prints_the_whole_report(encoded, tool):
    printed = tool("dsrdump", "+Pl", encoded("axial").folder / "sr.dcm")
    sentence = (
        "L1: possible moderate wedge fracture, 31 % loss of height, Genant grade 2, fracture probability"
    )
    assert f"{sentence} 63 %." in printed
    assert 'NUM:(,,"Anterior vertebral body height")="18.00" (mm,UCUM,"mm")' in printed
    assert "RESEARCH USE ONLY" in printed


def test_the_impression_comes_before_images_and_numbers(encoded):
    dataset = encoded("axial").read("sr")
    headings = [
        item.ConceptNameCodeSequence[0].CodeMeaning
        for item in dataset.ContentSequence
        if item.ValueType == "CONTAINER"
    ]
    assert headings == ["Impressions", "Image Library", "Imaging Measurements", "Qualitative Evaluations"]
    sentences = texts(dataset, "Impression")
    assert sentences[0].startswith("T12: severe crush fracture, 44 % loss of height")
    assert "No fracture found in T11, L2, L4." in sentences
    assert "L5 could not be judged: The lower endplate lies outside the field of view." in sentences
    assert sentences[-1].startswith("RESEARCH USE ONLY.")


def test_grade_deformity_and_severity_are_coded(encoded):
    for group, block in zip(_groups(encoded("axial").read("sr"), "1411"), SPINE, strict=True):
        if block.level is UNJUDGED:
            assert codes_of(group, "Analysability") == ["Not analysable"]
            assert codes_of(group, "Reason or limitation") == ["Too little of the spine in the field of view"]
            assert codes_of(group, "Genant semiquantitative grade") == []
            continue
        assert codes_of(group, "Genant semiquantitative grade")[0].startswith(f"Genant grade {block.grade} ")
        deformity = {"none": "No deformity"}.get(block.deformity, f"{block.deformity.title()} deformity")
        assert codes_of(group, "Vertebral deformity type") == [deformity]
        severity = {0: [], 1: ["Mild"], 2: ["Moderate"], 3: ["Severe"]}[block.grade]
        assert codes_of(group, "Severity") == severity
        assert codes_of(group, "Finding") == [
            "Compression fracture of vertebral column" if block.grade else "Normal"
        ]


def test_everything_that_is_referred_to_is_in_the_evidence(encoded):
    dataset = encoded("axial").read("sr")
    study = dataset.CurrentRequestedProcedureEvidenceSequence[0]
    evidence = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    used = {
        item.ReferencedSOPInstanceUID
        for child in walk(dataset)
        for item in child.get("ReferencedSOPSequence", ())
    }
    sources = {item.sop_instance_uid for item in encoded("axial").study.source.volume.instances}
    others = {encoded("axial").read(name).SOPInstanceUID for name in ("seg", "reformat")}
    assert used == evidence == sources | others


def test_every_algorithm_contributes_with_its_hash_and_device(encoded):
    dataset = encoded("axial").read("sr")
    algorithms = encoded("axial").study.analysis.report.algorithms
    contributors = dataset.ContributingEquipmentSequence
    assert [item.DeviceUID for item in contributors] == [item.device_uid for item in algorithms]
    for item, algorithm in zip(contributors, algorithms, strict=True):
        assert item.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
        assert item.Manufacturer == "dicom-ai-node project"
        assert (item.ManufacturerModelName, item.SoftwareVersions) == (algorithm.name, algorithm.version)
        assert algorithm.bundle_sha256 in item.ContributionDescription
        assert any(algorithm.bundle_sha256 in words for words in texts(dataset, "Comment"))


def test_limitations_thresholds_and_other_levels_are_said(encoded):
    dataset = encoded("axial").read("sr")
    comments = texts(dataset, "Comment")
    assert "Genant: loss from 20 % grade 1, over 25 % grade 2, over 40 % grade 3." in comments
    assert "The level L1 could also be T12 (3 %)." in comments
    summary = codes_of(dataset, "CAD Processing and Findings Summary")
    assert summary == ["Not all algorithms succeeded; with findings"]


def test_the_procedure_is_the_one_that_the_images_name(encoded, tmp_path):
    assert codes_of(encoded("axial").read("sr"), "Procedure reported") == ["CT unspecified body region"]
    study = encoded("axial").study
    first = pydicom.dcmread(study.source.volume.instances[0].path)
    procedure = pydicom.Dataset()
    procedure.CodeValue, procedure.CodingSchemeDesignator = "24627-2", "LN"
    procedure.CodeMeaning = "CT Chest"
    first.ProcedureCodeSequence = [procedure]
    first.save_as(tmp_path / "first.dcm")
    instances = study.source.volume.instances
    volume = replace(
        study.source.volume, instances=(replace(instances[0], path=tmp_path / "first.dcm"), *instances[1:])
    )
    encode(study.analysis, SourceSeries(study.source.paths, volume), tmp_path / "results", overlay=False)
    read = pydicom.dcmread(tmp_path / "results" / "sr.dcm")
    assert codes_of(read, "Procedure reported") == ["CT Chest"]


def test_what_could_not_be_analysed_comes_back_as_a_report_with_a_coded_reason(encoded, tool, tmp_path):
    study = encoded("axial").study
    report = SpineReport(
        "not-analysable",
        study.analysis.report.source,
        reasons=(Reason("spacing", "Slices 40 and 41 are 7.5 mm apart."),),
    )
    objects = encode(Analysis(report), SourceSeries(study.source.paths), tmp_path)
    assert [item.kind for item in objects] == ["sr"]
    dataset = pydicom.dcmread(tmp_path / "sr.dcm")
    assert codes_of(dataset, "Analysability") == ["Not analysable"]
    assert codes_of(dataset, "Reason or limitation") == ["Slices too thick or too few"]
    assert codes_of(dataset, "CAD Processing and Findings Summary") == [
        "No algorithms succeeded; without findings"
    ]
    assert texts(dataset, "Impression")[0].endswith("Slices 40 and 41 are 7.5 mm apart.")
    assert "could not be analysed" in tool("dsrdump", "+Pl", tmp_path / "sr.dcm")
    assert dataset.ContributingEquipmentSequence[0].ManufacturerModelName == "dicom-ai-node"


def test_without_a_label_map_the_planar_group_holds_the_numbers(encoded, tmp_path):
    study = encoded("axial").study
    encode(Analysis(study.analysis.report), study.source, tmp_path, overlay=False)
    content = highdicom.sr.srread(tmp_path / "sr.dcm").content
    planar = content.get_planar_roi_measurement_groups()
    groups = [item for item in planar if item.roi.value_type == ValueTypeValues.SCOORD]
    assert [group.tracking_identifier for group in groups] == [block.level for block in SPINE]
    assert not content.get_volumetric_roi_measurement_groups()
    wedge = groups[2]
    assert {item.name.meaning: item.value for item in wedge.get_measurements()}[
        "Anterior vertebral body height"
    ] == 18.0


def test_tracking_uids_stay_the_same_when_a_study_is_analysed_again(encoded, tmp_path):
    study = encoded("axial").study
    newer = replace(
        study.analysis.report,
        algorithms=tuple(replace(item, bundle_sha256="f" * 64) for item in study.analysis.report.algorithms),
    )
    encode(replace(study.analysis, report=newer), study.source, tmp_path, overlay=False)
    before, after = encoded("axial").read("sr"), pydicom.dcmread(tmp_path / "sr.dcm")
    uids = [
        [item.UID for item in walk(dataset) if item.ValueType == "UIDREF" and "Tracking" in _meaning(item)]
        for dataset in (before, after)
    ]
    assert uids[0] == uids[1]
    assert before.SOPInstanceUID != after.SOPInstanceUID


def _meaning(item: pydicom.Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning)


def _groups(dataset: pydicom.Dataset, template: str) -> list[pydicom.Dataset]:
    return [
        item
        for item in walk(dataset)
        if "ContentTemplateSequence" in item
        and item.ContentTemplateSequence[0].TemplateIdentifier == template
    ]
