"""The other series of an MR study, brought onto the patient of the one in which bodies were found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.mr_pairing import Role
from dicom_ai_node.imaging.registration import register, resampled
from dicom_ai_node.imaging.resample import HasGrid
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.report import Reason

ROLE_NAMES: Final[Mapping[Role, str]] = {"t2": "T2", "t1": "T1", "stir": "STIR", "fat": "Dixon fat image"}
"""How a reader is told of a series."""


@dataclass(frozen=True, eq=False)
class Partner:
    """A series and where its patient lay.

    Attributes:
        volume: the series as it was measured.
        transform: 4x4, LPS millimetres of the series with the bodies to LPS millimetres of this one.
    """

    volume: Volume
    transform: npt.NDArray[np.float64]

    def on(self, grid: HasGrid) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """The signal on another grid of the series with the bodies, 0 where it does not reach; and where it
        does.
        """
        return resampled(self.volume, grid, self.transform)


def brought_together(series: Mapping[Role, Volume]) -> tuple[dict[Role, Partner], list[Reason]]:
    """Every series with its motion against the first, and why some could not be used.

    Args:
        series: of one place and one frame of reference; bodies were found in the first.

    Returns:
        The series by role, the first without any motion; and a reason per series that is left out: a motion
        that fails a check is not used (`imaging.registration`).
    """
    (own, fixed), *others = series.items()
    partners = {own: Partner(fixed, np.eye(4))}
    reasons = []
    for role, moving in others:
        try:
            partners[role] = Partner(moving, register(fixed, moving).transform)
        except NotAnalysable as error:
            reasons.append(Reason("registration", f"{ROLE_NAMES[role]} was not used: {error}"))
    return partners, reasons
