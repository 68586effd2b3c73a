"""Where arms are on a film: never across the spine, as radiographers see to.

Arms of the anatomy hang beside the torso. Of a lateral film they are left out, or held forward, where they
cross the upper chest; on a frontal one they hang.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.ground import PROFILE_COLUMNS, PROFILE_STEP_MM
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.solids import Solid, Tube
from dicom_ai_node.phantom.tissues import Matter, Tissue
from dicom_ai_node.phantom.trunk import Trunk

Array = npt.NDArray[np.float64]
Arms = Literal["hanging", "forward", "away"]

_BESIDE_MM = 15.0
"""How far beside the skin the axis of a tube must leave the torso to be an arm."""


def with_arms(trunk: Trunk, arms: Arms) -> Trunk:
    """The trunk as it is taken, with its arms where they are asked for."""
    if arms == "hanging":
        return trunk
    soft = tuple(solid for solid in trunk.behind if not _beside(trunk, solid))
    bones = tuple(solid for solid in trunk.bones if not _beside(trunk, solid))
    if arms == "forward":
        held, hard = _forward(trunk)
        soft, bones = (*held, *soft), (*bones, *hard)
    return replace(trunk, behind=soft, bones=bones)


def _beside(trunk: Trunk, solid: Solid) -> bool:
    if not isinstance(solid, Tube):
        return False
    local = (solid.points - trunk.frame[:3, 3]) @ trunk.frame[:3, :3]
    return any(
        abs(point[0] - here["center_x"]) > here["half_width"] + _BESIDE_MM
        for point in local
        for here in [_at(trunk, float(point[2]))]
    )


def _forward(trunk: Trunk) -> tuple[list[Tube], list[Tube]]:
    """Both arms from the shoulders to the front and up."""
    generator = stream(trunk.seed, "arms-forward")
    here = _at(trunk, trunk.lung_top - 15.0)
    rise = between(generator, 0.1, 0.9)
    soft: list[Tube] = []
    hard: list[Tube] = []
    bone = Matter(Tissue.BONE, density=80.0, cortex=4.0, cortical_density=900.0)
    for side in (1.0, -1.0):
        shoulder = np.array(
            [
                here["center_x"] + side * (here["half_width"] + 12.0),
                here["spine_y"] - 25.0,
                trunk.lung_top - 8.0,
            ]
        )
        elbow = shoulder + 280.0 * np.array([side * 0.1, -np.cos(rise), np.sin(rise)])
        path = trunk.frame[:3, 3] + np.array([shoulder, elbow]) @ trunk.frame[:3, :3].T
        soft.append(Tube(path, np.array([50.0, 42.0]), trunk.fat))
        soft.append(Tube(path, np.array([42.0, 35.0]), trunk.muscle))
        hard.append(Tube(path, np.array([14.0, 11.0]), bone))
    return soft, hard


def _at(trunk: Trunk, z: float) -> dict[str, float]:
    row = int(np.clip((z - trunk.bottom) / PROFILE_STEP_MM, 0, len(trunk.profile) - 1))
    return dict(zip(PROFILE_COLUMNS, map(float, trunk.profile[row]), strict=True))
