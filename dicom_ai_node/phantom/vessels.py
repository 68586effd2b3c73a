"""Vessels before the spine, and the crura of the diaphragm that the aorta passes between."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.ground import Ground
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.solids import Ellipsoid, Solid, Tube
from dicom_ai_node.phantom.tissues import Matter, Tissue


def vessels(ground: Ground, age: float, generator: np.random.Generator) -> list[Solid]:
    """Aorta with its calcified wall, vena cava, iliac vessels; the crura that the aorta passes between."""
    g = ground.size
    out: list[Solid] = []
    artery, vein = (
        Matter(tissue, around(generator, 0.0, 1.0), grain=0.1) for tissue in (Tissue.ARTERY, Tissue.VEIN)
    )
    wide = around(generator, 1.0 + 0.004 * (age - 50.0), 0.1) * g
    course = []
    for level, x, gap in (
        (Level.T4, 20, 8), (Level.T6, 20, 6), (Level.T9, 16, 10), (Level.T11, 9, 13), (Level.L1, 6, 14),
        (Level.L3, 6, 13), (Level.L4, 4, 12),
    ):  # fmt: skip
        depth = -ground.bodies[level].front_lower if level in ground.bodies else 16.0
        y = -depth - gap if level.region == "L" or level is Level.T11 else -0.55 * depth - gap
        course.append(ground.beside_spine(x * g + around(generator, 0.0, 2.0), y, ground.height(level)))
    out += _crura(ground)
    path = np.array(course)
    radii = np.array([12.5, 12.0, 11.5, 10.8, 9.8, 9.0, 8.6]) * wide
    out.append(Tube(ground.to_patient(path), radii, artery))
    arch = [
        course[0],
        course[0] + [-4, -22, 22],
        course[0] + [-18, -46, 22],
        course[0] + [-30, -62, -8],
        course[0] + [-26, -64, -40],
    ]
    out.append(Tube(ground.to_patient(np.array(arch)), np.array([12.5, 13, 14, 15, 15.5]) * wide, artery))
    cava = [ground.beside_spine(x * g, y, ground.height(level)) for level, x, y in (
        (Level.L5, -17, -24), (Level.L3, -21, -24), (Level.L1, -23, -32), (Level.T10, -26, -52))]  # fmt: skip
    out.append(
        Tube(
            ground.to_patient(np.array(cava)),
            np.array([10.0, 11.0, 11.5, 12.0]) * g,
            vein,
            flat=1.3,
            upright=_axis(ground, 0),
        )
    )
    fork = course[-1]
    for side in (1.0, -1.0):
        ends = [
            fork + np.array([side * 4, 2, -4]),
            ground.beside_spine(side * 27, -26, ground.height(Level.L5)),
            ground.places[Level.S1] + [side * 52, -44, -36],
            ground.places[Level.S1] + [side * 76, -84, -90],
        ]
        out.append(Tube(ground.to_patient(np.array(ends)), np.array([6.0, 5.6, 5.0, 5.0]) * wide, artery))
        veins = [np.array(end) + np.array([side * -3.0, 12.0, 0.0]) for end in ends[1:]]
        out.append(Tube(ground.to_patient(np.array(veins)), np.full(3, 6.5) * g, vein))
    plaques = generator.poisson(max(0.0, (age - 45.0) / 4.0)) if generator.random() < 0.8 else 0
    for _ in range(int(plaques)):
        t = between(generator, 2.0, len(path) - 1.001)
        k = int(t)
        centre = path[k] + (t - k) * (path[k + 1] - path[k])
        radius = float(radii[k] + (t - k) * (radii[k + 1] - radii[k]))
        angle = between(generator, 0.0, 2 * np.pi)
        spot = centre + radius * 0.95 * np.array([np.cos(angle), np.sin(angle), 0.0])
        turn = rotation(0.0, 0.0, angle)
        out.append(
            Ellipsoid(
                ground.frame_at(spot, turn),
                (between(generator, 0.7, 1.5), between(generator, 1.0, 4.5), between(generator, 1.0, 5.0)),
                Matter(Tissue.CALCIUM, around(generator, 0.0, 1.0)),
            )
        )
    return out


def _crura(ground: Ground) -> list[Solid]:
    """The crura of the diaphragm: from before L2 (left) and L3 (right) up beside the aorta to T11."""
    g = ground.size
    muscle = Matter(Tissue.MUSCLE, 0.0, grain=0.1)
    out: list[Solid] = []
    for side, last in ((1.0, Level.L2), (-1.0, Level.L3)):
        course = []
        for level, x, ahead in ((last, 9, 3), (Level.L1, 14, 5), (Level.T12, 19, 8), (Level.T11, 24, 13)):
            depth = -ground.bodies[level].front_lower if level in ground.bodies else 16.0
            course.append(ground.beside_spine(side * x * g, -depth - ahead, ground.height(level)))
        path = ground.to_patient(np.array(course))
        radii = np.array([2.0, 4.2, 4.0, 2.5]) * g
        out.append(Tube(path, radii, muscle, flat=1.7, upright=_axis(ground, 1), within="cavity"))
    return out


def _axis(ground: Ground, column: int) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in ground.frame[:3, column])
    return x, y, z
