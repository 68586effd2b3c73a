"""Intervertebral discs: cushions between the endplates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Matter, Tissue

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DiscShape:
    """One intervertebral disc: a flat cushion between two endplates.

    Attributes:
        frame: 4x4, disc frame (left, posterior, superior) -> LPS millimetres.
        half_width, front, back: outline in mm; front is negative.
        half_height: in mm at the middle; it reaches into the dishes of the endplates.
        matter: what it is made of.
        gap: distance in mm of the middles of both endplates' rims' planes.
        vacuum: gas in its clefts.
    """

    frame: Array
    half_width: float
    front: float
    back: float
    half_height: float
    matter: Matter
    gap: float = 0.0
    vacuum: tuple[Ellipsoid, ...] = ()


def sample_discs(
    frames: Array, bodies: Sequence[BodyShape], age: float, generator: np.random.Generator
) -> tuple[DiscShape, ...]:
    """One disc below each body but the last (frames: shape (n, 4, 4), body frame -> LPS millimetres)."""
    discs = []
    for (frame_above, above), (frame_below, below) in itertools.pairwise(zip(frames, bodies, strict=True)):
        low_end = frame_above @ np.array([0.0, 0.0, 0.5 * (above.lower_front + above.lower_back), 1.0])
        top_end = frame_below @ np.array([0.0, 0.0, 0.5 * (below.upper_front + below.upper_back), 1.0])
        thick = float(np.linalg.norm(low_end - top_end))
        superior = frame_above[:3, 2] + frame_below[:3, 2]
        superior /= np.linalg.norm(superior)
        left = frame_above[:3, 0] + frame_below[:3, 0]
        left -= superior * (left @ superior)
        left /= np.linalg.norm(left)
        frame = np.eye(4)
        frame[:3, :3] = np.stack([left, np.cross(superior, left), superior], axis=1)
        frame[:3, 3] = (low_end[:3] + top_end[:3]) / 2
        dish = above.dish_lower + below.dish_upper
        discs.append(
            DiscShape(
                frame,
                0.5 * (above.half_width_lower + below.half_width_upper) + between(generator, -0.5, 1.2),
                0.5 * (above.front_lower + below.front_upper) - between(generator, -0.8, 1.0),
                0.5 * (above.back_lower + below.back_upper) + between(generator, -1.0, 1.2),
                0.5 * thick + max(2.5, 0.5 * dish + 1.0) + 2.0,
                Matter(Tissue.DISC, around(generator, 0.01 * (age - 55.0), 0.6), grain=0.05),
                thick,
            )
        )
    return tuple(discs)
