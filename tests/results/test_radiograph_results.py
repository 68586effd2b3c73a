"""Results of lateral films: valid, and drawn where the bodies are, however the film is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image

from conformance import checks
from conformance.films import DRESSES, UNJUDGED, FilmStudy, make_film_study
from dicom_ai_node.anatomy import Level, code, verse_label
from dicom_ai_node.colours import grade_colour, pcs_cielab
from dicom_ai_node.errors import EncodingError
from dicom_ai_node.imaging.film_pose import ALL_POSES, FilmPose
from dicom_ai_node.report import Analysis, LabelMap, Reason, SpineReport
from dicom_ai_node.results.encode import ResultObject, encode
from dicom_ai_node.results.film_views import found_pose
from dicom_ai_node.results.validate import validate
from dicom_ai_node.training.films import polygon_mask
from tests.results.shown import rendered

NAMES = [dress.name for dress in DRESSES]
UPRIGHT, LYING = "DX", "DX, MONOCHROME1, turned by 90"


@dataclass(frozen=True)
class EncodedFilm:
    """A film study with its results on disk."""

    study: FilmStudy
    objects: list[ResultObject]
    folder: Path

    def read(self, name: str) -> pydicom.FileDataset:
        return pydicom.dcmread(self.folder / f"{name}.dcm")


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], EncodedFilm]:
    """By the name of a dress."""
    made: dict[str, EncodedFilm] = {}

    def by_name(name: str) -> EncodedFilm:
        if name not in made:
            folder = tmp_path_factory.mktemp("film")
            study = make_film_study(next(dress for dress in DRESSES if dress.name == name), folder)
            pictures = name in {UPRIGHT, LYING}
            results = folder / "results"
            objects = encode(
                study.analysis, study.source, results, overlay=pictures, secondary_capture=pictures
            )
            made[name] = EncodedFilm(study, objects, results)
        return made[name]

    return by_name


def graphics(state: pydicom.Dataset, kind: str) -> list[tuple[str, npt.NDArray[np.float64]]]:
    """(layer, points as (row, column) edges) of all graphics of one kind."""
    return [
        (annotation.GraphicLayer, np.array(graphic.GraphicData, float).reshape(-1, 2)[:, ::-1])
        for annotation in state.GraphicAnnotationSequence
        for graphic in annotation.get("GraphicObjectSequence", ())
        if graphic.GraphicType == kind
    ]


def is_box(points: npt.NDArray[np.float64]) -> bool:
    return len(points) == 5 and bool((np.sort(np.abs(np.diff(points, axis=0)), axis=1)[:, 0] == 0).all())


def groups(report: pydicom.Dataset, level: Level) -> list[pydicom.Dataset]:
    """The measurement groups of one vertebra."""
    measurements = next(
        item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    return [
        group
        for group in measurements.ContentSequence
        if any(item.get("TextValue") == level.value for item in group.ContentSequence)
    ]


def scoords(item: pydicom.Dataset) -> list[tuple[str, str, npt.NDArray[np.float64], str]]:
    """(concept, graphic type, (row, column) edges, the image) of all SCOORDs below a content item."""
    found = []
    for child in item.get("ContentSequence", ()):
        if child.ValueType == "SCOORD":
            points = np.array(child.GraphicData, float).reshape(-1, 2)[:, ::-1]
            image = child.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            found.append((child.ConceptNameCodeSequence[0].CodeValue, child.GraphicType, points, image))
        found += scoords(child)
    return found


def drawn(outlines: list[npt.NDArray[np.float64]], shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The pixels inside closed outlines, whose coordinates are pixel edges."""
    inside = np.zeros(shape, bool)
    for outline in outlines:
        inside ^= polygon_mask(outline[:-1] - 0.5, shape)
    return inside


@pytest.mark.parametrize("name", NAMES)
def test_every_object_is_valid(film, tool, name):
    objects = film(name).objects
    expected = ["seg", "pr", "sr", "sc"] if name in {UPRIGHT, LYING} else ["seg", "pr", "sr"]
    assert [item.kind for item in objects] == expected
    validate(objects)
    assert "Test passed" in tool("dcmpschk", film(name).folder / "pr-1.dcm")


@pytest.mark.parametrize("name", [UPRIGHT, LYING])
def test_dciodvfy_finds_no_error_by_itself(film, with_tools, name):
    for item in film(name).objects:
        assert with_tools(checks.dciodvfy, item.path) == []
        assert checks.same_bytes_through_pydicom(item.path) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_segmentation_has_the_label_map_s_pixels(film, name):
    study, dataset = film(name).study, film(name).read("seg")
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    seen = np.zeros((dataset.Rows, dataset.Columns), np.uint8)
    for frame, groups_of_frame in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        number = groups_of_frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        level = Level(dataset.SegmentSequence[number - 1].SegmentLabel)
        assert (frame == study.masks[level]).all()
        seen[frame > 0] = verse_label(level)
    np.testing.assert_array_equal(seen, study.analysis.label_map.labels[0])


@pytest.mark.parametrize("name", [UPRIGHT, "SC, turned by 270"])
def test_highdicom_reads_the_same_pixels_by_the_film(film, name):
    study = film(name).study
    read = highdicom.seg.segread(film(name).folder / "seg.dcm")
    labels = read.get_pixels_by_source_instance(
        [study.film.instance.sop_instance_uid], combine_segments=True
    )[0]
    for number in read.segment_numbers:
        level = Level(read.get_segment_description(number).segment_label)
        np.testing.assert_array_equal(labels == number, study.masks[level])


@pytest.mark.parametrize("name", NAMES)
def test_the_segmentation_lies_on_the_film_and_in_no_space(film, name):
    study, dataset = film(name).study, film(name).read("seg")
    image = pydicom.dcmread(study.path, stop_before_pixels=True)
    assert "FrameOfReferenceUID" not in dataset
    assert (dataset.Rows, dataset.Columns) == (image.Rows, image.Columns)
    assert list(dataset.PatientOrientation) == list(image.PatientOrientation)
    assert "PlanePositionSequence" not in dataset.PerFrameFunctionalGroupsSequence[0]
    # Its plane is the film's own: its spacing, rows to the right, columns down.
    shared = dataset.SharedFunctionalGroupsSequence[0]
    spacing = image.get("PixelSpacing") or image.get("ImagerPixelSpacing") or [1, 1]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == list(spacing)
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert source.SpatialLocationsPreserved == "YES"
    listed = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert [item.ReferencedSOPInstanceUID for item in listed] == [image.SOPInstanceUID]
    colours = {
        item.SegmentLabel: list(item.RecommendedDisplayCIELabValue) for item in dataset.SegmentSequence
    }
    for vertebra in study.analysis.report:
        assert colours[vertebra.level] == pcs_cielab(grade_colour(vertebra.genant_grade))


@pytest.mark.parametrize("name", NAMES)
def test_the_presentation_state_draws_each_body_where_it_is(film, name):
    study, state = film(name).study, film(name).read("pr-1")
    polylines = graphics(state, "POLYLINE")
    boxes = [item for item in polylines if is_box(item[1])]
    outlines = [item for item in polylines if not is_box(item[1])]
    assert len(boxes) == len(study.masks)
    for vertebra, (layer, box) in zip(study.analysis.report, _in_order(study, boxes), strict=True):
        (top, bottom), (left, right) = study.extent(vertebra.level)
        assert (box.min(axis=0) == (top, left)).all()
        assert (box.max(axis=0) == (bottom + 1, right + 1)).all()
        grade = vertebra.genant_grade
        assert layer == ("AI UNGRADED" if grade is None else f"AI GRADE {grade}")
        inside = [
            points
            for on, points in outlines
            if on == layer and (points >= (top, left)).all() and (points <= (bottom + 1, right + 1)).all()
        ]
        mask = drawn(inside, study.film.shape)
        np.testing.assert_array_equal(mask[top : bottom + 1, left : right + 1], _cut(study, vertebra.level))
    centres = np.array([points[0] for layer, points in graphics(state, "CIRCLE") if layer == "AI POINTS"])
    expected = np.concatenate([found for level, found in study.points.items() if level is not UNJUDGED])
    assert len(centres) == len(expected)
    distance = np.linalg.norm(centres[:, None] - (expected + 0.5)[None], axis=-1)
    assert distance.min(axis=1).max() < 0.01


def _in_order(study: FilmStudy, boxes: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """The boxes from head to tail: nearest to the middle of each body."""
    ordered = []
    for level in study.masks:
        (top, bottom), (left, right) = study.extent(level)
        middle = np.array([top + bottom + 1, left + right + 1]) / 2
        ordered.append(min(boxes, key=lambda item: np.abs(item[1][:4].mean(axis=0) - middle).sum()))
    return ordered


def _cut(study: FilmStudy, level: Level) -> npt.NDArray[np.bool_]:
    (top, bottom), (left, right) = study.extent(level)
    return study.masks[level][top : bottom + 1, left : right + 1]


@pytest.mark.parametrize("name", NAMES)
def test_the_report_s_coordinates_lie_on_the_bodies(film, name):
    study, report = film(name).study, film(name).read("sr")
    for vertebra in study.analysis.report:
        main, boxed, *others = groups(report, vertebra.level)
        (top, bottom), (left, right) = study.extent(vertebra.level)
        regions = [item for item in scoords(boxed) if item[0] == "111030"]
        assert [item[1] for item in regions] == ["POLYLINE"]
        assert is_box(regions[0][2])
        assert (regions[0][2].min(axis=0) == (top, left)).all()
        assert (regions[0][2].max(axis=0) == (bottom + 1, right + 1)).all()
        outlines = [points for group in others for _, _, points, _ in scoords(group)]
        np.testing.assert_array_equal(drawn(outlines, study.film.shape), study.masks[vertebra.level])
        measured = [item for item in scoords(main) if item[0] == "121112"]
        for _, kind, points, _ in measured:
            wanted = study.points[vertebra.level] + 0.5
            places = wanted if kind == "MULTIPOINT" else _pair(wanted, points)
            np.testing.assert_allclose(points, places, atol=1e-3)
        calibrated = study.dress.pixel_spacing == "calibrated"
        judged = vertebra.level is not UNJUDGED
        assert [kind for _, kind, _, _ in measured] == judged * (
            ["MULTIPOINT"] + calibrated * ["POLYLINE"] * 3
        )
        images = {image for group in (main, boxed, *others) for *_, image in scoords(group)}
        assert images == {study.film.instance.sop_instance_uid}


def _pair(six: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The superior and inferior point of the column of points that a line runs along."""
    pairs = six.reshape(3, 2, 2)
    nearest: npt.NDArray[np.float64] = min(pairs, key=lambda pair: float(np.abs(pair - points).sum()))
    return nearest


@pytest.mark.parametrize("name", [UPRIGHT, LYING, "SC, turned by 270"])
def test_highdicom_finds_numbers_box_outline_and_segment_in_planar_groups(film, name):
    study = film(name).study
    content = highdicom.sr.srread(film(name).folder / "sr.dcm").content
    planar = content.get_planar_roi_measurement_groups()
    assert not content.get_volumetric_roi_measurement_groups()
    segmentation = film(name).read("seg")
    for number, vertebra in enumerate(study.analysis.report, start=1):
        own = [group for group in planar if group.tracking_identifier == vertebra.level]
        assert len({group.tracking_uid for group in own}) == 1
        assert {group.finding_sites[0].value.value for group in own} == {code(vertebra.level).value}
        read = {item.name.meaning: (item.value, item.unit.value) for item in own[0].get_measurements()}
        expected = checks.expected_numbers(vertebra)
        if vertebra.fractured:
            expected |= {
                "Probability of acute vertebral fracture": (70.0, "%"),
                "Probability of chronic vertebral fracture": (20.0, "%"),
                "Probability of pathological vertebral fracture": (10.0, "%"),
            }
        assert read.keys() == expected.keys()
        for quantity, (value, unit) in expected.items():
            assert read[quantity] == (pytest.approx(value, abs=0.006), unit)
        assert own[1].roi.value.shape == (5, 2)
        frames = [
            item.ReferencedSOPSequence[0]
            for item in groups(film(name).read("sr"), vertebra.level)[0].ContentSequence
            if item.ValueType == "IMAGE" and item.ConceptNameCodeSequence[0].CodeValue == "121214"
        ]
        assert [item.ReferencedFrameNumber for item in frames] == [number]
        assert frames[0].ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert segmentation.SegmentSequence[number - 1].SegmentLabel == vertebra.level


def test_acuity_is_coded_with_the_algorithm_that_judged_it(film, tool):
    report = film(UPRIGHT).read("sr")
    main = groups(report, Level.L1)[0]
    kinds = {
        item.ConceptNameCodeSequence[0].CodeMeaning: item
        for item in main.ContentSequence
        if "ConceptNameCodeSequence" in item
    }
    value = kinds["Acuity or cause of vertebral fracture"].ConceptCodeSequence[0]
    assert (value.CodeValue, value.CodingSchemeDesignator) == ("373933003", "SCT")
    modifiers = {
        item.ConceptNameCodeSequence[0].CodeValue: item.get("TextValue")
        for item in kinds["Probability of pathological vertebral fracture"].ContentSequence
    }
    assert modifiers == {"121071": None, "111001": "radiograph-acuity", "111003": "1.2"}
    printed = tool("dsrdump", "+Pl", film(UPRIGHT).folder / "sr.dcm")
    assert "L1: moderate wedge fracture" in printed
    assert "possibly acute (70 %)" in printed
    healthy = groups(report, Level.L2)[0]
    assert not any(
        "PROB-ACUTE" in str(item.get("ConceptNameCodeSequence")) for item in healthy.ContentSequence
    )


def test_without_calibration_there_are_ratios_and_no_millimetres(film):
    uncalibrated = film("CR, MONOCHROME1, turned by 180")
    numbers = [
        item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        for level in uncalibrated.study.masks
        for item in groups(uncalibrated.read("sr"), level)[0].ContentSequence
        if item.ValueType == "NUM"
    ]
    assert set(numbers) == {"%"}
    comments = [item.value for item in uncalibrated.read("sr").iterall() if item.keyword == "TextValue"]
    assert any("magnification is not known" in words for words in comments)
    area = uncalibrated.read("pr-1").DisplayedAreaSelectionSequence[0]
    assert "PresentationPixelSpacing" not in area
    assert list(area.PresentationPixelAspectRatio) == [1, 1]
    calibrated = film(UPRIGHT).read("pr-1").DisplayedAreaSelectionSequence[0]
    spacing = film(UPRIGHT).study.film.spacing
    assert [float(value) for value in calibrated.PresentationPixelSpacing] == pytest.approx(
        [spacing.rows_mm, spacing.columns_mm]
    )


@pytest.mark.parametrize("name", NAMES)
def test_dcmtk_shows_the_film_with_bone_bright(film, tool, tmp_path, name):
    study = film(name).study
    shown = rendered(tool, study.path, film(name).folder / "pr-1.dcm", tmp_path)
    np.testing.assert_allclose(shown, study.dress.turn(study.upright) * 255, atol=1.5)


@pytest.mark.parametrize("name", [UPRIGHT, LYING, "CR, MONOCHROME1, turned by 180", NAMES[-1]])
def test_with_a_pose_dcmtk_shows_the_film_upright(film, tool, tmp_path, name):
    study = film(name).study
    pose = FilmPose(study.dress.quarters, study.dress.mirrored)
    objects = encode(study.analysis, study.source, tmp_path, overlay=False, pose=pose)
    validate(objects)
    state = pydicom.dcmread(tmp_path / "pr-1.dcm")
    assert ("ImageRotation" in state) == (pose != FilmPose())
    shown = rendered(tool, study.path, tmp_path / "pr-1.dcm", tmp_path)
    np.testing.assert_allclose(shown, study.upright * 255, atol=1.5)
    # Graphics stay in the film's own pixels whatever the screen does.
    for kind in ("POLYLINE", "CIRCLE"):
        before, after = graphics(film(name).read("pr-1"), kind), graphics(state, kind)
        for (_, first), (_, second) in zip(before, after, strict=True):
            np.testing.assert_allclose(np.sort(first, axis=0)[0], np.sort(second, axis=0)[0], atol=3)
    assert_labels_stand_beside_the_bodies(study, state, study.dress.turn)


@pytest.mark.parametrize("name", NAMES)
def test_labels_stand_inside_the_film_beside_the_bodies(film, name):
    study, state = film(name).study, film(name).read("pr-1")
    assert_labels_stand_beside_the_bodies(study, state, None)


def assert_labels_stand_beside_the_bodies(
    study: FilmStudy, state: pydicom.Dataset, turn: Callable[..., Any] | None
) -> None:
    """Also when turned: then the first corner is the shown top left one, wherever that is stored."""
    labels = [
        label
        for annotation in state.GraphicAnnotationSequence
        for label in annotation.get("TextObjectSequence", ())
        if label.BoundingBoxAnnotationUnits == "PIXEL"
    ]
    assert {label.UnformattedTextValue.split()[0] for label in labels} == {str(item) for item in study.masks}
    shapes = [points for _, points in graphics(state, "POLYLINE")]
    boxes = []
    for label in labels:
        first = np.array(label.BoundingBoxTopLeftHandCorner, float)[::-1]
        last = np.array(label.BoundingBoxBottomRightHandCorner, float)[::-1]
        if turn is None:
            assert (last > first).all()
        low, high = np.minimum(first, last), np.maximum(first, last)
        assert (low >= 0).all()
        assert (high <= np.array(study.film.shape) + 0.01).all()
        for points in shapes:
            assert ((points.max(axis=0) <= low + 0.01) | (points.min(axis=0) >= high - 0.01)).any()
        for other_low, other_high in boxes:
            assert ((other_high <= low + 0.01) | (other_low >= high - 0.01)).any()
        boxes.append((low, high))
    fracture = next(label for label in labels if label.UnformattedTextValue.startswith("L1"))
    assert fracture.UnformattedTextValue.endswith("acute")
    assert " G2 -" in fracture.UnformattedTextValue


def test_texts_of_a_turned_film_run_from_its_shown_top_left_corner(film, tmp_path):
    study = film(LYING).study
    encode(study.analysis, study.source, tmp_path, overlay=False, pose=FilmPose(1))
    state = pydicom.dcmread(tmp_path / "pr-1.dcm")
    assert (state.ImageRotation, state.ImageHorizontalFlip) == (270, "N")
    rows, columns = study.film.shape
    area = state.DisplayedAreaSelectionSequence[0]
    # Stored a quarter clockwise: what is shown top left is stored top right.
    assert list(area.DisplayedAreaTopLeftHandCorner) == [columns, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [1, rows]
    for annotation in state.GraphicAnnotationSequence:
        for label in annotation.get("TextObjectSequence", ()):
            if label.BoundingBoxAnnotationUnits == "PIXEL":
                first, last = label.BoundingBoxTopLeftHandCorner, label.BoundingBoxBottomRightHandCorner
                assert first[0] > last[0]
                assert first[1] < last[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_findings_tell_how_the_film_lies(film, name):
    study = film(name).study
    report = study.analysis.report
    assert found_pose(report) == FilmPose(study.dress.quarters, study.dress.mirrored) == study.film.pose
    no_points = replace(report, vertebrae=tuple(replace(vertebra, six_points=None) for vertebra in report))
    assert found_pose(no_points) == FilmPose(study.dress.quarters)
    assert found_pose(replace(report, vertebrae=())) is None


def test_a_pose_s_way_to_the_upright_film_leads_back():
    points = np.array([[0.0, 0.0], [3.0, 11.5], [6.0, 2.25]])
    numbered = np.arange(7 * 13).reshape(7, 13)
    for pose in ALL_POSES:
        upright = pose.as_upright(points, (7, 13))
        np.testing.assert_allclose(pose.as_stored(upright, (7, 13)), points)
        row, column = upright[0].astype(int)
        assert pose.upright(numbered)[row, column] == 0


def test_a_film_gets_the_files_of_a_series(film):
    folder = film(UPRIGHT).folder
    names = {"report.json", "seg.dcm", "pr-1.dcm", "sr.dcm", "sc-1.dcm", "overlay.png"}
    assert {path.name for path in folder.iterdir()} == names
    written = SpineReport.from_json((folder / "report.json").read_text())
    assert written == film(UPRIGHT).study.analysis.report
    with Image.open(folder / "overlay.png") as picture:
        np.testing.assert_array_equal(film(UPRIGHT).read("sc-1").pixel_array, np.asarray(picture))
    # The other file of the series is not what was analysed.
    study = film(UPRIGHT).read("sr").CurrentRequestedProcedureEvidenceSequence[0]
    evidence = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    uid = film(UPRIGHT).study.film.instance.sop_instance_uid
    assert evidence == {uid, film(UPRIGHT).read("seg").SOPInstanceUID}


@pytest.mark.parametrize("name", [UPRIGHT, LYING])
def test_the_image_library_says_how_large_pixels_are_and_how_the_film_lies(film, name):
    image = pydicom.dcmread(film(name).study.path, stop_before_pixels=True)
    said: dict[str, Any] = {}
    for item in film(name).read("sr").iterall():
        if item.keyword == "ContentSequence":
            for child in item.value:
                if child.get("RelationshipType") == "HAS ACQ CONTEXT" and child.ValueType in {"NUM", "TEXT"}:
                    concept = child.ConceptNameCodeSequence[0].CodeMeaning
                    measured = child.get("MeasuredValueSequence")
                    said[concept] = float(measured[0].NumericValue) if measured else child.TextValue
    rows, columns = (float(value) for value in image.PixelSpacing)
    assert said["Vertical Pixel Spacing"] == pytest.approx(rows, abs=1e-6)
    assert said["Horizontal Pixel Spacing"] == pytest.approx(columns, abs=1e-6)
    assert said["Patient Orientation Row"] == image.PatientOrientation[0]
    assert said["Patient Orientation Column"] == image.PatientOrientation[1]


def test_the_same_call_writes_the_same_bytes(film, tmp_path):
    study = film(LYING).study
    encode(study.analysis, study.source, tmp_path, secondary_capture=True)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in film(LYING).folder.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (film(LYING).folder / name).read_bytes(), name


def test_the_overview_of_a_lying_film_is_that_of_the_upright_one(film):
    """Turned head up as the findings tell, with bone bright whatever the values mean."""
    pictures = []
    for name in (UPRIGHT, LYING):
        with Image.open(film(name).folder / "overlay.png") as picture:
            pictures.append(np.asarray(picture))
    np.testing.assert_array_equal(*pictures)


def test_the_overview_colours_each_body_by_its_grade(film):
    study = film(UPRIGHT).study
    with Image.open(film(UPRIGHT).folder / "overlay.png") as picture:
        pixels = np.asarray(picture).astype(int)
    rows, columns = study.film.shape
    scale = 1200 / rows
    drawing = pixels[64 : 64 + 1200, 110 : 110 + round(columns * scale)]
    for vertebra in study.analysis.report:
        colour = np.array(grade_colour(vertebra.genant_grade))
        near = (np.abs(drawing - colour).sum(axis=-1) < 60).nonzero()
        (top, bottom), (left, right) = study.extent(vertebra.level)
        inside = (near[0] > top * scale - 4) & (near[0] < (bottom + 1) * scale + 4)
        # Grades 0 to 2 and none occur once each: all of a colour is this body's outline.
        assert inside.mean() > 0.98
        extent = np.array([near[0][inside].min(), near[0][inside].max(), near[1][inside].min()])
        wanted = np.array([top * scale, (bottom + 1) * scale, left * scale])
        assert np.abs(extent - wanted).max() < 6
        assert abs(near[1][inside].max() - (right + 1) * scale) < 6


def test_what_could_not_be_analysed_comes_back_as_a_report_alone(film, tmp_path):
    study = film(UPRIGHT).study
    report = SpineReport(
        "not-analysable",
        study.analysis.report.source,
        reasons=(Reason("orientation", "The film shows the spine from the front."),),
    )
    objects = encode(Analysis(report), study.source, tmp_path)
    assert [item.kind for item in objects] == ["sr"]
    validate(objects)
    dataset = pydicom.dcmread(tmp_path / "sr.dcm")
    assert any("from the front" in str(item.value) for item in dataset.iterall() if item.VR == "UT")
    assert (tmp_path / "overlay.png").exists()


def test_without_a_label_map_boxes_and_points_remain(film, tmp_path):
    study = film(LYING).study
    objects = encode(Analysis(study.analysis.report), study.source, tmp_path)
    assert [item.kind for item in objects] == ["pr", "sr"]
    validate(objects)
    state = pydicom.dcmread(tmp_path / "pr-1.dcm")
    assert all(is_box(points) for _, points in graphics(state, "POLYLINE"))
    assert len(graphics(state, "POLYLINE")) == len(study.masks)


@pytest.mark.parametrize("wrong", ["shape", "affine"])
def test_a_label_map_that_does_not_lie_on_the_film_is_refused(film, tmp_path, wrong):
    study = film(UPRIGHT).study
    labels = study.analysis.label_map.labels
    changed = LabelMap(labels[:, 1:], None) if wrong == "shape" else LabelMap(labels, np.eye(4))
    with pytest.raises(EncodingError, match={"shape": "shape", "affine": "radiograph"}[wrong]):
        encode(replace(study.analysis, label_map=changed), study.source, tmp_path, overlay=False)
