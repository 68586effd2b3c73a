"""Bones that are no vertebrae, which a network must learn to leave out: ribs, sternum, pelvis, limbs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.ground import Ground
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.solids import Ellipsoid, Plate, Solid, Tube
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

Array = npt.NDArray[np.float64]


def bone(age: float, generator: np.random.Generator, core: float = 1.0, cortex: float = 1.2) -> Matter:
    """Bone of a long, flat or short kind at an age; `core` scales the cancellous density."""
    density = core * max(20.0, around(generator, 190.0 - 1.3 * (age - 20.0), 20.0))
    return Matter(
        Tissue.BONE,
        density=density,
        cortex=cortex * around(generator, 1.0, 0.12),
        cortical_density=around(generator, 850.0, 60.0),
        grain=0.15,
        # Marrow of limbs and pelvis turns to fat earlier than that of the spine.
        marrow=Marrow(min(0.9, 0.5 + 0.004 * age)),
    )


def ribs(
    ground: Ground, levels: Sequence[Level], frames: Array, age: float, generator: np.random.Generator
) -> list[Solid]:
    """One pair per thoracic vertebra: head at the body, neck at the transverse process, shaft in the wall."""
    out: list[Solid] = []
    matter = bone(age, generator, 1.3, 1.0)
    inside = np.linalg.inv(ground.frame)
    thoracic = [level for level in levels if level.region == "T"]
    for number, level in enumerate(thoracic, start=1):
        last = len(thoracic) - number
        body = ground.bodies[level]
        frame = inside @ frames[list(levels).index(level)]
        half = max(body.half_width_upper, body.half_width_lower)
        reach = {0: between(generator, 0.55, 1.0), 1: between(generator, 1.0, 1.5)}.get(
            last, float(np.interp(number, [1, 3, 7, 10], [2.6, 2.75, 2.75, 2.4]))
        )
        drop = float(np.interp(number, [1, 4, 8, 11, 13], [35.0, 70.0, 95.0, 70.0, 45.0])) * around(
            generator, 1, 0.1
        )
        shift = around(generator, 0.0, 2.0)
        for side in (1.0, -1.0):
            head = _apply(frame, [side * (half + 1.5), body.back_upper - 3.5, body.upper_back - 2.0])
            neck = _apply(frame, [side * (half + 9.0), body.back_upper + 10.0, body.upper_back - 4.0])
            angle = _apply(frame, [side * (half + 24.0), body.back_upper + 24.0, body.upper_back - 8.0])
            points, radii = [head, neck, angle], [3.2, 3.0, 3.6]
            first = 0.42
            for t in np.linspace(first, reach, max(4, int(8 * reach / 2.75))):
                z = angle[2] - drop * (1.0 - np.cos(min(t, 2.9) / 2.9 * np.pi)) / 2.0 * 1.25 + shift
                wall = ground.on_wall(side * t, z, ground.at(z)["wall"] * 0.55)
                blend = float(np.clip((t - first) / 0.45, 0.25, 1.0))
                points.append(
                    blend * wall
                    + (1.0 - blend) * (angle + np.array([side * 55.0 * (t - first), 0.0, z - angle[2]]))
                )
                radii.append(float(np.interp(t, [0.4, 1.5, reach], [3.9, 3.6, 3.3])))
            path = ground.to_patient(np.array(points))
            out.append(Tube(path, np.array(radii) * ground.size, matter, flat=1.7))
            if last > 1 and number < 11:
                front = ground.beside_spine(
                    side * 14.0, 0.0, float(points[-1][2]) + float(np.interp(number, [1, 10], [0, 45]))
                )
                front[1] = ground.on_wall(np.pi, front[2], ground.at(front[2])["wall"] * 0.55)[1]
                cartilage = Matter(Tissue.CARTILAGE, around(generator, 0.01 * (age - 55), 0.8), grain=0.2)
                bend = 0.5 * (points[-1] + front) + np.array([0.0, -4.0, -4.0])
                out.append(
                    Tube(
                        ground.to_patient(np.array([points[-1], bend, front])),
                        np.array([4.2, 4.2, 4.2]),
                        cartilage,
                        flat=1.3,
                    )
                )
    return out


def sternum(ground: Ground, age: float, generator: np.random.Generator) -> list[Solid]:
    """Manubrium and body of the sternum, and the collar bones' inner ends."""
    matter = bone(age, generator, 0.7, 0.6)
    top, bottom = ground.height(Level.T2) - 12.0, ground.height(Level.T9) + 5.0
    heights = np.linspace(top, bottom, 6)
    points = np.array([ground.on_wall(np.pi, z, ground.at(z)["wall"] * 0.5) for z in heights])
    path = ground.to_patient(points)
    left = tuple(float(x) for x in ground.frame[:3, 0])
    out: list[Solid] = [
        Tube(
            path,
            np.array([9.0, 6.5, 6.0, 6.0, 6.0, 4.5]),
            matter,
            flat=3.0,
            upright=(left[0], left[1], left[2]),
        )
    ]
    for side in (1.0, -1.0):
        inner = points[0] + np.array([side * 20.0, 2.0, 4.0])
        outer = inner + np.array([side * 110.0, 45.0, 25.0])
        middle = 0.5 * (inner + outer) + np.array([0.0, -12.0, 4.0])
        out.append(
            Tube(ground.to_patient(np.array([inner, middle, outer])), np.array([7.0, 5.5, 6.0]), matter)
        )
        blade = ground.frame_at(
            ground.beside_spine(side * 92.0, 24.0, ground.height(Level.T4)),
            rotation(-0.22, side * 0.1, -side * 0.55),
        )
        out.append(Ellipsoid(blade, (42.0, 2.6, 66.0), matter, power=4.0, within="skin"))
    return out


def pelvis(ground: Ground, age: float, generator: np.random.Generator) -> list[Solid]:
    """Wings of the ilium down to the hip sockets, pubis, ischium, femoral heads and shafts."""
    g = ground.size * around(generator, 1.0, 0.04)
    out: list[Solid] = []
    matter = bone(age, generator, 1.1, 1.2)
    round_bone = bone(age, generator, 1.6, 0.8)
    s1 = ground.places[Level.S1]
    for side in (1.0, -1.0):
        out += _wing(ground, side, g, matter, generator)
        hip = s1 + np.array([side * 88.0 * g, -34.0 * g, -108.0 * g])
        socket = ground.frame_at(hip, rotation(0.1, side * 0.5, side * 0.3))
        out.append(
            Plate(socket, (29.0 * g, 29.0 * g, 29.0 * g), 9.0 * g, (((side * 0.75, 0.0, -0.66), 9.0 * g),),
                  (-36 * g, -36 * g, -36 * g), (36 * g, 36 * g, 36 * g), matter)
        )  # fmt: skip
        pubis = s1 + np.array([side * 10.0 * g, -88.0 * g, -128.0 * g])
        ischium = s1 + np.array([side * 62.0 * g, -2.0 * g, -152.0 * g])
        out.append(
            _tube(
                ground,
                [
                    hip + np.array([-side * 22.0, -22.0, -6.0]) * g,
                    pubis + np.array([side * 22.0, 6, 4]),
                    pubis,
                ],
                [9 * g, 8 * g, 10 * g],
                matter,
            )
        )
        out.append(
            _tube(
                ground, [hip + np.array([-side * 14.0, 24.0, -14.0]) * g, ischium], [13 * g, 12 * g], matter
            )
        )
        out.append(
            _tube(
                ground,
                [
                    ischium,
                    0.5 * (ischium + pubis) + np.array([0, 0, -14]),
                    pubis + np.array([side * 8, 4, -14]),
                ],
                [10 * g, 6.5 * g, 8 * g],
                matter,
            )
        )
        out.append(Ellipsoid(ground.frame_at(hip), (24.0 * g, 24.0 * g, 24.0 * g), round_bone))
        shaft = hip + np.array([side * 62.0, 8.0, -52.0]) * g
        out.append(
            _tube(
                ground,
                [hip + np.array([side * 14.0, 0, -10]) * g, shaft + np.array([-side * 8.0, 0, 8]) * g],
                [16 * g, 17 * g],
                round_bone,
            )
        )
        out.append(
            _tube(
                ground,
                [
                    shaft + np.array([side * 6.0, 4.0, 34.0]) * g,
                    shaft,
                    shaft + np.array([-side * 8, -4, -120]),
                ],
                [13 * g, 18 * g, 15 * g],
                bone(age, generator, 0.5, 4.5),
            )
        )
    return out


def _wing(
    ground: Ground, side: float, g: float, matter: Matter, generator: np.random.Generator
) -> list[Solid]:
    """The wing of one ilium: a gently hollowed plate to the front, a thick part beside the sacrum behind."""
    s1 = ground.places[Level.S1]
    crest = between(generator, 32.0, 50.0)
    outward = np.array([side * (0.70 + around(generator, 0.0, 0.04)), 0.62, -0.34])
    outward /= np.linalg.norm(outward)
    forward = np.array([side * 0.62, -0.70, 0.0])
    forward -= outward * (forward @ outward)
    forward /= np.linalg.norm(forward)
    turn = np.stack([outward, forward, np.cross(outward, forward)], axis=1)
    hollow = between(generator, 150.0, 230.0)
    center = np.array([side * 80.0, -14.0, -6.0]) - hollow * outward
    # Borders in the axes of the torso, (normal, point from S1): medial, crest, its front and back slope,
    # front, sciatic notch, hip.
    borders = (
        ((-side, 0.0, 0.0), (side * 50.0, 0.0, 0.0)),
        ((0.0, -0.2, 1.0), (0.0, -10.0, crest)),
        ((0.0, -0.75, 0.66), (0.0, -50.0, crest - 8.0)),
        ((0.0, 0.75, 0.66), (0.0, 14.0, crest - 16.0)),
        ((0.0, -0.94, -0.35), (0.0, -74.0, 5.0)),
        ((0.0, 0.69, -0.73), (0.0, 24.0, -36.0)),
        ((0.0, 0.0, -1.0), (0.0, 0.0, -98.0)),
    )
    planes = []
    for normal, point in borders:
        x, y, z = (float(value) for value in np.array(normal) @ turn)
        planes.append(((x, y, z), g * float(np.dot(normal, np.array(point) - center))))
    plate = Plate(
        ground.frame_at(s1 + center * g, turn),
        (hollow * g, 1.5 * hollow * g, 1.2 * hollow * g),
        between(generator, 7.0, 11.0) * g,
        tuple(planes),
        ((hollow - 45.0) * g, -90.0 * g, -125.0 * g),
        ((hollow + 8.0) * g, 90.0 * g, 85.0 * g),
        matter,
    )
    behind = np.array([side * 52.0, 27.0, -14.0]) * g
    block = Ellipsoid(
        ground.frame_at(s1 + behind, rotation(-0.25, 0.0, side * 0.32)),
        (9.5 * g, 31.0 * g, 38.0 * g),
        matter,
        power=4.0,
    )
    return [plate, block]


def arms(
    ground: Ground, muscle: Matter, age: float, generator: np.random.Generator
) -> tuple[list[Solid], list[Solid]]:
    """(soft parts, bones) of arms beside the torso; in most scans they are held up and out of the field."""
    if generator.random() > 0.2:
        return [], []
    soft: list[Solid] = []
    hard: list[Solid] = []
    humerus, forearm = bone(age, generator, 0.5, 4.0), bone(age, generator, 0.5, 3.0)
    fat = Matter(Tissue.FAT, 0.0)
    for side in (1.0, -1.0):
        if generator.random() < 0.2:
            continue
        top, elbow, hand = ground.height(Level.T2), ground.height(Level.L2), ground.height(Level.S1) - 120.0
        points = []
        for z in (top, elbow, hand):
            here = ground.at(z)
            points.append([here["center_x"] + side * (here["half_width"] + 52.0), here["center_y"] + 20.0, z])
        soft.append(_tube(ground, points, [48.0, 42.0, 32.0], fat))
        soft.append(_tube(ground, points, [40.0, 36.0, 27.0], muscle))
        hard.append(_tube(ground, points[:2], [12.0, 12.0], humerus))
        near, far = np.array(points[1]), np.array(points[2])
        hard += [
            _tube(
                ground, [near + np.array([0, apart, -8]), far + np.array([apart, 0, 0])], [8.0, 7.0], forearm
            )
            for apart in (-13.0, 13.0)
        ]
    return soft, hard


def _tube(
    ground: Ground, points: Sequence[object], radii: Sequence[float], matter: Matter, flat: float = 1.0
) -> Tube:
    return Tube(ground.to_patient(np.array(points, dtype=np.float64)), np.array(radii), matter, flat=flat)


def _apply(frame: Array, point: Sequence[float]) -> Array:
    moved: Array = frame[:3, :3] @ np.array(point) + frame[:3, 3]
    return moved
