"""A node that speaks HTTP, and an archive, shared by the tests of a module."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from dicom_ai_node.config import settings_from
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.node.store import Receiver
from dicom_ai_node.web.inside import Inside
from dicom_ai_node.web.server import HttpServer
from tests.workflow.peers import PATIENCE_S, Archive, NodeProcess, write_config

Events = Iterator[tuple[str, dict[str, Any]]]

TOKEN = "a-token-for-tests-0123456789"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
HTTP = f"""
[http]
enabled = true
port = 0
token = "{TOKEN}"
"""


@dataclass
class Interface:
    """A node process and a client that has its token."""

    node: NodeProcess
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        told = [line for line in self.node.lines if line["event"] == "listening for HTTP"][-1]
        return f"http://127.0.0.1:{told['port']}/api/v1"

    def start(self) -> None:
        self.node.start()
        self.node.wait_for("ready")
        self.clients.append(
            httpx.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=PATIENCE_S,
                trust_env=False,
            )
        )

    @property
    def client(self) -> httpx.Client:
        return self.clients[-1]

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.node.close()

    def upload(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        """Every file as one instance; what the node says to each."""
        said = []
        for path in paths:
            answer = self.client.post(
                "/instances", content=path.read_bytes(), headers={"Content-Type": "application/dicom"}
            )
            assert answer.status_code == 201, answer.text
            said.append(answer.json())
        return said

    def follow(self, last_event_id: str | None = None) -> Events:
        """Events as they come: id and state object. The first `next` begins to listen and gives none."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        with self.client.stream("GET", "/events", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            number = ""
            deadline = time.monotonic() + PATIENCE_S
            for line in answer.iter_lines():
                assert time.monotonic() < deadline, "nothing of this came"
                name, _, value = line.partition(": ")
                match name:
                    case "" if value == "listening":
                        yield "", {}
                    case "id":
                        number = value
                    case "data":
                        yield number, json.loads(value)

    def follow_until(self, series_uid: str, state: str, events: Events) -> list[str]:
        """The states that a series goes through, up to this one."""
        seen = []
        for _, said in events:
            if said.get("series_instance_uid") == series_uid:
                seen.append(said["state"])
                if said["state"] == state:
                    return seen
        raise AssertionError(f"the stream ended at {seen}")


MakeInterface = Callable[..., Interface]


@pytest.fixture(scope="module")
def make_interface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeInterface]:
    """Makes a node that speaks HTTP and delivers to the given archives; `start` starts it."""
    made: list[Interface] = []

    def make(*archives: Any, more: str = HTTP, **settings: Any) -> Interface:
        folder = tmp_path_factory.mktemp("node")
        interface = Interface(NodeProcess(write_config(folder, archives, more=more, **settings)))
        made.append(interface)
        return interface

    yield make
    for interface in made:
        interface.close()


@pytest.fixture(scope="module")
def web_archive() -> Iterator[Archive]:
    archive = Archive()
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture(scope="module")
def interface(make_interface: MakeInterface, web_archive: Archive) -> Interface:
    """A running node whose quiet time never ends: nothing happens that is not asked for."""
    found = make_interface(web_archive, quiet_seconds=3600.0)
    found.start()
    return found


@dataclass
class Door:
    """The interface without a coordinator: what comes in lies in its spool and nothing becomes of it."""

    spool: Spool
    client: httpx.Client

    def files(self) -> list[Path]:
        return sorted(self.spool.root.glob("*/*/*"))


OpenDoor = Callable[..., Door]


@pytest.fixture
def open_door(tmp_path: Path) -> Iterator[OpenDoor]:
    """Serves the interface in this process; `node`, `http` and `storage` are settings of these sections."""
    with ExitStack() as doors:

        def serve(*, minimum_free_bytes: int = 0, verify: Any = True, **sections: dict[str, Any]) -> Door:
            http = {"enabled": True, "port": 0, "token": TOKEN} | sections.pop("http", {})
            settings = settings_from({"http": http, **sections})
            spool = Spool(tmp_path / "spool", minimum_free_bytes=minimum_free_bytes)
            absent = cast("Any", None)
            receiver = Receiver(settings, spool)
            inside = Inside(settings, spool, receiver, absent, absent, absent, absent)
            server = HttpServer(settings)
            server.start(inside)
            doors.callback(server.stop)
            client = httpx.Client(
                base_url=server.url,
                headers=AUTHORIZED,
                timeout=PATIENCE_S,
                trust_env=False,
                verify=verify,
            )
            doors.enter_context(client)
            return Door(spool, client)

        yield serve
