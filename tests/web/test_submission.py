"""What comes in over HTTP: kept as C-STORE keeps it, or refused with the right status and the reason."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import MPEG2MPML, SegmentationStorage

from dicom_ai_node.intake.part10 import read_file
from dicom_ai_node.results.identity import MANUFACTURER, MODEL_NAME
from tests.web.conftest import TOKEN, OpenDoor
from tests.workflow.peers import ct_series

DICOM = {"Content-Type": "application/dicom"}


@pytest.fixture
def instance(tmp_path: Path) -> Path:
    return ct_series(tmp_path / "one", 400, slices=1)[0]


def padded(path: Path, size: int) -> bytes:
    """The instance, made so large by a private element."""
    image = dcmread(path)
    image.add_new(0x7FE10011, "LO", "tests")
    image.add_new(0x7FE11100, "OB", b"\0" * size)
    image.save_as(path)
    return path.read_bytes()


def test_the_bytes_lie_in_the_spool_as_they_came_whatever_their_size(
    open_door: OpenDoor, instance: Path
) -> None:
    door = open_door()
    for size, outcome in ((0, "new"), (5_000_000, "new-version"), (5_000_000, "duplicate")):
        content = padded(instance, size)

        def piecemeal(content: bytes = content) -> Iterator[bytes]:
            yield from (content[place : place + 70_001] for place in range(0, len(content), 70_001))

        answer = door.client.post("/instances", content=piecemeal(), headers=DICOM)
        assert (answer.status_code, answer.json()["outcome"]) == (201, outcome)
        (series,) = door.spool.series()
        assert bytes(read_file(series.paths[0])[1]) == bytes(read_file(instance)[1])
    assert len(door.files()) == 2, "nothing else is left behind"


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"no DICOM", "application/dicom", 400),
        (b"", "application/dicom", 400),
        (b"\0" * 128 + b"DICM", "application/dicom", 400),
        (b"x", "text/plain", 415),
        (b"x", "", 415),
    ],
)
def test_what_is_no_instance_is_refused(open_door: OpenDoor, content: bytes, kind: str, status: int) -> None:
    answer = open_door().client.post("/instances", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json()["status"], bool(answer.json()["detail"])) == (status, True)


def test_instances_are_judged_as_c_store_judges_them(
    open_door: OpenDoor, instance: Path, tmp_path: Path
) -> None:
    door = open_door(node={"own_results": "refuse"})

    def brought(image: object, name: str) -> int:
        image.save_as(tmp_path / name)  # type: ignore[attr-defined]
        return door.client.post(
            "/instances", content=(tmp_path / name).read_bytes(), headers=DICOM
        ).status_code

    own = dcmread(instance)
    own.SOPClassUID = own.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    assert brought(own, "another.dcm") == 201
    own.Manufacturer, own.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    assert brought(own, "own.dcm") == 415
    unlike = dcmread(instance)
    unlike.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    assert brought(unlike, "unlike.dcm") == 400
    film = dcmread(instance)
    film.file_meta.TransferSyntaxUID = MPEG2MPML
    del film.PixelData
    assert brought(film, "film.dcm") == 415
    unknown = dcmread(instance)
    unknown.SOPClassUID = unknown.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
    assert brought(unknown, "pet.dcm") == 415


def test_without_the_token_nothing_is_told(open_door: OpenDoor, capfd: pytest.CaptureFixture[str]) -> None:
    client = open_door().client
    del client.headers["Authorization"]
    assert client.get("/health").json()["status"] == "ready"
    asked = (("GET", "/jobs"), ("GET", "/events"), ("POST", "/instances"), ("GET", "/none"))
    for shown in (None, "Bearer wrong", "Bearer", TOKEN, f"Basic {TOKEN}", "", f"Bearer {TOKEN}x"):
        for method, path in asked:
            answer = client.request(method, path, headers={} if shown is None else {"Authorization": shown})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/instances", "/instances/paths"):
        large = client.post(path, content=b"x" * 20_000_000)
        assert large.status_code == 401, "told, though nobody wants the body"
    said = capfd.readouterr()
    assert TOKEN not in said.out + said.err


def test_what_is_too_large_is_refused_however_it_is_sent(open_door: OpenDoor) -> None:
    door = open_door(node={"max_instance_mb": 1})
    large = b"\0" * 128 + b"DICM" + b"x" * 3_000_000
    for content in (large, iter([large[:1_500_000], large[1_500_000:]])):
        assert door.client.post("/instances", content=content, headers=DICOM).status_code == 413
    much = b'{"paths": ["/' + b"x" * 5_000_000 + b'"]}'
    answer = door.client.post("/instances/paths", content=much, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert door.client.get("/jobs", headers={"X-Huge": "x" * 150_000}).status_code == 431
    assert door.client.get("/health").status_code == 200
    assert door.files() == []


def test_headers_that_are_too_large_are_told_so_in_however_many_pieces_they_come(open_door: OpenDoor) -> None:
    door = open_door()
    url = door.client.base_url
    large = b"GET /api/v1/jobs HTTP/1.1\r\nHost: node\r\nX-Huge: " + b"x" * 150_000 + b"\r\n\r\n"
    with socket.create_connection((url.host, url.port or 80), timeout=20) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for first in range(0, len(large), 30_000):
            peer.sendall(large[first : first + 30_000])
            time.sleep(0.05)
        assert peer.recv(64).startswith(b"HTTP/1.1 431 ")


def test_a_full_disk_and_a_dead_one_are_told_apart_from_faults(open_door: OpenDoor, instance: Path) -> None:
    content = instance.read_bytes()
    full = open_door(minimum_free_bytes=1 << 60)
    answer = full.client.post("/instances", content=content, headers=DICOM)
    assert answer.status_code == 507
    assert "minimum_free_mb" in answer.json()["detail"]
    dead = open_door()
    shutil.rmtree(dead.spool.root)
    dead.spool.root.write_text("no folder")
    assert dead.client.post("/instances", content=content, headers=DICOM).status_code == 507


def test_files_are_read_below_listed_folders_only(open_door: OpenDoor, tmp_path: Path) -> None:
    allowed, elsewhere = tmp_path / "allowed", tmp_path / "elsewhere"
    inside, outside = ct_series(allowed, 401, slices=3), ct_series(elsewhere, 402, slices=1)
    (allowed / "link.dcm").symlink_to(outside[0])
    (allowed / "folder").symlink_to(elsewhere, target_is_directory=True)
    (allowed / "within.dcm").symlink_to(inside[2])
    (allowed / "notes.txt").write_text("no DICOM")
    os.mkfifo(allowed / "pipe")
    door = open_door(http={"paths": [str(allowed)]})

    def asked(*paths: object) -> tuple[int, dict[str, list[dict[str, str]]]]:
        answer = door.client.post("/instances/paths", json={"paths": [str(path) for path in paths]})
        return answer.status_code, answer.json()

    for path in (
        outside[0],
        allowed / "link.dcm",
        allowed / "folder" / outside[0].name,
        f"{allowed}/../elsewhere/{outside[0].name}",
        "/etc/passwd",
        f"{allowed}-not",
    ):
        assert asked(inside[0], path)[0] == 403, path
    assert door.files() == [], "none was read"
    missing, pipe = allowed / "none.dcm", allowed / "pipe"
    status, said = asked(*inside[:2], allowed / "within.dcm", missing, allowed / "notes.txt", pipe, allowed)
    assert status == 201
    assert [item["outcome"] for item in said["instances"]] == ["new"] * 3
    assert [item["path"] for item in said["refused"]] == [
        str(path) for path in (missing, allowed / "notes.txt", pipe, allowed)
    ]
    assert all(item["reason"] for item in said["refused"])
    assert asked("relative.dcm")[0] == 422
    assert open_door().client.post("/instances/paths", json={"paths": [str(inside[0])]}).status_code == 403
