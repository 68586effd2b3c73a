"""What is not valid does not leave, and the message says what and where, without saying who."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pydicom
import pytest

from conformance.studies import GRIDS
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.results import validate as validation
from dicom_ai_node.results.validate import validate


@dataclass(frozen=True)
class Tampered:
    kind: str
    path: Path
    sop_class_uid: str
    sop_instance_uid: str


def tampered(encoded, tmp_path, name, change) -> list[Tampered]:
    """One object of the axial study with a change made to it, and what it refers to."""
    objects = []
    for item in encoded("axial").objects:
        path = item.path
        if path.stem == name:
            path = tmp_path / item.path.name
            with reading_quietly():
                dataset = pydicom.dcmread(item.path)
                change(dataset)
                dataset.save_as(path)
        if path.stem == name or (name == "sr" and item.kind == "seg"):
            objects.append(Tampered(item.kind, path, item.sop_class_uid, item.sop_instance_uid))
    return objects


@pytest.mark.parametrize("name", [grid.name for grid in GRIDS])
def test_what_encode_writes_is_valid_in_every_geometry(encoded, name):
    validate(encoded(name).objects)


def _drop_segment(dataset):
    dataset.SegmentSequence = dataset.SegmentSequence[:-1]


def _drop_evidence(dataset):
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence = series[:1]


def _drop_unit(dataset):
    for container in dataset.ContentSequence:
        if container.ConceptNameCodeSequence[0].CodeValue == "126010":
            numbers = [
                item for item in container.ContentSequence[0].ContentSequence if item.ValueType == "NUM"
            ]
            numbers[0].MeasuredValueSequence[0].MeasurementUnitsCodeSequence = []


def _open_box(dataset):
    for container in dataset.ContentSequence:
        if container.ConceptNameCodeSequence[0].CodeValue == "126010":
            for group in container.ContentSequence:
                for item in group.ContentSequence:
                    if item.ValueType == "SCOORD":
                        item.GraphicData = [*item.GraphicData[:-2], 0.0, 0.0]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("seg", lambda d: delattr(d, "SegmentSequence"), "SegmentSequence .type 1. is missing"),
        ("seg", lambda d: setattr(d, "ContentLabel", ""), "ContentLabel .type 1. is empty"),
        ("seg", lambda d: setattr(d, "PixelData", d.PixelData[:-2]), "Pixel Data has"),
        ("seg", _drop_segment, "do not belong together"),
        (
            "seg",
            lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"),
            "PixelMeasures",
        ),
        ("seg", lambda d: setattr(d, "SOPInstanceUID", "1.2.3"), "another object"),
        ("sr", _drop_evidence, "not in the evidence"),
        ("sr", _drop_unit, "no unit|MeasurementUnitsCodeSequence"),
        ("sr", _open_box, "neither closed"),
        (
            "sr",
            lambda d: delattr(d, "CodingSchemeIdentificationSequence"),
            "99DAINODE is used but not declared",
        ),
        ("sr", lambda d: setattr(d, "ContentSequence", d.ContentSequence[2:]), "Language"),
        ("sr", lambda d: delattr(d, "VerificationFlag"), "VerificationFlag"),
        ("pr-1", lambda d: setattr(d, "GraphicLayerSequence", d.GraphicLayerSequence[1:]), "not declared"),
        ("pr-1", lambda d: delattr(d, "PresentationLUTShape"), "dciodvfy|dcmpschk"),
        ("reformat", lambda d: delattr(d, "ImageOrientationPatient"), "ImageOrientationPatient .type 1."),
        ("sc-1", lambda d: delattr(d, "ConversionType"), "ConversionType .type 1."),
    ],
)
def test_a_fault_keeps_the_results_back_and_is_named(encoded, tmp_path, name, change, words):
    with pytest.raises(EncodingError, match=words):
        validate(tampered(encoded, tmp_path, name, change))


def test_a_segment_that_is_not_there_is_noticed(encoded):
    objects = [item for item in encoded("axial").objects if item.kind != "seg"]
    with pytest.raises(EncodingError, match="segment 1 of an object that is not there"):
        validate(objects)


def test_a_file_that_was_cut_short_is_noticed(encoded, tmp_path):
    items = list(encoded("axial").objects)
    cut = tmp_path / "sr.dcm"
    report = next(item for item in items if item.kind == "sr")
    cut.write_bytes(report.path.read_bytes()[:5000])
    items[items.index(report)] = replace(report, path=cut)
    with pytest.raises(EncodingError, match=r"sr\.dcm"):
        validate(items)


def test_the_message_does_not_say_who_the_patient_is(encoded, tmp_path):
    def spoil(dataset):
        dataset.PatientComments = "Secret\tName"
        dataset.PatientBirthDate = "1950131X"
        dataset.VerificationFlag = "SOMEHOW"

    with pytest.raises(EncodingError) as caught:
        validate(tampered(encoded, tmp_path, "sr", spoil))
    assert "Secret" not in str(caught.value)
    assert "1950131X" not in str(caught.value)
    assert "Verification" in str(caught.value)


def test_complaints_about_the_source_s_own_values_are_no_complaints_about_us():
    dciodvfy = (
        "Error - Value invalid for this VR - (0x0010,0x0020) LO Patient ID  LO [1] = <Secret> - Length\n"
        "Error - Dicom dataset contains invalid data values for Value Representations\n"
        "Segmentation\n"
        "Warning - Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID\n"
    )
    assert validation.dciodvfy_errors(dciodvfy) == []
    ours = "Error - Value invalid for this VR - (0x0062,0x0006) ST Segment Description  ST [1] = <x> - bad\n"
    assert len(validation.dciodvfy_errors(dciodvfy + ours)) == 2
    dcmpschk = (
        "W: Testing: pr-1.dcm\n"
        "E: Error: Attribute value does not conform to data type definition.\n"
        "E:    Affected attribute: PatientName (0010,0010), Type PN\n"
        "E:    Attribute value   : [Secret^Name]\n"
        "E: \n"
        "{}"
        "W: patientName absent or empty in presentation state\n"
        "W: Test failed - one or more errors.\n"
    )
    assert validation.dcmpschk_errors(dcmpschk.format("")) == []
    ours = "W: Error: Value Length too large.\nW:    Affected attribute: \nW: (0070,0080) CS [X]\nW: \n"
    complaints = validation.dcmpschk_errors(dcmpschk.format(ours))
    assert len(complaints) == 1
    assert "(0070,0080)" in complaints[0]
    assert validation.dcmpschk_errors("E: cannot open file\n") == ["cannot open file"]
    assert validation.dcmpschk_errors("") == ["no answer"]


def test_a_validator_that_hangs_is_a_fault_and_no_wait_for_ever(encoded, tmp_path, monkeypatch):
    slow = tmp_path / "dciodvfy"
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(validation, "TOOL_TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(validation, "TOOL_SECONDS_PER_MB", 0.0)
    with pytest.raises(EncodingError, match="no answer within"):
        validate(encoded("axial").objects[:1])


def test_a_large_object_may_take_a_validator_longer(tmp_path, monkeypatch):
    slow = tmp_path / "dciodvfy"
    slow.write_text("#!/bin/sh\nsleep 1\n")
    slow.chmod(0o755)
    monkeypatch.setattr(validation, "TOOL_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(validation, "_about_label_map", lambda _path: False)
    monkeypatch.setattr(validation.shutil, "which", lambda name: str(slow) if name == "dciodvfy" else None)
    monkeypatch.setattr(validation, "_inflated", nullcontext)
    sizes = {"small.dcm": 1_000, "large.dcm": 6_000_000}
    complaints = {}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
        complaints[name] = list(validation.tool_complaints(tmp_path / name, "seg"))
    assert not complaints["large.dcm"]
    assert "no answer within" in complaints["small.dcm"][0]


def test_without_the_tools_the_own_checks_remain(encoded, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    validate(encoded("axial").objects)
    with pytest.raises(EncodingError, match="ContentLabel"):
        validate(tampered(encoded, tmp_path, "seg", lambda dataset: delattr(dataset, "ContentLabel")))
