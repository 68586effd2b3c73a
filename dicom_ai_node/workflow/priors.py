"""Compares an analysis with this node's earlier report of the patient, where an archive has one.

Comparing is an extra: whatever goes wrong is said among the limitations of the report, and the study goes on.
What was found is kept with the analysis, so that a repeat encodes the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_ai_node.config import Settings
from dicom_ai_node.errors import TransientError
from dicom_ai_node.log import logger
from dicom_ai_node.node.earlier_reports import Asked, EarlierReports
from dicom_ai_node.prior import PriorReport
from dicom_ai_node.report import Analysis, Reason
from dicom_ai_node.results.comparison import numbered_otherwise
from dicom_ai_node.results.prior import read_prior


def compare_with_prior(analysis: Analysis, paths: Sequence[Path], settings: Settings) -> Analysis:
    """The analysis with the earlier report, or with a limitation that says why there is none.

    Args:
        analysis: of the images at `paths`; one without vertebrae is left as it is.
        paths: the first one that can be read tells the patient and the study.
        settings: `[priors]` names the archive; without it nothing is asked.
    """
    if settings.priors is None or not analysis.report.vertebrae:
        return analysis
    archive = EarlierReports(
        settings.priors,
        settings.priors.calling_ae_title or settings.node.ae_title,
        settings.priors.timeout_seconds,
        settings.priors.studies,
    )
    asked = _asked(paths)
    if asked is None or not asked.patient_id or not asked.date:
        return _limited(analysis, "The images name no patient or no study date.")
    try:
        prior = archive.newest(asked, lambda reports: nearest_prior(analysis, reports))
    except TransientError as error:
        logger().warning("no earlier reports", reason=str(error))
        return _limited(analysis, f"{settings.priors.ae_title} could not be asked for earlier reports.")
    except Exception:
        # An answer that nobody foresaw must not cost the patient the report.
        logger().exception("no earlier reports")
        return _limited(analysis, f"The earlier reports of {settings.priors.ae_title} could not be read.")
    if prior is None:
        return analysis
    why = numbered_otherwise(analysis.report, prior)
    if why is not None:
        day = "an earlier day" if prior.study_date is None else prior.study_date.isoformat()
        return _limited(analysis, f"Not compared with the report of {day}: {why}.")
    return replace(analysis, prior=prior)


def nearest_prior(analysis: Analysis, reports: Sequence[Dataset]) -> PriorReport | None:
    """Of the reports of one earlier study, the one that says most about the same vertebrae.

    Images of the same kind come first, then the number of vertebrae that both speak of, then the latest.
    """
    levels = {vertebra.level for vertebra in analysis.report}
    best: tuple[tuple[bool, int, str, str], PriorReport] | None = None
    for report in reports:
        prior = read_prior(report)
        common = 0 if prior is None else sum(item.level in levels for item in prior)
        if prior is None or not common:
            continue
        same = prior.modality == analysis.report.source.modality
        written = f"{report.get('ContentDate', '')}{report.get('ContentTime', '')}"
        rank = (same, common, written, prior.sop_instance_uid)
        if best is None or rank > best[0]:
            best = rank, prior
    return None if best is None else best[1]


def _asked(paths: Sequence[Path]) -> Asked | None:
    for path in paths:
        try:
            return Asked.about(dcmread(path, stop_before_pixels=True))
        except Exception:  # noqa: S112 - pydicom lets whatever a conversion raises through
            continue
    return None


def _limited(analysis: Analysis, why: str) -> Analysis:
    limitations = (*analysis.report.limitations, Reason("prior", why))
    return replace(analysis, report=replace(analysis.report, limitations=limitations))
