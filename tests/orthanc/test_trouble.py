"""Whatever is missing, killed or wrong: Orthanc goes on, a series says why it waits, none is missed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import peers
import psutil
import pytest
from peers import PATIENCE_S, NodeProcess

from tests.orthanc.spine_orthanc import (
    PYTHON_PLUGIN,
    REPOSITORY,
    SCRIPT,
    SpineOrthanc,
    address,
    small_ct,
    uids,
)

MakeOrthanc = Callable[..., SpineOrthanc]

SEED = int(os.environ.get("DICOM_AI_NODE_SEED", str(time.time_ns() % 1_000_000)))
"""The moments of the kills are drawn at random; a failure names the seed."""


def restarted(node: NodeProcess) -> None:
    node.start()
    node.wait_for("ready")


def assert_analysed_once(archive: SpineOrthanc, node: NodeProcess, study: str, series: str) -> None:
    archive.wait_for_state(series, "delivered")
    assert archive.modalities(study) == ["CT", "OT", "SEG", "SR"], f"seed {SEED}"
    jobs = [item.job for item in node.summaries() if item.job.series_instance_uid == series]
    assert [job.generation for job in jobs] == [1], f"seed {SEED}"


@pytest.mark.parametrize("moment", ["before it is stable", "while it is handed over", "while it is analysed"])
def test_an_orthanc_that_is_killed_goes_on_where_it_was(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path, moment: str
) -> None:
    archive = make_orthanc(address(node), {"StableAge": 2})
    archive.start()
    number = 2000 + len(moment)
    study, series = uids(paths := small_ct(tmp_path, number, words="slow"))
    archive.store(paths)
    if moment == "while it is handed over":
        archive.wait_for_state(series, "queued", "receiving", "waiting", "analysing")
    elif moment == "while it is analysed":
        archive.wait_for_state(series, "analysing", "delivering")
    time.sleep(random.Random(SEED).uniform(0.0, 0.2))
    archive.stop()
    archive.start()
    assert_analysed_once(archive, node, study, series)


def test_a_node_that_is_killed_and_away_for_a_while_gets_everything(
    archive: SpineOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    first = uids(paths := small_ct(tmp_path / "first", 2100, words="slow"))
    archive.store(paths)
    archive.wait_for_state(first[1], "analysing", "waiting")
    node.kill()
    archive.wait(archive.status, lambda status: bool(status["node"]["problem"]))
    second = uids(paths := small_ct(tmp_path / "second", 2101))
    archive.store(paths)
    # Looked at without a pause: it must not be said to wait for the node before it is known to want it.
    deadline = time.monotonic() + PATIENCE_S
    while not (said := archive.state(second[1]))["reasons"]:
        assert time.monotonic() < deadline, f"still {said}"
    assert said["state"] == "queued"
    assert "does not answer" in said["reasons"][0]
    assert "does not answer" in archive.status()["node"]["problem"]
    assert archive.status()["queue"]["series"] == 2
    restarted(node)
    for study, series in (first, second):
        assert_analysed_once(archive, node, study, series)
    assert archive.status()["node"]["problem"] is None


def test_both_killed_at_once_miss_nothing(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    archive = make_orthanc(address(node))
    archive.start()
    found = [uids(small_ct(tmp_path / str(number), 2200 + number)) for number in range(6)]
    archive.store(sorted(tmp_path.glob("*/*.dcm")))
    time.sleep(random.Random(SEED).uniform(0.5, 3.0))
    archive.stop()
    node.kill()
    archive.start()
    restarted(node)
    for study, series in found:
        assert_analysed_once(archive, node, study, series)


def test_what_came_while_the_plugin_was_away_is_analysed_and_what_was_there_before_is_not(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    archive = make_orthanc(address(node))
    with without_plugin(archive):
        old = uids(paths := small_ct(tmp_path / "old", 2300))
        archive.store(paths)
    archive.start()
    archive.wait(archive.status, lambda status: status["changes"]["read"] > 0)
    archive.terminate()
    with without_plugin(archive):
        new = uids(paths := small_ct(tmp_path / "new", 2301))
        archive.store(paths)
    archive.start()
    assert_analysed_once(archive, node, *new)
    assert archive.state(old[1])["state"] == "none"


@contextmanager
def without_plugin(archive: SpineOrthanc) -> Iterator[None]:
    """The same Orthanc as it was before the installation; it is killed at the end."""
    config = archive.config
    text = config.read_text("utf-8")
    config.write_text(json.dumps({**json.loads(text), "Plugins": []}), "utf-8")
    archive.start()
    yield
    archive.stop()
    config.write_text(text, "utf-8")


def test_studies_that_were_there_before_are_analysed_where_that_is_wanted(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    archive = make_orthanc({**address(node), "Existing": True})
    with without_plugin(archive):
        study, series = uids(paths := small_ct(tmp_path, 2310))
        archive.store(paths)
    archive.start()
    assert_analysed_once(archive, node, study, series)


def test_a_wrong_token_is_named_as_the_reason(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    archive = make_orthanc({**address(node), "Token": "another-token-than-the-node-knows"})
    archive.start()
    study, series = uids(paths := small_ct(tmp_path, 2400))
    archive.store(paths)
    said = archive.wait(lambda: archive.state(series), lambda said: bool(said["reasons"]))
    assert said["state"] == "queued"
    assert "SpineNode.Token" in said["reasons"][0]
    assert archive.modalities(study) == ["CT"]
    assert "another-token" not in json.dumps(archive.status()) + archive.log.read_text()


def test_a_node_without_space_is_asked_again(
    archive: SpineOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    with changed(node, "minimum_free_mb = 1", "minimum_free_mb = 1000000000"):
        study, series = uids(paths := small_ct(tmp_path, 2410))
        archive.store(paths)
        said = archive.wait(
            lambda: archive.state(series), lambda said: any("507" in reason for reason in said["reasons"])
        )
        assert said["state"] == "queued"
    assert_analysed_once(archive, node, study, series)


@contextmanager
def changed(node: NodeProcess, setting: str, other: str) -> Iterator[None]:
    """The node restarted with another setting, and with its own at the end."""
    text = node.config.read_text("utf-8")
    assert text.count(setting) == 1
    node.kill()
    node.config.write_text(text.replace(setting, other), "utf-8")
    try:
        restarted(node)
        yield
        node.kill()
    finally:
        node.config.write_text(text, "utf-8")
    restarted(node)


def test_over_tls_the_node_must_be_the_one_that_its_certificate_says(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "node.crt", tmp_path / "node.key"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=node"
    )
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    spine = {**address(node), "Url": address(node)["Url"].replace("http:", "https:")}
    archive = make_orthanc(spine)
    files = f'certificate = "{certificate}"\nprivate_key = "{key}"'
    with changed(node, "[http]", f"[http]\n{files}"):
        archive.start()
        study, series = uids(paths := small_ct(tmp_path / "ct", 2420))
        archive.store(paths)
        said = archive.wait(lambda: archive.state(series), lambda said: bool(said["reasons"]))
        assert "CERTIFICATE_VERIFY_FAILED" in said["reasons"][0]
        assert archive.terminate() == 0
        archive.set_spine({**spine, "CertificateAuthority": str(certificate)})
        archive.start()
        assert_analysed_once(archive, node, study, series)


def test_who_may_not_write_in_orthanc_cannot_start_an_analysis(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.lua"
    rules.write_text(
        "function IncomingHttpRequestFilter(method, uri, ip, username, httpHeaders)\n"
        "  return method == 'GET' or username == 'doctor'\n"
        "end\n"
    )
    users = {"AuthenticationEnabled": True, "RegisteredUsers": {"doctor": "d", "reader": "r"}}
    archive = make_orthanc(
        address(node), {**users, "LuaScripts": [str(rules)], "HttpVerbose": False}, user="doctor:d"
    )
    archive.start()
    _, series = uids(paths := small_ct(tmp_path, 2500))
    archive.store(paths)
    first = archive.wait_for_state(series, "delivered")
    analyse = f"spine/series/{first['series']}/analyse"
    archive.user = None
    assert archive.ask("GET", "spine/status")[0] == 401
    assert archive.ask("GET", f"spine/series/{first['series']}")[0] == 401
    assert archive.ask("POST", analyse, b"")[0] == 401
    archive.user = "reader:r"
    assert archive.get(f"spine/series/{first['series']}")["state"] == "delivered"
    assert archive.ask("POST", analyse, b"")[0] == 403
    assert archive.get(f"spine/series/{first['series']}")["job"] == first["job"]
    archive.user = "doctor:d"
    assert archive.ask("POST", analyse, b"")[0] == 202


@pytest.mark.parametrize(
    ("spine", "reason"),
    [
        ({"Adress": "http://127.0.0.1:1"}, "SpineNode.Adress is not known"),
        ({"Url": "http://203.0.113.5:8080"}, "unencrypted"),
        ({"Exclude": [{"Modality": "("}]}, "SpineNode rule Modality"),
        ({"TokenFile": "/nowhere/token"}, "SpineNode.TokenFile"),
        ({"Modalities": "CT"}, "SpineNode.Modalities"),
    ],
)
def test_wrong_settings_leave_orthanc_running_and_say_what_is_wrong(
    make_orthanc: MakeOrthanc, spine: dict[str, object], reason: str
) -> None:
    archive = make_orthanc(spine)
    archive.start()
    assert reason in archive.status()["last_error"]
    assert archive.status()["running"] is False
    assert reason in archive.log.read_text()
    assert archive.terminate() == 0


def test_debians_own_configuration_needs_the_two_files_and_one_line(
    node: NodeProcess, make_orthanc: MakeOrthanc, tmp_path: Path
) -> None:
    stock = Path("/etc/orthanc")
    if not (stock / "python.json").exists():
        pytest.skip("not Debian's Orthanc")
    archive = make_orthanc({})
    own = json.loads((archive.config).read_text("utf-8"))
    etc = archive.config
    etc.unlink()
    etc.mkdir()
    text = (stock / "orthanc.json").read_text("utf-8")
    for key in ("StorageDirectory", "IndexDirectory", "DicomPort", "HttpPort", "StableAge"):
        text, count = re.subn(rf'"{key}" : ("[^"]*"|\d+)', f'"{key}" : {json.dumps(own[key])}', text)
        assert count == 1, key
    (etc / "orthanc.json").write_text(
        text.replace('"/usr/share/orthanc/plugins/"', f'"{PYTHON_PLUGIN}"'), "utf-8"
    )
    for name in ("spine_node.py", "spine_node.json"):
        shutil.copy(SCRIPT.parent / name, etc)
    python = (stock / "python.json").read_text("utf-8")
    (etc / "python.json").write_text(
        re.sub(r'"PythonScript" : "[^"]*"', f'"PythonScript" : "{etc / "spine_node.py"}"', python), "utf-8"
    )
    snippet = (etc / "spine_node.json").read_text("utf-8")
    snippet = re.sub(r'"Url" : "[^"]*"', f'"Url" : "{address(node)["Url"]}"', snippet)
    token = tmp_path / "token"
    token.write_text(address(node)["Token"] + "\n", "utf-8")
    snippet = re.sub(r'"TokenFile" : "[^"]*"', f'"TokenFile" : "{token}"', snippet)
    (etc / "spine_node.json").write_text(snippet, "utf-8")
    archive.start()
    study, series = uids(paths := small_ct(tmp_path, 2600))
    archive.store(paths)
    assert_analysed_once(archive, node, study, series)


def test_instances_are_named_by_path_where_both_see_the_same_storage(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    archive = make_orthanc(address(node))
    archive.set_spine({**address(node), "SharedStorage": str(archive.storage)})
    archive.start()
    study, series = uids(paths := small_ct(tmp_path, 2700))
    archive.store(paths)
    assert_analysed_once(archive, node, study, series)
    assert "instances are sent" not in archive.log.read_text()


def test_instances_are_sent_where_the_node_may_not_read_the_storage(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    archive = make_orthanc({**address(node), "SharedStorage": "/srv/elsewhere"})
    archive.start()
    study, series = uids(paths := small_ct(tmp_path, 2710))
    archive.store(paths)
    assert_analysed_once(archive, node, study, series)


def test_a_node_of_orthancs_own_starts_and_ends_with_it(
    make_orthanc: MakeOrthanc, node: NodeProcess, tmp_path: Path
) -> None:
    node.kill()
    command = [sys.executable, str(Path(peers.__file__).parent / "fast_node.py"), str(node.config)]
    archive = make_orthanc(
        {
            **address(node),
            "Command": ["env", f"PYTHONPATH={REPOSITORY}:{Path(peers.__file__).parent}", *command],
        }
    )
    try:
        archive.start()
        study, series = uids(paths := small_ct(tmp_path, 2800))
        archive.store(paths)
        assert_analysed_once(archive, node, study, series)
        child = own_node(archive)
        child.kill()
        archive.wait(lambda: own_node(archive), lambda found: found is not None and found.pid != child.pid)
        child = own_node(archive)
        assert archive.terminate() == 0
        assert not child.is_running()
        archive.start()
        child = archive.wait(lambda: own_node(archive), lambda found: found is not None)
        archive.stop()
        child.wait(timeout=PATIENCE_S)
    finally:
        archive.stop()
        restarted(node)


def own_node(archive: SpineOrthanc) -> psutil.Process | None:
    for child in psutil.Process(archive.pid).children():
        # One that was killed is a zombie until Orthanc has looked.
        with suppress(psutil.NoSuchProcess):
            if any("fast_node" in word for word in child.cmdline()):
                return child
    return None
