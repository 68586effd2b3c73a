"""Wear of discs and joints, and variants of the lumbosacral junction: all of it opt-in.

Per disc: narrowing, gas (vacuum phenomenon), sclerosis and fatty or watery marrow of both endplates
(Modic types 1 to 3), slipping of the vertebra above. Fused transverse processes of a sacralised last lumbar
vertebra; uncinate edges of the neck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.arch import ArchShape, Piece
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.fracture_signs import in_body, phases
from dicom_ai_node.phantom.lesion import Findings, Layer, LesionKind
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Matter, Tissue

Array = npt.NDArray[np.float64]

Wear = Literal["none", "realistic", "rich"]

WEAR_BY_LEVEL: Final = {
    Level.C5: 0.9, Level.C6: 0.8, Level.T7: 0.4, Level.T8: 0.5, Level.T9: 0.5, Level.T10: 0.5, Level.T11: 0.5,
    Level.T12: 0.5, Level.L1: 0.6, Level.L2: 0.7, Level.L3: 0.8, Level.L4: 1.0, Level.L5: 1.0, Level.L6: 1.0,
}  # fmt: skip
"""How much a disc below a level wears, relative to the most worn ones."""

TRANSVERSE: Final = 4
"""Place of the transverse process in an arch of `sample_arch`."""

SACRALISED_SHARE: Final = 0.06
"""Frequency of a sacralised last lumbar vertebra in adults (Castellvi types II to IV)."""


@dataclass(frozen=True)
class DiscWear:
    """Wear of the disc below one vertebra.

    Attributes:
        narrowing: share of its height that is lost (0..0.55).
        slip_mm: how far the vertebra above has slipped to anterior (negative: to posterior).
        vacuum: whether gas is in it.
        modic: 0 for sound endplates, else the Modic type: 1 water, 2 fat, 3 sclerosis.
        sclerosis: relative rise of the bone mineral along both endplates.
    """

    narrowing: float = 0.0
    slip_mm: float = 0.0
    vacuum: bool = False
    modic: int = 0
    sclerosis: float = 0.0


SOUND: Final = DiscWear()


def sample_wear(seed: int, wear: Wear, levels: Sequence[Level], age: float) -> tuple[DiscWear, ...]:
    """One entry per disc, from head to tail; draws from a stream of its own."""
    if wear == "none":
        return (SOUND,) * (len(levels) - 1)
    generator = stream(seed, "disease", "wear")
    aged = 0.75 if wear == "rich" else float(np.clip((age - 25.0) / 50.0, 0.05, 1.0)) ** 1.3
    out = []
    for level in levels[:-1]:
        strength = aged * WEAR_BY_LEVEL.get(level, 0.25)
        if generator.random() > 0.65 * strength:
            out.append(SOUND)
            continue
        narrowing = between(generator, 0.1, 0.55)
        lumbar = level.region == "L"
        slip = 0.0
        if lumbar and generator.random() < (0.35 if wear == "rich" else 0.12):
            slip = (
                between(generator, 3.0, 9.0) if generator.random() < 0.75 else -between(generator, 2.0, 4.0)
            )
        modic = int(generator.choice([0, 1, 2, 3], p=[0.55, 0.12, 0.25, 0.08])) if narrowing > 0.2 else 0
        hard = between(generator, 0.3, 1.5) if modic == 3 or generator.random() < 0.35 else 0.0
        out.append(DiscWear(narrowing, slip, bool(generator.random() < 0.9 * narrowing), modic, hard))
    return tuple(out)


def worn_frames(frames: Array, bodies: Sequence[BodyShape], wear: Sequence[DiscWear]) -> Array:
    """The frames, shape (n, 4, 4), after discs have lost height and vertebrae have slipped; S1 stays.

    Everything above a disc moves with the vertebra above it; 1.5 mm of every disc are left.
    """
    moved = frames.copy()
    for k, disc in enumerate(wear):
        gap = max(0.0, _narrowest(frames[k], bodies[k], frames[k + 1], bodies[k + 1]))
        loss = min(disc.narrowing * gap, max(0.0, gap - 1.5))
        shift = -loss * frames[k + 1, :3, 2] - disc.slip_mm * frames[k + 1, :3, 1]
        moved[: k + 1, :3, 3] += shift
    return moved


def _narrowest(above: Array, upper: BodyShape, below: Array, lower: BodyShape) -> float:
    """Smallest distance in mm of two endplates at their rims and middles, along the lower body's axis."""
    back = 0.5 * (upper.lower_front + upper.lower_back)
    under = [(upper.front_lower, upper.lower_front), (0.0, back), (upper.back_lower, upper.lower_back)]
    inside = np.linalg.inv(below) @ above
    gaps = []
    for v, w in under:
        _, there, height, _ = inside @ np.array([0.0, v, w, 1.0])
        share = float(np.clip((there - lower.front_upper) / (lower.back_upper - lower.front_upper), 0.0, 1.0))
        gaps.append(height - lower.upper_front - share * (lower.upper_back - lower.upper_front))
    return float(min(gaps))


def worn_discs(
    seed: int, levels: Sequence[Level], discs: Sequence[DiscShape], wear: Sequence[DiscWear]
) -> tuple[DiscShape, ...]:
    """The discs with the gas that is in them; where a vertebra has slipped they are no thicker for it."""
    out = []
    for level, sheared, state in zip(levels, discs, wear, strict=False):
        upright = float(np.sqrt(max(1.5**2, sheared.gap**2 - state.slip_mm**2)))
        spare = sheared.gap - upright if state.slip_mm else 0.0
        disc = replace(sheared, gap=sheared.gap - spare, half_height=sheared.half_height - 0.5 * spare)
        if not state.vacuum:
            out.append(disc)
            continue
        generator = stream(seed, "disease", "vacuum", level.value)
        gas = Matter(Tissue.GAS)
        clefts = []
        for _ in range(int(generator.integers(1, 4))):
            depth = disc.back - disc.front
            place = (
                between(generator, -0.4, 0.4) * disc.half_width,
                disc.front + between(generator, 0.2, 0.75) * depth,
                between(generator, -0.15, 0.15) * disc.gap,
            )
            radii = (
                between(generator, 0.15, 0.55) * disc.half_width,
                between(generator, 0.1, 0.3) * depth,
                min(between(generator, 0.5, 1.6), 0.35 * disc.gap),
            )
            clefts.append(
                Ellipsoid(in_body(disc.frame, place), radii, gas, unevenness=0.3, phase=phases(generator))
            )
        out.append(replace(disc, vacuum=tuple(clefts)))
    return tuple(out)


def wear_findings(above: DiscWear, below: DiscWear, generator: np.random.Generator) -> Findings:
    """Changes of one body's endplates by the discs above and below it."""
    layers = []
    for state, upper in ((above, True), (below, False)):
        if state.sclerosis:
            depth, phase = between(generator, 1.5, 6.0), between(generator, 0.0, 6.28)
            layers.append(
                Layer(LesionKind.SCLEROSIS, upper, depth, thicker=state.sclerosis, fat=0.3, phase=phase)
            )
        if state.modic in (1, 2):
            depth, phase = between(generator, 3.0, 9.0), between(generator, 0.0, 6.28)
            kind = LesionKind.OEDEMA if state.modic == 1 else LesionKind.SCLEROSIS
            water, fat = (between(generator, 0.5, 0.9), None) if state.modic == 1 else (0.0, 0.92)
            layers.append(Layer(kind, upper, depth, oedema=water, fat=fat, phase=phase))
    return Findings(layers=tuple(layers))


def with_uncinate_edges(
    levels: Sequence[Level], bodies: Sequence[BodyShape], generator: np.random.Generator
) -> list[BodyShape]:
    """The bodies of C3 to C7 with raised lateral edges (some 5 mm at C5; Panjabi 1991)."""
    return [
        replace(body, uncus=max(1.0, around(generator, 4.2 if level is not Level.C7 else 2.5, 0.7)))
        if level.region == "C"
        else body
        for level, body in zip(levels, bodies, strict=True)
    ]


def sacralised(arch: ArchShape, body: BodyShape, generator: np.random.Generator) -> ArchShape:
    """The arch of a last lumbar vertebra whose broad transverse processes meet the sacral wings."""
    old = arch.pieces[TRANSVERSE]
    wide = between(generator, 8.5, 11.0)
    start, end = old.start, old.end
    wing = Piece(
        start,
        (max(40.0, 0.9 * end[0]), end[1] - 4.0, body.lower_back - between(generator, 0.0, 5.0)),
        0.75 * wide,
        wide,
        (1.0, 0.9, 1.3),
    )
    pieces = tuple(wing if k == TRANSVERSE else piece for k, piece in enumerate(arch.pieces))
    return replace(arch, pieces=pieces)
