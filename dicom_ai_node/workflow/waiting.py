"""Which series lie in the spool without a job, and what they wait for: for people, not for the workflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dicom_ai_node.config import Settings
from dicom_ai_node.intake.completeness import quiet_seconds_of
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.workflow.plan import Summary


@dataclass(frozen=True)
class WaitingSeries:
    """A series of which something has come since the node last judged it.

    Attributes:
        series_key: as the spool names it.
        modality, instances: of what has come so far.
        calling_ae_title: who sent it.
        last_arrival: seconds since the epoch.
        waits_for: in words.
    """

    series_key: str
    modality: str
    instances: int
    calling_ae_title: str
    last_arrival: float
    waits_for: str


def waiting_series(settings: Settings, jobs: Iterable[Summary], now: float) -> list[WaitingSeries]:
    """The series that wait, the oldest first.

    Args:
        settings: of the node.
        jobs: all that the ledger knows.
        now: seconds since the epoch.
    """
    judged: dict[str, float] = {}
    for item in jobs:
        key = item.job.series_key
        judged[key] = max(item.created_at, judged.get(key, 0.0))
    found = [
        WaitingSeries(
            series.series_key,
            series.modality,
            series.count,
            series.calling_ae,
            series.last_arrival,
            _waits_for(settings, series.modality, now - series.last_arrival),
        )
        for series in Spool(settings.storage.spool_folder).series()
        if judged.get(series.series_key, 0.0) < series.last_arrival
    ]
    return sorted(found, key=lambda item: item.last_arrival)


def _waits_for(settings: Settings, modality: str, quiet_for: float) -> str:
    left = quiet_seconds_of(settings.routes, modality) - quiet_for
    if left > 0:
        return f"more images, up to {left:.0f} s"
    partner_s = settings.routes.mri.partner_wait_seconds
    if modality == "MR" and settings.routes.mri.enabled and quiet_for < partner_s:
        return f"the other series of its study, up to {partner_s - quiet_for:.0f} s"
    return "the node to take it up"
