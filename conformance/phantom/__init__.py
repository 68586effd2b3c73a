"""What proves the digital spine: pictures beside real images, and numbers measured by other code.

One module per part of the phantom, each with `draw(data, out)`: it writes PNGs to the folder `out`, with a
JSON beside them that says what was measured, and returns the paths. `data` is the folder of real images
and shapes; it is read, never needed by the phantom. Run all or some of them:

    python -m conformance.phantom --data ../shared/data --out pictures [curves surfaces ct ...]
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Protocol, cast

MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "curves": "spacing and curvature against real spines",
        "surfaces": "shape of the vertebrae against real surfaces",
        "ct": "CT beside real CT, Hounsfield units per tissue",
        "radiographs": "radiographs beside real ones",
        "mr": "MR beside real MR, intensities per tissue",
        "truth": "heights, volumes and points of the truth measured again",
    }
)
"""What can be drawn, in the order in which it is drawn, with what it shows."""

_FILES: Final = {"truth": "truth_checks"}


class Draw(Protocol):
    """The one function of a part's module."""

    def __call__(self, data: Path, out: Path) -> list[Path]:
        """Write pictures and measurements to `out`.

        Args:
            data: folder of real images and shapes.
            out: folder that exists.

        Returns:
            What was written.

        Raises:
            FileNotFoundError: real data that the part compares with are not in `data`.
        """


class PartMissing(Exception):
    """A part of the phantom that has no pictures in this tree."""


def drawing(name: str) -> Draw:
    """The function that draws one part.

    Args:
        name: a key of `MODULES`.

    Raises:
        PartMissing: there is no such module here; an error inside a module that exists is raised as it is.
    """
    path = f"{__name__}.{_FILES.get(name, name)}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as missing:
        if missing.name != path:
            raise
        raise PartMissing(f"{name}: {path} does not exist") from missing
    return cast("Draw", module.draw)
