"""Put the anatomy on a grid: one number per voxel for what is there, and labels of bodies and vertebrae.

Painter's algorithm with analytic partial volume: every solid covers what lies below it by the share of the
voxel that it fills. What number a tissue gets is asked of a `Palette`, so that every modality has its own.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.phantom.arch import arch_distance
from dicom_ai_node.phantom.body import body_field
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.grid import Block, Grid
from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.painting_torso import paint_torso
from dicom_ai_node.phantom.sacrum import FusedBody
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

Array = npt.NDArray[np.float64]


class Palette(Protocol):
    """What a modality sees in a tissue."""

    def tissue(self, matter: Matter) -> float:
        """Value of soft matter."""

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor | float:
        """Value of bone: its mineral density in mg/cm3, and what fills its spaces."""

    def grain(self, matter: Matter) -> float:
        """Amplitude of the texture of matter, in the palette's unit."""


class Painting(NamedTuple):
    """Tensors of one grid: `value` float32 (air is `Palette.tissue(AIR)`), labels uint8 (VerSe numbers)."""

    value: Tensor
    bodies: Tensor
    whole: Tensor


def paint(spine: Spine, grid: Grid, palette: Palette) -> Painting:
    """The whole person on a grid; only what the grid touches is evaluated."""
    value = torch.full(
        grid.shape, palette.tissue(Matter(Tissue.AIR)), dtype=torch.float32, device=grid.device
    )
    canvas = Canvas(grid, value, palette)
    canvas = paint_torso(spine.trunk, canvas)
    for solid in spine.trunk.behind:
        paint_solid(canvas, solid)
    for solid in spine.trunk.bones:
        paint_solid(canvas, solid)
    return paint_column(spine, canvas)


def paint_column(spine: Spine, canvas: Canvas) -> Painting:
    """The discs, the canal and the vertebrae alone, over what the canvas holds already."""
    grid, value = canvas.grid, canvas.value
    bodies = torch.zeros(grid.shape, dtype=torch.uint8, device=grid.device)
    whole = torch.zeros(grid.shape, dtype=torch.uint8, device=grid.device)
    for disc in spine.discs:
        _paint_disc(canvas, disc)
    for upper, lower in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
        _paint_canal(canvas, upper, lower)
    # From the tail up: the sacrum's lateral mass lies under its bodies.
    for vertebra in reversed(spine.vertebrae):
        _paint_arch(canvas, vertebra, whole)
        if vertebra.level is Level.S1:
            for segment in reversed(spine.sacrum):
                _paint_fused(canvas, segment, whole)
    for vertebra in reversed(spine.vertebrae):
        _paint_body(canvas, vertebra, bodies, whole)
    return Painting(value, bodies, whole)


def _paint_canal(canvas: Canvas, upper: Vertebra, lower: Vertebra) -> None:
    ends = []
    for vertebra in (upper, lower):
        back = 0.5 * (vertebra.body.back_lower + vertebra.body.back_upper) + 8.5
        ends.append((vertebra.frame @ np.array([0.0, back, 0.0, 1.0]))[:3])
    canvas.canal(ends[0], ends[1], with_cord=upper.level.region != "L")


def _paint_disc(canvas: Canvas, disc: DiscShape) -> None:
    if canvas.grid.misses(disc.frame[:3, 3], 1.5 * disc.half_width + 10.0):
        return
    low = np.array([-disc.half_width, disc.front, -disc.half_height]) - 1.0
    high = np.array([disc.half_width, disc.back, disc.half_height]) + 1.0
    block = canvas.grid.block(disc.frame, low, high)
    if block is None:
        return
    u, v, w = canvas.grid.coordinates(disc.frame, block)
    reach = 0.6 * (disc.back - disc.front)
    dv = v - (disc.front + reach)
    p, q = (u / disc.half_width) ** 2, (dv / reach) ** 2
    norm = 0.75 * (p + q) + 0.25 * torch.sqrt(p * p + q * q)
    side = torch.sqrt(u * u + dv * dv + 1e-9) * (1.0 - torch.rsqrt(norm + 1e-6))
    outside = torch.maximum(torch.maximum(side, v - disc.back), w.abs() - disc.half_height)
    canvas.cover(block, outside, canvas.palette.tissue(disc.matter))


def _paint_fused(canvas: Canvas, segment: FusedBody, whole: Tensor) -> None:
    block = canvas.grid.block(segment.frame, *segment.body.extent)
    if block is None:
        return
    u, v, w = canvas.grid.coordinates(segment.frame, block)
    field = body_field(segment.body, u, v, w)
    canvas.bone(block, field.outside, field.inside_shell(segment.matter.cortex, 0.5), segment.matter)
    _mark(whole, block, field.outside < 0, verse_label(Level.S1))


def _paint_arch(canvas: Canvas, vertebra: Vertebra, whole: Tensor) -> None:
    block = canvas.grid.block(vertebra.frame, *vertebra.arch.extent)
    if block is None:
        return
    u, v, w = canvas.grid.coordinates(vertebra.frame, block)
    outside = arch_distance(vertebra.arch, u, v, w)
    canvas.bone(block, outside, outside + vertebra.arch_matter.cortex, vertebra.arch_matter)
    _mark(whole, block, outside < 0, verse_label(vertebra.level))


def _paint_body(canvas: Canvas, vertebra: Vertebra, bodies: Tensor, whole: Tensor) -> None:
    label = verse_label(vertebra.level)
    for spur in vertebra.osteophytes:
        _paint_spur(canvas, spur, bodies, whole, label)
    block = canvas.grid.block(vertebra.frame, *vertebra.body.extent)
    if block is None:
        return
    u, v, w = canvas.grid.coordinates(vertebra.frame, block)
    field = body_field(vertebra.body, u, v, w)
    outside = field.outside
    matter = vertebra.matter
    core: Tensor | float = matter.density
    if vertebra.compaction:
        # Broken trabeculae are pressed into a denser band below the upper endplate.
        core = core * (1.0 + vertebra.compaction * torch.exp(-((field.upper / 4.0) ** 2)))
    # Trabeculae are closer under the cortex: the rim of a body fades into its middle.
    shell = field.inside_shell(matter.cortex, vertebra.endplate_mm)
    core = core * (1.0 + vertebra.rim * torch.exp((shell * 0.45).clamp(max=0.0)))
    vein = ((u / 5.0) ** 2 + ((v - vertebra.body.back_upper + 3.0) / 6.0) ** 2 + (w / 2.5) ** 2).clamp(
        max=4.0
    )
    core = core * (1.0 - 0.7 * torch.exp(-vein))
    noise = grain(vertebra.seed, (u, v, w), canvas.grid.device) if canvas.grid.voxel_mm < 2.5 else None
    canvas.bone(block, outside, shell, matter, density=core, noise=noise)
    _mark(bodies, block, outside < 0, label)
    _mark(whole, block, outside < 0, label)


def _paint_spur(canvas: Canvas, spur: Ellipsoid, bodies: Tensor, whole: Tensor, label: int) -> None:
    distance = paint_solid(canvas, spur)
    if distance is not None:
        block, outside = distance
        _mark(bodies, block, outside < 0, label)
        _mark(whole, block, outside < 0, label)


def _mark(labels: Tensor, block: Block, inside: Tensor, label: int) -> None:
    labels[block].masked_fill_(inside, label)
