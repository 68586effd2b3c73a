"""What the pipeline of radiographs calls a fracture: by heights, by the detector, by P1's network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.networks.film_classes import PUBLISHED_CLASSES
from dicom_ai_node.results.language import LANGUAGES
from dicom_ai_node.results.wording import class_shares, finding
from tests.pipelines.film_oracle import LEVELS, Oracle, by_level, column, pipeline, radiograph

pytestmark = pytest.mark.usefixtures("crops_are_known")


def test_detector_and_heights_that_disagree_are_told() -> None:
    film = column()
    analysis = pipeline(Oracle(film, broken=0.1)).analyse(radiograph(film))
    answer = by_level(analysis)[Level.L2]
    assert [reason.code for reason in answer.reasons] == ["disagreement"]
    assert "sound" in answer.reasons[0].text
    assert "grade 2" in answer.reasons[0].text


def test_p0_s_six_classes_find_fractures_beside_bodies_that_the_dense_network_finds() -> None:
    film = column()
    published = Oracle(film, classes=PUBLISHED_CLASSES, sure=1.2)
    analysis = pipeline(published).analyse(radiograph(film))
    found = by_level(analysis)
    assert tuple(found) == LEVELS
    assert [level for level in LEVELS if found[level].fractured] == [Level.L2]
    # Of a detector of fractures nobody expects that it sees healthy bodies.
    assert not [note for note in analysis.report.limitations if note.code == "disagreement"]
    assert not any(item.reasons for item in analysis.report)
    # What it does not see it calls sound, and its word counts.
    blind = by_level(pipeline(replace(published, seen=())).analyse(radiograph(film)))
    assert blind[Level.L2].fracture_probability < found[Level.L2].fracture_probability - 0.01
    assert [reason.code for reason in blind[Level.L2].reasons] == ["disagreement"]


def test_a_body_that_was_not_measured_but_looks_broken_is_pointed_out() -> None:
    film = column()
    found = by_level(pipeline(Oracle(film, unsure=9.0)).analyse(radiograph(film)))
    assert [reason.code for reason in found[Level.L2].reasons] == ["model-refused", "disagreement"]
    assert "broken (90% fractured), but it was not measured" in found[Level.L2].reasons[1].text
    assert [reason.code for reason in found[Level.L1].reasons] == ["model-refused"]


BROKEN_BY_LOOKS = (0.25, 0.45, 0.28)


NOT_L2 = tuple(level for level in LEVELS if level is not Level.L2)


@pytest.mark.parametrize(("seen", "unsure"), [(LEVELS, 9.0), (NOT_L2, 1.5)])
def test_a_body_that_was_not_measured_is_a_fracture_where_p1_is_sure(
    seen: tuple[Level, ...], unsure: float
) -> None:
    film = column()
    looks = Oracle(
        film,
        age=BROKEN_BY_LOOKS,
        sees_healthy=True,
        tells_apart=True,
        unsure=unsure,
        unsure_of=(Level.L2,),
        seen=seen,
    )
    found = by_level(pipeline(looks).analyse(radiograph(film)))
    answer = found[Level.L2]
    assert (answer.status, answer.fractured, answer.genant_grade) == ("analysed", True, None)
    assert answer.acuity[0] == "chronic"
    assert [reason.code for reason in answer.reasons] == ["model-refused"]
    assert finding(answer).startswith("L2: vertebral fracture, not graded, possibly chronic")
    # The others are sound by their heights, and stay so.
    assert not any(found[level].fractured for level in LEVELS if level is not Level.L2)


@pytest.mark.parametrize(
    "changes",
    [
        {"age": (0.01, 0.02, 0.02)},
        # A network that calls sound bodies broken too speaks of the film.
        {"tells_apart": False},
        # Of a film on which nothing was measured nobody knows whether it does.
        {"unsure_of": LEVELS},
        # As published it knows fractures alone.
        {"sees_healthy": False},
        # Where a body lies that one network overlooks and the other points at differently at every look,
        # nobody knows: the crop may show something else.
        {"seen": NOT_L2},
    ],
)
def test_what_was_not_measured_and_is_not_plainly_broken_is_not_judged(changes: dict[str, Any]) -> None:
    film = column()
    looks = Oracle(
        film, age=BROKEN_BY_LOOKS, sees_healthy=True, tells_apart=True, unsure=9.0, unsure_of=(Level.L2,)
    )
    if not changes.get("sees_healthy", True):
        changes = {**changes, "age": (0.1, 0.7, 0.2)}
    answer = by_level(pipeline(replace(looks, **changes)).analyse(radiograph(film)))[Level.L2]
    assert (answer.status, answer.fractured, answer.fracture_probability) == ("not-analysable", None, None)


def test_what_looks_healthy_is_broken_only_where_its_heights_are_clear() -> None:
    film = column()
    plain = by_level(pipeline(Oracle(film)).analyse(radiograph(film)))
    age = (0.01, 0.02, 0.02)
    seen = by_level(pipeline(Oracle(film, age=age, sees_healthy=True)).analyse(radiograph(film)))
    for level in (Level.L1, Level.L2):
        assert seen[level].fracture_probability < plain[level].fracture_probability
        assert seen[level].genant_grade == plain[level].genant_grade
    # Ages are told given that the body is broken.
    assert seen[Level.L2].fractured
    assert seen[Level.L2].classes["radiograph-acuity"] == pytest.approx(
        {"acute": 0.2, "chronic": 0.4, "pathologic": 0.4}, abs=1e-6
    )


def test_what_p1_thinks_of_every_body_is_kept_beside_the_ages_of_broken_ones() -> None:
    film = column()
    seen = by_level(
        pipeline(Oracle(film, age=(0.01, 0.02, 0.02), sees_healthy=True)).analyse(radiograph(film))
    )
    for vertebra in seen.values():
        own = vertebra.classes["radiograph-acuity-fracture"]
        assert own == pytest.approx({"healthy": 0.95, "fractured": 0.05}, abs=1e-6)
        said = class_shares("radiograph-acuity-fracture", own, LANGUAGES["de"])
        assert said == "radiograph-acuity-fracture: nicht gebrochen 95 %, gebrochen 5 %"
    assert "radiograph-acuity" not in seen[Level.L1].classes
    assert seen[Level.L2].acuity is not None
    # As published it knows fractures alone, and has no such opinion.
    published = by_level(pipeline(Oracle(film)).analyse(radiograph(film)))
    assert not any("radiograph-acuity-fracture" in vertebra.classes for vertebra in published.values())
