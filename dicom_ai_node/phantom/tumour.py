"""Tumours of a vertebra: metastases (lytic, blastic, mixed, with soft masses) and haemangiomas.

What a metastasis shows is drawn from P4's table 1 (malignant column): replacement of the whole body or
nodules, convex walls, epidural and paraspinal mass, pedicles. P4's dark patch is osteoblastic.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.arch import ArchShape
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.disease import Features
from dicom_ai_node.phantom.fracture_signs import in_body, phases
from dicom_ai_node.phantom.lesion import Findings, Layer, Lesion, LesionKind
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

Array = npt.NDArray[np.float64]


def malignant_shape(body: BodyShape, features: Features, generator: np.random.Generator) -> BodyShape:
    """A body blown up by what grows in it; its corners, and so its six points, stay where they are."""
    if not features.protrusion:
        return body
    return replace(
        body,
        waist_back=-between(generator, 1.8, 4.5),
        wall_concavity=-between(generator, 0.2, 1.2),
        waist_front=min(body.waist_front, -between(generator, 0.0, 1.5)),
        waist_width=min(body.waist_width, between(generator, -1.5, 1.0)),
    )


def malignant_findings(
    body: BodyShape,
    arch: ArchShape,
    frame: Array,
    features: Features,
    generator: np.random.Generator,
) -> Findings:
    """Deposits and masses of a metastasis (frame: 4x4, body frame -> LPS mm)."""
    kind = _pattern(features, generator)
    matter = _matter(kind, generator)
    lesions: list[Lesion] = []
    if features.soft_tissue_mass:
        lesions += _masses(body, frame, generator)
    solids: list[Ellipsoid] = []
    if features.diffuse_change:
        solids += _whole(body, frame, matter, generator)
    if features.mass or not solids:
        solids += [_nodule(body, frame, matter, generator) for _ in range(int(generator.integers(1, 4)))]
    lesions.append(Lesion(kind, tuple(solids), "body", matter, int(generator.integers(2**31))))
    if features.posterior_elements:
        lesions.append(_pedicle(arch, frame, kind, matter, generator))
    if features.cleft:
        fluid = Matter(Tissue.FLUID)
        half, depth = body.half_width_upper, body.back_upper - body.front_upper
        necrosis = Ellipsoid(
            in_body(frame, (0.0, 0.0, 0.0)), (0.5 * half, 0.25 * depth, 1.6), fluid, "nothing", 0.3
        )
        lesions.append(Lesion(LesionKind.CLEFT, (necrosis,), "body", fluid))
    layers = (
        (Layer(LesionKind.OEDEMA, True, between(generator, 5.0, 9.0), oedema=0.8),)
        if features.band_oedema
        else ()
    )
    return Findings(layers=layers, lesions=tuple(lesions))


def haemangioma_findings(body: BodyShape, frame: Array, generator: np.random.Generator) -> Findings:
    """A haemangioma: fatty marrow between few thick upright trabeculae; the body keeps its shape."""
    half = min(body.half_width_upper, body.half_width_lower)
    depth = body.back_upper - body.front_upper
    height = body.upper_back - body.lower_back
    large = between(generator, 0.3, 1.0)
    center = (
        (1.0 - large) * between(generator, -0.5, 0.5) * half,
        (1.0 - large) * between(generator, -0.3, 0.3) * depth,
        (1.0 - large) * between(generator, -0.2, 0.2) * height,
    )
    matter = Matter(
        Tissue.BONE,
        density=between(generator, 300.0, 480.0),
        marrow=Marrow(fat=between(generator, 0.85, 1.0)),
    )
    radii = ((0.35 + 0.6 * large) * half, (0.2 + 0.3 * large) * depth, (0.3 + 0.3 * large) * height)
    solid = Ellipsoid(
        in_body(frame, center), radii, matter, unevenness=0.1, phase=phases(generator), power=4.0
    )
    lesion = Lesion(LesionKind.HAEMANGIOMA, (solid,), "body", matter, int(generator.integers(2**31)))
    return Findings(lesions=(lesion,))


def _pattern(features: Features, generator: np.random.Generator) -> LesionKind:
    if features.dark_patch:
        return LesionKind.BLASTIC
    return LesionKind.LYTIC if generator.random() < 0.7 else LesionKind.MIXED


def _matter(kind: LesionKind, generator: np.random.Generator) -> Matter:
    if kind is LesionKind.LYTIC:
        return Matter(Tissue.TUMOUR, around(generator, 0.0, 1.0), grain=0.5)
    marrow = Marrow(fat=0.05, tumour=between(generator, 0.7, 1.0))
    return Matter(Tissue.BONE, density=between(generator, 330.0, 700.0), marrow=marrow, grain=0.15)


def _whole(body: BodyShape, frame: Array, matter: Matter, generator: np.random.Generator) -> list[Ellipsoid]:
    """More than three quarters of the body (P4's diffuse change): lumps that run into each other."""
    half = max(body.half_width_upper, body.half_width_lower)
    depth = body.back_upper - body.front_upper
    height = max(body.upper_front - body.lower_front, body.upper_back - body.lower_back)
    reach = between(generator, 0.78, 1.0)
    places = [(0.0, 0.0, 0.0, reach)] + [
        (
            between(generator, -0.6, 0.6) * half,
            between(generator, -0.35, 0.4) * depth,
            between(generator, -0.35, 0.35) * height,
            between(generator, 0.35, 0.6),
        )
        for _ in range(int(generator.integers(3, 7)))
    ]
    return [
        Ellipsoid(
            in_body(frame, (u, v, w)),
            (size * half, 0.6 * size * depth, 0.65 * size * height),
            matter,
            unevenness=0.2,
            phase=phases(generator),
            power=4.0 if k == 0 else 2.0,
        )
        for k, (u, v, w, size) in enumerate(places)
    ]


def _nodule(body: BodyShape, frame: Array, matter: Matter, generator: np.random.Generator) -> Ellipsoid:
    half = min(body.half_width_upper, body.half_width_lower)
    depth = body.back_upper - body.front_upper
    height = min(body.upper_back - body.lower_back, body.upper_front - body.lower_front)
    size = between(generator, 0.22, 0.5) * height
    # Blood brings it: mostly to the back of the body, where the basivertebral veins are.
    center = (
        between(generator, -0.6, 0.6) * half,
        between(generator, -0.25, 0.42) * depth,
        between(generator, -0.25, 0.25) * height,
    )
    radii = (
        size * between(generator, 0.9, 1.6),
        size * between(generator, 0.9, 1.4),
        size * between(generator, 0.8, 1.2),
    )
    return Ellipsoid(in_body(frame, center), radii, matter, unevenness=0.25, phase=phases(generator))


def _pedicle(
    arch: ArchShape,
    frame: Array,
    kind: LesionKind,
    matter: Matter,
    generator: np.random.Generator,
) -> Lesion:
    side = 1.0 if generator.random() < 0.5 else -1.0
    start, end = (np.array(point) for point in (arch.pieces[0].start, arch.pieces[0].end))
    center = start + between(generator, 0.3, 0.8) * (end - start)
    size = between(generator, 7.0, 12.0)
    solid = Ellipsoid(
        in_body(frame, (side * float(center[0]), float(center[1]), float(center[2]))),
        (size, 1.2 * size, size),
        matter,
        unevenness=0.2,
        phase=phases(generator),
    )
    return Lesion(kind, (solid,), "vertebra", matter, int(generator.integers(2**31)))


def _masses(body: BodyShape, frame: Array, generator: np.random.Generator) -> list[Lesion]:
    matter = Matter(Tissue.TUMOUR, around(generator, 0.0, 1.0), grain=0.3)
    half = max(body.half_width_upper, body.half_width_lower)
    height = body.upper_back - body.lower_back
    solids = []
    epidural = generator.random() < 0.65
    if epidural:
        thick = between(generator, 3.0, 7.0)
        place = (between(generator, -6.0, 6.0), body.back_upper + 0.2 * thick, between(generator, -3.0, 3.0))
        solids.append(
            Ellipsoid(
                in_body(frame, place),
                (between(generator, 7.0, 11.0), thick, between(generator, 0.45, 0.75) * height),
                matter,
                unevenness=0.12,
                phase=phases(generator),
            )
        )
    if not epidural or generator.random() < 0.5:
        side = 1.0 if generator.random() < 0.5 else -1.0
        size = between(generator, 9.0, 18.0)
        place = (side * (half + 0.25 * size), between(generator, -6.0, 8.0), between(generator, -4.0, 4.0))
        solids.append(
            Ellipsoid(
                in_body(frame, place),
                (size, between(generator, 0.9, 1.4) * size, between(generator, 0.8, 1.3) * size),
                matter,
                unevenness=0.18,
                phase=phases(generator),
            )
        )
    return [Lesion(LesionKind.SOFT_MASS, (solid,), "around", matter) for solid in solids]
