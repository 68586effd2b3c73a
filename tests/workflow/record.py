"""The ledger as the coordinator asks for it, in memory: for tests of what becomes a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dicom_ai_node.workflow.job import ID_SEPARATOR, Job, Run, RunName
from dicom_ai_node.workflow.plan import Start, Summary, summarise


class Record:
    """What the coordinator asks of the ledger, in memory; analyses end when the test says so."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._runs: dict[str, Run] = {}
        self.fails_after = 10**6

    def start(self, start: Start, job: Job) -> None:
        self.fails_after -= 1
        if self.fails_after < 0:
            raise KeyboardInterrupt
        status = "done" if start.name.kind == "conclusion" else "waiting"
        run = Run(start.name, status, job, start.arguments, None, self._now(), self._now())  # type: ignore[arg-type]
        self._runs.setdefault(str(start.name), run)

    def runs(self, job_id: str) -> tuple[Run, ...]:
        return tuple(run for name, run in self._runs.items() if name.startswith(job_id + ID_SEPARATOR))

    def summary(self, job_id: str) -> Summary | None:
        runs = self.runs(job_id)
        return summarise(runs) if runs else None

    def generations(self, series_key: str) -> tuple[Job, ...]:
        jobs = {run.job.id: run.job for run in self._runs.values() if run.job.series_key == series_key}
        return tuple(sorted(jobs.values(), key=lambda job: job.generation))

    def cancel(self, name: RunName) -> None:
        self._runs[str(name)] = replace(self._runs[str(name)], status="cancelled")

    def forget(self, job_id: str) -> None:
        for run in self.runs(job_id):
            del self._runs[str(run.name)]

    def end(self, run: Run, outcome: str) -> None:
        output = {"outcome": outcome, "report_status": "analysed", "reason": "", "deliveries": {}}
        self._runs[str(run.name)] = replace(run, status="done", output=output, updated_at=self._now())

    @property
    def everything(self) -> list[Run]:
        return list(self._runs.values())
