"""What a viewer shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def rendered(tool: Callable[..., str], path: Path, state: Path, folder: Path) -> npt.NDArray[np.float64]:
    """The film as DCMTK shows it under a presentation state, 0 to 255."""
    tool("dcmp2pgm", "-p", state, path, folder / "shown.pgm")
    with Image.open(folder / "shown.pgm") as picture:
        return np.asarray(picture, dtype=np.float64)
