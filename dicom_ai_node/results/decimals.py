"""Numbers as DICOM writes them in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydicom.valuerep import DSfloat


def decimals(values: Sequence[float] | npt.NDArray[np.floating]) -> list[DSfloat]:
    """Decimal strings of at most 16 characters (PS3.5 6.2); rounding noise around zero is dropped."""
    return [DSfloat(round(float(value), 10) + 0.0, auto_format=True) for value in values]
