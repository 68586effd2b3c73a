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
        """Share of a sample's piece of ray inside a surface, of the shape of `distance` (mm).

        The distance runs straight from sample to sample: each half of a piece is inside as far as that line
        is below zero. Where it hardly changes the ray grazes the surface, and the width of the ray decides.
        """
        if distance.shape[-3] == 1:
            return (0.5 - distance / max(self._across, 0.6 * self.rays.step)).clamp_(0.0, 1.0)
        half = torch.diff(distance, dim=-3).clamp_(-self._limit, self._limit).mul_(0.5)
        scale = half.abs().clamp_(min=self._across).reciprocal_()
        bend = half.mul_(scale).mul_(0.5)
        # Beyond the first and the last sample the line runs on as it came.
        share = torch.empty_like(distance)
        share[0] = (0.5 + bend[0] - distance[0] * scale[0]).clamp_(0.0, 1.0)
        share[-1] = (0.5 - bend[-1] - distance[-1] * scale[-1]).clamp_(0.0, 1.0)
        after = bend.add(distance[:-1] * scale).neg_().add_(0.5).clamp_(0.0, 1.0)
        before = bend.addcmul_(distance[1:], scale, value=-1.0).add_(0.5).clamp_(0.0, 1.0)
        share[0] += after[0]
        share[-1] += before[-1]
        torch.add(after[1:], before[:-1], out=share[1:-1])
        return share.mul_(0.5)

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
