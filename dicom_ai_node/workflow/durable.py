"""The durable runs: what DBOS carries out, again from the last finished step after the node was killed.

Each run ends by saying what happened; it decides nothing about the job (`plan` does). Steps exchange paths
and small JSON, never images. DBOS gets no key, no console and no telemetry: it reaches nothing but its
database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dbos import DBOS, DBOSConfig

from dicom_ai_node.config import Destination, Settings
from dicom_ai_node.errors import NodeError
from dicom_ai_node.log import logger
from dicom_ai_node.node.scu import Sender
from dicom_ai_node.workflow.handover import JobFolder
from dicom_ai_node.workflow.job import Job
from dicom_ai_node.workflow.ledger import (
    ANALYSES,
    APPLICATION,
    DELIVERIES,
    RECORD_VERSION,
    RECORDS,
    SERIALIZER,
    database_url,
)
from dicom_ai_node.workflow.renditions import deliveries
from dicom_ai_node.workflow.steps import NODE_STEPS
from dicom_ai_node.workflow.worker import WorkerDied, WorkerPool, WorkerRefused

POLLING_SECONDS: Final = 0.5
RECOVERIES: Final = 25
"""How often a run may be found cut short before it is given up: no study may end the node for ever."""

_PROGRESS_SECONDS: Final = 1.0

_RunMethod = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


class Engine:
    """DBOS with the node's runs registered; one per process.

    Args:
        settings: the node's settings.
        factory: `module:function` that makes the `Steps` in the analysis process.
    """

    def __init__(self, settings: Settings, factory: str = NODE_STEPS) -> None:
        self._settings = settings
        self._pool = WorkerPool(settings, factory)
        self._log = logger()
        self.run_ended = threading.Event()
        """Set whenever a run is about to end, for whoever plans what comes next."""

    def start(self) -> None:
        """Open the database, register the runs, carry on with what was cut short."""
        self._settings.storage.folder.mkdir(parents=True, exist_ok=True)
        self._pool.start()
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": database_url(self._settings),
            "application_version": RECORD_VERSION,
            "executor_id": "local",
            "serializer": SERIALIZER,
            "log_level": "WARNING",
            "enable_otlp": False,
            "scheduler_polling_interval_sec": 3600.0,
        }
        DBOS(config=config)
        for kind, run, recoveries in (
            ("analysis", self._analysis, RECOVERIES),
            ("delivery", self._delivery, RECOVERIES),
            ("conclusion", self._conclusion, None),
            ("retry", self._retry, None),
        ):
            DBOS.workflow(name=kind, max_recovery_attempts=recoveries)(_as_function(run))
        DBOS.launch()
        workers = self._settings.workflow.workers
        DBOS.register_queue(ANALYSES, worker_concurrency=workers, polling_interval_sec=POLLING_SECONDS)
        # One delivery at a time to each archive; an archive that hangs holds up nobody else's.
        DBOS.register_queue(DELIVERIES, partition_concurrency=1, polling_interval_sec=POLLING_SECONDS)
        DBOS.register_queue(RECORDS, polling_interval_sec=2 * POLLING_SECONDS)

    def stop(self) -> None:
        """Let go of the database first, so that a step that is cut short is not recorded as failed."""
        DBOS.destroy(destroy_registry=True)
        self._pool.stop()

    def folder(self, job: Job) -> JobFolder:
        """Where the job's files are."""
        return JobFolder(self._settings.storage.results_folder / job.id)

    def _analysis(self, job_data: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        job = Job.from_dict(job_data)
        log = self._log.bind(job=job.id, pipeline=job.pipeline)
        folder = self.folder(job)
        started = time.monotonic()
        steps: dict[str, dict[str, Any]] = {
            "analyse": {
                "pipeline": job.pipeline,
                "modality": job.modality,
                "refusal": None if job.refusal is None else [*job.refusal],
                "left_out": job.left_out,
            },
            "encode": {},
            "validate": {},
        }
        with self._pool.borrow() as worker:

            def ask(step: str, **more: Any) -> dict[str, Any]:
                log.info("step", step=step)
                return _ask(worker, step, folder, log, **more)

            said = DBOS.run_step({"name": "load"}, _load, folder)
            for step, more in steps.items():
                if "outcome" not in said:
                    said = {**said, **DBOS.run_step({"name": step}, ask, step, **more)}
        if "outcome" not in said:
            said = {
                "outcome": "results",
                "report_status": said["status"],
                "reason": said["reason"],
                "deliveries": deliveries(said["objects"], self._settings),
            }
        log.info("analysis ended", outcome=said["outcome"], reason=said["reason"], seconds=_since(started))
        self.run_ended.set()
        return said

    def _delivery(self, job_data: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        job, name = Job.from_dict(job_data), arguments["destination"]
        log = self._log.bind(job=job.id, destination=name)
        paths = [self.folder(job).results / file for file in arguments["files"]]
        try:
            outcomes = self._send(paths, name, log)
        except (NodeError, OSError) as error:
            outcomes = [
                {"file": path.name, "stored": False, "status": None, "text": str(error)} for path in paths
            ]
        stored = sum(1 for outcome in outcomes if outcome["stored"])
        if stored == len(outcomes):
            log.info("delivered", objects=stored)
        else:
            text = next(outcome["text"] for outcome in outcomes if not outcome["stored"])
            log.warning("delivery incomplete", stored=stored, objects=len(outcomes), reason=text)
        self.run_ended.set()
        return {"outcomes": outcomes}

    def _send(self, paths: list[Path], name: str, log: Any) -> list[dict[str, Any]]:
        destination = self._destination(name)
        if destination is None:
            raise NodeError(f"destination {name} is not in the configuration any more")
        calling = destination.calling_ae_title or self._settings.node.ae_title
        outcomes: list[dict[str, Any]] = []
        with Sender(
            paths, destination, calling_ae_title=calling, response_timeout_s=destination.timeout_seconds
        ) as sender:
            for path in paths:

                def store(path: Path = path) -> dict[str, Any]:
                    outcome = sender.store(path).to_dict()
                    log.info(
                        "stored" if outcome["stored"] else "not stored",
                        file=path.name,
                        status=outcome["text"],
                    )
                    return outcome

                # Recorded one by one: what an archive has answered for is not sent again.
                outcomes.append(DBOS.run_step({"name": f"store {path.name}"}, store))
        return outcomes

    def _destination(self, name: str) -> Destination | None:
        return next((item for item in self._settings.destinations if item.name == name), None)

    def _conclusion(self, job_data: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        job = Job.from_dict(job_data)
        write = self._log.error if arguments["state"] == "failed" else self._log.info
        write("concluded", job=job.id, state=arguments["state"], reason=arguments["reason"])
        return arguments

    def _retry(self, job_data: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        self._log.info("retry asked for", job=Job.from_dict(job_data).id)
        self.run_ended.set()
        return arguments


def _as_function(run: _RunMethod) -> _RunMethod:
    """DBOS marks the functions that it registers; a bound method takes no marks."""

    def function(job_data: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
        return run(job_data, arguments)

    return function


def _load(folder: JobFolder) -> dict[str, Any]:
    """See that all instances of this generation are still there."""
    try:
        for path in folder.read_input():
            path.stat()
    except FileNotFoundError as error:
        return {"outcome": "failed", "reason": f"{error.filename} is gone; send the series again"}
    return {}


def _ask(worker: Any, step: str, folder: JobFolder, log: Any, **more: Any) -> dict[str, Any]:
    """The worker's answer, or the outcome that ends the run; nothing is raised, the record stays JSON."""
    last = 0.0

    def progress(name: str, done: float) -> None:
        nonlocal last
        if done >= 1.0 or time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            log.info("progress", step=name, done=round(done, 3))

    try:
        answer: Mapping[str, Any] = worker.ask(step, progress, folder=str(folder.path), **more)
    except WorkerDied as error:
        return {"outcome": "try-later", "reason": str(error)}
    except WorkerRefused as error:
        return {"outcome": "try-later" if error.try_later else "failed", "reason": f"{step}: {error}"}
    return dict(answer)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
