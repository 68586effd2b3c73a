"""Results by STOW-RS, and series by WADO-RS: against Orthanc's DICOMweb plugin, and servers that say no."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dicom_ai_node.config import DicomwebDestination
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.node.scu import Outcome, send
from dicom_ai_node.node.stow import StowSender, answers
from dicom_ai_node.workflow.job import State
from tests.web.conftest import HTTP, TOKEN, MakeInterface, OpenDoor
from tests.workflow.orthanc import DICOMWEB_PLUGIN, Orthanc, installed
from tests.workflow.peers import ct_series

PASSWORD = "a password for tests"


@pytest.fixture(scope="module")
def web_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Debian's Orthanc with its DICOMweb plugin, behind a password."""
    if not installed() or not Path(DICOMWEB_PLUGIN).exists():
        pytest.skip("Orthanc's DICOMweb plugin is not installed (apt-get install orthanc orthanc-dicomweb)")
    orthanc = Orthanc(tmp_path_factory.mktemp("orthanc"), PASSWORD)
    orthanc.start()
    yield orthanc
    orthanc.stop()


def test_orthanc_gives_a_series_and_gets_its_results_once_through_kills_and_absences(
    make_interface: MakeInterface, web_orthanc: Orthanc, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    login = f'url = "{web_orthanc.dicomweb}"\nuser = "node"\npassword_file = "{tmp_path / "password"}"'
    interface = make_interface(
        quiet_seconds=3600.0,
        more=f"""{HTTP}
        [[http.dicomweb]]
        {login}
        [[destinations]]
        name = "web"
        kind = "dicomweb"
        {login}
        retry_attempts = 1000
        retry_first_seconds = 0.5
        retry_growth = 1.0
        """,
    )
    paths = ct_series(tmp_path / "there", 420)
    assert all(outcome.stored for outcome in send(paths, web_orthanc))
    interface.start()
    client = interface.client
    root = "1.2.826.0.1.3680043.8.498.420"
    url = f"{web_orthanc.dicomweb}/studies/{root}.1/series/{root}.2"
    assert client.post("/instances/dicomweb", json={"url": url.replace(root, "1.2.3")}).status_code == 202
    for wrong, status in (
        ("http://127.0.0.1:9/studies/1/series/2", 403),
        (url.rpartition("/series")[0], 400),
    ):
        assert client.post("/instances/dicomweb", json={"url": wrong}).status_code == status
    assert client.post("/instances/dicomweb", json={"url": url}).json()["series_instance_uid"] == f"{root}.2"
    interface.node.wait_for("stored", destination="web")
    interface.node.kill()
    interface.start()
    (fetched,) = interface.node.wait_until_concluded()
    assert (fetched.state, fetched.destinations) == (State.DELIVERED, {"web": "stored"})

    (failed,) = interface.client.get("/instances/dicomweb").json()["fetches"]
    assert (failed["state"], "404" in failed["reason"]) == ("failed", True)

    web_orthanc.stop()
    series = interface.upload(ct_series(tmp_path / "brought", 421))[0]["series_instance_uid"]
    interface.client.post(f"/series/{series}/complete")
    interface.node.wait_for("delivery incomplete", destination="web")
    web_orthanc.start()
    interface.node.wait_until_concluded(2)
    states = [interface.client.get(f"/series/{uid}").json() for uid in (f"{root}.2", series)]
    found = {item["sop_instance_uid"] for state in states for item in state["results"]}
    instances = web_orthanc.instances()
    assert set(instances) - {f"{root}.3.{number + 1}" for number in range(len(paths))} == found
    assert len(found) == 6
    assert PASSWORD not in json.dumps(interface.node.lines)


@contextmanager
def saying(status: int, body: bytes = b"", location: str = "") -> Iterator[str]:
    """A server that says the same to whatever it is sent; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - so the library calls it

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sent(path: Path, url: str, **more: Any) -> Outcome:
    destination = DicomwebDestination(name="web", kind="dicomweb", url=url, **more)
    with StowSender([path], destination) as sender:
        return sender.store(path)


def said(reason: int | None) -> bytes:
    item = {"00081155": {"vr": "UI", "Value": ["1.2"]}}
    if reason is None:
        return json.dumps({"00081199": {"vr": "SQ", "Value": [item]}}).encode()
    item["00081197"] = {"vr": "US", "Value": [reason]}  # type: ignore[dict-item]
    return json.dumps({"00081198": {"vr": "SQ", "Value": [item]}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "stored", "words"),
    [
        (200, said(None), True, "HTTP 200"),
        (200, b"", True, "HTTP 200"),
        (202, said(None), True, "HTTP 202"),
        (202, said(0xA700), False, "0xA700"),
        (200, said(0xA900), False, "0xA900"),
        (409, said(0x0111), True, "has it already"),
        (409, said(0xC122), False, "0xC122"),
        (409, b"no idea", False, "no idea"),
        (503, b"back at\n noon", False, "HTTP 503 Service Unavailable: back at noon"),
        (400, b"[" * 100_000, False, "HTTP 400"),
        (302, b"", False, "HTTP 302"),
        (202, b"null", False, "HTTP 202"),
    ],
)
def test_what_an_archive_answers_is_heard_and_told_on(
    tmp_path: Path, status: int, body: bytes, stored: bool, words: str
) -> None:
    (path,) = ct_series(tmp_path, 422, slices=1)
    with saying(status, body, location="http://127.0.0.1:9/" if status == 302 else "") as url:
        outcome = sent(path, url)
    assert outcome.stored is stored
    assert words in outcome.text
    assert len(outcome.text) < 600


def test_an_absent_archive_is_asked_once(tmp_path: Path) -> None:
    paths = ct_series(tmp_path, 423, slices=2)
    with saying(200) as url:
        pass
    destination = DicomwebDestination(name="web", kind="dicomweb", url=url)
    with StowSender(paths, destination) as sender:
        first, second = (sender.store(path) for path in paths)
    assert (first.stored, second.stored) == (False, False)
    assert first.text == second.text
    assert url in first.text
    problem = answers(destination)
    assert problem is not None
    assert url in problem


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Makes a certificate of 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("certificates")

    def make(name: str) -> tuple[Path, Path]:
        files = folder / f"{name}.crt", folder / f"{name}.key"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        names = ["-subj", "/CN=node", "-addext", "subjectAltName=IP:127.0.0.1"]
        files_of = ["-out", str(files[0]), "-keyout", str(files[1])]
        subprocess.run([*command.split(), *names, *files_of], check=True, capture_output=True)
        return files

    return make


def test_over_tls_only_the_right_server_gets_anything_and_only_with_the_token(
    open_door: OpenDoor, certificate: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    (crt, key), (other, _) = certificate("node"), certificate("other")
    http = {"certificate": str(crt), "private_key": str(key)}
    door = open_door(http=http, verify=ssl.create_default_context(cafile=str(crt)))
    assert door.client.get("/health").status_code == 200
    (path,) = ct_series(tmp_path, 424, slices=1)
    url = f"{str(door.client.base_url).rstrip('/')}/dicomweb"
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "wrong").write_text("another-token-0123456789")
    token = tmp_path / "token"
    assert "certificate" in sent(path, url, token_file=token, ca_file=other).text.lower()
    assert "HTTP 401" in sent(path, url, token_file=tmp_path / "wrong", ca_file=crt).text
    assert door.files() == []
    assert sent(path, url, token_file=token, ca_file=crt).stored
    assert [bytes_of.name for bytes_of in door.files()]
    with pytest.raises(ConfigurationError, match="cannot be read"):
        sent(path, url, token_file=tmp_path / "none", ca_file=crt)
