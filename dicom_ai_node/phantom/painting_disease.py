"""Ill bone on a grid: pits in endplates, changed marrow, deposits, clefts, cement, soft matter beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.phantom.body import BodyField
from dicom_ai_node.phantom.grid import Block, block_shape
from dicom_ai_node.phantom.lesion import Layer, Lesion, LesionKind, Recess
from dicom_ai_node.phantom.painting_solids import Canvas, ellipsoid_distance, paint_solid
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

if TYPE_CHECKING:
    from dicom_ai_node.phantom.spine import Vertebra

Points = tuple[Tensor, Tensor, Tensor]


class Patch(NamedTuple):
    """Part of a canvas about one bone: a block of its grid, and u, v, w in mm there in the bone's frame."""

    canvas: Canvas
    block: Block
    points: Points


REMNANT_DENSITY: Final = 180.0
"""Bone mineral in mg/cm3 of what a lytic tumour leaves."""


def carve(
    canvas: Canvas, block: Block, recesses: Sequence[Recess], outside: Tensor, shell: Tensor
) -> tuple[Tensor, Tensor]:
    """Fill the pits of a body with disc; the distances to its outer surface and to its core without them."""
    for recess in recesses:
        pit = solid_distance(canvas, block, recess.solid)
        # A millimetre beyond the endplate the disc begins, so that no seam is left.
        canvas.cover(block, torch.maximum(pit, outside - 1.0), canvas.palette.tissue(recess.filling))
        outside = torch.maximum(outside, -pit)
        shell = torch.maximum(shell, recess.wall_mm - pit)
    return outside, shell


def diseased_core(patch: Patch, vertebra: Vertebra, field: BodyField, core: Tensor) -> tuple[Tensor, Marrow]:
    """(bone mineral in mg/cm3, marrow) of a diseased body's cancellous core.

    `field` holds the distances to the body's walls before pits were cut, `core` the mineral without disease.
    """
    canvas, block, points = patch
    findings = vertebra.findings
    own = vertebra.matter.marrow
    u, v, _ = points
    oedema: Tensor | float = own.oedema
    fat: Tensor | float = own.fat if findings.fat is None else findings.fat
    for line in findings.lines:
        depth = -(field.upper if line.upper else field.lower)
        stray = line.waviness_mm * (torch.sin(0.35 * u + line.phase) + torch.sin(0.4 * v - 1.3 * line.phase))
        core = core + line.density * torch.exp(-(((depth - line.depth_mm + stray) / line.width_mm) ** 2))
    for layer in findings.layers:
        share = layer_share(layer, field, points)
        core = core * (1.0 + layer.thicker * share)
        if layer.oedema:
            oedema = torch.maximum(layer.oedema * share, torch.as_tensor(oedema))
        if layer.fat is not None:
            fat = fat + (layer.fat - fat) * share
    for recess in findings.recesses:
        pit = solid_distance(canvas, block, recess.solid)
        core = core + recess.rim * torch.exp(-((pit / recess.rim_mm).clamp(min=0.0) ** 2))
    for lesion in findings.lesions:
        if lesion.kind is LesionKind.SCLEROSIS:
            share = torch.sigmoid(-union(canvas, block, lesion) * 1.3)
            core = core + (lesion.matter.density - core) * share
            fat = fat + (lesion.matter.marrow.fat - fat) * share
        if lesion.kind is LesionKind.HAEMANGIOMA:
            share = torch.sigmoid(-union(canvas, block, lesion) * 1.5)
            # Columns: the same in every height. Between them hardly any bone is left.
            struts = _columns(lesion.seed, u, v) * lesion.matter.density
            core = core + (0.3 * core + struts - core) * share
            fat = fat + (lesion.matter.marrow.fat - fat) * share
    return core, Marrow(fat, oedema, own.tumour)


def layer_share(layer: Layer, field: BodyField, points: Points) -> Tensor:
    """How far bone belongs to a layer, 0..1."""
    depth = -(field.upper if layer.upper else field.lower)
    u, v, _ = points
    stray = layer.waviness_mm * torch.sin(0.25 * u + layer.phase) * torch.cos(0.3 * v + 0.7 * layer.phase)
    return torch.sigmoid((layer.depth_mm + stray - depth) / 0.8)


def replace_bone(patch: Patch, lesions: Sequence[Lesion], outside: Tensor, marks: Tensor) -> None:
    """Deposits, clefts and cement within a bone whose surface is at `outside` (mm); marks their kinds."""
    canvas, block, points = patch
    for lesion in lesions:
        distance = torch.maximum(union(canvas, block, lesion), outside)
        if lesion.kind not in (LesionKind.SCLEROSIS, LesionKind.HAEMANGIOMA):
            canvas.cover(block, distance, _inside(canvas, lesion, points))
        mark(marks, block, distance < 0, lesion.kind)


def mark_bone(patch: Patch, vertebra: Vertebra, field: BodyField, marks: Tensor) -> None:
    """Mark oedema, sclerosis along endplates, compaction and pits of one body."""
    canvas, block, points = patch
    findings = vertebra.findings
    inside = field.outside < 0
    for layer in findings.layers:
        if layer.kind is LesionKind.OEDEMA or layer.thicker:
            mark(marks, block, inside & (layer_share(layer, field, points) > 0.5), layer.kind)
    for line in findings.lines:
        depth = -(field.upper if line.upper else field.lower)
        mark(marks, block, inside & ((depth - line.depth_mm).abs() < line.width_mm), LesionKind.COMPACTION)
    for recess in findings.recesses:
        pit = solid_distance(canvas, block, recess.solid)
        mark(marks, block, inside & (pit < 0), recess.kind)


def paint_around(canvas: Canvas, lesions: Sequence[Lesion], later: list[tuple[Block, Tensor, int]]) -> None:
    """Soft matter beside a bone, before the bone; `later` gets what is marked where no bone comes to lie."""
    for lesion in lesions:
        for solid in lesion.solids:
            paint_solid(canvas, solid, _keep(later, lesion.kind))


def paint_over(canvas: Canvas, lesions: Sequence[Lesion], marks: Tensor) -> None:
    """Implants and leaked cement, last of all."""
    for lesion in lesions:
        for solid in lesion.solids:
            paint_solid(canvas, solid, _marker(marks, lesion.kind))


def solid_distance(canvas: Canvas, block: Block, solid: Ellipsoid) -> Tensor:
    """Distance in mm to a solid on a block of the grid."""
    u, v, w = canvas.grid.coordinates(solid.frame, block)
    return ellipsoid_distance(solid, u, v, w).expand(block_shape(block))


def union(canvas: Canvas, block: Block, lesion: Lesion) -> Tensor:
    """Distance in mm to the nearest solid of a lesion."""
    total: Tensor | None = None
    for solid in lesion.solids:
        if not isinstance(solid, Ellipsoid):
            raise ValueError(f"a {lesion.kind.word} inside bone is made of ellipsoids")
        distance = solid_distance(canvas, block, solid)
        total = distance if total is None else torch.minimum(total, distance)
    if total is None:
        raise ValueError(f"a {lesion.kind.word} without any solid")
    return total


def mark(marks: Tensor, block: Block, inside: Tensor, number: int) -> None:
    """Write a label where `inside` is true."""
    view = marks[block]
    view.masked_fill_(inside.expand(view.shape), number)


def _inside(canvas: Canvas, lesion: Lesion, points: Points) -> Tensor | float:
    """What a lesion is worth inside."""
    matter, palette = lesion.matter, canvas.palette
    if matter.tissue is not Tissue.BONE:
        plain, amplitude = palette.tissue(matter), palette.grain(matter)
        if not amplitude or canvas.grid.voxel_mm > 2.5:
            return plain
        value = plain + amplitude * grain(lesion.seed, points, canvas.grid.device, cell_mm=1.0)
        if lesion.kind is not LesionKind.LYTIC:
            return value
        # Moth-eaten: crumbs of bone are left.
        fine = grain(lesion.seed + 1, points, canvas.grid.device)
        crumbs = torch.sigmoid(6.0 * (0.6 * fine + _patches(lesion.seed, points) - 1.25))
        return value + crumbs * (palette.bone(REMNANT_DENSITY, Marrow(tumour=1.0)) - value)
    noise = grain(lesion.seed, points, canvas.grid.device)
    hard = palette.bone(matter.density * (1.0 + matter.grain * noise).clamp(min=0.0), matter.marrow)
    if lesion.kind is not LesionKind.MIXED:
        return hard
    # Patches of new bone in soft tumour.
    soft = palette.tissue(Matter(Tissue.TUMOUR))
    patches = torch.sigmoid(2.2 * _patches(lesion.seed, points) + 0.5 * noise)
    return soft + patches * (hard - soft)


def _patches(seed: int, points: Points) -> Tensor:
    """Smooth noise of deviation 1 with patches of 1.5 to 9 mm, the large ones stronger."""
    generator = stream(seed, "patches")
    total: Tensor | float = 0.0
    power = 0.0
    for pitch in np.geomspace(0.35, 2.1, 14):
        direction = generator.standard_normal(3)
        direction *= pitch / np.linalg.norm(direction)
        strength = float(pitch) ** -0.5
        power += 0.5 * strength**2
        phase = float(generator.uniform(0.0, 6.28))
        u, v, w = (float(part) * axis for part, axis in zip(direction, points, strict=True))
        total = total + strength * torch.sin(u + v + w + phase)
    return torch.as_tensor(total) / float(np.sqrt(power))


def _columns(seed: int, u: Tensor, v: Tensor) -> Tensor:
    """Shares of bone, 0..1, of upright struts some 4 mm apart: dots in an axial slice, stripes in others."""
    turn, warp, other = stream(seed, "columns").uniform(0.0, 6.28, 3)
    total: Tensor | float = 0.0
    for k in range(3):
        angle = float(turn) + 2.0944 * k
        bent = 1.5 * torch.sin(0.21 * u + 0.3 * v + float(warp) + k)
        bent = bent + 1.3 * torch.sin(0.47 * v - 0.37 * u + float(other) - k)
        total = total + torch.cos(1.75 * (float(np.cos(angle)) * u + float(np.sin(angle)) * v) + bent)
    # Some are thick, some hardly there.
    strength = 0.75 + 0.35 * torch.sin(0.9 * u + float(other)) * torch.sin(0.8 * v + float(warp))
    return torch.sigmoid((torch.as_tensor(total) - 0.9) * 4.0) * strength


def _keep(later: list[tuple[Block, Tensor, int]], number: int) -> Callable[[Block, Tensor], None]:
    def keep(block: Block, distance: Tensor) -> None:
        later.append((block, (distance < 0).expand(block_shape(block)), number))

    return keep


def _marker(marks: Tensor, number: int) -> Callable[[Block, Tensor], None]:
    def write(block: Block, distance: Tensor) -> None:
        mark(marks, block, distance < 0, number)

    return write


def mark_around(
    later: Sequence[tuple[Block, Tensor, int]], marks: Tensor, whole: Tensor, structures: Tensor
) -> None:
    """Mark soft matter beside bones where there is neither bone nor another lesion; blood in no disc."""
    for block, inside, number in later:
        free = (whole[block] == 0) & (marks[block] == 0)
        if number == LesionKind.HAEMATOMA:
            free &= structures[block] == 0
        mark(marks, block, inside & free, number)
