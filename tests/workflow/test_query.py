"""An archive that knows how many images a series has ends the wait for more of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from orthanc import Orthanc
from peers import free_port

from dicom_ai_node.config import settings_from
from dicom_ai_node.imaging.write_ct import write_ct_series
from dicom_ai_node.intake.spool import Spool, SpooledSeries
from dicom_ai_node.node.find import SeriesCounts
from dicom_ai_node.node.scu import send
from dicom_ai_node.workflow.coordinator import judgement_of

AXIAL = np.array([[0.0, 0, 2.0, -50], [0, 2.0, 0, -60], [4.0, 0, 0, -300], [0, 0, 0, 1]])


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def series_of(folder: Path, count: int) -> list[Path]:
    return write_ct_series(np.zeros((count, 8, 10), dtype=np.int16), AXIAL, folder, seed=count)


def spooled(root: Path, paths: list[Path]) -> SpooledSeries:
    spool = Spool(root)
    for path in paths:
        spool.store_file(path)
    (series,) = spool.series()
    return series


def test_series_is_complete_when_it_has_as_many_images_as_the_archive(
    tmp_path: Path, orthanc: Orthanc
) -> None:
    paths = series_of(tmp_path / "five", 5)
    others = series_of(tmp_path / "other", 3)
    peer = SimpleNamespace(ae_title=orthanc.ae_title, host=orthanc.host, port=orthanc.port)
    assert all(outcome.stored for outcome in send([*paths, *others], peer))
    header = pydicom.dcmread(paths[0], stop_before_pixels=True)

    counts = SeriesCounts(peer)
    assert counts(header.StudyInstanceUID, header.SeriesInstanceUID) == 5
    assert counts(header.StudyInstanceUID, "1.2.3") is None
    assert counts("1.2.3", header.SeriesInstanceUID) is None

    query = {"ae_title": orthanc.ae_title, "host": orthanc.host, "port": orthanc.port}
    quiet = {"routes": {"ct": {"quiet_seconds": 3600.0}}}
    asking = judgement_of(settings_from({**quiet, "query": query}))
    silent = judgement_of(settings_from(quiet))
    every, some = spooled(tmp_path / "every", paths), spooled(tmp_path / "some", paths[:4])
    # Counts are asked after a second of quiet.
    for series in (every, some):
        for path in series.paths:
            past(path)
    every, some = (
        next(iter(Spool(tmp_path / "every").series())),
        next(iter(Spool(tmp_path / "some").series())),
    )
    assert asking.complete(every)
    assert not asking.complete(some)
    assert not silent.complete(every)


def past(path: Path) -> None:
    stat = path.stat()
    os.utime(path, (stat.st_atime - 10, stat.st_mtime - 10))


# pynetdicom leaves the socket of a refused connection to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_archive_that_is_down_is_left_in_peace_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    counts = SeriesCounts(SimpleNamespace(ae_title="GONE", host="127.0.0.1", port=free_port()), now=clock)
    asked = []
    ask = SeriesCounts._ask
    monkeypatch.setattr(SeriesCounts, "_ask", lambda self, *uids: asked.append(uids) or ask(self, *uids))
    for clock.seconds in (0.0, 1.0, 59.0, 61.0):
        assert counts("1.2.3", "1.2.3.4") is None
    assert len(asked) == 2
