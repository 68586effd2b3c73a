"""Simple solids from which all but the vertebral bodies is built; plain descriptions in patient space.

What they are made of is a word of `tissues.Tissue`; how it looks is the business of the physics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.tissues import Matter

Array = npt.NDArray[np.float64]


Within = Literal["cavity", "skin", "nothing"]


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with an uneven surface.

    Attributes:
        frame: 4x4, own axes -> patient LPS millimetres.
        radii: half axes in mm.
        matter: what it is made of.
        within: what cuts it off: the wall of the body cavity, the skin, or nothing.
        unevenness: relative amplitude of the bumps of its surface.
        phase: three numbers that make the bumps individual.
        power: 2 for an ellipsoid, larger for a box with round edges.
    """

    frame: Array
    radii: tuple[float, float, float]
    matter: Matter
    within: Within = "nothing"
    unevenness: float = 0.0
    phase: tuple[float, float, float] = (0.0, 0.0, 0.0)
    power: float = 2.0


@dataclass(frozen=True)
class Tube:
    """A bent tube of elliptic section.

    Attributes:
        points: shape (n, 3), its axis in patient LPS millimetres.
        radii: shape (n,), radius in mm at each point.
        matter: what it is made of.
        flat: ratio of the half axes; the long one lies along `upright`, as far as that is across the tube.
        upright: direction of the long half axis.
        within: what cuts it off: the wall of the body cavity, the skin, or nothing.
    """

    points: Array
    radii: Array
    matter: Matter
    flat: float = 1.0
    upright: tuple[float, float, float] = (0.0, 0.0, 1.0)
    within: Within = "nothing"


@dataclass(frozen=True)
class Plate:
    """A plate bent like the shell of an ellipsoid, cut by planes: the wing of the ilium, a hip socket.

    Attributes:
        frame: 4x4, the ellipsoid's axes -> patient LPS millimetres.
        radii: half axes of the ellipsoid's middle surface in mm.
        thickness: of the plate in mm.
        planes: (normal in the plate's frame, offset in mm): kept where normal . point < offset.
        low, high: a box in the plate's frame that holds it.
    """

    frame: Array
    radii: tuple[float, float, float]
    thickness: float
    planes: tuple[tuple[tuple[float, float, float], float], ...]
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    matter: Matter = field(default_factory=Matter)


Solid = Ellipsoid | Tube | Plate


def height(solid: Solid) -> float:
    """Z in patient LPS millimetres of a solid's middle; of a tube's first point."""
    if isinstance(solid, Tube):
        return float(solid.points[0, 2])
    if isinstance(solid, Ellipsoid):
        return float(solid.frame[2, 3])
    # A plate's frame lies at the middle of its sphere: the box says where it is.
    middle = 0.5 * (np.array(solid.low) + np.array(solid.high))
    return float((solid.frame[:3, :3] @ middle + solid.frame[:3, 3])[2])
