"""Phantom patients of P2: who has which disease where, within the part of the spine that is imaged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from dicom_ai_node.anatomy import LEVELS, Level, order
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.fracturing import FRACTURE_LEVELS
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine

Ill = dict[Level, tuple[Disease, ...]]

_TAUGHT: Final[tuple[tuple[tuple[Disease, ...], float], ...]] = (
    ((Disease.OVCF,), 0.25),
    ((Disease.OF,), 0.18),
    ((Disease.SN,), 0.16),
    ((Disease.KD,), 0.06),
    ((Disease.OVCF, Disease.KD), 0.06),
    ((Disease.OF, Disease.KD), 0.02),
    ((Disease.OVCF, Disease.PS), 0.09),
    ((Disease.OF, Disease.PS), 0.06),
    ((Disease.PS,), 0.06),
    ((Disease.OF, Disease.SN), 0.03),
    ((Disease.OVCF, Disease.SN), 0.03),
)
"""What an ill vertebra of a training pool has: rare diseases far more often than in nature."""

_LOOK_ALIKES: Final = (
    Disease.HAEMANGIOMA,
    Disease.CUPIDS_BOW,
    Disease.LIMBUS,
    Disease.SHORT_HEIGHT,
    Disease.SCHEUERMANN,
)

_PER_PATIENT: Final = {Disease.OF: 0.45, Disease.SN: 0.12, Disease.KD: 0.08, Disease.PS: 0.25}
"""P2, table 2: bodies with each disease per 8.5 bodies of a slice; each patient has a fresh fracture, or one
that was operated on."""

_RANGES: Final[tuple[tuple[Level, Level, float], ...]] = (
    (Level.T8, Level.S1, 0.28),
    (Level.T11, Level.S1, 0.24),
    (Level.T5, Level.L3, 0.16),
    (Level.T1, Level.L1, 0.12),
    (Level.C6, Level.S1, 0.08),
)
"""What is imaged; the rest are small fields of view of four to six vertebrae."""

_ATTEMPTS: Final = 20


@dataclass(frozen=True)
class SlicePerson:
    """A person, and the uppermost and lowest level that is imaged."""

    spine: Spine
    first: Level
    last: Level


def slice_person(seed: int, *, training: bool) -> SlicePerson:
    """P2's patient of a seed.

    Args:
        seed: decides everything.
        training: adults of all ages with up to six ill vertebrae, look-alikes beside them, a tenth of them
            without any disease; else old people with the frequencies of P2's table 2.

    Raises:
        ValueError: none of 20 plans of diseases could be built.
    """
    generator = stream(seed, "ct-slices", "person")
    first, last = _field_of_view(generator)
    for _ in range(_ATTEMPTS):
        ill = _taught(first, last, generator) if training else _published(first, last, generator)
        options = SpineOptions(
            age=between(generator, 35.0, 92.0) if training else between(generator, 55.0, 90.0),
            diseases=ill,
            degeneration="rich" if training and generator.random() < 0.4 else "realistic",
            sacralised=None,
        )
        try:
            return SlicePerson(sample_spine(seed, options=options), first, last)
        except ValueError:  # one of these bodies cannot break as far as is wanted: others may
            continue
    raise ValueError(f"seed {seed}: none of {_ATTEMPTS} plans of diseases could be built")


def _field_of_view(generator: np.random.Generator) -> tuple[Level, Level]:
    dice = generator.random()
    for first, last, share in _RANGES:
        if dice < share:
            return first, last
        dice -= share
    count = int(generator.integers(4, 7))
    chain = [level for level in LEVELS if order(Level.T2) <= order(level) <= order(Level.L5)]
    start = int(generator.integers(len(chain) - count + 1))
    return chain[start], chain[start + count - 1]


def _breakable(first: Level, last: Level, generator: np.random.Generator) -> list[Level]:
    """Levels that can break within the field of view, in random order, the usual ones first."""
    levels = [level for level in FRACTURE_LEVELS if order(first) <= order(level) <= order(last)]
    weights = np.sqrt(np.array([FRACTURE_LEVELS[level] for level in levels]))
    chosen = generator.choice(len(levels), len(levels), replace=False, p=weights / weights.sum())
    return [levels[int(k)] for k in chosen]


def _taught(first: Level, last: Level, generator: np.random.Generator) -> Ill:
    free = _breakable(first, last, generator)
    ill: Ill = {}
    if generator.random() < 0.08 and len(free) > 3:
        top = free[0]
        pair = [level for level in free if 0 <= order(level) - order(top) <= 1]
        ill |= dict.fromkeys(pair, (Disease.PS,))
    free = [level for level in free if level not in ill]
    count = 0 if generator.random() < 0.1 else int(generator.integers(2, 7))
    shares = np.array([share for _, share in _TAUGHT])
    # A sound body between ill ones is what they are compared with.
    for level in free[: min(count, (2 * len(free) + 2) // 3)]:
        ill[level] = _TAUGHT[int(generator.choice(len(_TAUGHT), p=shares / shares.sum()))][0]
    sound = [level for level in free if level not in ill]
    for look_alike in _LOOK_ALIKES:
        if sound and generator.random() < 0.15:
            ill[sound.pop()] = (look_alike,)
    return ill


def _published(first: Level, last: Level, generator: np.random.Generator) -> Ill:
    free = _breakable(first, last, generator)
    ill: Ill = {free.pop(0): (Disease.OVCF,)}
    if free and generator.random() < 0.2:
        ill[free.pop(0)] = (Disease.OVCF,)
    for disease, mean in _PER_PATIENT.items():
        if disease is Disease.PS:
            for level, own in list(ill.items()):
                if Disease.SN not in own and generator.random() < mean / max(1, len(ill)):
                    ill[level] = (*own, Disease.PS)
            continue
        for _ in range(int(generator.poisson(mean))):
            if free:
                ill[free.pop(0)] = (disease,)
    return ill
