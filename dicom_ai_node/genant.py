"""Genant's semiquantitative grading: from the heights of a vertebral body to loss, grade and deformity.

Ground floor: the phantom's truth and the pipelines' findings are graded by this one function.

Sources: Genant 1993 (J Bone Miner Res 8:1137); the cut at ratios 0.80 and 0.74 of P3 (section 2.3.3) is
`P3_THRESHOLDS`; posterior heights per level from Panjabi 1991 and 1992 (Spine 16:888, Spine 17:299).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

from dicom_ai_node.anatomy import LEVELS, Level, order
from dicom_ai_node.report import Deformity

TYPICAL_POSTERIOR_HEIGHT_MM: Final[dict[Level, float]] = {
    Level.T1: 14.1,
    Level.T2: 15.6,
    Level.T3: 15.7,
    Level.T4: 16.2,
    Level.T5: 16.2,
    Level.T6: 17.4,
    Level.T7: 18.2,
    Level.T8: 18.7,
    Level.T9: 19.3,
    Level.T10: 20.2,
    Level.T11: 21.3,
    Level.T12: 22.7,
    Level.T13: 23.2,
    Level.L1: 23.8,
    Level.L2: 24.3,
    Level.L3: 23.8,
    Level.L4: 24.1,
    Level.L5: 22.9,
    Level.L6: 22.9,
}
"""Mean posterior body heights (Panjabi), T13 and L6 set between and after; only their ratios are used."""

NEIGHBOURS_EACH_WAY: Final = 2


@dataclass(frozen=True)
class Thresholds:
    """Height losses at which each grade begins; a loss equal to `moderate` is still mild (Genant 1993)."""

    mild: float = 0.20
    moderate: float = 0.25
    severe: float = 0.40

    def grade(self, loss: float) -> int:
        """0 (normal), 1 (mild), 2 (moderate) or 3 (severe)."""
        if loss < self.mild:
            return 0
        if loss <= self.moderate:
            return 1
        return 2 if loss <= self.severe else 3


GENANT_THRESHOLDS: Final = Thresholds()
P3_THRESHOLDS: Final = Thresholds(mild=0.20, moderate=0.26, severe=0.40)
"""P3 calls a ratio of 0.74 to 0.80 mild; it does not part moderate from severe, so Genant's cut is kept."""


@dataclass(frozen=True)
class Heights:
    """Anterior, middle and posterior height of one body in millimetres (P3 eq. 17)."""

    anterior: float
    middle: float
    posterior: float

    @property
    def largest(self) -> float:
        """The largest of the three."""
        return max(self.anterior, self.middle, self.posterior)

    @property
    def smallest(self) -> float:
        """The smallest of the three."""
        return min(self.anterior, self.middle, self.posterior)


@dataclass(frozen=True)
class Grading:
    """One body graded: `loss` = 1 - smallest height / `reference_mm`."""

    reference_mm: float
    loss: float
    grade: int
    deformity: Deformity


def grade_spine(
    heights: Mapping[Level, Heights], thresholds: Thresholds = GENANT_THRESHOLDS
) -> dict[Level, Grading]:
    """Grade every body of one spine; neighbours serve as each other's reference.

    A wedge or a biconcave body is measured against its own largest height. A body whose posterior wall has
    lost at least the mild threshold against its neighbours' posterior walls (adjusted for the level) has
    collapsed as a whole: a crush, measured against that neighbours' height.

    Args:
        heights: millimetres, or pixels of one image: only ratios count. Cervical and sacral levels, which the
            method does not cover, are left out of the answer.
    """
    heights = {level: own for level, own in heights.items() if level in TYPICAL_POSTERIOR_HEIGHT_MM}
    shaped = {level: own.posterior for level, own in heights.items() if _own_loss(own) < thresholds.mild}
    # A crushed body has a sound shape: who is low against all of these must not be a reference for others.
    sound = {
        level: posterior
        for level, posterior in shaped.items()
        if posterior > (1 - thresholds.mild) * (expected_posterior(level, shaped) or posterior)
    }
    return {
        level: _grade(own, expected_posterior(level, sound), thresholds) for level, own in heights.items()
    }


def expected_posterior(level: Level, sound: Mapping[Level, float]) -> float | None:
    """The posterior height that a level should have, judged from sound neighbours; None without any.

    Args:
        level: the level in question; an entry of its own in `sound` is ignored.
        sound: posterior heights of sound bodies, any unit.

    Returns:
        The median of the two nearest on either side, each scaled to this level.
    """
    typical = TYPICAL_POSTERIOR_HEIGHT_MM.get(level)
    if typical is None:
        return None
    position = order(level)
    scaled = [
        sound[other] * typical / TYPICAL_POSTERIOR_HEIGHT_MM[other]
        for side in (LEVELS[:position][::-1], LEVELS[position + 1 :])
        for other in [near for near in side if near in sound and near in TYPICAL_POSTERIOR_HEIGHT_MM][
            :NEIGHBOURS_EACH_WAY
        ]
    ]
    return median(scaled) if scaled else None


def _own_loss(own: Heights) -> float:
    return 1 - min(own.anterior, own.middle) / own.largest


def _grade(own: Heights, neighbours_posterior: float | None, thresholds: Thresholds) -> Grading:
    deformity: Deformity
    posterior_loss = 0.0 if neighbours_posterior is None else 1 - own.posterior / neighbours_posterior
    if neighbours_posterior is not None and posterior_loss >= thresholds.mild:
        reference, deformity = max(neighbours_posterior, own.largest), "crush"
        loss = 1 - own.smallest / reference
    else:
        # A posterior wall lower than the anterior one is normal in the lower lumbar spine: only the
        # neighbours can tell whether it is low, so it takes no part in the body's own comparison.
        reference = own.largest
        deformity = "wedge" if own.anterior <= own.middle else "biconcave"
        loss = _own_loss(own)
    grade = thresholds.grade(loss)
    return Grading(reference, loss, grade, deformity if grade else "none")
