"""Complete after a quiet time, at once when a count says so, and never held up for ever."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from dicom_ai_node.config import CtRoute, OtherRoute, Routes
from dicom_ai_node.intake.completeness import Completeness, assess, expected_in_headers
from dicom_ai_node.intake.spool import Spool, SpooledSeries

ROUTES = Routes(ct=CtRoute(quiet_seconds=30.0), other=OtherRoute(quiet_seconds=5.0))


@pytest.mark.parametrize(
    ("received", "quiet_for", "expected", "complete"),
    [
        (10, 29.9, None, False),
        (10, 30.0, None, True),
        (10, 1.0, 10, True),
        (11, 1.0, 10, True),
        (9, 1.0, 10, False),
        (9, 30.0, 10, True),
        (9, -5.0, None, False),
    ],
)
def test_the_rule(received: int, quiet_for: float, expected: int | None, complete: bool) -> None:
    verdict = assess(received, quiet_for, 30.0, expected)
    assert verdict.complete is complete
    if expected and received < expected:
        assert f"{received} of {expected}" in verdict.reason


class Clock:
    """Time since the last instance, set by the test."""

    def __init__(self, series: SpooledSeries) -> None:
        self.began = series.last_arrival
        self.quiet = 0.0

    def __call__(self) -> float:
        return self.began + self.quiet


def spooled(root: Path, paths: list[Path]) -> SpooledSeries:
    spool = Spool(root / "spool")
    for path in paths:
        spool.store_file(path)
    (series,) = spool.series()
    return series


def test_series_is_complete_after_its_routes_quiet_time(tmp_path: Path, write_series, change) -> None:
    ct = spooled(tmp_path / "ct", write_series(3))
    clock = Clock(ct)
    judge = Completeness(ROUTES, now=clock)
    for clock.quiet, complete in ((0.0, False), (5.1, False), (29.0, False), (30.1, True)):
        assert judge.assess(ct).complete is complete
    paths = write_series(3)
    change(paths, Modality="PT")
    other = spooled(tmp_path / "other", paths)
    clock = Clock(other)
    judge = Completeness(ROUTES, now=clock)
    for clock.quiet, complete in ((4.0, False), (5.1, True)):
        assert judge.assess(other).complete is complete


@pytest.mark.parametrize(
    "counts", [{"NumberOfSeriesRelatedInstances": 4}, {"ImagesInAcquisition": 4, "AcquisitionNumber": 1}]
)
def test_header_counts_end_the_wait(tmp_path: Path, write_series, change, counts: dict[str, int]) -> None:
    paths = write_series(4)
    change(paths, **counts)
    some, every = spooled(tmp_path / "some", paths[:3]), spooled(tmp_path / "every", paths)
    clock = Clock(every)
    clock.quiet = 2.0
    assert Completeness(ROUTES, now=clock).assess(every).complete
    assert not Completeness(ROUTES, now=clock).assess(some).complete
    wary = Routes(ct=CtRoute(trust_header_counts=False))
    assert not Completeness(wary, now=clock).assess(every).complete


def test_a_count_does_not_act_between_two_slices(tmp_path: Path, write_series, change) -> None:
    paths = write_series(2)
    change(paths, NumberOfSeriesRelatedInstances=2)
    series = spooled(tmp_path, paths)
    clock = Clock(series)
    clock.quiet = 0.1
    assert not Completeness(ROUTES, now=clock).assess(series).complete


def test_images_in_acquisition_count_one_acquisition_only(write_series, change) -> None:
    paths = write_series(6)
    change(paths, ImagesInAcquisition=3, AcquisitionNumber=1)
    change(paths[3:], AcquisitionNumber=2)
    assert expected_in_headers(tuple(paths)) is None
    assert expected_in_headers(tuple(paths[:3])) == 3
    # three images there, but of two acquisitions
    assert expected_in_headers(tuple(paths[2:5])) is None


@pytest.mark.parametrize("value", ["", "0", "-4", "four"])
def test_broken_counts_say_nothing(write_series, value: str) -> None:
    paths = write_series(2)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.add(
            pydicom.DataElement("NumberOfSeriesRelatedInstances", "IS", value, already_converted=True)
        )
        dataset.save_as(path)
    assert expected_in_headers(tuple(paths)) is None


def test_unreadable_file_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"x")
    assert expected_in_headers((path,)) is None


def test_archive_is_asked_once_per_generation(tmp_path: Path, write_series) -> None:
    paths = write_series(3)
    asked: list[tuple[str, str]] = []

    def related(study: str, series: str) -> int:
        asked.append((study, series))
        return 3

    header = pydicom.dcmread(paths[0])
    first = spooled(tmp_path, paths[:2])
    clock = Clock(first)
    clock.quiet = 2.0
    judge = Completeness(ROUTES, related, clock)
    assert not judge.assess(first).complete
    assert not judge.assess(first).complete
    assert asked == [(header.StudyInstanceUID, header.SeriesInstanceUID)]
    second = spooled(tmp_path, paths)
    clock.began = second.last_arrival
    assert judge.assess(second).complete
    assert len(asked) == 2


def test_archive_that_knows_more_does_not_hold_up_for_ever(tmp_path: Path, write_series) -> None:
    series = spooled(tmp_path, write_series(2))
    clock = Clock(series)
    clock.quiet = 31.0
    verdict = Completeness(ROUTES, lambda *_: 100, clock).assess(series)
    assert verdict.complete
    assert "2 of 100" in verdict.reason


def test_clock_that_went_back_does_not_end_the_wait(tmp_path: Path, write_series) -> None:
    series = spooled(tmp_path, write_series(1))
    clock = Clock(series)
    clock.quiet = -3600.0
    assert not Completeness(ROUTES, now=clock).assess(series).complete
