"""A sampled part of patient space: any affine, and only the block of it that a shape touches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
Block = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Grid:
    """Voxel centres in patient space.

    Attributes:
        shape: (slices, rows, columns).
        affine: float64 4x4, (slice, row, column, 1) -> LPS millimetres; any invertible one.
        device: where tensors on this grid live.
    """

    shape: tuple[int, int, int]
    affine: Array
    device: torch.device

    @property
    def voxel_mm(self) -> float:
        """Edge of a cube of the voxel's in-plane area: how broad a boundary looks."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.sqrt(edges[1] * edges[2]))

    @cached_property
    def inverse(self) -> Array:
        """4x4, LPS millimetres -> (slice, row, column, 1)."""
        turned: Array = np.linalg.inv(self.affine).astype(np.float64)
        return turned

    @cached_property
    def _reach(self) -> Array:
        # Index distance per millimetre along each axis of the grid, whatever the direction.
        lengths: Array = np.sqrt((self.inverse[:3, :3] ** 2).sum(axis=1))
        return lengths

    def misses(self, center: Array, radius: float) -> bool:
        """Whether a ball (LPS mm) surely lies off the grid: a cheap test before `block`."""
        index = self.inverse[:3, :3] @ center + self.inverse[:3, 3]
        margin = self._reach * radius + 1.0
        return bool((index + margin < 0).any() or (index - margin > np.array(self.shape) - 1).any())

    def slab(self, first: int, count: int) -> Grid:
        """The slices first..first+count-1 as a grid of their own."""
        affine = self.affine.copy()
        affine[:3, 3] = self.affine[:3, 3] + first * self.affine[:3, 0]
        return Grid((count, *self.shape[1:]), affine, self.device)

    def block(self, frame: Array, low: Array, high: Array) -> Block | None:
        """The part of the grid that a box touches, or None where it misses the grid.

        Args:
            frame: 4x4, box frame -> LPS millimetres.
            low, high: shape (3,), corners of the box in its frame.
        """
        inside = self.inverse @ frame
        middle = inside[:3, :3] @ (0.5 * (low + high)) + inside[:3, 3]
        half = np.abs(inside[:3, :3]) @ (0.5 * (high - low)) + 1.0
        first = np.maximum(np.ceil(middle - half), 0).astype(int)
        last = np.minimum(np.floor(middle + half), np.array(self.shape) - 1).astype(int)
        if (first > last).any():
            return None
        return (
            slice(int(first[0]), int(last[0]) + 1),
            slice(int(first[1]), int(last[1]) + 1),
            slice(int(first[2]), int(last[2]) + 1),
        )

    def coordinates(self, frame: Array, block: Block | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Coordinates in mm of the block's voxels in a frame, as three float32 tensors.

        The frame is rigid (4x4, frame -> LPS millimetres). Each tensor is shaped to broadcast to the block:
        an axis along which it does not change has length 1, so
        that grids that are parallel to the frame cost next to nothing.
        """
        inside = np.empty((3, 4))
        inside[:, :3] = frame[:3, :3].T @ self.affine[:3, :3]
        inside[:, 3] = frame[:3, :3].T @ (self.affine[:3, 3] - frame[:3, 3])
        ranges = block or tuple(slice(0, n) for n in self.shape)
        out: list[Tensor] = []
        for row in range(3):
            total: Tensor | None = None
            offset = inside[row, 3]
            for axis in range(3):
                offset += inside[row, axis] * ranges[axis].start
            for axis in range(3):
                step = inside[row, axis]
                count = ranges[axis].stop - ranges[axis].start
                if abs(step) * count < 1e-4:
                    continue
                shape = [1, 1, 1]
                shape[axis] = count
                line = torch.arange(count, dtype=torch.float64) * step
                if total is None:
                    line = line + offset
                part = line.to(torch.float32).to(self.device).reshape(shape)
                total = part if total is None else total + part
            if total is None:
                total = torch.full((1, 1, 1), offset, dtype=torch.float32, device=self.device)
            out.append(total)
        return out[0], out[1], out[2]


def block_shape(block: Block) -> tuple[int, int, int]:
    """(slices, rows, columns) of a block."""
    a, b, c = block
    return a.stop - a.start, b.stop - b.start, c.stop - c.start
