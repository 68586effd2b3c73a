"""The canvas of a painting, and how simple solids are put on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.grid import Block, Grid, block_shape
from dicom_ai_node.phantom.solids import Ellipsoid, Plate, Solid, Tube, Within
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

if TYPE_CHECKING:
    from dicom_ai_node.phantom.painting import Palette

Array = npt.NDArray[np.float64]
Mark = Callable[[Block, Tensor], None]


class Canvas:
    """What has been painted so far.

    Attributes:
        grid: where.
        value: float32, the grid's shape, after the channels of a palette that has several.
        palette: numbers for tissues.
        skin, cavity: distances in mm to the skin and to the wall of the body cavity (negative inside), of the
            grid's shape; None before they are known.
    """

    def __init__(self, grid: Grid, value: Tensor, palette: Palette) -> None:
        self.grid = grid
        self.value = value
        self.palette = palette
        self.skin: Tensor | None = None
        self.cavity: Tensor | None = None
        self._scale = 1.0 / grid.voxel_mm

    def coverage(self, distance: Tensor) -> Tensor:
        """Share of a voxel that lies inside a surface at this distance (mm, negative inside)."""
        return (0.5 - distance * self._scale).clamp_(0.0, 1.0)

    def cut(self, distance: Tensor, block: Block, within: Within) -> Tensor:
        """The distance to a solid, cut off by the skin (less 2 mm) or by the wall of the cavity."""
        if within == "cavity" and self.cavity is not None:
            return torch.maximum(distance, self.cavity[block])
        if within == "skin" and self.skin is not None:
            return torch.maximum(distance, self.skin[block] + 2.0)
        return distance

    def cover(self, block: Block, distance: Tensor, value: Tensor | float) -> None:
        """Cover the inside of a surface with a value."""
        view = self.value[(..., *block)]
        view.add_(self.coverage(distance) * (value - view))

    def bone(
        self,
        block: Block,
        outside: Tensor,
        inside: Tensor,
        matter: Matter,
        *,
        density: Tensor | float | None = None,
        marrow: Marrow | None = None,
        noise: Tensor | None = None,
    ) -> None:
        """Cover with a shell of cortex about a cancellous core.

        Args:
            block: part of the grid.
            outside, inside: distances in mm to the outer and the inner surface of the cortex.
            matter: the bone.
            density: of the core in mg/cm3 where it differs from `matter.density`.
            marrow: of the core where it differs from `matter.marrow`.
            noise: texture of deviation 1 for the core.
        """
        core = matter.density if density is None else density
        if noise is not None:
            core = core + noise * (matter.grain * (matter.density + 40.0))
        cortex = self.palette.bone(matter.cortical_density or 800.0, matter.marrow)
        whole, cored = self.coverage(outside), self.coverage(inside)
        view = self.value[(..., *block)]
        view.mul_(1.0 - whole).add_(whole * cortex).add_(
            cored * (self.palette.bone(core, marrow or matter.marrow) - cortex)
        )

    def canal(self, start: Array, end: Array, *, with_cord: bool, mark: Mark | None = None) -> None:
        """The canal between two points (LPS mm): fluid and the cord, or fat about the dural sac."""
        path = np.stack([start, end])
        filling = Matter(Tissue.CANAL if with_cord else Tissue.VISCERAL_FAT)
        paint_solid(self, Tube(path, np.array([8.0, 8.0]), filling), mark)
        if with_cord:
            paint_solid(self, Tube(path, np.array([4.5, 4.5]), Matter(Tissue.CORD)))
        else:
            paint_solid(self, Tube(path, np.array([6.6, 6.6]), Matter(Tissue.CANAL)))


def paint_solid(canvas: Canvas, solid: Solid, mark: Mark | None = None) -> tuple[Block, Tensor] | None:
    """Paint one solid; the block touched and the distances in it (None off the grid, and for tubes).

    `mark` is called with every block painted and the distances (mm) in it: a tube has one per segment.
    """
    if isinstance(solid, Tube):
        _paint_tube(canvas, solid, mark)
        return None
    frame = solid.frame
    if isinstance(solid, Ellipsoid) and canvas.grid.misses(frame[:3, 3], 1.3 * max(solid.radii) + 1.0):
        return None
    if isinstance(solid, Ellipsoid):
        reach = np.array(solid.radii) * (1.0 + 1.5 * solid.unevenness) + 1.0
        block = canvas.grid.block(frame, -reach, reach)
    else:
        block = canvas.grid.block(frame, np.array(solid.low), np.array(solid.high))
    if block is None:
        return None
    u, v, w = canvas.grid.coordinates(frame, block)
    distance = ellipsoid_distance(solid, u, v, w) if isinstance(solid, Ellipsoid) else _plate(solid, u, v, w)
    if isinstance(solid, Ellipsoid):
        distance = canvas.cut(distance, block, solid.within)
    _fill(canvas, block, distance, solid.matter, (u, v, w))
    if mark is not None:
        mark(block, distance)
    return block, distance


def _fill(
    canvas: Canvas, block: Block, distance: Tensor, matter: Matter, coordinates: tuple[Tensor, Tensor, Tensor]
) -> None:
    if matter.tissue is Tissue.BONE:
        canvas.bone(block, distance, distance + matter.cortex, matter)
        return
    value: Tensor | float = canvas.palette.tissue(matter)
    amplitude = canvas.palette.grain(matter)
    if matter.grain and amplitude > 8.0:
        seed = int(abs(matter.deviation) * 1e6)
        noise = grain(
            seed, coordinates, canvas.grid.device, cell_mm=1.8 if matter.tissue is Tissue.MUSCLE else 2.0
        )
        value = value + amplitude * noise
        if matter.tissue is Tissue.MUSCLE:
            # Streaks of fat between the bundles, more in the old.
            fat = canvas.palette.tissue(Matter(Tissue.FAT))
            value = torch.where(noise > 2.1 + 0.6 * min(1.0, matter.deviation), 0.5 * (fat + value), value)
        if matter.tissue is Tissue.FAECES:
            # Bubbles of gas in the mass.
            value = torch.where(noise > 0.8 - 0.3 * matter.deviation, -750.0, value)
    canvas.cover(block, distance, value)


def ellipsoid_distance(solid: Ellipsoid, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """Signed distance in mm (negative inside) at points of the ellipsoid's frame; approximate far away."""
    a, b, c = solid.radii
    p, q, r = (u / a) ** 2, (v / b) ** 2, (w / c) ** 2
    if solid.power == 2.0:
        norm = torch.sqrt(p + q + r + 1e-9)
    else:
        norm = torch.sqrt(torch.sqrt(p * p + q * q + r * r + 1e-9))
    if solid.unevenness:
        f, g, h = solid.phase
        bumps = (
            torch.sin(u * (4.0 / a) + f) * torch.sin(v * (3.5 / b) + g)
            + torch.sin(w * (4.5 / c) + h) * torch.sin(v * (5.0 / b) + f)
        )  # fmt: skip
        norm = norm * (1.0 + 0.5 * solid.unevenness * bumps)
    smallest = min(solid.radii)
    if smallest * 3.0 < max(solid.radii):
        # For flat ones the gradient's length is needed: the radial distance is far too long across.
        steep = torch.sqrt(p / (a * a) + q / (b * b) + r / (c * c) + 1e-12)
        return (norm - 1.0) * norm / steep
    return torch.sqrt(u * u + v * v + w * w + 1e-9) * (1.0 - 1.0 / norm)


def _plate(solid: Plate, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    a, b, c = solid.radii
    p, q, r = (u / a) ** 2, (v / b) ** 2, (w / c) ** 2
    norm = torch.sqrt(p + q + r + 1e-9)
    steep = torch.sqrt(p / (a * a) + q / (b * b) + r / (c * c) + 1e-12)
    distance = ((norm - 1.0) * norm / steep).abs() - 0.5 * solid.thickness
    for (x, y, z), offset in solid.planes:
        length = float(np.sqrt(x * x + y * y + z * z))
        distance = torch.maximum(distance, (x * u + y * v + z * w - offset) / length)
    return distance


def _paint_tube(canvas: Canvas, tube: Tube, mark: Mark | None) -> None:
    for k in range(len(tube.points) - 1):
        start, end = tube.points[k], tube.points[k + 1]
        widest = max(float(tube.radii[k]), float(tube.radii[k + 1])) * max(1.0, tube.flat) * 1.6 + 1.0
        if not canvas.grid.misses(0.5 * (start + end), 0.5 * float(np.linalg.norm(end - start)) + widest):
            _paint_segment(canvas, tube, k, mark)


def _paint_segment(canvas: Canvas, tube: Tube, k: int, mark: Mark | None) -> None:
    start, end = tube.points[k], tube.points[k + 1]
    along = end - start
    length = float(np.linalg.norm(along))
    if length < 1e-6:
        return
    along = along / length
    upright = np.array(tube.upright) - along * float(along @ np.array(tube.upright))
    size = float(np.linalg.norm(upright))
    if size < 0.1:
        upright = np.cross(along, [0.31, 0.95, 0.05])
        size = float(np.linalg.norm(upright))
    upright = upright / size
    frame = np.eye(4)
    frame[:3, :3] = np.stack([along, upright, np.cross(along, upright)], axis=1)
    frame[:3, 3] = start
    first, last = float(tube.radii[k]), float(tube.radii[k + 1])
    widest = max(first, last) + 1.0
    round_start, round_end = k == 0, k == len(tube.points) - 2
    # Middle segments reach a little into each other, so that a bend leaves no gap.
    before, after = (0.6 * first if round_start else 0.25 * first), (0.6 * last if round_end else 0.25 * last)
    high = np.array([length + after, widest * tube.flat, widest])
    block = canvas.grid.block(frame, np.array([-before, -widest * tube.flat, -widest]), high)
    if block is None:
        return
    t, a, b = canvas.grid.coordinates(frame, block)
    radius = first + (last - first) * (t / length).clamp(0.0, 1.0)
    beyond = torch.maximum(
        -t if round_start else t.new_zeros(1), t - length if round_end else t.new_zeros(1)
    ).clamp(min=0.0)
    distance = torch.sqrt((a / tube.flat) ** 2 + b * b + (beyond * beyond) * 2.8 + 1e-9) - radius
    outside = (t < -before) | (t > length + after)
    distance = distance.expand(block_shape(block)).masked_fill(outside.expand(block_shape(block)), 99.0)
    distance = canvas.cut(distance, block, tube.within)
    _fill(canvas, block, distance, tube.matter, (t, a, b))
    if mark is not None:
        mark(block, distance)
