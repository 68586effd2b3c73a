"""The states that a series ends in, with a real node process and a real archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from peers import SLICES, Archive, NodeProcess, ct_series, free_port, study_uid
from typer.testing import CliRunner

from dicom_ai_node.cli import app
from dicom_ai_node.workflow.job import State

MakeNode = Callable[..., NodeProcess]


def running(node: NodeProcess) -> NodeProcess:
    node.start()
    node.wait_for("ready")
    return node


def test_a_series_is_analysed_and_every_object_reaches_the_archive_once(
    make_node: MakeNode, archive: Archive, tmp_path: Path
) -> None:
    node = running(make_node(archive))
    paths = ct_series(tmp_path / "study", 1)
    node.send(paths)
    (summary,) = node.wait_until_concluded()
    assert summary.state is State.DELIVERED
    assert summary.destinations == {"archive-0": "stored"}
    uids = [uid for uid, _ in archive.of_study(study_uid(paths))]
    assert len(uids) == len(set(uids)) == 3
    assert node.terminate() == 0


def test_each_kind_of_trouble_ends_in_its_state_and_the_node_goes_on(
    make_node: MakeNode, archive: Archive, tmp_path: Path
) -> None:
    node = running(make_node(archive))
    series = {
        words: ct_series(tmp_path / words, number, words=words)
        for number, words in enumerate(
            ["refuse", "busy", "broken", "die", "localizer", "plain", "invalid"], start=10
        )
    }
    series["thin"] = ct_series(tmp_path / "thin", 20, slices=3)
    for paths in series.values():
        node.send(paths)
    found = {item.job.study_instance_uid: item for item in node.wait_until_concluded(len(series))}
    ended = {words: found[study_uid(paths)] for words, paths in series.items()}

    assert {words: item.state for words, item in ended.items()} == {
        "refuse": State.NOT_ANALYSABLE,
        "busy": State.DELIVERED,
        "broken": State.FAILED,
        "die": State.DELIVERED,
        "localizer": State.NOT_APPLICABLE,
        "plain": State.DELIVERED,
        "thin": State.NOT_ANALYSABLE,
        "invalid": State.FAILED,
    }
    assert "send the lumbar spine" in ended["refuse"].reason
    assert "the analysis has a fault" in ended["broken"].reason
    assert "refused_descriptions" in ended["localizer"].reason
    # What is not valid is not sent, not even the objects beside it, and the validator's words are told.
    assert "faults in the results, which are therefore not sent" in ended["invalid"].reason
    assert "ReferencedPerformedProcedureStepSequence (type 2) is missing" in ended["invalid"].reason
    sent = {words: len(archive.of_study(study_uid(paths))) for words, paths in series.items()}
    nothing = {"broken": 0, "localizer": 0, "invalid": 0}
    assert sent == {"refuse": 3, "busy": 3, "die": 3, "plain": 3, "thin": 3, **nothing}


def test_an_absent_and_a_refusing_archive_lose_nothing_and_block_nobody(
    make_node: MakeNode, archive: Archive, tmp_path: Path
) -> None:
    absent, refusing = Archive(port=free_port()), Archive(answer=lambda _uid: 0xA700)
    refusing.start()
    node = running(make_node(archive, absent, refusing, retry_attempts=20, retry_first_seconds=0.5))
    paths = ct_series(tmp_path / "study", 30)
    node.send(paths)
    for _ in range(3):
        node.wait_for("stored", destination="archive-0")
    node.wait_for("delivery incomplete", destination="archive-1")
    node.wait_for("delivery incomplete", destination="archive-2")
    (summary,) = node.summaries()
    assert summary.state is None

    absent.start()
    refusing.answer = lambda _uid: 0x0000
    (summary,) = node.wait_until_concluded()
    assert summary.state is State.DELIVERED
    archives = (archive, absent, refusing)
    assert len({tuple(sorted(item.received)) for item in archives}) == 1
    assert [len(item.received) for item in archives] == [3, 3, 3]
    absent.stop()
    refusing.stop()


def test_late_slices_make_a_superseding_analysis(
    make_node: MakeNode, archive: Archive, tmp_path: Path
) -> None:
    node = running(make_node(archive))
    node.send(ct_series(tmp_path / "early", 40))
    node.wait_for("concluded", state="delivered")
    node.send(ct_series(tmp_path / "late", 40, first=SLICES, slices=5))
    node.wait_for("concluded", state="delivered")
    first, second = node.summaries()
    assert (first.job.generation, second.job.generation) == (1, 2)
    assert (first.job.instances, second.job.instances) == (SLICES, SLICES + 5)
    assert len({uid for uid, _, _ in archive.received}) == 6

    node.send(ct_series(tmp_path / "again", 40, first=SLICES, slices=5))
    node.send(ct_series(tmp_path / "other", 41))
    node.wait_for("concluded", state="delivered")
    assert len(node.summaries()) == 3, "instances that were there before start nothing"


def test_a_study_is_forgotten_when_its_days_are_over_and_not_before(
    make_node: MakeNode, archive: Archive, tmp_path: Path
) -> None:
    node = running(make_node(archive))
    node.send(ct_series(tmp_path / "good", 60))
    node.send(ct_series(tmp_path / "bad", 61, words="broken"))
    node.wait_until_concluded(2)
    assert node.terminate() == 0

    node.start()
    node.wait_for("ready")
    assert len(node.summaries()) == 2
    assert node.terminate() == 0

    node.config.write_text(node.config.read_text().replace("[storage]", "[storage]\nkeep_days = 0.0"))
    node.start()
    node.wait_for("expired")
    (left,) = node.wait_until(lambda found: len(found) == 1)
    assert left.state is State.FAILED, "what waits for a person is kept"
    storage = node.settings.storage
    assert len(list(storage.spool_folder.rglob("*.dcm"))) == SLICES
    assert [path.name for path in storage.results_folder.iterdir()] == [left.job.id]
    assert node.terminate() == 0


def test_what_has_come_and_is_no_job_yet_can_be_seen(
    make_node: MakeNode, archive: Archive, tmp_path: Path
) -> None:
    node = running(make_node(archive, quiet_seconds=3600.0))
    config = ["--config", str(node.config)]
    runner = CliRunner()
    assert "nothing waits" in runner.invoke(app, ["jobs", "waiting", *config]).stdout
    node.send(ct_series(tmp_path / "study", 60))
    (item,) = json.loads(runner.invoke(app, ["jobs", "waiting", "--json", *config]).stdout)
    assert (item["modality"], item["instances"]) == ("CT", SLICES)
    assert item["waits_for"].startswith("more images, up to 3")
    assert "more images" in runner.invoke(app, ["jobs", "waiting", *config]).stdout
    assert node.terminate() == 0


def test_a_failed_delivery_waits_for_a_person_whose_retry_sends_only_what_is_missing(
    make_node: MakeNode, archive: Archive, tmp_path: Path
) -> None:
    refused: list[str] = []

    def refuse_the_second(uid: str) -> int:
        if not refused:
            refused.append("")
            return 0x0000
        refused.append(uid)
        return 0xA700

    archive.answer = refuse_the_second
    node = running(make_node(archive, retry_attempts=2, retry_first_seconds=0.1))
    node.send(ct_series(tmp_path / "study", 50))
    node.wait_for("concluded", state="failed")
    (summary,) = node.summaries()
    assert summary.state is State.FAILED
    assert "0xA700" in summary.reason
    assert len(archive.received) == 1

    archive.answer = lambda _uid: 0x0000
    config = ["--config", str(node.config)]
    runner = CliRunner()
    listed = runner.invoke(app, ["jobs", "list", "--json", "--state", "failed", *config])
    (job,) = json.loads(listed.stdout)
    assert job["state"] == "failed"
    assert runner.invoke(app, ["jobs", "retry", job["job"], *config]).exit_code == 0
    node.wait_for("concluded", state="delivered")
    assert len(archive.received) == len({uid for uid, _, _ in archive.received}) == 3

    shown = runner.invoke(app, ["jobs", "show", job["job"][:12], "--json", *config])
    assert [run["kind"] for run in json.loads(shown.stdout)["runs"]] == [
        "analysis",
        "delivery",
        "delivery",
        "conclusion",
        "retry",
        "delivery",
        "conclusion",
    ]
    again = runner.invoke(app, ["jobs", "retry", job["job"], *config])
    assert again.exit_code == 2
    assert "only a failed job" in again.stderr
    table = runner.invoke(app, ["jobs", "list", *config])
    assert "delivered" in table.stdout
    assert node.terminate() == 0
