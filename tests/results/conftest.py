"""Studies of known truth, encoded once per geometry, for all tests of result objects."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
if str(REPOSITORY) not in sys.path:
    # The studies live beside the package, in conformance/; `pytest` alone does not look there.
    sys.path.insert(0, str(REPOSITORY))

from conformance import checks  # noqa: E402
from conformance.studies import GRIDS, Study, make_study  # noqa: E402
from dicom_ai_node.results.encode import ResultObject, encode  # noqa: E402


@dataclass(frozen=True)
class Encoded:
    """A study with its results on disk."""

    study: Study
    objects: list[ResultObject]
    folder: Path

    def read(self, name: str) -> pydicom.FileDataset:
        return pydicom.dcmread(self.folder / f"{name}.dcm")


@pytest.fixture(scope="session")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Encoded]:
    """By the name of a grid."""
    made: dict[str, Encoded] = {}

    def by_name(name: str) -> Encoded:
        if name not in made:
            folder = tmp_path_factory.mktemp("study")
            study = make_study(next(grid for grid in GRIDS if grid.name == name), folder / "source")
            pictures = name == "axial"
            objects = encode(
                study.analysis, study.source, folder / "results", overlay=pictures, secondary_capture=pictures
            )
            made[name] = Encoded(study, objects, folder / "results")
        return made[name]

    return by_name


@pytest.fixture(scope="session")
def with_tools() -> Callable[..., list[str]]:
    """Calls a check; skips where the program that it needs is not installed."""

    def call(check: Callable[..., list[str]], *arguments: object) -> list[str]:
        try:
            return check(*arguments)
        except checks.ToolMissing as error:
            pytest.skip(f"{error} is not installed")

    return call


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """Runs a program of another project; skips where it is not installed, fails where it fails."""

    def run(name: str, *arguments: object) -> str:
        try:
            status, output = checks.run_tool(name, *arguments)
        except checks.ToolMissing:
            pytest.skip(f"{name} is not installed")
        assert status == 0, output[-2000:]
        return output

    return run
