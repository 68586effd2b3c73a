"""What changed since an earlier report, and whether the two may be compared at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Final

from dicom_ai_node.anatomy import SUPERNUMERARY, Level
from dicom_ai_node.prior import PriorReport
from dicom_ai_node.report import SpineReport

SAME_LOSS: Final = 0.05
"""Losses of height that differ by less are called unchanged. A choice, not measured on repeated scans."""
WORTH_TELLING: Final = 0.10
"""A loss that grew by this is told also of a vertebra that is not called fractured."""

_MAY_BE_ABSENT: Final = SUPERNUMERARY | {Level.T12}


@dataclass(frozen=True)
class Change:
    """One vertebra then and now.

    Attributes:
        day: when it was seen before.
        before: loss of height then, 0 to 1; None where it was not measured then.
        since: loss of height now minus then; None where one of them was not measured.
        fractured_before: None where that was not judged.
    """

    day: date
    before: float | None
    since: float | None
    fractured_before: bool | None


def changes(report: SpineReport, prior: PriorReport | None) -> dict[Level, Change]:
    """Every vertebra that both reports speak of; none without the date of the earlier study."""
    if prior is None or prior.study_date is None:
        return {}
    found = {}
    for vertebra in report:
        then = prior.of(vertebra.level)
        if then is None:
            continue
        known = vertebra.height_loss is not None and then.height_loss is not None
        since = (vertebra.height_loss or 0.0) - (then.height_loss or 0.0) if known else None
        found[vertebra.level] = Change(prior.study_date, then.height_loss, since, then.fractured)
    return found


def numbered_otherwise(report: SpineReport, prior: PriorReport) -> str | None:
    """Why the same name may not mean the same vertebra in both, in words; None where it does.

    A report that calls its own numbering uncertain, and one that counts a vertebra more or less (T13, L6, no
    T12), names other vertebrae by the same names.
    """
    if any(item.code == "level-uncertain" for item in report.limitations):
        return "the numbering of this report is uncertain"
    if prior.level_uncertain:
        return "the numbering of the earlier report is uncertain"
    now = {vertebra.level for vertebra in report}
    then = {vertebra.level for vertebra in prior}
    odd = sorted(level.value for level in _MAY_BE_ABSENT if _counted_differently(level, now, then))
    if odd:
        return f"one of both reports counts {', '.join(odd)}, the other does not"
    return None


def _counted_differently(level: Level, now: Collection[Level], then: Collection[Level]) -> bool:
    if (level in now) == (level in then):
        return False
    above, below = _NEIGHBOURS[level]
    # Where a neighbour is not in view nobody can tell whether the vertebra is there.
    around = {above} if below is None else {above, below}
    return around <= set(now) and around <= set(then)


_NEIGHBOURS: Final[dict[Level, tuple[Level, Level | None]]] = {
    Level.T12: (Level.T11, Level.L1),
    Level.T13: (Level.T12, Level.L1),
    Level.L6: (Level.L5, None),
}
