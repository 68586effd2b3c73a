"""A listening node with its spool, and DCMTK's tools that call it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_ai_node.config import settings_from
from dicom_ai_node.imaging.write_ct import write_ct_series
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.node.scp import StorageScp

AXIAL = np.array([[0.0, 0, 2.0, -50], [0, 2.0, 0, -60], [4.0, 0, 0, -300], [0, 0, 0, 1]])


@dataclass
class Listening:
    """A running SCP."""

    scp: StorageScp
    spool: Spool

    @property
    def port(self) -> int:
        return self.scp.port

    @property
    def files(self) -> list[Path]:
        return sorted(self.spool.root.glob("*/*/*.dcm"))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def tool(
        self, name: str, *files: Path, options: Sequence[str] = ("-aec", "DICOM_AI", "-aet", "SENDER")
    ) -> subprocess.CompletedProcess[str]:
        """One of DCMTK's network tools, calling the node."""
        return subprocess.run(
            [f"/usr/bin/{name}", "-v", *options, "127.0.0.1", str(self.port), *map(str, files)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "TCP_NODELAY": "1"},
            check=False,
        )


@pytest.fixture
def listen(tmp_path: Path) -> Iterator[Callable[..., Listening]]:
    """Starts SCPs, each with a spool of its own, and stops them in the end."""
    with ExitStack() as stack:
        count = 0

        def start(minimum_free_bytes: int = 0, **sections: Any) -> Listening:
            nonlocal count
            count += 1
            sections["node"] = {"host": "127.0.0.1", "port": 0, **sections.get("node", {})}
            spool = Spool(tmp_path / f"spool-{count}", minimum_free_bytes=minimum_free_bytes)
            return Listening(stack.enter_context(StorageScp(settings_from(sections), spool)), spool)

        yield start


@pytest.fixture
def node(listen: Callable[..., Listening]) -> Listening:
    """An SCP with the default settings."""
    return listen()


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    """Six CT slices of 64 x 64 pixels."""
    voxels = np.arange(6 * 64 * 64, dtype=np.int16).reshape(6, 64, 64)
    return write_ct_series(voxels, AXIAL, tmp_path / "series")
