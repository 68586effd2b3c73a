"""What comes next is decided from the record alone: every job ends once, whatever its runs say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_ai_node.workflow.job import Job, Phase, Run, RunName, State
from dicom_ai_node.workflow.plan import Policies, RetryPolicy, Start, next_starts, summarise

JOB = Job("5e12ec", "57d7", 1, "f1", "1.2.3", "1.2.3.4", "CT", 99, "PACS", "ct-volume", ("99 axial slices",))
ANALYSIS = RetryPolicy(3, 10.0, 4.0, 100.0)
DELIVERY = RetryPolicy(4, 5.0, 2.0, 15.0)
DESTINATIONS = ("archive", "viewer/2", "größe %")
POLICIES = Policies(ANALYSIS, dict.fromkeys(DESTINATIONS, DELIVERY))
FILES = ["seg.dcm", "pr-1.dcm", "sr.dcm"]

Output = dict[str, Any] | None


def run_of(start: Start, output: Output, number: int) -> Run:
    status = "lost" if output is None else "done"
    return Run(start.name, status, JOB, start.arguments, output, float(number), float(number))


def results(deliveries: dict[str, list[str]], status: str = "analysed") -> dict[str, Any]:
    return {"outcome": "results", "report_status": status, "reason": "", "deliveries": deliveries}


def delivered(start: Start, stored: set[str]) -> dict[str, Any]:
    return {
        "outcomes": [
            {
                "file": file,
                "stored": file in stored,
                "text": "Success" if file in stored else "out of resources",
            }
            for file in start.arguments["files"]
        ]
    }


def carry_out(says: Callable[[Start], Output], record: list[Run] | None = None) -> list[Run]:
    """Start what the plan wants, record what it says, until the plan wants nothing more."""
    record = record or [
        run_of(Start(RunName(JOB.id, 1, "analysis")), says(Start(RunName(JOB.id, 1, "analysis"))), 0)
    ]
    while starts := next_starts(record, POLICIES):
        for start in starts:
            record.append(run_of(start, says(start), len(record)))
        assert len(record) < 200, "the plan does not end"
    return record


@st.composite
def worlds(draw: st.DrawFn) -> Callable[[Start], Output]:
    """Anything that analyses and archives can say."""
    deliveries = dict.fromkeys(draw(st.sets(st.sampled_from(DESTINATIONS))), FILES)
    status = draw(st.sampled_from(["analysed", "not-analysable"]))

    def says(start: Start) -> Output:
        match start.name.kind:
            case "analysis":
                return draw(
                    st.sampled_from(
                        [
                            results(deliveries, status),
                            {"outcome": "try-later", "reason": "out of memory"},
                            {"outcome": "failed", "reason": "the bundle was changed"},
                            None,
                        ]
                    )
                )
            case "delivery":
                return draw(
                    st.none() | st.sets(st.sampled_from(FILES)).map(lambda kept: delivered(start, kept))
                )
            case _:
                return dict(start.arguments)

    return says


@settings(deadline=None)
@given(worlds())
def test_every_job_ends_in_exactly_one_state(says: Callable[[Start], Output]) -> None:
    record = carry_out(says)
    assert [run.name.kind for run in record].count("conclusion") == 1
    assert len({str(run.name) for run in record}) == len(record), "no run is started twice"
    summary = summarise(record)
    assert summary.state is not None
    assert summary.phase is None
    if summary.state is State.FAILED:
        assert summary.reason


@settings(deadline=None)
@given(worlds())
def test_what_an_archive_has_is_not_sent_again(says: Callable[[Start], Output]) -> None:
    stored: dict[str, set[str]] = {}
    for run in carry_out(says):
        if run.name.kind == "delivery":
            assert run.name.destination is not None
            had = stored.setdefault(run.name.destination, set())
            assert not had & set(run.arguments["files"])
            assert run.name.attempt <= DELIVERY.attempts
            if run.output is not None:
                had |= {item["file"] for item in run.output["outcomes"] if item["stored"]}


@settings(deadline=None)
@given(worlds(), worlds())
def test_a_retry_sends_only_what_is_missing_and_ends_again(
    says: Callable[[Start], Output], then: Callable[[Start], Output]
) -> None:
    record = carry_out(says)
    retry = run_of(Start(RunName(JOB.id, 2, "retry")), {}, len(record))
    record = carry_out(then, [*record, retry])
    assert [run.name.round for run in record if run.name.kind == "conclusion"] == [1, 2]
    if any(run.output is not None and run.output.get("outcome") == "results" for run in record[:1]):
        assert not [run for run in record if run.name.kind == "analysis" and run.name.round == 2]


def test_delays_grow_to_a_bound() -> None:
    assert [DELIVERY.delay_s(attempt) for attempt in (1, 2, 3, 4, 40)] == [5.0, 10.0, 15.0, 15.0, 15.0]


def test_a_destination_that_left_the_configuration_is_not_asked_for_ever() -> None:
    def says(start: Start) -> Output:
        if start.name.kind == "analysis":
            return results({"gone": FILES})
        return delivered(start, set()) if start.name.kind == "delivery" else {}

    record = carry_out(says)
    assert summarise(record).state is State.FAILED
    assert [run.name.kind for run in record] == ["analysis", "delivery", "conclusion"]


@pytest.mark.parametrize(
    ("status", "kind", "phase"),
    [
        ("waiting", "analysis", Phase.WAITING),
        ("running", "analysis", Phase.ANALYSING),
        ("delayed", "analysis", Phase.RETRYING),
        ("running", "delivery", Phase.DELIVERING),
        ("delayed", "delivery", Phase.RETRYING),
    ],
)
def test_a_job_on_its_way_says_where_it_is(status: Any, kind: Any, phase: Phase) -> None:
    name = RunName(JOB.id, 1, kind, 1, "archive" if kind == "delivery" else None)
    before = [run_of(Start(RunName(JOB.id, 1, "analysis")), results({"archive": FILES}), 0)]
    run = Run(name, status, JOB, {"files": FILES}, None, 0.0, 0.0)
    record = [*(before if kind == "delivery" else []), run]
    assert summarise(record).phase is phase
    assert next_starts(record, POLICIES) == ()


@settings(deadline=None)
@given(
    st.integers(1, 99),
    st.sampled_from(["analysis", "conclusion", "retry", "delivery"]),
    st.integers(1, 999),
    st.text(min_size=1, max_size=32),
)
def test_names_of_runs_can_be_read_back(number: int, kind: Any, attempt: int, destination: str) -> None:
    name = RunName(JOB.id, number, kind, attempt, destination if kind == "delivery" else None)
    assert RunName.parse(str(name)) == name


@pytest.mark.parametrize("text", ["", "a/b", "a/r1/analysis/x", "a/r1/unknown/1", "a/r1/analysis/archive/1"])
def test_other_names_are_not_ours(text: str) -> None:
    assert RunName.parse(text) is None


def test_a_job_survives_json() -> None:
    job = replace(JOB, pipeline=None, refusal=("spacing", "slices are 8 mm apart"), left_out="1 left out")
    assert Job.from_dict(job.to_dict()) == job
