"""What changed since an earlier report, as content items, and the reference to it.

The earlier report belongs to another study: it is listed in Pertinent Other Evidence Sequence (PS3.3
C.17.2.3), and named by COMPOSITE items.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_ai_node.prior import PriorReport
from dicom_ai_node.results import codes
from dicom_ai_node.results.comparison import Change
from dicom_ai_node.results.content import (
    CONTAINS,
    HAS_OBS_CONTEXT,
    INFERRED_FROM,
    composite,
    container,
    day,
    number,
    text,
)
from dicom_ai_node.results.language import Language
from dicom_ai_node.results.source import ImageReference
from dicom_ai_node.results.wording import compared


def change_of_loss(change: Change | None, prior: PriorReport | None) -> Dataset | None:
    """The change in percentage points, inferred from the earlier loss with its date, in the earlier report.

    None where the loss was not measured then or now.
    """
    if change is None or prior is None or change.since is None or change.before is None:
        return None
    before = number(
        codes.HEIGHT_LOSS,
        100 * change.before,
        codes.PERCENT,
        [
            day(HAS_OBS_CONTEXT, codes.STUDY_DATE, change.day),
            composite(INFERRED_FROM, codes.PRIOR_REPORT, prior.sop_class_uid, prior.sop_instance_uid),
        ],
        relationship=INFERRED_FROM,
    )
    return number(codes.HEIGHT_LOSS_CHANGE, 100 * change.since, codes.PERCENT, [before])


def previous_findings(prior: PriorReport, language: Language) -> Dataset:
    """A heading (CID 7001) with the earlier report that this one is compared with."""
    words = compared(prior, language)
    return container(
        codes.PREVIOUS_FINDINGS,
        [
            *([] if words is None else [text(CONTAINS, codes.PREVIOUS_FINDING, words)]),
            composite(CONTAINS, codes.PRIOR_REPORT, prior.sop_class_uid, prior.sop_instance_uid),
        ],
    )


def other_evidence(prior: PriorReport) -> Dataset:
    """The item of Pertinent Other Evidence Sequence (PS3.3 table C.17-2)."""
    series = Dataset()
    series.SeriesInstanceUID = prior.series_instance_uid
    series.ReferencedSOPSequence = [ImageReference(prior.sop_class_uid, prior.sop_instance_uid).item()]
    study = Dataset()
    study.StudyInstanceUID = prior.study_instance_uid
    study.ReferencedSeriesSequence = [series]
    return study
