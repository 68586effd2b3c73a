"""Bony spurs at the rims of worn vertebral bodies."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.randomness import between
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Matter

Array = npt.NDArray[np.float64]


def osteophytes(
    body: BodyShape, frame: Array, matter: Matter, worn: float, generator: np.random.Generator
) -> tuple[Ellipsoid, ...]:
    """Spurs of one body (frame: 4x4, body frame -> LPS mm); `worn` runs from 0 (none) to 1 (many, long)."""
    spurs: list[Ellipsoid] = []
    for upper in (True, False):
        while generator.random() < 0.75 * worn and len(spurs) < 6:
            angle = float(generator.uniform(-2.2, 2.2))
            half = body.half_width_upper if upper else body.half_width_lower
            front = body.front_upper if upper else body.front_lower
            back = body.back_upper if upper else body.back_lower
            reach = 0.6 * (back - front)
            u, v = half * np.sin(angle), front + reach - reach * np.cos(angle)
            edge = np.interp(
                v,
                [front, back],
                [body.upper_front, body.upper_back] if upper else [body.lower_front, body.lower_back],
            )
            long, thick = between(generator, 2.0, 2.0 + 6.0 * worn), between(generator, 1.3, 2.8)
            own = np.eye(4)
            own[:3, :3] = np.array(
                [[np.cos(angle), np.sin(angle), 0.0], [np.sin(angle), -np.cos(angle), 0.0], [0.0, 0.0, 1.0]]
            )
            own[:3, :3] *= np.sign(np.linalg.det(own[:3, :3]))
            inward = -1.0 if upper else 1.0
            own[:3, 3] = [u, v, float(edge) + inward * (thick + 0.4)]
            spurs.append(
                Ellipsoid(
                    frame @ own,
                    (between(generator, 4.0, 10.0), long, thick),
                    replace(matter, density=matter.density * 1.6 + 60.0),
                )
            )
    return tuple(spurs)
