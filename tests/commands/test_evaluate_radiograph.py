"""Measures of the whole pipeline of radiographs, with one that knows the truth or tells otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.commands import evaluate_radiograph
from dicom_ai_node.commands.evaluate import summary
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.report import (
    ACUITIES,
    Analysis,
    BoxPx,
    LabelMap,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.training.films import Film, FilmVertebra, polygon_mask, save_film
from tests.training.drawn_films import drawn_film

Answer = Callable[[int, list[Vertebra]], list[Vertebra]]


def _film(seed: int) -> Film:
    film = drawn_film(seed, fractured=Level.L1 if seed % 2 else None, acuity=ACUITIES[seed % 3])
    pixels = np.rint(film.pixels.clip(0, 1) * 65535).astype(np.uint16)
    return replace(film, name=f"{seed:05d}", pixels=pixels)


def _true(item: FilmVertebra, film: Radiograph) -> Vertebra:
    top, left, bottom, right = (float(value) for value in item.box)
    instance = film.instance
    assert item.six_points is not None
    return Vertebra(
        item.level,
        0.9,
        box_px=BoxPx(instance.sop_instance_uid, 1, (top, bottom), (left, right)),
        six_points=SixPoints.from_array(item.six_points),
        genant_grade=item.grade,
        deformity=item.deformity,  # type: ignore[arg-type]
        fractured=item.fractured,
        fracture_probability=0.95 if item.fractured else 0.02,
        classes={"radiograph-acuity": {name: float(name == item.acuity) for name in ACUITIES}}
        if item.acuity
        else {},
    )


class Knowing:
    """Answers from the truth of the film of that name, as `answer` changes it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def analyse(self, radiograph: Radiograph) -> Analysis:
        seed = int(radiograph.instance.path.name)
        film = _film(seed)
        said = self.answer(seed, [_true(item, radiograph) for item in film.vertebrae])
        labels = np.zeros((1, *radiograph.shape), np.uint8)
        for item in film.vertebrae:
            for vertebra in said:
                if vertebra.box_px is not None and vertebra.box_px.rows[0] == item.box[0]:
                    labels[0][polygon_mask(item.outline, radiograph.shape)] = verse_label(vertebra.level)
        report = SpineReport("analysed", Source("1.2", ("1.3",), "DX", None), vertebrae=tuple(said))
        return Analysis(report, LabelMap(labels, None))


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def evaluate(answer: Answer, count: int = 4, **more: Any) -> dict[str, Any]:
        for seed in range(count):
            save_film(_film(seed), tmp_path / "pool")
        monkeypatch.setattr(
            evaluate_radiograph.RadiographPipeline, "load", lambda *_arguments: Knowing(answer)
        )
        rows, tables = evaluate_radiograph.evaluate_radiographs(
            tmp_path, range(count), lambda _line: None, pool=tmp_path / "pool", **more
        )
        return {**summary(rows), **tables}

    return evaluate


def test_the_truth_scores_full_marks(evaluated: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = evaluated(lambda _seed, said: said, plots=tmp_path / "plots")
    for name in ("found", "level_right", "grade_right", "fracture_found", "acuity_right"):
        assert found["metrics"][name] == 1.0, name
    for name in ("false_per_film", "height_error", "false_alarm", "not_judged", "not_analysable_film"):
        assert found["metrics"][name] == 0.0, name
    together = found["together"]
    assert together["mask_map_50"] == together["box_map_50_95"] == together["grade_kappa"] == 1.0
    assert together["image_sensitivity"] == together["image_specificity"] == 1.0
    assert found["grades_truth_found"] == {"0>0": 10, "3>3": 2}
    full = dict.fromkeys(("box_ap_50", "box_ap_50_95", "mask_ap_50", "mask_ap_50_95"), 1.0)
    assert found["fractures_by_level"] == {"L1": full}
    assert len(list((tmp_path / "plots").glob("film-*.png"))) == 4


def test_errors_are_counted_as_what_they_are(evaluated: Callable[..., dict[str, Any]]) -> None:
    def wrong(seed: int, said: list[Vertebra]) -> list[Vertebra]:
        upper, middle, _ = said
        if seed == 0:  # one missed, a healthy one called broken, and one graded that is called no fracture
            upper = replace(upper, genant_grade=1, deformity="biconcave", fractured=False)
            return [upper, replace(middle, genant_grade=2, deformity="wedge", fractured=True)]
        if seed == 1:  # one level too low throughout
            return [
                replace(item, level=level)
                for item, level in zip(said, (Level.L1, Level.L2, Level.L3), strict=True)
            ]
        if seed == 2:  # one that is not there
            box = BoxPx("1", 1, (100.0, 120.0), (70.0, 90.0))
            return [*said, Vertebra(Level.L4, 0.4, box_px=box)]
        raise NotAnalysable("no-spine", "nothing")

    found = evaluated(wrong)
    metrics = found["metrics"]
    assert metrics["not_analysable_film"] == 0.25
    assert metrics["found"] == pytest.approx(8 / 9)
    assert metrics["level_right"] == pytest.approx(5 / 8)
    assert metrics["false_per_film"] == pytest.approx(1 / 3)
    assert metrics["false_alarm"] == pytest.approx(1 / 7)
    assert found["grades_truth_found"] == {"0>0": 5, "0>1": 1, "0>2": 1, "3>3": 1}
    assert found["grades_truth_reported"] == {"0>0": 6, "0>2": 1, "3>3": 1}
    for kind in ("kappa", "weighted_kappa"):
        together = found["together"]
        assert together[f"grade_{kind}"] < together[f"reported_grade_{kind}"] < 1.0
    # The broken L1 was found, but as L2.
    assert found["together"]["mask_map_50"] == 0.0
    assert found["together"]["image_specificity"] == 0.5


def test_a_film_that_is_refused_is_no_healthy_film(evaluated: Callable[..., dict[str, Any]]) -> None:
    def refuses(_seed: int, _said: list[Vertebra]) -> list[Vertebra]:
        raise NotAnalysable("orientation", "not lateral")

    found = evaluated(refuses, 2)
    assert found["metrics"]["not_analysable_film"] == 1.0
    assert found["together"]["image_sensitivity"] is None
