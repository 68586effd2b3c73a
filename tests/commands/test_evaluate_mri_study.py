"""What `evaluate mri` counts: bodies found, names, false bodies, heights; on drawn label maps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.commands.evaluate_mri_study import bodies_row, evaluate_real, heights_row, region_of
from dicom_ai_node.imaging.volume import SliceRef, Volume
from dicom_ai_node.pipelines.mri import MriPipeline
from dicom_ai_node.report import Analysis, HeightsMm, LabelMap, Source, SpineReport, Vertebra
from dicom_ai_node.training.mri_cases import UNLABELLED, MrCase, save_mr_case

LEVELS = (Level.L1, Level.L2, Level.L3)
SHAPE = (5, 90, 40)
AFFINE = np.array([[4.0, 0, 0, 0], [0, 0, 1.0, 0], [0, -1.0, 0, 90.0], [0, 0, 0, 1.0]])
REPORT = SpineReport("analysed", Source("1.2", ("1.3",), "MR", "1.4"))


def drawn(*levels: Level) -> npt.NDArray[np.uint8]:
    """One block per level, from above."""
    labels = np.zeros(SHAPE, np.uint8)
    for number, level in enumerate(levels):
        labels[1:4, 6 + 28 * number : 26 + 28 * number, 8:30] = verse_label(level)
    return labels


@pytest.fixture(scope="module")
def volume() -> Volume:
    refs = tuple(SliceRef("1.2", f"1.2.{k}", 1, Path("drawn")) for k in range(SHAPE[0]))
    return Volume(np.zeros(SHAPE, np.float32), AFFINE, refs, "1.2", "1.3", "1.4", "MR")


def counted(
    volume: Volume, mine: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]
) -> dict[str, list[float]]:
    return bodies_row(Analysis(REPORT, LabelMap(mine, AFFINE)), truth, volume)


def test_what_is_right_counts_as_right(volume: Volume) -> None:
    truth = drawn(*LEVELS)
    assert counted(volume, truth, truth) == {
        "found": [1.0] * 3, "level_right": [1.0] * 3, "dice": [1.0] * 3, "volume_ratio": [1.0] * 3,
        "false_bodies": [0.0],
    }  # fmt: skip


def test_outlines_that_are_too_large_are_told_by_their_volume(volume: Volume) -> None:
    truth = drawn(*LEVELS)
    mine = truth.copy()
    mine[1:4, 26:31, 8:30] = verse_label(Level.L1)
    assert counted(volume, mine, truth)["volume_ratio"] == [1.25, 1.0, 1.0]


def test_a_folder_of_series_is_measured_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = drawn(*LEVELS)
    image = torch.from_numpy(100 * (truth > 0)).to(torch.int16)
    save_mr_case(MrCase("one", image, torch.from_numpy(truth), AFFINE, {"vertebrae": []}), tmp_path)
    found = Analysis(REPORT, LabelMap(drawn(*LEVELS[:2]), AFFINE))
    monkeypatch.setattr(MriPipeline, "load", lambda *_: SimpleNamespace(analyse=lambda _: found))
    said: list[str] = []
    rows, tables = evaluate_real(tmp_path, tmp_path, said.append, tmp_path / "plots")
    assert rows[0]["found"] == [1.0, 1.0, 0.0]
    assert tables["cases"]["one"]["volume_ratio"] == 1.0
    assert said == ["one: 2 of 3 bodies, 0 false, 2 named right"]
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["one.png"]


def test_bodies_one_level_off_are_found_and_named_wrong(volume: Volume) -> None:
    row = counted(volume, drawn(Level.L2, Level.L3, Level.L4), drawn(*LEVELS))
    assert row["found"] == [1.0] * 3
    assert row["level_right"] == [0.0] * 3


def test_a_body_half_covered_is_not_found_and_costs_no_dice(volume: Volume) -> None:
    mine = drawn(*LEVELS)
    mine[:, 34:48][mine[:, 34:48] == verse_label(Level.L2)] = 0
    row = counted(volume, mine, drawn(*LEVELS))
    assert row["found"] == [1.0, 0.0, 1.0]
    assert len(row["dice"]) == 2


def test_a_body_where_none_is_counts_as_false_unless_nobody_labelled_there(volume: Volume) -> None:
    truth = drawn(*LEVELS[:2])
    mine = drawn(*LEVELS)
    assert counted(volume, mine, truth)["false_bodies"] == [1.0]
    unknown = truth.copy()
    unknown[:, 60:] = UNLABELLED
    row = counted(volume, mine, unknown)
    assert row["false_bodies"] == [0.0]
    assert row["found"] == [1.0, 1.0]


def test_bodies_that_the_image_cuts_off_are_not_asked_for(volume: Volume) -> None:
    truth = drawn(*LEVELS)
    truth[1:4, 0:6, 8:30] = verse_label(Level.L1)
    assert len(counted(volume, drawn(*LEVELS), truth)["found"]) == 2


def entry(level: Level, grade: int, center: list[float], anterior: float) -> dict[str, Any]:
    points = {str(k): [8.0, 10.0 + k, center[2]] for k in range(6)}
    heights = {"anterior": anterior, "middle": 22.0, "posterior": 24.0}
    return {
        "level": level.value, "center_mm": center, "six_points": points, "heights_mm": heights,
        "genant_grade": grade,
    }  # fmt: skip


def test_heights_and_grades_are_held_against_the_truth_of_the_same_level(volume: Volume) -> None:
    truth = {
        "vertebrae": [
            entry(Level.L1, 0, [8.0, 18.0, 70.0], 23.0),
            entry(Level.L2, 2, [8.0, 18.0, 44.0], 16.0),
            entry(Level.L3, 0, [8.0, 18.0, 20.0], 23.0),
        ]
    }
    found = [
        Vertebra(level, 0.9, center_mm=(8.0, 18.0, height), heights_mm=HeightsMm(17.0, 22.0, 24.0, 24.0),
                 genant_grade=2, fractured=True)
        for level, height in ((Level.L1, 70.0), (Level.L2, 44.0), (Level.L3, 60.0))
    ]  # fmt: skip
    report = SpineReport("analysed", REPORT.source, vertebrae=tuple(found))
    row = heights_row(report, truth, volume)
    # What is called L3 lies elsewhere: it is no measurement of L3.
    assert row["height_error_mm"] == [6.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert row["grade_right"] == [0.0, 1.0]
    assert row["false_alarm"] == [1.0]
    assert row["fracture_found"] == [1.0]


@pytest.mark.parametrize(
    ("level", "region"),
    [(Level.L3, "lumbar"), (Level.T12, "lumbar"), (Level.T9, "thoracolumbar"), (Level.T5, "thoracic")],
)
def test_the_region_that_hurts_is_examined(level: Level, region: str) -> None:
    assert region_of(level) == region
