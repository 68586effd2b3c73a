"""The steps of a radiograph: which film of a series is reported, and the same results after a restart."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conformance.films import DRESSES, FilmStudy, make_film_study
from dicom_ai_node.config import Settings
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.pipelines import analyse as pipelines
from dicom_ai_node.report import Analysis
from dicom_ai_node.workflow.steps import node_steps


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> FilmStudy:
    """A film that lies on its side, and a second image in its series."""
    return make_film_study(DRESSES[1], tmp_path_factory.mktemp("film"))


@pytest.fixture(autouse=True)
def reader(study: FilmStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that reads one of the two films and refuses the other."""

    def analyse(film: Radiograph, progress: Any) -> Analysis:
        progress("view", 0.0)
        if film.instance.sop_instance_uid != study.film.instance.sop_instance_uid:
            raise NotAnalysable("orientation", "it looks like a chest film")
        return study.analysis

    monkeypatch.setattr(pipelines, "_radiograph", lambda *_settings: SimpleNamespace(analyse=analyse))


def paths(study: FilmStudy) -> list[Path]:
    return [study.path.with_name("other.dcm"), study.path]


def test_the_lateral_film_is_reported_and_the_other_named(study: FilmStudy, tmp_path: Path) -> None:
    steps = node_steps(Settings())
    shares: list[float] = []
    analysis, source = steps.analyse("radiograph", paths(study), lambda _stage, share: shares.append(share))
    assert source.radiograph.instance == study.film.instance
    assert [note.text for note in analysis.report.limitations if "chest" in note.text]
    assert shares == sorted(shares)
    objects = steps.encode(analysis, source, tmp_path / "results")
    steps.validate(objects)
    assert {item.kind for item in objects} == {"sr", "seg", "pr"}
    assert (tmp_path / "results" / "overlay.png").exists()


def test_results_are_the_same_after_a_restart(study: FilmStudy, tmp_path: Path) -> None:
    steps = node_steps(Settings())
    analysis, source = steps.analyse("radiograph", paths(study), lambda _stage, _share: None)
    steps.encode(analysis, source, tmp_path / "first")
    again = steps.source(paths(study))
    steps.encode(analysis, again, tmp_path / "second")
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "second").iterdir())
    for name in names:
        if name.endswith(".dcm"):
            first, second = (tmp_path / folder / name for folder in ("first", "second"))
            assert first.read_bytes() == second.read_bytes(), name


def test_a_series_without_a_lateral_film_says_what_it_shows(study: FilmStudy) -> None:
    steps = node_steps(Settings())
    with pytest.raises(NotAnalysable, match="chest"):
        steps.analyse("radiograph", paths(study)[:1], lambda _stage, _share: None)
