"""The digital spine: one person's anatomy, described once and independent of any image.

`sample_spine` draws it; physics (`ct`) and `truth` read it. All frames and points are in patient LPS
millimetres, the patient lying about the origin.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import SUPERNUMERARY, Level, order
from dicom_ai_node.genant import TYPICAL_POSTERIOR_HEIGHT_MM, Grading, Heights, grade_spine
from dicom_ai_node.phantom.arch import ArchShape, sacral_arch, sample_arch
from dicom_ai_node.phantom.body import BodyShape, heights
from dicom_ai_node.phantom.column import (
    Steps,
    healthy_frames,
    levels_of_spine,
    rotation,
    sample_steps,
    spine_statistics,
)
from dicom_ai_node.phantom.deformity import (
    LOOK_ALIKE_LOSS,
    LOSS_BY_GRADE,
    Collapse,
    FractureKind,
    collapsed,
    sample_collapse,
)
from dicom_ai_node.phantom.morphometry import BODY_SIZES
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Matter, Tissue
from dicom_ai_node.phantom.trunk import Trunk, sample_trunk
from dicom_ai_node.report import Deformity

Array = npt.NDArray[np.float64]

FRACTURE_LEVELS: Final[Mapping[Level, float]] = {
    Level.T4: 0.4, Level.T5: 0.6, Level.T6: 0.9, Level.T7: 1.3, Level.T8: 1.3, Level.T9: 1.0, Level.T10: 0.8,
    Level.T11: 1.3, Level.T12: 2.0, Level.L1: 2.2, Level.L2: 1.4, Level.L3: 1.0, Level.L4: 0.8, Level.L5: 0.4,
}  # fmt: skip
"""Relative frequency of osteoporotic fractures per level: two peaks, mid-thoracic and thoracolumbar."""


SOUND: Final[tuple[Deformity, int]] = ("none", 0)
ATTEMPTS: Final = 12


@dataclass(frozen=True)
class SpineOptions:
    """What may be fixed about a person; None leaves it to chance.

    Attributes:
        age: years.
        supernumerary: T13 or L6 for a spine that has it, "none" for one without; by chance L6 is as frequent
            as in the ImFusion VID data (2.5 %) and T13 is in 0.7 % of spines.
        scoliosis: amplitude of a coronal curve in radians.
        fractured_fraction: how many of the random spines have fractures at all.
        look_alikes: mean number of bodies with physiological wedging or concavity short of a fracture.
        rotation: standard deviation in radians of how crooked the patient lies.
    """

    age: float | None = None
    supernumerary: Level | Literal["none"] | None = None
    scoliosis: float | None = None
    fractured_fraction: float = 0.55
    look_alikes: float = 1.5
    rotation: float = 0.05


@dataclass(frozen=True)
class DiscShape:
    """One intervertebral disc: a flat cushion between two endplates.

    Attributes:
        frame: 4x4, disc frame (left, posterior, superior) -> LPS millimetres.
        half_width, front, back: outline in mm; front is negative.
        half_height: in mm at the middle; it reaches into the dishes of the endplates.
        matter: what it is made of.
    """

    frame: Array
    half_width: float
    front: float
    back: float
    half_height: float
    matter: Matter


@dataclass(frozen=True)
class Vertebra:
    """One vertebra.

    Attributes:
        level: its name.
        frame: 4x4, body frame (left, posterior, superior) -> LPS millimetres.
        body: the body as it is; `healthy` as it was before a fracture.
        arch: posterior elements (for S1 those of the whole sacrum).
        deformity: "none", or the kind of the fracture.
        collapse: how it gave way, None for a healthy one.
        matter: bone of the body; `arch_matter` of the arch.
        endplate_mm: thickness of the bony endplates.
        osteophytes: spurs at the rims, part of the body's label but not of its six points.
        compaction: relative rise of density along the broken endplate.
        seed: of its texture.
    """

    level: Level
    frame: Array
    body: BodyShape
    healthy: BodyShape
    arch: ArchShape
    deformity: Deformity
    collapse: Collapse | None
    matter: Matter
    arch_matter: Matter
    endplate_mm: float
    osteophytes: tuple[Ellipsoid, ...] = ()
    compaction: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class FusedBody:
    """A sacral segment below the first, or the coccyx."""

    frame: Array
    body: BodyShape
    matter: Matter


@dataclass(frozen=True)
class Spine:
    """One person: the vertebrae from head to tail, and all that lies around them.

    Attributes:
        seed: where the randomness came from.
        age: years.
        vertebrae: C3 to S1.
        sacrum: the segments below S1.
        discs: one below each vertebra but the last.
        trunk: everything else.
        gradings: per level from T1 to L5 or L6 the Genant grading of the true heights, judged in the
            whole spine.
    """

    seed: int
    age: float
    vertebrae: tuple[Vertebra, ...]
    sacrum: tuple[FusedBody, ...]
    discs: tuple[DiscShape, ...]
    trunk: Trunk
    gradings: Mapping[Level, Grading]

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels from head to tail."""
        return tuple(vertebra.level for vertebra in self.vertebrae)

    def __getitem__(self, level: Level) -> Vertebra:
        for vertebra in self.vertebrae:
            if vertebra.level is level:
                return vertebra
        raise KeyError(level)


def sample_spine(
    seed: int,
    *,
    fractures: Mapping[Level, tuple[Deformity, int]] | None = None,
    options: SpineOptions = SpineOptions(),
) -> Spine:
    """Draw one person.

    Args:
        seed: the same seed, fractures and options give the same person.
        fractures: exactly these fractures as {level: (deformity, Genant grade 1-3)}; an empty mapping for
            none; None for random ones. Grade 0 asks for a look-alike: a loss of 10-17 % and no fracture.
        options: what may be fixed.

    Raises:
        ValueError: a fracture's level does not exist in this spine or cannot break here (C3-T3, S1), or its
            deformity or grade is unknown.
    """
    generator = stream(seed, "person")
    age = between(generator, 25.0, 92.0) if options.age is None else options.age
    levels = levels_of_spine(*_numbering(options, fractures, generator))
    scoliosis = options.scoliosis
    if scoliosis is None:
        scoliosis = (
            around(generator, 0.0, 0.12) if generator.random() < 0.25 else around(generator, 0.0, 0.02)
        )
    steps = sample_steps(levels, stream(seed, "steps"), scoliosis)
    healthy = _healthy_bodies(levels, steps, age, stream(seed, "bodies"))
    plan = (
        _random_fractures(levels, age, options, stream(seed, "fractures")) if fractures is None else fractures
    )
    _check(levels, plan)
    bodies, collapses, gradings = _break_or_relent(
        levels, healthy, plan, fractures is None, stream(seed, "collapse")
    )
    frames = healthy_frames(levels, steps, stream(seed, "frames"))
    frames = _settle(frames, healthy, bodies, collapses)
    frames = _pose(options, stream(seed, "pose")) @ frames
    vertebrae = _vertebrae(
        seed, levels, frames, list(zip(healthy, bodies, collapses, strict=True)), size=steps.size, age=age
    )
    sacrum = _sacrum(vertebrae[-1], steps.size, stream(seed, "sacrum"))
    discs = _discs(vertebrae, age, stream(seed, "discs"))
    trunk = sample_trunk(
        seed,
        levels,
        frames,
        [vertebra.body for vertebra in vertebrae],
        [segment.frame for segment in sacrum],
        size=steps.size,
        age=age,
    )
    return Spine(seed, age, vertebrae, sacrum, discs, trunk, gradings)


def _numbering(
    options: SpineOptions,
    fractures: Mapping[Level, tuple[Deformity, int]] | None,
    generator: np.random.Generator,
) -> tuple[Level | None, Level | None]:
    dice = generator.random()
    if options.supernumerary == "none":
        extra = None
    elif options.supernumerary is not None:
        extra = Level(options.supernumerary)
        if extra not in SUPERNUMERARY:
            raise ValueError(f"{extra} is no supernumerary level; T13 and L6 are")
    else:
        frequency = float(spine_statistics()["frequency_l6"])
        extra = Level.L6 if dice < frequency else Level.T13 if dice < frequency + 0.007 else None
    asked = SUPERNUMERARY.intersection(fractures or ())
    if asked and extra not in asked:
        extra = min(asked, key=order)
    missing = Level.T12 if extra is None and dice > 0.993 and Level.T12 not in (fractures or ()) else None
    return extra, missing


def _healthy_bodies(
    levels: Sequence[Level], steps: Steps, age: float, generator: np.random.Generator
) -> list[BodyShape]:
    gap_above = np.concatenate([[steps.spacing[0]], steps.spacing])
    gap_below = np.concatenate([steps.spacing, [steps.spacing[-1]]])
    broad = steps.size * around(generator, 1.0, 0.05) * (1.0 + 0.0006 * (age - 50.0))
    deep = broad * around(generator, 1.0, 0.03)
    squareness, flatness = between(generator, 0.1, 0.5), between(generator, 0.2, 0.9)
    dishing = between(generator, 0.5, 1.5)
    shapes = []
    mean_gap = [BODY_SIZES[level].posterior_height for level in levels]
    local = (gap_above + gap_below) / 2
    relative = local / np.array(mean_gap)
    relative = relative / np.median(relative)
    for k, level in enumerate(levels):
        mean = BODY_SIZES[level]
        size = steps.size * float(np.clip(relative[k], 0.93, 1.07)) ** 0.4 * around(generator, 1.0, 0.015)
        posterior = mean.posterior_height * size
        if level is not Level.S1:
            posterior = min(posterior, 0.86 * float(local[k]))
        ratio = float(np.clip(mean.wedge_ratio + around(generator, 0.0, 0.025), 0.87, 1.15))
        if level is Level.S1:
            ratio = mean.wedge_ratio
        anterior = posterior * ratio
        widths = np.array([mean.upper_width, mean.lower_width]) * broad * around(generator, 1.0, 0.025) / 2
        depths = np.array([mean.upper_depth, mean.lower_depth]) * deep * around(generator, 1.0, 0.025)
        room = max(0.3, 0.5 * (0.83 * max(anterior, posterior) - 0.5 * (anterior + posterior)) * -1.0)
        dish = np.clip(mean.dish * dishing * generator.uniform(0.6, 1.4, 2), 0.2, room)
        middle_shift = around(generator, 0.0, 0.4)
        shapes.append(
            BodyShape(
                front_upper=-depths[0] / 2 + middle_shift,
                front_lower=-depths[1] / 2 - middle_shift,
                back_upper=depths[0] / 2 + middle_shift,
                back_lower=depths[1] / 2 - middle_shift,
                half_width_upper=widths[0],
                half_width_lower=widths[1],
                upper_front=anterior / 2,
                upper_back=posterior / 2,
                lower_front=-anterior / 2,
                lower_back=-posterior / 2,
                dish_upper=float(dish[0]) * 0.9,
                dish_lower=float(dish[1]),
                dish_skew=between(generator, -0.2, 0.8),
                dish_flatness=flatness,
                waist_width=widths[0] * between(generator, 0.06, 0.14),
                waist_front=depths[0] * between(generator, 0.03, 0.08),
                waist_back=between(generator, 0.2, 1.0),
                wall_concavity=between(generator, 0.8, 2.2)
                if level.region != "T"
                else between(generator, 0.5, 1.8),
                squareness=squareness,
            )
        )
    return shapes


def _random_fractures(
    levels: Sequence[Level], age: float, options: SpineOptions, generator: np.random.Generator
) -> dict[Level, tuple[Deformity, int]]:
    plan: dict[Level, tuple[Deformity, int]] = {}
    candidates = [level for level in levels if level in FRACTURE_LEVELS]
    weights = np.array([FRACTURE_LEVELS[level] for level in candidates])
    chance = options.fractured_fraction * (0.5 + 0.5 * float(np.clip((age - 25.0) / 35.0, 0.0, 1.0))) / 0.86
    if generator.random() < chance:
        count = int(generator.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.18, 0.12]))
        for _ in range(count):
            level = candidates[int(generator.choice(len(candidates), p=weights / weights.sum()))]
            kind = cast(
                "Deformity", str(generator.choice(["wedge", "biconcave", "crush"], p=[0.5, 0.28, 0.22]))
            )
            plan[level] = (kind, int(generator.choice([1, 2, 3], p=[0.3, 0.4, 0.3])))
            # Fractures come in clusters: the load goes to the neighbours.
            apart = np.array([abs(candidates.index(level) - k) for k in range(len(candidates))])
            weights = weights * (1.0 + 2.5 * np.exp(-apart / 1.5)) * (apart > 0)
    for _ in range(int(generator.poisson(options.look_alikes))):
        level = candidates[int(generator.integers(len(candidates)))]
        kind = "wedge" if generator.random() < 0.6 else "biconcave"
        plan.setdefault(level, (cast("Deformity", kind), 0))
    return plan


def _check(levels: Sequence[Level], plan: Mapping[Level, tuple[Deformity, int]]) -> None:
    for level, (kind, grade) in plan.items():
        if level not in levels or not (level in FRACTURE_LEVELS or level in SUPERNUMERARY):
            raise ValueError(
                f"{level} cannot be fractured in this spine; T4 to L5 can, and T13 or L6 if present"
            )
        if kind not in ("wedge", "biconcave", "crush", "none") or grade not in (0, 1, 2, 3):
            raise ValueError(
                f"{level}: {kind}, grade {grade}: use wedge, biconcave or crush with grade 1, 2 or 3"
            )
        if kind == "none" and grade:
            raise ValueError(f"{level}: a fracture of grade {grade} has a kind: wedge, biconcave or crush")


def _break_or_relent(
    levels: Sequence[Level],
    healthy: Sequence[BodyShape],
    plan: Mapping[Level, tuple[Deformity, int]],
    at_random: bool,
    generator: np.random.Generator,
) -> tuple[list[BodyShape], list[Collapse | None], dict[Level, Grading]]:
    # A random plan that cannot be had loses its last fracture; one that was asked for is an error.
    left = dict(plan)
    while True:
        try:
            return _break(levels, healthy, left, generator)
        except ValueError:
            if not at_random or not left:
                raise
            left.pop(next(reversed(left)))


def _break(
    levels: Sequence[Level],
    healthy: Sequence[BodyShape],
    plan: Mapping[Level, tuple[Deformity, int]],
    generator: np.random.Generator,
) -> tuple[list[BodyShape], list[Collapse | None], dict[Level, Grading]]:
    """Bodies after the planned fractures, graded by `genant` as a reader of the whole spine would.

    A crush is measured against its neighbours, which may be crushed too: the shapes are found by repetition.
    """
    for _ in range(ATTEMPTS):
        try:
            bodies, collapses = _try_to_break(levels, healthy, plan, generator)
        except ValueError:
            continue
        gradings = grade_spine(_measured(levels, bodies))
        if all(
            (gradings[level].deformity, gradings[level].grade)
            == (asked if (asked := plan.get(level, SOUND))[1] else SOUND)
            for level in gradings
        ):
            return bodies, collapses, gradings
    wanted = ", ".join(f"{level}:{kind}:{grade}" for level, (kind, grade) in plan.items())
    raise ValueError(
        f"no spine was found with {wanted}: too many crushed neighbours leave no healthy reference"
    )


def _measured(levels: Sequence[Level], bodies: Sequence[BodyShape]) -> dict[Level, Heights]:
    return {
        level: heights(body)
        for level, body in zip(levels, bodies, strict=True)
        if level in TYPICAL_POSTERIOR_HEIGHT_MM
    }


def _try_to_break(
    levels: Sequence[Level],
    healthy: Sequence[BodyShape],
    plan: Mapping[Level, tuple[Deformity, int]],
    generator: np.random.Generator,
) -> tuple[list[BodyShape], list[Collapse | None]]:
    bodies = list(healthy)
    collapses: list[Collapse | None] = [None] * len(bodies)
    crushed: dict[int, Collapse] = {}
    for k, level in enumerate(levels):
        kind, grade = plan.get(level, SOUND)
        if kind == "none" or (kind == "crush" and grade == 0):
            continue
        low, high = LOSS_BY_GRADE[grade] if grade else LOOK_ALIKE_LOSS
        fracture: FractureKind = kind
        collapse = sample_collapse(fracture, between(generator, low, high), generator)
        if kind == "crush":
            crushed[k] = collapses[k] = collapse
        elif grade:
            collapses[k] = collapse
            bodies[k] = collapsed(healthy[k], collapse)
        else:
            gentle = replace(collapse, bulge=0.0, step=0.0, retropulsion=0.0, sag=0.0, upper_share=0.5)
            own = heights(healthy[k])
            if min(own.anterior, own.middle) / own.largest > 1.0 - gentle.loss:
                bodies[k] = collapsed(healthy[k], gentle)
    for _ in range(4 if crushed else 0):
        for k, collapse in crushed.items():
            # A posterior height of nothing makes the grading tell what the neighbours say it should be.
            asking = {**_measured(levels, bodies), levels[k]: Heights(1.0, 1.0, 0.0)}
            bodies[k] = collapsed(healthy[k], collapse, grade_spine(asking)[levels[k]].reference_mm)
    return bodies, collapses


def _settle(
    frames: Array,
    healthy: Sequence[BodyShape],
    bodies: Sequence[BodyShape],
    collapses: Sequence[Collapse | None],
) -> Array:
    """The frames after the column above every fracture has sunk and tilted forward; the sacrum stays."""
    settled = frames.copy()
    for k in range(len(frames) - 2, -1, -1):
        below_before, own_before = frames[k + 1], frames[k]
        step = np.linalg.inv(below_before) @ own_before
        settled[k] = (
            settled[k + 1]
            @ _endplate_move(healthy[k + 1], bodies[k + 1], collapses[k + 1], upper=True)
            @ step
            @ np.linalg.inv(_endplate_move(healthy[k], bodies[k], collapses[k], upper=False))
        )
    return settled


def _endplate_move(before: BodyShape, after: BodyShape, collapse: Collapse | None, *, upper: bool) -> Array:
    """4x4: how an endplate of a body has moved in the body's frame; the neighbour beyond follows it."""
    move = np.eye(4)
    if collapse is None:
        return move
    if upper:
        rise_front, rise_back = after.upper_front - before.upper_front, after.upper_back - before.upper_back
    else:
        rise_front, rise_back = after.lower_front - before.lower_front, after.lower_back - before.lower_back
    depth = before.back_upper - before.front_upper
    angle = float(np.arctan2(rise_back - rise_front, depth)) * collapse.kyphosis
    move[:3, :3] = rotation(angle, 0.0, 0.0)
    # Turned about the middle of the endplate, which itself goes up or down.
    pivot = np.array([0.0, 0.0, before.upper_back if upper else before.lower_back])
    move[:3, 3] = pivot - move[:3, :3] @ pivot + np.array([0.0, 0.0, 0.5 * (rise_front + rise_back)])
    return move


def _pose(options: SpineOptions, generator: np.random.Generator) -> Array:
    tilt, turn, lean = (around(generator, 0.0, options.rotation) for _ in range(3))
    pose = np.eye(4)
    pose[:3, :3] = rotation(0.6 * tilt, 0.6 * lean, turn)
    pose[:3, 3] = [
        around(generator, 0.0, 10.0),
        around(generator, 20.0, 12.0),
        around(generator, -150.0, 40.0),
    ]
    return pose


def bone_density(age: float, generator: np.random.Generator) -> float:
    """Trabecular bone mineral in mg/cm3 at an age, as quantitative CT of the lumbar spine sees it."""
    return float(np.clip(around(generator, 205.0 - 1.75 * (age - 20.0), 28.0), 28.0, 260.0))


def _vertebrae(
    seed: int,
    levels: Sequence[Level],
    frames: Array,
    shapes: Sequence[tuple[BodyShape, BodyShape, Collapse | None]],
    *,
    size: float,
    age: float,
) -> tuple[Vertebra, ...]:
    person = stream(seed, "bone")
    density = bone_density(age, person)
    cortex = max(0.18, around(person, 0.25 + 0.0009 * density, 0.07))
    hard = around(person, 760.0 + 0.6 * density, 60.0)
    worn = float(np.clip((age - 35.0) / 45.0, 0.0, 1.0)) * between(person, 0.0, 1.0)
    out = []
    for k, level in enumerate(levels):
        generator = stream(seed, "vertebra", level.value)
        own = density * around(generator, 1.1 if level.region == "T" else 1.0, 0.07)
        healthy, body, collapse = shapes[k]
        grain = between(generator, 0.10, 0.28)
        matter = Matter(Tissue.BONE, 0.0, own, cortex, hard, grain)
        arch_matter = Matter(Tissue.BONE, 0.0, own * 1.5 + 60.0, 1.5 * cortex + 0.45, hard * 1.05, grain)
        arch = (
            sacral_arch(healthy, size, generator)
            if level is Level.S1
            else sample_arch(level, healthy, size, generator)
        )
        out.append(
            Vertebra(
                level=level,
                frame=frames[k],
                body=body,
                healthy=healthy,
                arch=arch,
                deformity=collapse.kind if collapse is not None else "none",
                collapse=collapse,
                matter=matter,
                arch_matter=arch_matter,
                endplate_mm=max(0.25, around(generator, 0.45 + 0.5 * worn, 0.12)),
                osteophytes=_osteophytes(body, frames[k], matter, worn, generator)
                if level.region != "S"
                else (),
                compaction=between(generator, 0.0, 1.2) if collapse is not None else 0.0,
                seed=int(generator.integers(2**31)),
            )
        )
    return tuple(out)


def _osteophytes(
    body: BodyShape, frame: Array, matter: Matter, worn: float, generator: np.random.Generator
) -> tuple[Ellipsoid, ...]:
    spurs: list[Ellipsoid] = []
    for upper in (True, False):
        while generator.random() < 0.75 * worn and len(spurs) < 6:
            angle = float(generator.uniform(-2.2, 2.2))
            half = body.half_width_upper if upper else body.half_width_lower
            front = body.front_upper if upper else body.front_lower
            back = body.back_upper if upper else body.back_lower
            reach = 0.6 * (back - front)
            u, v = half * np.sin(angle), front + reach - reach * np.cos(angle)
            edge = np.interp(
                v,
                [front, back],
                [body.upper_front, body.upper_back] if upper else [body.lower_front, body.lower_back],
            )
            long, thick = between(generator, 2.0, 2.0 + 6.0 * worn), between(generator, 1.3, 2.8)
            own = np.eye(4)
            own[:3, :3] = np.array(
                [[np.cos(angle), np.sin(angle), 0.0], [np.sin(angle), -np.cos(angle), 0.0], [0.0, 0.0, 1.0]]
            )
            own[:3, :3] *= np.sign(np.linalg.det(own[:3, :3]))
            inward = -1.0 if upper else 1.0
            own[:3, 3] = [u, v, float(edge) + inward * (thick + 0.4)]
            spurs.append(
                Ellipsoid(
                    frame @ own,
                    (between(generator, 4.0, 10.0), long, thick),
                    replace(matter, density=matter.density * 1.6 + 60.0),
                )
            )
    return tuple(spurs)


def _sacrum(first: Vertebra, size: float, generator: np.random.Generator) -> tuple[FusedBody, ...]:
    segments = []
    frame = first.frame.copy()
    bends = (0.10, -0.12, -0.30, -0.40, -0.45)
    halves = (17.0, 13.5, 11.0, 8.0, 6.0)
    depths = (19.0, 15.0, 12.5, 10.0, 8.0)
    lengths = (22.5, 20.0, 17.5, 15.0, 20.0)
    lower = first.body.lower_back
    for k in range(5):
        next_height = lengths[k] * size
        turn = np.eye(4)
        turn[:3, :3] = rotation(bends[k] + around(generator, 0.0, 0.06), 0.0, 0.0)
        turn[:3, 3] = [0.0, 1.2, lower - 0.5 * next_height - (0.8 if k < 4 else 3.0)]
        frame = frame @ turn
        half, depth = halves[k] * size, depths[k] * size
        body = BodyShape(
            -depth / 2, -depth / 2 * 0.85, depth / 2, depth / 2 * 0.85, half, half * 0.82,
            next_height / 2, next_height / 2, -next_height / 2, -next_height / 2, 0.2, 0.2,
            waist_width=1.5, waist_front=1.0, waist_back=0.3, wall_concavity=0.6, squareness=0.2,
        )  # fmt: skip
        segments.append(FusedBody(frame, body, replace(first.matter, density=first.matter.density * 0.75)))
        lower = -next_height / 2
    return tuple(segments)


def _discs(
    vertebrae: Sequence[Vertebra], age: float, generator: np.random.Generator
) -> tuple[DiscShape, ...]:
    discs = []
    for above, below in itertools.pairwise(vertebrae):
        low_end = above.frame @ np.array(
            [0.0, 0.0, 0.5 * (above.body.lower_front + above.body.lower_back), 1.0]
        )
        top_end = below.frame @ np.array(
            [0.0, 0.0, 0.5 * (below.body.upper_front + below.body.upper_back), 1.0]
        )
        up = low_end[:3] - top_end[:3]
        thick = float(np.linalg.norm(up))
        superior = above.frame[:3, 2] + below.frame[:3, 2]
        superior /= np.linalg.norm(superior)
        left = above.frame[:3, 0] + below.frame[:3, 0]
        left -= superior * (left @ superior)
        left /= np.linalg.norm(left)
        frame = np.eye(4)
        frame[:3, :3] = np.stack([left, np.cross(superior, left), superior], axis=1)
        frame[:3, 3] = (low_end[:3] + top_end[:3]) / 2
        dish = above.body.dish_lower + below.body.dish_upper
        discs.append(
            DiscShape(
                frame,
                0.5 * (above.body.half_width_lower + below.body.half_width_upper)
                + between(generator, -0.5, 1.2),
                0.5 * (above.body.front_lower + below.body.front_upper) - between(generator, -0.8, 1.0),
                0.5 * (above.body.back_lower + below.body.back_upper) + between(generator, -1.0, 1.2),
                0.5 * thick + max(2.5, 0.5 * dish + 1.0) + 2.0,
                Matter(Tissue.DISC, around(generator, 0.01 * (age - 55.0), 0.6), grain=0.05),
            )
        )
    return tuple(discs)
