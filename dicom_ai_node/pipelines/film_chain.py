"""From what two networks see on a film to one chain of named vertebrae, head to tail.

The detector and the dense network tell places, both tell names; a body that only one of them sees is still a
body. Places are pixels [row, column] of the upright film.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import USUAL_LEVELS, Level, order
from dicom_ai_node.inference.film import LevelMaps, OutlinedBody, SeenVertebra
from dicom_ai_node.networks.film_geometry import box_area, box_common, box_overlap
from dicom_ai_node.pipelines.film_parts import PartMaps
from dicom_ai_node.pipelines.labelling import (
    TYPICAL_SPACING_MM,
    Candidate,
    LabellingSettings,
    NamedCentre,
    name_chain,
)

Floats = npt.NDArray[np.float64]

MIN_PEAK: Final = 0.35
"""A peak of the heatmaps as high as this is a body even where nothing else was seen."""

MIN_SCORE: Final = 0.75
"""A body that the dense network alone draws is one from this score on."""

_MIDDLE_MM: Final = 31.0
"""Distance of neighbouring bodies at the middle of a spine: a film without a scale is first taken for one."""

_UNKNOWN_SPREAD: Final = 0.6
"""Standard deviation of distances where the scale is a guess: T4's are 21 mm, L3's 36."""

_SAME: Final = 0.4
"""Overlap from which on two boxes are one body."""

ALIKE: Final = 0.7
"""Overlap from which on the mean of two boxes is used."""

_MOST_TAKEN: Final = 0.5
"""So much of a box that the detector alone answers may lie in other bodies' boxes."""

FILM_LABELLING: Final = LabellingSettings(spacing_spread=0.25)
"""Distances vary more on a film than in space: what bends sideways is foreshortened."""

_DETECTOR_WEIGHT: Final = 0.3
"""Of the detector's word on a level beside the heatmaps' (both 0 to 1): it looks at one region, they at the
whole film. Set on forty phantom films; 0 to 0.3 are alike there."""


@dataclass(frozen=True)
class FilmBody:
    """One vertebral body of the chain.

    Attributes:
        link: its name, with confidence and alternatives; its centre in millimetres of the film's own plane.
        box: first row, first column, last row, last column, shape (4,): what the networks that look at one
            body are shown. Where both see it, it lies half way between their boxes; heights are as good by
            the dense network's alone (both 0.021 off on 34 tuning films).
        seen: what the detector said of it; None where it did not see it.
        outlined: what the dense network drew of it; None where it drew nothing.
    """

    link: NamedCentre
    box: Floats
    seen: SeenVertebra | None
    outlined: OutlinedBody | None = None

    @property
    def reach(self) -> Floats:
        """The box that is reported: of the dense network's outline, for it is finer.

        On 24 tuning films it overlapped the true box by 0.90, the detector's by 0.80.
        """
        return self.box if self.outlined is None else self.outlined.box

    @property
    def guessed(self) -> bool:
        """Whether only a heatmap's peak says that there is a body here."""
        return self.seen is None and self.outlined is None


def named_bodies(
    seen: Sequence[SeenVertebra],
    outlined: Sequence[OutlinedBody],
    maps: LevelMaps | PartMaps,
    mm_per_pixel: float | None,
    settings: LabellingSettings = FILM_LABELLING,
) -> list[FilmBody]:
    """The chain of bodies, head to tail; gaps of the chain are left out.

    Args:
        seen: by the detector, the surest first.
        outlined: by the dense network.
        maps: heatmaps of the same film.
        mm_per_pixel: at the patient, where it is known.
        settings: of the labelling.
    """
    places = _without_outliers(_with_peaks(_joined(seen, outlined), maps))
    if not places:
        return []
    if mm_per_pixel is not None:
        return _named(places, maps, mm_per_pixel, settings)
    # Looks name the bodies first; their names say how far apart they are, and that how large a pixel is.
    unsure = replace(settings, spacing_spread=_UNKNOWN_SPREAD)
    chain = _named(places, maps, _first_scale([place.box for place in places]), unsure)
    return _named(places, maps, _scale_of(chain), settings)


def _named(
    places: Sequence[FilmBody], maps: LevelMaps | PartMaps, scale: float, settings: LabellingSettings
) -> list[FilmBody]:
    candidates, mine = [], {}
    for place in places:
        middle, height = (place.box[:2] + place.box[2:]) / 2, place.box[2] - place.box[0]
        evidence = maps.evidence(middle, 0.4 * float(height))
        if place.seen is not None:
            said = np.array([place.seen.levels.get(level, 0.0) for level in maps.levels])
            evidence = (1 - _DETECTOR_WEIGHT) * evidence + _DETECTOR_WEIGHT * place.seen.score * said
        # The film's plane as the labelling's space: columns run backwards, rows run down.
        center = np.array([0.0, middle[1] * scale, -middle[0] * scale])
        candidates.append(Candidate(center, evidence))
        mine[tuple(center)] = place
    candidates.sort(key=lambda candidate: -candidate.center_mm[2])
    chain = name_chain(candidates, maps.levels, settings)
    return [replace(mine[tuple(link.center_mm)], link=link) for link in chain if not link.interpolated]


_UNNAMED: Final = NamedCentre(Level.L1, np.zeros(3), 0.0, {})


def _joined(seen: Sequence[SeenVertebra], outlined: Sequence[OutlinedBody]) -> list[FilmBody]:
    """What both networks see is one body, its box half way between theirs.

    Bodies of the dense network share no pixel, so each of them counts. What the detector sees alone is one
    unless half of it is taken: it also answers, less surely, between two bodies.
    """
    overlaps = np.array([[box_overlap(item.box, drawn.box) for drawn in outlined] for item in seen])
    partners = _best_pairs(overlaps.reshape(len(seen), len(outlined)))
    bodies = [
        FilmBody(_UNNAMED, _shown_box(seen[first], outlined[second]), seen[first], outlined[second])
        for first, second in partners.items()
    ]
    taken = set(partners.values())
    bodies += [
        FilmBody(_UNNAMED, drawn.box, None, drawn)
        for number, drawn in enumerate(outlined)
        if number not in taken and drawn.score >= MIN_SCORE
    ]
    for number, item in enumerate(seen):
        if number not in partners:
            covered = sum(box_common(item.box, body.box) for body in bodies) / max(box_area(item.box), 1e-9)
            if covered <= _MOST_TAKEN:
                bodies.append(FilmBody(_UNNAMED, item.box, item))
    return bodies


def _shown_box(seen: SeenVertebra, outlined: OutlinedBody) -> Floats:
    """Half way between what both networks see of a body; the dense network's where they see it elsewhere."""
    if box_overlap(seen.box, outlined.box) < ALIKE:
        return outlined.box
    middle: Floats = (seen.box + outlined.box) / 2
    return middle


def _best_pairs(overlaps: Floats) -> dict[int, int]:
    """Which box of the second list each of the first is the same as; the most alike are joined first."""
    pairs: dict[int, int] = {}
    for place in np.argsort(-overlaps, axis=None, kind="stable"):
        first, second = (int(number) for number in np.unravel_index(place, overlaps.shape))
        if overlaps[first, second] < _SAME:
            break
        if first not in pairs and second not in pairs.values():
            pairs[first] = second
    return pairs


def _with_peaks(bodies: list[FilmBody], maps: LevelMaps | PartMaps) -> list[FilmBody]:
    sacrum = maps.levels.index(Level.S1) if Level.S1 in maps.levels else None
    for place, _ in maps.peaks(MIN_PEAK):
        # The sacrum is no body of the detector's; it anchors the numbering.
        edge = _edge_near(place, bodies)
        if edge is None:
            continue
        if any(_holds(body.box, place) for body in bodies):
            continue
        half = np.array([0.5, 0.62]) * edge
        if sacrum is not None and int(maps.evidence(place, 0.2 * edge).argmax()) == sacrum:
            half = np.array([0.5, 0.5]) * edge
        bodies.append(FilmBody(_UNNAMED, np.concatenate([place - half, place + half]), None))
    return bodies


def _edge_near(place: Floats, bodies: Sequence[FilmBody]) -> float | None:
    """Height of the boxes next to a place; None where there is none."""
    near = sorted(
        (float(np.linalg.norm((body.box[:2] + body.box[2:]) / 2 - place)), index)
        for index, body in enumerate(bodies)
        if not body.guessed
    )
    if not near:
        return None
    return float(np.median([bodies[index].box[2] - bodies[index].box[0] for _, index in near[:3]]))


def _holds(box: Floats, place: Floats) -> bool:
    slack = 0.15 * (box[2:] - box[:2])
    return bool((place >= box[:2] - slack).all() and (place <= box[2:] + slack).all())


def _without_outliers(bodies: list[FilmBody]) -> list[FilmBody]:
    """Without boxes of quite another size than the rest: neighbours of one spine are alike."""
    if len(bodies) < 3:
        return bodies
    sizes = np.array([float(np.sqrt(np.prod(body.box[2:] - body.box[:2]))) for body in bodies])
    middle = float(np.median(sizes))
    return [body for body, size in zip(bodies, sizes, strict=True) if 0.4 * middle <= size <= 2.2 * middle]


def _first_scale(boxes: Sequence[Floats]) -> float:
    """Millimetres per pixel that make the distances of neighbouring bodies those of a spine's middle."""
    middles = sorted((tuple((box[:2] + box[2:]) / 2) for box in boxes), key=lambda place: place[0])
    steps = [float(np.hypot(b[0] - a[0], b[1] - a[1])) for a, b in pairwise(middles)]
    if not steps:
        edge = float(boxes[0][2] - boxes[0][0])
        return 0.8 * _MIDDLE_MM / max(edge, 1.0)
    return _MIDDLE_MM / max(float(np.median(steps)), 1.0)


def _scale_of(chain: Sequence[FilmBody]) -> float:
    """Millimetres per pixel at which the named bodies are as far apart as bodies of these names are."""
    ratios = []
    for upper, lower in pairwise(chain):
        passed = [level for level in USUAL_LEVELS if _between(upper, level, lower)]
        step = (lower.box[:2] + lower.box[2:] - upper.box[:2] - upper.box[2:]) / 2
        ratios.append(
            sum(TYPICAL_SPACING_MM[level] for level in (upper.link.level, *passed))
            / max(float(np.hypot(*step)), 1.0)
        )
    return float(np.median(ratios)) if ratios else _first_scale([body.box for body in chain])


def _between(upper: FilmBody, level: Level, lower: FilmBody) -> bool:
    return order(upper.link.level) < order(level) < order(lower.link.level)


def missing_between(bodies: Sequence[FilmBody]) -> list[Level]:
    """Levels that must lie between the bodies of a chain but were not seen."""
    levels = [body.link.level for body in bodies]
    if not levels:
        return []
    return [
        level
        for level in USUAL_LEVELS
        if order(levels[0]) < order(level) < order(levels[-1]) and level not in levels
    ]
