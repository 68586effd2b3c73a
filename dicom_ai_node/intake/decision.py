"""What becomes of one series, as plain data that every route returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_ai_node.report import Reason


@dataclass(frozen=True)
class RouteDecision:
    """What becomes of one series.

    Attributes:
        pipeline: the pipeline to run; None where none is.
        reasons: why, in words, the deciding one first.
        excluded: SOP Instance UID (or file name, where there is no UID) and reason of every image left out.
        paths: the files that the pipeline is given.
        refusal: where the series is of a kind that is analysed but this one cannot be: the coded reason for a
            report to the sender. None where there is nothing to report.
        carried_by: Series Instance UID of the series whose job analyses this one too; "" where none does.
    """

    pipeline: str | None
    reasons: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...] = ()
    paths: tuple[Path, ...] = ()
    refusal: Reason | None = None
    carried_by: str = ""


def summary(excluded: Sequence[tuple[str, str]]) -> str:
    """`3 images left out: 2 a colour picture ...; 1 ...`, the most frequent reasons first."""
    if not excluded:
        return ""
    counted = Counter(reason for _, reason in excluded).most_common()
    shown = "; ".join(f"{reason} ({count})" if count > 1 else reason for reason, count in counted[:3])
    more = f"; and {len(counted) - 3} more reasons" if len(counted) > 3 else ""
    return f"{len(excluded)} left out: {shown}{more}"
