"""The folder of results: which files, the same bytes, odd sources."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pydicom
import pytest
from PIL import Image

from dicom_ai_node.anatomy import Level
from dicom_ai_node.config import Settings
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.report import Analysis, LabelMap, Reason, Source, SpineReport, Vertebra
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.source import SourceSeries
from dicom_ai_node.results.validate import validate


def test_an_axial_series_gets_every_kind_of_file(encoded):
    folder = encoded("axial").folder
    assert {path.name for path in folder.iterdir()} == {
        "report.json",
        "seg.dcm",
        "reformat.dcm",
        "pr-1.dcm",
        "sr.dcm",
        "sc-1.dcm",
        "overlay.png",
    }
    written = SpineReport.from_json((folder / "report.json").read_text())
    assert written == encoded("axial").study.analysis.report
    for item in encoded("axial").objects:
        dataset = pydicom.dcmread(item.path)
        assert (dataset.SOPClassUID, dataset.SOPInstanceUID) == (item.sop_class_uid, item.sop_instance_uid)
        assert "RESEARCH USE ONLY" in dataset.SeriesDescription


def test_the_same_call_writes_the_same_bytes(encoded, tmp_path):
    study = encoded("axial").study
    encode(study.analysis, study.source, tmp_path, secondary_capture=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in encoded("axial").folder.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (encoded("axial").folder / name).read_bytes(), name


def test_the_capture_is_the_overview_picture(encoded):
    capture = encoded("axial").read("sc-1")
    with Image.open(encoded("axial").folder / "overlay.png") as picture:
        np.testing.assert_array_equal(capture.pixel_array, np.asarray(picture.convert("RGB")))


def test_a_given_time_is_carried_by_every_object(encoded, tmp_path):
    study = encoded("sagittal").study
    when = datetime(2026, 2, 3, 4, 5, 6)
    for item in encode(study.analysis, study.source, tmp_path, timestamp=when, overlay=False):
        dataset = pydicom.dcmread(item.path)
        assert (dataset.InstanceCreationDate, dataset.InstanceCreationTime) == ("20260203", "040506")
        assert dataset.StudyDate == "20240131"


def _with_first_header(study, folder, change) -> SourceSeries:
    """The study with the header of its first slice changed on disk."""
    first, *others = study.source.volume.instances
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "first.dcm"
    with reading_quietly():
        image = pydicom.dcmread(first.path)
        change(image)
        image.save_as(path)
    return replace(
        study.source, volume=replace(study.source.volume, instances=(replace(first, path=path), *others))
    )


def test_values_that_break_their_vr_are_left_out_and_what_archives_file_by_stays(encoded, tmp_path):
    study = encoded("axial").study

    def spoil(image):
        image.PatientBirthDate = "19460000"
        image.PatientSex = "W"
        image.StudyTime = "99"
        image.PatientAge = "49"
        image.StudyDescription = "x" * 70
        image.PatientID = "Y" * 70
        image.PatientName = "A^B^C^D^E^F"
        image.AccessionNumber = "12345678901234567890"

    source = _with_first_header(study, tmp_path, spoil)
    objects = encode(study.analysis, source, tmp_path / "results", overlay=False)
    validate(objects)
    with reading_quietly():
        for item in objects:
            dataset = pydicom.dcmread(item.path)
            assert dataset.PatientBirthDate == dataset.PatientSex == dataset.StudyTime == ""
            assert "PatientAge" not in dataset
            assert "StudyDescription" not in dataset
            assert (dataset.PatientID, dataset.AccessionNumber) == ("Y" * 70, "12345678901234567890")
            assert dataset.PatientName == "A^B^C^D^E^F"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "Ørsted^Åse=Ж^Д"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("ISO_IR 144", "Люкceмбypг^Роза"),
    ],
)
def test_names_survive_in_their_character_set(encoded, tmp_path, charset, name):
    study = encoded("sagittal").study

    def rename(image):
        image.SpecificCharacterSet = charset
        image.PatientName = name

    source = _with_first_header(study, tmp_path, rename)
    report = replace(study.analysis.report, limitations=())
    for item in encode(
        Analysis(report, study.analysis.label_map),
        source,
        tmp_path / "results",
        overlay=False,
    ):
        assert pydicom.dcmread(item.path).PatientName == name


def test_a_source_with_next_to_no_header_still_gets_valid_results(encoded, tmp_path):
    study = encoded("axial").study

    def strip(image):
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"):
            delattr(image, keyword)
        for keyword in ("StudyTime", "ReferringPhysicianName", "AccessionNumber", "KVP", "AcquisitionNumber"):
            delattr(image, keyword)
        for kind in ("Series", "Acquisition", "Content"):
            delattr(image, f"{kind}Date")
        del image.SpecificCharacterSet

    source = _with_first_header(study, tmp_path, strip)
    validate(encode(study.analysis, source, tmp_path / "results", overlay=False))


def test_unreadable_files_beside_readable_ones_do_not_stop_the_report(encoded, tmp_path):
    study = encoded("axial").study
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no image")
    report = SpineReport("not-analysable", study.analysis.report.source, reasons=(_reason(),))
    objects = encode(Analysis(report), SourceSeries((junk, *study.source.paths[:3])), tmp_path / "results")
    validate(objects)
    evidence = pydicom.dcmread(objects[0].path).CurrentRequestedProcedureEvidenceSequence[0]
    assert len(evidence.ReferencedSeriesSequence[0].ReferencedSOPSequence) == 3


def test_without_one_readable_file_there_is_nobody_to_report_on(tmp_path):
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(b"no image")
    report = SpineReport("not-analysable", Source("1.2", ("1.3",), "CT", None), reasons=(_reason(),))
    with pytest.raises(EncodingError, match=r"junk\.dcm"):
        encode(Analysis(report), SourceSeries((junk,)), tmp_path / "results")


def test_supernumerary_levels_are_coded_privately_and_the_scheme_is_declared(encoded, tmp_path):
    study = encoded("axial").study
    labels = np.where(study.analysis.label_map.labels == 24, 25, study.analysis.label_map.labels)
    vertebrae = tuple(
        vertebra if vertebra.level != "L5" else Vertebra(level=Level.L6, level_confidence=0.6)
        for vertebra in study.analysis.report
    )
    analysis = Analysis(
        replace(study.analysis.report, vertebrae=vertebrae),
        LabelMap(labels.astype(np.uint8), study.analysis.label_map.affine),
    )
    objects = encode(analysis, study.source, tmp_path, overlay=False)
    validate(objects)
    segmentation = pydicom.dcmread(tmp_path / "seg.dcm")
    assert segmentation.SegmentSequence[-1].AnatomicRegionSequence[0].CodeValue == "L6"
    assert segmentation.CodingSchemeIdentificationSequence[0].CodingSchemeDesignator == "99DAINODE"


def test_thresholds_are_named_once(encoded, tmp_path):
    study = encoded("sagittal").study
    settings = Settings().results
    silent = replace(study.analysis, report=replace(study.analysis.report, limitations=()))
    for analysis, expected in (
        (study.analysis, "Genant: loss from 20 % grade 1, over 25 % grade 2, over 40 % grade 3."),
        (silent, "Genant: height loss from 20 % is grade 1, over 25 % grade 2, over 40 % grade 3."),
    ):
        encode(analysis, study.source, tmp_path, settings, overlay=False)
        comments = [
            item.value
            for item in pydicom.dcmread(tmp_path / "sr.dcm").iterall()
            if item.keyword == "TextValue" and item.value.startswith("Genant")
        ]
        assert comments == [expected]


def test_the_real_lumbar_series_gets_valid_results(shared_data, tmp_path):
    paths = sorted((shared_data / "ct" / "acrin-flt-breast-lumbar").glob("*.dcm"))
    volume = load_volume(paths)
    labels = np.zeros(volume.shape, np.uint8)
    labels[30:38, 240:270, 235:280] = 22
    labels[40:47, 245:275, 235:280] = 21
    centres = {
        level: tuple(
            float(v)
            for v in (np.argwhere(labels == label).mean(axis=0) @ volume.affine[:3, :3].T)
            + volume.affine[:3, 3]
        )
        for level, label in (("L2", 21), ("L3", 22))
    }
    report = SpineReport(
        "analysed",
        Source(volume.study_instance_uid, (volume.series_instance_uid,), "CT", volume.frame_of_reference_uid),
        vertebrae=tuple(
            Vertebra(level=level, level_confidence=0.9, center_mm=centres[level], genant_grade=0)
            for level in (Level.L2, Level.L3)
        ),
    )
    analysis = Analysis(report, LabelMap(labels, volume.affine))
    objects = encode(analysis, SourceSeries(tuple(paths), volume), tmp_path, secondary_capture=True)
    validate(objects)
    assert [item.kind for item in objects] == ["seg", "reformat", "pr", "sr", "sc"]
    assert str(pydicom.dcmread(objects[0].path).PatientName) == "ACRIN-FLT-Breast_001"


def _reason():
    return Reason("unreadable", "The images cannot be decoded.")
