"""Everything that is not a vertebra: skin, fat, muscles, organs, vessels, ribs, pelvis, arms.

Described relative to the spine, so that it follows its curve; evaluated by `painting`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.ground import Ground, torso_profile
from dicom_ai_node.phantom.organs import abdomen, chest, muscles
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.skeleton import arms, pelvis, ribs, sternum
from dicom_ai_node.phantom.solids import Solid
from dicom_ai_node.phantom.tissues import Matter, Tissue
from dicom_ai_node.phantom.vessels import vessels

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trunk:
    """The torso.

    Attributes:
        frame: 4x4, torso frame (left, posterior, superior) -> LPS millimetres.
        profile: shape (n, 9), `PROFILE_COLUMNS` at heights `bottom + k * PROFILE_STEP_MM` of the torso frame.
        bottom: height of the first row in mm.
        squareness: 0 for elliptic sections, 1 for fourth-power ones.
        dome: heights in mm of the right and left dome of the diaphragm, and how far it falls to the wall.
        lung_top: height in mm of the lungs' tips.
        seed: of the lungs' texture.
        lungs, skin, fat, inner_fat, muscle: what the layers are made of.
        behind: solids painted before the bones of the spine, in this order.
        bones: ribs, sternum, pelvis, femora, arms' bones, painted after `behind`.
    """

    frame: Array
    profile: Array
    bottom: float
    squareness: float
    dome: tuple[float, float, float]
    lung_top: float
    seed: int
    lungs: Matter
    skin: Matter
    fat: Matter
    inner_fat: Matter
    muscle: Matter
    behind: tuple[Solid, ...]
    bones: tuple[Solid, ...]


def sample_trunk(
    seed: int,
    levels: Sequence[Level],
    frames: Array,
    bodies: Sequence[BodyShape],
    sacrum: Sequence[Array],
    *,
    size: float,
    age: float,
) -> Trunk:
    """A torso about vertebrae (frames: (n, 4, 4), body frame -> LPS mm), C3 to S1 and the sacrum."""
    generator = stream(seed, "trunk")
    frame = _torso_frame(levels, frames)
    inside = np.linalg.inv(frame)
    local = inside @ frames
    places = dict(zip(levels, local[:, :3, 3], strict=True))
    below = [(inside @ segment)[:3, 3] for segment in sacrum]
    girth = size * around(generator, 1.0, 0.07)
    fat = between(generator, 6.0, 18.0) if generator.random() < 0.6 else between(generator, 15.0, 45.0)
    profile, bottom = torso_profile(places, below, girth, fat, generator)
    inner = Matter(Tissue.VISCERAL_FAT, around(generator, 0.0, 1.0), grain=0.1)
    muscle = Matter(Tissue.MUSCLE, around(generator, -0.02 * (age - 55.0), 0.7), grain=0.1)
    ground = Ground(frame, places, dict(zip(levels, bodies, strict=True)), profile, bottom, size, below)
    domes = float(places[Level.T9][2] + places[Level.T10][2]) / 2 + around(generator, 0.0, 12.0)
    dome = (domes + 6.0, domes - 8.0, between(generator, 55.0, 90.0))
    behind: list[Solid] = [
        *chest(ground, dome, stream(seed, "chest")),
        *abdomen(ground, dome, stream(seed, "abdomen")),
        *muscles(ground, muscle, stream(seed, "muscles")),
        *vessels(ground, age, stream(seed, "vessels")),
    ]
    bone = stream(seed, "skeleton")
    bones: list[Solid] = [
        *ribs(ground, levels, frames, age, bone),
        *sternum(ground, age, bone),
        *pelvis(ground, age, bone),
    ]
    with_arms, arm_bones = arms(ground, muscle, age, stream(seed, "arms"))
    return Trunk(
        frame=frame,
        profile=profile,
        bottom=bottom,
        squareness=between(generator, 0.25, 0.6),
        dome=dome,
        lung_top=float(places[Level.T1][2]) + around(generator, 5.0, 6.0),
        seed=int(generator.integers(2**31)),
        lungs=Matter(Tissue.LUNG, around(generator, 0.0, 1.0), grain=1.0),
        skin=Matter(Tissue.SKIN, around(generator, 0.0, 1.0)),
        fat=Matter(Tissue.FAT, around(generator, 0.0, 1.0), grain=0.1),
        inner_fat=inner,
        muscle=muscle,
        behind=(*with_arms, *behind),
        bones=(*bones, *arm_bones),
    )


def _torso_frame(levels: Sequence[Level], frames: Array) -> Array:
    # Upright in patient space and turned with the patient: how the patient leans is in the profile, which
    # follows the spine. So heights are the same over a whole axial slice, and cost nothing there.
    left = frames[:, :3, 0].mean(axis=0)
    angle = float(np.arctan2(left[1], left[0]))
    frame = np.eye(4)
    frame[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    frame[:3, 3] = frames[levels.index(Level.L1), :3, 3]
    return frame
