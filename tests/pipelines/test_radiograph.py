"""The pipeline of radiographs with networks that know the truth: what is joined, mapped and said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.film_pose import ALL_POSES, FilmPose
from dicom_ai_node.imaging.film_spacing import FilmSpacing
from dicom_ai_node.networks.half_precision import InHalfTheBits
from dicom_ai_node.report_schema import json_schema
from dicom_ai_node.training.films import polygon_mask
from tests.pipelines.film_oracle import LEVELS, Oracle, by_level, column, pipeline, radiograph

pytestmark = pytest.mark.usefixtures("crops_are_known")


def test_every_vertebra_is_named_measured_and_graded() -> None:
    film = column()
    analysis = pipeline(Oracle(film)).analyse(radiograph(film))
    found = by_level(analysis)
    assert tuple(found) == LEVELS
    for item in film.vertebrae:
        answer = found[item.level]
        assert item.six_points is not None
        assert answer.six_points.to_array() == pytest.approx(item.six_points, abs=1.0)
        assert answer.genant_grade == item.grade
        assert answer.fractured is item.fractured
        assert answer.deformity == item.deformity
        assert answer.box_px.rows == pytest.approx(item.box[[0, 2]], abs=1.5)
        assert answer.box_px.columns == pytest.approx(item.box[[1, 3]], abs=1.5)
        assert answer.heights_mm.posterior == pytest.approx(44 * 0.55, rel=0.04)
    assert found[Level.L2].classes["radiograph-acuity"] == pytest.approx(
        {"acute": 0.1, "chronic": 0.7, "pathologic": 0.2}, abs=1e-6
    )
    assert "radiograph-acuity" not in found[Level.L1].classes
    assert len(analysis.report.algorithms) == 5


@pytest.mark.parametrize("pose", ALL_POSES, ids=str)
def test_films_stored_turned_or_mirrored_are_read_alike_and_mapped_back(pose: FilmPose) -> None:
    upright = column()
    # A stored film that is mirrored is, once turned, a film that faces the other way.
    seen = column(facing=-1) if pose.mirrored else upright
    pixels = upright.pixels if not pose.mirrored else seen.pixels
    turn = FilmPose(pose.quarters)
    stored = turn.image_as_stored(pixels)
    analysis = pipeline(Oracle(seen)).analyse(radiograph(seen, pixels=stored))
    assert analysis.label_map is not None
    labels = analysis.label_map.labels[0]
    assert labels.shape == stored.shape
    for item in seen.vertebrae:
        assert item.six_points is not None
        answer = by_level(analysis)[item.level]
        expected = turn.as_stored(item.six_points, stored.shape)
        assert answer.six_points.to_array() == pytest.approx(expected, abs=1.0)
        true = turn.image_as_stored(polygon_mask(item.outline, pixels.shape))
        mine = labels == verse_label(item.level)
        assert 2 * (mine & true).sum() / (mine.sum() + true.sum()) > 0.93
        assert answer.genant_grade == item.grade


def test_without_a_calibration_ratios_are_given_and_no_millimetres() -> None:
    film = column()
    for spacing in (None, FilmSpacing(0.9, 0.9, "detector")):
        analysis = pipeline(Oracle(film)).analyse(radiograph(film, spacing=spacing))
        answer = by_level(analysis)[Level.L2]
        assert answer.heights_mm is None
        assert answer.height_loss == pytest.approx(0.35, abs=0.03)
        assert answer.genant_grade == 2
        assert any(note.code == "spacing" for note in analysis.report.limitations)


@pytest.mark.parametrize(
    ("missed", "told"),
    [
        ({"seen"}, "drawn by the dense network"),
        ({"drawn"}, "seen by the detector"),
        ({"seen", "drawn"}, "guessed from the neighbours"),
    ],
)
def test_a_body_that_one_network_missed_is_reported_and_told(missed: set[str], told: str) -> None:
    film = column()
    others = tuple(level for level in LEVELS if level is not Level.L3)
    analysis = pipeline(replace(Oracle(film), **dict.fromkeys(missed, others))).analyse(radiograph(film))
    assert tuple(by_level(analysis)) == LEVELS
    (note,) = (note for note in analysis.report.limitations if note.code == "disagreement")
    assert note.text.startswith("L3: ")
    assert told in note.text
    assert not any(answer.reasons for answer in by_level(analysis).values())
    assert (analysis.label_map.labels == verse_label(Level.L3)).any()  # type: ignore[union-attr]


def test_a_box_that_the_detector_did_not_confirm_may_hold_half_a_body_or_two() -> None:
    film = column()
    seen = tuple(level for level in LEVELS if level is not Level.L3)
    found = by_level(pipeline(Oracle(film, seen=seen, unsure=1.5)).analyse(radiograph(film)))
    assert found[Level.L3].six_points is None
    assert [reason.code for reason in found[Level.L3].reasons] == ["model-refused"]
    assert all(found[level].six_points is not None for level in seen)


@pytest.mark.parametrize(
    ("rows", "missed", "told"),
    [(400, (), True), (325, (), True), (310, (), False), (325, (LEVELS[-1],), True)],
)
def test_what_lies_beyond_the_edge_of_the_film_is_not_reported(
    rows: int, missed: tuple[Level, ...], told: bool
) -> None:
    film = column()
    assert film.vertebrae[-1].box[[0, 2]].tolist() == [296, 340]
    film = replace(film, pixels=film.pixels[:rows])
    oracle = Oracle(film, seen=tuple(level for level in LEVELS if level not in missed))
    analysis = pipeline(oracle).analyse(radiograph(film))
    found = by_level(analysis)
    assert tuple(found) == (LEVELS if told else LEVELS[:-1])
    if told:
        assert [reason.code for reason in found[LEVELS[-1]].reasons] == ["coverage"] * (rows < 400)


def test_a_detector_of_boxes_alone_serves_too() -> None:
    film = column()
    analysis = pipeline(Oracle(film, draws=False)).analyse(radiograph(film))
    assert tuple(by_level(analysis)) == LEVELS
    assert by_level(analysis)[Level.L2].fractured
    for level in LEVELS:
        assert (analysis.label_map.labels == verse_label(level)).any()  # type: ignore[union-attr]


def test_heights_of_a_turned_film_are_told_by_the_spacing_along_the_spine() -> None:
    film = column()
    for quarters, spacing in ((0, (0.55, 1.1)), (1, (1.1, 0.55))):
        stored = FilmPose(quarters).image_as_stored(film.pixels)
        about = radiograph(film, pixels=stored, spacing=FilmSpacing(*spacing, "fiducial"))
        answer = by_level(pipeline(Oracle(film)).analyse(about))[Level.L3]
        assert answer.heights_mm.posterior == pytest.approx(44 * 0.55, rel=0.04)


def test_points_that_lie_elsewhere_at_every_look_are_not_used() -> None:
    film = column()
    sure, unsure = (pipeline(Oracle(film, unsure=px)).analyse(radiograph(film)) for px in (1.0, 9.0))
    assert all(item.heights_mm is not None for item in sure.report)
    for item in unsure.report:
        assert item.six_points is None
        assert item.genant_grade is None
        assert "looked at three times" in item.reasons[0].text


def test_a_view_that_the_header_calls_otherwise_is_told() -> None:
    film = column()
    analysis = pipeline(Oracle(film)).analyse(radiograph(film, view="frontal", view_source="ViewPosition"))
    assert any("frontal" in note.text for note in analysis.report.limitations)


def test_a_refusal_tells_that_the_header_says_otherwise() -> None:
    film = column()
    oracle = Oracle(film, lateral=lambda _picture: False)
    with pytest.raises(NotAnalysable, match=r"calls it lateral \(ViewPosition\); the image was believed"):
        pipeline(oracle).analyse(radiograph(film, view="lateral", view_source="ViewPosition"))


def test_where_the_image_is_in_doubt_the_header_is_heard() -> None:
    film = column()
    doubtful = Oracle(film, sure=0.23)  # 25 %
    for view in (None, "frontal"):
        with pytest.raises(NotAnalysable, match="does not look like"):
            pipeline(doubtful).analyse(radiograph(film, view=view, view_source="ViewPosition"))
    said = radiograph(film, view="lateral", view_source="ViewPosition")
    assert tuple(by_level(pipeline(doubtful).analyse(said))) == LEVELS
    with pytest.raises(NotAnalysable, match="no column of vertebrae"):
        pipeline(replace(doubtful, seen=LEVELS[:2])).analyse(said)


def test_a_turn_that_the_header_does_not_tell_has_to_be_clear_in_the_image() -> None:
    film = column()
    hazy = pipeline(Oracle(film, sure=1.73))  # 60 %
    assert tuple(by_level(hazy.analyse(radiograph(film)))) == LEVELS
    turned = radiograph(film, pixels=FilmPose(1).image_as_stored(film.pixels))
    with pytest.raises(NotAnalysable, match="only when turned by 90 degrees counter-clockwise"):
        hazy.analyse(turned)
    assert tuple(by_level(hazy.analyse(replace(turned, pose=FilmPose(1))))) == LEVELS
    # A header that calls it lateral, but upright as it is, contradicts the image that it is to help.
    told = replace(turned, view="lateral", view_source="ViewPosition")
    assert tuple(by_level(hazy.analyse(told))) == LEVELS
    with pytest.raises(NotAnalysable, match="Its header calls it lateral"):
        hazy.analyse(replace(told, pose=FilmPose(0)))


def _air_is_dark(picture: Tensor) -> bool:
    """Above the drawn column lies a stripe without anything; pictures reach from 0 or from -1 to 1."""
    return float(picture[2].mean()) < float(picture.mean()) - 0.1


def test_a_film_whose_header_exchanges_black_and_white_is_read_as_it_looks_and_told() -> None:
    film = column()
    seeing = Oracle(film, lateral=_air_is_dark, known=lambda picture: 1.0 if _air_is_dark(picture) else 0.4)
    plain = pipeline(seeing).analyse(radiograph(film))
    assert not any("black and white" in note.text for note in plain.report.limitations)
    stored = radiograph(film, pixels=1 - film.pixels)
    inverted = pipeline(seeing).analyse(stored)
    assert [note.code for note in inverted.report.limitations if "black and white" in note.text] == [
        "modality-mismatch"
    ]
    assert by_level(inverted)[Level.L2].genant_grade == 2
    # The header is believed unless both networks know the film better otherwise.
    with pytest.raises(NotAnalysable, match="does not look like"):
        pipeline(replace(seeing, known=lambda _picture: 1.0)).analyse(stored)
    with pytest.raises(NotAnalysable, match="no column"):
        pipeline(replace(seeing, seen=LEVELS[:2])).analyse(stored)


def test_a_film_that_is_not_lateral_is_refused_with_what_it_shows() -> None:
    film = column()
    oracle = Oracle(film, lateral=lambda _picture: False)
    with pytest.raises(NotAnalysable, match="something else") as refusal:
        pipeline(oracle).analyse(radiograph(film))
    assert refusal.value.code == "orientation"


def test_a_doubtful_view_is_read_where_a_column_is_found_and_refused_where_none_is() -> None:
    film = column()
    doubtful = Oracle(film, sure=1.2)
    assert tuple(by_level(pipeline(doubtful).analyse(radiograph(film)))) == LEVELS
    two = replace(
        doubtful, film=replace(film, vertebrae=film.vertebrae[:2]), seen=LEVELS[:2], drawn=LEVELS[:2]
    )
    with pytest.raises(NotAnalysable, match="no column of vertebrae") as refusal:
        pipeline(two).analyse(radiograph(film))
    assert refusal.value.code == "no-spine"
    unseen = replace(doubtful, seen=LEVELS[:2])
    with pytest.raises(NotAnalysable, match="no column of vertebrae"):
        pipeline(unseen).analyse(radiograph(film))
    sure = pipeline(replace(two, sure=6.0)).analyse(radiograph(film))
    assert tuple(by_level(sure)) == LEVELS[:2]


def test_a_film_without_bodies_is_refused() -> None:
    film = column()
    oracle = Oracle(replace(film, vertebrae=()), seen=())
    with pytest.raises(NotAnalysable) as refusal:
        pipeline(oracle).analyse(radiograph(film))
    assert refusal.value.code == "no-spine"


def test_reports_follow_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    film = column()
    analysis = pipeline(Oracle(film)).analyse(radiograph(film))
    jsonschema.validate(analysis.report.to_dict(), json_schema())


def test_icons_are_refused() -> None:
    film = column()
    small = np.ascontiguousarray(film.pixels[::8, ::8])
    with pytest.raises(NotAnalysable) as refusal:
        pipeline(Oracle(film)).analyse(radiograph(film, pixels=small))
    assert refusal.value.code == "coverage"


def test_in_half_precision_the_view_and_the_detector_stay_as_they_are() -> None:
    film = column()
    plain = pipeline(Oracle(film))
    half = plain.in_half()
    halved = [item.name for item in half.bundles if isinstance(item.network, InHalfTheBits)]
    assert halved == ["radiograph-localise", "radiograph-points", "radiograph-acuity"]
    assert [item.name for item in half.bundles] == [item.name for item in plain.bundles]
    assert tuple(by_level(half.analyse(radiograph(film)))) == LEVELS
    # On a processor there is nothing to capture.
    assert [item.network for item in plain.in_graphs().bundles] == [item.network for item in plain.bundles]
