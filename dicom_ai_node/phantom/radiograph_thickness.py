"""Line integrals of a person along the rays: water and bone mineral in g/cm2 per detector pixel.

Three grids on the same rays, each as fine as what it holds: the whole person as water, coarse; water about
the spine again, finer; the ribs and the pelvis, and finest the vertebrae, as mineral alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as f
from torch import Tensor

from dicom_ai_node.phantom.ct_signal import smoothed
from dicom_ai_node.phantom.painting import paint, paint_column
from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.radiograph_cone import Cone, ConeGrid
from dicom_ai_node.phantom.radiograph_palette import MINERAL_TISSUES, MineralPalette, WaterPalette
from dicom_ai_node.phantom.radiograph_processing import upsampled
from dicom_ai_node.phantom.solids import Solid, Tube
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.tissues import Tissue

Array = npt.NDArray[np.float64]

_TORSO_MM: Final = (3.0, 5.0)
_NEAR_MM: Final = (1.5, 3.0)
_SKELETON_MM: Final = (0.9, 2.0)
_SPINE_MM: Final = (0.42, 1.4)
"""(distance of the rays at the detector, of the samples in depth); rays are whole pixels apart."""

_BAND_MM: Final = {_NEAR_MM: 230.0, _SPINE_MM: 60.0}
"""Height of a band at the detector: low ones hug the spine, high ones share the cost of the many organs."""


class Thickness(NamedTuple):
    """Float32 tensors of the detector's shape in g/cm2."""

    water: Tensor
    mineral: Tensor


def thickness(
    spine: Spine, cone: Cone, water: WaterPalette, mineral: MineralPalette, device: torch.device
) -> Thickness:
    """What the rays to every pixel pass through."""
    reach = torso_depths(spine, cone)
    grid = _whole(cone, reach, _TORSO_MM, device)
    everything = paint(spine, grid, water).value
    soft = _fine(_water(everything, grid), grid, cone)
    for band in _bands(spine, cone, _NEAR_MM, device):
        _refine(soft, everything, grid, band, spine=spine, palette=water)
    bones = _whole(cone, reach, _SKELETON_MM, device)
    hard = _fine(_skeleton(spine, bones, mineral), bones, cone)
    for band in _bands(spine, cone, _SPINE_MM, device):
        canvas = Canvas(band.grid, torch.zeros(band.grid.shape, device=device), mineral)
        value = paint_column(replace(spine, discs=()), canvas).value
        _add(hard, value.sum(dim=0) * band.grid.lengths() * 1e-4, band)
    return Thickness(soft.clamp_(min=0.0), hard.clamp_(min=0.0))


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


class _Band(NamedTuple):
    grid: ConeGrid
    rows: tuple[int, int]
    columns: tuple[int, int]
    binning: int


def _binning(cone: Cone, pitch_mm: float) -> int:
    return max(1, round(pitch_mm / cone.pixel))


def _whole(
    cone: Cone, depths: tuple[float, float], fineness: tuple[float, float], device: torch.device
) -> ConeGrid:
    binning = _binning(cone, fineness[0])
    rows, columns = (-(-size // binning) for size in cone.matrix)
    return cone.rays((0, rows), (0, columns), depths, binning=binning, step=fineness[1], device=device)


def _bands(spine: Spine, cone: Cone, fineness: tuple[float, float], device: torch.device) -> Iterator[_Band]:
    """Grids that together hold the spine and little else, one below the other."""
    binning = _binning(cone, fineness[0])
    boxes = np.array([_extent(cone, frame, *extent) for frame, extent in _boxes(spine)])
    rows, columns = (-(-size // binning) for size in cone.matrix)
    height = max(1, round(_BAND_MM[fineness] / (cone.pixel * binning)))
    for first in range(0, rows, height):
        last = min(rows, first + height)
        touched = boxes[(boxes[:, 0, 1] < last * binning) & (boxes[:, 1, 1] > first * binning)]
        if len(touched) == 0:
            continue
        low, high = touched[:, 0].min(axis=0), touched[:, 1].max(axis=0)
        left = int(np.clip(np.floor(low[0] / binning) - 1, 0, columns))
        right = int(np.clip(np.ceil(high[0] / binning) + 2, 0, columns))
        if right <= left:
            continue
        grid = cone.rays(
            (first, last),
            (left, right),
            (low[2] - 2.0, high[2] + 2.0),
            binning=binning,
            step=fineness[1],
            device=device,
        )
        yield _Band(grid, (first, last), (left, right), binning)


def _boxes(spine: Spine) -> Iterator[tuple[Array, tuple[Array, Array]]]:
    for vertebra in spine.vertebrae:
        yield vertebra.frame, vertebra.body.extent
        yield vertebra.frame, vertebra.arch.extent
    for segment in spine.sacrum:
        yield segment.frame, segment.body.extent


def _extent(cone: Cone, frame: Array, low: Array, high: Array) -> Array:
    sides = np.array(np.meshgrid(*zip(low, high, strict=True), indexing="ij")).reshape(3, 8).T
    found = cone.project(sides @ frame[:3, :3].T + frame[:3, 3])
    return np.stack([found.min(axis=0), found.max(axis=0)])


def _water(value: Tensor, grid: ConeGrid) -> Tensor:
    """HU-like numbers to g/cm2."""
    return _even((value.sum(dim=0) + 1000.0 * value.shape[0]) * grid.lengths() * 1e-4)


def _even(image: Tensor) -> Tensor:
    """Take the dither's stripes out: it averages to nothing over three by three rays."""
    return smoothed(smoothed(image, 0, 0.8), 1, 0.8)


def _fine(image: Tensor, grid: ConeGrid, cone: Cone) -> Tensor:
    return upsampled(image, round(grid.pitch / cone.pixel), cone.matrix).clone()


def _refine(
    soft: Tensor, coarse_value: Tensor, grid: ConeGrid, band: _Band, *, spine: Spine, palette: WaterPalette
) -> None:
    """Add to the coarse water what a finer grid about the spine sees more of it, fading to its borders."""
    # The same depths in both: whole samples of the coarse grid.
    first = max(0, int((band.grid.first - grid.first) / grid.step))
    count = int(np.ceil(band.grid.shape[0] * band.grid.step / grid.step)) + 1
    last = min(grid.shape[0], first + count)
    depths = (
        grid.first + (first - 0.5) * grid.step,
        grid.first + (last - 0.5) * grid.step,
    )
    fine = grid.cone.rays(
        band.rows, band.columns, depths, binning=band.binning, step=band.grid.step, device=grid.device
    )
    seen = _water(paint(spine, fine, palette).value, fine)
    part = grid.slab(first, last - first)
    coarse = _water(coarse_value[first:last], part)
    # Both end at the same depth only if the steps say so: scale the finer one's path to the coarse one's.
    seen = seen * ((last - first) * grid.step / (fine.shape[0] * fine.step))
    factor = round(grid.pitch / grid.cone.pixel)
    rows = slice(band.rows[0] * band.binning, min(band.rows[1] * band.binning, soft.shape[0]))
    columns = slice(band.columns[0] * band.binning, min(band.columns[1] * band.binning, soft.shape[1]))
    before = upsampled(coarse, factor, (soft.shape[0], soft.shape[1]))[rows, columns]
    after = upsampled(seen, band.binning, (before.shape[0], before.shape[1]))
    ramp = max(1.0, 8.0 / grid.cone.pixel)
    place = torch.arange(before.shape[1], device=soft.device)
    fade = (torch.minimum(place + 1, before.shape[1] - place) / ramp).clamp(max=1.0)
    soft[rows, columns] += (after - before) * fade


def _skeleton(spine: Spine, grid: ConeGrid, palette: MineralPalette) -> Tensor:
    solids = [
        *(solid for solid in spine.trunk.behind if solid.matter.tissue.value in MINERAL_TISSUES),
        *spine.trunk.bones,
    ]
    return _even(painted(solids, grid, palette).sum(dim=0) * grid.lengths() * 1e-4)


def painted(solids: Iterable[Solid], grid: ConeGrid, palette: MineralPalette) -> Tensor:
    """Solids alone, in mg/cm3, of the grid's shape."""
    canvas = Canvas(grid, torch.zeros(grid.shape, device=grid.device), palette)
    for solid in solids:
        paint_solid(canvas, solid)
    return canvas.value


def shadow(
    solids: Sequence[Solid], cone: Cone, reach: tuple[float, float], device: torch.device
) -> tuple[Tensor, int]:
    """Where bones lie over the image: bool, of pixels binned by the number that comes with it."""
    binning = _binning(cone, 4.0)
    grid = _whole(cone, reach, (4.0, 4.0), device)
    mineral = painted(solids, grid, MineralPalette()).sum(dim=0) * 4e-4
    return mineral > 0.15, binning


def _add(target: Tensor, image: Tensor, band: _Band) -> None:
    # A margin of repeated rays keeps the enlargement from pulling in what lies beyond the band.
    padded = f.pad(image[None, None], (1, 1, 1, 1), mode="replicate")
    big = f.interpolate(padded, scale_factor=band.binning, mode="bilinear", align_corners=False)[0, 0]
    big = big[band.binning : -band.binning, band.binning : -band.binning]
    row, column = band.rows[0] * band.binning, band.columns[0] * band.binning
    part = target[row : row + big.shape[0], column : column + big.shape[1]]
    part.add_(big[: part.shape[0], : part.shape[1]])
