"""The anatomy: asked fractures are there, the rest is healthy, the column looks like real ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level, may_follow
from dicom_ai_node.phantom import Spine, SpineOptions, sample_spine, truth
from dicom_ai_node.phantom.column import spine_statistics
from dicom_ai_node.phantom.fit_statistics import fit
from dicom_ai_node.report import Deformity

KINDS: tuple[Deformity, ...] = ("wedge", "biconcave", "crush")


def graded(spine: Spine) -> dict[Level, tuple[str, int]]:
    entries = truth(spine)["vertebrae"]
    return {
        Level(entry["level"]): (entry["deformity"], entry["genant_grade"])
        for entry in entries
        if entry["genant_grade"]
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grade", [1, 2, 3])
@pytest.mark.parametrize("level", ["T4", "T8", "T12", "L2", "L5"])
def test_an_asked_fracture_is_in_the_truth_and_nothing_else_is(
    kind: Deformity, grade: int, level: str
) -> None:
    spine = sample_spine(grade * 7 + len(level + kind), fractures={Level(level): (kind, grade)})
    assert graded(spine) == {Level(level): (kind, grade)}


def test_neighbouring_crushes_are_judged_by_the_sound_bodies_around_them() -> None:
    asked: dict[Level, tuple[Deformity, int]] = {
        Level.T12: ("crush", 2),
        Level.L1: ("crush", 3),
        Level.L2: ("wedge", 1),
    }
    assert graded(sample_spine(3, fractures=asked)) == asked


def test_an_empty_request_gives_a_healthy_spine() -> None:
    for seed in range(6):
        spine = sample_spine(seed, fractures={})
        assert graded(spine) == {}
        assert all(grading.loss < 0.2 for grading in spine.gradings.values())


def test_a_look_alike_is_deformed_but_not_fractured() -> None:
    spine = sample_spine(5, fractures={Level.T9: ("wedge", 0)})
    entry = next(entry for entry in truth(spine)["vertebrae"] if entry["level"] == "T9")
    assert 0.09 < entry["height_loss"] < 0.18
    assert (entry["fractured"], entry["deformity"], entry["disease"]) == (False, "none", [])


@pytest.mark.parametrize(
    ("level", "fracture"),
    [
        (Level.C5, ("wedge", 2)),
        (Level.S1, ("crush", 1)),
        (Level.L1, ("wedge", 4)),
        (Level.L1, ("burst", 2)),
        (Level.L1, ("none", 2)),
    ],
)
def test_what_cannot_break_is_refused(level: Level, fracture: tuple[Deformity, int]) -> None:
    with pytest.raises(ValueError, match=level.value):
        sample_spine(1, fractures={level: fracture})


def test_random_spines_have_fractures_in_about_half_of_them() -> None:
    counts = [len(graded(sample_spine(seed))) for seed in range(26)]
    assert 0.3 < np.mean([count > 0 for count in counts]) < 0.75
    assert max(counts) <= 4
    assert max(counts) >= 2


def test_levels_follow_each_other_and_extra_ones_can_be_had() -> None:
    for extra in (Level.L6, Level.T13, "none"):
        spine = sample_spine(2, options=SpineOptions(supernumerary=extra))  # type: ignore[arg-type]
        assert (extra in spine.levels) == (extra != "none")
        assert all(may_follow(a, b) for a, b in zip(spine.levels, spine.levels[1:], strict=False))
    assert spine.levels[-1] is Level.S1


def test_a_wedge_tilts_the_column_above_it_forward() -> None:
    straight = sample_spine(4, fractures={}, options=SpineOptions(rotation=0.0))
    bent = sample_spine(4, fractures={Level.L1: ("wedge", 3)}, options=SpineOptions(rotation=0.0))

    def lean(spine: Spine) -> float:
        up = spine[Level.T4].frame[:3, 2]
        return float(np.degrees(np.arctan2(-up[1], up[2])))

    assert lean(bent) > lean(straight) + 5
    np.testing.assert_allclose(bent[Level.S1].frame, straight[Level.S1].frame)
    assert bent[Level.T4].frame[2, 3] < straight[Level.T4].frame[2, 3]


def test_bodies_never_run_into_each_other() -> None:
    for seed in range(12):
        spine = sample_spine(seed)
        for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
            lower = above.frame @ [0, 0, 0.5 * (above.body.lower_front + above.body.lower_back), 1]
            inside = np.linalg.inv(below.frame) @ lower
            top = 0.5 * (below.body.upper_front + below.body.upper_back)
            assert inside[2] - top > 0.5, (seed, above.level)


def test_the_curve_is_that_of_real_spines() -> None:
    spines = [sample_spine(seed, fractures={}) for seed in range(26)]

    def tilt(spine: Spine, level: Level) -> float:
        up = spine[level].frame[:3, 2]
        return float(np.degrees(np.arctan2(-up[1], up[2])))

    lordosis = [tilt(spine, Level.S1) - tilt(spine, Level.L1) for spine in spines]
    kyphosis = [tilt(spine, Level.T4) - tilt(spine, Level.L1) for spine in spines]
    # Supine adults: lordosis L1-S1 about 50 (SD 12), kyphosis T4-T12 about 33 (SD 10) degrees.
    assert 42 < np.mean(lordosis) < 58
    assert 26 < np.mean(kyphosis) < 44
    spacing = [np.linalg.norm(s[Level.L2].frame[:3, 3] - s[Level.L3].frame[:3, 3]) for s in spines]
    names = spine_statistics()["chain"]
    expected = np.exp(spine_statistics()["mean"][3 * names.index("L2")])
    assert abs(np.mean(spacing) - expected) < 1.6


def test_the_shipped_statistics_are_those_of_the_source(shared_data: Path) -> None:
    fitted = fit(shared_data / "shape" / "vid" / "keypoints.json.gz")
    shipped = spine_statistics()
    assert fitted["spines"] == shipped["spines"] > 2000
    np.testing.assert_allclose(fitted["mean"], shipped["mean"], atol=1e-3)
    np.testing.assert_allclose(fitted["covariance"], shipped["covariance"], atol=1e-4)
    assert json.loads(json.dumps(fitted)).keys() == shipped.keys()
