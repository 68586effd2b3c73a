"""The record of all jobs, read from and written to the workflow database.

Runs are started here and carried out by the node that serves; `dicom-ai-node jobs` opens the same record
beside a running node, or while none runs. The database is DBOS's system database: SQLite, or PostgreSQL by
its address.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self, cast

# DBOS reads these at import and would then look for its cloud; the node talks to nobody but its peers.
for _name in ("DBOS__CLOUD", "DBOS__CONDUCTOR_KEY", "DBOS__CONDUCTOR_URL", "DBOS__CONDUCTOR_APP_NAME"):
    os.environ.pop(_name, None)

from dbos import DBOSClient, WorkflowStatus  # noqa: E402
from dbos._serialization import DBOSPortableJSON  # noqa: E402

from dicom_ai_node.config import Settings  # noqa: E402
from dicom_ai_node.errors import ConfigurationError  # noqa: E402
from dicom_ai_node.workflow.job import ID_SEPARATOR, Job, Run, RunName, Status  # noqa: E402
from dicom_ai_node.workflow.plan import Start, Summary, summarise  # noqa: E402

APPLICATION: Final = "dicom-ai-node"
RECORD_VERSION: Final = "1"
"""Which shape of run this code carries out; runs of another shape wait for a node that knows it."""

SERIALIZER: Final = DBOSPortableJSON
"""Plain JSON in the database: nothing that is read back can run code."""

ANALYSES: Final = "analyses"
DELIVERIES: Final = "deliveries"
RECORDS: Final = "records"
_QUEUES: Final = {"analysis": ANALYSES, "delivery": DELIVERIES, "conclusion": RECORDS, "retry": RECORDS}

_STATUSES: Final[dict[str, Status]] = {
    "ENQUEUED": "waiting",
    "DELAYED": "delayed",
    "PENDING": "running",
    "SUCCESS": "done",
    "ERROR": "lost",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "lost",
    "CANCELLED": "cancelled",
}


def database_url(settings: Settings) -> str:
    """Where the record is: the configured PostgreSQL database, else the SQLite file of the storage folder."""
    configured = settings.workflow.database_url
    return configured if configured is not None else f"sqlite:///{settings.storage.database_path}"


class Ledger:
    """The runs of all jobs.

    Raises:
        ConfigurationError: there is no such database, or it cannot be reached.
    """

    def __init__(self, url: str) -> None:
        path = url.removeprefix("sqlite:///")
        if path != url and not os.path.exists(path):  # noqa: PTH110 - a URL's path, absolute or not
            raise ConfigurationError(
                f"no record of jobs at {path}: start `dicom-ai-node serve` once with this configuration "
                "([storage] folder)"
            )
        self._client = DBOSClient(
            system_database_url=url,
            serializer=SERIALIZER,
            application_name=APPLICATION,
            retry_connection_errors=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._client.destroy()

    def start(self, start: Start, job: Job) -> None:
        """Record that a run shall happen; the same name again changes nothing."""
        name = start.name
        options: dict[str, Any] = {
            "workflow_name": name.kind,
            "queue_name": _QUEUES[name.kind],
            "workflow_id": str(name),
            "app_version": RECORD_VERSION,
        }
        if start.delay_s > 0:
            options["delay_seconds"] = start.delay_s
        if name.destination is not None:
            options["queue_partition_key"] = name.destination
        self._client.enqueue(cast("Any", options), job.to_dict(), dict(start.arguments))

    def cancel(self, name: RunName) -> None:
        """Take back a run that has not begun."""
        self._client.cancel_workflow(str(name))

    def runs(self, job_id: str) -> tuple[Run, ...]:
        """The runs of one job, oldest first."""
        return _runs(self._client.list_workflows(workflow_id_prefix=job_id + ID_SEPARATOR))

    def summary(self, job_id: str) -> Summary | None:
        """Where one job stands; None where there is no such job."""
        runs = self.runs(job_id)
        return summarise(runs) if runs else None

    def generations(self, series_key: str) -> tuple[Job, ...]:
        """All jobs about one series, by generation."""
        rows = self._client.list_workflows(workflow_id_prefix=series_key + ".", load_output=False)
        jobs = {run.job.id: run.job for run in _runs(rows)}
        return tuple(sorted(jobs.values(), key=lambda job: job.generation))

    def open_job_ids(self) -> list[str]:
        """Jobs whose latest round has no conclusion, oldest first."""
        latest: dict[str, int] = {}
        concluded: set[tuple[str, int]] = set()
        for name in self._names():
            latest[name.job_id] = max(latest.get(name.job_id, 0), name.round)
            if name.kind == "conclusion":
                concluded.add((name.job_id, name.round))
        return [job_id for job_id, number in latest.items() if (job_id, number) not in concluded]

    def job_ids(self) -> list[str]:
        """All jobs, oldest first."""
        return list(dict.fromkeys(name.job_id for name in self._names()))

    def running_job_ids(self) -> list[str]:
        """Jobs of which a run is being carried out."""
        return list(dict.fromkeys(name.job_id for name in self._names(status="PENDING")))

    def changed_job_ids(self, since: float) -> list[str]:
        """Jobs of which a run has ended since a Unix time."""
        moment = datetime.fromtimestamp(since, UTC).isoformat()
        return list(dict.fromkeys(name.job_id for name in self._names(completed_after=moment)))

    def _names(self, **which: Any) -> list[RunName]:
        rows = self._client.list_workflows(load_input=False, load_output=False, **which)
        names = (RunName.parse(row.workflow_id) for row in rows)
        return [name for name in names if name is not None]

    def summaries(self, limit: int | None = None) -> list[Summary]:
        """Where the latest `limit` jobs (default: all) stand, oldest first."""
        grouped: dict[str, list[WorkflowStatus]] = {}
        for row in self._client.list_workflows():
            name = RunName.parse(row.workflow_id)
            if name is not None:
                grouped.setdefault(name.job_id, []).append(row)
        chosen = list(grouped.values())[-limit:] if limit else list(grouped.values())
        return [summarise(_runs(rows)) for rows in chosen]

    def forget(self, job_id: str) -> None:
        """Remove the record of a job."""
        self._client.delete_workflows([str(run.name) for run in self.runs(job_id)])


def _runs(rows: Iterable[WorkflowStatus]) -> tuple[Run, ...]:
    runs: Sequence[Run | None] = [_run(row) for row in rows]
    return tuple(run for run in runs if run is not None)


def _run(row: WorkflowStatus) -> Run | None:
    name = RunName.parse(row.workflow_id)
    if name is None or row.input is None:
        return None
    job, arguments = row.input["args"]
    created = float(row.created_at or 0) / 1000
    return Run(
        name,
        _STATUSES[row.status],
        Job.from_dict(job),
        arguments,
        row.output if isinstance(row.output, dict) else None,
        created,
        float(row.updated_at or 0) / 1000 or created,
    )
