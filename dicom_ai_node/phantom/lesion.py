"""Words for what is ill in a bone: lesions with a place and a size, and changes of the bone itself.

Plain descriptions in the anatomy; `painting_disease` puts them on a grid, `truth` tells of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.solids import Ellipsoid, Tube
from dicom_ai_node.phantom.tissues import Matter

Array = npt.NDArray[np.float64]


class LesionKind(IntEnum):
    """What a lesion is; the number is its value in a lesion label map (0 is no lesion).

    Where lesions overlap the one painted later wins: metal and cement over clefts and tumour, these over
    nodes, haemangiomas and sclerosis, these over compaction and oedema.
    """

    OEDEMA = 1
    HAEMATOMA = 2
    COMPACTION = 3
    SCLEROSIS = 4
    SCHMORL = 5
    LIMBUS = 6
    CLEFT = 7
    CEMENT = 8
    METAL = 9
    LYTIC = 10
    BLASTIC = 11
    MIXED = 12
    SOFT_MASS = 13
    HAEMANGIOMA = 14
    VACUUM = 15
    CAGE = 16

    @property
    def word(self) -> str:
        """The kind in lower case, as the truth writes it: ``"soft-mass"``."""
        return self.name.lower().replace("_", "-")


Where = Literal["around", "body", "vertebra", "over"]
"""Around: soft matter beside the bone. Body, vertebra: cut off at the surface of the body, or of body and
arch. Over: put over all (implants, leaked cement)."""


@dataclass(frozen=True)
class Lesion:
    """A lesion: the union of some solids in patient LPS millimetres.

    Attributes:
        kind: what it is; it decides how the inside looks.
        solids: where it is.
        where: what cuts it off.
        matter: what it is made of; for bone (blastic, mixed, sclerosis) its density is that of the lesion.
        seed: of its texture.
    """

    kind: LesionKind
    solids: tuple[Ellipsoid | Tube, ...]
    where: Where
    matter: Matter
    seed: int = 0


@dataclass(frozen=True)
class Line:
    """A dense line of trabeculae driven into each other, along an endplate.

    Attributes:
        upper: below the upper endplate, or above the lower one.
        depth_mm, width_mm: distance of its middle from the endplate, and its half width.
        density: bone mineral in mg/cm3 added at its middle.
        waviness_mm: how far it strays from its depth; `phase` makes it individual.
    """

    upper: bool
    depth_mm: float
    width_mm: float
    density: float
    waviness_mm: float = 0.8
    phase: float = 0.0


@dataclass(frozen=True)
class Layer:
    """A layer of changed bone from an endplate to a depth.

    Attributes:
        kind: OEDEMA or SCLEROSIS.
        upper: below the upper endplate, or above the lower one.
        depth_mm: how far it reaches; beyond the body's height for the whole body.
        thicker: relative rise of the bone mineral in it.
        oedema: how far water has displaced marrow in it.
        fat: fat share of its marrow, None where that stays.
        waviness_mm: unevenness of its border; `phase` makes it individual.
    """

    kind: LesionKind
    upper: bool
    depth_mm: float
    thicker: float = 0.0
    oedema: float = 0.0
    fat: float | None = None
    waviness_mm: float = 1.5
    phase: float = 0.0


@dataclass(frozen=True)
class Recess:
    """A pit in a body, filled with disc (LPS mm): a Schmorl's node, or the gap of a limbus vertebra.

    Attributes:
        kind: SCHMORL or LIMBUS.
        solid: the pit.
        filling: the disc's matter.
        wall_mm: thickness of its bony wall.
        rim: bone mineral in mg/cm3 added beside the wall; it fades over `rim_mm`.
    """

    kind: LesionKind
    solid: Ellipsoid
    filling: Matter
    wall_mm: float = 0.5
    rim: float = 200.0
    rim_mm: float = 1.8


@dataclass(frozen=True)
class Findings:
    """All that is ill in one vertebra.

    Attributes:
        fat: fat share of the body's marrow, None where it is that of the person.
        lines, layers: along the endplates.
        recesses: pits.
        lesions: everything with a surface.
    """

    fat: float | None = None
    lines: tuple[Line, ...] = ()
    layers: tuple[Layer, ...] = ()
    recesses: tuple[Recess, ...] = ()
    lesions: tuple[Lesion, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(
            other.fat if self.fat is None else self.fat,
            self.lines + other.lines,
            self.layers + other.layers,
            self.recesses + other.recesses,
            self.lesions + other.lesions,
        )

    @property
    def changes_bone(self) -> bool:
        """Whether the marrow or the density of the body differs from a healthy one's."""
        hidden = any(lesion.kind in IN_BONE for lesion in self.lesions)
        return bool(self.fat is not None or self.lines or self.layers or self.recesses or hidden)

    @property
    def implanted(self) -> bool:
        """Whether there is metal or cement."""
        return any(lesion.kind in (LesionKind.METAL, LesionKind.CEMENT) for lesion in self.lesions)


SOUND_BONE: Final = Findings()
"""Nothing is ill."""

IN_BONE: Final = (LesionKind.HAEMANGIOMA, LesionKind.SCLEROSIS)
"""Kinds with a surface that change bone instead of replacing it."""


def extent(lesion: Lesion, frame: Array) -> tuple[Array, Array]:
    """(centre, size) of a lesion, each shape (3,): LPS mm, and its edges in mm along the axes of `frame`.

    The box holds the solids before they are cut off at bone; frame is 4x4, some axes -> LPS millimetres.
    """
    turn, origin = frame[:3, :3], frame[:3, 3]
    lows, highs = [], []
    for solid in lesion.solids:
        if isinstance(solid, Tube):
            points = (solid.points - origin) @ turn
            widest = float(solid.radii.max())
            lows.append(points.min(axis=0) - widest)
            highs.append(points.max(axis=0) + widest)
        else:
            middle = turn.T @ (solid.frame[:3, 3] - origin)
            axes = (turn.T @ solid.frame[:3, :3]) * np.array(solid.radii)
            half = np.sqrt((axes**2).sum(axis=1))
            lows.append(middle - half)
            highs.append(middle + half)
    low, high = np.min(lows, axis=0), np.max(highs, axis=0)
    return turn @ (0.5 * (low + high)) + origin, high - low
