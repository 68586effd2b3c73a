"""Sagittal CT slices that form no volume are judged slice by slice, where the administrator wants that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.config import Settings, settings_from
from dicom_ai_node.intake.router import RouteDecision, route_files

Series = Callable[..., list[Path]]

AXIAL = np.array([[0.0, 0, 2.0, -50], [0, 2.0, 0, -60], [4.0, 0, 0, -300], [0, 0, 0, 1]])
REFORMAT = ("DERIVED", "SECONDARY", "MPR")
STUDY = {"study_instance_uid": "1.2.3.4", "frame_of_reference_uid": "1.2.3.5"}


def sagittal(step_mm: float = 4.0, rows_mm: float = 12.0) -> np.ndarray:
    return np.array([[step_mm, 0, 0, -18], [0, 0, 1.5, -60], [0, -rows_mm, 0, -200], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def wanted() -> Settings:
    return settings_from(
        {"routes": {"ct": {"sagittal": True, "diseases": True, "max_pixel_spacing_mm": 20.0}}}
    )


def decide(paths: list[Path], settings: Settings) -> RouteDecision:
    (route,) = route_files(paths, settings)
    return route.decision


def test_few_thick_slices_go_to_the_slice_pipeline(write_series: Series, wanted: Settings) -> None:
    paths = write_series(9, sagittal())
    decision = decide(paths, wanted)
    assert decision.pipeline == "ct-sagittal"
    assert decision.reasons[0].startswith("9 sagittal slices, 4 mm apart")
    assert sorted(decision.paths) == sorted(paths)


def test_reformats_are_not_refused_for_being_derived(write_series: Series, wanted: Settings) -> None:
    assert decide(write_series(20, sagittal(3.0), image_type=REFORMAT), wanted).pipeline == "ct-sagittal"


def test_slices_too_far_apart_for_heights_are_judged(write_series: Series, wanted: Settings) -> None:
    assert decide(write_series(14, sagittal(8.0)), wanted).pipeline == "ct-sagittal"


def test_a_thin_sagittal_volume_is_a_volume(write_series: Series, wanted: Settings) -> None:
    assert decide(write_series(24, sagittal(2.0)), wanted).pipeline == "ct-volume"


def test_nothing_of_this_happens_where_it_is_switched_off(write_series: Series) -> None:
    settings = settings_from({"routes": {"ct": {"max_pixel_spacing_mm": 20.0, "sagittal": False}}})
    reformat = decide(write_series(20, sagittal(3.0), image_type=REFORMAT), settings)
    assert (reformat.pipeline, reformat.refusal) == (None, None)
    few = decide(write_series(9, sagittal()), settings)
    assert few.refusal is not None


def test_a_reformat_that_shows_too_little_is_no_failed_study(write_series: Series, wanted: Settings) -> None:
    decision = decide(write_series(3, sagittal(), image_type=REFORMAT), wanted)
    assert (decision.pipeline, decision.refusal) == (None, None)
    assert "send the whole series" in decision.reasons[0]


@pytest.mark.parametrize(
    ("count", "affine", "code"),
    [(3, sagittal(), "coverage"), (9, sagittal(rows_mm=3.0), "coverage"), (9, sagittal(11.0), "spacing")],
)
def test_what_slices_cannot_show_is_refused_with_the_reason(
    write_series: Series, wanted: Settings, count: int, affine: np.ndarray, code: str
) -> None:
    decision = decide(write_series(count, affine), wanted)
    assert decision.pipeline is None
    assert decision.refusal is not None
    assert decision.refusal.code == code


@pytest.mark.parametrize("word", ["LOCALIZER", "PROJECTION IMAGE", "MIP", "SCREEN SAVE"])
def test_projections_and_captures_stay_refused(write_series: Series, wanted: Settings, word: str) -> None:
    decision = decide(write_series(9, sagittal(), image_type=("DERIVED", "SECONDARY", word)), wanted)
    assert (decision.pipeline, decision.refusal) == (None, None)


def test_an_axial_reformat_stays_refused(write_series: Series, wanted: Settings) -> None:
    decision = decide(write_series(24, AXIAL, image_type=REFORMAT), wanted)
    assert (decision.pipeline, decision.refusal) == (None, None)


def test_a_reformat_beside_its_volume_carries_nothing_new(write_series: Series, wanted: Settings) -> None:
    paths = [*write_series(24, AXIAL, **STUDY), *write_series(9, sagittal(), image_type=REFORMAT, **STUDY)]
    decisions = [route.decision for route in route_files(paths, wanted.model_copy())]
    assert sorted(str(one.pipeline) for one in decisions) == ["None", "ct-volume"]
    (left,) = [one for one in decisions if one.pipeline is None]
    assert "carry nothing new" in left.reasons[0]
    assert left.refusal is None


def test_a_reformat_in_another_space_than_the_volume_is_judged(
    write_series: Series, wanted: Settings
) -> None:
    other = {**STUDY, "frame_of_reference_uid": "1.2.3.6"}
    paths = [*write_series(24, AXIAL, **STUDY), *write_series(9, sagittal(), image_type=REFORMAT, **other)]
    pipelines = {route.decision.pipeline for route in route_files(paths, wanted)}
    assert pipelines == {"ct-volume", "ct-sagittal"}
