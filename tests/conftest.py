"""Fixtures that every room of the tests may use."""

from __future__ import annotations

import os
import socket

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: each worker has a core, and threads beyond the cores wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings
from pynetdicom.transport import AssociationSocket

from tests.workflow.orthanc import Orthanc, installed

# Machines differ in speed: no deadline per example, and few enough of them for two cores.
settings.register_profile("node", max_examples=40, deadline=None)
settings.load_profile("node")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def pynetdicom_closes_its_sockets() -> Iterator[None]:
    """pynetdicom 3.0 shuts a socket down before it closes it, and does not close it if the peer was faster.

    What is left to the garbage collector is a ResourceWarning in whatever test runs by then.
    """

    def closed(self: AssociationSocket) -> None:
        if self.socket is not None:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AssociationSocket, "_shutdown_socket", closed)
        yield


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
