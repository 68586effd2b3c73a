"""The sacrum below its first body: fused segments, the coccyx, the lateral mass and the posterior wall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.arch import ArchShape, Piece
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.randomness import around
from dicom_ai_node.phantom.tissues import Matter

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FusedBody:
    """A sacral segment below the first, or the coccyx: `frame` is 4x4, body frame -> LPS millimetres."""

    frame: Array
    body: BodyShape
    matter: Matter


BENDS: Final = (0.10, -0.10, -0.36, -0.46, -0.45)
"""How much each of S2-S5 and the coccyx leans forward of the segment above, in radians."""

HALF_WIDTHS: Final = (17.0, 13.5, 11.0, 8.0, 6.0)
DEPTHS: Final = (19.0, 15.0, 12.5, 10.0, 8.0)
LENGTHS: Final = (22.5, 20.0, 17.5, 15.0, 20.0)


def sample_segments(
    frame: Array, body: BodyShape, size: float, generator: np.random.Generator
) -> list[tuple[Array, BodyShape]]:
    """(frame, body) of S2 to S5 and the coccyx below the given S1 (4x4, body frame -> LPS mm)."""
    segments = []
    lower = body.lower_back
    for k, (bend, half, depth, length) in enumerate(zip(BENDS, HALF_WIDTHS, DEPTHS, LENGTHS, strict=True)):
        turn = np.eye(4)
        turn[:3, :3] = rotation(bend + around(generator, 0.0, 0.06), 0.0, 0.0)
        turn[:3, 3] = [0.0, 1.2, lower - 0.5 * length * size - (0.8 if k < 4 else 3.0)]
        frame = frame @ turn
        h, d, lower = half * size, 0.5 * depth * size, -0.5 * length * size
        shape = BodyShape(
            -d, -0.85 * d, d, 0.85 * d, h, 0.82 * h, -lower, -lower, lower, lower, 0.2, 0.2,
            waist_width=1.5, waist_front=1.0, waist_back=0.3, wall_concavity=0.6, squareness=0.2,
        )  # fmt: skip
        segments.append((frame, shape))
    return segments


def sacral_arch(
    frame: Array, body: BodyShape, segments: Sequence[Array], size: float, generator: np.random.Generator
) -> ArchShape:
    """Lateral mass and posterior wall of the whole sacrum in the frame of S1.

    Args:
        frame: 4x4, frame of S1 -> LPS millimetres; `segments` those of the segments below.
        body: of S1.
        size: overall size, 1 for the mean.
        generator: where the randomness comes from.
    """
    g = size
    inside = np.linalg.inv(frame)
    below = [(inside @ segment)[:3, 3] for segment in segments]
    wide = around(generator, 47.0, 2.0) * g
    back = body.back_upper
    ends = [(wide, 16.0 * g, -7.0 * g)]
    radii = [(12.0 * g, 12.0 * g)]
    starts = [(15.0 * g, 1.0 * g, 2.0 * g)]
    for k, (reach, start_radius, end_radius) in enumerate(
        ((0.90, 11.0, 12.0), (0.62, 8.0, 9.0), (0.40, 6.0, 6.0))
    ):
        _, y, z = below[k]
        starts.append((0.25 * wide, float(y) + 2.0 * g, float(z)))
        ends.append((reach * wide, float(y) + (13.0 - 3.0 * k) * g, float(z) + 2.0 * g))
        radii.append((start_radius * g, end_radius * g))
    pieces = [Piece(s, e, r[0], r[1]) for s, e, r in zip(starts, ends, radii, strict=True)]
    # The canal lies between the bodies and a wall that ends in a median crest.
    wall = [
        (back + 19.0 * g, -3.0 * g),
        *((float(p[1]) + (19.0 - 3.5 * k) * g, float(p[2])) for k, p in enumerate(below[:3])),
    ]
    for k, (v, w) in enumerate(wall):
        half = (20.0 - 4.0 * k) * g
        pieces.append(Piece((half, v - 7.0 * g, w + 1.0), (0.0, v, w), 3.0 * g, 2.6 * g, (1.0, 1.0, 2.6)))
        pieces.append(
            Piece(
                (0.0, v, w),
                (0.0, v + (9.0 - 2.0 * k) * g, w - 4.0 * g),
                2.6,
                2.6,
                (1, 1, 2.2),
                mirrored=False,
            )
        )
    pieces.append(Piece((24 * g, back - 2, 6 * g), (22 * g, back + 14 * g, 15 * g), 6.0 * g, 4.5 * g))
    return ArchShape(tuple(pieces), blend=4.0)
