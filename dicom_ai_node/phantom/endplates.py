"""Endplates that are no fracture: Schmorl's nodes, Scheuermann's disease, Cupid's bow, limbus vertebra.

Also a body that is low by nature. The six points follow the endplate as it would be without the pit: a reader
bridges a node when measuring heights (Guglielmi 2009 on six-point morphometry says so for Schmorl's nodes).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.fracture_signs import in_body, phases, plate_height
from dicom_ai_node.phantom.lesion import Findings, Layer, LesionKind, Recess
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Matter, Tissue

Array = npt.NDArray[np.float64]


def developed(
    body: BodyShape, diseases: tuple[Disease, ...], generator: np.random.Generator, least: float = 0.0
) -> BodyShape:
    """The healthy body of someone who grew up with look-alikes: before any fracture.

    A body that is low by nature keeps at least the share `least` of its height.
    """
    if Disease.SHORT_HEIGHT in diseases:
        # Low all over by 10 to 16 %: below what Genant's method calls a loss.
        share = max(least, between(generator, 0.84, 0.9))
        body = replace(
            body,
            upper_front=share * body.upper_front,
            upper_back=share * body.upper_back,
            lower_front=share * body.lower_front,
            lower_back=share * body.lower_back,
            dish_upper=share * body.dish_upper,
            dish_lower=share * body.dish_lower,
        )
    if Disease.CUPIDS_BOW in diseases:
        body = replace(body, cupid=between(generator, 2.0, 4.5))
    if Disease.SCHEUERMANN in diseases:
        body = replace(body, irregularity=between(generator, 0.45, 1.0), phase=between(generator, 0.0, 6.28))
    return body


def schmorl_findings(
    body: BodyShape, frame: Array, count: int, generator: np.random.Generator, *, small: bool = False
) -> Findings:
    """Schmorl's nodes: disc that has gone through an endplate, in a bony bowl.

    Args:
        body: of the vertebra.
        frame: 4x4, body frame -> LPS millimetres.
        count: how many.
        generator: where the randomness comes from.
        small: as in Scheuermann's disease.
    """
    half = min(body.half_width_upper, body.half_width_lower)
    height = min(body.upper_front - body.lower_front, body.upper_back - body.lower_back)
    disc = Matter(Tissue.DISC, around(generator, 0.3, 0.6), grain=0.05)
    recesses, layers = [], []
    for _ in range(count):
        upper = bool(generator.random() < 0.5)
        front, back = (body.front_upper, body.back_upper) if upper else (body.front_lower, body.back_lower)
        u, v = between(generator, -0.35, 0.35) * half, front + between(generator, 0.35, 0.75) * (back - front)
        w = plate_height(body, u, v, upper=upper)
        scale = 0.6 if small else 1.0
        deep = scale * min(between(generator, 3.0, 8.0), 0.36 * height)
        wide, long = scale * between(generator, 3.0, 7.0), scale * between(generator, 3.0, 6.5)
        solid = Ellipsoid(
            in_body(frame, (u, v, w)), (wide, long, deep), disc, unevenness=0.15, phase=phases(generator)
        )
        rim = between(generator, 90.0, 330.0)
        recesses.append(Recess(LesionKind.SCHMORL, solid, disc, between(generator, 0.5, 1.1), rim))
        if generator.random() < 0.15:
            # A fresh node is painful: the marrow about it is full of water.
            layers.append(Layer(LesionKind.OEDEMA, upper, deep + 3.0, oedema=0.6))
    return Findings(recesses=tuple(recesses), layers=tuple(layers))


def limbus_findings(body: BodyShape, frame: Array, generator: np.random.Generator) -> Findings:
    """A limbus vertebra: disc has cut off a corner of the anterior rim, mostly the upper one."""
    upper = bool(generator.random() < 0.8)
    front = body.front_upper if upper else body.front_lower
    edge = body.upper_front if upper else body.lower_front
    sign = -1.0 if upper else 1.0
    # The gap runs from the endplate down and forward to the anterior wall.
    size = between(generator, 6.0, 10.0)
    turn = between(generator, 0.6, 0.9)
    across = np.array([0.0, np.cos(turn), sign * np.sin(turn)])
    along = np.array([0.0, np.sin(turn), -sign * np.cos(turn)])
    axes = np.stack([np.cross(across, along), across, along], axis=1)
    center = (between(generator, -3.0, 3.0), front + 0.45 * size, edge + sign * 0.45 * size)
    disc = Matter(Tissue.DISC, around(generator, 0.3, 0.6), grain=0.05)
    solid = Ellipsoid(
        in_body(frame, center, axes),
        (between(generator, 9.0, 15.0), between(generator, 0.9, 1.6), 1.1 * size),
        disc,
    )
    return Findings(recesses=(Recess(LesionKind.LIMBUS, solid, disc, 0.6, between(generator, 60.0, 200.0)),))
