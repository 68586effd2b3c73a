"""Reasons, limitations and thresholds as content items: a code, a sentence, and a number where there is one.

The sentence is in the language of the report. Pipelines give their details in English; where a language has
no words for them they follow as they were given, in an item that says that it is English (TID 1204).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from pydicom.dataset import Dataset

from dicom_ai_node.report import Reason, SpineReport
from dicom_ai_node.results import codes
from dicom_ai_node.results.content import CONTAINS, HAS_CONCEPT_MOD, coded, number, text
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.wording import explained, thresholds_in


class Thresholds(Protocol):
    """What findings are cut at, as in `[results]` of node.toml."""

    @property
    def genant_mild(self) -> float:
        """Height loss of grade 1."""

    @property
    def genant_moderate(self) -> float:
        """Height loss of grade 2."""

    @property
    def genant_severe(self) -> float:
        """Height loss of grade 3."""

    @property
    def malignant_threshold(self) -> float:
        """Probability from which on a vertebra on MR is called malignant."""


def in_english(name: codes.Code, words: str) -> Dataset:
    """A TEXT item that is English whatever the language of the report."""
    return text(CONTAINS, name, words, [coded(HAS_CONCEPT_MOD, codes.LANGUAGE, ENGLISH.code)])


def explanations(reasons: Sequence[Reason], language: Language) -> Iterator[Dataset]:
    """For each reason its code, the sentence, and the detail."""
    for reason in reasons:
        sentence, detail = explained(reason, language)
        yield coded(CONTAINS, codes.REASON, codes.REASONS[reason.code])
        yield text(CONTAINS, codes.COMMENT, sentence)
        if detail is not None:
            yield in_english(codes.COMMENT, detail)


def grade_thresholds(report: SpineReport, settings: Thresholds | None) -> tuple[float, float, float] | None:
    """The height losses at which grades 1 to 3 begin; None where nothing was graded or nobody says.

    What the analysis itself says counts before the settings, which may have changed since; where it only
    rounded them, the settings are what it meant.
    """
    if all(vertebra.genant_grade is None for vertebra in report):
        return None
    known = (
        None if settings is None else (settings.genant_mild, settings.genant_moderate, settings.genant_severe)
    )
    for reason in report.limitations:
        told = thresholds_in(reason)
        if told is not None and known is not None and _rounded(known, told):
            return known
        if told is not None:
            return told
    return known


def _rounded(exact: Sequence[float], rounded: Sequence[float]) -> bool:
    return all(abs(one - other) <= 0.005 for one, other in zip(exact, rounded, strict=True))


def threshold_items(
    report: SpineReport, settings: Thresholds | None, language: Language
) -> Iterable[Dataset]:
    """The thresholds that were used, as numbers; what the limitations do not say of them in words."""
    cuts = grade_thresholds(report, settings)
    if cuts is not None:
        for name, cut in zip(codes.THRESHOLDS, cuts, strict=True):
            yield number(name, 100 * cut, codes.PERCENT)
    if settings is not None and any(vertebra.malignant is not None for vertebra in report):
        cut = settings.malignant_threshold
        yield number(codes.MALIGNANT_THRESHOLD, 100 * cut, codes.PERCENT)
        yield text(CONTAINS, codes.COMMENT, language.malignant_threshold.format(language.share(cut)))
