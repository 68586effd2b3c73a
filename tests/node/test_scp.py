"""The node as its peers meet it: DCMTK's tools send, and what they are told is true."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    SegmentationStorage,
)
from pynetdicom import AE, StoragePresentationContexts, build_context
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation, UserIdentityNegotiation
from structlog.testing import capture_logs

from dicom_ai_node.config import settings_from
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.imaging.write_ct import write_ct_series
from dicom_ai_node.intake.part10 import read_file, split_file
from dicom_ai_node.intake.spool import Spool, key_of
from dicom_ai_node.node.scp import StorageScp
from dicom_ai_node.node.sop_classes import decodable_transfer_syntaxes
from dicom_ai_node.results.identity import MANUFACTURER, MODEL_NAME

Listen = Callable[..., Any]
AXIAL = np.array([[0.0, 0, 1.0, 0], [0, 1.0, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])
CALLING = ("-aec", "DICOM_AI", "-aet", "SENDER")


def sop_uids(paths: list[Path]) -> set[str]:
    return {str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID) for path in paths}


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_echo_is_answered(node: Any) -> None:
    done = node.tool("echoscu")
    assert done.returncode == 0, done.stderr
    assert "Received Echo Response (Success)" in done.stdout + done.stderr


@pytest.mark.parametrize("tool", ["storescu", "dcmsend"])
def test_series_is_kept_byte_for_byte(node: Any, series: list[Path], tool: str) -> None:
    done = node.tool(tool, *series)
    assert done.returncode == 0, done.stderr
    kept = {read_file(path)[0].sop_instance_uid: path for path in node.files}
    assert set(kept) == sop_uids(series)
    for path in series:
        sent_meta, sent = read_file(path)
        meta, received = read_file(kept[sent_meta.sop_instance_uid])
        assert bytes(received) == bytes(sent)
        assert meta.transfer_syntax_uid == sent_meta.transfer_syntax_uid
        assert (meta.sending_ae_title, meta.receiving_ae_title) == ("SENDER", "DICOM_AI")
    (spooled,) = node.spool.series()
    assert (spooled.calling_ae, spooled.count, spooled.modality) == ("SENDER", 6, "CT")


def test_sending_again_keeps_one_copy_and_is_a_success(node: Any, series: list[Path]) -> None:
    for _ in range(2):
        assert node.tool("storescu", *series).returncode == 0
    assert len(node.files) == 6


def test_several_senders_at_once_lose_nothing(node: Any, series: list[Path], tmp_path: Path) -> None:
    folders = []
    for number in range(6):
        folder = tmp_path / f"sender-{number}"
        folder.mkdir()
        for path in series:
            dataset = pydicom.dcmread(path)
            dataset.SOPInstanceUID = f"{dataset.SOPInstanceUID[:50]}.{number}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.save_as(folder / path.name)
        folders.append(folder)
    results: list[int] = []
    threads = [
        threading.Thread(
            target=lambda folder=folder: results.append(
                node.tool("storescu", *sorted(folder.iterdir())).returncode
            )
        )
        for folder in folders
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 6
    assert len(node.files) == 36


REAL_SYNTAXES = "dicom/cornerstone/testImages"


def test_every_transfer_syntax_of_a_real_ct_is_kept_as_it_is(node: Any, shared_data: Path) -> None:
    """One CT, in every transfer syntax that the node says it decodes."""
    seen = set()
    for path in sorted((shared_data / REAL_SYNTAXES).rglob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        syntax = header.file_meta.TransferSyntaxUID
        if (
            syntax not in decodable_transfer_syntaxes()
            or header.SOPClassUID != CTImageStorage
            or syntax in seen
        ):
            continue
        entity = AE(ae_title="SENDER")
        entity.add_requested_context(CTImageStorage, syntax)
        association = entity.associate("127.0.0.1", node.port)
        assert association.is_established
        # the data set as it lies in the file, whatever it is encoded in
        dataset = pydicom.dcmread(path)
        assert association.send_c_store(path).Status == 0x0000
        association.release()
        kept = {read_file(item)[0].transfer_syntax_uid: item for item in node.files}
        assert pydicom.dcmread(kept[syntax]).SOPInstanceUID == dataset.SOPInstanceUID
        seen.add(syntax)
    assert len(seen) >= 8


def associate(node: Any, *contexts: tuple[UID | str, UID | str], calling: str = "SENDER", **more: Any) -> Any:
    entity = AE(ae_title=calling)
    for sop_class, syntax in contexts or ((CTImageStorage, ExplicitVRLittleEndian),):
        entity.add_requested_context(sop_class, syntax)
    return entity.associate("127.0.0.1", node.port, **{"ae_title": "DICOM_AI", **more})


@pytest.fixture
def raw_store(node: Any) -> Iterator[Callable[..., Any]]:
    """Sends bytes as the data set of a C-STORE, with any command one likes."""
    association = associate(
        node, (CTImageStorage, ExplicitVRLittleEndian), (SegmentationStorage, ExplicitVRLittleEndian)
    )
    # as its own send methods do: the reactor must not take the answer
    association._reactor_checkpoint.clear()
    until(lambda: association._is_paused)

    def send(
        data: bytes, sop_class: str = CTImageStorage, instance: str = "1.2.3", context: str = CTImageStorage
    ) -> Any:
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = sop_class
        request.AffectedSOPInstanceUID = instance
        request.Priority = 2
        request.DataSet = io.BytesIO(data)
        (accepted,) = [item for item in association.accepted_contexts if item.abstract_syntax == context]
        association.dimse.send_msg(request, accepted.context_id)
        _, answer = association.dimse.get_msg(block=True)
        return answer

    yield send
    association._reactor_checkpoint.set()
    association.release()


def test_refusals_have_the_right_status_and_say_why(
    node: Any, raw_store: Callable[..., Any], series: list[Path]
) -> None:
    meta, data_set = read_file(series[0])
    uid = meta.sop_instance_uid
    whole = bytes(data_set)

    def answer(*arguments: Any, **more: Any) -> tuple[int, str]:
        with capture_logs() as logs:
            found = raw_store(*arguments, **more)
        if found.Status:
            (line,) = [line for line in logs if line["event"] == "instance refused"]
            assert line["status"] == f"0x{found.Status:04X}"
            assert line["reason"].startswith((found.ErrorComment or "")[:40])
            assert uid not in str(line)
        return found.Status, found.ErrorComment or ""

    assert answer(whole, instance="1.2.3.4") == (
        0xA900,
        "AffectedSOPInstanceUID and SOPInstanceUID (0008,0018) differ",
    )
    assert answer(whole, SegmentationStorage, uid, SegmentationStorage)[0] == 0xA900
    assert answer(whole, SegmentationStorage, uid)[0] == 0xA900
    assert answer(whole, "1.2.840.10008.5.1.4.1.1.6.1", uid)[0] == 0x0122
    assert answer(b"\0\0", instance=uid)[0] == 0xC000
    assert answer(b"no data set at all" * 10, instance=uid)[0] == 0xC000
    without_series = pydicom.dcmread(series[0])
    del without_series.SeriesInstanceUID
    target = io.BytesIO()
    pydicom.dcmwrite(target, without_series)
    _, start = split_file(target.getvalue(), "it")
    status, comment = answer(target.getvalue()[start:], instance=uid)
    assert status == 0xC000
    assert "SeriesInstanceUID (0020,000E) is missing" in comment
    assert node.files == []
    # the association has borne all that
    assert answer(whole, instance=uid) == (0x0000, "")
    # cut in its pixels, an instance is kept: what arrived is not lost, and the router names it
    assert answer(whole[:-10], instance=uid) == (0x0000, "")
    assert len(node.files) == 2


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_uids_that_look_like_paths_stay_inside_the_spool(
    node: Any, raw_store: Callable[..., Any], series: list[Path], tmp_path: Path
) -> None:
    data_set = bytes(read_file(series[0])[1])
    dataset = pydicom.dcmread(series[0])
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for uid in ("../../../../evil", "/etc/evil", "..", "1.2/../../evil"):
        # same length in the bytes, so that nothing else changes
        evil = uid.ljust(len(dataset.SOPInstanceUID), "x").encode()
        data = data_set.replace(str(dataset.SOPInstanceUID).encode(), evil)
        assert raw_store(data, instance=evil.decode()).Status == 0x0000
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert len(new) == 4
    assert all(path.parent.parent.parent == node.spool.root for path in new)


def test_full_disk_is_a700_and_the_sender_knows(listen: Listen, series: list[Path]) -> None:
    node = listen(minimum_free_bytes=2**60)
    with capture_logs() as logs:
        done = node.tool("storescu", *series)
    assert "Refused: OutOfResources" in done.stdout + done.stderr
    assert node.files == []
    refused = [line for line in logs if line["event"] == "instance refused"]
    assert "minimum_free_mb" in refused[0]["reason"]
    assert node.tool("echoscu").returncode == 0


def test_instance_that_is_too_large_is_refused_and_the_next_is_taken(
    listen: Listen, series: list[Path], tmp_path: Path
) -> None:
    node = listen(node={"max_instance_mb": 1})
    large = pydicom.dcmread(series[0])
    large.Rows = large.Columns = 1024
    large.PixelData = bytes(2 * 1024 * 1024)
    large.SOPInstanceUID = large.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    large.save_as(tmp_path / "large.dcm")
    association = associate(node)
    assert association.send_c_store(tmp_path / "large.dcm").Status == 0xA700
    assert association.send_c_store(series[0]).Status == 0x0000
    association.release()
    assert len(node.files) == 1


def test_empty_association_leaves_one_line_in_the_log(node: Any) -> None:
    with capture_logs() as logs:
        association = associate(node)
        assert association.is_established
        association.release()
        until(lambda: bool(logs))
    (line,) = logs
    assert (line["event"], line["end"], line["megabytes"]) == ("association ended", "released", 0.0)
    assert node.files == []


def test_senders_that_are_not_listed_are_turned_away(listen: Listen, series: list[Path]) -> None:
    node = listen(senders=[{"ae_title": "PACS"}, {"ae_title": "AWAY", "host": "192.0.2.1"}])
    with capture_logs() as logs:
        for calling, code in (("PACS", 0), ("SENDER", 1), ("AWAY", 1)):
            done = node.tool("storescu", series[0], options=("-aec", "DICOM_AI", "-aet", calling))
            assert (done.returncode != 0) == bool(code), done.stderr
            if code:
                assert "Calling AE Title Not Recognized" in done.stdout + done.stderr
        until(lambda: len(logs) == 3)
    assert sorted(line["event"] for line in logs) == ["association ended", *["association refused"] * 2]
    assert len(node.files) == 1


def test_sender_is_known_by_the_name_of_its_host(listen: Listen) -> None:
    node = listen(senders=[{"ae_title": "SENDER", "host": "localhost"}])
    assert node.tool("echoscu").returncode == 0


def test_called_ae_title_is_checked_where_asked_for(listen: Listen) -> None:
    assert listen().tool("echoscu", options=("-aec", "OTHER")).returncode == 0
    strict = listen(node={"require_called_ae_title": True})
    done = strict.tool("echoscu", options=("-aec", "OTHER"))
    assert "Called AE Title Not Recognized" in done.stdout + done.stderr
    assert strict.tool("echoscu").returncode == 0


def test_more_associations_than_allowed_are_turned_away_for_now(listen: Listen) -> None:
    node = listen(node={"max_associations": 2})
    first, second = associate(node), associate(node)
    third = associate(node)
    assert (first.is_established, second.is_established, third.is_rejected) == (True, True, True)
    first.release()
    until(lambda: node.tool("echoscu").returncode == 0)
    second.release()


def test_objects_that_are_no_images_are_taken_or_not_as_configured(listen: Listen) -> None:
    offered = [(CTImageStorage, ExplicitVRLittleEndian), (SegmentationStorage, ExplicitVRLittleEndian)]
    for rule, contexts in (("accept", 2), ("refuse", 1)):
        association = associate(listen(node={"non_images": rule}), *offered)
        assert len(association.accepted_contexts) == contexts
        association.release()


def test_own_results_are_taken_or_not_as_configured(
    listen: Listen, series: list[Path], tmp_path: Path
) -> None:
    result = pydicom.dcmread(series[0])
    result.SOPClassUID = result.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    result.Manufacturer, result.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    result.save_as(tmp_path / "seg.dcm")
    for rule, status in (("accept", 0x0000), ("refuse", 0x0122)):
        association = associate(
            listen(node={"own_results": rule}), (SegmentationStorage, ExplicitVRLittleEndian)
        )
        assert association.send_c_store(tmp_path / "seg.dcm").Status == status
        result_of_others = pydicom.dcmread(tmp_path / "seg.dcm")
        result_of_others.Manufacturer = "Someone else"
        assert association.send_c_store(result_of_others).Status == 0x0000
        association.release()


def test_further_sop_classes_are_offered_as_configured(listen: Listen) -> None:
    pet = "1.2.840.10008.5.1.4.1.1.128"
    refusing = associate(listen(), (pet, ExplicitVRLittleEndian))
    assert refusing.is_aborted or not refusing.accepted_contexts
    association = associate(listen(node={"further_sop_classes": [pet]}), (pet, ExplicitVRLittleEndian))
    assert association.is_established
    association.release()


def test_every_storage_class_at_once_is_negotiated(node: Any) -> None:
    entity = AE(ae_title="SENDER")
    entity.requested_contexts = StoragePresentationContexts[:128]
    association = entity.associate("127.0.0.1", node.port)
    assert association.is_established
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    assert CTImageStorage in accepted
    assert "1.2.840.10008.5.1.4.1.1.6.1" not in accepted
    association.release()


def test_wishes_that_the_node_does_not_grant_do_no_harm(node: Any) -> None:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid = CTImageStorage
    role.scu_role = role.scp_role = True
    user = UserIdentityNegotiation()
    user.user_identity_type = 2
    user.primary_field, user.secondary_field = b"name", b"secret"
    user.positive_response_requested = True
    entity = AE()
    association = entity.associate(
        "127.0.0.1", node.port, contexts=[build_context(CTImageStorage)], ext_neg=[role, user]
    )
    assert association.is_established
    association.release()


def test_a_silent_caller_is_let_go(listen: Listen) -> None:
    node = listen(node={"association_timeout_seconds": 0.2, "network_timeout_seconds": 0.2})
    with node.connect() as connection:
        assert connection.recv(10)[0] == 0x07
        assert connection.recv(10) == b""
    association = associate(node)
    until(lambda: association.is_aborted)


def test_stop_ends_idle_associations_at_once_and_frees_the_port(listen: Listen) -> None:
    node = listen()
    port = node.port
    association = associate(node)
    began = time.monotonic()
    node.scp.stop(grace_seconds=20)
    assert time.monotonic() - began < 15
    until(lambda: association.is_aborted)
    again = listen(node={"port": port})
    assert again.tool("echoscu").returncode == 0


def test_port_that_is_taken_is_named(node: Any, tmp_path: Path) -> None:
    settings = settings_from({"node": {"host": "127.0.0.1", "port": node.port}})
    with pytest.raises(ConfigurationError, match=rf"port = {node.port}.*choose another"):
        StorageScp(settings, Spool(tmp_path / "other")).start()


def test_two_receivers_share_a_port_and_a_spool(tmp_path: Path, series: list[Path], listen: Listen) -> None:
    node = listen()
    port = node.port
    node.scp.stop()
    settings = settings_from({"node": {"host": "127.0.0.1", "port": port}})
    receivers = [StorageScp(settings, Spool(node.spool.root), share_port=True) for _ in range(2)]
    with receivers[0], receivers[1]:
        for path in series:
            done = subprocess.run(
                ["/usr/bin/storescu", "-aec", "DICOM_AI", "127.0.0.1", str(port), str(path)],
                check=False,
                timeout=60,
            )
            assert done.returncode == 0
    assert len(node.files) == 6


def test_log_shows_identifiers_only_where_allowed(listen: Listen, series: list[Path]) -> None:
    dataset = pydicom.dcmread(series[0])
    for allowed in (False, True):
        node = listen(minimum_free_bytes=2**60, security={"log_identifiers": allowed})
        with capture_logs() as logs:
            node.tool("storescu", series[0])
        (line,) = [line for line in logs if line["event"] == "instance refused"]
        assert (line["study"] == dataset.StudyInstanceUID) == allowed
        assert (line["study"] == key_of(dataset.StudyInstanceUID)) != allowed
        assert str(dataset.PatientName) not in str(logs)
        assert str(dataset.PatientID) not in str(logs)


# serves until killed, then again in a new process on a new spool: one start of Python for all the kills
KILLED_NODES = """
import os, sys
from pathlib import Path
from dicom_ai_node.log import configure_logging
from dicom_ai_node.config import settings_from
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.node.scp import StorageScp

configure_logging(as_json=True)
for line in sys.stdin:
    process = os.fork()
    if not process:
        scp = StorageScp(settings_from({"node": {"host": "127.0.0.1", "port": 0}}), Spool(Path(line.strip())))
        scp.start()
        os.write(1, f"{os.getpid()} {scp.port}\\n".encode())
        scp._thread.join()
    os.waitpid(process, 0)
"""


def test_kill_while_receiving_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    voxels = np.arange(50 * 256 * 256, dtype=np.uint32).astype(np.int16).reshape(50, 256, 256) % 1000
    sent = write_ct_series(voxels, AXIAL, tmp_path / "sent")
    nursery = subprocess.Popen(
        [sys.executable, "-c", KILLED_NODES],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    acknowledged_in_all = killed_in_time = 0
    for kill in range(20):
        root = tmp_path / f"killed-{kill}"
        nursery.stdin.write(f"{root}\n")
        nursery.stdin.flush()
        process, port = map(int, nursery.stdout.readline().split())
        killer = threading.Timer(0.003 * kill, os.kill, (process, signal.SIGKILL))
        acknowledged: list[Path] = []
        with subprocess.Popen(
            ["/usr/bin/storescu", "-v", *CALLING, "127.0.0.1", str(port), *map(str, sent)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "TCP_NODELAY": "1"},
        ) as sender:
            assert sender.stdout is not None
            for line in sender.stdout:
                if line.startswith("I: Sending file: "):
                    sending = Path(line.removeprefix("I: Sending file: ").strip())
                elif "Received Store Response" in line:
                    assert "Success" in line
                    acknowledged.append(sending)
                    if len(acknowledged) == 1:
                        killer.start()
        killer.join()
        (spooled,) = Spool(root).series()
        kept = {read_file(path)[0].sop_instance_uid: path for path in spooled.paths}
        for path in acknowledged:
            meta, data_set = read_file(path)
            assert read_file(kept[meta.sop_instance_uid])[1] == data_set
        # one more may be there of which the sender did not hear any more
        assert len(acknowledged) <= len(kept) <= len(acknowledged) + 1
        assert all(len(read_file(path)[1]) > 2 * 256 * 256 for path in kept.values())
        acknowledged_in_all += len(acknowledged)
        killed_in_time += len(acknowledged) < len(sent)
    nursery.stdin.close()
    nursery.stdout.close()
    nursery.wait()
    assert acknowledged_in_all >= 20
    assert killed_in_time >= 15


def test_deflated_data_sets_are_kept_as_they_are(node: Any, series: list[Path], tmp_path: Path) -> None:
    dataset = pydicom.dcmread(series[0])
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(tmp_path / "deflated.dcm", dataset, implicit_vr=False, little_endian=True)
    association = associate(node, (CTImageStorage, DeflatedExplicitVRLittleEndian))
    _, data_set = read_file(tmp_path / "deflated.dcm")
    assert association.send_c_store(tmp_path / "deflated.dcm").Status == 0x0000
    association.release()
    (path,) = node.files
    assert pydicom.dcmread(path).PixelData == pydicom.dcmread(series[0]).PixelData
    assert len(data_set) < 64 * 64 * 2 + 2000
