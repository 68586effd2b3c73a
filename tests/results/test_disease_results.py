"""Diseases on sagittal slices in the result objects: each with its probability and its best slice."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pydicom
import pytest
from pydicom.dataset import Dataset

from conformance import checks, ct_slices
from conformance.ct_slices import DISEASED, DRESSES, SliceStudy, box_of, make_slice_study
from conformance.studies import GRIDS, make_study
from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.findings import findings_table, in_one_line
from dicom_ai_node.report import SpineReport
from dicom_ai_node.report_schema import json_schema
from dicom_ai_node.results import codes
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.validate import validate


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[SliceStudy, Path]:
    folder = tmp_path_factory.mktemp("slices")
    study = make_slice_study(DRESSES[0], folder)
    validate(encode(study.analysis, study.source, folder / "results", secondary_capture=False))
    return study, folder / "results"


def groups(report: Dataset) -> dict[str, Dataset]:
    """The first measurement group of each tracking identifier."""
    (measurements,) = [item for item in report.ContentSequence if name(item) == "126010"]
    found: dict[str, Dataset] = {}
    for group in measurements.ContentSequence:
        identifier = next(str(item.TextValue) for item in group.ContentSequence if name(item) == "112039")
        # The first group of a vertebra holds what was measured.
        found.setdefault(identifier, group)
    return found


def name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def probability(group: Dataset, disease: str) -> Dataset:
    (found,) = [item for item in group.ContentSequence if name(item) == codes.DISEASES[disease][0].value]
    return found


def test_every_disease_has_its_probability_its_algorithm_and_its_best_slice(
    results: tuple[SliceStudy, Path],
) -> None:
    study, folder = results
    found = groups(pydicom.dcmread(folder / "sr.dcm"))
    for number, (level, diseases) in enumerate(DISEASED.items()):
        if level is Level.T12:
            assert not [item for item in found["T12"].ContentSequence if name(item).startswith("PROB-")]
            continue
        for disease in codes.DISEASES:
            item = probability(found[level.value], disease)
            share = study.analysis.report.vertebrae[number].classes["ct-classify"][disease]
            assert float(item.MeasuredValueSequence[0].NumericValue) == pytest.approx(100 * share)
            (region,) = [child for child in item.ContentSequence if child.ValueType == "SCOORD"]
            seen = study.analysis.report.vertebrae[number].seen_on[disease]
            assert seen.box_px is not None
            image = region.ContentSequence[0].ReferencedSOPSequence[0]
            assert image.ReferencedSOPInstanceUID == seen.box_px.sop_instance_uid
            rows, columns = box_of(number)
            assert list(region.GraphicData[:4]) == [columns[0], rows[0], columns[1] + 1, rows[0]]
            names = [str(child.TextValue) for child in item.ContentSequence if name(child) == "111001"]
            assert names == ["ct-classify"]
        told = [
            str(item.ConceptCodeSequence[0].CodeValue)
            for item in found[level.value].ContentSequence
            if name(item) == codes.DISEASE.value
        ]
        assert sorted(told) == sorted(codes.DISEASES[disease][1].value for disease in diseases)


def test_the_impression_names_the_diseases_and_on_how_many_slices(results: tuple[SliceStudy, Path]) -> None:
    report = pydicom.dcmread(results[1] / "sr.dcm")
    (impressions,) = [item for item in report.ContentSequence if name(item) == "121072"]
    sentences = " ".join(str(item.TextValue) for item in impressions.ContentSequence)
    assert "osteoporotic compression fracture 94 % (on 3 of 5 sagittal slices)" in sentences
    assert "Schmorl's node 62 %" in sentences
    assert "No fracture found in L2." in sentences
    assert "T12 could not be judged" in sentences


def test_the_slices_show_boxes_and_the_short_names(results: tuple[SliceStudy, Path]) -> None:
    state = pydicom.dcmread(results[1] / "pr-1.dcm")
    words: dict[str, set[str]] = {}
    for item in state.GraphicAnnotationSequence:
        image = str(item.ReferencedImageSequence[0].ReferencedSOPInstanceUID)
        texts = {str(one.UnformattedTextValue) for one in item.get("TextObjectSequence", ())}
        words.setdefault(image, set()).update(texts)
    study = results[0]
    box = study.analysis.report.vertebrae[1].box_px
    assert box is not None
    assert {"T12 not judged", "L1 OVCF, KD", "L2", "L3 SN", "L4 OF, PS"} <= words[box.sop_instance_uid]
    # The slices that show a disease best have its box as well.
    best = study.analysis.report.vertebrae[1].seen_on["OVCF"].box_px
    assert best is not None
    assert "L1 OVCF, KD" in words[best.sop_instance_uid]


def test_no_segmentation_is_made_where_nothing_was_outlined(results: tuple[SliceStudy, Path]) -> None:
    assert not (results[1] / "seg.dcm").exists()
    assert not (results[1] / "reformat.dcm").exists()
    assert (results[1] / "overlay.png").exists()


def test_the_report_survives_and_obeys_its_schema(results: tuple[SliceStudy, Path]) -> None:
    text = (results[1] / "report.json").read_text()
    jsonschema.validate(json.loads(text), json_schema())
    assert SpineReport.from_json(text) == results[0].analysis.report


def test_planes_that_no_image_shows_are_told_in_space(tmp_path: Path, with_tools) -> None:  # type: ignore[no-untyped-def]
    study = make_study(GRIDS[0], tmp_path / "source")
    judged = ct_slices.with_opinions(study.analysis)
    validate(encode(judged, study.source, tmp_path / "results", overlay=False))
    report = pydicom.dcmread(tmp_path / "results" / "sr.dcm")
    item = probability(groups(report)["L1"], "OF")
    (region,) = [child for child in item.ContentSequence if child.ValueType == "SCOORD3D"]
    assert region.GraphicType == "POLYGON"
    assert len(region.GraphicData) == 15
    assert region.ReferencedFrameOfReferenceUID == judged.report.source.frame_of_reference_uid
    assert with_tools(checks.dciodvfy, tmp_path / "results" / "sr.dcm") == []


def test_people_read_the_diseases_in_the_terminal(results: tuple[SliceStudy, Path]) -> None:
    report = results[0].analysis.report
    line = in_one_line(report)
    assert "L1 OVCF+KD" in line
    assert "None" not in line
    opinions = list(findings_table(report).columns[-1].cells)
    assert "OVCF 94% (3/5); KD 71% (3/5)" in opinions
