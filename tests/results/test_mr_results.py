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
from conformance.mr_studies import DRESSES, MrStudyOfTruth, make_mr_study
from conformance.mr_studies import FEATURES as TOLD_FEATURES
from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.mr_groups import group_of
from dicom_ai_node.imaging.mr_habits import MrKind
from dicom_ai_node.imaging.mr_volume import load_mr_volume
from dicom_ai_node.imaging.write_mr import write_mr_series
from dicom_ai_node.networks.mri_classes import CLASSES, FEATURES
from dicom_ai_node.pipelines.mri import MriPipeline
from dicom_ai_node.report import MALIGNANCIES, SIGNAL_RATIOS
from dicom_ai_node.results import codes
from dicom_ai_node.results.encode import ResultObject, encode
from dicom_ai_node.results.source import SourceSeries
from tests.drawn_mr import column, drawn_volume, knowing_bundles
from tests.imaging.mr_files import made_by


@dataclass(frozen=True)
class Written:
    """The results of a study, and what they were made of."""

    folder: Path
    objects: list[ResultObject]
    study: MrStudyOfTruth

    def read(self, name: str) -> pydicom.FileDataset:
        return pydicom.dcmread(self.folder / f"{name}.dcm")


@pytest.fixture(scope="module", params=[DRESSES[0], DRESSES[1], DRESSES[-1]], ids=lambda dress: dress.name)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("mr")
    study = make_mr_study(request.param, folder)
    assert [role for role, _ in study.group.paired.members] == ["t2", "t1"]
    out = folder / "results"
    return Written(out, encode(study.analysis, study.source, out, secondary_capture=True), study)


def walk(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def test_the_words_of_the_report_are_those_of_the_network() -> None:
    assert tuple(codes.MR_FEATURES) == tuple(TOLD_FEATURES) == FEATURES
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
    assert set(written.study.analysis.report.source.series_instance_uids) < set(uids)
    drawn_on = [item.SeriesInstanceUID for item in segmentation.ReferencedSeriesSequence]
    assert drawn_on == [written.study.analysis.report.source.series_instance_uids[0]]
    states = [item for item in written.objects if item.kind == "pr"]
    assert states
    for item in states:
        (series,) = pydicom.dcmread(item.path).ReferencedSeriesSequence
        assert series.SeriesInstanceUID == drawn_on[0]


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
    assert found["T2 signal over that of the spinal canal"] == [0.7, 0.7, 0.7]
    assert found["T2 signal over that of the spinal cord"] == [1.4, 1.4, 1.4]
    told = [
        item.ConceptCodeSequence[0].CodeMeaning
        for item in walk(written.read("sr"))
        if item.ValueType == "CODE"
        and item.ConceptNameCodeSequence[0].CodeMeaning == "Benign or malignant vertebra"
    ]
    assert told == ["Benign", "Malignant"]


def test_the_opinion_is_inferred_from_the_slice_that_looks_most_malignant(written: Written) -> None:
    names = {codes.MALIGNANCIES[name].value for name in MALIGNANCIES}
    said = [
        item
        for item in walk(written.read("sr"))
        if item.ValueType == "NUM" and item.ConceptNameCodeSequence[0].CodeValue in names
    ]
    seen = [
        vertebra.seen_on["malignant"].box_px
        for vertebra in written.study.analysis.report
        if vertebra.malignant is not None
        for _ in names
    ]
    assert len(said) == len(seen) == 4
    for item, box in zip(said, seen, strict=True):
        assert box is not None
        (region,) = [child for child in item.ContentSequence if child.ValueType == "SCOORD"]
        image = region.ContentSequence[0].ReferencedSOPSequence[0]
        assert image.ReferencedSOPInstanceUID == box.sop_instance_uid
        # An image of one frame names none.
        assert image.get("ReferencedFrameNumber", 1) == box.frame
        (left, top), (right, bottom) = region.GraphicData[:2], region.GraphicData[4:6]
        assert (top, bottom) == (box.rows[0], box.rows[1] + 1)
        assert (left, right) == (box.columns[0], box.columns[1] + 1)


def test_a_human_reads_what_stands_out_and_why(written: Written, tool) -> None:
    printed = tool("dsrdump", "+Pl", written.folder / "sr.dcm")
    assert "L1: moderate wedge fracture" in printed
    assert "benign 80 %" in printed
    assert "L3: abnormal, no fracture" in printed
    assert "dark on T1: 0.41 of its neighbours, likely malignant (90 %)" in printed
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


@pytest.mark.parametrize(("kind", "white"), [("t2", 1.0), ("stir", 60.0)])
def test_an_axial_volume_is_drawn_on_a_sagittal_plane_cut_out_of_it(
    tmp_path: Path, with_tools, kind: MrKind, white: float
) -> None:
    axes = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    volume, _ = drawn_volume(
        column((Level.L3, Level.L4, Level.L5)),
        axes=axes,
        spacing_mm=(1.5, 1.5, 1.5),
        size_mm=(120.0, 100.0, 54.0),
    )
    # Signals beyond what signed 16 bits hold.
    stored = np.clip(volume.voxels * white, 0, 65535).astype(np.uint16)
    header = made_by("siemens", kind, 5, omit=(), bits_stored=16)
    paths = write_mr_series([(stored, volume.affine)], tmp_path / "in", seed=5, header=header)
    group = group_of(paths)
    loaded = load_mr_volume(group.fixed)
    analysis = MriPipeline(*knowing_bundles()).analyse(loaded)
    objects = encode(analysis, SourceSeries(group.paths, loaded), tmp_path / "out", overlay=False)
    assert [item.kind for item in objects] == ["seg", "reformat", "pr", "sr"]
    for item in objects:
        assert with_tools(checks.dciodvfy, item.path) == []
    plane, state = (pydicom.dcmread(tmp_path / "out" / name) for name in ("reformat.dcm", "pr-1.dcm"))
    assert (plane.Modality, plane.SOPClassUID) == ("MR", "1.2.840.10008.5.1.4.1.1.4")
    source = pydicom.dcmread(paths[0], stop_before_pixels=True)
    assert (plane.ScanningSequence, plane.SequenceVariant) == (
        source.ScanningSequence,
        source.SequenceVariant,
    )
    assert float(plane.EchoTime) == pytest.approx(float(source.EchoTime))
    assert plane.get("InversionTime") == source.get("InversionTime")
    (series,) = state.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == plane.SeriesInstanceUID
    pixels = plane.pixel_array
    assert pixels.min() < 500
    assert 2500 < pixels.max() <= 32767
    # The points lie apart on it, as they do in the body: on an axial slice they would fall on a line.
    circles = [
        tuple(item.GraphicData[:2])
        for annotation in state.GraphicAnnotationSequence
        for item in annotation.get("GraphicObjectSequence", ())
        if item.GraphicType == "CIRCLE"
    ]
    first = np.array(circles[:6])
    assert np.ptp(first, axis=0).min() > 15
