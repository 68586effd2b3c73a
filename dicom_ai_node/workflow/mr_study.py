"""When the MR series of a study become jobs, and which of them one job together.

Series for the MR pipeline wait until all MR series of their study that have begun to arrive are complete, and
then for a partner: until a T2 has its T1, or until nothing of the study has come for a time. Each place of a
study waits for its own partner; one that has its pair does not wait for the others. A series that comes later
has the study decided anew, and whatever that changes becomes a further generation. Nothing that matters is
kept in memory: a study is decided when a series of it holds something that no job was made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from dicom_ai_node.intake.decision import RouteDecision
from dicom_ai_node.intake.mri_route import MRI_PIPELINE
from dicom_ai_node.intake.mri_study import InStudy, MriStudy, mri_study
from dicom_ai_node.intake.spool import SpooledSeries, key_of
from dicom_ai_node.log import logger
from dicom_ai_node.workflow.job import FINGERPRINT_SEPARATOR, Job

if TYPE_CHECKING:
    from dicom_ai_node.workflow.coordinator import Judgement

MakeJob = Callable[[SpooledSeries, RouteDecision, str], None]
"""Series, what becomes of it, fingerprint -> a job, unless its latest one has this fingerprint."""

MR: Final = "MR"


def by_study(spooled: Iterable[SpooledSeries]) -> dict[str, list[SpooledSeries]]:
    """The MR series among them, by study key."""
    found: dict[str, list[SpooledSeries]] = {}
    for series in spooled:
        if series.modality == MR:
            found.setdefault(series.study_key, []).append(series)
    return found


def going_together(
    series: SpooledSeries, studies: Mapping[str, Sequence[SpooledSeries]]
) -> Iterable[SpooledSeries]:
    """What may be removed with `series` only: a job reads the files of several MR series of a study."""
    return (series, *studies.get(series.study_key, ())) if series.modality == MR else (series,)


@dataclass
class _Seen:
    """What is known about one generation of a series, so that it is asked for once."""

    generation: str
    decided: bool
    complete: bool = False
    decision: RouteDecision | None = None


class MrStudies:
    """Makes the jobs of MR series, study by study. One thread.

    Args:
        judgement: completeness and routing of single series.
        generations: series key -> the jobs that were made of it, oldest first.
        make_job: makes one.
        partner_wait_seconds: `[routes.mri]`.
        now: the clock, seconds since the epoch.
    """

    def __init__(
        self,
        judgement: Judgement,
        generations: Callable[[str], Sequence[Job]],
        make_job: MakeJob,
        partner_wait_seconds: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._judgement = judgement
        self._generations = generations
        self._make_job = make_job
        self._wait_s = partner_wait_seconds
        self._now = now
        self._seen: dict[str, _Seen] = {}
        self._studies: dict[str, tuple[Mapping[str, str], MriStudy]] = {}
        self._told: set[str] = set()
        self._log = logger()

    def take_up(self, studies: Mapping[str, Sequence[SpooledSeries]]) -> None:
        """Make the jobs that are due, given all MR series in the spool (`by_study`)."""
        for study_key, series in studies.items():
            try:
                self._take_up(series)
            except Exception:
                # Nothing that one study does may stop the others; it is looked at again.
                self._log.exception("MR study not judged", study=study_key)
        present = {one.series_key for series in studies.values() for one in series}
        for gone in self._seen.keys() - present:
            del self._seen[gone]
        for gone in self._studies.keys() - studies.keys():
            del self._studies[gone]
        self._told &= studies.keys()

    def _take_up(self, study: Sequence[SpooledSeries]) -> None:
        news = [one for one in study if not self._look(one).decided]
        arriving = [one for one in news if not self._complete(one)]
        for one in news:
            # What is not analysed, or cannot be, need not wait to be told so.
            if one not in arriving and self._route(one).pipeline != MRI_PIPELINE:
                self._make_job(one, self._route(one), one.generation)
                self._look(one).decided = True
        if arriving or all(self._look(one).decided for one in news):
            return
        wanted = {one.series_key: one for one in study if self._route(one).pipeline == MRI_PIPELINE}
        found = self._together(wanted)
        left_s = max(one.last_arrival for one in study) + self._wait_s - self._now()
        waiting = found.waiting if left_s > 0 else frozenset()
        if waiting and study[0].study_key in self._told:
            # The others had their jobs before this was said.
            return
        # Those with something new come last: a study that is cut short in between is decided once more.
        for key in sorted(
            wanted.keys() - waiting, key=lambda key: (not self._look(wanted[key]).decided, key)
        ):
            told, series = found.series[key], wanted[key]
            self._make_job(series, _in_words(told, wanted), _fingerprint(series, told, wanted))
            self._look(series).decided = True
        if waiting:
            self._say_waiting(study[0].study_key, found, left_s)

    def _together(self, wanted: Mapping[str, SpooledSeries]) -> MriStudy:
        generations = {key: one.generation for key, one in wanted.items()}
        study_key = next(iter(wanted.values())).study_key
        known = self._studies.get(study_key)
        if known is not None and known[0] == generations:
            return known[1]
        found = mri_study({key: self._route(one) for key, one in wanted.items()})
        self._studies[study_key] = generations, found
        self._told.discard(study_key)
        return found

    def _say_waiting(self, study_key: str, found: MriStudy, seconds: float) -> None:
        self._told.add(study_key)
        missing = sorted({role for key in found.waiting for role in found.series[key].missing})
        self._log.info(
            "waiting for a partner", study=study_key, missing=" and ".join(missing), seconds=round(seconds, 1)
        )

    def _look(self, series: SpooledSeries) -> _Seen:
        seen = self._seen.get(series.series_key)
        if seen is None or seen.generation != series.generation:
            jobs = self._generations(series.series_key)
            seen = _Seen(series.generation, bool(jobs) and jobs[-1].is_of(series.generation))
            self._seen[series.series_key] = seen
        return seen

    def _complete(self, series: SpooledSeries) -> bool:
        seen = self._look(series)
        seen.complete = seen.complete or self._judgement.complete(series)
        return seen.complete

    def _route(self, series: SpooledSeries) -> RouteDecision:
        seen = self._look(series)
        if seen.decision is None:
            seen.decision = self._judgement.route(series)
        return seen.decision


def _in_words(told: InStudy, wanted: Mapping[str, SpooledSeries]) -> RouteDecision:
    """The decision; what it has to do without is among its reasons, and what carries it is named."""
    if told.carried_by:
        return replace(told.decision, carried_by=wanted[told.carried_by].series_instance_uid)
    if not told.missing:
        return told.decision
    note = f"without {' and '.join(told.missing)}: none of the same place has come"
    first, *others = told.decision.reasons
    return replace(told.decision, reasons=(first, note, *others))


def _fingerprint(series: SpooledSeries, told: InStudy, wanted: Mapping[str, SpooledSeries]) -> str:
    """The series' own generation, and a hash of what else the job is made of, or decided by."""
    if not told.partners and not told.standing:
        return series.generation
    others = (wanted[key].generation for key in told.partners)
    return f"{series.generation}{FINGERPRINT_SEPARATOR}{key_of(told.standing, *others)}"
