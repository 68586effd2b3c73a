"""Which signal of an MR is shown black, and which white."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

PERCENTILES: Final = (1.0, 99.0)
"""Fat beside a surface coil is brighter than all else, and a window up to it would show the spine dark."""


def signal_window(voxels: npt.NDArray[Any]) -> tuple[float, float]:
    """Signals that become black and white: all of a series is shown alike, as its slices are compared.

    Args:
        voxels: of the series, any shape.
    """
    low, high = (float(value) for value in np.percentile(voxels.reshape(-1)[::7], PERCENTILES))
    return low, max(high, low + 1e-6)
