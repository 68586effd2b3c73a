"""The journal: bytes as received, under names no UID can turn into a path, rebuilt from the folder alone."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pydicom
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.intake import spool as spool_module
from dicom_ai_node.intake.identity import InstanceIdentity
from dicom_ai_node.intake.part10 import FileMeta, read_file
from dicom_ai_node.intake.spool import Spool, SpooledInstance, SpoolFull, key_of

CT = "1.2.840.10008.5.1.4.1.1.2"
SYNTAX = "1.2.840.10008.1.2.1"


def put(
    spool: Spool, instance: str = "1.2.3", data: bytes = b"bytes", series: str = "1.5"
) -> SpooledInstance:
    identity = InstanceIdentity(CT, instance, "1.4", series, "CT")
    return spool.store(data, identity, FileMeta(CT, instance, SYNTAX, "SENDER", "NODE"))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_file_holds_the_data_set_byte_for_byte(spool: Spool, write_series) -> None:
    (source,) = write_series(1)
    _, data_set = read_file(source)
    stored = spool.store_file(source, sending_ae_title="SENDER")
    meta, kept = read_file(stored.path)
    assert bytes(kept) == bytes(data_set)
    assert meta.sending_ae_title == "SENDER"
    assert pydicom.dcmread(stored.path) == pydicom.dcmread(source)


def test_stored_file_is_a_valid_dicom_file(spool: Spool, write_series) -> None:
    stored = spool.store_file(write_series(1)[0])
    found = subprocess.run(
        ["/usr/bin/dcmdump", "+P", "0002,0010", "+P", "0002,0012", str(stored.path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "LittleEndianExplicit" in found.stdout
    assert found.stderr == ""


@given(st.text(min_size=1, max_size=80), st.text(min_size=1, max_size=80))
@example("../../../etc/passwd", "/etc/passwd")
@example("..", ".")
@example("1.2\0.3", "1.2/3")
@example("\ud800", "a" * 80)
def test_no_uid_becomes_a_path(instance: str, series: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            patch.chdir(folder)
            spool = Spool(Path(folder) / "spool")
            identity = InstanceIdentity(CT, instance, series, series, "CT")
            stored = spool.store(b"x", identity, FileMeta(CT, instance, SYNTAX))
            files = [path for path in Path(folder).rglob("*") if path.is_file()]
            assert files == [stored.path]
            parts = stored.path.relative_to(spool.root).parts
            assert [len(part) for part in parts] == [32, 32, 36]
            assert all(part.removesuffix(".dcm").isalnum() for part in parts)


def test_identical_bytes_are_kept_once(spool: Spool) -> None:
    assert put(spool).outcome == "new"
    again = put(spool)
    assert again.outcome == "duplicate"
    assert names(spool.root) == [again.path.name]


def test_other_bytes_under_the_same_uid_are_kept_beside_the_first(spool: Spool) -> None:
    first = put(spool, data=b"first")
    second = put(spool, data=b"second")
    assert (first.outcome, second.outcome) == ("new", "new-version")
    assert bytes(read_file(first.path)[1]) == b"first"
    assert put(spool, data=b"first").outcome == "duplicate"
    assert put(spool, data=b"second").outcome == "duplicate"
    (series,) = spool.series()
    assert series.count == 1
    assert series.paths == (second.path,)
    assert series.superseded == (first.path,)


def test_large_instances_are_compared_to_their_last_byte(spool: Spool) -> None:
    data = bytes(range(256)) * 12_000
    first = put(spool, data=data)
    assert put(spool, data=data).outcome == "duplicate"
    assert put(spool, data=data[:-1] + b"!").outcome == "new-version"
    assert put(spool, data=data + b"!").outcome == "new-version"
    assert bytes(read_file(first.path)[1]) == data


def test_series_is_rebuilt_from_the_folder_alone(spool: Spool, write_series) -> None:
    before = time.time()
    for path in write_series(5):
        spool.store_file(path, sending_ae_title="PACS")
    header = pydicom.dcmread(path)
    (series,) = Spool(spool.root).series()
    assert series.count == 5
    assert series.study_instance_uid == header.StudyInstanceUID
    assert series.series_instance_uid == header.SeriesInstanceUID
    assert series.study_key == key_of(header.StudyInstanceUID)
    assert (series.modality, series.calling_ae) == ("CT", "PACS")
    assert before - 1 <= series.first_arrival <= series.last_arrival <= time.time() + 1
    assert spool.find(series.study_key, series.series_key) == series
    assert spool.find(series.study_key, key_of("another")) is None
    assert spool.find("..", "..") is None


def test_generation_changes_with_new_content_only(spool: Spool, write_series) -> None:
    first, second, third = write_series(3)

    def generation() -> str:
        (series,) = spool.series()
        return series.generation

    spool.store_file(first)
    one = generation()
    spool.store_file(first)
    assert generation() == one
    spool.store_file(second)
    two = generation()
    assert two != one
    assert next(Spool(spool.root).series()).generation == two
    data = bytearray(third.read_bytes())
    spool.store_file(third)
    three = generation()
    data[-1] ^= 1
    third.write_bytes(data)
    spool.store_file(third)
    assert len({one, two, three, generation()}) == 4


def test_a_look_sees_what_other_processes_have_written(spool: Spool) -> None:
    other = Spool(spool.root)
    for number in range(30):
        put(other, instance=f"1.{number}")
        (series,) = spool.series()
        assert series.count == number + 1


def test_a_settled_folder_is_not_read_again(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = put(spool)
    past = time.time() - 60
    os.utime(stored.path.parent, (past, past))
    (series,) = spool.series()
    reads: list[Path] = []
    monkeypatch.setattr(spool_module, "read_file", lambda path, _at_most: reads.append(path))
    assert list(spool.series()) == [series]
    assert reads == []


def test_remove_takes_what_was_seen_and_leaves_what_came_later(spool: Spool) -> None:
    put(spool, instance="1.1")
    (seen,) = spool.series()
    late = put(spool, instance="1.2")
    spool.remove(seen)
    (left,) = spool.series()
    assert left.paths == (late.path,)
    spool.remove(left)
    assert list(spool.root.iterdir()) == []
    assert list(spool.series()) == []
    assert put(spool, instance="1.3").outcome == "new"


def test_expiry_takes_old_series_that_may_go(spool: Spool) -> None:
    for number in range(3):
        put(spool, series=f"1.{number}")
    old = [series.series_key for series in spool.series()][:2]
    for path in spool.root.glob("*/*/*.dcm"):
        age = 1000 if path.parent.name in old else 10
        os.utime(path, (time.time() - age, time.time() - age))
    fresh = Spool(spool.root)
    gone = fresh.expire(100, lambda series: series.series_key == old[0])
    assert [series.series_key for series in gone] == old[:1]
    assert len(list(fresh.series())) == 2


def test_sweep_takes_what_a_killed_receiver_left(spool: Spool) -> None:
    folder = put(spool).path.parent
    abandoned, young = folder / ".receiving-1-0-aa", folder / ".receiving-2-0-bb"
    for path in (abandoned, young):
        path.write_bytes(b"half")
    os.utime(abandoned, (time.time() - 3600, time.time() - 3600))
    (series,) = spool.series()
    assert series.count == 1
    assert spool.sweep() == 1
    assert not abandoned.exists()
    assert young.exists()


def test_strange_files_in_the_spool_do_no_harm(spool: Spool) -> None:
    stored = put(spool)
    (spool.root / "README").write_text("notes")
    (stored.path.parent / "notes.txt").write_text("notes")
    (spool.root / ("0" * 32)).mkdir()
    (spool.root / ("1" * 32)).write_text("a file with a folder's name")
    (series,) = spool.series()
    assert series.paths == (stored.path,)


def test_a_file_that_rotted_is_still_listed(spool: Spool) -> None:
    stored = put(spool)
    stored.path.write_bytes(b"rot")
    (series,) = Spool(spool.root).series()
    assert series.paths == (stored.path,)
    assert series.series_instance_uid == ""


def test_too_little_free_space_is_refused_with_the_way_out(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", minimum_free_bytes=2**60)
    with pytest.raises(SpoolFull, match=r"\[storage\] minimum_free_mb"):
        put(spool)
    assert names(spool.root) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    put(spool, instance="1.1")
    before = names(spool.root)
    with monkeypatch.context() as patch:
        patch.setattr(spool_module.os, "fsync", full)
        with pytest.raises(SpoolFull):
            put(spool, instance="1.2")
    assert names(spool.root) == before
    assert put(spool, instance="1.2").outcome == "new"


def test_bytes_and_name_are_on_the_disk_before_store_returns(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File synced before it gets its name, folder synced after."""
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def traced_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        steps.append("folder" if target.is_dir() else "file")
        assert target.is_dir() or target.stat().st_size > 5
        fsync(descriptor)

    monkeypatch.setattr(spool_module.os, "fsync", traced_fsync)
    monkeypatch.setattr(spool_module.os, "link", lambda *paths: (steps.append("link"), link(*paths)))
    put(spool)
    # the new folders themselves come first: study, spool, and the spool's place
    assert steps == ["folder", "folder", "folder", "file", "link", "folder"]
    steps.clear()
    put(spool)
    assert steps[-1] == "folder"


def test_many_writers_of_one_instance_make_one_file(spool: Spool) -> None:
    outcomes: list[str] = []

    def write() -> None:
        outcomes.extend(put(Spool(spool.root), instance=f"1.{number}").outcome for number in range(20))

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("new") == 20
    assert outcomes.count("duplicate") == 100
    assert len(names(spool.root)) == 20


def test_no_dicom_file_is_refused(spool: Spool, tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("dear colleague " * 20)
    with pytest.raises(UnreadableInstance, match=r"letter\.txt"):
        spool.store_file(path)


# forks a writer, kills it after a while, and does that again: one start of Python for all the kills
KILLED_WRITERS = """
import os, signal, sys, time
from pathlib import Path
from dicom_ai_node.intake.identity import InstanceIdentity
from dicom_ai_node.intake.part10 import FileMeta
from dicom_ai_node.intake.spool import Spool

CT = "1.2.840.10008.5.1.4.1.1.2"

def write(kill):
    spool = Spool(Path(sys.argv[1]) / str(kill))
    for number in range(100000):
        uid = f"1.2.{number}"
        identity = InstanceIdentity(CT, uid, "1.4", "1.5", "CT")
        spool.store(bytes([number % 256]) * 200_000, identity, FileMeta(CT, uid, "1.2.840.10008.1.2.1"))
        os.write(1, f"{kill} {number}\\n".encode())
        os.write(begun, b"!")

wait, begun = os.pipe()
for kill in range(int(sys.argv[2])):
    process = os.fork()
    if not process:
        write(kill)
    os.read(wait, 1)
    time.sleep(kill * 0.0023)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.set_blocking(wait, False)
    try:
        os.read(wait, 100000)
    except BlockingIOError:
        pass
    os.set_blocking(wait, True)
"""


def test_kill_at_any_instant_loses_nothing_that_was_promised(tmp_path: Path) -> None:
    kills = 20
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WRITERS, str(tmp_path), str(kills)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    promised = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(promised) >= kills
    kept = 0
    for kill in range(kills):
        spool = Spool(tmp_path / str(kill))
        numbers = [number for which, number in promised if which == kill]
        found = {path.stem: path for series in spool.series() for path in series.paths}
        # one more may be there whose promise was not given any more
        assert len(numbers) <= len(found) <= len(numbers) + 1
        for number in numbers:
            data = read_file(found[key_of(f"1.2.{number}")])[1]
            assert bytes(data) == bytes([number % 256]) * 200_000
        assert all(len(read_file(path)[1]) == 200_000 for path in found.values())
        assert spool.sweep(now=time.time() + 3600) <= 1
        kept += len(found)
    assert kept >= len(promised)
