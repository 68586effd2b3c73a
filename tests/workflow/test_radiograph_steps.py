"""The steps of a radiograph: which films of a series are reported, and the same results after a restart."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest

from conformance.films import DRESSES, FilmStudy, make_film_study
from dicom_ai_node.config import Settings
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.radiograph import Radiograph, load_radiograph
from dicom_ai_node.pipelines import analyse as pipelines
from dicom_ai_node.report import Analysis, BoxPx, LabelMap, SixPoints, Vertebra
from dicom_ai_node.workflow.handover import JobFolder
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

    monkeypatch.setattr(pipelines, "_radiograph", lambda *_settings, **_how: SimpleNamespace(analyse=analyse))


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


def of_the_other_film(study: FilmStudy) -> Analysis:
    """What is to be seen on the second image, which has half the rows and columns: all but one vertebra."""
    other = load_radiograph(paths(study)[0])

    def halved(vertebra: Vertebra) -> Vertebra:
        box, points = vertebra.box_px, vertebra.six_points
        assert box is not None
        (top, bottom), (left, right) = box.rows, box.columns
        return replace(
            vertebra,
            box_px=BoxPx(other.instance.sop_instance_uid, 1, (top / 2, bottom / 2), (left / 2, right / 2)),
            six_points=None if points is None else SixPoints.from_array(points.to_array() / 2),
        )

    report, label_map = study.analysis.report, study.analysis.label_map
    assert label_map is not None
    small = np.ascontiguousarray(label_map.labels[:, ::2, ::2])
    return Analysis(
        replace(report, vertebrae=tuple(map(halved, report.vertebrae[1:]))), LabelMap(small, None)
    )


@pytest.fixture
def both_lateral(study: FilmStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that reads both films."""
    second = of_the_other_film(study)

    def analyse(film: Radiograph, _progress: Any) -> Analysis:
        own = film.instance.sop_instance_uid == study.film.instance.sop_instance_uid
        return study.analysis if own else second

    monkeypatch.setattr(pipelines, "_radiograph", lambda *_settings, **_how: SimpleNamespace(analyse=analyse))


@pytest.mark.usefixtures("both_lateral")
def test_every_lateral_film_of_a_series_has_results_that_refer_to_it_alone(
    study: FilmStudy, tmp_path: Path
) -> None:
    steps = node_steps(Settings(), page=True)
    analysis, source = steps.analyse("radiograph", paths(study), lambda _stage, _share: None)
    assert [len(one.report.vertebrae) for one in analysis.each] == [4, 3]
    for one in analysis.each:
        assert "further-films" in {note.code for note in one.report.limitations}
    results = tmp_path / "results"
    objects = steps.encode(analysis, source, results)
    steps.validate(objects)
    assert Counter(item.kind for item in objects) == {"sr": 2, "seg": 2, "pr": 2}
    assert len({item.sop_instance_uid for item in objects}) == len(objects)
    names = {path.name for path in results.iterdir()}
    assert {"report.json", "overlay.png", "report.pdf"} < names
    assert {"film-2-report.json", "film-2-overlay.png", "film-2-report.pdf"} < names
    stored = {pydicom.dcmread(path).SOPInstanceUID for path in paths(study)}
    seen = set()
    for item in objects:
        spoken_of = {
            str(element.value)
            for element in pydicom.dcmread(item.path).iterall()
            if element.keyword == "ReferencedSOPInstanceUID" and element.value in stored
        }
        assert len(spoken_of) == 1, item.path.name
        seen |= spoken_of
        assert (spoken_of != {study.film.instance.sop_instance_uid}) == item.path.name.startswith("film-2-")
    assert seen == stored


@pytest.mark.usefixtures("both_lateral")
def test_both_films_are_encoded_alike_after_a_restart(study: FilmStudy, tmp_path: Path) -> None:
    steps = node_steps(Settings())
    analysis, source = steps.analyse("radiograph", paths(study), lambda _stage, _share: None)
    first = steps.encode(analysis, source, tmp_path / "first")
    job = JobFolder(tmp_path / "job")
    job.write_analysis(analysis)
    second = steps.encode(job.read_analysis(), steps.source(paths(study)), tmp_path / "second")
    assert [item.path.name for item in first] == [item.path.name for item in second]
    for before, after in zip(first, second, strict=True):
        assert before.path.read_bytes() == after.path.read_bytes(), before.path.name
