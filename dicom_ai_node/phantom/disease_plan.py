"""Who is ill where: the diseases, fractures and signs of one person, before any shape is made of them.

Frequencies: fresh and old fractures and their signs from P4's table 1; cement, Kuemmell's disease and
Schmorl's nodes per vertebra from P2's table 2; haemangiomas in a tenth of adults; the rest as commonly
taught.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from dicom_ai_node.anatomy import SUPERNUMERARY, Level
from dicom_ai_node.phantom.disease import (
    BENIGN,
    BENIGN_COUNTS,
    COLLAPSES,
    MALIGNANT,
    MALIGNANT_COUNTS,
    Disease,
    Features,
    draw_benign,
    draw_malignant,
)
from dicom_ai_node.phantom.fracturing import FRACTURE_LEVELS
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.report import Deformity

Fractures = Mapping[Level, tuple[Deformity, int]]
DiseaseWish = Literal["none", "realistic", "rich"] | Mapping[Level, tuple[Disease, ...]]
"""Which diseases a person has: none (a break is then called OVCF and shows no other sign), as frequent as in
patients, many of all kinds (for training), or exactly these."""

SCHMORL_PER_VERTEBRA: Final = 824 / (14584 + 47604)
"""P2 table 2, training set."""

CEMENT_PER_FRACTURE: Final = 1979 / (8046 + 3257)
KUEMMELL_PER_FRACTURE: Final = 478 / (8046 + 3257)


@dataclass(frozen=True)
class DiseasePlan:
    """What is to be built.

    Attributes:
        diseases: per level, without those that have none.
        fractures: per level (deformity, Genant grade), as `sample_spine` takes them.
        features: P4's features per level with a fracture or a tumour; those about height are not set yet.
    """

    diseases: Mapping[Level, tuple[Disease, ...]]
    fractures: Fractures
    features: Mapping[Level, Features]

    def has(self, level: Level, disease: Disease) -> bool:
        """Whether a level has a disease."""
        return disease in self.diseases.get(level, ())

    def instrumented(self, levels: Sequence[Level]) -> list[tuple[Level, ...]]:
        """Groups of levels with screws and rods.

        Previous surgery of a broken or replaced body is cement; that of neighbouring sound bodies (one level
        may be bridged) is screws with rods; that of a single sound body is cement.
        """
        groups: list[list[Level]] = []
        last = -9
        for k, level in enumerate(levels):
            ill = COLLAPSES.union({Disease.MALIGNANT}).intersection(self.diseases.get(level, ()))
            if not self.has(level, Disease.PS) or ill:
                continue
            if groups and k - last <= 2:
                groups[-1].append(level)
            else:
                groups.append([level])
            last = k
        return [tuple(group) for group in groups if len(group) > 1]


def plan_diseases(
    seed: int,
    wish: DiseaseWish,
    levels: Sequence[Level],
    age: float,
    fractures: Fractures,
    *,
    asked: bool,
) -> DiseasePlan:
    """The diseases of one person; all randomness comes from streams of its own.

    Args:
        seed: of the person.
        wish: what is wanted.
        levels: of the spine.
        age: years.
        fractures: planned so far; those that a disease needs are added.
        asked: whether these fractures were asked for; a tumour then breaks no further body.

    Raises:
        ValueError: a disease is asked for where it cannot be, or beside one that excludes it.
    """
    if wish == "none":
        return DiseasePlan({}, fractures, {})
    generator = stream(seed, "disease", "plan")
    plan: dict[Level, list[Disease]] = {}
    broken = dict(fractures)
    if isinstance(wish, Mapping):
        _check(wish, levels)
        plan = {level: list(diseases) for level, diseases in wish.items() if diseases}
    else:
        _Drawing(plan, broken, levels, age, generator, rich=wish == "rich").draw()
    for level, (_, grade) in broken.items():
        ill = plan.setdefault(level, [])
        if grade and not COLLAPSES.union({Disease.MALIGNANT}).intersection(ill):
            ill.append(Disease.OVCF)
    features: dict[Level, Features] = {}
    for level, ill in plan.items():
        own = stream(seed, "disease", "features", level.value)
        if COLLAPSES.intersection(ill):
            features[level] = _benign(ill, own)
        elif Disease.MALIGNANT in ill:
            features[level] = draw_malignant(own)
    if not isinstance(wish, Mapping):
        _spread(plan, features, levels, generator)
    for level in plan:
        _break(plan[level], level, broken, features, generator, asked=asked)
    nodules = [
        level for level, ill in plan.items() if {Disease.MALIGNANT, Disease.HAEMANGIOMA}.intersection(ill)
    ]
    features = {
        level: replace(found, skip_lesion=any(other is not level for other in nodules))
        for level, found in features.items()
    }
    ordered = {level: tuple(plan[level]) for level in levels if plan.get(level)}
    return DiseasePlan(ordered, broken, features)


def _benign(ill: Sequence[Disease], generator: np.random.Generator) -> Features:
    fresh = Disease.OVCF in ill or Disease.OF not in ill
    found = draw_benign(generator, fresh=fresh)
    # Table 1 counts clefts in all fractures; here a fracture with a cleft is Kuemmell's disease.
    return replace(found, cleft=Disease.KD in ill)


def _spread(
    plan: dict[Level, list[Disease]],
    features: dict[Level, Features],
    levels: Sequence[Level],
    generator: np.random.Generator,
) -> None:
    """Nodules in other vertebrae where a fracture's features say that there are some."""
    free = [level for level in levels if not plan.get(level)]
    for level, found in list(features.items()):
        if not found.skip_lesion or not free:
            continue
        tumour = Disease.MALIGNANT in plan[level]
        for _ in range(int(generator.integers(1, 5)) if tumour else 1):
            if not free:
                break
            other = free.pop(int(generator.integers(len(free))))
            plan[other] = [Disease.MALIGNANT if tumour else Disease.HAEMANGIOMA]
            if tumour:
                diffuse = bool(generator.random() < 0.3)
                patch = bool(generator.random() < MALIGNANT_COUNTS["dark_patch"] / MALIGNANT)
                features[other] = Features(mass=True, diffuse_change=diffuse, dark_patch=patch)


def _break(
    ill: Sequence[Disease],
    level: Level,
    broken: dict[Level, tuple[Deformity, int]],
    features: Mapping[Level, Features],
    generator: np.random.Generator,
    *,
    asked: bool,
) -> None:
    breakable = level in FRACTURE_LEVELS or level in SUPERNUMERARY
    if level in broken or not breakable:
        return
    if COLLAPSES.intersection(ill):
        if Disease.OVCF in ill and generator.random() < BENIGN_COUNTS["absence_of_collapse"] / BENIGN:
            return
        broken[level] = (
            _kind(BENIGN_COUNTS, generator),
            _grade(generator, least=2 if Disease.KD in ill else 1),
        )
    elif Disease.MALIGNANT in ill and not asked:
        focal = not features[level].diffuse_change
        if focal or generator.random() < MALIGNANT_COUNTS["absence_of_collapse"] / MALIGNANT:
            return
        broken[level] = (_kind(MALIGNANT_COUNTS, generator), _grade(generator))
    elif Disease.SCHEUERMANN in ill:
        broken[level] = ("wedge", 0)


def _kind(counts: Mapping[str, int], generator: np.random.Generator) -> Deformity:
    names = ("anterior_wedge", "whole_body_compression", "central_concavity")
    weights = np.array([counts[name] for name in names], dtype=np.float64)
    chosen = int(generator.choice(3, p=weights / weights.sum()))
    kinds: tuple[Deformity, ...] = ("wedge", "crush", "biconcave")
    return kinds[chosen]


def _grade(generator: np.random.Generator, least: int = 1) -> int:
    weights = np.array([0.3, 0.4, 0.3])[least - 1 :]
    return int(generator.choice(range(least, 4), p=weights / weights.sum()))


@dataclass
class _Drawing:
    """Diseases by chance; fills `plan` and `broken`."""

    plan: dict[Level, list[Disease]]
    broken: dict[Level, tuple[Deformity, int]]
    levels: Sequence[Level]
    age: float
    generator: np.random.Generator
    rich: bool

    def draw(self) -> None:
        for level, (_, grade) in self.broken.items():
            if grade:
                self._fracture(level)
        chances: dict[str, float] = {
            "malignant": 0.03 if self.age > 40 else 0.004,
            "screws": 0.03,
            "haemangioma": 0.1,
            "scheuermann": 0.03,
            "cupid": 0.08,
            "limbus": 0.02,
            "short": 0.03,
            "fracture": 0.0,
        }
        for name, chance in chances.items():
            if self._chance((0.28 if name == "fracture" else 0.2) if self.rich else chance):
                getattr(self, f"_{name}")()
        nodes = SCHMORL_PER_VERTEBRA * (8.0 if self.rich else 1.0)
        for level in self._upright():
            if self._chance(nodes):
                self._add(level, Disease.SN)

    def _chance(self, share: float) -> bool:
        return bool(self.generator.random() < share)

    def _add(self, level: Level, disease: Disease) -> None:
        ill = self.plan.setdefault(level, [])
        if disease not in ill:
            ill.append(disease)

    def _upright(self) -> list[Level]:
        return [level for level in self.levels if level in FRACTURE_LEVELS or level in SUPERNUMERARY]

    def _sound(self) -> list[Level]:
        return [level for level in self._upright() if level not in self.broken and not self.plan.get(level)]

    def _any_sound(self) -> Level | None:
        sound = self._sound()
        return sound[int(self.generator.integers(len(sound)))] if sound else None

    def _fracture(self, level: Level | None = None) -> None:
        place = self._any_sound() if level is None else level
        if place is None:
            return
        grade = self.broken.get(place, ("none", 0))[1]
        old = self._chance(BENIGN_COUNTS["homogeneous_marrow"] / BENIGN)
        cleft = self._chance(0.25 if self.rich else KUEMMELL_PER_FRACTURE)
        if cleft and (grade > 1 or place not in self.broken):
            self._add(place, Disease.KD)
        else:
            self._add(place, Disease.OF if old else Disease.OVCF)
        if self._chance(0.25 if self.rich else CEMENT_PER_FRACTURE):
            self._add(place, Disease.PS)

    def _malignant(self) -> None:
        place = self._any_sound()
        if place is not None:
            self._add(place, Disease.MALIGNANT)

    def _haemangioma(self) -> None:
        place = self._any_sound()
        if place is not None:
            self._add(place, Disease.HAEMANGIOMA)

    def _screws(self) -> None:
        chain = [level for level in self.levels if level in (*self._upright(), Level.S1)]
        count = int(self.generator.integers(2, 5))
        first = int(
            self.generator.choice([len(chain) - count, int(self.generator.integers(len(chain) - count))])
        )
        group = [level for level in chain[first : first + count] if level not in self.broken]
        if len(group) > 1:
            for level in group:
                self._add(level, Disease.PS)

    def _scheuermann(self) -> None:
        middle = int(self.generator.integers(4, 12))
        chain = list(self.levels)
        start = chain.index(Level.T1) + middle - 2
        for level in chain[start : start + int(self.generator.integers(3, 6))]:
            if level in self._sound():
                self._add(level, Disease.SCHEUERMANN)
                self.broken[level] = ("wedge", 0)

    def _cupid(self) -> None:
        for level in self._sound():
            if level in (Level.L3, Level.L4, Level.L5) and self._chance(0.7):
                self._add(level, Disease.CUPIDS_BOW)

    def _limbus(self) -> None:
        place = self._any_sound()
        if place is not None:
            self._add(place, Disease.LIMBUS)

    def _short(self) -> None:
        place = self._any_sound()
        if place is not None:
            self._add(place, Disease.SHORT_HEIGHT)


def _check(wish: Mapping[Level, tuple[Disease, ...]], levels: Sequence[Level]) -> None:
    for level, diseases in wish.items():
        if level not in levels:
            raise ValueError(f"{level} does not exist in this spine")
        unknown = [disease for disease in diseases if disease not in set(Disease)]
        if unknown:
            raise ValueError(f"{level}: {unknown[0]} is no disease; use one of {', '.join(Disease)}")
        ill = set(diseases)
        if {Disease.OVCF, Disease.OF} <= ill:
            raise ValueError(f"{level}: a fracture is fresh (OVCF) or old (OF)")
        if Disease.MALIGNANT in ill and COLLAPSES & ill:
            raise ValueError(f"{level}: a fracture is benign or malignant")
        breakable = level in FRACTURE_LEVELS or level in SUPERNUMERARY
        bony = ill - {Disease.MALIGNANT, Disease.HAEMANGIOMA}
        if level is Level.S1:
            bony -= {Disease.PS}
        if bony and not breakable:
            raise ValueError(f"{level}: {', '.join(sorted(bony))} can be had from T4 to L5, T13 and L6")
