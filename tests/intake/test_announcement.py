"""A word that a series is complete: it ends the wait, outlives a restart, and holds for what it named."""

from __future__ import annotations

from pathlib import Path

from dicom_ai_node.config import Routes
from dicom_ai_node.intake.announcement import ANNOUNCEMENT_FILE
from dicom_ai_node.intake.completeness import Completeness
from dicom_ai_node.intake.spool import Spool, SpooledSeries


def looked_at(root: Path) -> SpooledSeries:
    """The one series, as a process sees it that was started just now."""
    (series,) = Spool(root).series()
    return series


def test_the_word_ends_the_wait_and_holds_for_these_instances_alone(tmp_path: Path, write_series) -> None:
    first, second, third = write_series(3)
    root = tmp_path / "spool"
    spool = Spool(root)
    complete = Completeness(Routes())
    for path in (first, second):
        spool.store_file(path)
    assert not complete.assess(looked_at(root)).complete
    spool.announce(looked_at(root))
    for series in (looked_at(root), *spool.series()):
        assert (series.announced, series.count) == (True, 2)
        assert complete.assess(series).complete
    spool.store_file(third)
    assert not looked_at(root).announced
    assert not complete.assess(looked_at(root)).complete


def test_a_number_makes_the_last_instance_the_end(tmp_path: Path, write_series) -> None:
    first, second = write_series(2)
    root = tmp_path / "spool"
    spool = Spool(root)
    spool.store_file(first)
    spool.announce(looked_at(root), 2)
    assert not looked_at(root).announced
    spool.store_file(second)
    assert looked_at(root).announced


def test_a_word_that_cannot_be_read_was_not_said_and_goes_with_its_series(
    tmp_path: Path, write_series
) -> None:
    (path,) = write_series(1)
    root = tmp_path / "spool"
    spool = Spool(root)
    spool.store_file(path)
    spool.announce(looked_at(root))
    series = looked_at(root)
    for content in ("", "[]", '{"generation": 1}', "\0" * 20):
        (series.folder / ANNOUNCEMENT_FILE).write_text(content)
        assert not looked_at(root).announced
    spool.remove(series)
    assert list(root.iterdir()) == []
