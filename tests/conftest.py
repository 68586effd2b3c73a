"""Fixtures that every room of the tests may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

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
