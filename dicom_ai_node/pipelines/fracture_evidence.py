"""Is a body broken? What its heights say against the other bodies of the spine, and what else says so.

The grade is arithmetic (`genant`): every body from a loss of 20 % on has one. Whether a body is *reported as
fractured* weighs more: healthy endplates are concave, in some spines by nearly a fifth of the height, and a
reader who sees the same bowl in every body does not call one of them broken (Genant 1993, J Bone Miner Res
8:1137, grades against the neighbours; Eastell 1991, J Bone Miner Res 6:207, against the ratios of the
healthy).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from statistics import median
from typing import Final

import numpy as np

from dicom_ai_node.anatomy import Level
from dicom_ai_node.genant import Grading, Heights, Thresholds
from dicom_ai_node.report import HeightsMm, Reason, Vertebra

OTHERS: Final = 3
"""Fewer other bodies do not tell how concave this spine's bodies are."""

BEYOND_USUAL: Final = 0.10
"""A biconcave body is broken where its middle is lower by this share than the others' shape would have it:
half of a mild loss, set on forty phantom films."""

NO_HEIGHTS: Final = 0.5
"""What the heights say of a body that has none."""

LEAST_BY_HEIGHTS: Final = 0.08
"""Heights alone do not call a body sounder than this where a network has looked at it: beside broken bodies a
crush seems as high as they are, and a dish that the beam does not touch seems flat. Set on 232 phantom
films."""

_SURE: Final = (0.02, 0.98)
"""No single opinion may decide alone."""


def fracture_probabilities(
    heights: Mapping[Level, Heights],
    gradings: Mapping[Level, Grading],
    thresholds: Thresholds,
    *,
    error: float,
) -> dict[Level, float]:
    """What the heights alone say: a logistic curve of the loss, one half at the mild threshold.

    A middle height counts only as far as it is unusual in this spine: one half too where it is lower by
    `BEYOND_USUAL` than the other bodies' shape would have it.

    Args:
        heights: of all bodies that were measured, any unit.
        gradings: of those bodies that were graded.
        thresholds: of the grades.
        error: what the error of a height loss is taken to be: the width of the curve.
    """
    return {
        level: float(1 / (1 + np.exp(-_excess(level, heights, grading, thresholds) / error)))
        for level, grading in gradings.items()
    }


def combined(
    opinions: Iterable[tuple[float | None, float]], by_heights: float, *, share: float = 0.5
) -> float:
    """Opinions as independent evidence: their odds multiply.

    Args:
        opinions: of networks: the probability of a fracture, None where one did not see the body; and the
            share of fractured bodies in its training: an opinion that repeats that share says nothing.
        by_heights: see `fracture_probabilities`.
        share: of broken bodies among those about which there is a question; one half asks of each opinion
            alone what it says.
    """
    seen = [(opinion, taught) for opinion, taught in opinions if opinion is not None]
    if not seen:
        return by_heights
    odds = _odds(max(by_heights, LEAST_BY_HEIGHTS)) * _odds(share)
    for opinion, taught in seen:
        odds *= _odds(opinion) / _odds(taught)
    return odds / (1 + odds)


def _odds(probability: float) -> float:
    bounded = min(max(probability, _SURE[0]), _SURE[1])
    return bounded / (1 - bounded)


def with_grade(
    vertebra: Vertebra,
    heights: Mapping[Level, Heights],
    grading: Grading,
    probability: float,
    *,
    threshold: float,
    mm: float | None = 1.0,
) -> Vertebra:
    """The vertebra with heights, grade and whether it is broken; a concavity that is usual is told.

    Args:
        vertebra: as it was found.
        heights: of all bodies that were measured.
        grading: of this one.
        probability: of a fracture, from all opinions.
        threshold: probability from which on the body is reported as fractured.
        mm: size of a unit of the heights; None where no millimetres can be told.
    """
    own, fractured = heights[vertebra.level], probability >= threshold
    reason = usual_shape(vertebra.level, heights, grading) if grading.grade and not fractured else None
    return replace(
        vertebra,
        heights_mm=None
        if mm is None
        else HeightsMm(own.anterior * mm, own.middle * mm, own.posterior * mm, grading.reference_mm * mm),
        height_loss=grading.loss,
        genant_grade=grading.grade,
        deformity=grading.deformity,
        fractured=fractured,
        fracture_probability=probability,
        reasons=vertebra.reasons if reason is None else (*vertebra.reasons, reason),
    )


def with_looks(vertebra: Vertebra, probability: float, *, threshold: float) -> Vertebra:
    """A body without a grade, a fracture where it looks like one; that it is sound only heights can say.

    Args:
        vertebra: as it was found, with the reason why it has no heights.
        probability: of a fracture, from the opinions of networks alone.
        threshold: probability from which on the body is reported as fractured.
    """
    if probability < threshold:
        return vertebra
    return replace(vertebra, fractured=True, fracture_probability=probability, status="analysed")


def usual_shape(level: Level, heights: Mapping[Level, Heights], grading: Grading) -> Reason | None:
    """Why a graded body is no fracture by its heights: the others are as concave; None where they are not."""
    usual = usual_concavity(level, heights)
    if usual is None or grading.deformity != "biconcave":
        return None
    if beyond_usual(heights[level], usual) >= BEYOND_USUAL:
        return None
    return Reason(
        "usual-shape",
        f"{level} is {grading.loss:.0%} lower in the middle (grade {grading.grade}); the other bodies are "
        f"concave too ({usual:.0%}): its height alone does not count as a fracture.",
    )


def usual_concavity(level: Level, heights: Mapping[Level, Heights]) -> float | None:
    """How much lower this spine's bodies are in the middle than in front or behind, a share; None if unknown.

    The median of the other bodies, at most a mild loss: a spine in which most bodies have given way says
    nothing of the usual shape.
    """
    others = [_concavity(own) for other, own in heights.items() if other is not level]
    return min(median(others), _MOST_USUAL) if len(others) >= OTHERS else None


def beyond_usual(own: Heights, usual: float) -> float:
    """By what share the middle is lower than the usual shape would have it; negative where it is higher."""
    return 1 - (1 - _concavity(own)) / (1 - usual)


_MOST_USUAL: Final = Thresholds().mild


def _concavity(own: Heights) -> float:
    return 1 - own.middle / max(own.anterior, own.posterior)


def _excess(
    level: Level, heights: Mapping[Level, Heights], grading: Grading, thresholds: Thresholds
) -> float:
    """Loss beyond the mild threshold, of the middle only as far as it is unusual."""
    usual = usual_concavity(level, heights)
    if usual is None or grading.deformity == "crush":
        return grading.loss - thresholds.mild
    own = heights[level]
    front = 1 - own.anterior / own.largest - thresholds.mild
    return max(front, min(_concavity(own) - thresholds.mild, beyond_usual(own, usual) - BEYOND_USUAL))
