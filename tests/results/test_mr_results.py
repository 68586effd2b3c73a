"""Results of an MR study: drawn on the T2, told of both series, with P4's opinion and its evidence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from conformance import checks
from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.mr_groups import group_of
from dicom_ai_node.imaging.mr_volume import load_mr_volume
from dicom_ai_node.networks.mri_classes import CLASSES, FEATURES
from dicom_ai_node.report import (
    MALIGNANCIES,
    SIGNAL_RATIOS,
    Algorithm,
    Analysis,
    HeightsMm,
    LabelMap,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.results import codes
from dicom_ai_node.results.encode import ResultObject, encode
from dicom_ai_node.results.source import SourceSeries
from tests.imaging.mr_files import made_by, write

SHAPE = (6, 96, 64)
T1, T2 = ("siemens", "t1"), ("siemens", "t2")


@dataclass(frozen=True)
class Written:
    """The results of a study, and what they were made of."""

    folder: Path
    objects: list[ResultObject]
    analysis: Analysis
    source: SourceSeries

    def read(self, name: str) -> pydicom.FileDataset:
        return pydicom.dcmread(self.folder / f"{name}.dcm")


def analysis_of(source: SourceSeries, partner_uid: str) -> Analysis:
    """L1 wedged and benign, L2 healthy, L3 dark and malignant."""
    volume = source.volume
    assert volume is not None
    labels = np.zeros(SHAPE, np.uint8)
    vertebrae = []
    features = dict.fromkeys(FEATURES, 0.1) | {"mass": 0.9}
    for number, level in enumerate((Level.L1, Level.L2, Level.L3)):
        rows, columns = slice(12 + 26 * number, 30 + 26 * number), slice(20, 44)
        labels[1:5, rows, columns] = verse_label(level)
        corners = np.array(
            [[3, row, column] for column in (20, 32, 43) for row in (rows.start, rows.stop - 1)], float
        )
        points = corners @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        ill = level is Level.L3
        judged = level is not Level.L2
        vertebrae.append(
            Vertebra(
                level,
                0.98,
                center_mm=tuple(float(v) for v in points.mean(axis=0)),
                six_points=SixPoints.from_array(points),
                heights_mm=HeightsMm(16.0, 20.0, 22.0, 23.0),
                height_loss=0.3 if level is Level.L1 else 0.05,
                genant_grade=2 if level is Level.L1 else 0,
                deformity="wedge" if level is Level.L1 else "none",
                fractured=level is Level.L1,
                fracture_probability=0.9 if level is Level.L1 else 0.02,
                classes={"mri-classify": dict(zip(CLASSES, (0.1, 0.9) if ill else (0.8, 0.2), strict=True))}
                if judged
                else {},
                malignant=ill if judged else None,
                features=features if judged else {},
                signal={"t1": {"to_neighbours": 0.41 if ill else 1.0}, "t2": {"to_canal": 0.3}},
                abnormal=("dark on T1: 0.41 of its neighbours",)
                if ill
                else ("height loss 30%",)
                if judged
                else (),
            )
        )
    report = SpineReport(
        "analysed",
        Source(
            volume.study_instance_uid,
            (volume.series_instance_uid, partner_uid),
            "MR",
            volume.frame_of_reference_uid,
        ),
        algorithms=tuple(
            Algorithm(name, "1.0", 64 * "0", f"2.25.{number}")
            for number, name in enumerate(("mri-detect", "mri-points", "mri-classify"), start=1)
        ),
        vertebrae=tuple(vertebrae),
    )
    return Analysis(report, LabelMap(labels, volume.affine))


@pytest.fixture(scope="module", params=["classic", "enhanced"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("mr")
    enhanced = request.param == "enhanced"
    second = write(folder / "t2", made_by(*T2, seed=3), shape=SHAPE, enhanced=enhanced)  # type: ignore[arg-type]
    first = write(folder / "t1", made_by(*T1, seed=3), shape=SHAPE, enhanced=enhanced)  # type: ignore[arg-type]
    for path in first:
        dataset = pydicom.dcmread(path)
        other = pydicom.dcmread(second[0])
        dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = (
            other.StudyInstanceUID,
            other.FrameOfReferenceUID,
        )
        dataset.SeriesInstanceUID = other.SeriesInstanceUID + ".1"
        dataset.PatientID, dataset.PatientBirthDate = other.PatientID, other.PatientBirthDate
        dataset.SOPInstanceUID += ".1"
        dataset.save_as(path)
    paths = (*second, *first)
    group = group_of(paths)
    assert [role for role, _ in group.paired.members] == ["t2", "t1"]
    source = SourceSeries(paths, load_mr_volume(group.fixed))
    analysis = analysis_of(source, str(pydicom.dcmread(first[0]).SeriesInstanceUID))
    out = folder / "results"
    objects = encode(analysis, source, out, secondary_capture=True)
    return Written(out, objects, analysis, source)


def walk(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def test_the_words_of_the_report_are_those_of_the_network() -> None:
    assert tuple(codes.MR_FEATURES) == FEATURES
    assert tuple(codes.MALIGNANCIES) == CLASSES == MALIGNANCIES
    assert {against for _, against in codes.SIGNALS} == set(SIGNAL_RATIOS)


def test_every_object_is_valid(written: Written, with_tools) -> None:
    assert [item.kind for item in written.objects if item.kind != "pr"] == ["seg", "sr", "sc"]
    for item in written.objects:
        assert with_tools(checks.dciodvfy, item.path) == []


def test_the_report_names_both_series_and_draws_on_one(written: Written) -> None:
    report, segmentation = written.read("sr"), written.read("seg")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    uids = [item.SeriesInstanceUID for item in study.ReferencedSeriesSequence]
    assert set(written.analysis.report.source.series_instance_uids) < set(uids)
    drawn_on = [item.SeriesInstanceUID for item in segmentation.ReferencedSeriesSequence]
    assert drawn_on == [written.analysis.report.source.series_instance_uids[0]]
    states = [item for item in written.objects if item.kind == "pr"]
    for item in states:
        (series,) = pydicom.dcmread(item.path).ReferencedSeriesSequence
        assert series.SeriesInstanceUID == drawn_on[0]
    assert len(states) == 1


def test_opinion_features_and_signal_are_measurements(written: Written) -> None:
    found: dict[str, list[float]] = {}
    for item in walk(written.read("sr")):
        if item.ValueType == "NUM":
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            found.setdefault(name, []).append(float(item.MeasuredValueSequence[0].NumericValue))
    # Each vertebra has a group for its segment and one for its box; only the first measures.
    assert found["Probability of malignant vertebra"] == [20.0, 90.0]
    assert found["Probability: mass in the body"] == [90.0, 90.0]
    assert found["T1 signal over that of neighbouring bodies"] == [1.0, 1.0, 0.41]
    assert found["T2 signal over that of the spinal canal"] == [0.3, 0.3, 0.3]
    told = [
        item.ConceptCodeSequence[0].CodeMeaning
        for item in walk(written.read("sr"))
        if item.ValueType == "CODE"
        and item.ConceptNameCodeSequence[0].CodeMeaning == "Benign or malignant vertebra"
    ]
    assert told == ["Benign", "Malignant"]


def test_a_human_reads_what_stands_out_and_why(written: Written, tool) -> None:
    printed = tool("dsrdump", "+Pl", written.folder / "sr.dcm")
    assert "L1: moderate wedge fracture" in printed
    assert "benign 80 %" in printed
    assert "L3: abnormal, no fracture" in printed
    assert "dark on T1: 0.41 of its neighbours, malignant 90 %" in printed
    assert "No fracture found in L2" in printed


def test_pictures_show_the_signal_and_the_labels(written: Written) -> None:
    state = written.read("pr-1")
    (window,) = state.SoftcopyVOILUTSequence
    assert 0 < window.WindowCenter < window.WindowWidth
    texts = {
        item.UnformattedTextValue
        for annotation in state.GraphicAnnotationSequence
        for item in annotation.get("TextObjectSequence", ())
    }
    assert {"L1 G2 -30% benign?", "L2", "L3 malignant?"} <= texts
    with Image.open(written.folder / "overlay.png") as picture:
        values = np.asarray(picture.convert("L"))
    assert values.std() > 20
