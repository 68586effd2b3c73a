"""The patch that P4's network sees: a square box about a body, cut from paired slices, each standardised.

Places are pixels [row, column] of the slices, integers at pixel centres; rows run to inferior, columns to
posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

PIXEL_MM: Final = 0.8
"""Edge of the pixels that patches are cut from."""

BODY_SHARE: Final = 0.5
"""A slice counts as one through a body where it cuts at least this share of the body's largest section."""


def square_about(box: Tensor, margin: float, behind: float) -> tuple[Tensor, float]:
    """(center (2,), edge in pixels) of the square about a body's box.

    Args:
        box: first row, first column, last row, last column, shape (4,).
        margin: edge of the square over the longer edge of the box.
        behind: how far the square lies behind the box, as a share of its longer edge: what tells a tumour
            lies behind the body (canal, pedicles, posterior elements) more than in front of it.
    """
    longer = float((box[2:] - box[:2]).max()) + 1.0
    center = (box[:2] + box[2:]) / 2 + torch.tensor([0.0, behind * longer])
    return center, margin * longer


def cut_square(images: Tensor, center: Tensor, matrix: Tensor, size: int) -> Tensor:
    """Parts of images, interpolated linearly (P4, "Deep learning architecture"); borders repeat.

    Args:
        images: float32, (channels, rows, columns).
        center: pixel at the middle of the patch: (2,) for all channels, or (channels, 2).
        matrix: 2x2, offsets in patch pixels -> offsets in image pixels.
        size: of the square patch.

    Returns:
        float32, (channels, size, size).
    """
    channels, rows, columns = images.shape
    line = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    offsets = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1) @ matrix.T.float()
    centers = center.float().expand(channels, 2)
    places = offsets[None] + centers[:, None, None]
    grid = (places * 2 + 1) / torch.tensor([rows, columns], dtype=torch.float32) - 1
    sampled: Tensor = functional.grid_sample(
        images[:, None], grid.flip(-1), mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled[:, 0]


def standardised(patch: Tensor) -> Tensor:
    """Every image of a patch (..., rows, columns) with mean 0 and deviation 1 (P4); an empty one is 0."""
    deviation, mean = torch.std_mean(patch, dim=(-2, -1), keepdim=True, correction=0)
    return (patch - mean) / (deviation + 1e-6)


def three_slices(stacks: Tensor, middle: int) -> Tensor:
    """A slice and both neighbours of every series; at the end of a stack the last slice repeats.

    Args:
        stacks: (series, slices, rows, columns).
        middle: the slice.

    Returns:
        (3 * series, rows, columns): three slices of the first series, of the second, ...
    """
    chosen = torch.arange(middle - 1, middle + 2).clamp(0, stacks.shape[1] - 1)
    return stacks[:, chosen].flatten(0, 1)


def body_patches(
    stacks: Tensor, box: Tensor, slices: Sequence[int], *, size: int, margin: float, behind: float
) -> Tensor:
    """What the network sees of a body: one patch per slice.

    Args:
        stacks: float32, (series, slices, rows, columns), on one grid.
        box: of the body, see `square_about`.
        slices: those to look at; each is seen with both neighbours.
        size, margin, behind: see `square_about` and `cut_square`.

    Returns:
        float32, (len(slices), 3 * series, size, size), every image with mean 0 and deviation 1.
    """
    center, edge = square_about(box, margin, behind)
    matrix = torch.eye(2) * (edge / size)
    chosen = torch.cat([three_slices(stacks, middle) for middle in slices])
    patches = standardised(cut_square(chosen, center, matrix, size))
    return patches.reshape(len(slices), 3 * stacks.shape[0], size, size)
