"""Sending: what the archive answered, object by object, with DCMTK's storescp and pynetdicom as archives."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    SegmentationStorage,
)
from pynetdicom import AE, evt

from dicom_ai_node.errors import TransientError, UnreadableInstance
from dicom_ai_node.node.scu import Sender, echo, send

CLASSES = (
    SegmentationStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    CTImageStorage,
)


@dataclass
class Place:
    port: int
    ae_title: str = "ARCHIVE"
    host: str = "127.0.0.1"


@pytest.fixture
def objects(tmp_path: Path) -> list[Path]:
    return [write(tmp_path / "sent", number, sop_class) for number, sop_class in enumerate(CLASSES)]


def write(folder: Path, number: int, sop_class: str) -> Path:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, f"1.2.826.0.1.3680043.8.498.9.{number + 1}"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    dataset.PatientID, dataset.PatientName, dataset.Modality = "P", "Test^Sending", "OT"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = sop_class
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    folder.mkdir(exist_ok=True)
    path = folder / f"{number}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[tuple[Place, Path]]:
    """DCMTK's archive, as the Debian package brings it."""
    program = Path("/usr/bin/storescp")
    if not program.exists():
        pytest.skip("DCMTK is not installed (apt-get install dcmtk)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "archived"
    folder.mkdir()
    process = subprocess.Popen([program, "-od", str(folder), "-aet", "ARCHIVE", "+xa", str(port)])
    place = Place(port)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield place, folder
    process.kill()
    process.wait()


class Peer:
    """An archive whose answers and contexts a test chooses."""

    def __init__(self, *syntaxes: str, status: int = 0, classes: tuple[str, ...] = CLASSES) -> None:
        self.received: list[bytes] = []
        self.entity = entity = AE("ARCHIVE")
        for sop_class in classes:
            entity.add_supported_context(sop_class, list(syntaxes) or [ExplicitVRLittleEndian])
        self.status = status
        self.server = entity.start_server(
            ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)]
        )
        self.place = Place(self.server.server_address[1])

    def store(self, event: evt.Event) -> int:
        self.received.append(event.request.DataSet.getvalue())
        return self.status

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.entity.shutdown()


def test_every_kind_of_result_arrives_in_dcmtk_as_it_lies_on_disk(
    objects: list[Path], storescp: tuple[Place, Path]
) -> None:
    place, folder = storescp
    outcomes = send(objects, place)
    assert [(outcome.stored, outcome.status) for outcome in outcomes] == [(True, 0)] * len(objects)
    sent = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in objects}
    arrived = {str(dcmread(path).SOPInstanceUID): dcmread(path) for path in folder.iterdir()}
    assert arrived == sent
    assert {outcome.sop_instance_uid for outcome in outcomes} == set(sent)


def test_the_bytes_on_the_wire_are_the_bytes_on_disk(objects: list[Path]) -> None:
    with Peer() as peer:
        send(objects, peer.place)
        send(objects, peer.place)
    half = len(objects)
    assert peer.received[:half] == peer.received[half:]
    assert all(path.read_bytes().endswith(data) for path, data in zip(objects, peer.received, strict=False))


def test_an_archive_that_knows_only_implicit_vr_gets_the_same_content(objects: list[Path]) -> None:
    with Peer(ImplicitVRLittleEndian) as peer:
        outcomes = send(objects, peer.place)
    assert all(outcome.stored for outcome in outcomes)
    assert len(peer.received) == len(objects)


@pytest.mark.parametrize(
    ("status", "stored"), [(0x0000, True), (0xB000, True), (0xA700, False), (0xC000, False)]
)
def test_the_status_is_kept(objects: list[Path], status: int, stored: bool) -> None:
    with Peer(status=status) as peer:
        outcomes = send(objects, peer.place)
    assert {(outcome.status, outcome.stored) for outcome in outcomes} == {(status, stored)}
    assert f"0x{status:04X}" in outcomes[0].text


def test_an_object_whose_class_is_not_accepted_does_not_hold_up_the_others(objects: list[Path]) -> None:
    with Peer(classes=CLASSES[1:]) as peer:
        outcomes = send(objects, peer.place)
    assert [outcome.stored for outcome in outcomes] == [False, True, True, True]
    assert SegmentationStorage in outcomes[0].text


def test_an_answer_reaches_who_waits_for_it_whoever_else_looks(objects: list[Path]) -> None:
    with Peer() as peer, Sender(objects, peer.place, response_timeout_s=20.0) as sender:
        sender.connect()
        association = sender._association
        assert association is not None
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                association.dimse.get_msg(block=False)

        looking = threading.Thread(target=look)
        looking.start()
        outcomes = [sender.store(path) for path in objects * 5]
        stop.set()
        looking.join()
    assert all(outcome.stored for outcome in outcomes)


# pynetdicom leaves the socket of a refused connection to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_absent_archive_is_a_matter_of_time(objects: list[Path]) -> None:
    place = Place(1)
    with pytest.raises(TransientError, match=r"ARCHIVE at 127\.0\.0\.1:1"):
        send(objects, place)
    with Sender(objects, place) as sender:
        began = time.monotonic()
        outcomes = [sender.store(path) for path in objects]
        assert time.monotonic() - began < 30
    assert {(outcome.stored, outcome.status) for outcome in outcomes} == {(False, None)}
    assert echo(place) is not None


def test_what_is_no_dicom_file_is_not_sent(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no DICOM")
    with pytest.raises(UnreadableInstance, match=r"notes\.txt"):
        send([path], Place(1))


def test_echo_finds_a_real_archive(storescp: tuple[Place, Path]) -> None:
    assert shutil.which("storescp")
    assert echo(storescp[0]) is None
