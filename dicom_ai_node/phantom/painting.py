"""Put the anatomy on a grid: one number per voxel for what is there, and labels of bones, discs and lesions.

Painter's algorithm with analytic partial volume: every solid covers what lies below it by the share of the
voxel that it fills. What number a tissue gets is asked of a `Palette`, so that every modality has its own.

Label maps, uint8: bodies and whole vertebrae as VerSe numbers; `structures` holds `CANAL_LABEL` (100) for
the spinal canal and `DISC_LABEL` (200) plus the VerSe number of the vertebra above for a disc; `lesions`
holds the numbers of `lesion.LesionKind`. A pit of a body (Schmorl's node) is no part of the body.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.phantom.arch import arch_distance
from dicom_ai_node.phantom.body import BodyField, body_field
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.grid import Block, Grid
from dicom_ai_node.phantom.lesion import LesionKind
from dicom_ai_node.phantom.painting_disease import (
    Patch,
    carve,
    diseased_core,
    mark,
    mark_around,
    mark_bone,
    paint_around,
    paint_over,
    replace_bone,
    solid_distance,
)
from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.painting_torso import paint_torso
from dicom_ai_node.phantom.sacrum import FusedBody
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

Array = npt.NDArray[np.float64]

CANAL_LABEL: Final = 100
DISC_LABEL: Final = 200


class Palette(Protocol):
    """What a modality sees in a tissue: a number, or a tensor of shape (channels, 1, 1, 1)."""

    def tissue(self, matter: Matter) -> Tensor | float:
        """Value of soft matter."""

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor | float:
        """Value of bone: its mineral density in mg/cm3, and what fills its spaces (channels first)."""

    def grain(self, matter: Matter) -> float:
        """Amplitude of the texture of matter, in the palette's unit."""


class Detail(Protocol):
    """Finer anatomy about the column that one modality sees; without it discs and canal are of one matter."""

    def cavity(self, canvas: Canvas, spine: Spine) -> None:
        """Paint what fills the body cavity under the organs."""

    def around(self, canvas: Canvas, spine: Spine) -> None:
        """Paint what lies between the torso and the column."""

    def disc(self, disc: DiscShape, points: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Value of a disc at points (left, posterior, superior) of its frame in mm."""

    def canal(self, canvas: Canvas, spine: Spine) -> None:
        """Paint the canal and what is in it."""

    def marrow(
        self,
        canvas: Canvas,
        vertebra: Vertebra,
        place: tuple[Block, tuple[Tensor, Tensor, Tensor]],
        field: BodyField,
        marrow: Marrow,
    ) -> Marrow:
        """What fills a body on a block and its points in the body's frame, given what disease made of it.

        What clings to the body's surface is painted first.
        """


class Painting(NamedTuple):
    """Tensors of one grid: `value` float32 (air is `Palette.tissue(AIR)`), label maps uint8 (see above).

    `value` has the grid's shape, after the channels of a palette that has several.
    """

    value: Tensor
    bodies: Tensor
    whole: Tensor
    structures: Tensor
    lesions: Tensor


class Labels(NamedTuple):
    """The label maps while they are painted; `later` holds what is marked where no bone comes to lie."""

    bodies: Tensor
    whole: Tensor
    structures: Tensor
    lesions: Tensor
    later: list[tuple[Block, Tensor, int]]


def paint(spine: Spine, grid: Grid, palette: Palette, detail: Detail | None = None) -> Painting:
    """The whole person on a grid; only what the grid touches is evaluated."""
    air = torch.as_tensor(palette.tissue(Matter(Tissue.AIR)), dtype=torch.float32, device=grid.device)
    value = air.expand((*air.shape[:-3], *grid.shape)).clone()
    canvas = Canvas(grid, value, palette)
    canvas = paint_torso(spine.trunk, canvas)
    if detail is not None:
        detail.cavity(canvas, spine)
    for solid in spine.trunk.behind:
        paint_solid(canvas, solid)
    for solid in spine.trunk.bones:
        paint_solid(canvas, solid)
    if detail is not None:
        detail.around(canvas, spine)
    return paint_column(spine, canvas, detail)


def paint_column(spine: Spine, canvas: Canvas, detail: Detail | None = None) -> Painting:
    """The discs, the canal and the vertebrae alone, over what the canvas holds already."""
    grid, value = canvas.grid, canvas.value
    empty = torch.zeros(grid.shape, dtype=torch.uint8, device=grid.device)
    labels = Labels(empty, empty.clone(), empty.clone(), empty.clone(), [])
    # Blood lies beside discs and canal, a tumour grows into the canal.
    _paint_around(canvas, spine, LesionKind.HAEMATOMA, labels)
    for upper, disc in zip(spine.vertebrae, spine.discs, strict=False):
        _paint_disc(canvas, disc, DISC_LABEL + verse_label(upper.level), labels, detail)
    for upper, lower in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
        _paint_canal(canvas, upper, lower, labels)
    if detail is not None:
        detail.canal(canvas, spine)
    _paint_around(canvas, spine, LesionKind.SOFT_MASS, labels)
    # From the tail up: the sacrum's lateral mass lies under its bodies.
    for vertebra in reversed(spine.vertebrae):
        _paint_arch(canvas, vertebra, labels)
        if vertebra.level is Level.S1:
            for segment in reversed(spine.sacrum):
                _paint_fused(canvas, segment, labels.whole)
    for vertebra in reversed(spine.vertebrae):
        _paint_body(canvas, vertebra, labels, detail)
    # What lies under bone is bone.
    labels.structures.masked_fill_(labels.whole > 0, 0)
    for upper, disc in zip(spine.vertebrae, spine.discs, strict=False):
        for gas in disc.vacuum:
            _paint_gas(canvas, gas, DISC_LABEL + verse_label(upper.level), labels)
    mark_around(labels.later, labels.lesions, labels.whole, labels.structures)
    for vertebra in spine.vertebrae:
        over = [lesion for lesion in vertebra.findings.lesions if lesion.where == "over"]
        paint_over(canvas, over, labels.lesions)
    return Painting(value, labels.bodies, labels.whole, labels.structures, labels.lesions)


def _paint_around(canvas: Canvas, spine: Spine, kind: LesionKind, labels: Labels) -> None:
    for vertebra in spine.vertebrae:
        beside = [x for x in vertebra.findings.lesions if x.where == "around" and x.kind is kind]
        paint_around(canvas, beside, labels.later)


def _paint_canal(canvas: Canvas, upper: Vertebra, lower: Vertebra, labels: Labels) -> None:
    ends = []
    for vertebra in (upper, lower):
        back = 0.5 * (vertebra.body.back_lower + vertebra.body.back_upper) + 8.5
        ends.append((vertebra.frame @ np.array([0.0, back, 0.0, 1.0]))[:3])

    def canal(block: Block, distance: Tensor) -> None:
        mark(labels.structures, block, distance < 0, CANAL_LABEL)

    canvas.canal(ends[0], ends[1], with_cord=upper.level.region != "L", mark=canal)


def _paint_gas(canvas: Canvas, gas: Ellipsoid, number: int, labels: Labels) -> None:
    """Gas in a disc: nothing of it in bone."""
    reach = np.array(gas.radii) * (1.0 + 1.5 * gas.unevenness) + 1.0
    block = canvas.grid.block(gas.frame, -reach, reach)
    if block is None:
        return
    distance = solid_distance(canvas, block, gas)
    distance = distance.masked_fill(labels.structures[block] != number, 99.0)
    canvas.cover(block, distance, canvas.palette.tissue(gas.matter))
    mark(labels.lesions, block, distance < 0, LesionKind.VACUUM)


def _paint_disc(canvas: Canvas, disc: DiscShape, number: int, labels: Labels, detail: Detail | None) -> None:
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
    value = canvas.palette.tissue(disc.matter) if detail is None else detail.disc(disc, (u, v, w))
    canvas.cover(block, outside, value)
    _mark(labels.structures, block, outside < 0, number)


def _paint_fused(canvas: Canvas, segment: FusedBody, whole: Tensor) -> None:
    block = canvas.grid.block(segment.frame, *segment.body.extent)
    if block is None:
        return
    u, v, w = canvas.grid.coordinates(segment.frame, block)
    field = body_field(segment.body, u, v, w)
    canvas.bone(block, field.outside, field.inside_shell(segment.matter.cortex, 0.5), segment.matter)
    _mark(whole, block, field.outside < 0, verse_label(Level.S1))


def _paint_arch(canvas: Canvas, vertebra: Vertebra, labels: Labels) -> None:
    block = canvas.grid.block(vertebra.frame, *vertebra.arch.extent)
    if block is None:
        return
    u, v, w = canvas.grid.coordinates(vertebra.frame, block)
    outside = arch_distance(vertebra.arch, u, v, w)
    canvas.bone(block, outside, outside + vertebra.arch_matter.cortex, vertebra.arch_matter)
    _mark(labels.whole, block, outside < 0, verse_label(vertebra.level))
    deposits = [lesion for lesion in vertebra.findings.lesions if lesion.where == "vertebra"]
    replace_bone(Patch(canvas, block, (u, v, w)), deposits, outside, labels.lesions)


def _paint_body(canvas: Canvas, vertebra: Vertebra, labels: Labels, detail: Detail | None) -> None:
    label = verse_label(vertebra.level)
    for spur in vertebra.osteophytes:
        _paint_spur(canvas, spur, labels.bodies, labels.whole, label)
    block = canvas.grid.block(vertebra.frame, *vertebra.body.extent)
    if block is None:
        return
    u, v, w = canvas.grid.coordinates(vertebra.frame, block)
    field = body_field(vertebra.body, u, v, w)
    outside = field.outside
    matter = vertebra.matter
    findings = vertebra.findings
    patch = Patch(canvas, block, (u, v, w))
    core: Tensor | float = matter.density
    if vertebra.compaction:
        # Broken trabeculae are pressed into a denser band below the upper endplate.
        core = core * (1.0 + vertebra.compaction * torch.exp(-((field.upper / 4.0) ** 2)))
    # Trabeculae are closer under the cortex: the rim of a body fades into its middle.
    shell = field.inside_shell(matter.cortex, vertebra.endplate_mm)
    if findings.recesses:
        outside, shell = carve(canvas, block, findings.recesses, outside, shell)
    core = core * (1.0 + vertebra.rim * torch.exp((shell * 0.45).clamp(max=0.0)))
    vein = ((u / 5.0) ** 2 + ((v - vertebra.body.back_upper + 3.0) / 6.0) ** 2 + (w / 2.5) ** 2).clamp(
        max=4.0
    )
    core = core * (1.0 - 0.7 * torch.exp(-vein))
    marrow = matter.marrow
    if findings.changes_bone:
        core, marrow = diseased_core(patch, vertebra, field, core)
    if detail is not None:
        marrow = detail.marrow(canvas, vertebra, (block, (u, v, w)), field, marrow)
    noise = grain(vertebra.seed, (u, v, w), canvas.grid.device) if canvas.grid.voxel_mm < 2.5 else None
    canvas.bone(block, outside, shell, matter, density=core, marrow=marrow, noise=noise)
    _mark(labels.bodies, block, outside < 0, label)
    _mark(labels.whole, block, outside < 0, label)
    if findings.changes_bone:
        mark_bone(patch, vertebra, field, labels.lesions)
    deposits = [lesion for lesion in findings.lesions if lesion.where in ("body", "vertebra")]
    replace_bone(patch, deposits, outside, labels.lesions)


def _paint_spur(canvas: Canvas, spur: Ellipsoid, bodies: Tensor, whole: Tensor, label: int) -> None:
    distance = paint_solid(canvas, spur)
    if distance is not None:
        block, outside = distance
        _mark(bodies, block, outside < 0, label)
        _mark(whole, block, outside < 0, label)


def _mark(labels: Tensor, block: Block, inside: Tensor, label: int) -> None:
    labels[block].masked_fill_(inside, label)
