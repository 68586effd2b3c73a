"""Where series and jobs stand, what came of them, and the little that one may ask of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import fastapi
from fastapi import APIRouter, Body, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from dicom_ai_node.intake.spool import SpooledSeries
from dicom_ai_node.web.inside import Inside, NodeInside
from dicom_ai_node.web.problems import RequestRefused, described
from dicom_ai_node.workflow.handover import JobFolder, in_film
from dicom_ai_node.workflow.plan import Summary, retry_of
from dicom_ai_node.workflow.standing import Standing, as_time, standing_of, standing_of_job

UID_PATTERN: Final = r"^[0-9.]{1,64}$"
_UID = Annotated[str, fastapi.Path(pattern=UID_PATTERN, examples=["1.2.826.0.1.3680043.8.498.1"])]
_JobId = Annotated[str, fastapi.Path(pattern=r"^[0-9a-f]{32}\.[1-9][0-9]{0,8}$")]
_Film = Annotated[
    int, Query(ge=1, le=10_000, description="Which lateral film, where the series holds several.")
]

router = APIRouter()


class ResultObject(BaseModel):
    """One DICOM object that came of a series."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    bytes: int


class SeriesState(BaseModel):
    """Where a series stands.

    `job`, `generation` and `pipeline` are null until a job was made of the images that are here. `carried_by`
    is the series of the same study whose job has the result (MR); such a series is itself `not-applicable`.
    """

    series_instance_uid: str
    study_instance_uid: str
    modality: str
    instances: int
    state: Standing
    job: str | None
    generation: int | None
    pipeline: str | None
    reasons: list[str]
    updated_at: str = Field(json_schema_extra={"format": "date-time"})
    results: list[ResultObject]
    carried_by: str | None


class RunState(BaseModel):
    """One durable run of a job."""

    round: int
    kind: str
    destination: str | None
    attempt: int
    status: str
    created_at: str
    updated_at: str
    output: dict[str, Any] | None


class JobState(SeriesState):
    """Where a job stands, and how far its deliveries are."""

    calling_ae_title: str
    created_at: str = Field(json_schema_extra={"format": "date-time"})
    destinations: dict[str, str]


class JobRecord(JobState):
    """A job with every run of it."""

    runs: list[RunState]


class Jobs(BaseModel):
    """Some of the jobs, the latest first."""

    jobs: list[JobState]


class Complete(BaseModel):
    """How many instances the series has, where that is known."""

    instances: Annotated[int, Field(ge=1, le=1_000_000)] | None = None


_BINARY: Final = {"type": "string", "format": "binary"}
_NOT_HERE = described(_404="nothing of it is here")
_NO_JOB = described(_404="there is no such job, or it has no such thing")


@router.get("/series/{series_instance_uid}", tags=["series"], responses=_NOT_HERE)
def series_state(series_instance_uid: _UID, inside: NodeInside) -> SeriesState:
    """Where a series stands."""
    return state_of(inside, _series(inside, series_instance_uid))


@router.post(
    "/series/{series_instance_uid}/complete",
    tags=["series"],
    status_code=202,
    responses={
        **_NOT_HERE,
        **described(
            _400="the body is no JSON", _413="the body is larger than 4 MiB", _507="no room on the disk"
        ),
    },
)
def complete(
    series_instance_uid: _UID, inside: NodeInside, said: Annotated[Complete | None, Body()] = None
) -> SeriesState:
    """Say that nothing more will come: the series is looked at now instead of after its quiet time.

    Where `instances` says how many there are, it is looked at as soon as these are here.
    """
    series = _series(inside, series_instance_uid)
    inside.spool.announce(series, None if said is None else said.instances)
    inside.coordinator.look_now()
    inside.watch.touch(series.series_key)
    return state_of(inside, _series(inside, series_instance_uid))


@router.post(
    "/series/{series_instance_uid}/analyse",
    tags=["series"],
    status_code=202,
    responses={**_NOT_HERE, **described(_507="no room on the disk")},
)
def analyse(series_instance_uid: _UID, inside: NodeInside) -> SeriesState:
    """Analyse a series again, although nothing has changed: a further generation.

    A series whose analysis is still to come is left at that one.
    """
    series = _series(inside, series_instance_uid)
    inside.coordinator.analyse_again(series)
    inside.watch.touch(series.series_key)
    return state_of(inside, _series(inside, series_instance_uid))


@router.get("/jobs", tags=["jobs"])
def list_jobs(
    inside: NodeInside,
    state: Annotated[Standing | None, Query(description="Only jobs that stand so.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> Jobs:
    """The jobs, the latest first."""
    if state is None:
        names = inside.ledger.job_ids()[::-1][offset : offset + limit]
        # One may have been forgotten in between.
        found = [summary for name in names if (summary := inside.ledger.summary(name)) is not None]
    else:
        standing = [item for item in inside.ledger.summaries() if item.standing == state]
        found = standing[::-1][offset : offset + limit]
    return Jobs(jobs=[JobState(**_job(inside, summary)) for summary in found])


@router.get("/jobs/{job}", tags=["jobs"], responses=_NO_JOB)
def job_state(job: _JobId, inside: NodeInside) -> JobRecord:
    """One job with every run of it."""
    summary = _summary(inside, job)
    runs = [run.to_dict() for run in inside.ledger.runs(job)]
    for run in runs:
        run["created_at"], run["updated_at"] = as_time(run["created_at"]), as_time(run["updated_at"])
    return JobRecord(**_job(inside, summary), runs=[RunState(**run) for run in runs])


@router.post(
    "/jobs/{job}/retry",
    tags=["jobs"],
    status_code=202,
    responses={**_NO_JOB, **described(_409="the job has not failed")},
)
def retry(job: _JobId, inside: NodeInside) -> JobState:
    """Try a failed job again: what is missing is made and sent, what arrived is not sent again."""
    summary = _summary(inside, job)
    again = retry_of(inside.ledger.runs(job))
    if again is None:
        raise RequestRefused(409, f"the job is {summary.standing}; only a failed one can be tried again")
    inside.ledger.start(again, summary.job)
    return JobState(**_job(inside, _summary(inside, job)))


@router.get(
    "/jobs/{job}/report",
    tags=["results"],
    response_class=FileResponse,
    responses={
        **_NO_JOB,
        200: {"description": "dicom-ai-node/report/1", "content": {"application/json": {"schema": {}}}},
    },
)
def report(job: _JobId, inside: NodeInside, film: _Film = 1) -> FileResponse:
    """What the pipeline found, as JSON."""
    return _file(_folder(inside, job).analysis_of(film) / "report.json", "application/json")


@router.get(
    "/jobs/{job}/overlay",
    tags=["results"],
    response_class=FileResponse,
    responses={
        **_NO_JOB,
        200: {"description": "the findings on the image", "content": {"image/png": {"schema": _BINARY}}},
    },
)
def overlay(job: _JobId, inside: NodeInside, film: _Film = 1) -> FileResponse:
    """The findings drawn on the image."""
    return _file(_folder(inside, job).results / in_film("overlay.png", film), "image/png")


@router.get(
    "/jobs/{job}/results/{sop_instance_uid}",
    tags=["results"],
    response_class=FileResponse,
    responses={
        **_NO_JOB,
        200: {"description": "a DICOM file", "content": {"application/dicom": {"schema": _BINARY}}},
    },
)
def result(job: _JobId, sop_instance_uid: _UID, inside: NodeInside) -> FileResponse:
    """One result object, the bytes that are delivered."""
    folder = _folder(inside, job)
    try:
        objects = folder.read_objects()
    except FileNotFoundError:
        objects = []
    for item in objects:
        if item["sop_instance_uid"] == sop_instance_uid:
            return _file(folder.results / item["file"], "application/dicom")
    raise RequestRefused(404, "the job has no such result")


def state_of(inside: Inside, series: SpooledSeries) -> SeriesState:
    """Where a series stands now."""
    return SeriesState(**standing_of(inside.settings, series, inside.ledger, time.time()).to_dict())


def _series(inside: Inside, uid: str) -> SpooledSeries:
    series = inside.spool.find_by_uid(uid)
    if series is None:
        raise RequestRefused(404, "nothing of this series is here; bring its instances first")
    return series


def _summary(inside: Inside, job: str) -> Summary:
    summary = inside.ledger.summary(job)
    if summary is None:
        raise RequestRefused(404, "there is no such job, or its days ([storage] keep_days) are over")
    return summary


def _folder(inside: Inside, job: str) -> JobFolder:
    return JobFolder(inside.settings.storage.results_folder / _summary(inside, job).job.id)


def _job(inside: Inside, summary: Summary) -> dict[str, Any]:
    return {
        **standing_of_job(inside.settings, summary).to_dict(),
        "calling_ae_title": summary.job.calling_ae_title,
        "created_at": as_time(summary.created_at),
        "destinations": dict(summary.destinations),
    }


def _file(path: Path, kind: Literal["application/json", "image/png", "application/dicom"]) -> FileResponse:
    if not path.is_file():
        raise RequestRefused(404, "the job has none, or not yet")
    return FileResponse(path, media_type=kind)
