"""Line integrals of a person along the rays: water and bone mineral in g/cm2 per detector pixel.

Three passes, each as fine as what it holds: the soft person as water, coarse; ribs, pelvis and calcium as
mineral; the vertebrae (`radiograph_column`) as both. Samples are deep: `radiograph_canvas` says why they may.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.painting_solids import paint_solid
from dicom_ai_node.phantom.painting_torso import paint_torso
from dicom_ai_node.phantom.parallel import in_order
from dicom_ai_node.phantom.radiograph_arms import Arms, with_arms
from dicom_ai_node.phantom.radiograph_beam import blurred
from dicom_ai_node.phantom.radiograph_canvas import RayCanvas, painted
from dicom_ai_node.phantom.radiograph_column import Shadow, add, bands, binned, project_column
from dicom_ai_node.phantom.radiograph_cone import Cone, ConeGrid
from dicom_ai_node.phantom.radiograph_lungs import lung_vessels
from dicom_ai_node.phantom.radiograph_palette import (
    MINERAL_TISSUES,
    MaterialsPalette,
    MineralPalette,
    WaterPalette,
)
from dicom_ai_node.phantom.radiograph_processing import upsampled
from dicom_ai_node.phantom.solids import Ellipsoid, Solid, Tube, height
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.tissues import Matter, Tissue
from dicom_ai_node.phantom.trunk import Trunk

Array = npt.NDArray[np.float64]

_SOFT_MM: Final = (2.4, 8.0)
_SKELETON_MM: Final = (0.8, 3.5)
_PELVIS_MM: Final = (1.7, 4.0)
_CRUMB_MM: Final = (0.3, 1.0)
_BLADE_MM: Final = (0.8, 1.2)
"""(distance of the rays at the detector, of the samples in depth); rays are whole pixels apart."""

_THIN_MM: Final = 4.0
"""Half thickness under which an ellipsoid needs closer samples, ..."""

_LARGE_MM: Final = 15.0
"""... and half length from which coarser rays will do."""

_SAMPLES: Final = 600_000
"""Samples of a strip: few, to stay near a processor's cache; not too few, for each strip asks every solid."""

_DISPLACED: Final = 0.25
"""Water that a gram of mineral in ribs and pelvis displaces: the marrow beside it is fatty."""


class Thickness(NamedTuple):
    """Float32 tensors of the detector's shape in g/cm2."""

    water: Tensor
    mineral: Tensor


def thickness(
    spine: Spine,
    cone: Cone,
    water: WaterPalette,
    mineral: MineralPalette,
    *,
    device: torch.device,
    arms: Arms,
) -> Thickness:
    """What the rays to every pixel pass through."""
    spine = replace(spine, trunk=with_arms(spine.trunk, arms))
    reach = torso_depths(spine, cone)
    grid = _whole(cone, reach, _SOFT_MM, device)
    soft = _fine(_soft(spine, grid, water), grid, cone)
    bones = _whole(cone, reach, _SKELETON_MM, device)
    hard = torch.zeros((1, *cone.matrix), device=device)
    _skeleton(spine, bones, mineral, hard)
    soft.sub_(hard[0], alpha=_DISPLACED * 1e-4)
    around = water.tissue(Matter(Tissue.MUSCLE, spine.trunk.muscle.deviation - 0.5))
    column = torch.zeros((2, *cone.matrix), device=device)
    project_column(spine, cone, MaterialsPalette(water, mineral, around, device), column)
    soft.add_(column[0], alpha=1e-4)
    total = hard[0].add_(column[1]).mul_(1e-4)
    return Thickness(soft.clamp_(min=0.0), total.clamp_(min=0.0))


def torso_depths(spine: Spine, cone: Cone) -> tuple[float, float]:
    """First and last depth in mm at which there may be anything of the person."""
    profile, frame = spine.trunk.profile, spine.trunk.frame
    middle = frame[:3, 3] + frame[:3, 0] * profile[:, 0].mean() + frame[:3, 1] * profile[:, 1].mean()
    shares = np.abs(frame[:3, :2].T @ cone.normal)
    half = float(shares @ profile[:, 2:4].max(axis=0)) + np.ptp(profile[:, 1]) / 2 * shares[1] + 12.0
    center = float((middle - cone.source) @ cone.normal)
    low, high = center - half, center + half
    for solid in spine.trunk.behind:
        if isinstance(solid, Tube) and solid.matter.tissue is Tissue.FAT:
            # Arms hang beside the torso.
            depths = (solid.points - cone.source) @ cone.normal
            low = min(low, float(depths.min() - solid.radii.max()))
            high = max(high, float(depths.max() + solid.radii.max()))
    return max(low, 50.0), min(high, cone.distance)


def shadow(
    solids: Sequence[Solid], cone: Cone, reach: tuple[float, float], device: torch.device
) -> tuple[Tensor, int]:
    """Where bones lie over the image: bool, of pixels binned by the number that comes with it."""
    grid = _whole(cone, reach, (4.0, 8.0), device)
    mineral = painted(solids, grid, MineralPalette()).sum(dim=0) * grid.step * 1e-4
    return mineral > 0.15, binned(cone, 4.0)


def _whole(
    cone: Cone, depths: tuple[float, float], fineness: tuple[float, float], device: torch.device
) -> ConeGrid:
    binning = binned(cone, fineness[0])
    rows, columns = (-(-size // binning) for size in cone.matrix)
    return cone.rays((0, rows), (0, columns), depths, binning=binning, step=fineness[1], device=device)


def _fine(image: Tensor, grid: ConeGrid, cone: Cone) -> Tensor:
    return upsampled(image, round(grid.pitch / cone.pixel), cone.matrix).clone()


def _soft(spine: Spine, grid: ConeGrid, palette: WaterPalette) -> Tensor:
    """Everything but bones, in g/cm2; where bones are there is muscle."""
    growths = [
        solid
        for vertebra in spine.vertebrae
        for lesion in vertebra.findings.lesions
        if lesion.where == "around"
        for solid in lesion.solids
    ]
    solids = (*lung_vessels(spine.trunk), *spine.trunk.behind, *growths)
    tasks = [partial(_soft_strip, spine.trunk, solids, strip, palette) for strip in _strips(grid)]
    # Bowel, heart and vessels move during the exposure; bubbles and faeces are less regular than their cells.
    return blurred(torch.cat(list(in_order(tasks, grid.device))), 0.6)


def _strips(grid: ConeGrid, samples: int = _SAMPLES) -> list[ConeGrid]:
    height = max(4, samples // (grid.shape[0] * grid.shape[2]))
    return [grid.strip(row, min(height, grid.shape[1] - row)) for row in range(0, grid.shape[1], height)]


def _soft_strip(trunk: Trunk, solids: Sequence[Solid], strip: ConeGrid, palette: WaterPalette) -> Tensor:
    canvas = RayCanvas(strip, torch.full(strip.shape, -1000.0, device=strip.device), palette)
    paint_torso(trunk, canvas)
    for solid in solids:
        paint_solid(canvas, solid)
    canvas.value.add_(1000.0)
    return canvas.integral() * 1e-4


def _skeleton(spine: Spine, grid: ConeGrid, palette: MineralPalette, into: Tensor) -> None:
    """Add ribs, pelvis, limbs and calcium, in mg/cm3 times mm, to `into` (1, rows, columns)."""
    hips = spine[Level.L4].frame[2, 3]
    calcified = [solid for solid in spine.trunk.behind if solid.matter.tissue.value in MINERAL_TISSUES]
    upper: list[Solid] = []
    lower: list[Solid] = []
    pieces: list[Iterator[Shadow]] = []
    for solid in (*calcified, *spine.trunk.bones):
        if isinstance(solid, Ellipsoid) and min(solid.radii) < _THIN_MM:
            # Between two deep samples a thin plate or a crumb would be missed.
            pieces.append(_thin(solid, grid, palette))
        elif height(solid) < hips:
            lower.append(solid)
        else:
            upper.append(solid)
    for shadows in in_order([partial(list[Shadow], piece) for piece in pieces], grid.device):
        for image, band in shadows:
            add(into, image, band)
    cone, depths = grid.cone, (grid.first, grid.first + grid.step * grid.shape[0])
    for solids, fineness in ((upper, _SKELETON_MM), (lower, _PELVIS_MM)):
        whole = _whole(cone, depths, fineness, grid.device)
        tasks = [partial(_thick, solids, strip, palette) for strip in _strips(whole, 10 * _SAMPLES)]
        image = torch.cat(list(in_order(tasks, grid.device)))
        into[0] += upsampled(image, round(whole.pitch / cone.pixel), cone.matrix)


def _thin(solid: Ellipsoid, grid: ConeGrid, palette: MineralPalette) -> Iterator[Shadow]:
    reach = np.array(solid.radii) * (1.0 + 1.5 * solid.unevenness) + 1.0
    fineness = _CRUMB_MM if max(solid.radii) < _LARGE_MM else _BLADE_MM
    for band in bands(grid.cone, [(solid.frame, -reach, reach)], fineness, grid.device):
        yield Shadow((painted([solid], band.grid, palette).sum(dim=0) * band.grid.lengths())[None], band)


def _thick(solids: Sequence[Solid], strip: ConeGrid, palette: MineralPalette) -> Tensor:
    return painted(solids, strip, palette).sum(dim=0) * strip.lengths()
