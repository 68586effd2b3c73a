"""What to do next about a job, decided from the record of its runs and from nothing else.

Pure functions: the coordinator asks after every change, and after a restart, and gets the same answer for the
same record. Each answer is a run with a derived name, so carrying it out twice is harmless.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from dicom_ai_node.workflow.job import Job, Phase, Run, RunName, State


@dataclass(frozen=True)
class RetryPolicy:
    """Bounded retries with growing delay.

    After attempt n: `first_delay_s * growth ** (n - 1)` seconds, at most `longest_delay_s`.
    """

    attempts: int
    first_delay_s: float
    growth: float
    longest_delay_s: float

    def delay_s(self, failed_attempt: int) -> float:
        """Seconds to wait after attempt number `failed_attempt` (from 1) failed."""
        return float(min(self.longest_delay_s, self.first_delay_s * self.growth ** (failed_attempt - 1)))


_NEVER = RetryPolicy(1, 0.0, 1.0, 0.0)
"""For a destination that was taken out of the configuration."""


@dataclass(frozen=True)
class Policies:
    """Retries of the analysis, and of the delivery to each destination that is configured now."""

    analysis: RetryPolicy
    deliveries: Mapping[str, RetryPolicy]


@dataclass(frozen=True)
class Start:
    """Start the run `name` after `delay_s` seconds with `arguments` (plain JSON types)."""

    name: RunName
    arguments: Mapping[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True)
class Summary:
    """A job in one line: its final state, or the phase that it is in, and the reason in words."""

    job: Job
    state: State | None
    phase: Phase | None
    reason: str
    created_at: float
    updated_at: float
    destinations: Mapping[str, str]

    @property
    def standing(self) -> str:
        """State or phase, whichever there is."""
        return str(self.state or self.phase)

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain JSON types."""
        return {
            "job": self.job.id,
            "state": self.state,
            "phase": self.phase,
            "reason": self.reason,
            "study_instance_uid": self.job.study_instance_uid,
            "series_instance_uid": self.job.series_instance_uid,
            "modality": self.job.modality,
            "instances": self.job.instances,
            "calling_ae_title": self.job.calling_ae_title,
            "generation": self.job.generation,
            "pipeline": self.job.pipeline,
            "route_reasons": list(self.job.reasons),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "destinations": dict(self.destinations),
        }


def next_starts(runs: Sequence[Run], policies: Policies) -> tuple[Start, ...]:
    """The runs to start now for a job with the record `runs` (at least one); empty: wait, or all is said.

    Every record leads to exactly one conclusion per round.
    """
    job, current = runs[-1].job, max(run.name.round for run in runs)
    if _find(runs, "conclusion", current) is not None:
        return ()
    analysis = _last([run for run in runs if run.name.kind == "analysis" and run.name.round == current])
    results = _results(runs)
    if results is None or (analysis is not None and not analysis.ended):
        return _after_analysis(job, current, analysis, policies)
    return _after_results(job, current, runs, results, policies)


def summarise(runs: Sequence[Run]) -> Summary:
    """Where the job with the record `runs` stands."""
    job, current = runs[-1].job, max(run.name.round for run in runs)
    conclusion = _find(runs, "conclusion", current)
    state, phase, reason = None, None, ""
    if conclusion is not None and "state" in conclusion.arguments:
        state = State(conclusion.arguments["state"])
        reason = str(conclusion.arguments["reason"])
    else:
        phase, reason = _phase(runs)
    return Summary(
        job,
        state,
        phase,
        reason,
        min(run.created_at for run in runs),
        max(run.updated_at for run in runs),
        {name: _delivery_text(run) for name, run in _deliveries(runs).items()},
    )


def retry_of(runs: Sequence[Run]) -> Start | None:
    """The run that opens a further round for the job with the record `runs`; None where it has not failed."""
    summary = summarise(runs)
    if summary.state is not State.FAILED:
        return None
    return Start(RunName(summary.job.id, 1 + max(run.name.round for run in runs), "retry"))


def conclusion(job: Job, round_number: int, state: State, reason: str) -> Start:
    """The run that records how the job ended."""
    return Start(RunName(job.id, round_number, "conclusion"), {"state": state.value, "reason": reason})


def _after_analysis(job: Job, current: int, analysis: Run | None, policies: Policies) -> tuple[Start, ...]:
    if analysis is None:
        return (Start(RunName(job.id, current, "analysis")),)
    if not analysis.ended:
        return ()
    if analysis.status == "cancelled":
        text = "superseded: more images arrived before the analysis began"
        return (conclusion(job, current, State.NOT_APPLICABLE, text),)
    if analysis.output is None:
        text = "the analysis ended the node again and again; see the log"
        return (conclusion(job, current, State.FAILED, text),)
    attempt = analysis.name.attempt
    if analysis.output["outcome"] == "try-later" and attempt < policies.analysis.attempts:
        return (
            Start(
                RunName(job.id, current, "analysis", attempt + 1), delay_s=policies.analysis.delay_s(attempt)
            ),
        )
    return (conclusion(job, current, State.FAILED, str(analysis.output["reason"])),)


def _after_results(
    job: Job, current: int, runs: Sequence[Run], results: Mapping[str, Any], policies: Policies
) -> tuple[Start, ...]:
    last = _deliveries(runs)
    starts: list[Start] = []
    waiting = False
    failures: list[str] = []
    for destination, files in results["deliveries"].items():
        run = last.get(destination)
        first = RunName(job.id, current, "delivery", 1, destination)
        if run is None:
            starts.append(_delivery(first, files))
        elif not run.ended:
            waiting = True
        elif remaining := _remaining(run):
            policy = policies.deliveries.get(destination, _NEVER)
            attempt = run.name.attempt
            if run.name.round < current:
                starts.append(_delivery(first, remaining))
            elif attempt < policy.attempts:
                again = replace(first, attempt=attempt + 1)
                starts.append(_delivery(again, remaining, policy.delay_s(attempt)))
            else:
                failures.append(f"{destination}: {_delivery_text(run)}")
    if starts or waiting:
        return tuple(starts)
    if failures:
        return (conclusion(job, current, State.FAILED, "; ".join(failures)),)
    analysed = results["report_status"] == "analysed"
    state = State.DELIVERED if analysed else State.NOT_ANALYSABLE
    return (conclusion(job, current, state, str(results["reason"])),)


def _delivery(name: RunName, files: Sequence[str], delay_s: float = 0.0) -> Start:
    return Start(name, {"destination": name.destination, "files": list(files)}, delay_s)


def _results(runs: Sequence[Run]) -> Mapping[str, Any] | None:
    """What the latest analysis with results said."""
    for run in sorted(runs, key=_age, reverse=True):
        if run.name.kind == "analysis" and run.output is not None and run.output["outcome"] == "results":
            return run.output
    return None


def _deliveries(runs: Sequence[Run]) -> dict[str, Run]:
    """The latest delivery to each destination."""
    found = (run for run in sorted(runs, key=_age) if run.name.kind == "delivery")
    return {run.name.destination: run for run in found if run.name.destination is not None}


def _remaining(run: Run) -> list[str]:
    """The files of a delivery that the destination does not have yet."""
    files = [str(file) for file in run.arguments["files"]]
    if run.output is None:
        return files
    stored = {outcome["file"] for outcome in run.output["outcomes"] if outcome["stored"]}
    return [file for file in files if file not in stored]


def _delivery_text(run: Run) -> str:
    if not run.ended:
        return f"attempt {run.name.attempt} {run.status}"
    if run.output is None:
        return "the delivery ended the node again and again; see the log"
    for outcome in run.output["outcomes"]:
        if not outcome["stored"]:
            return f"{outcome['file']} not stored after {run.name.attempt} attempts: {outcome['text']}"
    return "stored"


def _phase(runs: Sequence[Run]) -> tuple[Phase, str]:
    open_runs = [run for run in runs if not run.ended]
    ended = _last([run for run in runs if run.ended and run.name.kind in ("analysis", "delivery")])
    reason = ""
    if ended is not None and ended.output is not None:
        failed = ended.name.kind == "delivery" and _remaining(ended)
        reason = _delivery_text(ended) if failed else str(ended.output.get("reason", ""))
    if any(run.name.kind == "delivery" and run.status != "delayed" for run in open_runs):
        return Phase.DELIVERING, reason
    if any(run.status == "delayed" for run in open_runs):
        return Phase.RETRYING, reason
    if any(run.name.kind == "analysis" and run.status == "running" for run in open_runs):
        return Phase.ANALYSING, reason
    if not open_runs and _results(runs) is not None:
        # Between the end of one run and the start of the next.
        return Phase.DELIVERING, reason
    return Phase.WAITING, reason


def _find(runs: Sequence[Run], kind: Literal["conclusion", "retry"], current: int) -> Run | None:
    return _last([run for run in runs if run.name.kind == kind and run.name.round == current])


def _last(runs: Sequence[Run]) -> Run | None:
    return max(runs, key=_age, default=None)


def _age(run: Run) -> tuple[int, int]:
    return run.name.round, run.name.attempt
