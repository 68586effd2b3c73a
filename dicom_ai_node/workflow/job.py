"""A job: what is done about one generation of one series, and the runs that its record is made of.

A series that grows after it was analysed gets a further generation, and so does one whose partner came. The
record of a job is nothing but its durable runs: analyses, deliveries, one conclusion per round. A person's
retry opens a new round. Names of runs are derived from the job, so that starting one twice is starting it
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final, Literal, Self
from urllib.parse import quote, unquote

ID_SEPARATOR: Final = "/"
FINGERPRINT_SEPARATOR: Final = "+"
AGAIN_SEPARATOR: Final = "~"


class State(StrEnum):
    """The states that an accepted series ends in."""

    DELIVERED = "delivered"
    COMMITTED = "committed"
    NOT_APPLICABLE = "not-applicable"
    NOT_ANALYSABLE = "not-analysable"
    FAILED = "failed"


class Phase(StrEnum):
    """Where a job stands that has not ended."""

    WAITING = "waiting"
    ANALYSING = "analysing"
    DELIVERING = "delivering"
    RETRYING = "retrying"


@dataclass(frozen=True)
class Job:
    """One generation of one series, as the router judged it; other series may have a part in it (MR).

    Attributes:
        series_key: the spool's name of the series (a hash; safe in file names and logs).
        study_key: the spool's name of the study.
        generation: 1 for the first analysis of the series, one more for each that supersedes it.
        fingerprint: hash of the set of instances of the series that this generation is made of; where other
            series have a part in it, with a hash of that behind a separator; and last, where a person asked
            for it to be made again, how often.
        pipeline: the pipeline to run, None where no route applies.
        reasons: why this pipeline, or why none, in words.
        refusal: code and text of the report to send where the series is of a kind that is analysed but this
            one cannot be.
        left_out: which images of the series are not analysed, and why, in words.
        carried_by: Series Instance UID of the series of the study whose job has the result; "" where it is
            this one.
    """

    series_key: str
    study_key: str
    generation: int
    fingerprint: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str
    instances: int
    calling_ae_title: str
    pipeline: str | None
    reasons: tuple[str, ...]
    refusal: tuple[str, str] | None = None
    left_out: str = ""
    carried_by: str = ""

    @property
    def id(self) -> str:
        """The name of the job: series key and generation."""
        return f"{self.series_key}.{self.generation}"

    def is_of(self, instances: str) -> bool:
        """Whether it was made of exactly this set of instances of its series, by their hash."""
        return self.made_of.partition(FINGERPRINT_SEPARATOR)[0] == instances

    @property
    def made_of(self) -> str:
        """The fingerprint, however often the job was asked for."""
        return self.fingerprint.partition(AGAIN_SEPARATOR)[0]

    @property
    def asked_again(self) -> int:
        """How often a job made of the same was asked for before this one."""
        return int(self.fingerprint.partition(AGAIN_SEPARATOR)[2] or 0)

    def to_dict(self) -> dict[str, Any]:
        """The job as plain JSON types."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        return plain | {"reasons": [*self.reasons], "refusal": self.refusal and [*self.refusal]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The job that `to_dict` wrote."""
        refusal = data["refusal"]
        return cls(
            **{
                **data,
                "reasons": tuple(data["reasons"]),
                "refusal": None if refusal is None else (refusal[0], refusal[1]),
            }
        )


Kind = Literal["analysis", "delivery", "conclusion", "retry"]
Status = Literal["waiting", "delayed", "running", "done", "lost", "cancelled"]


@dataclass(frozen=True)
class RunName:
    """The durable name of one run: `<job>/r<round>/<kind>[/<destination>]/<attempt>`."""

    job_id: str
    round: int
    kind: Kind
    attempt: int = 1
    destination: str | None = None

    def __str__(self) -> str:
        parts = [self.job_id, f"r{self.round}", self.kind]
        if self.destination is not None:
            parts.append(quote(self.destination, safe=""))
        return ID_SEPARATOR.join([*parts, str(self.attempt)])

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The name in `text`, or None where it is not one of ours."""
        parts = text.split(ID_SEPARATOR)
        try:
            job_id, round_text, kind, *destination, attempt = parts
            number, count = int(round_text.removeprefix("r")), int(attempt)
        except ValueError:
            return None
        match kind, destination:
            case ("analysis" | "conclusion" | "retry") as plain, []:
                return cls(job_id, number, plain, count)
            case "delivery", [name]:
                return cls(job_id, number, "delivery", count, unquote(name))
        return None


@dataclass(frozen=True)
class Run:
    """One durable run as the ledger holds it; times are Unix seconds.

    Attributes:
        job: as it was when the run was started.
        arguments: what the run was started with beyond the job.
        output: what it said, None while it runs.
        status: `lost` is a run that ended without saying anything (the node died under it too often).
    """

    name: RunName
    status: Status
    job: Job
    arguments: Mapping[str, Any]
    output: Mapping[str, Any] | None
    created_at: float
    updated_at: float

    @property
    def ended(self) -> bool:
        """Nothing more will come of this run."""
        return self.status in ("done", "lost", "cancelled")

    def to_dict(self) -> dict[str, Any]:
        """The run, without its job and arguments, as plain JSON types."""
        return {
            "round": self.name.round,
            "kind": self.name.kind,
            "destination": self.name.destination,
            "attempt": self.name.attempt,
            "status": self.status,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "output": None if self.output is None else dict(self.output),
        }
