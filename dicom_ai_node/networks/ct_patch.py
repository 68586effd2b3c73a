"""The patches that P2's classifier sees: several of every vertebra's box on a sagittal CT slice (VEModule).

P2 takes several samples of each box, scaled and shifted at random (Figure 1C draws eight of two vertebrae);
by how much it does not tell. Here a patch is a square in millimetres about the box, so that nothing is
stretched whatever the pixels are; its edge is the box's longer edge times a scale, and it is moved by a share
of its own edge. In use four patches are cut that are spread over what training draws from, and what the
network says of them is averaged.

Boxes are [left, top, right, bottom] at the edges of pixels: pixel k lies between k and k + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

AIR_HU: Final = -1000.0
"""What lies beyond the image: black, as P2 pads its slices."""

WINDOWS: Final = 3
"""Windows of a patch: a ResNet looks at three channels."""


def fixed_views(scales: tuple[float, float], shift: float) -> Tensor:
    """The four patches that are cut in use: (4, 3), each a scale, and shares of its edge to move by.

    Their scales lie in the middle of each quarter of the range, and each is moved to another corner by half
    of what training moves at most [row, column].
    """
    low, high = scales
    corners = torch.tensor([[-0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.5, -0.5]])
    wide = low + (high - low) * (torch.arange(4) + 0.5) / 4
    return torch.cat([wide[:, None], shift * corners], dim=1)


def squares_about(boxes: Tensor, spacing_mm: tuple[float, float], views: Tensor) -> tuple[Tensor, Tensor]:
    """(centers (n, v, 2) in pixels [row, column] from the image's corner, edges (n, v) in mm) of the patches.

    Args:
        boxes: (n, 4), left, top, right, bottom in pixels.
        spacing_mm: of the rows and of the columns.
        views: (v, 3), see `fixed_views`.
    """
    pixel = torch.tensor(spacing_mm, dtype=torch.float32, device=boxes.device)
    views = views.to(boxes.device)
    low, high = boxes[:, [1, 0]].float(), boxes[:, [3, 2]].float()
    longer = ((high - low) * pixel).amax(dim=1)
    edges = longer[:, None] * views[:, 0]
    centers = ((low + high) / 2)[:, None] + edges[..., None] * views[:, 1:] / pixel
    return centers, edges


def cut_patches(
    image: Tensor,
    spacing_mm: tuple[float, float],
    centers: Tensor,
    edges_mm: Tensor,
    size: int,
    *,
    turns: Tensor | None = None,
) -> Tensor:
    """Squares of one slice, interpolated linearly; what lies beyond the slice is air.

    Args:
        image: HU of any number type, (rows, columns).
        spacing_mm: of the rows and of the columns.
        centers: (n, 2) in pixels [row, column] from the image's corner (not from its first pixel's centre).
        edges_mm: (n,).
        size: of a patch, in patch pixels.
        turns: (n, 2, 2), offsets in a patch -> offsets in the image, both in mm [row, column].

    Returns:
        float32 HU, (n, size, size).
    """
    device = image.device
    pixel = torch.tensor(spacing_mm, dtype=torch.float32, device=device)
    line = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size - 0.5
    offsets = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1) * edges_mm[:, None, None, None]
    if turns is not None:
        offsets = torch.einsum("nij,nrcj->nrci", turns, offsets)
    places = centers[:, None, None] + offsets / pixel
    patches = torch.empty(len(centers), size, size, device=device)
    # A fine slice is averaged first, so that no pixel of it goes unseen.
    steps = (edges_mm[:, None] / size / pixel).floor().clamp(min=1).long()
    for step in torch.unique(steps, dim=0):
        alike = (steps == step).all(dim=1)
        patches[alike] = _sampled(image, places[alike], step)
    return patches


def _sampled(image: Tensor, places: Tensor, steps: Tensor) -> Tensor:
    """HU at places (n, size, size, 2) of a slice that is averaged over so many rows and columns."""
    limit = torch.tensor(image.shape, device=image.device)
    low = torch.minimum((places.amin(dim=(0, 1, 2)).floor().long() - steps).clamp(min=0), limit - 1)
    high = torch.minimum(places.amax(dim=(0, 1, 2)).ceil().long() + steps, limit)
    high = torch.maximum(high, low + 1)
    (top, left), (bottom, right) = low.tolist(), high.tolist()
    part = image[None, None, top:bottom, left:right].float() - AIR_HU
    if bool((steps > 1).any()):
        part = functional.avg_pool2d(part, tuple(steps.tolist()), ceil_mode=True)
    extent = torch.tensor(part.shape[2:], device=image.device) * steps
    grid = (places - low) * 2 / extent - 1
    sampled: Tensor = functional.grid_sample(
        part, grid.flip(-1).flatten(0, 1)[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return sampled.reshape(places.shape[:-1]) + AIR_HU


def windowed(patches: Tensor, windows_hu: Sequence[tuple[float, float]]) -> Tensor:
    """HU (n, size, size) as grey values from 0 to 1 in every window: (n, windows, size, size)."""
    low, high = torch.tensor(windows_hu, dtype=torch.float32, device=patches.device).T[..., None, None]
    grey: Tensor = (patches[:, None] - low) / (high - low)
    return grey.clamp(0, 1)


def vertebra_patches(
    image: Tensor,
    spacing_mm: tuple[float, float],
    boxes: Tensor,
    views: Tensor,
    *,
    size: int,
    windows_hu: Sequence[tuple[float, float]],
) -> Tensor:
    """What the network sees of the vertebrae of a slice: (n, v, windows, size, size), 0 to 1.

    Args:
        image: HU, (rows, columns).
        spacing_mm: of the rows and of the columns.
        boxes: (n, 4), left, top, right, bottom in pixels; they may reach beyond the slice.
        views: (v, 3), see `fixed_views`.
        size: of a patch.
        windows_hu: lowest and highest HU of every window.
    """
    boxes = boxes.to(image.device)
    centers, edges = squares_about(boxes, spacing_mm, views)
    if not len(boxes):
        return torch.zeros(0, len(views), len(windows_hu), size, size, device=image.device)
    patches = cut_patches(image, spacing_mm, centers.flatten(0, 1), edges.flatten(), size)
    return windowed(patches, windows_hu).reshape(len(boxes), len(views), len(windows_hu), size, size)
