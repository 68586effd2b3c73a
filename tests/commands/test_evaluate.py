"""`evaluate`: the numbers are those of the cases, and say so in JSON that others can read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from dicom_ai_node.anatomy import LEVELS, Level, verse_label
from dicom_ai_node.cli import app
from dicom_ai_node.commands import evaluate_ct_volume
from dicom_ai_node.commands.ct_volume_answers import answer_of, volume_of_phantom
from dicom_ai_node.commands.evaluate import summary
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.phantom import CtPhantom
from dicom_ai_node.report import SIX_POINT_NAMES, Analysis, HeightsMm, LabelMap, Source, SpineReport, Vertebra
from tests.commands.bundles import write_bundle

runner = CliRunner()


def _evaluate(task: str, bundle: Path, data: Path, out: Path, *more: str) -> dict[str, Any]:
    arguments = ["evaluate", task, "--bundle", str(bundle), "--data", str(data), "--json", str(out), *more]
    said = runner.invoke(app, arguments)
    assert said.exit_code == 0, said.output
    found: dict[str, Any] = json.loads(out.read_text(), parse_constant=pytest.fail)
    return found


@pytest.mark.usefixtures("small_recipes")
def test_segmentation_is_measured_with_every_metric_of_the_paper(tmp_path: Path, cases: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    found = _evaluate("ct-segment", bundle, cases, tmp_path / "out.json", "--plots", str(tmp_path / "plots"))
    assert set(found) == {"task", "bundle", "data", "n", "metrics", "intervals"}
    assert found["n"] == 3
    assert set(found["metrics"]) == {
        "dice", "assd_mm", "mssd_mm", "precision", "recall", "normal_right", "fractured_right",
        "nothing_drawn",
    }  # fmt: skip
    assert set(found["intervals"]) == set(found["metrics"])
    assert (tmp_path / "plots" / "ct-segment.png").stat().st_size > 1000
    # P3's own columns, with P3's numbers beside.
    said = " ".join(
        runner.invoke(
            app, ["evaluate", "ct-segment", "--bundle", str(bundle), "--data", str(cases)]
        ).output.split()
    )
    assert "Segmentation of bodies (P3 tables 2 and 3)" in said
    for name, published in (
        ("Dice", "0.935"),
        ("ASSD, mm", "0.262"),
        ("MSSD, mm", "4.962"),
        ("precision", "0.958"),
        ("recall", "0.915"),
    ):
        assert re.search(rf"{name} [0-9.-]+ [0-9.-]+ to [0-9.-]+ {published}", said), name
    # Untrained weights give the same numbers again: nothing here is left to chance.
    assert _evaluate("ct-segment", bundle, cases, tmp_path / "again.json") == found


@pytest.mark.usefixtures("small_recipes")
def test_points_are_measured_on_cases_of_any_spacing(tmp_path: Path, cases: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", "ct-points")
    found = _evaluate("ct-points", bundle, cases, tmp_path / "out.json")
    assert set(found["metrics"]) == {"height_error_mm", "point_error_mm"}
    low, high = found["intervals"]["point_error_mm"]
    assert 0 < low <= found["metrics"]["point_error_mm"] <= high


@pytest.mark.usefixtures("small_recipes")
def test_a_bundle_of_another_task_is_wrong_use(tmp_path: Path, cases: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", "ct-points")
    arguments = ["evaluate", "ct-segment", "--bundle", str(bundle), "--data", str(cases)]
    said = runner.invoke(app, arguments)
    assert said.exit_code == 2
    assert "ct-points, not of ct-segment" in said.stderr


@pytest.mark.parametrize(
    ("task", "code"), [("ct-detect", 1), ("ct-nonsense", 2), ("ct-volume", 1), ("ct-points", 1)]
)
def test_exit_codes(task: str, code: int, tmp_path: Path) -> None:
    assert runner.invoke(app, ["evaluate", task, "--bundle", str(tmp_path / "none")]).exit_code == code


def test_summary_weighs_vertebrae_and_writes_null_for_what_cannot_be_told() -> None:
    found = summary([{"right": [1.0, 1.0, 1.0], "never": [float("nan")]}, {"right": [0.0], "never": []}])
    assert found["n"] == 2
    assert found["metrics"] == {"never": None, "right": 0.75}
    assert found["intervals"]["never"] == [None, None]
    assert found["intervals"]["right"] == [0.0, 1.0]


# --- the whole pipeline, on two bodies of known size with a pipeline whose faults are known


def _entry(level: Level, center: tuple[float, float, float], loss: float) -> dict[str, Any]:
    x, y, z = center
    places = {"anterior": y - 6, "middle": y, "posterior": y + 6}
    points = {
        name: [x, places[name.split("_")[0]], z + (6 if name.endswith("superior") else -6)]
        for name in SIX_POINT_NAMES
    }
    return {
        "level": level.value, "center_mm": list(center), "six_points": points, "height_loss": loss,
        "heights_mm": {"anterior": 12.0, "middle": 12.0, "posterior": 12.0, "reference": 12.0},
        "genant_grade": 0 if loss < 0.2 else 2, "deformity": None if loss < 0.2 else "wedge",
        "fractured": loss >= 0.2,
    }  # fmt: skip


CENTERS = {Level.L1: (30.0, 30.0, 75.0), Level.L2: (30.0, 30.0, 45.0), Level.L3: (30.0, 30.0, 15.0)}


def _phantom() -> CtPhantom:
    affine = np.zeros((4, 4))
    affine[2, 0] = affine[1, 1] = affine[0, 2] = affine[3, 3] = 1
    labels = np.zeros((100, 60, 60), np.uint8)
    for level, (_, _, z) in CENTERS.items():
        labels[int(z) - 6 : int(z) + 6, 22:38, 20:40] = verse_label(level)
    truth = {
        "vertebrae": [_entry(level, center, 0.3 * (level is Level.L2)) for level, center in CENTERS.items()]
    }
    return CtPhantom(np.zeros(labels.shape, np.int16), affine, labels, labels, truth)


def _vertebra(
    level: Level, center: tuple[float, float, float], grade: int, anterior: float, *, fractured: bool
) -> Vertebra:
    return Vertebra(
        level=level, level_confidence=1.0, center_mm=center, status="analysed",
        heights_mm=HeightsMm(anterior, 12.0, 12.0, 12.0), height_loss=1 - anterior / 12, genant_grade=grade,
        deformity="wedge" if grade else "none", fractured=fractured, fracture_probability=float(fractured),
    )  # fmt: skip


class _Pipeline:
    """Calls L1 broken, shifts L2 by 2 mm, misses L3 and sees a T9 where nothing is."""

    levels = LEVELS

    def analyse(self, volume: Volume) -> Analysis:
        if not volume.voxels.any():
            raise NotAnalysable("no-spine", "empty")
        labels = _phantom().labels.copy()
        labels[labels == verse_label(Level.L3)] = 0
        labels[labels == verse_label(Level.L2)] = 0
        labels[39 + 2 : 51 + 2, 22:38, 20:40] = verse_label(Level.L2)
        labels[0, 0, 0] = verse_label(Level.T9)
        vertebrae = (
            _vertebra(Level.T9, (0.0, 0.0, 0.0), 0, 12.0, fractured=False),
            _vertebra(Level.L1, CENTERS[Level.L1], 1, 9.0, fractured=True),
            _vertebra(Level.L2, (30.0, 30.0, 47.0), 2, 12.0, fractured=True),
            Vertebra(
                level=Level.L3, level_confidence=1.0, center_mm=CENTERS[Level.L3], status="not-analysable"
            ),
        )
        report = SpineReport(
            status="analysed", source=Source("1.2", ("1.3",), "CT", "1.4"), vertebrae=vertebrae
        )
        return Analysis(report, LabelMap(labels, volume.affine))


def test_pipeline_is_measured_by_hand_computed_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filled, empty = _phantom(), _phantom()
    filled.hu[:] = 1
    phantoms = iter([filled, empty])
    monkeypatch.setattr(evaluate_ct_volume, "sample_spine", lambda _seed: None)
    monkeypatch.setattr(evaluate_ct_volume, "sample_ct_acquisition", lambda _seed, _spine: None)
    monkeypatch.setattr(evaluate_ct_volume, "render_ct", lambda _spine, _acquisition: next(phantoms))
    monkeypatch.setattr(evaluate_ct_volume.CtVolumePipeline, "load", lambda *_: _Pipeline())
    found = evaluate_ct_volume.evaluate(tmp_path, range(2), lambda _line: None, tmp_path)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    told = found["metrics"]
    # L3's centre is in the report, but nothing was drawn there: it was not found.
    assert told["identified"] == pytest.approx(2 / 3)
    assert [told[f"error_over_{limit}mm"] for limit in (4, 10, 20)] == pytest.approx([1 / 3] * 3)
    assert told["centre_error_mm"] == pytest.approx(1.0)
    assert told["dice"] == pytest.approx((1 + 10 / 12) / 2)
    assert told["precision"] == told["recall"] == pytest.approx((1 + 10 / 12) / 2)
    assert told["mssd_mm"] == pytest.approx(1.0)
    assert told["height_error_mm"] == pytest.approx(3.0 / 6)
    assert (told["grade_right"], told["type_right"]) == (0.5, 1.0)
    # L1 is sound and called broken; L3 was missed, which is no fracture missed.
    assert told["false_alarm"] == 1.0
    assert told["false_positives_per_patient"] == 1.0
    assert (told["fracture_found"], told["sensitivity_grade_2"], told["sensitivity_grade_1"]) == (1, 1, None)
    assert told["no_vertebra_there"] == pytest.approx(1 / 3)
    assert (told["level_wrong"], told["not_judged"], told["not_analysable_case"]) == (0.0, 0.0, 0.5)
    # Both are called broken with certainty, so the probabilities tell nothing.
    assert told["fracture_auc"] == 0.5
    assert told["fracture_ap"] == 0.5
    assert found["grades_truth_found"][0][1] == found["grades_truth_found"][2][2] == 1
    assert np.sum(found["grades_truth_found"]) == found["bodies"] == 2
    assert told["grade_kappa"] == pytest.approx(1 - 1 / 3)
    assert found["types_truth_found"]["wedge"]["wedge"] == 1
    assert set(found["intervals"]) == set(told)
    assert (tmp_path / "ct-volume.png").stat().st_size > 10_000
    console = Console(record=True, width=120)
    evaluate_ct_volume.show(console, found)
    assert "Localisation (P3 table 4)" in console.export_text()


def test_a_vertebra_under_another_name_is_a_level_error_and_its_fracture_is_found() -> None:
    phantom = _phantom()
    volume = volume_of_phantom(phantom)
    vertebrae = (
        _vertebra(Level.L2, CENTERS[Level.L1], 0, 12.0, fractured=False),
        _vertebra(Level.L3, CENTERS[Level.L2], 2, 8.4, fractured=True),
    )
    report = SpineReport(status="analysed", source=Source("1.2", ("1.3",), "CT", "1.4"), vertebrae=vertebrae)
    analysis = Analysis(report, LabelMap(phantom.labels, volume.affine))
    values = answer_of(analysis, LEVELS, phantom, volume).values
    assert values["identified"] == [0.0, 0.0, 0.0]
    assert values["level_wrong"] == [1.0, 1.0]
    assert values["fracture_found"] == [1.0]
    assert values["false_positives_per_patient"] == [0.0]
    assert values["dice"] == []
