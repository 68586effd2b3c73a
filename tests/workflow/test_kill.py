"""kill -9 at any step: nothing is lost, nothing arrives under two names.

`DICOM_AI_NODE_KILLS` says how often the node is killed at each step (default 2). The moments are drawn at
random; a failure names the seed, and `DICOM_AI_NODE_SEED` draws the same moments again.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from orthanc import Orthanc
from peers import PATIENCE_S, SLICES, Archive, NodeProcess, ct_series, study_uid

from dicom_ai_node.node.scu import Sender
from dicom_ai_node.workflow.handover import JobFolder
from dicom_ai_node.workflow.job import State
from dicom_ai_node.workflow.plan import Summary

MakeNode = Callable[..., NodeProcess]

KILLS = int(os.environ.get("DICOM_AI_NODE_KILLS", "2"))
QUIET_S = 0.3
"""Short: a node that is killed or slow sees a series in parts, which is worth testing."""
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


def files_in_spool(node: NodeProcess) -> set[bytes]:
    return {path.read_bytes()[-512:] for path in node.settings.storage.spool_folder.rglob("*.dcm")}


def assert_all_is_well(node: NodeProcess, archive: Archive, studies: list[list[Path]]) -> None:
    """After the last restart: every study whole, analysed and delivered, no object under two names.

    A node that is slow or was killed may see a series in parts: then the last generation counts, which
    superseded the others.
    """
    latest = {item.job.study_instance_uid: item for item in wait_for_the_last(node, studies)}
    for uid, item in latest.items():
        sent = archive.of_study(uid)
        names = Counter(name for name, _ in set(sent))
        assert set(names.values()) == {1}, f"seed {SEED}: the same name means the same bytes"
        assert len(names) <= 3 * item.job.generation, f"seed {SEED}: three objects a generation"
    last = {name for item in latest.values() for name in names_of(node, item)}
    assert last <= {name for name, _, _ in archive.received}, f"seed {SEED}: an object is missing"
    repeats = len(archive.received) - len({name for name, _, _ in archive.received})
    assert repeats <= node.kills, f"seed {SEED}: {repeats} repeats after {node.kills} kills"


def wait_for_the_last(node: NodeProcess, studies: list[list[Path]]) -> list[Summary]:
    """The last generation of every study, once each is whole and delivered."""
    expected = {study_uid(paths): (SLICES, State.DELIVERED) for paths in studies}

    def latest_of(found: list[Summary]) -> dict[str, Summary]:
        return {item.job.study_instance_uid: item for item in found}

    def as_expected(found: list[Summary]) -> bool:
        return {uid: (item.job.instances, item.state) for uid, item in latest_of(found).items()} == expected

    return list(latest_of(node.wait_until(as_expected)).values())


class KillAtStore:
    """Counts what the archive stores of a study; at one object kills the node, before the archive answers."""

    def __init__(self, study: str, node: NodeProcess | None, number: int) -> None:
        self.reached = threading.Event()
        self._study = study
        self._node = node
        self._left = number

    def __call__(self, study: str) -> None:
        if study != self._study:
            return
        self._left -= 1
        if self._left < 0 and not self.reached.is_set():
            if self._node is not None:
                self._node.kill()
            self.reached.set()


def names_of(node: NodeProcess, item: Summary) -> list[str]:
    objects = JobFolder(node.settings.storage.results_folder / item.job.id).read_objects()
    assert len(objects) == 3
    return [item["sop_instance_uid"] for item in objects]


def test_kill_during_receive_loses_nothing_that_was_acknowledged(
    make_node: MakeNode, archive: Archive, tmp_path: Path, chance: random.Random
) -> None:
    node = make_node(archive, reborn=True, quiet_seconds=QUIET_S)
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
        node.send([path for path in paths if path not in acknowledged])
        node.kill()
    node.start()
    assert_all_is_well(node, archive, studies)


@pytest.mark.parametrize("step", ["analyse", "encode"])
def test_kill_while_working_finishes_the_study_under_the_same_names(
    make_node: MakeNode, archive: Archive, tmp_path: Path, chance: random.Random, step: str
) -> None:
    node = make_node(archive, reborn=True, quiet_seconds=QUIET_S)
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
    assert_all_is_well(node, archive, studies)


def test_kill_during_delivery_leaves_every_object_in_the_archive_once(
    make_node: MakeNode, archive: Archive, tmp_path: Path, chance: random.Random
) -> None:
    node = make_node(archive, reborn=True, quiet_seconds=QUIET_S)
    studies, left = [], []
    for number in range(KILLS):
        paths = ct_series(tmp_path / str(number), 300 + number)
        studies.append(paths)
        node.start()
        node.wait_for("ready")
        # In half of the cases the archive has stored an object and the node never hears so.
        unheard = chance.random() < 0.5
        stored = KillAtStore(study_uid(paths), node if unheard else None, chance.randrange(3))
        archive.on_store = stored
        left += node.offer(paths)
        assert stored.reached.wait(PATIENCE_S)
        time.sleep(chance.uniform(0.0, 0.03))
        archive.on_store = lambda _study_uid: None
        node.kill()
    node.start()
    node.wait_for("ready")
    node.send(left)
    assert_all_is_well(node, archive, studies)


def test_kill_around_delivery_leaves_orthanc_with_every_object_once(
    make_node: MakeNode, orthanc: Orthanc, tmp_path: Path, chance: random.Random
) -> None:
    node = make_node(orthanc, reborn=True, quiet_seconds=QUIET_S)
    studies, left = [], []
    for number in range(KILLS):
        paths = ct_series(tmp_path / str(number), 400 + number)
        studies.append(paths)
        node.start()
        node.wait_for("ready")
        left += node.offer(paths)
        node.wait_for("step", step="validate")
        time.sleep(chance.uniform(0.0, 0.5))
        node.kill()
    node.start()
    node.wait_for("ready")
    node.send(left)
    latest = wait_for_the_last(node, studies)
    sent = {name for item in latest for name in names_of(node, item)}
    archived = orthanc.instances()
    assert sent <= set(archived), f"seed {SEED}: an object is missing"
    per_study = Counter(tags["StudyInstanceUID"] for tags in archived.values())
    for item in latest:
        assert per_study[item.job.study_instance_uid] <= 3 * item.job.generation, f"seed {SEED}"
