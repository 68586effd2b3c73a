"""kill -9 at any step: nothing is lost, nothing arrives under two names.

`DICOM_AI_NODE_KILLS` says how often the node is killed at each step (default 2). The moments are drawn at
random; a failure names the seed, and `DICOM_AI_NODE_SEED` draws the same moments again.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from peers import Archive, NodeProcess, ct_series, study_uid

from dicom_ai_node.node.scu import Sender
from dicom_ai_node.workflow.job import State

MakeNode = Callable[..., NodeProcess]

KILLS = int(os.environ.get("DICOM_AI_NODE_KILLS", "2"))
SEED = int(os.environ.get("DICOM_AI_NODE_SEED", str(time.time_ns() % 1_000_000)))


@pytest.fixture
def chance() -> random.Random:
    return random.Random(SEED)


def send_until_killed(node: NodeProcess, paths: list[Path], after_s: float) -> list[Path]:
    """Send; kill the node meanwhile; returns what it acknowledged before it died."""
    acknowledged = []
    began = time.monotonic()
    killed = False
    with Sender(paths, node, response_timeout_s=60.0) as sender:
        for path in paths:
            outcome = sender.store(path)
            if outcome.stored:
                acknowledged.append(path)
            if not killed and time.monotonic() - began >= after_s:
                node.kill()
                killed = True
    if not killed:
        node.kill()
    return acknowledged


def send_again(node: NodeProcess, paths: list[Path]) -> None:
    """As a PACS does with what was not acknowledged."""
    with Sender(paths, node) as sender:
        sender.connect()
        assert all(sender.store(path).stored for path in paths)


def files_in_spool(node: NodeProcess) -> set[bytes]:
    return {path.read_bytes()[-512:] for path in node.settings.storage.spool_folder.rglob("*.dcm")}


def assert_each_study_arrived_once(archive: Archive, studies: list[list[Path]], kills: int) -> None:
    for paths in studies:
        sent = archive.of_study(study_uid(paths))
        assert len({uid for uid, _ in sent}) == 3, f"seed {SEED}: three objects, three names"
        assert len(set(sent)) == 3, f"seed {SEED}: the same name means the same bytes"
    assert_repeats(archive, kills)


def assert_repeats(archive: Archive, kills: int) -> None:
    repeats = Counter(uid for uid, _, _ in archive.received)
    assert sum(repeats.values()) - len(repeats) <= kills, f"seed {SEED}: more repeats than kills"


def test_kill_during_receive_loses_nothing_that_was_acknowledged(
    make_node: MakeNode, archive: Archive, tmp_path: Path, chance: random.Random
) -> None:
    node = make_node(archive, reborn=True)
    studies = []
    for number in range(KILLS):
        paths = ct_series(tmp_path / str(number), 100 + number)
        studies.append(paths)
        node.start()
        node.wait_for("ready")
        acknowledged = send_until_killed(node, paths, chance.uniform(0.0, 0.25))
        spooled = files_in_spool(node)
        assert {path.read_bytes()[-512:] for path in acknowledged} <= spooled, f"seed {SEED}"
        node.start()
        node.wait_for("ready")
        send_again(node, [path for path in paths if path not in acknowledged] or paths[:1])
        node.kill()
    node.start()
    # What came before the kill may be analysed, and superseded when the sender came back with the rest.
    latest = {item.job.series_key: item for item in node.wait_until_concluded(KILLS)}
    assert [item.state for item in latest.values()] == [State.DELIVERED] * KILLS, f"seed {SEED}"
    assert [item.job.instances for item in latest.values()] == [20] * KILLS, f"seed {SEED}"
    for paths in studies:
        sent = set(archive.of_study(study_uid(paths)))
        assert len(sent) == len({uid for uid, _ in sent}), f"seed {SEED}: the same name means the same bytes"
    assert_repeats(archive, 2 * KILLS)


@pytest.mark.parametrize("step", ["analyse", "encode"])
def test_kill_while_working_finishes_the_study_under_the_same_names(
    make_node: MakeNode, archive: Archive, tmp_path: Path, chance: random.Random, step: str
) -> None:
    node = make_node(archive, reborn=True)
    studies = []
    for number in range(KILLS):
        paths = ct_series(tmp_path / str(number), 200 + number)
        studies.append(paths)
        node.start()
        node.wait_for("ready")
        node.send(paths)
        node.wait_for("step", step=step)
        time.sleep(chance.uniform(0.0, 0.08))
        node.kill()
    node.start()
    found = node.wait_until_concluded(KILLS)
    assert [item.state for item in found] == [State.DELIVERED] * KILLS, f"seed {SEED}"
    assert_each_study_arrived_once(archive, studies, KILLS)


def test_kill_during_delivery_leaves_every_object_in_the_archive_once(
    make_node: MakeNode, archive: Archive, tmp_path: Path, chance: random.Random
) -> None:
    node = make_node(archive, reborn=True)
    studies = []
    for number in range(KILLS):
        paths = ct_series(tmp_path / str(number), 300 + number)
        studies.append(paths)
        node.start()
        node.wait_for("ready")
        left = chance.randrange(3)
        before_the_answer = chance.random() < 0.5
        late_s = 0.0 if before_the_answer else chance.uniform(0.0, 0.03)

        def kill(left_: list[int] = [left], inside: bool = before_the_answer) -> None:  # noqa: B006
            left_[0] -= 1
            if left_[0] < 0 and inside:
                # The archive has stored it, and the node will never hear so.
                node.kill()

        archive.on_store = kill
        stored_before = len(archive.received)
        node.send(paths)
        deadline = time.monotonic() + 30
        while len(archive.received) <= stored_before + left and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(late_s)
        archive.on_store = lambda: None
        node.kill()
    node.start()
    found = node.wait_until_concluded(KILLS)
    assert [item.state for item in found] == [State.DELIVERED] * KILLS, f"seed {SEED}"
    assert_each_study_arrived_once(archive, studies, KILLS)
