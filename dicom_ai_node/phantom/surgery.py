"""Previous surgery (PS of P2): cement and where it leaked to, screws and rods, cages, laminectomy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.arch import ArchShape
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.fracture_signs import in_body, phases, plate_height
from dicom_ai_node.phantom.lesion import Findings, Lesion, LesionKind
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.solids import Ellipsoid, Tube
from dicom_ai_node.phantom.tissues import Matter, Tissue

if TYPE_CHECKING:
    from dicom_ai_node.phantom.spine import Vertebra

Array = npt.NDArray[np.float64]

LAMINA, SPINOUS = 3, 5
"""Places of these pieces in an arch of `sample_arch`."""

LEAK_SHARE = 0.4
"""How many cemented bodies have some cement outside (CT after vertebroplasty finds it in 30 to 70 %)."""


def cement_findings(body: BodyShape, frame: Array, generator: np.random.Generator) -> Findings:
    """Vertebroplasty or kyphoplasty of one body (frame: 4x4, body frame -> LPS millimetres).

    A branching clump in the trabeculae, or two round clumps of a kyphoplasty; leaks into the disc, along a
    vein, or into the canal.
    """
    half = min(body.half_width_upper, body.half_width_lower)
    depth = body.back_upper - body.front_upper
    front = 0.5 * (body.front_upper + body.front_lower)
    height = min(body.upper_front - body.lower_front, body.upper_back - body.lower_back)
    middle = 0.25 * (body.upper_front + body.upper_back + body.lower_front + body.lower_back)
    cement = Matter(Tissue.CEMENT, around(generator, 0.0, 1.0), grain=1.0)
    solids: list[Ellipsoid] = []
    sides = (1.0, -1.0) if generator.random() < 0.65 else (between(generator, -0.6, 0.6),)
    round_clump = generator.random() < 0.35
    for side in sides:
        u = side * between(generator, 0.25, 0.45) * half if len(sides) > 1 else side * 0.5 * half
        v = front + between(generator, 0.35, 0.5) * depth
        for _ in range(1 if round_clump else int(generator.integers(4, 8))):
            size = (0.40 if round_clump else between(generator, 0.15, 0.3)) * height
            spread = 0.0 if round_clump else 1.0
            center = (
                u + spread * around(generator, 0.0, 0.17) * half,
                v + spread * around(generator, 0.0, 0.13) * depth,
                middle + spread * around(generator, 0.0, 0.16) * height,
            )
            radii = (size * between(generator, 1.0, 1.7), size * between(generator, 1.0, 1.6), size)
            solids.append(
                Ellipsoid(in_body(frame, center), radii, cement, unevenness=0.4, phase=phases(generator))
            )
    lesions = [Lesion(LesionKind.CEMENT, tuple(solids), "body", cement, int(generator.integers(2**31)))]
    if generator.random() < LEAK_SHARE:
        lesions.append(_leak(body, frame, cement, generator))
    return Findings(lesions=tuple(lesions))


def _leak(body: BodyShape, frame: Array, cement: Matter, generator: np.random.Generator) -> Lesion:
    half, depth = body.half_width_upper, body.back_upper - body.front_upper
    way = generator.choice(["disc", "vein", "canal"], p=[0.4, 0.4, 0.2])
    if way == "disc":
        u, v = between(generator, -0.3, 0.3) * half, body.front_upper + between(generator, 0.3, 0.6) * depth
        top = plate_height(body, u, v, upper=True)
        radii = (between(generator, 3.0, 9.0), between(generator, 3.0, 7.0), between(generator, 1.2, 2.4))
        place = in_body(frame, (u, v, top + 0.8))
        solid = Ellipsoid(place, radii, cement, unevenness=0.35, phase=phases(generator))
        return Lesion(LesionKind.CEMENT, (solid,), "over", cement)
    if way == "canal":
        place = in_body(
            frame, (between(generator, -5.0, 5.0), body.back_upper + 1.5, between(generator, -3, 3))
        )
        radii = (between(generator, 2.0, 5.0), 1.3, between(generator, 3.0, 8.0))
        solid = Ellipsoid(place, radii, cement, unevenness=0.3, phase=phases(generator))
        return Lesion(LesionKind.CEMENT, (solid,), "over", cement)
    # A segmental vein: out at the waist, around the body.
    side = 1.0 if generator.random() < 0.5 else -1.0
    waist = 0.5 * (body.half_width_upper + body.half_width_lower) - body.waist_width
    middle = 0.5 * (body.upper_back + body.lower_back)
    path = np.array(
        [
            [side * 0.7 * waist, -0.1 * depth, middle],
            [side * (waist + 1.5), -0.02 * depth, middle + 1.0],
            [side * (waist + 3.0), 0.15 * depth, middle + between(generator, -2.0, 3.0)],
            [side * (waist + 3.5), 0.35 * depth, middle + between(generator, 0.0, 6.0)],
        ]
    )
    points = path @ frame[:3, :3].T + frame[:3, 3]
    tube = Tube(points, np.array([1.4, 1.3, 1.2, 0.8]), cement)
    return Lesion(LesionKind.CEMENT, (tube,), "over", cement)


def laminectomised(arch: ArchShape) -> ArchShape:
    """The arch without laminae and spinous process; what is left of the pillars stays."""
    pieces = tuple(piece for k, piece in enumerate(arch.pieces) if k not in (LAMINA, SPINOUS))
    return replace(arch, pieces=pieces)


def instrumentation(
    vertebrae: Sequence[Vertebra], discs: Mapping[Level, DiscShape], generator: np.random.Generator
) -> tuple[dict[Level, Findings], frozenset[Level]]:
    """Screws and rods of one group of vertebrae, cages between neighbours; and where a laminectomy was done.

    Args:
        vertebrae: with screws, from head to tail.
        discs: per level of the vertebra above.
        generator: where the randomness comes from.

    Returns:
        Findings per level (the rods belong to the uppermost), and the levels without laminae.
    """
    steel = generator.random() < 0.2
    metal = Matter(Tissue.METAL, 2.0 if steel else between(generator, -0.5, 0.5))
    radius = between(generator, 2.5, 3.4)
    lesions: dict[Level, list[Lesion]] = {vertebra.level: [] for vertebra in vertebrae}
    rods: list[Tube] = []
    for side in (1.0, -1.0):
        heads = []
        for vertebra in vertebrae:
            shaft, head = _screw(vertebra, side, radius, metal, generator)
            lesions[vertebra.level].append(Lesion(LesionKind.METAL, (shaft, head), "over", metal))
            heads.append(head.points.mean(axis=0))
        path = np.array(heads)
        before, after = _unit(path[0] - path[1]), _unit(path[-1] - path[-2])
        ends = [path[0] + 9.0 * before, *path, path[-1] + 9.0 * after]
        rods.append(Tube(np.array(ends), np.full(len(ends), between(generator, 2.6, 3.0)), metal))
    lesions[vertebrae[0].level].append(Lesion(LesionKind.METAL, tuple(rods), "over", metal))
    opened: set[Level] = set()
    for vertebra in vertebrae[:-1]:
        disc = discs[vertebra.level]
        if generator.random() < 0.5:
            lesions[vertebra.level] += _cage(disc, metal, generator)
        if generator.random() < 0.5:
            opened.add(vertebra.level)
    return {level: Findings(lesions=tuple(own)) for level, own in lesions.items()}, frozenset(opened)


def _screw(
    vertebra: Vertebra, side: float, radius: float, metal: Matter, generator: np.random.Generator
) -> tuple[Tube, Tube]:
    """(shaft, head with saddle): in through the pedicle, converging, to the anterior third of the body."""
    body = vertebra.body
    depth = body.back_upper - body.front_upper
    if vertebra.level is Level.S1:
        entry = np.array([side * 21.0, body.back_upper + 15.0, 0.35 * body.upper_back + 4.0])
        tip = np.array([side * 9.0, body.front_upper + 0.3 * depth, 0.1 * body.upper_back])
    else:
        pedicle = vertebra.arch.pieces[0]
        start = np.array(pedicle.start) * [side, 1.0, 1.0]
        radius = min(radius, 0.42 * 2.0 * pedicle.radius_start)
        entry = start + np.array([side * between(generator, 1.0, 3.0), 19.0, between(generator, 0.0, 1.5)])
        inward = between(generator, 0.35, 0.6) * body.half_width_upper
        tip = np.array(
            [side * inward, body.front_upper + between(generator, 0.2, 0.4) * depth, start[2] - 1.5]
        )
    back = _unit(entry - tip)
    frame = vertebra.frame
    shaft = np.array([entry, tip]) @ frame[:3, :3].T + frame[:3, 3]
    head = np.array([entry, entry + 9.0 * back]) @ frame[:3, :3].T + frame[:3, 3]
    return (
        Tube(shaft, np.array([radius, 0.8 * radius]), metal),
        Tube(head, np.array([4.2, 5.2]), metal),
    )


def _cage(disc: DiscShape, metal: Matter, generator: np.random.Generator) -> list[Lesion]:
    """A hollow block in the disc, filled with bone, as tall as the gap."""
    tall = max(3.0, 0.5 * disc.gap + 0.6)
    wide, long = between(generator, 6.0, 13.0), between(generator, 9.0, 12.0)
    frame = in_body(disc.frame, (between(generator, -4.0, 4.0), 0.3 * (disc.front + disc.back) - 1.0, 0.0))
    shell = Ellipsoid(frame, (wide, long, tall), metal, power=4.0)
    graft_matter = Matter(Tissue.BONE, density=between(generator, 150.0, 350.0))
    graft = Ellipsoid(frame, (wide - 2.2, long - 2.2, tall + 1.0), graft_matter, power=4.0)
    if generator.random() < 0.6:
        # PEEK lets X-rays through; only its markers are metal.
        plastic = Matter(Tissue.CARTILAGE, 0.3)
        markers = tuple(
            Tube(
                np.array([[x, y, -tall + 1.0], [x, y, tall - 1.0]]) @ frame[:3, :3].T + frame[:3, 3],
                np.array([0.8, 0.8]),
                metal,
            )
            for x, y in ((0.8 * wide, -0.8 * long), (-0.8 * wide, -0.8 * long), (0.0, 0.9 * long))
        )
        block = Ellipsoid(frame, (wide, long, tall), plastic, power=4.0)
        return [
            Lesion(LesionKind.CAGE, (block,), "over", plastic),
            Lesion(LesionKind.CAGE, (graft,), "over", graft_matter),
            Lesion(LesionKind.METAL, markers, "over", metal),
        ]
    return [
        Lesion(LesionKind.METAL, (shell,), "over", metal),
        Lesion(LesionKind.CAGE, (graft,), "over", graft_matter),
    ]


def _unit(vector: Array) -> Array:
    length: Array = vector / np.linalg.norm(vector)
    return length
