"""STOW-RS (PS3.18 section 10.5): what is stored, what is not and why, and bodies that are no good."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_ai_node.web.body import Keep, parameters_of
from dicom_ai_node.web.multipart import parts
from tests.web.conftest import Door, OpenDoor
from tests.web.test_submission import padded
from tests.workflow.peers import ct_series

BOUNDARY = "=_a boundary?_="
RELATED = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'


def body_of(contents: Sequence[bytes], kind: str = "application/dicom") -> bytes:
    head = f"\r\n--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n".encode()
    return b"".join(head + content for content in contents) + f"\r\n--{BOUNDARY}--\r\n".encode()


def stored(door: Door, contents: Sequence[bytes], path: str = "/dicomweb/studies") -> tuple[int, Dataset]:
    answer = door.client.post(path, content=body_of(contents), headers={"Content-Type": RELATED})
    assert answer.headers["content-type"] == "application/dicom+json"
    return answer.status_code, Dataset.from_json(answer.json())


def test_each_instance_is_accounted_for(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door()
    paths = ct_series(tmp_path, 410, slices=3)
    contents = [path.read_bytes() for path in paths]
    headers = [dcmread(path) for path in paths]
    status, said = stored(door, contents)
    assert status == 200
    assert [item.ReferencedSOPInstanceUID for item in said.ReferencedSOPSequence] == [
        item.SOPInstanceUID for item in headers
    ]
    assert "FailedSOPSequence" not in said
    (series,) = door.spool.series()
    assert series.count == 3

    other = ct_series(tmp_path / "other", 411, slices=1)[0].read_bytes()
    study = f"/dicomweb/studies/{headers[0].StudyInstanceUID}"
    status, said = stored(door, [contents[0], other, b"no DICOM"], study)
    assert status == 202
    assert len(said.ReferencedSOPSequence) == 1, "stored already is stored"
    assert [item.FailureReason for item in said.FailedSOPSequence] == [0xC409]
    assert [item.FailureReason for item in said.OtherFailuresSequence] == [0xC000]
    status, said = stored(door, [other], study)
    assert (status, said.FailedSOPSequence[0].ReferencedSOPClassUID) == (409, headers[0].SOPClassUID)


def test_a_full_disk_keeps_the_sender_from_believing(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door(minimum_free_bytes=1 << 60)
    content = body_of([ct_series(tmp_path, 412, slices=1)[0].read_bytes()])
    answer = door.client.post("/dicomweb/studies", content=content, headers={"Content-Type": RELATED})
    assert answer.status_code == 507


@pytest.mark.parametrize(
    ("kind", "content", "accept", "status"),
    [
        ("application/dicom", b"", "*/*", 415),
        ("multipart/form-data; boundary=x", b"", "*/*", 415),
        ('multipart/related; type="application/dicom"', b"", "*/*", 415),
        ('multipart/related; type="application/dicom+json"; boundary=x', b"", "*/*", 415),
        (RELATED, body_of([b"<xml/>"], "application/dicom+xml"), "*/*", 415),
        (RELATED, b"", "*/*", 400),
        (RELATED, body_of([]), "*/*", 400),
        (RELATED, b"nothing of the kind", "*/*", 400),
        (RELATED, body_of([b"x"])[:-8], "*/*", 400),
        (RELATED, f"--{BOUNDARY}\r\n{'x' * 5000}: y\r\n\r\n".encode(), "*/*", 400),
        ("multipart/related; boundary=" + "x" * 300, b"", "*/*", 400),
        (RELATED, body_of([b"x"]), "application/dicom+xml", 406),
    ],
)
def test_a_body_that_is_no_good_is_refused(
    open_door: OpenDoor, kind: str, content: bytes, accept: str, status: int
) -> None:
    headers = {"Content-Type": kind, "Accept": accept}
    answer = open_door().client.post("/dicomweb/studies", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.json()["detail"]


def test_a_sender_that_leaves_leaves_nothing_behind(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door()
    whole = body_of([padded(ct_series(tmp_path, 413, slices=1)[0], 3_000_000)])

    def cut_short() -> Iterator[bytes]:
        yield whole[:2_500_000]
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        door.client.post("/dicomweb/studies", content=cut_short(), headers={"Content-Type": RELATED})
    assert door.client.get("/health").status_code == 200
    assert door.files() == []


def test_large_parts_never_lie_in_memory(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door()
    content = padded(ct_series(tmp_path, 414, slices=1)[0], 60_000_000)
    whole = body_of([content])
    pieces = (whole[place : place + 65536] for place in range(0, len(whole), 65536))
    tracemalloc.start()
    try:
        answer = door.client.post("/dicomweb/studies", content=pieces, headers={"Content-Type": RELATED})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 200
    assert most < 20_000_000, "client, server and spool together"


@given(
    pieces=st.lists(
        st.lists(st.sampled_from([b"\r", b"\n", b"-", b"\r\n-", b"\r\n--=", b"x", b"\0"]), max_size=12).map(
            b"".join
        ),
        min_size=1,
        max_size=4,
    ),
    size=st.integers(1, 60),
)
def test_parts_come_out_as_they_went_in_however_the_body_is_cut(pieces: list[bytes], size: int) -> None:
    whole = body_of(pieces)

    async def cut() -> AsyncIterator[bytes]:
        for place in range(0, len(whole), size):
            yield whole[place : place + size]

    async def read() -> list[bytes]:
        found = []
        async for part in parts(cut(), BOUNDARY, lambda: Keep(Path(), 10**6)):
            assert part.headers == {"content-type": "application/dicom"}
            found.append(bytes(part.keep.view()))
        return found

    assert asyncio.run(read()) == pieces


def test_parameters_of_a_media_type() -> None:
    assert parameters_of(RELATED) == (
        "multipart/related",
        {"type": "application/dicom", "boundary": BOUNDARY},
    )
    assert parameters_of("Multipart/Related;BOUNDARY=a; type=x") == (
        "multipart/related",
        {"boundary": "a", "type": "x"},
    )
    assert parameters_of("") == ("", {})
