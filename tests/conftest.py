"""Fixtures that every room of the tests may use."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: each worker has a core, and threads beyond the cores wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.workflow.orthanc import Orthanc, installed

# Machines differ in speed: no deadline per example, and few enough of them for two cores.
settings.register_profile("node", max_examples=40, deadline=None)
settings.load_profile("node")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout; a clone elsewhere does without."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared data")
    return folder


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """Debian's Orthanc, running."""
    if not installed():
        pytest.skip("Orthanc is not installed (apt-get install orthanc)")
    orthanc = Orthanc(tmp_path / "orthanc")
    orthanc.start()
    yield orthanc
    orthanc.stop()
