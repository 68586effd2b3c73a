"""A shape that every body of a spine has is no fracture; what stands out from it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import GENANT_THRESHOLDS, Heights, grade_spine
from dicom_ai_node.pipelines.fracture_evidence import (
    combined,
    fracture_probabilities,
    usual_concavity,
    with_grade,
)
from dicom_ai_node.report import Vertebra

LEVELS = (Level.T10, Level.T11, Level.T12, Level.L1, Level.L2, Level.L3)


def spine(concavity: float, **others: tuple[float, float, float]) -> dict[Level, Heights]:
    """Bodies 20 mm high whose middles are lower by a share of it, except those that are given."""
    heights = {level: Heights(20.0, 20.0 * (1 - concavity), 20.0) for level in LEVELS}
    return heights | {Level(name): Heights(*own) for name, own in others.items()}


def probabilities(heights: dict[Level, Heights]) -> dict[Level, float]:
    gradings = grade_spine(heights)
    return fracture_probabilities(heights, gradings, GENANT_THRESHOLDS, error=0.03)


def judged(heights: dict[Level, Heights], level: Level) -> Vertebra:
    found = Vertebra(level=level, level_confidence=1.0, level_alternatives={}, status="analysed")
    return with_grade(
        found, heights, grade_spine(heights)[level], probabilities(heights)[level], threshold=0.5
    )


def test_a_bowl_that_every_body_has_is_no_fracture_and_the_report_says_so() -> None:
    heights = spine(0.17, L1=(20.0, 15.6, 20.0))
    body = judged(heights, Level.L1)
    assert (body.genant_grade, body.deformity, body.fractured) == (1, "biconcave", False)
    (reason,) = body.reasons
    assert reason.code == "usual-shape"
    assert "L1" in reason.text
    assert "17%" in reason.text
    assert judged(heights, Level.L2).reasons == ()


def test_the_same_bowl_among_flat_bodies_is_a_fracture() -> None:
    body = judged(spine(0.05, L1=(20.0, 15.6, 20.0)), Level.L1)
    assert (body.genant_grade, body.fractured, body.reasons) == (1, True, ())


@pytest.mark.parametrize("usual", [0.0, 0.1, 0.15, 0.18])
@pytest.mark.parametrize(
    ("own", "deformity"),
    [((20.0, 12.0, 20.0), "biconcave"), ((14.0, 15.0, 20.0), "wedge"), ((12.0, 12.0, 12.0), "crush")],
)
def test_a_clear_fracture_is_one_in_every_spine(
    usual: float, own: tuple[float, float, float], deformity: str
) -> None:
    body = judged(spine(usual, L1=own), Level.L1)
    assert (body.deformity, body.fractured) == (deformity, True)


def test_where_most_bodies_have_given_way_their_shape_is_not_the_usual_one() -> None:
    heights = spine(0.4)
    assert usual_concavity(Level.L1, heights) == GENANT_THRESHOLDS.mild
    assert all(judged(heights, level).fractured for level in LEVELS)


def test_two_other_bodies_do_not_tell_the_usual_shape() -> None:
    heights = {level: Heights(20.0, 15.6, 20.0) for level in LEVELS[:3]}
    assert usual_concavity(Level.T10, heights) is None
    assert all(judged(heights, level).fractured for level in LEVELS[:3])


def test_a_loss_at_the_threshold_is_even_odds() -> None:
    assert probabilities(spine(0.05, L1=(16.0, 18.0, 20.0)))[Level.L1] == pytest.approx(0.5)


@given(st.floats(0.0, 0.19), st.floats(0.0, 0.6), st.floats(0.0, 0.3))
def test_the_deeper_a_body_the_more_probable_a_fracture(usual: float, loss: float, more: float) -> None:
    shallow, deep = (
        probabilities(spine(usual, L1=(20.0, 20.0 * (1 - own), 20.0)))[Level.L1]
        for own in (loss, loss + more)
    )
    assert deep >= shallow - 1e-9


def test_opinions_multiply_and_none_decides_alone() -> None:
    assert combined([(None, 0.2)], 0.7) == 0.7
    assert combined([(0.2, 0.2)], 0.7) == pytest.approx(0.7)  # what every body is taught to be says nothing
    assert combined([(0.5, 0.2)], 0.5) == pytest.approx(0.8)
    # A look counts more than heights that see nothing; where most bodies are sound it takes a second one.
    assert combined([(1.0, 0.6)], 0.0, share=0.25) < 0.5 < combined([(1.0, 0.6), (0.3, 0.2)], 0.0, share=0.25)
    assert combined([(0.0, 0.5)], 1.0) == pytest.approx(0.5)
    assert combined([(0.5, 0.2), (None, 0.9), (0.2, 0.5)], 0.5) == pytest.approx(0.5)
    assert combined([(0.5, 0.2)], 0.5, share=0.2) == pytest.approx(0.5)  # what is rare needs more
