"""The one that turns complete series into jobs, and asks after every change what each job needs next.

It keeps nothing that matters in memory: the spool says what arrived, the ledger what was done about it. After
a restart it looks at both and goes on.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import NodeError
from dicom_ai_node.intake.completeness import Completeness
from dicom_ai_node.intake.ct_sagittal_route import beside_its_volume
from dicom_ai_node.intake.router import CT_PIPELINE, CT_SAGITTAL_PIPELINE, RouteDecision, route_spooled
from dicom_ai_node.intake.spool import Spool, SpooledSeries, key_of
from dicom_ai_node.log import logger
from dicom_ai_node.node.find import SeriesCounts
from dicom_ai_node.workflow.handover import JobFolder
from dicom_ai_node.workflow.job import AGAIN_SEPARATOR, Job, Phase, RunName, State
from dicom_ai_node.workflow.ledger import Ledger
from dicom_ai_node.workflow.mr_study import MR, MrStudies, by_study, going_together
from dicom_ai_node.workflow.plan import Policies, RetryPolicy, Start, conclusion, next_starts, summarise

TICK_SECONDS: Final = 0.5
_OVERLAP_SECONDS: Final = 5.0
_ANALYSIS_GROWTH: Final = 4.0
_ANALYSIS_LONGEST_S: Final = 900.0
_EXPIRY_SECONDS: Final = 3600.0


@dataclass(frozen=True)
class Judgement:
    """The two questions about a series that intake answers.

    Attributes:
        complete: series -> all of it has arrived, as far as one can know.
        route: series -> which pipeline, and why.
    """

    complete: Callable[[SpooledSeries], bool]
    route: Callable[[SpooledSeries], RouteDecision]


def judgement_of(settings: Settings) -> Judgement:
    """Quiet times and counts, and the router's rules, as the settings have them."""
    query = settings.query
    counts = None
    if query is not None:
        calling = query.calling_ae_title or settings.node.ae_title
        counts = SeriesCounts(query, calling, query.timeout_seconds)
    completeness = Completeness(settings.routes, counts)
    return Judgement(
        complete=lambda series: completeness.assess(series).complete,
        route=lambda series: route_spooled(series.paths, settings),
    )


def policies_of(settings: Settings) -> Policies:
    """The retries that the settings ask for."""
    workflow = settings.workflow
    analysis = RetryPolicy(
        workflow.analysis_attempts, workflow.analysis_retry_seconds, _ANALYSIS_GROWTH, _ANALYSIS_LONGEST_S
    )
    return Policies(
        analysis,
        {
            item.name: RetryPolicy(
                item.retry_attempts, item.retry_first_seconds, item.retry_growth, item.retry_max_seconds
            )
            for item in settings.destinations
        },
    )


class Coordinator:
    """Two loops in the background: series into jobs, and jobs onward.

    Args:
        settings: storage folders, destinations, retries.
        spool: what has arrived.
        ledger: what was done about it.
        judgement: completeness and routing.
        changed: set when a run is about to end; the loop looks at once instead of at its next turn.
        now: the clock by which series wait and expire, seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        ledger: Ledger,
        judgement: Judgement,
        changed: threading.Event | None = None,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._ledger = ledger
        self._judgement = judgement
        self._policies = policies_of(settings)
        self._now = now
        self._changed = changed if changed is not None else threading.Event()
        self._stopping = threading.Event()
        self._arrived = threading.Event()
        self._admitted: dict[str, str] = {}
        self._mr_studies = MrStudies(
            judgement, ledger.generations, self._make_job, settings.routes.mri.partner_wait_seconds, now
        )
        self._one_hand = threading.Lock()
        """Nothing is admitted while something is removed: half a series would look like a new one."""
        self._looked = 0.0
        self._threads: list[threading.Thread] = []
        self._log = logger()

    def start(self) -> None:
        """Begin, with whatever spool and ledger hold."""
        for job_id in self._ledger.open_job_ids():
            self.advance(job_id)
        self._looked = time.time()
        for name, turn in (
            ("admission", self.admit),
            ("advance", self.advance_changed),
            ("expiry", self.expire),
        ):
            pause = _EXPIRY_SECONDS if name == "expiry" else TICK_SECONDS
            thread = threading.Thread(target=self._loop, args=(turn, pause), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Finish the current turn and stop."""
        self._stopping.set()
        self._changed.set()
        self._arrived.set()
        for thread in self._threads:
            thread.join(timeout=30.0)

    def admit(self) -> None:
        """Make a job of every series that is complete and has changed since its last job; MR, by study."""
        with self._one_hand:
            spooled = list(self._spool.series())
            for series in spooled:
                if self._stopping.is_set():
                    return
                if series.modality == MR or self._admitted.get(series.series_key) == series.generation:
                    continue
                if not self._judgement.complete(series):
                    continue
                self._admit(series, spooled)
                self._admitted[series.series_key] = series.generation
            self._mr_studies.take_up(by_study(spooled))
        for gone in self._admitted.keys() - {series.series_key for series in spooled}:
            del self._admitted[gone]

    def look_now(self) -> None:
        """Have the next look at the spool at once."""
        self._arrived.set()

    def analyse_again(self, series: SpooledSeries) -> None:
        """Make a further generation of a series, although nothing has changed.

        A series whose analysis is still to come gets none. Where another series of its study carries the
        result, that one is analysed again.
        """
        with self._one_hand:
            jobs = self._ledger.generations(series.series_key)
            if not jobs or not jobs[-1].is_of(series.generation):
                # The ordinary look takes it up.
                self._spool.announce(series)
                self.look_now()
                return
            job = jobs[-1]
            if job.carried_by:
                carrier = self._spool.find(job.study_key, key_of(job.study_instance_uid, job.carried_by))
                of_carrier = () if carrier is None else self._ledger.generations(carrier.series_key)
                job = of_carrier[-1] if of_carrier else job
            summary = self._ledger.summary(job.id)
            if summary is None or summary.phase in (Phase.WAITING, Phase.ANALYSING):
                return
            self._log.info("asked for again", job=job.id)
            fingerprint = f"{job.made_of}{AGAIN_SEPARATOR}{job.asked_again + 1}"
            if job.modality != MR:
                # The settings may have changed since.
                self._make_job(series, self._decided(series, self._spool.series()), fingerprint)
                return
            again = replace(job, generation=job.generation + 1, fingerprint=fingerprint)
            self._begin(again, JobFolder(self._settings.storage.results_folder / job.id).read_input)

    def advance_changed(self) -> None:
        """Carry on every job of which a run has ended since the last look."""
        looked = time.time()
        # The database's clock and ours may differ a little, and a row shows up after its time was taken.
        for job_id in self._ledger.changed_job_ids(self._looked - _OVERLAP_SECONDS):
            self.advance(job_id)
        self._looked = looked

    def advance(self, job_id: str) -> None:
        """Start what the job needs next."""
        runs = self._ledger.runs(job_id)
        if not runs:
            return
        for start in next_starts(runs, self._policies):
            if start.delay_s > 0:
                self._log.info(
                    "retry planned",
                    job=job_id,
                    run=start.name.kind,
                    attempt=start.name.attempt,
                    seconds=start.delay_s,
                )
            self._ledger.start(start, runs[-1].job)

    def expire(self) -> None:
        """Remove images, results and records of jobs that ended longer ago than [storage] keep_days."""
        self._spool.sweep()
        keep_s = self._settings.storage.keep_days * 86400.0
        with self._one_hand:
            studies = by_study(self._spool.series())
            may_go = functools.cache(self._may_go)
            gone = self._spool.expire(
                keep_s, lambda series: all(map(may_go, going_together(series, studies))), now=self._now()
            )
            for series in gone:
                for job in self._ledger.generations(series.series_key):
                    JobFolder(self._settings.storage.results_folder / job.id).remove()
                    self._ledger.forget(job.id)
                self._log.info("expired", series=series.series_key, instances=series.count)

    def _may_go(self, series: SpooledSeries) -> bool:
        jobs = self._ledger.generations(series.series_key)
        if not jobs or not jobs[-1].is_of(series.generation):
            return False
        keep_s = self._settings.storage.keep_days * 86400.0
        for job in jobs:
            summary = summarise(self._ledger.runs(job.id))
            # What waits for a person is kept until the person came.
            if summary.state in (None, State.FAILED) or self._now() - summary.updated_at < keep_s:
                return False
        return True

    def _admit(self, series: SpooledSeries, spooled: Sequence[SpooledSeries]) -> None:
        jobs = self._ledger.generations(series.series_key)
        if not any(job.is_of(series.generation) for job in jobs):
            self._make_job(series, self._decided(series, spooled), series.generation)

    def _decided(self, series: SpooledSeries, spooled: Iterable[SpooledSeries]) -> RouteDecision:
        """The route of a series, in view of the other series of its study."""
        decision = self._judgement.route(series)
        if decision.pipeline != CT_SAGITTAL_PIPELINE:
            return decision
        beside = [
            (one.series_instance_uid, self._judgement.route(one))
            for one in spooled
            if one.study_key == series.study_key
            and one.modality == series.modality
            and one.series_key != series.series_key
        ]
        volumes = [(uid, one) for uid, one in beside if one.pipeline == CT_PIPELINE]
        return beside_its_volume(decision, volumes, self._settings.routes.ct)

    def _make_job(self, series: SpooledSeries, decision: RouteDecision, fingerprint: str) -> None:
        earlier = self._ledger.generations(series.series_key)
        if earlier and earlier[-1].made_of == fingerprint:
            return
        refusal = decision.refusal
        job = Job(
            series_key=series.series_key,
            study_key=series.study_key,
            generation=1 + max((job.generation for job in earlier), default=0),
            fingerprint=fingerprint,
            study_instance_uid=series.study_instance_uid,
            series_instance_uid=series.series_instance_uid,
            modality=series.modality,
            instances=max(series.count, len(decision.paths)),
            calling_ae_title=series.calling_ae,
            pipeline=decision.pipeline,
            reasons=decision.reasons,
            refusal=None if refusal is None else (refusal.code, refusal.text),
            left_out=decision.reasons[-1] if decision.excluded else "",
            carried_by=decision.carried_by,
        )
        self._withdraw(earlier)
        self._begin(job, lambda: decision.paths or series.paths)

    def _begin(self, job: Job, paths: Callable[[], Sequence[Path]]) -> None:
        log = self._log.bind(job=job.id, instances=job.instances, modality=job.modality)
        if job.pipeline is None and job.refusal is None:
            log.info("not applicable", reason="; ".join(job.reasons))
            self._ledger.start(conclusion(job, 1, State.NOT_APPLICABLE, "; ".join(job.reasons)), job)
            return
        log.info("accepted", pipeline=job.pipeline, reason="; ".join(job.reasons))
        JobFolder(self._settings.storage.results_folder / job.id).write_input(paths())
        self._ledger.start(Start(RunName(job.id, 1, "analysis")), job)

    def _withdraw(self, earlier: Iterable[Job]) -> None:
        """Take back analyses of earlier generations that have not begun."""
        for job in earlier:
            for run in self._ledger.runs(job.id):
                if run.name.kind == "analysis" and run.status in ("waiting", "delayed"):
                    self._ledger.cancel(run.name)
                    self._log.info("superseded", job=job.id)

    def _loop(self, turn: Callable[[], None], pause_s: float) -> None:
        while not self._stopping.is_set():
            try:
                turn()
            except (NodeError, OSError) as error:
                self._log.error("coordinator turn failed", turn=turn.__name__, reason=str(error))
            except Exception:
                # Nothing that one series does may stop the others; the turn is taken again.
                self._log.exception("coordinator turn failed", turn=turn.__name__)
            if turn == self.advance_changed:
                self._changed.wait(timeout=pause_s)
                self._changed.clear()
                # The run's end is set just before its record is there.
                self._stopping.wait(0.05)
            elif turn == self.admit:
                self._arrived.wait(timeout=pause_s)
                self._arrived.clear()
            else:
                self._stopping.wait(pause_s)
