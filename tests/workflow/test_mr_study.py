"""MR series of one study become jobs together: who waits for whom, and what a late partner changes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from peers import Archive, NodeProcess
from structlog.testing import capture_logs

from dicom_ai_node.config import Settings
from dicom_ai_node.imaging.mr_habits import MrKind
from dicom_ai_node.intake.decision import RouteDecision
from dicom_ai_node.intake.router import route_spooled
from dicom_ai_node.intake.spool import Spool, SpooledSeries
from dicom_ai_node.workflow.coordinator import Coordinator, Judgement
from dicom_ai_node.workflow.handover import JobFolder
from dicom_ai_node.workflow.job import Job, RunName, State
from dicom_ai_node.workflow.ledger import Ledger
from dicom_ai_node.workflow.plan import Start, summarise
from tests.imaging.mr_files import AXIAL, SAGITTAL, made_by, write
from tests.workflow.record import Record

QUIET_S, WAIT_S, DAY_S = 30.0, 600.0, 86400.0
FINE: dict[str, Any] = {"affine": SAGITTAL @ np.diag([1.0, 0.7, 0.7, 1.0]), "shape": (6, 128, 12)}


def mr(folder: Path, kind: MrKind, *, seed: int = 5, patient: str = "P1", **options: Any) -> list[Path]:
    """One sagittal series; those of one seed are one study, of one place."""
    header = made_by("siemens", kind, seed, study_identity="mr", patient_id=patient, omit=())
    return list(write(folder / f"{kind}-{patient}-{seed}-{len(options)}", header, seed=seed, **options))


@dataclass
class Site:
    """A node without its network and its engine: spool, coordinator, record, and a clock that is set.

    Attributes:
        waiting_s: `[routes.mri]` partner_wait_seconds.
        passed_s: what the clock shows, from the first arrival.
        faulty: key of a series that the router fails about.
    """

    folder: Path
    waiting_s: float = WAIT_S
    passed_s: float = 0.0
    faulty: str = ""

    def __post_init__(self) -> None:
        routes = {"mri": {"enabled": True, "partner_wait_seconds": self.waiting_s}}
        storage = {"folder": str(self.folder / "data"), "keep_days": 7.0}
        self.settings = Settings.model_validate({"routes": routes, "storage": storage})
        self.record = Record(self.now)
        self.restart()

    def now(self) -> float:
        return 1e9 + self.passed_s

    def restart(self) -> None:
        """As after a kill: nothing is left but the spool and the record."""
        self.spool = Spool(self.settings.storage.spool_folder)
        judgement = Judgement(
            complete=lambda series: self.now() - series.last_arrival >= QUIET_S,
            route=self.route,
        )
        ledger = cast("Ledger", self.record)
        self.coordinator = Coordinator(self.settings, self.spool, ledger, judgement, now=self.now)

    def route(self, series: SpooledSeries) -> RouteDecision:
        if series.series_key == self.faulty:
            raise ValueError("a fault of the router")
        return route_spooled(series.paths, self.settings)

    def receive(self, *series: Sequence[Path]) -> None:
        """Files arrive now."""
        for path in itertools.chain(*series):
            os.utime(self.spool.store_file(path).path, (self.now(), self.now()))

    def after(self, seconds: float) -> None:
        """Time passes, and the coordinator looks."""
        self.passed_s += seconds
        self.coordinator.admit()

    def analyse(self, outcome: str = "results") -> None:
        """Every analysis that waits ends."""
        for run in self.record.everything:
            if run.status == "waiting":
                self.record.end(run, outcome)
        for job_id in {run.job.id for run in self.record.everything}:
            self.coordinator.advance(job_id)

    def jobs(self, paths: Sequence[Path]) -> tuple[Job, ...]:
        """The jobs that were made of the series with these files."""
        return self.record.generations(self.spool.store_file(paths[0]).series_key)

    def latest(self, paths: Sequence[Path]) -> Job:
        return self.jobs(paths)[-1]

    def names(self, paths: Sequence[Path]) -> set[str]:
        """The files of a series as the spool calls them."""
        return {str(self.spool.store_file(path).path) for path in paths}

    def given(self, job: Job) -> list[str]:
        """The files that the pipeline is given."""
        return [str(path) for path in JobFolder(self.settings.storage.results_folder / job.id).read_input()]

    def state(self, job: Job) -> State | None:
        return summarise(self.record.runs(job.id)).state


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_t1_and_t2_are_one_job_of_the_t2_with_the_files_of_both(site: Site, tmp_path: Path) -> None:
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    site.receive(t1, t2)
    site.after(QUIET_S - 1)
    assert site.record.everything == []
    site.after(1)
    job, other = site.latest(t2), site.latest(t1)
    assert (job.pipeline, job.instances, job.generation) == ("mri", 12, 1)
    assert set(site.given(job)[:6]) == site.names(t2)
    assert set(site.given(job)[6:]) == site.names(t1)
    assert "t1: the only one of its place, 100% of one lies in the other" in job.reasons[2]
    assert other.series_instance_uid in job.reasons[2]
    assert site.state(other) is State.NOT_APPLICABLE
    assert other.reasons == (f"analysed together with series {job.series_instance_uid}",)
    site.after(DAY_S)
    assert len(site.record.everything) == 2, "the same study starts nothing again"


def test_a_pair_waits_for_what_of_its_study_is_still_arriving(site: Site, tmp_path: Path) -> None:
    t1, t2, stir = mr(tmp_path, "t1"), mr(tmp_path, "t2"), mr(tmp_path, "stir")
    site.receive(t1, t2)
    site.passed_s += QUIET_S - 1
    site.receive(stir[:3])
    site.after(5)
    site.receive(stir[3:])
    site.after(QUIET_S - 1)
    assert site.record.everything == []
    site.after(1)
    assert set(site.given(site.latest(t2))) == site.names([*t1, *t2, *stir])


def test_a_lone_t2_is_analysed_after_the_wait_and_says_what_it_lacks(site: Site, tmp_path: Path) -> None:
    t2, axial = mr(tmp_path, "t2"), mr(tmp_path, "t1", affine=AXIAL, shape=(24, 8, 8))
    site.receive(t2)
    with capture_logs() as lines:
        for _ in range(3):
            site.after(QUIET_S)
    said = [line for line in lines if line["event"] == "waiting for a partner"]
    assert [(line["missing"], line["seconds"]) for line in said] == [("t1", WAIT_S - QUIET_S)]
    assert site.record.everything == []

    site.receive(axial)
    site.after(QUIET_S)
    assert site.state(site.latest(axial)) is State.NOT_APPLICABLE, "it need not wait to be told so"
    site.after(WAIT_S - QUIET_S - 1)
    assert site.jobs(t2) == ()
    site.after(1)
    job = site.latest(t2)
    assert job.pipeline == "mri"
    assert "without t1" in job.reasons[1]
    assert set(site.given(job)) == site.names(t2)


def test_each_place_of_a_study_waits_for_its_own_partner(site: Site, tmp_path: Path) -> None:
    above = {"affine": SAGITTAL + np.array([[0, 0, 0, 0]] * 2 + [[0, 0, 0, 400.0], [0, 0, 0, 0]])}
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    other_t1, other_t2 = mr(tmp_path, "t1", **above), mr(tmp_path, "t2", **above)
    site.receive(t1, t2, other_t2)
    with capture_logs() as lines:
        site.after(QUIET_S)
        pair, made = site.latest(t2), len(site.record.everything)
        assert set(site.given(pair)) == site.names([*t2, *t1]), "a pair does not wait for another place"
        assert site.jobs(other_t2) == ()
        site.after(QUIET_S)
    said = [line["missing"] for line in lines if line["event"] == "waiting for a partner"]
    assert (said, len(site.record.everything)) == (["t1"], made)

    site.restart()
    site.receive(other_t1)
    site.after(QUIET_S)
    (job,) = site.jobs(other_t2)
    assert set(site.given(job)) == site.names([*other_t2, *other_t1])
    assert [len(site.jobs(series)) for series in (t1, t2)] == [1, 1], "nothing changed for the first place"


def test_a_place_whose_partner_never_comes_is_analysed_alone(site: Site, tmp_path: Path) -> None:
    above = {"affine": SAGITTAL + np.array([[0, 0, 0, 0]] * 2 + [[0, 0, 0, 400.0], [0, 0, 0, 0]])}
    t1, t2, other = mr(tmp_path, "t1"), mr(tmp_path, "t2"), mr(tmp_path, "t2", **above)
    site.receive(t1, t2, other)
    site.after(WAIT_S - 1)
    assert (len(site.jobs(t2)), site.jobs(other)) == (1, ())
    site.after(1)
    assert "without t1" in site.latest(other).reasons[1]
    assert len(site.jobs(t2)) == 1


def test_nobody_waits_where_the_setting_is_zero(tmp_path: Path) -> None:
    site = Site(tmp_path, waiting_s=0.0)
    t1 = mr(tmp_path, "t1")
    site.receive(t1)
    with capture_logs() as lines:
        site.after(QUIET_S)
    assert "without t2" in site.latest(t1).reasons[1]
    assert not [line for line in lines if line["event"] == "waiting for a partner"]


def test_a_late_t1_has_the_t2_analysed_again_with_it(site: Site, tmp_path: Path) -> None:
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    site.receive(t2)
    site.after(WAIT_S)
    site.analyse()
    site.receive(t1)
    site.after(QUIET_S)
    alone, together = site.jobs(t2)
    assert site.state(alone) is State.DELIVERED
    assert (together.generation, together.instances) == (2, 12)
    assert set(site.given(together)) == site.names([*t1, *t2])
    assert site.state(site.latest(t1)) is State.NOT_APPLICABLE
    site.analyse()
    site.after(DAY_S)
    assert len(site.jobs(t2)) == 2


def test_a_late_t2_takes_over_from_the_t1(site: Site, tmp_path: Path) -> None:
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    site.receive(t1)
    site.after(WAIT_S)
    site.receive(t2)
    site.after(QUIET_S)
    site.analyse()
    alone, aside = site.jobs(t1)
    assert site.state(alone) is State.NOT_APPLICABLE, "its analysis had not begun"
    assert "superseded" in summarise(site.record.runs(alone.id)).reason
    assert (aside.pipeline, site.state(aside)) == (None, State.NOT_APPLICABLE)
    assert "analysed together" in aside.reasons[0]
    (job,) = site.jobs(t2)
    assert set(site.given(job)) == site.names([*t1, *t2])


def test_more_slices_of_a_partner_are_analysed_too(site: Site, tmp_path: Path) -> None:
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    site.receive(t1[:5], t2)
    site.after(QUIET_S)
    site.receive(t1[5:])
    site.after(QUIET_S)
    assert [job.instances for job in site.jobs(t2)] == [11, 12]


def test_of_two_t2_one_is_analysed_and_the_other_told_why_not(site: Site, tmp_path: Path) -> None:
    t1, coarse, fine = mr(tmp_path, "t1"), mr(tmp_path, "t2"), mr(tmp_path, "t2", **FINE)
    site.receive(t1, coarse, fine)
    site.after(QUIET_S)
    job, other = site.latest(fine), site.latest(coarse)
    assert set(site.given(job)) == site.names([*fine, *t1])
    assert site.state(other) is State.NOT_APPLICABLE
    assert other.reasons == ("another t2 of the same place is used: finest pixels of 2",)


def test_two_patients_under_one_study_uid_are_refused_once(site: Site, tmp_path: Path) -> None:
    one, other = mr(tmp_path, "t2"), mr(tmp_path, "t1", patient="P2")
    site.receive(one, other)
    site.after(QUIET_S)
    refused, told = sorted((site.latest(one), site.latest(other)), key=lambda job: job.refusal is None)
    assert refused.refusal is not None
    assert refused.refusal[0] == "patient-mismatch"
    assert refused.pipeline is None
    assert len(site.given(refused)) == 6, "a report under one name holds no image of the other"
    assert (told.refusal, site.state(told)) == (None, State.NOT_APPLICABLE)
    assert "different Patient IDs" in told.reasons[0]


def test_a_stranger_who_comes_later_is_refused_with_the_study(site: Site, tmp_path: Path) -> None:
    one, other = mr(tmp_path, "t2"), mr(tmp_path, "t1", patient="P2")
    site.receive(one)
    site.after(WAIT_S)
    site.analyse()
    site.receive(other)
    site.after(QUIET_S)
    latest = [site.latest(one), site.latest(other)]
    assert [job.pipeline for job in latest] == [None, None]
    assert sum(job.refusal is not None for job in latest) == 1
    assert len(site.jobs(one)) == 2


def test_a_series_that_is_refused_by_itself_is_told_so_at_once_and_is_no_partner(
    site: Site, tmp_path: Path
) -> None:
    t2, short = mr(tmp_path, "t2"), mr(tmp_path, "t1", shape=(3, 90, 12))
    site.receive(t2, short)
    site.after(QUIET_S)
    refused = site.latest(short)
    assert refused.refusal is not None
    assert refused.refusal[0] == "coverage"
    assert set(site.given(refused)) == site.names(short)
    assert site.jobs(t2) == ()
    site.after(WAIT_S - QUIET_S)
    assert set(site.given(site.latest(t2))) == site.names(t2)
    assert len(site.jobs(short)) == 1


def test_a_study_that_cannot_be_judged_stops_no_other(site: Site, tmp_path: Path) -> None:
    paths = [mr(tmp_path, "t2", seed=seed) for seed in (5, 6, 7)]
    site.receive(*paths)
    site.faulty = site.spool.store_file(paths[1][0]).series_key
    with capture_logs() as lines:
        site.after(WAIT_S)
    assert [len(site.jobs(files)) for files in paths] == [1, 0, 1]
    assert "MR study not judged" in {line["event"] for line in lines}
    site.faulty = ""
    site.after(0)
    assert [len(site.jobs(files)) for files in paths] == [1, 1, 1]


def test_two_studies_have_nothing_to_do_with_each_other(site: Site, tmp_path: Path) -> None:
    t2, elsewhere = mr(tmp_path, "t2"), mr(tmp_path, "t1", seed=6)
    site.receive(t2)
    site.passed_s += WAIT_S - 1
    site.receive(elsewhere)
    site.after(1)
    assert set(site.given(site.latest(t2))) == site.names(t2)
    assert site.jobs(elsewhere) == ()


@pytest.mark.parametrize("pause_s", [1.0, WAIT_S + QUIET_S])
def test_the_order_of_arrival_changes_nothing_in_the_end(tmp_path: Path, pause_s: float) -> None:
    study = [mr(tmp_path, "t1"), mr(tmp_path, "t2"), mr(tmp_path, "stir"), mr(tmp_path, "t2", **FINE)]
    ends = []
    for number, order in enumerate(itertools.islice(itertools.permutations(study), 1, 24, 9)):
        site = Site(tmp_path / str(number))
        for series in order:
            site.receive(series)
            site.after(pause_s)
        site.after(WAIT_S)
        latest = [site.latest(series) for series in study]
        given = [
            {Path(name).name for name in site.given(job)} if job.pipeline else job.reasons for job in latest
        ]
        ends.append([(job.pipeline, files) for job, files in zip(latest, given, strict=True)])
    assert [pipeline for pipeline, _ in ends[0]] == [None, None, None, "mri"]
    assert all(end == ends[0] for end in ends)


def test_a_restart_while_waiting_neither_shortens_nor_lengthens_the_wait(site: Site, tmp_path: Path) -> None:
    t2 = mr(tmp_path, "t2")
    site.receive(t2)
    site.after(WAIT_S / 2)
    site.restart()
    with capture_logs() as lines:
        site.after(WAIT_S / 2 - 1)
    assert [line["seconds"] for line in lines if line["event"] == "waiting for a partner"] == [1.0]
    assert site.jobs(t2) == ()
    site.after(1)
    assert len(site.jobs(t2)) == 1
    site.restart()
    site.after(DAY_S)
    assert len(site.jobs(t2)) == 1


@pytest.mark.parametrize("cut", [0, 1])
def test_a_kill_between_the_jobs_of_a_study_leaves_none_of_them_out(
    site: Site, tmp_path: Path, cut: int
) -> None:
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    site.receive(t1)
    site.after(WAIT_S)
    site.analyse()
    site.receive(t2)
    site.record.fails_after = cut
    with pytest.raises(KeyboardInterrupt):
        site.after(QUIET_S)
    site.record.fails_after = 10**6
    site.restart()
    site.after(0)
    assert [job.pipeline for job in site.jobs(t1)] == ["mri", None]
    (job,) = site.jobs(t2)
    assert set(site.given(job)) == site.names([*t1, *t2])


def test_the_images_of_a_group_stay_while_its_job_is_open_and_go_together(site: Site, tmp_path: Path) -> None:
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    site.receive(t1, t2)
    site.after(QUIET_S)
    kept = [site.latest(t1), site.latest(t2)]
    site.passed_s += 30 * DAY_S
    site.coordinator.expire()
    site.analyse("failed")
    site.passed_s += 30 * DAY_S
    site.coordinator.expire()
    assert [site.latest(t1), site.latest(t2)] == kept, "what waits for a person is kept, with what it needs"
    assert len(list(site.spool.root.rglob("*.dcm"))) == 12

    site.record.start(Start(RunName(kept[1].id, 2, "analysis")), kept[1])
    site.analyse()
    site.coordinator.expire()
    assert len(list(site.spool.root.rglob("*.dcm"))) == 12, "it ended just now"
    site.passed_s += 8 * DAY_S
    site.coordinator.expire()
    assert list(site.spool.root.rglob("*.dcm")) == []
    assert list(site.settings.storage.results_folder.iterdir()) == []
    assert site.record.everything == []


def test_what_a_killed_expiry_left_over_is_not_analysed_anew(site: Site, tmp_path: Path) -> None:
    t1, t2 = mr(tmp_path, "t1"), mr(tmp_path, "t2")
    site.receive(t1, t2)
    site.after(QUIET_S)
    site.analyse()
    (gone,) = (one for one in site.spool.series() if one.series_key == site.latest(t1).series_key)
    before = site.record.everything
    site.spool.remove(gone)
    site.restart()
    site.after(WAIT_S)
    assert site.record.everything == before
    site.passed_s += 8 * DAY_S
    site.coordinator.expire()
    assert list(site.spool.root.rglob("*.dcm")) == []


def test_a_node_analyses_a_lone_t2_and_again_with_its_t1(
    make_node: Callable[..., NodeProcess], archive: Archive, tmp_path: Path
) -> None:
    node = make_node(archive)
    route = "\n[routes.mri]\nenabled = true\nquiet_seconds = 1.0\npartner_wait_seconds = 3.0\n"
    node.config.write_text(node.config.read_text() + route)
    node.start()
    node.wait_for("ready")
    node.send(mr(tmp_path, "t2"))
    node.wait_for("waiting for a partner", missing="t1")
    node.wait_for("concluded", state="delivered")
    node.send(mr(tmp_path, "t1"))
    found = node.wait_until_concluded(3)
    assert sorted((item.job.generation, item.job.instances, str(item.state)) for item in found) == [
        (1, 6, "delivered"),
        (1, 6, "not-applicable"),
        (2, 12, "delivered"),
    ]
    assert len({uid for uid, _, _ in archive.received}) == len(archive.received) == 6
    assert node.terminate() == 0


def test_asked_again_the_series_that_carries_the_study_is_analysed_again_and_once(tmp_path: Path) -> None:
    site = Site(tmp_path)
    t2, t1 = mr(tmp_path, "t2", **FINE), mr(tmp_path, "t1", **FINE)
    site.receive(t2, t1)
    site.after(QUIET_S + 1)
    site.analyse()
    first, aside = site.latest(t2), site.latest(t1)
    assert aside.carried_by == first.series_instance_uid
    assert first.carried_by == ""
    asked = site.spool.find(aside.study_key, aside.series_key)
    assert asked is not None
    site.coordinator.analyse_again(asked)
    site.coordinator.analyse_again(asked)
    again = site.latest(t2)
    assert (again.generation, again.made_of) == (2, first.made_of)
    folders = [JobFolder(site.settings.storage.results_folder / job.id) for job in (first, again)]
    assert folders[0].read_input() == folders[1].read_input()
    site.analyse()
    for _ in range(2):
        site.restart()
        site.after(QUIET_S)
    assert [job.generation for job in (site.latest(t2), site.latest(t1))] == [2, 1]
