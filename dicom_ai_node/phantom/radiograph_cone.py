"""A point source and a flat detector: where a point of the patient falls, and a grid along the rays.

All distances in millimetres; patient LPS. A pixel's coordinates are (column, row), integers at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.grid import Block, Grid

Array = npt.NDArray[np.float64]

_CORNERS = np.array([(i, j, k) for i in (0.0, 1.0) for j in (0.0, 1.0) for k in (0.0, 1.0)])
"""Of a unit cube."""


@dataclass(frozen=True)
class Cone:
    """The geometry of one exposure.

    Attributes:
        source: shape (3,), the focal spot in patient LPS mm.
        normal: shape (3,), unit vector of the central ray, from the source to the detector.
        across, down: shape (3,), unit vectors of increasing columns and rows of the detector.
        distance: from the source to the detector, along the central ray.
        origin: (column, row) of the pixel's coordinates where the central ray meets the detector.
        pixel: edge of a detector pixel.
        matrix: (rows, columns) of the detector.
    """

    source: Array
    normal: Array
    across: Array
    down: Array
    distance: float
    origin: tuple[float, float]
    pixel: float
    matrix: tuple[int, int]

    def project(self, points: Array) -> Array:
        """Points, shape (n, 3) in LPS mm, as (column, row, depth), shape (n, 3).

        The depth is the distance from the source along the central ray; `distance / depth` is a point's
        magnification.
        """
        away = points - self.source
        depth = away @ self.normal
        scale = self.distance / (depth * self.pixel)
        return np.stack(
            [
                self.origin[0] + (away @ self.across) * scale,
                self.origin[1] + (away @ self.down) * scale,
                depth,
            ],
            axis=1,
        )

    def rays(
        self,
        rows: tuple[int, int],
        columns: tuple[int, int],
        depths: tuple[float, float],
        *,
        binning: int,
        step: float,
        device: torch.device,
    ) -> ConeGrid:
        """A grid along the rays of binned pixels.

        Args:
            rows, columns: first and last + 1 of the *binned* pixels.
            depths: first and last depth in mm.
            binning: how many detector pixels (along an edge) share a ray.
            step: distance of the samples in depth, in mm.
            device: where the samples live.
        """
        count = max(1, int(np.ceil((depths[1] - depths[0]) / step)))
        shape = (count, rows[1] - rows[0], columns[1] - columns[0])
        pitch = self.pixel * binning
        middle = 0.5 * (binning - 1)
        x = (columns[0] * binning + middle - self.origin[0]) * self.pixel
        y = (rows[0] * binning + middle - self.origin[1]) * self.pixel
        first = depths[0] + 0.5 * step
        center = first + 0.5 * count * step
        affine = np.eye(4)
        scale = center / self.distance
        affine[:3, 0] = self.normal * step
        affine[:3, 1] = self.down * pitch * scale
        affine[:3, 2] = self.across * pitch * scale
        affine[:3, 3] = (
            self.source + center * self.normal + scale * (x * self.across + y * self.down)
            - 0.5 * count * step * self.normal
        )  # fmt: skip
        return ConeGrid(shape, affine, device, self, (y, x), pitch, first, step)


@dataclass(frozen=True)
class ConeGrid(Grid):
    """Samples along rays: exact cone geometry behind the face of a `Grid`.

    `affine` is the parallel grid that touches this one at its middle depth; it is used for the voxel's size
    only.

    Attributes:
        cone: the geometry.
        corner: (y, x) in mm on the detector of the first ray, from where the central ray meets it.
        pitch: distance of the rays on the detector.
        first, step: depth of the first sample, and the samples' distance.
    """

    cone: Cone
    corner: tuple[float, float]
    pitch: float
    first: float
    step: float

    def slab(self, first: int, count: int) -> Self:
        """The samples first..first+count-1 of all rays."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, 3] + first * self.affine[:3, 0]
        return replace(
            self,
            shape=(count, *self.shape[1:]),
            affine=affine,
            first=self.first + first * self.step,
        )

    def strip(self, first: int, count: int) -> Self:
        """The rays of the rows first..first+count-1."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, 3] + first * self.affine[:3, 1]
        corner = (self.corner[0] + first * self.pitch, self.corner[1])
        return replace(self, shape=(self.shape[0], count, self.shape[2]), affine=affine, corner=corner)

    def misses(self, center: Array, radius: float) -> bool:
        """Whether a ball (LPS mm) surely lies off the grid."""
        # Asked for every solid and strip: plain numbers are many times faster than arrays of three.
        cone = self.cone
        x, y, z = (float(part) for part in center - cone.source)
        depth = x * cone.normal[0] + y * cone.normal[1] + z * cone.normal[2]
        scale = cone.distance / max(depth, 1.0)
        down = (x * cone.down[0] + y * cone.down[1] + z * cone.down[2]) * scale
        across = (x * cone.across[0] + y * cone.across[1] + z * cone.across[2]) * scale
        around = 1.05 * radius * cone.distance / max(1.0, depth - radius) / self.pitch + 1.5
        places = (
            ((depth - self.first) / self.step, radius / self.step + 1.5),
            ((down - self.corner[0]) / self.pitch, around),
            ((across - self.corner[1]) / self.pitch, around),
        )
        return any(
            place + margin < 0 or place - margin > size - 1
            for (place, margin), size in zip(places, self.shape, strict=True)
        )

    def block(self, frame: Array, low: Array, high: Array) -> Block | None:
        """The part of the grid that a box touches: its corners bound its projection."""
        sides = low + _CORNERS * (high - low)
        index = self._index(sides @ frame[:3, :3].T + frame[:3, 3])
        first = np.maximum(np.ceil(index.min(axis=0) - 1.0), 0).astype(int)
        last = np.minimum(np.floor(index.max(axis=0) + 1.0), np.array(self.shape) - 1).astype(int)
        if (first > last).any():
            return None
        a, b, c = (slice(int(i), int(j) + 1) for i, j in zip(first, last, strict=True))
        return a, b, c

    def coordinates(self, frame: Array, block: Block | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates in mm of the block's samples in a rigid frame: three float32 tensors of its shape."""
        depths, rows, columns = block or tuple(slice(0, n) for n in self.shape)
        turn = frame[:3, :3].T
        start = turn @ (self.cone.source - frame[:3, 3])
        along, across, down = turn @ self.cone.normal, turn @ self.cone.across, turn @ self.cone.down
        y = (self.corner[0] + self.pitch * torch.arange(rows.start, rows.stop)) / self.cone.distance
        x = (self.corner[1] + self.pitch * torch.arange(columns.start, columns.stop)) / self.cone.distance
        t = self.first + self.step * torch.arange(depths.start, depths.stop, dtype=torch.float64)
        # Coordinates are small differences of long ways from the source: the offset is taken at the middle.
        middle = float(t.mean())
        t = (t - middle).to(torch.float32).to(self.device)[:, None, None]
        out = []
        for k in range(3):
            ray = (along[k] + across[k] * x[None, :] + down[k] * y[:, None]).to(torch.float64)
            base = start[k] + middle * ray
            ray, base = ray.to(torch.float32).to(self.device), base.to(torch.float32).to(self.device)
            out.append(torch.addcmul(base[None], t, ray[None]))
        return out[0], out[1], out[2]

    def lengths(self) -> Tensor:
        """Millimetres of ray per sample, shape (rows, columns), float32."""
        _, rows, columns = self.shape
        y = (self.corner[0] + self.pitch * torch.arange(rows)) / self.cone.distance
        x = (self.corner[1] + self.pitch * torch.arange(columns)) / self.cone.distance
        return self.step * torch.sqrt(1.0 + x[None, :] ** 2 + y[:, None] ** 2).to(torch.float32).to(
            self.device
        )

    def _index(self, points: Array) -> Array:
        """(sample, row, column) of points, shape (n, 3)."""
        away = points - self.cone.source
        depth = away @ self.cone.normal
        scale = self.cone.distance / np.maximum(depth, 1.0)
        return np.stack(
            [
                (depth - self.first) / self.step,
                ((away @ self.cone.down) * scale - self.corner[0]) / self.pitch,
                ((away @ self.cone.across) * scale - self.corner[1]) / self.pitch,
            ],
            axis=1,
        )
