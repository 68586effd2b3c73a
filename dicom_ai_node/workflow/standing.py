"""Where every series stands, for people and programs that ask: from what has come and what was done about it.

One answer for the command line and the HTTP interface. Spool and ledger are looked at, never changed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.intake.completeness import quiet_seconds_of
from dicom_ai_node.intake.identity import HEADER_BYTES, read_identity
from dicom_ai_node.intake.part10 import read_file
from dicom_ai_node.intake.spool import Spool, SpooledSeries
from dicom_ai_node.workflow.handover import JobFolder
from dicom_ai_node.workflow.ledger import Ledger
from dicom_ai_node.workflow.plan import Summary

Standing = Literal[
    "receiving",
    "waiting",
    "analysing",
    "delivering",
    "retrying",
    "delivered",
    "committed",
    "not-applicable",
    "not-analysable",
    "failed",
]
"""`receiving` until a series is complete; then the phases of its job, and the state that it ends in."""

STANDINGS: Final[tuple[str, ...]] = get_args(Standing)


@dataclass(frozen=True)
class WaitingSeries:
    """A series of which something has come since the node last judged it.

    Attributes:
        series_key: as the spool names it.
        modality, instances: of what has come so far.
        calling_ae_title: who sent it.
        last_arrival: seconds since the epoch.
        waits_for: in words.
    """

    series_key: str
    modality: str
    instances: int
    calling_ae_title: str
    last_arrival: float
    waits_for: str


@dataclass(frozen=True)
class ResultFile:
    """One result object on the disk."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    bytes: int


@dataclass(frozen=True)
class SeriesStanding:
    """Where one series stands.

    Attributes:
        instances: how many of it are here.
        state: one of `STANDINGS`.
        job, generation, pipeline: of the job made of exactly these instances; None where there is none yet.
        reasons: what it waits for, why it is analysed or not, how it ended; in words.
        updated_at: when this became so; ISO 8601, UTC.
        results: its result objects, on the disk until [storage] keep_days are over.
        carried_by: Series Instance UID of the series whose job analyses this one too; None where it is
            analysed, or not, by itself.
    """

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    instances: int
    state: str
    job: str | None
    generation: int | None
    pipeline: str | None
    reasons: tuple[str, ...]
    updated_at: str
    results: tuple[ResultFile, ...] = ()
    carried_by: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON types."""
        return asdict(self)


def standing_of(settings: Settings, series: SpooledSeries, ledger: Ledger, now: float) -> SeriesStanding:
    """Where a series in the spool stands.

    Args:
        settings: of the node.
        series: as the spool has it now.
        ledger: what was done about it.
        now: seconds since the epoch.
    """
    jobs = ledger.generations(series.series_key)
    if jobs and jobs[-1].is_of(series.generation):
        summary = ledger.summary(jobs[-1].id)
        if summary is not None:
            return standing_of_job(settings, summary)
    receiving, text = _waits_for(settings, series, now)
    return SeriesStanding(
        series_instance_uid=series.series_instance_uid,
        study_instance_uid=series.study_instance_uid,
        modality=series.modality,
        instances=series.count,
        state="receiving" if receiving else "waiting",
        job=None,
        generation=None,
        pipeline=None,
        reasons=(f"waits for {text}",),
        updated_at=as_time(series.last_arrival),
    )


def standing_of_job(settings: Settings, summary: Summary) -> SeriesStanding:
    """Where a series stands by its job alone."""
    job = summary.job
    return SeriesStanding(
        series_instance_uid=job.series_instance_uid,
        study_instance_uid=job.study_instance_uid,
        modality=job.modality,
        instances=job.instances,
        state=summary.standing,
        job=job.id,
        generation=job.generation,
        pipeline=job.pipeline,
        reasons=tuple(dict.fromkeys(filter(None, (*job.reasons, summary.reason)))),
        updated_at=as_time(summary.updated_at),
        results=result_files(JobFolder(settings.storage.results_folder / job.id)),
        carried_by=job.carried_by or None,
    )


def result_files(folder: JobFolder) -> tuple[ResultFile, ...]:
    """The result objects of a job; none before it is analysed, or after its days are over."""
    try:
        return tuple(_described(folder.results / item["file"], item) for item in folder.read_objects())
    except (FileNotFoundError, UnreadableInstance):
        return ()


def waiting_series(settings: Settings, jobs: Iterable[Summary], now: float) -> list[WaitingSeries]:
    """The series that wait, the oldest first.

    Args:
        settings: of the node.
        jobs: all that the ledger knows.
        now: seconds since the epoch.
    """
    latest: dict[str, Summary] = {}
    for item in sorted(jobs, key=lambda item: item.job.generation):
        latest[item.job.series_key] = item
    found = [
        WaitingSeries(
            series.series_key,
            series.modality,
            series.count,
            series.calling_ae,
            series.last_arrival,
            _waits_for(settings, series, now)[1],
        )
        for series in Spool(settings.storage.spool_folder).series()
        if series.series_key not in latest or not latest[series.series_key].job.is_of(series.generation)
    ]
    return sorted(found, key=lambda item: item.last_arrival)


def as_time(seconds: float) -> str:
    """Seconds since the epoch in ISO 8601, UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def as_seconds(text: str) -> float:
    """What `as_time` wrote, in seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def _waits_for(settings: Settings, series: SpooledSeries, now: float) -> tuple[bool, str]:
    """Whether more of it may come, and what the series waits for in words."""
    quiet_for = now - series.last_arrival
    left = quiet_seconds_of(settings.routes, series.modality) - quiet_for
    if left > 0 and not series.announced:
        return True, f"more images, up to {left:.0f} s"
    partner_s = settings.routes.mri.partner_wait_seconds
    if series.modality == "MR" and settings.routes.mri.enabled and quiet_for < partner_s:
        return False, f"the other series of its study, up to {partner_s - quiet_for:.0f} s"
    return False, "the node to take it up"


def _described(path: Path, item: Mapping[str, Any]) -> ResultFile:
    status = path.stat()
    return ResultFile(
        item["kind"],
        item["sop_class_uid"],
        item["sop_instance_uid"],
        _series_of(path, status.st_mtime_ns),
        status.st_size,
    )


@functools.lru_cache(maxsize=4096)
def _series_of(path: Path, _modified: int) -> str:
    meta, data_set = read_file(path, HEADER_BYTES)
    return read_identity(data_set, meta.transfer_syntax_uid).series_instance_uid
