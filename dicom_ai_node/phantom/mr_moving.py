"""What pulses while k-space is read: large vessels and the cerebrospinal fluid."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.solids import Tube
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

PULSE: Final = {Tissue.ARTERY: 1.0, Tissue.VEIN: 0.35, Tissue.HEART: 1.0}
"""How much the signal of a tissue changes with the heart beat, relative to an artery."""


class _Pulse:
    def tissue(self, matter: Matter) -> float:
        return PULSE.get(matter.tissue, 0.0)

    def bone(self, density: Tensor | float, marrow: Marrow) -> float:  # noqa: ARG002
        return 0.0

    def grain(self, matter: Matter) -> float:  # noqa: ARG002
        return 0.0


def pulsing_share(spine: Spine, grid: Grid) -> Tensor | None:
    """How strongly every voxel pulses, 0..1 in the grid's shape; None where nothing does."""
    value = torch.zeros(grid.shape, dtype=torch.float32, device=grid.device)
    canvas = Canvas(grid, value, _Pulse())
    for solid in spine.trunk.behind:
        if isinstance(solid, Tube) and solid.matter.tissue in PULSE:
            paint_solid(canvas, solid)
    return value if bool(value.any()) else None
