"""What a receive coil, an uneven field and a saturation band do to the brightness of a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.spine import Spine

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Coil:
    """A row of loops under the patient's back, and what is mixed in from a coil on the belly.

    Attributes:
        radius_mm: of one loop: how deep it looks.
        pitch_mm: distance of the loops along the table.
        loops: how many, centred on the field of view.
        gap_mm: between skin and loop.
        front: sensitivity of the coil in front relative to that behind (0 for none).
        evened: 0 for the raw image, up to 1 for one divided by the coil's sensitivity (normalised).
    """

    radius_mm: float = 70.0
    pitch_mm: float = 100.0
    loops: int = 4
    gap_mm: float = 25.0
    front: float = 0.0
    evened: float = 0.0


def sensitivity(coil: Coil, grid: Grid, spine: Spine, center: Array) -> Tensor:
    """Sensitivity of the coil, 1 at the spine, on the grid's middle slice: shape (1, rows, columns).

    The field on the axis of a loop (Bernstein 2004, ch. 1), elements combined by the sum of squares.

    Args:
        coil: where the loops are.
        grid: of one or many parallel slices.
        spine: the back's skin decides where the coil lies.
        center: LPS mm of the middle of the field of view.
    """
    profile = spine.trunk.profile
    inside = np.linalg.inv(spine.trunk.frame) @ np.append(center, 1.0)
    row = int(np.clip((inside[2] - spine.trunk.bottom) / 2.0, 0, len(profile) - 1))
    skin_back = float(profile[row, 1] + profile[row, 3] - inside[1]) + center[1]
    skin_front = float(profile[row, 1] - profile[row, 3] - inside[1]) + center[1]
    middle = grid.slab(grid.shape[0] // 2, 1)
    _, y, z = middle.coordinates(np.eye(4))
    first = center[2] - 0.5 * (coil.loops - 1) * coil.pitch_mm
    total = torch.zeros((1, 1, 1), dtype=torch.float32, device=grid.device)
    for k in range(coil.loops):
        along = z - (first + k * coil.pitch_mm)
        for weight, away in ((1.0, skin_back + coil.gap_mm - y), (coil.front, y - skin_front + coil.gap_mm)):
            if weight:
                far = (along * along + away * away) / coil.radius_mm**2
                total = total + weight * weight * (1.0 + far) ** -3.0
    field = torch.sqrt(total + 1e-8)
    depth = (skin_back + coil.gap_mm - center[1]) ** 2 / coil.radius_mm**2
    level = float(np.sqrt((1.0 + depth) ** -3.0 * 1.3))
    return (field / level).clamp(0.003, 12.0)


def saturation(grid: Grid, center: Array, ahead_mm: float, tilt: float, left: float) -> Tensor:
    """Factor of a saturation band in front of the spine, shape broadcastable to the grid.

    Args:
        grid: where.
        center: LPS mm of the middle of the field of view (on the spine).
        ahead_mm: how far in front of it the band begins.
        tilt: slope of the band's edge (mm of y per mm of z).
        left: share of the signal that is left in the band.
    """
    _, y, z = grid.coordinates(np.eye(4))
    depth = (center[1] - ahead_mm - y) + tilt * (z - center[2])
    # The pulse's edge is some 8 mm wide.
    return 1.0 - (1.0 - left) * torch.sigmoid(depth / 4.0)


def uneven_field(grid: Grid, center: Array, strength: float, phase: tuple[float, float, float]) -> Tensor:
    """Smooth factor about 1 of an uneven transmit field, as at 3 T."""
    x, y, z = (axis - float(middle) for axis, middle in zip(grid.coordinates(np.eye(4)), center, strict=True))
    a, b, c = phase
    wave = torch.sin(y / 70.0 + a) * torch.cos(z / 110.0 + b) + 0.5 * torch.sin(x / 90.0 + c)
    return 1.0 + strength * wave


def fat_returning(grid: Grid, center: Array, strength: float, phase: tuple[float, float, float]) -> Tensor:
    """Factor >= 1 on saturated fat where the main field is off: far from the centre, and at random places."""
    _, y, z = (axis - float(middle) for axis, middle in zip(grid.coordinates(np.eye(4)), center, strict=True))
    a, b, _ = phase
    edge = (z / 170.0) ** 4 + (y / 130.0) ** 4
    cloud = torch.sin(y / 45.0 + a) * torch.sin(z / 60.0 + b)
    return 1.0 + strength * (edge + 0.6 * cloud.clamp(min=0.0) ** 2).clamp(max=12.0)
