"""From heatmaps to a named chain of vertebrae: one consistent answer for the whole spine.

A heatmap alone names a vertebra by how it looks; neighbours look alike, so single names are often off by
one. Here every peak of the heatmaps is a candidate, and dynamic programming finds the chain of candidates
and names that fits the evidence best while the levels run in order without gap or repeat and the distances
are those of a human spine (a chain model as in Glocker 2013; heatmaps as in P3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.anatomy import LEVELS, SUPERNUMERARY, USUAL_LEVELS, Level, order

TYPICAL_SPACING_MM: Final[dict[Level, float]] = {
    Level.C1: 17.3,
    Level.C2: 24.2,
    Level.C3: 17.8,
    Level.C4: 17.2,
    Level.C5: 16.5,
    Level.C6: 17.2,
    Level.C7: 19.6,
    Level.T1: 20.8,
    Level.T2: 20.8,
    Level.T3: 20.9,
    Level.T4: 21.4,
    Level.T5: 22.1,
    Level.T6: 22.6,
    Level.T7: 23.3,
    Level.T8: 24.0,
    Level.T9: 25.3,
    Level.T10: 27.2,
    Level.T11: 29.6,
    Level.T12: 32.4,
    Level.T13: 33.4,
    Level.L1: 34.5,
    Level.L2: 35.8,
    Level.L3: 36.4,
    Level.L4: 36.3,
    Level.L5: 34.0,
    Level.L6: 34.0,
}
"""Distance from this body's centre to the next one below, millimetres: medians of the ImFusion VID
spines (CC BY-SA 4.0), from L5 and T13 on set by their neighbours."""

ANCHORS: Final = frozenset({Level.C2, Level.S1})
"""The vertebrae that look like no other: who sees one of them counts from there."""

CLEAR_SACRUM: Final = 0.5
"""Evidence from which on what looks like a sacrum more than like anything else is one."""

SPACING_SPREAD: Final = 0.18
"""Standard deviation of a distance between centres, as a share of the typical one; fractures shorten it."""


_NEIGHBOURS: Final = 1.45
"""T11 and L1 nearer to each other than so many typical distances have no T12 between them: 43 mm. In the
ImFusion VID spines it is 26 to 32 mm without T12, and 44 mm at least with it."""


@dataclass(frozen=True)
class LabellingSettings:
    """What counts as a candidate and what a chain pays for.

    Attributes:
        min_peak: a candidate's heatmap value, as a share of the target's peak.
        background: the heatmap value at which evidence for a name turns into evidence against it.
        skip_penalty: what it costs (natural log) to pass over a level for which no candidate stands.
        supernumerary_penalty: what T13 or L6 cost: minus the log of their rarity (48 L6 in 2,116 spines).
        eleven_penalty: what a spine without T12 costs, whose L1 is T11's neighbour (8 in 1,916 spines).
        spacing_spread: standard deviation of a distance between centres, as a share of the typical one.
        anchor_weight: how often evidence for one of `ANCHORS` counts. Bodies between them look alike, and
            their names err together; what looks like no other body outweighs many of those.
    """

    min_peak: float = 0.12
    background: float = 0.05
    skip_penalty: float = 3.0
    supernumerary_penalty: float = 3.8
    eleven_penalty: float = 5.5
    spacing_spread: float = SPACING_SPREAD
    anchor_weight: float = 1.0


@dataclass(frozen=True)
class Candidate:
    """A peak of the heatmaps: `evidence` holds the height of every level's heatmap about it."""

    center_mm: npt.NDArray[np.float64]
    evidence: npt.NDArray[np.float64]


@dataclass(frozen=True)
class NamedCentre:
    """One link of the chain.

    Attributes:
        center_mm: [x, y, z] patient LPS millimetres.
        confidence: share of the evidence for this numbering against the same chain shifted by one or two.
        alternatives: the other names that the shifted chains would give it.
        interpolated: no peak stood here; the gap between its neighbours says it must exist.
    """

    level: Level
    center_mm: npt.NDArray[np.float64]
    confidence: float
    alternatives: dict[str, float]
    interpolated: bool = False


def find_candidates(
    heatmaps: npt.NDArray[np.float32],
    affine: npt.NDArray[np.float64],
    settings: LabellingSettings,
    radius_mm: float = 10.0,
) -> list[Candidate]:
    """Peaks of the strongest heatmap, each with every level's evidence about it.

    Args:
        heatmaps: shape (levels, slices, rows, columns); 1 is the peak that the network was trained to give.
        affine: (slice, row, column, 1) to patient LPS millimetres, isotropic.
        radius_mm: two peaks are further apart than this; evidence is looked for within it.

    Returns:
        Candidates from head to tail, their centres refined to a fraction of a voxel.
    """
    spacing = float(np.linalg.norm(affine[:3, 0]))
    radius = max(1, round(radius_mm / spacing))
    strongest = heatmaps.max(axis=0)
    ball = _ball(radius)
    is_peak = (strongest == ndimage.maximum_filter(strongest, footprint=ball)) & (
        strongest >= settings.min_peak
    )
    candidates = []
    for peak in np.argwhere(is_peak):
        low = np.maximum(peak - radius, 0)
        window = tuple(slice(start, stop + radius + 1) for start, stop in zip(low, peak, strict=True))
        near = ball[
            tuple(
                slice(radius - (p - start), radius - (p - start) + size)
                for p, start, size in zip(peak, low, strongest[window].shape, strict=True)
            )
        ]
        evidence = np.where(near, heatmaps[(slice(None), *window)], 0).max(axis=(1, 2, 3))
        center = affine[:3, :3] @ _between_voxels(strongest, peak) + affine[:3, 3]
        candidates.append(Candidate(center, evidence.astype(np.float64)))
    return sorted(candidates, key=lambda candidate: -candidate.center_mm[2])


def candidates_at(
    centers_mm: Sequence[npt.NDArray[np.float64]],
    heatmaps: npt.NDArray[np.float32],
    affine: npt.NDArray[np.float64],
    radius_mm: float = 10.0,
) -> list[Candidate]:
    """Candidates at known centres (LPS millimetres) with every level's evidence within the radius.

    Arguments as in `find_candidates`; the answer runs from head to tail.
    """
    spacing = float(np.linalg.norm(affine[:3, 0]))
    radius = max(1, round(radius_mm / spacing))
    ball = np.argwhere(_ball(radius)) - radius
    to_index = np.linalg.inv(affine)
    limit = np.array(heatmaps.shape[1:]) - 1
    found = []
    for center in centers_mm:
        middle = np.rint(to_index[:3, :3] @ center + to_index[:3, 3]).astype(int)
        near = np.clip(middle + ball, 0, limit)
        found.append(
            Candidate(center, heatmaps[:, near[:, 0], near[:, 1], near[:, 2]].max(axis=1).astype(float))
        )
    return sorted(found, key=lambda candidate: -candidate.center_mm[2])


def above_sacrum(candidates: Sequence[Candidate], levels: Sequence[Level]) -> list[Candidate]:
    """The candidates down to the first one that is clearly a sacrum.

    What a network outlines below it are sacral segments: taken for bodies, they would push all names up.

    Args:
        candidates: from head to tail, with an entry of evidence per level.
        levels: what each stands for.
    """
    sacrum = list(levels).index(Level.S1)
    for number, item in enumerate(candidates):
        if item.evidence[sacrum] >= CLEAR_SACRUM and int(item.evidence.argmax()) == sacrum:
            return list(candidates[: number + 1])
    return list(candidates)


def with_thirteenth(
    candidates: Sequence[Candidate], levels: Sequence[Level]
) -> tuple[list[Candidate], list[Level]]:
    """The candidates with evidence for T13 too, and what each entry then stands for.

    A thirteenth thoracic vertebra is too rare to have a heatmap of its own: it looks like T12 and just as
    much like L1. What looks more like one of them is that one.

    Args:
        candidates: with an entry of evidence per level.
        levels: what each stands for, in any order; with T13 among them, or without its neighbours, no
            evidence is added.

    Returns:
        Candidates and levels as `name_chain` takes them: evidence runs from head to tail.
    """
    names, evidence = list(levels), [item.evidence for item in candidates]
    if Level.T13 not in names and {Level.T12, Level.L1} <= set(names):
        twelfth, first = names.index(Level.T12), names.index(Level.L1)
        both = [_alike(float(own[twelfth]), float(own[first])) for own in evidence]
        names = [*names, Level.T13]
        evidence = [np.append(own, value) for own, value in zip(evidence, both, strict=True)]
    in_order = sorted(range(len(names)), key=lambda k: order(names[k]))
    named = [Candidate(item.center_mm, own[in_order]) for item, own in zip(candidates, evidence, strict=True)]
    return named, [names[k] for k in in_order]


def _alike(one: float, other: float) -> float:
    """The smaller of two pieces of evidence, less where they differ."""
    smaller, larger = sorted((max(0.0, one), max(0.0, other)))
    return smaller**2 / max(larger, 1e-6)


def name_chain(
    candidates: Sequence[Candidate],
    levels: Sequence[Level],
    settings: LabellingSettings = LabellingSettings(),
) -> list[NamedCentre]:
    """The best chain of candidates with names in order, head to tail; gaps are filled by interpolation.

    Args:
        candidates: as `find_candidates` gives them.
        levels: what each entry of a candidate's evidence stands for.
    """
    if not candidates:
        return []
    levels = sorted(levels, key=order)
    evidence = np.array([candidate.evidence for candidate in candidates])
    node = np.log((np.clip(evidence, 0, None) + 0.02) / (settings.background + 0.02))
    weight = np.array([settings.anchor_weight if level in ANCHORS else 1.0 for level in levels])
    node = np.where(node > 0, weight * node, node)
    node -= [settings.supernumerary_penalty if level in SUPERNUMERARY else 0.0 for level in levels]
    chain = _best_path(candidates, levels, node, settings)
    shares = _share_of_each_shift(chain, levels, node)
    named = []
    for candidate, level in ((candidates[j], levels[k]) for j, k in chain):
        alternatives = {
            other.value: shares[shift]
            for shift in shares
            if shift != 0 and shares[shift] >= 0.005 and (other := _shifted(level, shift)) is not None
        }
        named.append(NamedCentre(level, candidate.center_mm, shares[0], alternatives))
    return _fill_gaps(named)


def _best_path(
    candidates: Sequence[Candidate],
    levels: Sequence[Level],
    node: npt.NDArray[np.float64],
    settings: LabellingSettings,
) -> list[tuple[int, int]]:
    """Highest-scoring path as (candidate, level) indices; a path may begin and end anywhere."""
    best = node.copy()
    back: dict[tuple[int, int], tuple[int, int]] = {}
    for j in range(len(candidates)):
        for i in range(j):
            step = candidates[j].center_mm - candidates[i].center_mm
            distance = float(np.linalg.norm(step))
            if distance > 160 or -step[2] < 0.3 * distance:
                continue  # two bodies of one chain never lie side by side
            for k, lower in enumerate(levels):
                for h in range(max(0, k - 5), k):
                    passed = _passed_levels(levels[h], lower, distance)
                    cost = settings.skip_penalty * len(passed)
                    if levels[h] is Level.T11 and lower is Level.L1 and not passed:
                        cost = settings.eleven_penalty
                    link = (
                        best[i, h]
                        + node[j, k]
                        + _spacing_score(levels[h], passed, distance, settings.spacing_spread)
                        - cost
                    )
                    if link > best[j, k]:
                        best[j, k] = link
                        back[j, k] = (i, h)
    end = np.unravel_index(int(best.argmax()), best.shape)
    path = [(int(end[0]), int(end[1]))]
    while path[-1] in back:
        path.append(back[path[-1]])
    return path[::-1]


def _passed_levels(upper: Level, lower: Level, distance_mm: float) -> list[Level]:
    """The levels that must lie between two at this distance; no T12 where T11 and L1 are neighbours."""
    if upper is Level.T11 and lower is Level.L1 and distance_mm < _NEIGHBOURS * TYPICAL_SPACING_MM[upper]:
        return []
    between = LEVELS[order(upper) + 1 : order(lower)]
    return [level for level in between if level not in SUPERNUMERARY]


def _spacing_score(upper: Level, passed: Sequence[Level], distance_mm: float, share: float) -> float:
    typical = sum(TYPICAL_SPACING_MM[level] for level in (upper, *passed))
    spread = share * typical / np.sqrt(1 + len(passed))
    return float(-0.5 * ((distance_mm - typical) / spread) ** 2)


def _share_of_each_shift(
    chain: Sequence[tuple[int, int]], levels: Sequence[Level], node: npt.NDArray[np.float64]
) -> dict[int, float]:
    """How the evidence divides between the chain as named (0) and the same chain moved by 1 or 2 levels."""
    index = {level: k for k, level in enumerate(levels)}
    scores = {}
    for shift in range(-2, 3):
        moved = [(j, _shifted(levels[k], shift)) for j, k in chain]
        # Evidence of neighbours is not independent: the chain's sum is tempered to its mean times three.
        values = [node[j, index[level]] if level in index else node.min() for j, level in moved]
        scores[shift] = 3.0 * float(np.mean(values))
    peak = max(scores.values())
    total = sum(np.exp(score - peak) for score in scores.values())
    return {shift: float(np.exp(score - peak) / total) for shift, score in scores.items()}


def _shifted(level: Level, shift: int) -> Level | None:
    if level in SUPERNUMERARY:
        return level if shift == 0 else None
    position = USUAL_LEVELS.index(level) + shift
    return USUAL_LEVELS[position] if 0 <= position < len(USUAL_LEVELS) else None


def _fill_gaps(named: Sequence[NamedCentre]) -> list[NamedCentre]:
    filled: list[NamedCentre] = []
    for link in named:
        upper = filled[-1] if filled else link
        distance = float(np.linalg.norm(link.center_mm - upper.center_mm))
        passed = _passed_levels(upper.level, link.level, distance)
        if passed:
            lengths = np.cumsum([TYPICAL_SPACING_MM[level] for level in (upper.level, *passed)])
            for level, share in zip(passed, lengths / lengths[-1], strict=False):
                center = upper.center_mm + share * (link.center_mm - upper.center_mm)
                filled.append(NamedCentre(level, center, 0.5 * link.confidence, {}, interpolated=True))
        filled.append(link)
    return filled


def _between_voxels(heatmap: npt.NDArray[np.float32], peak: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Where a Gaussian through the peak and its neighbours along each axis has its top: voxel coordinates."""
    refined = peak.astype(np.float64)
    for axis in range(3):
        if not 0 < peak[axis] < heatmap.shape[axis] - 1:
            continue
        step = np.eye(3, dtype=np.intp)[axis]
        before, at, after = (
            np.log(max(float(heatmap[tuple(peak + side * step)]), 1e-3)) for side in (-1, 0, 1)
        )
        curvature = 2 * at - before - after
        if curvature > 1e-6:
            refined[axis] += float(np.clip((after - before) / (2 * curvature), -0.5, 0.5))
    return refined


def _ball(radius: int) -> npt.NDArray[np.bool_]:
    grid = np.indices((2 * radius + 1,) * 3) - radius
    return np.asarray((grid**2).sum(axis=0) <= radius**2 + 0.5)
