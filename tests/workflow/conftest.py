"""An archive and a node for each test that asks for one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# The analysis process imports `fast_steps` by name; so do we.
sys.path.insert(0, str(Path(__file__).resolve().parent))
# Studies of known truth live beside the package, in conformance/.
sys.path.insert(1, str(Path(__file__).resolve().parents[2]))

from peers import Archive, NodeProcess, write_config


@pytest.fixture
def archive() -> Iterator[Archive]:
    archive = Archive()
    archive.start()
    yield archive
    archive.stop()


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Makes a node that delivers to the given archives; `start` starts it."""
    made: list[NodeProcess] = []

    def make(*archives: Any, reborn: bool = False, **settings: Any) -> NodeProcess:
        config = write_config(tmp_path / f"node-{len(made)}", archives, **settings)
        node = NodeProcess(config, reborn=reborn)
        made.append(node)
        return node

    yield make
    for node in made:
        node.close()
