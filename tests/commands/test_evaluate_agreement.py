"""Ways of computing agree on levels, grades and points, or `evaluate ...-agreement` says by how much not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_ai_node.anatomy import Level
from dicom_ai_node.cli import app
from dicom_ai_node.commands import evaluate_agreement
from dicom_ai_node.commands.evaluate_agreement import agreement
from dicom_ai_node.commands.evaluate_radiograph import radiograph_of
from dicom_ai_node.report import Analysis, SixPoints, Source, SpineReport, Vertebra
from dicom_ai_node.training.films import Film

POINTS = np.arange(18, dtype=np.float64).reshape(6, 3)


def report(*vertebrae: Vertebra) -> SpineReport:
    return SpineReport("analysed", Source("1.2", ("1.3",), "CT", "1.4"), vertebrae=vertebrae)


def vertebra(level: Level, grade: int = 0, moved_mm: float = 0.0) -> Vertebra:
    points = POINTS.copy()
    points[2, 1] += moved_mm
    return Vertebra(level, 1.0, six_points=SixPoints.from_array(points), genant_grade=grade)


def test_equal_reports_agree_in_all() -> None:
    one = report(vertebra(Level.L1), vertebra(Level.L2, grade=2))
    found = agreement(one, one)
    assert found["levels_same"] == [1.0]
    assert found["grade_same"] == found["points_agree"] == [1.0, 1.0]
    assert found["point_mm"] == [0.0, 0.0]


def test_another_level_grade_and_point_are_each_told() -> None:
    one = report(vertebra(Level.L1), vertebra(Level.L2))
    other = report(vertebra(Level.L1, moved_mm=0.4), vertebra(Level.L2, grade=1), vertebra(Level.L3))
    found = agreement(one, other)
    assert found["levels_same"] == [0.0]
    assert sorted(found["grade_same"]) == sorted(found["points_agree"]) == [0.0, 1.0]
    assert max(found["point_mm"]) == pytest.approx(0.4)


def test_a_body_that_one_way_does_not_measure_does_not_agree() -> None:
    one = vertebra(Level.L1)
    found = agreement(report(one), report(replace(one, six_points=None)))
    assert found["points_agree"] == [0.0]
    assert found["point_mm"] == []


@pytest.mark.parametrize(("other", "same"), [(None, 1.0), (report(vertebra(Level.L1)), 0.0)])
def test_a_refusal_agrees_with_a_refusal_alone(other: SpineReport | None, same: float) -> None:
    assert agreement(None, other)["levels_same"] == [same]


def test_places_in_pixels_are_held_against_each_other_in_millimetres() -> None:
    one, other = report(vertebra(Level.L1)), report(vertebra(Level.L1, moved_mm=2.0))
    found = agreement(one, other, unit_mm=0.14)
    assert found["point_mm"] == [pytest.approx(0.28)]
    assert found["points_agree"] == [1.0]


class Way:
    """Says always the same."""

    def __init__(self, moved: float) -> None:
        self.moved = moved

    def analyse(self, _image: object, /) -> Analysis:
        return Analysis(report(vertebra(Level.L1, moved_mm=self.moved)))


@pytest.mark.parametrize(("task", "unit_mm"), [("ct-agreement", 1.0), ("radiograph-agreement", 0.5)])
def test_the_command_tells_every_way_with_its_interval(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: str, unit_mm: float
) -> None:
    made = {"cpu": Way(0.0), "cpu_half": Way(0.2)}
    film = radiograph_of(Film("one", np.zeros((2, 2), dtype=np.uint8), 0.5, ()))
    monkeypatch.setattr(evaluate_agreement, "ways", lambda _load: made)
    monkeypatch.setattr(evaluate_agreement, "volume_of_phantom", lambda _phantom: None)
    monkeypatch.setattr(evaluate_agreement, "render_ct", lambda *_: None)
    monkeypatch.setattr(evaluate_agreement, "realistic_film", lambda _seed: film)
    out = tmp_path / "agreement.json"
    arguments = ["evaluate", task, "--bundle", str(tmp_path), "--count", "2", "--json", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    told = json.loads(out.read_text())
    assert told["n"] == 2
    assert told["metrics"]["cpu_half_levels_same"] == told["metrics"]["cpu_half_points_agree"] == 1.0
    assert told["metrics"]["cpu_half_point_mm"] == pytest.approx(0.2 * unit_mm)
    assert set(told["intervals"]) == set(told["metrics"])
