"""The frame in which a detector sees a sagittal CT slice, and the way back to the slice's pixels.

P2 crops slices about their middle, or pads them, to 1024 x 1024 pixels as they are. Here a slice that does
not fit is looked at in several frames instead, so that no vertebra of a long image goes unseen. A detector
with a spacing of its own sees each slice in one frame that grows with it.

Boxes are left, top, right, bottom; integers lie at pixel edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import nms

MULTIPLE: Final = 32
"""Edges of a frame are multiples of the coarsest stride of a detector."""

OVERLAP_MM: Final = 70.0
"""How much neighbouring frames share: more than the tallest body, so that each is whole in one of them; half
a frame where that is less."""

AIR_HU: Final = -1024.0

_EDGE: Final = 2.0


@dataclass(frozen=True)
class SliceFrame:
    """Where a frame lies on a slice.

    Attributes:
        size: rows and columns of the frame.
        zoom: frame pixels per slice pixel along rows and columns.
        first: row and column of the slice's first pixel edge, in the frame; negative where it is cropped.
    """

    size: tuple[int, int]
    zoom: tuple[float, float]
    first: tuple[int, int]

    def into(self, boxes: Tensor) -> Tensor:
        """Boxes of the slice, (n, 4), in the frame; they may leave it."""
        scale, shift = self._scale(boxes)
        return boxes * scale + shift

    def out_of(self, boxes: Tensor) -> Tensor:
        """Boxes of the frame, (n, 4), in the slice: the way back of `into`."""
        scale, shift = self._scale(boxes)
        return (boxes - shift) / scale

    def _scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        return (
            like.new_tensor([self.zoom[1], self.zoom[0]] * 2),
            like.new_tensor([self.first[1], self.first[0]] * 2),
        )


def slice_frames(
    shape: tuple[int, int],
    spacing_mm: tuple[float, float],
    *,
    size: tuple[int, int],
    at_mm: float | None,
) -> list[SliceFrame]:
    """The frames that together show all of a slice; one where it fits.

    Args:
        shape: rows and columns of the slice.
        spacing_mm: of its rows and columns.
        size: of a frame; with `at_mm` the least size, and frames are multiples of `MULTIPLE`.
        at_mm: edge of a frame's pixel; None for the slice's own pixels. Where these are not square, the finer
            edge is that of the frame's.
    """
    edge = min(spacing_mm) if at_mm is None else at_mm
    extent = tuple(max(1, round(n * mm / edge)) for n, mm in zip(shape, spacing_mm, strict=True))
    zoom = (extent[0] / shape[0], extent[1] / shape[1])
    if at_mm is not None:
        size = (max(size[0], _rounded(extent[0])), max(size[1], _rounded(extent[1])))
    shared = math.ceil(OVERLAP_MM / edge)
    starts = [_starts(n, room, shared) for n, room in zip(extent, size, strict=True)]
    return [SliceFrame(size, zoom, (row, column)) for row in starts[0] for column in starts[1]]


def framed(images: Tensor, frame: SliceFrame, clip_hu: tuple[float, float]) -> Tensor:
    """Slices of one shape as the detector sees them.

    Args:
        images: HU, shape (n, rows, columns).
        frame: where it lies.
        clip_hu: become 0 and 1; what the slice does not cover is air.

    Returns:
        Shape (n, 1, *frame.size), 0 to 1.
    """
    low, high = clip_hu
    shown = ((images[:, None].float() - low) / (high - low)).clamp(0, 1)
    extent = tuple(round(n * zoom) for n, zoom in zip(images.shape[1:], frame.zoom, strict=True))
    if extent != tuple(images.shape[1:]):
        shown = functional.interpolate(
            shown, size=extent, mode="bilinear", align_corners=False, antialias=True
        )
    air = min(1.0, max(0.0, (AIR_HU - low) / (high - low)))
    padding = [
        frame.first[1],
        frame.size[1] - extent[1] - frame.first[1],
        frame.first[0],
        frame.size[0] - extent[0] - frame.first[0],
    ]
    # Negative padding crops.
    return functional.pad(shown, padding, value=air)


def merged(
    found: list[tuple[SliceFrame, Tensor, Tensor]], shape: tuple[int, int], overlap: float
) -> tuple[Tensor, Tensor]:
    """Boxes of a slice, and their scores, from those of its frames.

    Args:
        found: per frame: itself, boxes in it (n, 4), scores (n,).
        shape: rows and columns of the slice; boxes end at its border, and those beside it are dropped.
        overlap: of boxes of different frames, intersection over union, from which on the surer one stays.

    Returns:
        Boxes in pixels of the slice and scores, the surest first; boxes that a frame cuts off where another
        frame goes on count as that frame's.
    """
    parts = []
    for frame, boxes, scores in found:
        inner = _inner_edges([other for other, _, _ in found], frame).to(boxes.device)
        limit = boxes.new_tensor([frame.size[1], frame.size[0]]) - _EDGE
        near = torch.cat([boxes[:, :2] <= _EDGE, boxes[:, 2:] >= limit], dim=1)
        whole = ~(near & inner).any(dim=1)
        parts.append((frame.out_of(boxes[whole]), scores[whole]))
    boxes, scores = (torch.cat(column) for column in zip(*parts, strict=True))
    boxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor([shape[1], shape[0]] * 2))
    seen = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
    boxes, scores = boxes[seen], scores[seen]
    if len(found) > 1:
        chosen = nms(boxes, scores, overlap)
        boxes, scores = boxes[chosen], scores[chosen]
    return boxes, scores


def _inner_edges(frames: list[SliceFrame], frame: SliceFrame) -> Tensor:
    """Whether another frame goes on beyond the left, top, right, bottom edge of this one, shape (4,)."""
    rows, columns = zip(*(other.first for other in frames), strict=True)
    row, column = frame.first
    # A frame further down has its slice further up.
    return torch.tensor([max(columns) > column, max(rows) > row, min(columns) < column, min(rows) < row])


def _rounded(length: int) -> int:
    return MULTIPLE * math.ceil(length / MULTIPLE)


def _starts(length: int, room: int, shared: int) -> list[int]:
    """Where a line of this length begins in frames with so much room, first to last."""
    if length <= room:
        return [(room - length) // 2]
    shared = min(shared, room // 2)
    count = math.ceil((length - shared) / (room - shared))
    return [-round(k * (length - room) / (count - 1)) for k in range(count)]
