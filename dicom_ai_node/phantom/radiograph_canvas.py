"""A canvas on a grid along rays: every voxel is much deeper than it is wide, and still covered exactly.

A surface that a ray crosses steeply is spread over the depth of a sample, one that it grazes over the
distance of the rays: the sum along the ray is then the length of the path, whatever the depth of the
samples, and no terraces are left where a smooth surface runs through them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from dicom_ai_node.phantom.painting import Palette
from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.radiograph_cone import ConeGrid
from dicom_ai_node.phantom.solids import Solid


class RayCanvas(Canvas):
    """A canvas of `ConeGrid`; sums along axis -3 of its value are path integrals."""

    def __init__(self, grid: ConeGrid, value: Tensor, palette: Palette) -> None:
        super().__init__(grid, value, palette)
        self.rays = grid
        self._across = grid.voxel_mm
        # A distance changes at most as fast as one walks; more is a cut, not a surface.
        self._limit = 1.05 * grid.step

    def coverage(self, distance: Tensor) -> Tensor:
        """Share of a sample's piece of ray inside a surface, of the shape of `distance` (mm)."""
        return (0.5 - distance / self._width(distance)).clamp_(0.0, 1.0)

    def _width(self, distance: Tensor) -> Tensor | float:
        """Over how much of the distance a sample reaches, in mm."""
        if distance.shape[-3] == 1:
            return max(self._across, 0.6 * self.rays.step)
        steps = torch.diff(distance, dim=-3).abs_().clamp_(max=self._limit)
        width = torch.empty_like(distance)
        width[0], width[-1] = steps[0], steps[-1]
        torch.add(steps[1:], steps[:-1], out=width[1:-1]).mul_(0.5)
        return width.clamp_(min=self._across)

    def integral(self) -> Tensor:
        """Path integrals of the value per ray, in its unit times mm: (..., rows, columns)."""
        return self.value.sum(dim=-3) * self.rays.lengths()


def empty_canvas(grid: ConeGrid, palette: Palette, channels: int | None = None) -> RayCanvas:
    """A canvas of zeros, with channels for a palette that has several."""
    shape = grid.shape if channels is None else (channels, *grid.shape)
    return RayCanvas(grid, torch.zeros(shape, device=grid.device), palette)


def painted(solids: Iterable[Solid], grid: ConeGrid, palette: Palette) -> Tensor:
    """Solids alone in the palette's unit, of the grid's shape."""
    canvas = empty_canvas(grid, palette)
    for solid in solids:
        paint_solid(canvas, solid)
    return canvas.value
