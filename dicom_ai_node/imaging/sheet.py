"""An image that findings are drawn on, and where the bodies are in it; `results/overview` draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.report import Vertebra

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Body:
    """One vertebra in the image.

    Attributes:
        row: of its centre, in pixels.
        mask: which pixels show it, shape of the image.
        points: the six points [row, column] in pixels, shape (6, 2); None where not known.
    """

    vertebra: Vertebra
    row: float
    mask: Mask
    points: npt.NDArray[np.float64] | None


@dataclass(frozen=True)
class Sheet:
    """The image that is drawn on.

    Attributes:
        grey: uint8, shape (rows, columns).
        kind: what it shows, a curved sagittal reformat or a radiograph.
        letters: where left, right, top and bottom edge lie in the patient; empty where not known.
        spacing_mm: of its pixels; None where lengths in the patient are not known.
    """

    grey: npt.NDArray[np.uint8]
    kind: Literal["reformat", "film"]
    letters: tuple[str, str, str, str]
    spacing_mm: float | None
