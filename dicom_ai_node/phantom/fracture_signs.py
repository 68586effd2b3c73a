"""Signs of benign fractures: fresh (OVCF), old (OF) and Kuemmell's disease (KD) in the bone.

Fresh: buckled anterior cortex, uneven endplate, dense line of impacted trabeculae, oedema as a band or all
over, at times a haematoma beside the body. Old: smooth cortex, fatty marrow, sclerosis, osteophytes, no
oedema. KD: a cleft with gas or fluid below the endplate of a collapsed body (P2, introduction; P4, table 1
and results).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from dicom_ai_node.phantom.body import BodyShape, endplate
from dicom_ai_node.phantom.deformity import Collapse
from dicom_ai_node.phantom.disease import Disease, Features
from dicom_ai_node.phantom.lesion import Findings, Layer, Lesion, LesionKind, Line
from dicom_ai_node.phantom.randomness import between
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

Array = npt.NDArray[np.float64]

HAEMATOMA_SHARE: Final = 0.4
"""How many fresh fractures have a thin cuff of blood beside the body (CT of acute fractures)."""


def plate_height(body: BodyShape, u: float, v: float, *, upper: bool) -> float:
    """W in mm of an endplate at one place of the body's frame."""
    left, back = (torch.tensor([x], dtype=torch.float64) for x in (u, v))
    return float(endplate(body, left, back, upper=upper))


def in_body(frame: Array, center: tuple[float, float, float], turn: Array | None = None) -> Array:
    """4x4, own axes -> LPS mm, of something that stands at (u, v, w) of a body's frame."""
    own = np.eye(4)
    own[:3, 3] = center
    if turn is not None:
        own[:3, :3] = turn
    placed: Array = frame @ own
    return placed


def phases(generator: np.random.Generator) -> tuple[float, float, float]:
    """Three angles that make the bumps of an `Ellipsoid` individual."""
    a, b, c = generator.uniform(0.0, 6.28, 3)
    return float(a), float(b), float(c)


def age_of_collapse(
    collapse: Collapse, diseases: tuple[Disease, ...], features: Features, generator: np.random.Generator
) -> Collapse:
    """The collapse as a fracture of this age leaves it; its kind and loss stay."""
    step = between(generator, 0.05, 0.13) if Disease.OF not in diseases else 0.0
    if Disease.MALIGNANT in diseases:
        return replace(collapse, step=0.0, retropulsion=0.0, bulge=between(generator, 0.12, 0.3))
    sag = collapse.sag if step else 0.5 * collapse.sag
    pushed = between(generator, 2.0, 5.5) if features.protrusion else 0.0
    return replace(collapse, step=step, sag=sag, retropulsion=pushed)


def fresh_shape(body: BodyShape, generator: np.random.Generator) -> BodyShape:
    """A body with the buckled cortex and the uneven endplates of the first weeks; its six points stay."""
    height = min(body.upper_front - body.lower_front, body.upper_back - body.lower_back)
    return replace(
        body,
        buckle=between(generator, 0.7, 2.2),
        irregularity=min(0.06 * height, between(generator, 0.25, 0.8)),
        phase=between(generator, 0.0, 6.28),
    )


def fracture_findings(
    body: BodyShape,
    frame: Array,
    diseases: tuple[Disease, ...],
    features: Features,
    generator: np.random.Generator,
    *,
    density: float,
) -> Findings:
    """What a benign fracture shows in and around the bone.

    Args:
        body: after the fracture.
        frame: 4x4, body frame -> LPS millimetres.
        diseases: of the vertebra.
        features: P4's, drawn before.
        generator: where the randomness comes from.
        density: of the body's cancellous bone in mg/cm3.
    """
    height = min(body.upper_front - body.lower_front, body.upper_back - body.lower_back)
    fat, lines, layers, lesions = None, [], [], []
    if features.homogeneous_marrow:
        fat = between(generator, 0.72, 0.95)
        if generator.random() < 0.7:
            layers.append(
                Layer(LesionKind.SCLEROSIS, True, between(generator, 1.5, 4.0), between(generator, 0.3, 1.3))
            )
    if features.dark_line:
        depth = between(generator, 0.2, 0.45) * height
        width = between(generator, 0.7, 1.5)
        lines.append(
            Line(True, depth, width, between(generator, 130.0, 320.0), phase=between(generator, 0, 6))
        )
    if features.band_oedema:
        depth = between(generator, 0.3, 0.55) * height
        layers.append(
            Layer(
                LesionKind.OEDEMA, bool(generator.random() < 0.8), depth, oedema=between(generator, 0.75, 1.0)
            )
        )
    elif features.diffuse_change:
        layers.append(Layer(LesionKind.OEDEMA, True, 99.0, oedema=between(generator, 0.65, 0.95)))
    elif not features.homogeneous_marrow:
        depth = between(generator, 0.12, 0.25) * height
        layers.append(Layer(LesionKind.OEDEMA, True, depth, oedema=between(generator, 0.35, 0.6)))
    if features.dark_patch:
        lesions.append(_sclerosis(body, frame, density, generator))
    if Disease.KD in diseases:
        lesions += _cleft(body, frame, density, generator)
    cuff = not features.homogeneous_marrow and generator.random() < HAEMATOMA_SHARE
    if cuff or features.soft_tissue_mass:
        thick = between(generator, 6.0, 10.0) if features.soft_tissue_mass else between(generator, 2.0, 4.0)
        lesions.append(_haematoma(body, frame, thick, generator))
    return Findings(fat, tuple(lines), tuple(layers), (), tuple(lesions))


def _sclerosis(body: BodyShape, frame: Array, density: float, generator: np.random.Generator) -> Lesion:
    half = min(body.half_width_upper, body.half_width_lower)
    depth = body.back_upper - body.front_upper
    height = body.upper_back - body.lower_back
    center = (between(generator, -0.4, 0.4) * half, between(generator, -0.25, 0.15) * depth, 0.0)
    radii = (between(generator, 0.25, 0.5) * half, between(generator, 0.15, 0.3) * depth, 0.3 * height)
    matter = Matter(Tissue.BONE, density=density + between(generator, 120.0, 300.0), marrow=Marrow(fat=0.2))
    solid = Ellipsoid(in_body(frame, center), radii, matter, unevenness=0.35, phase=phases(generator))
    return Lesion(LesionKind.SCLEROSIS, (solid,), "body", matter, int(generator.integers(2**31)))


def _cleft(body: BodyShape, frame: Array, density: float, generator: np.random.Generator) -> list[Lesion]:
    half = min(body.half_width_upper, body.half_width_lower)
    depth = body.back_upper - body.front_upper
    u, v = between(generator, -0.15, 0.15) * half, body.front_upper + between(generator, 0.3, 0.5) * depth
    top, bottom = (plate_height(body, u, v, upper=upper) for upper in (True, False))
    thick = min(between(generator, 1.0, 3.0), 0.25 * (top - bottom))
    w = top - thick - between(generator, 1.0, 2.5)
    gas = bool(generator.random() < 0.7)
    matter = Matter(Tissue.GAS if gas else Tissue.FLUID)
    # It follows the broken endplate.
    turn = float(np.arctan2(body.upper_back - body.upper_front, depth)) + between(generator, -0.1, 0.1)
    tilt = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    place = in_body(frame, (u, v, w), tilt)
    radii = (between(generator, 0.5, 0.8) * half, between(generator, 0.22, 0.36) * depth, thick)
    cleft = Ellipsoid(place, radii, matter, unevenness=0.3, phase=phases(generator))
    # Bone about the cleft answers with sclerosis.
    hard = Matter(Tissue.BONE, density=density + between(generator, 80.0, 220.0), marrow=Marrow(fat=0.3))
    rim = Ellipsoid(place, (radii[0] + 2.5, radii[1] + 2.5, radii[2] + 2.0), hard)
    return [
        Lesion(LesionKind.SCLEROSIS, (rim,), "body", hard, int(generator.integers(2**31))),
        Lesion(LesionKind.CLEFT, (cleft,), "body", matter),
    ]


def _haematoma(body: BodyShape, frame: Array, thick: float, generator: np.random.Generator) -> Lesion:
    half = 0.5 * (body.half_width_upper + body.half_width_lower) - body.waist_width
    front = 0.5 * (body.front_upper + body.front_lower)
    height = body.upper_back - body.lower_back
    # It lies in front and beside; behind, the canal keeps its own.
    radii = (half + thick, -front + thick, 0.48 * height + 0.4 * thick)
    matter = Matter(Tissue.HAEMATOMA, between(generator, -1.0, 1.0))
    solid = Ellipsoid(
        in_body(frame, (between(generator, -2.0, 2.0), -0.2 * thick, 0.0)),
        radii,
        matter,
        unevenness=0.08,
        phase=phases(generator),
        power=4.0,
    )
    return Lesion(LesionKind.HAEMATOMA, (solid,), "around", matter)
