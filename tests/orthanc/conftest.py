"""A node with fast steps, and an Orthanc that hands it studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.orthanc.spine_orthanc import PYTHON_PLUGIN, STORESCU, SpineOrthanc, address, node_with_http
from tests.workflow.orthanc import installed

from peers import NodeProcess  # isort: skip - found once spine_orthanc is imported


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    for program, package in ((PYTHON_PLUGIN, "orthanc-python"), (STORESCU, "dcmtk")):
        if not installed() or not program.exists():
            pytest.skip(f"{package} is not installed (apt-get install orthanc {package})")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """A running node; a test that kills it starts it again."""
    node = node_with_http(tmp_path_factory.mktemp("node"), paths=[tmp_path_factory.getbasetemp()])
    node.start()
    node.wait_for("ready")
    yield node
    node.close()


@pytest.fixture(scope="session")
def archive(node: NodeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpineOrthanc]:
    """A running Orthanc that hands its series to the node."""
    rules = {"Exclude": [{"SeriesDescription": "phantom|test object"}]}
    # As the README has them; other tests do without names.
    names = {
        "UserMetadata": {"SpineState": 4710, "SpineVersion": 4711, "SpineJob": 4712, "SpineDetails": 4713},
        "UserContentType": {
            "spine-report": [4710, "application/json"],
            "spine-overlay": [4711, "image/png"],
        },
    }
    archive = SpineOrthanc(tmp_path_factory.mktemp("orthanc"), {**address(node), **rules}, names)
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture
def make_orthanc(tmp_path: Path) -> Iterator[Callable[..., SpineOrthanc]]:
    """Makes an Orthanc with that section SpineNode; `start` starts it."""
    made: list[SpineOrthanc] = []

    def make(spine: dict[str, Any], further: dict[str, Any] | None = None, **more: Any) -> SpineOrthanc:
        made.append(SpineOrthanc(tmp_path / f"orthanc-{len(made)}", spine, further, **more))
        return made[-1]

    yield make
    for orthanc in made:
        orthanc.stop()
