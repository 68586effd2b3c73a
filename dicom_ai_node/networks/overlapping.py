"""Heatmaps of a whole volume from overlapping patches (P3 section 2.1, figure 2): read, answer, merge.

The volume is filled up with air until patches a stride apart cover it; each patch's heatmaps count most in
its middle and next to nothing at its rim, so that no seam is left. Neither the volume nor its heatmaps need
to be in memory at the network's resolution: patches are read one by one, and what they say is averaged over
blocks of voxels before it is merged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from dicom_ai_node.networks.intensity import reach_of, smoothed, standardise

Read = Callable[[Sequence[int], Sequence[int]], Tensor]
"""HU of a box of a volume: first voxel (also before the volume) and size -> float32; air beyond it."""

STRIDE: Final = 0.75
"""Of a patch, from one to the next: a quarter is seen twice. P3 names no stride; Payer 2020, whose patches
have P3's size, has this one from head to foot."""

AIR_HU: Final = -1024.0

_WEIGHT_SIGMA: Final = 0.125
"""Of the Gaussian that a patch's places are weighed with, as a share of its edge (nnU-Net, Isensee 2021)."""


@dataclass(frozen=True)
class PatchInput:
    """What is done to a patch of a CT before a network sees it.

    Attributes:
        clip_hu: lowest and highest value (P3 section 3.2: -2048 and 8192).
        smoothing: of the Gaussian filter, in voxels; 0 for none.
        moments: mean and standard deviation of the whole clipped volume; None for the patch's own.
    """

    clip_hu: tuple[float, float]
    smoothing: float = 0.0
    moments: tuple[float, float] | None = None

    @property
    def margin(self) -> int:
        """Voxels about a patch that the filter looks at."""
        return reach_of(self.smoothing) if self.smoothing else 0

    def filtered(self, patch: Tensor) -> Tensor:
        """HU of a patch, from those with `margin` voxels more to each side; as it is without a filter."""
        if not self.smoothing:
            return patch
        inner = (slice(self.margin, -self.margin),) * 3
        return smoothed(patch.float().clamp(*self.clip_hu), self.smoothing)[inner]

    def of(self, patch: Tensor) -> Tensor:
        """What the network sees of a patch in HU with `margin` voxels more to each side."""
        return self.standardised(self.filtered(patch))

    def standardised(self, patch: Tensor) -> Tensor:
        """The standard score of a patch that was filtered."""
        return standardise(patch, self.clip_hu, self.moments)


@dataclass(frozen=True)
class Tiling:
    """Where patches lie along the three axes of a volume.

    Attributes:
        shape: of the volume.
        patch: size of a patch; every edge a multiple of `block`.
        block: edge of the blocks that heatmaps are averaged over.
    """

    shape: tuple[int, ...]
    patch: tuple[int, ...]
    block: int = 1

    def __post_init__(self) -> None:
        if any(edge % self.block for edge in self.patch):
            raise ValueError(f"patches of {self.patch} voxels are not made of blocks of {self.block}")

    def starts(self, axis: int) -> list[int]:
        """First voxels of the patches along an axis; the first may lie before the volume, by whole blocks."""
        length, edge = self.shape[axis], self.patch[axis]
        stride = max(1, int(STRIDE * edge / self.block)) * self.block
        count = 1 + max(0, math.ceil((length - edge) / stride))
        overhang = edge + (count - 1) * stride - length
        before = overhang // (2 * self.block) * self.block
        return [number * stride - before for number in range(count)]

    def boxes(self) -> list[tuple[int, ...]]:
        """First voxels of all patches; the last axis runs fastest."""
        return list(itertools.product(*(self.starts(axis) for axis in range(len(self.shape)))))

    def blocks(self, axis: int) -> int:
        """Blocks along an axis of all that is filled."""
        starts = self.starts(axis)
        return (starts[-1] - starts[0] + self.patch[axis]) // self.block

    def weights(self, axis: int) -> Tensor:
        """How much a patch's blocks count along an axis: float32, shape (edge / block,)."""
        edge = self.patch[axis]
        places = (torch.arange(edge // self.block, dtype=torch.float32) + 0.5) * self.block - edge / 2
        return torch.exp(-0.5 * (places / (_WEIGHT_SIGMA * edge)) ** 2)


def block_of(spacing_mm: float, coarsest_mm: float) -> int:
    """The largest block of 1, 2 or 4 voxels that is not longer than `coarsest_mm`; 1 where none is."""
    return max((block for block in (2, 4) if block * spacing_mm <= coarsest_mm + 1e-6), default=1)


def merged_heatmaps(
    answer: Callable[[Tensor], Tensor],
    read: Read,
    tiling: Tiling,
    look: PatchInput,
    *,
    batch: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Tensor:
    """The heatmaps of a whole volume.

    Args:
        answer: from (patches, 1, *patch) to heatmaps (patches, landmarks, *patch).
        read: gives HU.
        tiling: where patches lie.
        look: what is done to their intensities.
        batch: patches that are answered at once.
        progress: is told how many patches of how many are done.

    Returns:
        float32 on the CPU, shape (landmarks, *blocks): means over blocks of voxels, the first of which begin
        where the volume does.
    """
    boxes, block = tiling.boxes(), tiling.block
    along = [tiling.weights(axis) for axis in range(3)]
    weight = along[0][:, None, None] * along[1][:, None] * along[2]
    total: Tensor | None = None
    for first in range(0, len(boxes), batch):
        chosen = boxes[first : first + batch]
        patches = torch.stack([look.of(_with_margin(read, box, tiling.patch, look.margin)) for box in chosen])
        said = functional.avg_pool3d(answer(patches[:, None]).float(), block).cpu() * weight
        if total is None:
            total = torch.zeros(said.shape[1], *(tiling.blocks(axis) for axis in range(3)))
        for box, part in zip(chosen, said, strict=True):
            z, y, x = (_place(tiling, axis, start) for axis, start in enumerate(box))
            total[:, z, y, x] += part
        progress(min(first + batch, len(boxes)), len(boxes))
    assert total is not None
    for axis in range(3):
        # Patches lie on a grid: the sum of their weights is the product of the sums along the axes.
        summed = torch.zeros(tiling.blocks(axis))
        for start in tiling.starts(axis):
            summed[_place(tiling, axis, start)] += along[axis]
        total /= summed.reshape([-1 if dim == axis + 1 else 1 for dim in range(4)])
    z, y, x = (
        slice(-tiling.starts(axis)[0] // block, -tiling.starts(axis)[0] // block + math.ceil(length / block))
        for axis, length in enumerate(tiling.shape)
    )
    return total[:, z, y, x]


def reader_of(volume: Tensor) -> Read:
    """Boxes of a volume in memory, HU, shape (slices, rows, columns)."""

    def read(first: Sequence[int], size: Sequence[int]) -> Tensor:
        box = torch.full(tuple(size), AIR_HU)
        there = [
            (max(0, start), min(full, start + n))
            for start, n, full in zip(first, size, volume.shape, strict=True)
        ]
        if all(low < high for low, high in there):
            source = tuple(slice(low, high) for low, high in there)
            target = tuple(
                slice(low - start, high - start) for (low, high), start in zip(there, first, strict=True)
            )
            box[target] = volume[source].float().cpu()
        return box

    return read


def _with_margin(read: Read, first: Sequence[int], size: Sequence[int], margin: int) -> Tensor:
    return read([start - margin for start in first], [edge + 2 * margin for edge in size])


def _place(tiling: Tiling, axis: int, start: int) -> slice:
    """The blocks of a patch along an axis, among all blocks."""
    begin = (start - tiling.starts(axis)[0]) // tiling.block
    return slice(begin, begin + tiling.patch[axis] // tiling.block)
