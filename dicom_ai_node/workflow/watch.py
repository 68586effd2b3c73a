"""What changed about which series, in order, for whoever follows: fed by looking at spool and ledger.

Followers keep their own place, the number of the last event that they had; nothing is kept for any of them.
The latest events are in memory. Whoever is further behind, or comes back after a restart, is told the present
state of every series that has changed since; numbers are microseconds since the epoch, so that they mean the
same to the next process.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicom_ai_node.config import Settings
from dicom_ai_node.intake.spool import Spool, SpooledSeries
from dicom_ai_node.log import logger
from dicom_ai_node.workflow.job import State
from dicom_ai_node.workflow.ledger import Ledger
from dicom_ai_node.workflow.standing import SeriesStanding, as_seconds, as_time, standing_of

LOOK_SECONDS: Final = 0.5
KEPT_EVENTS: Final = 2048

_OVERLAP_SECONDS: Final = 5.0
_BEFORE_JOBS: Final = ("receiving", "waiting")
_ENDS: Final = frozenset(State)


@dataclass(frozen=True)
class StateEvent:
    """A series stands differently.

    Attributes:
        number: rises from event to event; microseconds since the epoch.
        standing: how it stands now.
    """

    number: int
    standing: SeriesStanding


@dataclass(frozen=True)
class _Known:
    """What was last seen of a series: enough to know that something is different."""

    generation: str
    announced: bool
    told: tuple[Any, ...]
    unsettled: bool


class StateWatch:
    """Looks again and again, in a thread of its own.

    Args:
        settings: of the node.
        spool: what has arrived.
        ledger: what was done about it.
        now: the clock, seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, spool: Spool, ledger: Ledger, now: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._now = now
        self._known: dict[str, _Known] = {}
        self._touched: set[str] = set()
        self._running: set[str] = set()
        self._looked = now()
        self._lock = threading.Lock()
        self._events: deque[StateEvent] = deque(maxlen=KEPT_EVENTS)
        self._complete_from = int(now() * 1e6)
        """All events after this number are in memory."""
        self._last = self._complete_from
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def last(self) -> int:
        """The number of the latest event, or of none yet."""
        with self._lock:
            return self._last

    @property
    def stopping(self) -> bool:
        """Nothing more will come."""
        return self._stopping.is_set()

    def start(self) -> None:
        """Begin to look; what is so now is no news."""
        jobs = {item.job.series_key: item for item in self._ledger.summaries()}
        for series in self._spool.series():
            summary = jobs.get(series.series_key)
            if summary is not None and summary.state is not None and summary.job.is_of(series.generation):
                job = summary.job
                told = _told(summary.standing, job.id, job.instances, as_time(summary.updated_at))
                self._known[series.series_key] = _Known(
                    series.generation, series.announced, told, unsettled=False
                )
        self._thread = threading.Thread(target=self._loop, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=30.0)

    def touch(self, series_key: str) -> None:
        """Look at this series now; something was done about it."""
        with self._lock:
            self._touched.add(series_key)
        self._woken.set()

    def after(self, number: int) -> tuple[Sequence[StateEvent], int]:
        """The events after a number, oldest first; where they are no more in memory, what is so now.

        Returns:
            The events, and the number to go on from.
        """
        with self._lock:
            last = self._last
            if self._complete_from <= number <= last:
                behind = itertools.takewhile(lambda event: event.number > number, reversed(self._events))
                return tuple(behind)[::-1], last
        # A number from the future is of a clock that was set back since.
        return self._since(0 if number > last else number, last), last

    def look(self) -> None:
        """Look once, and note what is different."""
        looked = self._now()
        with self._lock:
            touched, self._touched = self._touched, set()
        running = self._ledger.running_job_ids()
        changed = self._ledger.changed_job_ids(self._looked - _OVERLAP_SECONDS)
        touched |= {_series_of(job) for job in (*running, *self._running, *changed)}
        present: set[str] = set()
        for series in self._spool.series():
            present.add(series.series_key)
            known = self._known.get(series.series_key)
            if (
                known is None
                or known.unsettled
                or series.series_key in touched
                or (known.generation, known.announced) != (series.generation, series.announced)
            ):
                self._look_at(series, known)
        for gone in self._known.keys() - present:
            del self._known[gone]
        self._running, self._looked = set(running), looked

    def _look_at(self, series: SpooledSeries, known: _Known | None) -> None:
        standing = standing_of(self._settings, series, self._ledger, self._now())
        told = _told(standing.state, standing.job, standing.instances, standing.updated_at)
        # Before there is a job nothing in the ledger says that it is time to look.
        unsettled = standing.job is None and standing.state in _BEFORE_JOBS
        self._known[series.series_key] = _Known(series.generation, series.announced, told, unsettled)
        if known is None or known.told != told:
            self._note(standing)

    def _note(self, standing: SeriesStanding) -> None:
        with self._lock:
            self._last = max(self._last + 1, int(self._now() * 1e6))
            if len(self._events) == KEPT_EVENTS:
                self._complete_from = self._events[0].number
            self._events.append(StateEvent(self._last, standing))

    def _since(self, number: int, last: int) -> Sequence[StateEvent]:
        """The present state of what has changed since; once too often rather than not at all."""
        standings = [
            standing_of(self._settings, series, self._ledger, self._now()) for series in self._spool.series()
        ]
        earliest = number / 1e6 - _OVERLAP_SECONDS
        return tuple(
            StateEvent(min(last, int(as_seconds(standing.updated_at) * 1e6)), standing)
            for standing in sorted(standings, key=lambda standing: standing.updated_at)
            if as_seconds(standing.updated_at) >= earliest
        )

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:
                # Followers would wait for ever; the next look may go well.
                logger().exception("look failed")
            self._woken.wait(LOOK_SECONDS)
            self._woken.clear()


def _told(state: str, job: str | None, instances: int, updated_at: str) -> tuple[Any, ...]:
    """What makes an event where it differs. A job that ended as before, between two looks, ended anew."""
    return (state, job, instances, updated_at if state in _ENDS else "")


def _series_of(job_id: str) -> str:
    return job_id.rpartition(".")[0]
