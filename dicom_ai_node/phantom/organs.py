"""Soft tissue: organs of chest and belly, muscles along the spine, vessels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.ground import Ground
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.solids import Ellipsoid, Solid, Tube, Within
from dicom_ai_node.phantom.tissues import Matter, Tissue

Array = npt.NDArray[np.float64]


def _blob(
    ground: Ground,
    point: Array,
    radii: tuple[float, float, float],
    matter: Matter,
    generator: np.random.Generator,
    *,
    turn: float = 0.3,
    unevenness: float = 0.06,
    within: Within = "cavity",
    power: float = 2.0,
) -> Ellipsoid:
    scale = around(generator, 1.0, 0.08)
    return Ellipsoid(
        ground.frame_at(point, _turn(turn, max(radii), generator)),
        (radii[0] * scale, radii[1] * scale, radii[2] * scale),
        matter,
        within=within,
        unevenness=unevenness,
        phase=(between(generator, 0.0, 6.3), between(generator, 0.0, 6.3), between(generator, 0.0, 6.3)),
        power=power,
    )


def _turn(spread: float, size: float, generator: np.random.Generator) -> Array:
    # Large organs are turned about the long axis of the body only: that keeps their evaluation cheap.
    a, b, c = (around(generator, 0.0, spread) for _ in range(3))
    return rotation(0.0, 0.0, c) if size > 35.0 else rotation(a, b, c)


def _matter(tissue: Tissue, generator: np.random.Generator, grain: float = 0.1) -> Matter:
    return Matter(tissue, around(generator, 0.0, 1.0), grain=grain)


def chest(ground: Ground, dome: tuple[float, float, float], generator: np.random.Generator) -> list[Solid]:
    """Heart, mediastinum, windpipe; the lungs themselves are a layer of the torso."""
    g = ground.size
    out: list[Solid] = []
    soft, heart = _matter(Tissue.VISCERAL_FAT, generator), _matter(Tissue.HEART, generator)
    for level, width, depth in (
        (Level.T9, 24, 40),
        (Level.T7, 26, 46),
        (Level.T5, 30, 48),
        (Level.T3, 30, 36),
    ):
        z = ground.height(level)
        out.append(
            _blob(
                ground,
                ground.beside_spine(2.0, -15.0 - depth, z),
                (width * g, depth * g, 48 * g),
                soft,
                generator,
            )
        )
    middle = ground.beside_spine(28.0, -88.0 * g, dome[1] + 34.0 * g)
    out.append(_blob(ground, middle, (56 * g, 46 * g, 50 * g), heart, generator, turn=0.4))
    out.append(
        _blob(
            ground,
            ground.beside_spine(-4.0, -72.0 * g, dome[0] + 46.0 * g),
            (40 * g, 42 * g, 42 * g),
            heart,
            generator,
        )
    )
    wall, gas = _matter(Tissue.SOFT, generator), Matter(Tissue.GAS)
    pipe = [ground.beside_spine(x, y, ground.height(level)) for level, x, y in
            ((Level.C5, 0, -28), (Level.T1, -2, -34), (Level.T3, -4, -36), (Level.T5, -2, -36))]  # fmt: skip
    path = ground.to_patient(np.array(pipe))
    out.append(Tube(path, np.full(4, 11.0), wall))
    out.append(Tube(path, np.full(4, 8.5), gas))
    gullet = [ground.beside_spine(x, y, ground.height(level)) for level, x, y in
              ((Level.T2, 6, -24), (Level.T5, 4, -28), (Level.T8, 8, -32), (Level.T10, 18, -40))]  # fmt: skip
    out.append(Tube(ground.to_patient(np.array(gullet)), np.full(4, 7.5), wall))
    if generator.random() < 0.4:
        out.append(Tube(ground.to_patient(np.array(gullet)), np.full(4, 2.5), gas))
    return out


def abdomen(ground: Ground, dome: tuple[float, float, float], generator: np.random.Generator) -> list[Solid]:
    """Liver, spleen, stomach, kidneys, pancreas, bowel with gas and faeces, bladder."""
    g = ground.size
    out: list[Solid] = []
    liver, spleen = _matter(Tissue.LIVER, generator), _matter(Tissue.SPLEEN, generator)
    soft, gas = _matter(Tissue.SOFT, generator), Matter(Tissue.GAS)
    out.append(
        _blob(
            ground,
            ground.beside_spine(-76 * g, -38 * g, dome[0] - 62 * g),
            (66 * g, 78 * g, 76 * g),
            liver,
            generator,
            turn=0.15,
        )
    )
    out.append(
        _blob(
            ground,
            ground.beside_spine(-8 * g, -92 * g, dome[0] - 60 * g),
            (78 * g, 42 * g, 44 * g),
            liver,
            generator,
            turn=0.25,
        )
    )
    out.append(
        _blob(
            ground,
            ground.beside_spine(92 * g, 4 * g, dome[1] - 38 * g),
            (30 * g, 46 * g, 50 * g),
            spleen,
            generator,
        )
    )
    stomach = ground.beside_spine(52 * g, -66 * g, dome[1] - 48 * g)
    out.append(_blob(ground, stomach, (42 * g, 38 * g, 54 * g), soft, generator))
    inner = _blob(
        ground,
        stomach,
        (37 * g, 33 * g, 48 * g),
        Matter(Tissue.FLUID, around(generator, 0.3, 1.0), grain=0.5),
        generator,
    )
    out.append(inner)
    if generator.random() < 0.7:
        out.append(
            _blob(ground, stomach - np.array([0.0, 16.0 * g, 0.0]), (26 * g, 15 * g, 34 * g), gas, generator)
        )
    pancreas = ground.beside_spine(16 * g, -52 * g, ground.height(Level.L1))
    out.append(_blob(ground, pancreas, (58 * g, 11 * g, 14 * g), soft, generator, unevenness=0.15))
    out += _bowel(ground, generator)
    kidney, pelvis = _matter(Tissue.KIDNEY, generator), _matter(Tissue.RENAL_PELVIS, generator)
    for side in (1.0, -1.0):
        if generator.random() < 0.02:
            continue
        z = (
            0.5 * (ground.height(Level.L1) + ground.height(Level.L2))
            + (6.0 if side > 0 else -6.0)
            + around(generator, 0, 9)
        )
        place = ground.beside_spine(side * 62 * g, around(generator, 2.0, 5.0), z)
        out.append(_blob(ground, place, (27 * g, 27 * g, 54 * g), kidney, generator, turn=0.2))
        out.append(
            _blob(
                ground,
                place + np.array([-side * 10.0, -4.0, 0.0]),
                (13 * g, 10 * g, 26 * g),
                pelvis,
                generator,
            )
        )
        if generator.random() < 0.25:
            cyst = place + generator.normal(0, 22, 3)
            radius = between(generator, 5, 25)
            out.append(
                _blob(
                    ground,
                    cyst,
                    (radius, radius, radius),
                    Matter(Tissue.FLUID, -0.8),
                    generator,
                    unevenness=0.0,
                )
            )
    bladder = ground.places[Level.S1] + np.array([0.0, -92.0 * g, -92.0 * g])
    filled = between(generator, 0.5, 1.2)
    out.append(
        _blob(
            ground,
            bladder,
            (44 * g * filled, 36 * g * filled, 34 * g * filled),
            Matter(Tissue.FLUID, around(generator, -0.6, 0.4)),
            generator,
            unevenness=0.03,
        )
    )
    womb = ground.places[Level.S1] + np.array([around(generator, 0.0, 8.0), -52.0 * g, -88.0 * g])
    out.append(_blob(ground, womb, (28 * g, 24 * g, 30 * g), soft, generator))
    return out


def _bowel(ground: Ground, generator: np.random.Generator) -> list[Solid]:
    out: list[Solid] = []
    g = ground.size
    wall = _matter(Tissue.BOWEL, generator)
    opaque = generator.random() < 0.15
    top, bottom = ground.height(Level.L1), ground.places[Level.S1][2] - 70.0 * g
    for _ in range(int(generator.integers(55, 100))):
        z = between(generator, bottom, top)
        here = ground.at(z)
        front = here["center_y"] - (here["half_depth"] - here["fat"] - here["wall"] - 16.0)
        y = between(generator, front, here["spine_y"] - 30.0)
        x = between(generator, -0.62, 0.62) * here["half_width"]
        size = between(generator, 9.0, 20.0) * g
        point = np.array([here["center_x"] + x, y, z])
        loop = _blob(
            ground,
            point,
            (size * between(generator, 0.8, 2.0), size, size * between(generator, 0.8, 1.6)),
            wall,
            generator,
            turn=1.5,
            unevenness=0.12,
        )
        out.append(loop)
        if generator.random() < 0.5:
            content = (
                Matter(Tissue.GAS)
                if generator.random() < 0.35
                else Matter(Tissue.FLUID, around(generator, 6.0 if opaque else 0.4, 0.8), grain=0.4)
            )
            inner = (loop.radii[0] - 3.0, loop.radii[1] - 3.0, loop.radii[2] - 3.0)
            out.append(
                Ellipsoid(loop.frame, inner, content, within="cavity", unevenness=0.12, phase=loop.phase)
            )
    out += _mesentery(ground, generator)
    # The colon runs up on the right, across, and down on the left; its content is mottled.
    ascending = [(-0.66, -10.0, Level.L5), (-0.68, -12.0, Level.L3), (-0.62, -30.0, Level.L1)]
    across = [(-0.40, -95.0, Level.L2), (0.0, -105.0, Level.L3), (0.40, -95.0, Level.L1)]
    descending = [(0.66, -20.0, Level.L1), (0.70, -6.0, Level.L3), (0.62, -30.0, Level.L5)]
    for course in (ascending, across, descending):
        points = []
        for fraction, y, level in course:
            z = ground.height(level) + around(generator, 0.0, 8.0)
            here = ground.at(z)
            y_front = here["center_y"] - (here["half_depth"] - here["fat"] - here["wall"] - 24.0)
            points.append(
                [here["center_x"] + fraction * here["half_width"], max(here["spine_y"] + y * g, y_front), z]
            )
        path = ground.to_patient(np.array(points))
        radius = np.array([between(generator, 15.0, 26.0) for _ in points]) * g
        out.append(Tube(path, radius, wall, within="cavity"))
        out.append(Tube(path, radius - 3.0, _content(generator), within="cavity"))
        for place in points:
            size = between(generator, 16.0, 28.0) * g
            lump = _blob(ground, np.array(place), (size, size, size), wall, generator, unevenness=0.15)
            out.append(lump)
            out.append(
                Ellipsoid(
                    lump.frame,
                    (size - 3, size - 3, size - 3),
                    _content(generator),
                    within="cavity",
                    unevenness=0.15,
                    phase=lump.phase,
                )
            )
    rectum = [
        ground.places[Level.S1] + np.array([around(generator, 5, 8), y, z]) * g
        for y, z in ((-30.0, -55.0), (-14.0, -85.0), (-20.0, -125.0))
    ]
    path = ground.to_patient(np.array(rectum))
    out.append(Tube(path, np.array([16.0, 20.0, 14.0]), wall))
    out.append(Tube(path, np.array([12.0, 15.0, 8.0]), _content(generator)))
    return out


def _mesentery(ground: Ground, generator: np.random.Generator) -> list[Solid]:
    """Vessels that fan out from before the spine to the loops of the bowel."""
    out: list[Solid] = []
    blood = _matter(Tissue.VEIN, generator)
    for _ in range(int(generator.integers(14, 26))):
        root_z = between(generator, ground.height(Level.L4), ground.height(Level.L1))
        root = ground.beside_spine(around(generator, 0.0, 8.0), -45.0 * ground.size, root_z)
        z = root_z - between(generator, -15.0, 70.0)
        here = ground.at(z)
        front = here["center_y"] - 0.6 * (here["half_depth"] - here["fat"] - here["wall"])
        tip = np.array([here["center_x"] + between(generator, -0.5, 0.5) * here["half_width"], front, z])
        bend = 0.5 * (root + tip) + generator.normal(0.0, 7.0, 3)
        radii = np.array([2.6, 2.2, 1.4]) * between(generator, 0.8, 1.3)
        out.append(Tube(ground.to_patient(np.array([root, bend, tip])), radii, blood, within="cavity"))
    return out


def _content(generator: np.random.Generator) -> Matter:
    dice = generator.random()
    if dice < 0.3:
        return Matter(Tissue.GAS)
    return Matter(Tissue.FAECES, around(generator, 0.0, 1.0), grain=1.0)


def muscles(ground: Ground, muscle: Matter, generator: np.random.Generator) -> list[Solid]:
    """Erector spinae, psoas, quadratus lumborum, gluteal muscles, and the soft cuff along the column."""
    g = ground.size * around(generator, 1.0, 0.05)
    out: list[Solid] = []
    chain = [Level.C5, Level.T1, Level.T4, Level.T7, Level.T10, Level.L1, Level.L3, Level.L5, Level.S1]
    cuff = [
        ground.places[level] if level in ground.places else ground.beside_spine(0, 0, ground.height(level))
        for level in chain
    ]
    radii = [
        ground.bodies[level].half_width_lower + 3.5 if level in ground.bodies else 22.0 for level in chain
    ]
    soft = Matter(Tissue.MUSCLE, muscle.deviation - 0.5, grain=0.1)
    out.append(Tube(ground.to_patient(np.array(cuff)), np.array(radii), soft))
    end = ground.sacrum[2]
    for side in (1.0, -1.0):
        bulk = around(generator, 1.0, 0.06)
        erector = [ground.beside_spine(side * x, y, ground.height(level)) for level, x, y in (
            (Level.C5, 22, 26), (Level.T1, 26, 30), (Level.T5, 27, 36), (Level.T9, 28, 39),
            (Level.L1, 31, 44), (Level.L3, 33, 46), (Level.L5, 33, 46))]  # fmt: skip
        erector.append(end + np.array([side * 24.0, 26.0, 0.0]))
        out.append(
            Tube(
                ground.to_patient(np.array(erector)),
                np.array([15, 17, 16, 17, 21, 23, 21, 10]) * g * bulk,
                muscle,
                flat=1.25,
                upright=_axis(ground, 0),
                within="skin",
            )
        )
        psoas = [ground.beside_spine(side * x, y, ground.height(level)) for level, x, y in (
            (Level.T12, 24, -4), (Level.L2, 33, 0), (Level.L4, 42, -4), (Level.L5, 50, -18))]  # fmt: skip
        psoas.append(ground.places[Level.S1] + np.array([side * 72.0, -62.0, -60.0]))
        psoas.append(ground.places[Level.S1] + np.array([side * 88.0, -60.0, -112.0]))
        out.append(
            Tube(
                ground.to_patient(np.array(psoas)),
                np.array([8, 16, 21, 21, 20, 16]) * g * bulk,
                muscle,
                flat=1.2,
                upright=_axis(ground, 1),
            )
        )
        quadratus = [
            ground.beside_spine(side * 48, 26, ground.height(Level.L1)),
            ground.beside_spine(side * 66, 26, ground.height(Level.L4)),
        ]
        out.append(
            Tube(
                ground.to_patient(np.array(quadratus)),
                np.array([10.0, 15.0]) * g,
                muscle,
                flat=1.6,
                upright=_axis(ground, 0),
            )
        )
        iliac = ground.places[Level.S1] + np.array([side * 88.0, -20.0, -20.0])
        out.append(_blob(ground, iliac, (20 * g, 44 * g, 52 * g), muscle, generator, turn=0.15))
        seat = ground.places[Level.S1] + np.array([side * 92.0, 40.0, -62.0])
        out.append(_blob(ground, seat, (62 * g, 36 * g, 72 * g), muscle, generator, turn=0.2, within="skin"))
    return out


def _axis(ground: Ground, column: int) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in ground.frame[:3, column])
    return x, y, z
