"""What one step leaves for the next is there whole, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.report import Analysis, LabelMap, Source, SpineReport, Vertebra
from dicom_ai_node.workflow.handover import JobFolder, whole_folder

REPORT = SpineReport("analysed", Source("1.2", ("1.2.3",), "CT", None), vertebrae=(Vertebra(Level.L1, 0.9),))


@pytest.mark.parametrize("affine", [None, np.diag([5.0, 1.0, 1.0, 1.0])])
def test_an_analysis_comes_back_as_it_was(tmp_path: Path, affine: np.ndarray | None) -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    folder = JobFolder(tmp_path / "job")
    folder.write_analysis(Analysis(REPORT, LabelMap(labels, affine)))
    back = folder.read_analysis()
    assert back.report == REPORT
    assert back.label_map is not None
    np.testing.assert_array_equal(back.label_map.labels, labels)
    np.testing.assert_array_equal(back.label_map.affine, affine)


def test_analyses_of_several_films_come_back_in_their_order(tmp_path: Path) -> None:
    films = [
        Analysis(
            replace(REPORT, vertebrae=(Vertebra(level, 0.9),)),
            LabelMap(np.full((1, 2, 2), number, np.uint8), None),
        )
        for number, level in enumerate((Level.L1, Level.T8, Level.T9))
    ]
    folder = JobFolder(tmp_path / "job")
    folder.write_analysis(Analysis.joined(films))
    back = folder.read_analysis().each
    assert [film.report for film in back] == [film.report for film in films]
    assert [int(film.label_map.labels[0, 0, 0]) for film in back if film.label_map] == [0, 1, 2]
    assert folder.read_report() == films[0].report


def test_an_analysis_without_a_label_map_has_none_afterwards(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    folder.write_analysis(Analysis(REPORT))
    assert folder.read_analysis() == Analysis(REPORT)


def test_a_folder_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    target = tmp_path / "results"
    filling = whole_folder(target)
    part = filling.__enter__()
    (part / "half.dcm").write_bytes(b"half")
    assert not filling.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert not target.exists()

    with whole_folder(target) as part:
        (part / "whole.dcm").write_bytes(b"whole")
    assert [path.name for path in target.iterdir()] == ["whole.dcm"]


def test_the_input_comes_back_in_order(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path / "job")
    paths = [tmp_path / name for name in ("b.dcm", "a.dcm", "ä.dcm")]
    folder.write_input(paths)
    assert folder.read_input() == paths
