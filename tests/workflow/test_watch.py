"""Followers of events: each keeps its own place, and whoever is far behind is told what is so now."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any, cast

import pytest

from dicom_ai_node.config import Settings
from dicom_ai_node.intake.identity import InstanceIdentity
from dicom_ai_node.intake.part10 import FileMeta
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.workflow import watch as watch_module
from dicom_ai_node.workflow.watch import StateWatch

CT, SYNTAX = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"


class EmptyLedger:
    """Nothing was done about anything."""

    def summaries(self) -> list[Any]:
        return []

    running_job_ids = summaries

    def changed_job_ids(self, _since: float) -> list[str]:
        return []

    def generations(self, _series_key: str) -> tuple[()]:
        return ()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def watching(spool: Spool) -> StateWatch:
    return StateWatch(Settings(), spool, cast("Any", EmptyLedger()))


def bring(spool: Spool, series: int, instance: int = 1) -> None:
    identity = InstanceIdentity(CT, f"1.{series}.{instance}", "1.4", f"1.5.{series}", "CT")
    # As `read_identity` will find it again.
    data_set = b"".join(
        tag + vr + len(value).to_bytes(2, "little") + value
        for tag, vr, value in (
            (b"\x08\0\x16\0", b"UI", padded(CT)),
            (b"\x08\0\x18\0", b"UI", padded(identity.sop_instance_uid)),
            (b"\x08\0\x60\0", b"CS", b"CT"),
            (b"\x20\0\x0d\0", b"UI", padded("1.4")),
            (b"\x20\0\x0e\0", b"UI", padded(identity.series_instance_uid)),
        )
    )
    spool.store(data_set, identity, FileMeta(CT, identity.sop_instance_uid, SYNTAX))


def padded(text: str) -> bytes:
    value = text.encode()
    return value + b"\0" * (len(value) % 2)


def test_every_change_is_one_event_and_a_look_without_change_is_none(spool: Spool) -> None:
    watch = watching(spool)
    begin = watch.last
    bring(spool, 1)
    watch.look()
    watch.look()
    bring(spool, 1, instance=2)
    bring(spool, 2)
    watch.look()
    events, place = watch.after(begin)
    assert sorted((item.standing.series_instance_uid, item.standing.instances) for item in events) == [
        ("1.5.1", 1),
        ("1.5.1", 2),
        ("1.5.2", 1),
    ]
    assert all(first.number < second.number for first, second in itertools.pairwise(events))
    assert events[-1].number == place == watch.last
    assert watch.after(place) == ((), place)
    assert [item.number for item in watch.after(events[0].number)[0]] == [item.number for item in events[1:]]


def test_whoever_is_far_behind_or_from_before_a_restart_is_told_the_present(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_module, "KEPT_EVENTS", 3)
    watch = watching(spool)
    begin = watch.last
    for instance in range(1, 7):
        bring(spool, 1, instance)
        bring(spool, 2, instance)
        watch.look()
    behind, place = watch.after(begin)
    assert {(item.standing.series_instance_uid, item.standing.instances) for item in behind} == {
        ("1.5.1", 6),
        ("1.5.2", 6),
    }
    assert place == watch.last
    assert watch.after(place) == ((), place), "told once"

    time.sleep(0.001)
    restarted = watching(spool)
    resumed, place = restarted.after(begin)
    assert {item.standing.series_instance_uid for item in resumed} == {"1.5.1", "1.5.2"}
    assert all(item.number <= place for item in resumed)
    # A clock that was set back: better twice than never.
    assert len(restarted.after(place + 10**12)[0]) == 2
