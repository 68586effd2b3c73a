"""The structure of a report: each rule of its templates, broken once, is noticed and named."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date

import numpy as np
import pydicom
import pytest
from pydicom.config import IGNORE
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from conformance import checks
from dicom_ai_node.anatomy import Level
from dicom_ai_node.prior import PriorReport, PriorVertebra
from dicom_ai_node.report import Analysis
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.rendition import Rendition
from dicom_ai_node.results.template import concept, content_items, structure_faults, template

SMALL = "sagittal"
"""A study of few slices, drawn on as it is."""


@pytest.fixture(scope="module")
def report(encoded) -> pydicom.FileDataset:
    return encoded(SMALL).read("sr")


def first(report: Dataset, name: str) -> Dataset:
    """The first content item of a concept."""
    return next(item for item in content_items(report) if concept(item) == name)


def group(report: Dataset, tid: str, number: int = 0) -> Dataset:
    return [item for item in content_items(report) if template(item) == tid][number]


def inside(item: Dataset, name: str) -> Dataset:
    return next(child for child in item.ContentSequence if concept(child) == name)


def without(item: Dataset, name: str) -> None:
    item.ContentSequence = [child for child in item.ContentSequence if concept(child) != name]


def twice(item: Dataset, name: str) -> None:
    item.ContentSequence = [*item.ContentSequence, copy.deepcopy(inside(item, name))]


def in_space(report: Dataset) -> Dataset:
    return next(item for item in content_items(report) if item.ValueType == "SCOORD3D")


def on_image(report: Dataset) -> Dataset:
    return next(item for item in content_items(report) if item.ValueType == "SCOORD")


def library(report: Dataset) -> Dataset:
    return inside(first(report, "111028"), "126200")


def evidence(report: Dataset) -> Dataset:
    return report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]


def reference(item: Dataset) -> Dataset:
    return item.ReferencedSOPSequence[0]


def relate(item: Dataset, relationship: str) -> None:
    item.RelationshipType = relationship


BROKEN: list[tuple[str, Callable[[Dataset], None]]] = [
    ("Language .121049. is missing", lambda r: without(r, "121049")),
    ("Language .121049. is there 2 times", lambda r: twice(r, "121049")),
    ("Language .121049. is related by CONTAINS", lambda r: relate(inside(r, "121049"), "CONTAINS")),
    ("Observer Type .121005. is missing", lambda r: without(r, "121005")),
    ("Device Observer UID .121012. is missing", lambda r: without(r, "121012")),
    ("Procedure reported .121058. is missing", lambda r: without(r, "121058")),
    ("Impressions .121072. is missing", lambda r: without(r, "121072")),
    ("Impression .121073. is missing", lambda r: without(inside(r, "121072"), "121073")),
    ("Image Library .111028. is missing", lambda r: without(r, "111028")),
    ("Qualitative Evaluations .C0034375. is missing", lambda r: without(r, "C0034375")),
    ("Summary .111017. is missing", lambda r: without(inside(r, "C0034375"), "111017")),
    ("no TID 1500", lambda r: delattr(r, "ContentTemplateSequence")),
    ("has no content", lambda r: delattr(r, "ContentSequence")),
    ("Target Region .123014. is missing", lambda r: without(library(r), "123014")),
    ("Modality .121139. is related by", lambda r: relate(inside(library(r), "121139"), "CONTAINS")),
    ("Tracking Identifier .112039. is missing", lambda r: without(group(r, "1411"), "112039")),
    ("Tracking Unique Identifier .112040. is missing", lambda r: without(group(r, "1410"), "112040")),
    ("Finding Site .363698007. is missing", lambda r: without(group(r, "1411"), "363698007")),
    ("Finding Site .363698007. is there 2 times", lambda r: twice(group(r, "1411"), "363698007")),
    ("Tracking Identifier .112039. is a CODE", lambda r: inside(group(r, "1411"), "112039").update(
        {"ValueType": "CODE", "ConceptCodeSequence": inside(r, "121049").ConceptCodeSequence}
    )),
    ("without its version", lambda r: without(group(r, "1411"), "111003")),
    ("wrong places .none", lambda r: without(group(r, "1411"), "121191")),
    ("wrong places .111030, 111030", lambda r: twice(group(r, "1410"), "111030")),
    ("Source series for segmentation .121232. is missing", lambda r: without(group(r, "1411"), "121232")),
    ("follows no known template", lambda r: delattr(group(r, "1411"), "ContentTemplateSequence")),
    ("stands for two vertebrae", lambda r: inside(group(r, "1411", 1), "112040").update(
        {"UID": inside(group(r, "1411"), "112040").UID}
    )),
    ("has two Tracking", lambda r: setattr(inside(group(r, "1411"), "112040"), "UID", "1.2.3")),
    ("ValueType PNAME is none", lambda r: setattr(first(r, "112039"), "ValueType", "PNAME")),
    ("TextValue is missing or empty", lambda r: setattr(first(r, "121073"), "TextValue", "")),
    ("RelationshipType is missing", lambda r: delattr(first(r, "121071"), "RelationshipType")),
    ("NumericValue is missing", lambda r: delattr(
        first(r, "HEIGHT-LOSS").MeasuredValueSequence[0], "NumericValue"
    )),
    ("MeasurementUnitsCodeSequence is missing", lambda r: setattr(
        first(r, "HEIGHT-LOSS").MeasuredValueSequence[0], "MeasurementUnitsCodeSequence", []
    )),
    ("without value or meaning", lambda r: setattr(
        first(r, "121071").ConceptCodeSequence[0], "CodeMeaning", ""
    )),
    ("without Coding Scheme Designator", lambda r: delattr(
        first(r, "121071").ConceptCodeSequence[0], "CodingSchemeDesignator"
    )),
    ("is too long", lambda r: first(r, "121071").ConceptCodeSequence[0].add(
        DataElement("CodeValue", "SH", "12345678901234567", validation_mode=IGNORE)
    )),
    ("not a list of points", lambda r: setattr(on_image(r), "GraphicData", on_image(r).GraphicData[:-1])),
    ("neither closed nor a box", lambda r: setattr(
        on_image(r), "GraphicData", [*on_image(r).GraphicData[:-2], 0.0, 0.0]
    )),
    ("a polygon is not closed", lambda r: setattr(in_space(r), "GraphicData", in_space(r).GraphicData[:-3])),
    ("not selected from exactly one image", lambda r: relate(on_image(r).ContentSequence[0], "CONTAINS")),
    ("referred to but not in the evidence", lambda r: setattr(
        evidence(r), "ReferencedSOPSequence", evidence(r).ReferencedSOPSequence[1:]
    )),
    ("another SOP class than in the evidence", lambda r: setattr(
        evidence(r).ReferencedSOPSequence[0], "ReferencedSOPClassUID", "1.2.3"
    )),
    ("as a segmentation and is none", lambda r: first(r, "121191").ReferencedSOPSequence.__setitem__(
        0, reference(on_image(r).ContentSequence[0])
    )),
    ("not in the image library", lambda r: setattr(
        library(r), "ContentSequence", [i for i in library(r).ContentSequence if i.ValueType != "IMAGE"]
    )),
    ("source series 1.2.3 is not in the evidence", lambda r: setattr(first(r, "121232"), "UID", "1.2.3")),
    ("another frame of reference", lambda r: setattr(in_space(r), "ReferencedFrameOfReferenceUID", "1.2")),
]  # fmt: skip


def test_a_report_as_encoded_has_no_fault(report: Dataset) -> None:
    assert structure_faults(report) == []


@pytest.mark.parametrize(("words", "spoil"), BROKEN, ids=[words for words, _ in BROKEN])
def test_each_broken_rule_is_named(report: Dataset, words: str, spoil: Callable[[Dataset], None]) -> None:
    broken = copy.deepcopy(report)
    spoil(broken)
    faults = structure_faults(broken)
    assert any(re.search(words, fault) for fault in faults), faults


def test_a_box_may_be_open_for_viewers_that_want_it_so(encoded, with_tools, tmp_path) -> None:
    study = encoded(SMALL).study
    encode(study.analysis, study.source, tmp_path, overlay=False, renditions=(Rendition(box="open"),))
    opened, closed = pydicom.dcmread(tmp_path / "sr.dcm"), encoded(SMALL).read("sr")
    assert structure_faults(opened) == []
    assert with_tools(checks.dciodvfy, tmp_path / "sr.dcm") == []
    assert with_tools(checks.same_numbers, study, tmp_path / "sr.dcm") == []
    for one, other in zip(_boxes(opened), _boxes(closed), strict=True):
        assert len(one) == 4
        np.testing.assert_array_equal(one, other[:4])
        np.testing.assert_array_equal(other[4], other[0])
    # Both may lie in one archive, side by side.
    assert opened.SOPInstanceUID != closed.SOPInstanceUID
    assert opened.SeriesInstanceUID == closed.SeriesInstanceUID


def _boxes(report: Dataset) -> Iterator[np.ndarray]:
    for item in content_items(report):
        if item.ValueType == "SCOORD":
            yield np.reshape(item.GraphicData, (-1, 2))


def test_the_box_in_space_is_the_box_on_the_image(encoded) -> None:
    report, reformat = encoded("axial").read("sr"), encoded("axial").read("reformat")
    across, down = np.array(reformat.ImageOrientationPatient, float).reshape(2, 3)
    corner = np.array(reformat.ImagePositionPatient, float)
    spacing = np.array(reformat.PixelSpacing, float)
    spaces = [item for item in content_items(report) if item.ValueType == "SCOORD3D"]
    for box, region in zip(_boxes(report), spaces, strict=True):
        assert region.ReferencedFrameOfReferenceUID == reformat.FrameOfReferenceUID
        # Image coordinates count from the corner of the first pixel, the image's position is its centre.
        steps = (box - 0.5) * spacing[::-1]
        expected = corner + steps[:, :1] * across + steps[:, 1:] * down
        np.testing.assert_allclose(np.reshape(region.GraphicData, (-1, 3)), expected, atol=0.01)


def test_thresholds_are_numbers_with_codes(report: Dataset) -> None:
    evaluations = first(report, "C0034375")
    told = {
        concept(item): float(item.MeasuredValueSequence[0].NumericValue)
        for item in evaluations.ContentSequence
        if item.ValueType == "NUM"
    }
    assert told == {"CUT-GENANT-1": 20.0, "CUT-GENANT-2": 25.0, "CUT-GENANT-3": 40.0}


def test_an_earlier_report_is_referred_to_and_the_change_measured(encoded, with_tools, tmp_path) -> None:
    study = encoded(SMALL).study
    day = date(2022, 3, 4)
    vertebrae = (
        PriorVertebra(Level.L1, "2.25.71", 0.12, False),
        PriorVertebra(Level.L5, "2.25.75", 0.02, False),
    )
    prior = PriorReport(
        "2.25.1", "2.25.2", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.3", day, "CT", False, vertebrae
    )
    encode(replace(study.analysis, prior=prior), study.source, tmp_path, overlay=False)
    report, segmentation = (pydicom.dcmread(tmp_path / f"{name}.dcm") for name in ("sr", "seg"))
    assert structure_faults(report) == []
    for check in (checks.dciodvfy, checks.dsrdump):
        assert with_tools(check, tmp_path / "sr.dcm") == []
    assert checks.highdicom_reads(tmp_path) == []

    change = first(report, "HEIGHT-LOSS-DIFF")
    assert float(change.MeasuredValueSequence[0].NumericValue) == pytest.approx(
        100 * (8 / 26 - 0.12), abs=0.01
    )
    before = inside(change, "HEIGHT-LOSS")
    assert float(before.MeasuredValueSequence[0].NumericValue) == 12.0
    assert inside(before, "111060").Date == "20220304"
    assert reference(inside(before, "122075")).ReferencedSOPInstanceUID == "2.25.3"
    (listed,) = report.PertinentOtherEvidenceSequence
    assert listed.StudyInstanceUID == "2.25.1"

    uids = {item.SegmentLabel: item.TrackingUID for item in segmentation.SegmentSequence}
    assert uids["L1"] == "2.25.71"
    unchanged = {item.SegmentLabel: item.TrackingUID for item in encoded(SMALL).read("seg").SegmentSequence}
    assert uids["L2"] == unchanged["L2"]
    # Another object than the one that was compared with nothing.
    assert report.SOPInstanceUID != encoded(SMALL).read("sr").SOPInstanceUID


def test_an_earlier_report_that_is_not_listed_is_noticed(encoded, tmp_path) -> None:
    study = encoded(SMALL).study
    prior = PriorReport("2.25.1", "2.25.2", "1.2.840.10008.5.1.4.1.1.88.34", "2.25.3", None, "", False, ())
    encode(Analysis(study.analysis.report, prior=prior), study.source, tmp_path, overlay=False)
    report = pydicom.dcmread(tmp_path / "sr.dcm")
    assert structure_faults(report) == []
    del report.PertinentOtherEvidenceSequence
    assert structure_faults(report) == ["2.25.3 is referred to but not in the evidence"]
