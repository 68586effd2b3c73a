"""The digital spine: one person's anatomy, described once and independent of any image.

`sample_spine` draws it; physics (`ct`) and `truth` read it. All frames and points are in patient LPS
millimetres, the patient lying about the origin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import SUPERNUMERARY, Level, order
from dicom_ai_node.genant import Grading
from dicom_ai_node.phantom.arch import ArchShape, sample_arch
from dicom_ai_node.phantom.body import BodyShape
from dicom_ai_node.phantom.column import (
    healthy_frames,
    levels_of_spine,
    rotation,
    sample_steps,
    spine_statistics,
)
from dicom_ai_node.phantom.deformity import Collapse
from dicom_ai_node.phantom.degeneration import (
    SACRALISED_SHARE,
    DiscWear,
    Wear,
    sacralised,
    sample_wear,
    with_uncinate_edges,
    worn_discs,
    worn_frames,
)
from dicom_ai_node.phantom.disc import DiscShape, sample_discs
from dicom_ai_node.phantom.disease import Disease, Features
from dicom_ai_node.phantom.disease_plan import DiseaseWish, plan_diseases
from dicom_ai_node.phantom.diseased import giving_way, grown_up, ill_vertebrae, reshaped, sinking
from dicom_ai_node.phantom.fracturing import check_plan, fractured_bodies, random_fractures, settled
from dicom_ai_node.phantom.healthy import healthy_bodies
from dicom_ai_node.phantom.lesion import SOUND_BONE, Findings
from dicom_ai_node.phantom.osteophytes import osteophytes
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.sacrum import FusedBody, sacral_arch, sample_segments
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue
from dicom_ai_node.phantom.trunk import Trunk, sample_trunk
from dicom_ai_node.report import Deformity

Array = npt.NDArray[np.float64]


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
        diseases: "none" (every break is an OVCF and shows nothing but its shape), "realistic" frequencies,
            "rich" (many of all kinds, for training), or exactly these: {level: (disease, ...)}. A disease
            that is a fracture breaks its level as `fractures` says, else by chance; there are no others.
        degeneration: wear of discs and endplates: "none", "realistic" or "rich".
        sacralised: whether the last lumbar vertebra is fused to the sacral wings; None leaves it to chance.
        uncinate: whether C3 to C7 have uncinate edges.
    """

    age: float | None = None
    supernumerary: Level | Literal["none"] | None = None
    scoliosis: float | None = None
    fractured_fraction: float = 0.55
    look_alikes: float = 1.5
    rotation: float = 0.05
    diseases: DiseaseWish = "none"
    degeneration: Wear = "none"
    sacralised: bool | None = False
    uncinate: bool = False


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
        rim: relative rise of density right under the cortex; fades over some 5 mm.
        compaction: relative rise of density along the broken endplate.
        seed: of its texture.
        diseases: what it has; `features` are P4's signs of a fracture or a tumour, None without one.
        findings: lesions, pits and changed marrow.
        sacralised: whether it is a last lumbar vertebra that is fused to the sacrum.
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
    rim: float = 0.5
    compaction: float = 0.0
    seed: int = 0
    diseases: tuple[Disease, ...] = ()
    features: Features | None = None
    findings: Findings = SOUND_BONE
    sacralised: bool = False


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
        wear: of each disc.
    """

    seed: int
    age: float
    vertebrae: tuple[Vertebra, ...]
    sacrum: tuple[FusedBody, ...]
    discs: tuple[DiscShape, ...]
    trunk: Trunk
    gradings: Mapping[Level, Grading]
    wear: tuple[DiscWear, ...] = ()

    @property
    def implanted(self) -> bool:
        """Whether there is any metal or cement."""
        return any(vertebra.findings.implanted for vertebra in self.vertebrae)

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
            around(generator, 0.0, 0.14) if generator.random() < 0.35 else around(generator, 0.0, 0.02)
        )
    steps = sample_steps(levels, stream(seed, "steps"), scoliosis)
    healthy = healthy_bodies(levels, steps, age, stream(seed, "bodies"))
    plan = fractures
    if plan is None and isinstance(options.diseases, Mapping):
        plan = {}
    elif plan is None:
        # Older bones break more often; the factor keeps the asked fraction over all ages.
        chance = (
            options.fractured_fraction * (0.5 + 0.5 * float(np.clip((age - 25.0) / 35.0, 0.0, 1.0))) / 0.86
        )
        plan = random_fractures(levels, chance, options.look_alikes, stream(seed, "fractures"))
    check_plan(levels, plan)
    wish = options.diseases
    illness = plan_diseases(seed, wish, levels, age, plan, asked=fractures is not None)
    check_plan(levels, illness.fractures)
    if options.uncinate:
        healthy = with_uncinate_edges(levels, healthy, stream(seed, "disease", "uncinate"))
    grown = grown_up(seed, levels, healthy, illness)
    bodies, collapses, gradings = fractured_bodies(
        levels,
        grown,
        illness.fractures,
        stream(seed, "collapse"),
        at_random=fractures is None and not isinstance(wish, Mapping),
        adjusted=giving_way(seed, illness),
    )
    bodies = reshaped(seed, levels, bodies, collapses, illness)
    fused = _sacralised(seed, options)
    wear = sample_wear(seed, options.degeneration, levels, age)
    if fused:
        wear = (*wear[:-1], replace(wear[-1], narrowing=0.5, slip_mm=0.0))
    frames = healthy_frames(levels, steps, stream(seed, "frames"))
    frames = settled(frames, healthy, bodies, sinking(levels, collapses, illness))
    frames = worn_frames(frames, bodies, wear)
    frames = _pose(options, stream(seed, "pose")) @ frames
    segments = sample_segments(frames[-1], bodies[-1], steps.size, stream(seed, "sacrum"))
    places = [frame for frame, _ in segments]
    arches = [
        sample_arch(level, body, steps.size, stream(seed, "arch", level.value))
        for level, body in zip(levels[:-1], healthy[:-1], strict=True)
    ]
    if fused:
        arches[-1] = sacralised(arches[-1], healthy[-2], stream(seed, "disease", "sacralised"))
    arches.append(sacral_arch(frames[-1], bodies[-1], places, steps.size, stream(seed, "arch", "S1")))
    shapes = list(zip(frames, grown, bodies, collapses, arches, strict=True))
    vertebrae = _vertebrae(seed, levels, shapes, age)
    if fused:
        vertebrae = (*vertebrae[:-2], replace(vertebrae[-2], sacralised=True), vertebrae[-1])
    spongy = replace(vertebrae[-1].matter, density=0.7 * vertebrae[-1].matter.density)
    sacrum = tuple(FusedBody(frame, body, spongy) for frame, body in segments)
    discs = sample_discs(frames, bodies, age, stream(seed, "discs"))
    discs = worn_discs(seed, levels, discs, wear)
    vertebrae = ill_vertebrae(seed, vertebrae, discs, wear, plan=illness, gradings=gradings)
    trunk = sample_trunk(seed, levels, frames, bodies, places, size=steps.size, age=age)
    return Spine(seed, age, vertebrae, sacrum, discs, trunk, gradings, wear)


def _sacralised(seed: int, options: SpineOptions) -> bool:
    if options.sacralised is not None:
        return options.sacralised
    return bool(stream(seed, "disease", "sacralisation").random() < SACRALISED_SHARE)


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


def marrow_fat(age: float, level: Level, person: float, generator: np.random.Generator) -> float:
    """Share of fat in the marrow of a healthy body.

    Rises with age from some 30 to 55 %, and from the thoracic spine to L5 (Baum et al., Front Endocrinol
    2018; 9:141; Liney et al., J Magn Reson Imaging 2007; 26:787); `person` is this person's deviation.
    """
    place = {"C": -0.06, "T": -0.03, "L": 0.0, "S": 0.06}[level.region]
    lumbar = 0.018 * (int(level.value[1:]) - 3) if level.region == "L" else 0.0
    return float(
        np.clip(
            0.30 + 0.005 * (age - 25.0) + place + lumbar + person + around(generator, 0.0, 0.03), 0.08, 0.9
        )
    )


def _vertebrae(
    seed: int,
    levels: Sequence[Level],
    shapes: Sequence[tuple[Array, BodyShape, BodyShape, Collapse | None, ArchShape]],
    age: float,
) -> tuple[Vertebra, ...]:
    person = stream(seed, "bone")
    density = bone_density(age, person)
    cortex = max(0.18, around(person, 0.25 + 0.0009 * density, 0.07))
    hard = around(person, 760.0 + 0.6 * density, 60.0)
    worn = float(np.clip((age - 35.0) / 45.0, 0.0, 1.0)) * between(person, 0.0, 1.0)
    fatty = stream(seed, "marrow")
    fattiness = around(fatty, 0.0, 0.07)
    out = []
    for k, level in enumerate(levels):
        generator = stream(seed, "vertebra", level.value)
        marrow = Marrow(marrow_fat(age, level, fattiness, fatty))
        own = density * around(generator, 1.1 if level.region == "T" else 1.0, 0.07)
        frame, healthy, body, collapse, arch = shapes[k]
        grain = between(generator, 0.03, 0.16)
        matter = Matter(Tissue.BONE, 0.0, own, cortex, hard, grain, marrow)
        arch_matter = Matter(
            Tissue.BONE,
            0.0,
            0.65 * own if level is Level.S1 else 1.15 * own + 40.0,
            1.1 * cortex + 0.4,
            hard,
            grain,
            Marrow(min(0.9, float(marrow.fat) + 0.1)),
        )
        out.append(
            Vertebra(
                level=level,
                frame=frame,
                body=body,
                healthy=healthy,
                arch=arch,
                deformity=collapse.kind if collapse is not None else "none",
                collapse=collapse,
                matter=matter,
                arch_matter=arch_matter,
                endplate_mm=max(0.25, around(generator, 0.45 + 0.5 * worn, 0.12)),
                osteophytes=() if level is Level.S1 else osteophytes(body, frame, matter, worn, generator),
                rim=between(generator, 0.25, 0.75) + 0.6 * worn,
                compaction=between(generator, 0.0, 1.2) if collapse is not None else 0.0,
                seed=int(generator.integers(2**31)),
            )
        )
    return tuple(out)
