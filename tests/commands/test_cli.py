"""The command line as others' scripts call it: names, exit codes, files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_ai_node import __version__
from dicom_ai_node.cli import COMMANDS, app
from dicom_ai_node.report import SpineReport
from dicom_ai_node.workflow import steps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow"))

import fast_steps
from peers import SLICES, ct_series

runner = CliRunner()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that take milliseconds instead of the networks."""
    monkeypatch.setattr(steps, "node_steps", fast_steps.fast_steps)


@pytest.fixture
def config(tmp_path: Path) -> list[str]:
    folder = tmp_path / "config"
    (folder / "data").mkdir(parents=True)
    (folder / "node.toml").write_text('[storage]\nfolder = "data"\n')
    return ["--config", str(folder / "node.toml")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    if not (Path(steps.__file__).parent.parent / "commands" / f"{name}.py").exists():
        pytest.skip(f"{name} is not there yet")
    shown = runner.invoke(app, [name, "--help"])
    assert shown.exit_code == 0, shown.output
    assert "Usage" in shown.stdout


def test_the_version_is_printed() -> None:
    assert runner.invoke(app, ["--version"]).stdout.strip() == __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["process"],
        ["process", "no/such/folder", "--out", "x"],
        ["route", "--nonsense"],
        ["bench", "nothing"],
        ["jobs", "list", "--config", "no/such/node.toml"],
        ["demo", "--study", "no/such/folder"],
    ],
)
def test_wrong_use_exits_with_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text("[node]\nprot = 104\n")
    said = runner.invoke(app, ["route", str(tmp_path), "--config", str(config)])
    assert said.exit_code == 2
    assert "prot" in said.stderr
    assert "port" in said.stderr


def test_route_says_what_would_happen_and_does_nothing(tmp_path: Path, config: list[str]) -> None:
    ct_series(tmp_path / "in" / "good", 1)
    ct_series(tmp_path / "in" / "scout", 2, words="scout")
    ct_series(tmp_path / "in" / "short", 3, slices=3)
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    before = sorted(path for path in tmp_path.rglob("*"))
    said = runner.invoke(
        app, ["route", str(tmp_path / "in"), "--json", str(tmp_path / "routes.json"), *config]
    )
    assert said.exit_code == 0, said.output
    routes = json.loads((tmp_path / "routes.json").read_text())
    ended = {item["description"] or str(item["files"]): (item["pipeline"], item["state"]) for item in routes}
    assert ended == {
        str(SLICES): ("ct-volume", None),
        "scout": (None, "not-applicable"),
        "3": (None, "not-analysable"),
        "1": (None, "not-applicable"),
    }
    assert all(item["reasons"] for item in routes)
    assert "notes.txt" in said.stdout
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "routes.json") == before


@pytest.mark.usefixtures("fast")
def test_process_writes_a_folder_per_series_and_the_list_of_reports(
    tmp_path: Path, config: list[str]
) -> None:
    ct_series(tmp_path / "in" / "a", 1)
    ct_series(tmp_path / "in" / "b", 2)
    out, reports_file = tmp_path / "out", tmp_path / "reports.json"
    arguments = ["process", str(tmp_path / "in"), "--out", str(out), "--json", str(reports_file), *config]
    said = runner.invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert sorted(path.name for path in out.iterdir()) == ["ct-1", "ct-2"]
    assert {path.name for path in (out / "ct-1").iterdir()} >= {"sr.dcm", "seg.dcm"}
    reports = [SpineReport.from_dict(item) for item in json.loads(reports_file.read_text())]
    assert [report.status for report in reports] == ["analysed", "analysed"]
    assert "L1" in said.stdout


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    ("words", "slices", "code"),
    [
        ("plain", SLICES, 0),
        ("refuse", SLICES, 3),
        ("plain", 3, 3),
        ("scout", SLICES, 3),
        ("broken", SLICES, 1),
    ],
)
def test_the_exit_code_says_how_it_ended(
    tmp_path: Path, config: list[str], words: str, slices: int, code: int
) -> None:
    ct_series(tmp_path / "in", 1, slices=slices, words=words)
    arguments = ["process", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *config]
    said = runner.invoke(app, [*arguments, "--json", str(tmp_path / "reports.json")])
    assert said.exit_code == code, said.output
    if code != 1:
        found = json.loads((tmp_path / "reports.json").read_text())
        assert len(found) == (words != "scout")
        assert all(item["reasons"] for item in found if item["status"] == "not-analysable")


@pytest.mark.usefixtures("fast")
def test_process_replaces_its_own_results_and_nobody_elses(tmp_path: Path, config: list[str]) -> None:
    ct_series(tmp_path / "in", 1)
    arguments = ["process", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *config]
    assert runner.invoke(app, arguments).exit_code == 0
    first = (tmp_path / "out" / "ct-1" / "sr.dcm").read_bytes()
    assert runner.invoke(app, arguments).exit_code == 0
    assert (tmp_path / "out" / "ct-1" / "sr.dcm").read_bytes() == first
    (tmp_path / "other" / "ct-1").mkdir(parents=True)
    (tmp_path / "other" / "ct-1" / "thesis.txt").write_text("mine")
    refused = runner.invoke(app, [*arguments[:3], str(tmp_path / "other"), *config])
    assert refused.exit_code == 2
    assert (tmp_path / "other" / "ct-1" / "thesis.txt").read_text() == "mine"


def test_doctor_names_the_bundle_that_a_setting_needs(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    (tmp_path / "models").mkdir()
    config.write_text(
        '[routes.ct]\nsagittal = false\ndiseases = true\n[models]\nmodels_dir = "models"\n[node]\nport = 0\n'
    )
    runner.invoke(app, ["doctor", "--config", str(config), "--json", str(tmp_path / "found.json")])
    found = {item["what"]: item["verdict"] for item in json.loads((tmp_path / "found.json").read_text())}
    assert found["model ct-classify"] == "missing"
    assert "model ct-detect" not in found


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    priors = '[priors]\nae_title = "NOBODY"\nhost = "127.0.0.1"\nport = 1\n'
    config.write_text(
        f'[node]\nport = 0\n{priors}[storage]\nfolder = "data"\n[models]\nmodels_dir = "nothing"\n'
    )
    said = runner.invoke(app, ["doctor", "--config", str(config), "--json", str(tmp_path / "found.json")])
    found = {item["what"]: item["verdict"] for item in json.loads((tmp_path / "found.json").read_text())}
    assert said.exit_code == 1
    assert found["models"] == "missing"
    assert "not ready: models" in said.stdout
    assert {"Python", "torch", "device", "codecs", "disk", "port", "destinations", "validators"} <= set(found)
    assert found["priors"] == "note"
    assert found["codecs"] == "ok"
    assert found["disk"] in ("ok", "note")
