"""When a series counts as complete: after a quiet time, or at once when its sender or a count says that all
of it is there.

A count that says more is to come does not hold a series up for ever: the quiet time ends every wait, and
what comes later makes a new generation of the series, which supersedes the earlier analysis.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicom_ai_node.config import Routes
from dicom_ai_node.errors import UnreadableInstance
from dicom_ai_node.intake.headers import read_instance
from dicom_ai_node.intake.spool import SpooledSeries

SETTLE_SECONDS: Final = 1.0
"""Counts are asked after this much quiet, not between two slices that follow each other."""

RelatedInstances = Callable[[str, str], int | None]
"""Study and Series Instance UID -> Number of Series Related Instances of an archive; None where unknown."""


@dataclass(frozen=True)
class Verdict:
    """Whether to go on, and why, in words."""

    complete: bool
    reason: str


def assess(received: int, quiet_for: float, quiet_seconds: float, expected: int | None) -> Verdict:
    """The rule itself.

    Args:
        received: instances that are there.
        quiet_for: seconds since the last of them came.
        quiet_seconds: the route's quiet time.
        expected: how many a trustworthy count says there are; None where there is none.
    """
    if expected is not None and received >= expected:
        return Verdict(True, f"all {expected} instances are there")
    awaited = "" if expected is None else f", {received} of {expected} instances are there"
    if quiet_for >= quiet_seconds:
        return Verdict(True, f"nothing has come for {quiet_seconds:g} s{awaited}")
    return Verdict(False, f"the last instance came {max(quiet_for, 0.0):.1f} s ago{awaited}")


class Completeness:
    """Judges spooled series; remembers counts, so that each is asked for once per generation.

    Args:
        routes: quiet times.
        related_instances: asks an archive (C-FIND); None where none is asked.
        now: the clock, seconds since the epoch.
    """

    def __init__(
        self,
        routes: Routes,
        related_instances: RelatedInstances | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._routes = routes
        self._related_instances = related_instances
        self._now = now
        self._expected: dict[str, tuple[str, int | None]] = {}

    def assess(self, series: SpooledSeries) -> Verdict:
        """Whether all of `series` is there, as far as one can know."""
        quiet_seconds = quiet_seconds_of(self._routes, series.modality)
        quiet_for = self._now() - series.last_arrival
        if series.announced:
            return Verdict(True, "the sender said that nothing more comes")
        if quiet_for < min(SETTLE_SECONDS, quiet_seconds):
            return assess(series.count, quiet_for, quiet_seconds, None)
        verdict = assess(series.count, quiet_for, quiet_seconds, self._expected_of(series))
        if verdict.complete:
            self._expected.pop(series.series_key, None)
        return verdict

    def _expected_of(self, series: SpooledSeries) -> int | None:
        generation, expected = self._expected.get(series.series_key, ("", None))
        if generation != series.generation:
            expected = expected_in_headers(series.paths) if self._routes.ct.trust_header_counts else None
            if expected is None and self._related_instances is not None and series.series_instance_uid:
                expected = self._related_instances(series.study_instance_uid, series.series_instance_uid)
            self._expected[series.series_key] = (series.generation, expected)
        return expected


def quiet_seconds_of(routes: Routes, modality: str) -> float:
    """How long nothing may come of a series of this modality until it counts as complete."""
    if modality == "CT":
        return routes.ct.quiet_seconds
    if modality in {"CR", "DX", "RG"}:
        return routes.radiograph.quiet_seconds
    return routes.mri.quiet_seconds if modality == "MR" else routes.other.quiet_seconds


def expected_in_headers(paths: tuple[Path, ...]) -> int | None:
    """How many instances the headers of a series say it has; None where they do not say, or disagree.

    Number of Series Related Instances (0020,1209) and the total of a concatenation (0020,9163) are taken from
    any instance. Images in Acquisition (0020,1002) counts one acquisition, so it is believed only when all
    instances there are of one acquisition and agree.
    """
    first = _header(paths[0])
    if first is None:
        return None
    related = _count(first, "NumberOfSeriesRelatedInstances")
    if related is not None:
        return related
    if first.get("ConcatenationUID"):
        return _count(first, "InConcatenationTotalNumber")
    in_acquisition = _count(first, "ImagesInAcquisition")
    # reading every header is worth it only when the answer may be yes
    if in_acquisition is None or in_acquisition != len(paths):
        return None
    headers = [_header(path) for path in paths]
    acquisitions = {
        None if header is None else (header.get("AcquisitionNumber"), _count(header, "ImagesInAcquisition"))
        for header in headers
    }
    return in_acquisition if len(acquisitions) == 1 and None not in acquisitions else None


def _header(path: Path) -> Dataset | None:
    try:
        return read_instance(path).header
    except UnreadableInstance:
        return None


def _count(header: Dataset, keyword: str) -> int | None:
    try:
        value = int(str(header.get(keyword)))
    # a broken value says nothing; pydicom raises whatever its conversion raises
    except Exception:
        return None
    return value if value > 0 else None
