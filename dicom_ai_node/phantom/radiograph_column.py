"""The vertebrae on a film: path integrals of bone mineral, and of the water that bone displaces.

Each body has a grid of its own, as fine as the detector: endplates and trabeculae are what a film is read
for. Arches, sacrum and implants are coarser. What is painted is `painting`'s bone with two things that are
too fine for CT: trabeculae, and bone that is denser near the endplates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as f
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.arch import ArchShape, arch_distance, smooth_minimum
from dicom_ai_node.phantom.body import BodyField, body_field
from dicom_ai_node.phantom.grid import Block, block_shape
from dicom_ai_node.phantom.lesion import extent
from dicom_ai_node.phantom.painting_disease import Patch, carve, diseased_core, replace_bone
from dicom_ai_node.phantom.painting_solids import paint_solid
from dicom_ai_node.phantom.parallel import in_order
from dicom_ai_node.phantom.radiograph_canvas import RayCanvas, empty_canvas
from dicom_ai_node.phantom.radiograph_cone import Cone, ConeGrid
from dicom_ai_node.phantom.radiograph_palette import MaterialsPalette
from dicom_ai_node.phantom.radiograph_texture import trabeculae
from dicom_ai_node.phantom.spine import Spine, Vertebra

Array = npt.NDArray[np.float64]

_BODY_MM: Final = (0.2, 2.0)
_ARCH_MM: Final = (0.7, 3.0)
_IMPLANT_MM: Final = (0.3, 2.0)
"""(distance of the rays at the detector, of the samples in depth); rays are whole pixels apart."""

_SHELL: Final = 0.65
_PLATE: Final = 0.28
"""Mineral of a body's shell, and of the bone under its endplates, as shares of the cortex's."""

_SAMPLES: Final = 250_000
"""Samples evaluated at once: they stay in a processor's cache."""


class Band(NamedTuple):
    """A grid, and the binned rows and columns of the detector where it begins."""

    grid: ConeGrid
    row: int
    column: int
    binning: int


class Shadow(NamedTuple):
    """Path integrals of a band's rays: (channels, rows, columns)."""

    image: Tensor
    band: Band


def project_column(spine: Spine, cone: Cone, palette: MaterialsPalette, into: Tensor) -> None:
    """Add water and mineral of all vertebrae, in HU and mg/cm3 times mm, to `into` (2, rows, columns)."""
    where = into.device
    pieces: list[Iterator[Shadow]] = []
    for vertebra in reversed(spine.vertebrae):
        pieces.append(_arch(spine, vertebra, cone, palette, where))
        pieces.append(_body(vertebra, cone, palette, where))
        pieces.append(_implants(vertebra, cone, palette, where))
    pieces.append(_vacuum(spine, cone, palette, where))
    for shadows in in_order([partial(list[Shadow], piece) for piece in pieces], where):
        for image, band in shadows:
            add(into, image, band)


def _implants(
    vertebra: Vertebra, cone: Cone, palette: MaterialsPalette, device: torch.device
) -> Iterator[Shadow]:
    for lesion in vertebra.findings.lesions:
        if lesion.where == "over":
            center, size = extent(lesion, np.eye(4))
            frame = np.eye(4)
            frame[:3, 3] = center
            for band in bands(cone, [(frame, -0.5 * size - 1.0, 0.5 * size + 1.0)], _IMPLANT_MM, device):
                canvas = empty_canvas(band.grid, palette, 2)
                for solid in lesion.solids:
                    paint_solid(canvas, solid)
                yield Shadow(canvas.integral(), band)


def _vacuum(spine: Spine, cone: Cone, palette: MaterialsPalette, device: torch.device) -> Iterator[Shadow]:
    for disc in spine.discs:
        for gas in disc.vacuum:
            reach = np.array(gas.radii) * (1.0 + 1.5 * gas.unevenness) + 1.0
            for band in bands(cone, [(gas.frame, -reach, reach)], _IMPLANT_MM, device):
                canvas = empty_canvas(band.grid, palette, 2)
                paint_solid(canvas, gas)
                yield Shadow(canvas.integral(), band)


def bands(
    cone: Cone,
    boxes: list[tuple[Array, Array, Array]],
    fineness: tuple[float, float],
    device: torch.device,
) -> Iterator[Band]:
    """Grids, one below the other, that together hold boxes (4x4 frame -> LPS mm, low, high).

    Nothing of what falls beside the detector is in them.
    """
    binning = binned(cone, fineness[0])
    corners = np.concatenate(
        [
            np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T
            @ frame[:3, :3].T
            + frame[:3, 3]
            for frame, low, high in boxes
        ]
    )
    found = cone.project(corners)
    low, high = found.min(axis=0), found.max(axis=0)
    rows, columns = (-(-size // binning) for size in cone.matrix)
    top, bottom = (int(np.clip(x, 0, rows)) for x in (low[1] // binning, high[1] // binning + 2))
    left, right = (int(np.clip(x, 0, columns)) for x in (low[0] // binning, high[0] // binning + 2))
    if bottom <= top or right <= left:
        return
    depths = (float(low[2]) - 0.5, float(high[2]) + 0.5)
    count = max(1.0, (depths[1] - depths[0]) / fineness[1])
    height = max(8, int(_SAMPLES / (count * (right - left))))
    for first in range(top, bottom, height):
        last = min(bottom, first + height)
        grid = cone.rays(
            (first, last), (left, right), depths, binning=binning, step=fineness[1], device=device
        )
        yield Band(grid, first, left, binning)


def binned(cone: Cone, pitch_mm: float) -> int:
    """How many pixels lie between two rays about so far apart on the detector."""
    return max(1, round(pitch_mm / cone.pixel))


def add(into: Tensor, image: Tensor, band: Band) -> None:
    """Add an image (channels, rows, columns) of a band's rays to the detector's (channels, rows, columns)."""
    if band.binning > 1:
        # A margin of repeated rays keeps the enlargement from pulling in what lies beyond the band.
        padded = f.pad(image[None], (1, 1, 1, 1), mode="replicate")
        big = f.interpolate(padded, scale_factor=band.binning, mode="bilinear", align_corners=False)[0]
        image = big[:, band.binning : -band.binning, band.binning : -band.binning]
    row, column = band.row * band.binning, band.column * band.binning
    part = into[:, row : row + image.shape[1], column : column + image.shape[2]]
    part.add_(image[:, : part.shape[1], : part.shape[2]])


def _arch(
    spine: Spine, vertebra: Vertebra, cone: Cone, palette: MaterialsPalette, device: torch.device
) -> Iterator[Shadow]:
    segments = spine.sacrum if vertebra.level is Level.S1 else ()
    boxes = [(vertebra.frame, *vertebra.arch.extent)]
    boxes += [(segment.frame, *segment.body.extent) for segment in segments]
    deposits = [lesion for lesion in vertebra.findings.lesions if lesion.where == "vertebra"]
    for band in bands(cone, boxes, _ARCH_MM, device):
        canvas = empty_canvas(band.grid, palette, 2)
        block = band.grid.block(vertebra.frame, *vertebra.arch.extent)
        if block is not None:
            outside = _arch_distance(vertebra, band.grid, block)
            matter = vertebra.arch_matter
            canvas.bone(block, outside, outside + matter.cortex, matter)
            if deposits:
                points = band.grid.coordinates(vertebra.frame, block)
                replace_bone(Patch(canvas, block, points), deposits, outside, _no_marks(band.grid))
        for segment in reversed(segments):
            block = band.grid.block(segment.frame, *segment.body.extent)
            if block is not None:
                field = body_field(segment.body, *band.grid.coordinates(segment.frame, block))
                canvas.bone(
                    block, field.outside, field.inside_shell(segment.matter.cortex, 0.5), segment.matter
                )
        # The body is projected by itself: what of the arch lies in it is taken away here.
        block = band.grid.block(vertebra.frame, *vertebra.body.extent)
        if block is not None:
            field = body_field(vertebra.body, *band.grid.coordinates(vertebra.frame, block))
            canvas.cover(block, field.outside, 0.0)
        yield Shadow(canvas.integral(), band)


def _arch_distance(vertebra: Vertebra, grid: ConeGrid, block: Block) -> Tensor:
    """Distance in mm to the arch on a block; pieces are evaluated near themselves, elsewhere it is 99."""
    arch = vertebra.arch
    total = torch.full(block_shape(block), 99.0, device=grid.device)
    for piece in arch.pieces:
        one = ArchShape((piece,), arch.blend)
        ends = np.array([piece.start, piece.end])
        reach = max(piece.radius_start, piece.radius_end) * np.array(piece.stretch) + arch.blend
        low, high = ends.min(axis=0) - reach, ends.max(axis=0) + reach
        if not piece.mirrored:
            sides = [(low, high)]
        elif low[0] < 0.0:
            sides = [(np.array([-high[0], *low[1:]]), high)]
        else:
            turned = np.array([-high[0], *low[1:]]), np.array([-low[0], *high[1:]])
            sides = [(low, high), turned]
        for corners in sides:
            part = grid.block(vertebra.frame, *corners)
            if part is None:
                continue
            inner = _common(part, block)
            if inner is None:
                continue
            distance = arch_distance(one, *grid.coordinates(vertebra.frame, inner))
            a, b, c = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, block, strict=True))
            view = total[a, b, c]
            view.copy_(smooth_minimum(view, distance, arch.blend))
    return total


def _common(one: Block, other: Block) -> Block | None:
    a, b, c = (slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(one, other, strict=True))
    return None if min(part.stop - part.start for part in (a, b, c)) <= 0 else (a, b, c)


def _body(
    vertebra: Vertebra, cone: Cone, palette: MaterialsPalette, device: torch.device
) -> Iterator[Shadow]:
    boxes = [(vertebra.frame, *vertebra.body.extent)]
    for spur in vertebra.osteophytes:
        reach = np.array(spur.radii) * (1.0 + 1.5 * spur.unevenness) + 1.0
        boxes.append((spur.frame, -reach, reach))
    for band in bands(cone, boxes, _BODY_MM, device):
        canvas = empty_canvas(band.grid, palette, 2)
        for spur in vertebra.osteophytes:
            paint_solid(canvas, spur)
        _paint_body(canvas, vertebra)
        yield Shadow(canvas.integral(), band)


def _paint_body(canvas: RayCanvas, vertebra: Vertebra) -> None:
    block = canvas.grid.block(vertebra.frame, *vertebra.body.extent)
    if block is None:
        return
    points = canvas.grid.coordinates(vertebra.frame, block)
    field = body_field(vertebra.body, *points)
    outside, matter, findings = field.outside, vertebra.matter, vertebra.findings
    patch = Patch(canvas, block, points)
    core: Tensor | float = matter.density
    if vertebra.compaction:
        core = core * (1.0 + vertebra.compaction * torch.exp(-((field.upper / 4.0) ** 2)))
    shell = field.inside_shell(matter.cortex, vertebra.endplate_mm)
    if findings.recesses:
        outside, shell = carve(canvas, block, findings.recesses, outside, shell)
    marrow = matter.marrow
    condensed, texture, plates = _structure(vertebra, field, shell, points, step=canvas.rays.step)
    core = core * condensed
    if findings.changes_bone:
        core, marrow = diseased_core(patch, vertebra, field, core)
    core = core * texture + plates
    # The shell of a body is perforated all over: it holds less mineral than the cortex of its arch.
    perforated = replace(matter, cortical_density=_SHELL * matter.cortical_density)
    canvas.bone(block, outside, shell, perforated, density=core, marrow=marrow)
    deposits = [lesion for lesion in findings.lesions if lesion.where in ("body", "vertebra")]
    if deposits:
        replace_bone(patch, deposits, outside, _no_marks(canvas.rays))


def _structure(
    vertebra: Vertebra,
    field: BodyField,
    shell: Tensor,
    points: tuple[Tensor, Tensor, Tensor],
    *,
    step: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """(factor of density towards the borders, factor of texture, mg/cm3 added near the endplates).

    Surfaces need every sample, or thin rims are missed and the outline shrinks; what fills the body does not.
    """
    count = shell.shape[0]
    u, v, w = (part[::2] for part in points)
    few = (u, v, w)
    condensed = _condensed(vertebra, shell[::2], few)
    texture = trabeculae(vertebra.seed, few, vertebra.matter.density, 2.0 * step).add_(1.0)
    plates = _subchondral(vertebra, BodyField(field.side[::2], field.upper[::2], field.lower[::2]), few)
    a, b, c = (part.repeat_interleave(2, dim=0)[:count] for part in (condensed, texture, plates))
    return a, b, c


def _subchondral(vertebra: Vertebra, field: BodyField, points: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Mineral in mg/cm3 that bone has more near the endplates: plates of uneven thickness, not shells."""
    matter = vertebra.matter
    u, v, _ = points
    phase = 0.1 * (vertebra.seed % 63)
    waves = torch.sin(0.31 * u + 0.23 * v + phase) * torch.sin(0.27 * u - 0.41 * v - 2.0 * phase)
    uneven = 1.0 + 0.35 * waves
    width = 0.7 + 1.2 * vertebra.endplate_mm
    # Thickest at the ring of the rim, thin where the nucleus lies.
    ring = 1.0 + 0.5 * torch.exp(field.side.clamp(max=0.0) * 0.3)
    plates = torch.exp(-((field.upper / width) ** 2)) + torch.exp(-((field.lower / (1.15 * width)) ** 2))
    return plates * uneven * ring * (_PLATE * (matter.cortical_density or 800.0))


def _condensed(vertebra: Vertebra, shell: Tensor, points: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Relative density: trabeculae are closer under the cortex, and rare about the veins."""
    u, v, w = points
    rim = 1.0 + vertebra.rim * torch.exp((shell * 0.45).clamp(max=0.0))
    back = vertebra.body.back_upper
    vein = ((u / 5.0) ** 2 + ((v - back + 3.0) / 6.0) ** 2 + (w / 2.5) ** 2).clamp_(max=4.0)
    return rim * (1.0 - 0.7 * torch.exp(-vein))


def _no_marks(grid: ConeGrid) -> Tensor:
    return torch.empty(grid.shape, dtype=torch.uint8, device=grid.device)
