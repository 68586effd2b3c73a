"""The layers of the torso: skin, fat, muscle, cavity, lungs; they fill the grid before all else."""

from __future__ import annotations

import torch
from torch import Tensor

from dicom_ai_node.phantom.ground import PROFILE_STEP_MM
from dicom_ai_node.phantom.painting_solids import Canvas
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.trunk import Trunk


def paint_torso(trunk: Trunk, canvas: Canvas) -> Canvas:
    """Paint the layers; the canvas then knows the cavity."""
    grid, palette = canvas.grid, canvas.palette
    x, y, z = grid.coordinates(trunk.frame)
    center_x, center_y, half_width, half_depth, fat, wall, back, spine_x, spine_y = _profile(trunk, z)
    dx, dy = x - center_x, y - center_y
    skin = _distance(dx, dy, half_width, half_depth, trunk.squareness)
    everything = (slice(None), slice(None), slice(None))
    canvas.cover(everything, skin, palette.tissue(trunk.skin))
    canvas.cover(everything, skin + 1.8, palette.tissue(trunk.fat))
    canvas.cover(everything, skin + fat, palette.tissue(trunk.muscle))
    # Beside the spine the cavity reaches far back, to the ribs and to the fat behind the kidneys.
    beside = x - spine_x
    cavity = torch.maximum(skin + (fat + wall), (y - back - 0.006 * beside * beside) * 0.75)
    canvas.cover(everything, cavity, palette.tissue(trunk.inner_fat))
    canvas.skin, canvas.cavity = skin, cavity
    _paint_lungs(trunk, canvas, x - spine_x, y - spine_y, z)
    return canvas


def _distance(dx: Tensor, dy: Tensor, a: Tensor, b: Tensor, squareness: float) -> Tensor:
    p, q = (dx / a) ** 2, (dy / b) ** 2
    norm = (1.0 - squareness) * (p + q) + squareness * torch.sqrt(p * p + q * q)
    return torch.sqrt(dx * dx + dy * dy + 1e-6) * (1.0 - torch.rsqrt(norm + 1e-6))


def _profile(trunk: Trunk, z: Tensor) -> tuple[Tensor, ...]:
    table = torch.from_numpy(trunk.profile).to(torch.float32).to(z.device)
    place = ((z - trunk.bottom) / PROFILE_STEP_MM).clamp(0.0, len(table) - 1.001)
    low = place.floor()
    share = place - low
    index = low.to(torch.int64)
    out = []
    for column in range(table.shape[1]):
        line = table[:, column].contiguous()
        step = torch.diff(line, append=line[-1:])
        out.append(line[index] + share * step[index])
    return tuple(out)


def _paint_lungs(trunk: Trunk, canvas: Canvas, x: Tensor, y: Tensor, z: Tensor) -> None:
    assert canvas.cavity is not None
    right, left, fall = trunk.dome
    lowest = min(right, left) - 1.3 * fall
    rows = _rows_above(z, lowest)
    if rows is None:
        return
    top = trunk.lung_top
    if float(z.min()) > top:
        return
    zs = z[rows] if z.shape[0] > 1 else z
    xs = x[rows] if x.shape[0] > 1 else x
    ys = y[rows] if y.shape[0] > 1 else y
    cavity = canvas.cavity[rows]
    side = torch.where(xs > 0, left, right)
    floor = side - fall * (((xs.abs() - 72.0) / 95.0) ** 2 + ((ys + 62.0) / 95.0) ** 2)
    # The apex narrows to the height of the first rib.
    apex = zs - (top - 16.0 * ((xs.abs() - 40.0) / 45.0) ** 2)
    distance = torch.maximum(torch.maximum(cavity + 1.5, floor - zs), apex)
    block = (rows, slice(None), slice(None))
    value: Tensor | float = canvas.palette.tissue(trunk.lungs)
    if canvas.grid.voxel_mm < 3.0:
        noise = grain(trunk.seed, (xs, ys, zs), canvas.grid.device, cell_mm=3.0)
        value = value + canvas.palette.grain(trunk.lungs) * noise.clamp(min=1.2).sub(1.2)
    canvas.cover(block, distance, value)


def _rows_above(z: Tensor, height: float) -> slice | None:
    if z.shape[0] == 1:
        return slice(0, None) if float(z.max()) > height else None
    inside = torch.nonzero((z > height).flatten(1).any(dim=1)).flatten()
    if len(inside) == 0:
        return None
    return slice(int(inside[0]), int(inside[-1]) + 1)
