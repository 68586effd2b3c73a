"""What the report of one page says, before it is set as HTML or PDF: for a doctor who referred the patient.

Only vertebrae that stand out have a row; the others are named in one line, so that a whole spine still fits
one page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from pydicom.dataset import Dataset

from dicom_ai_node import __version__
from dicom_ai_node.colours import Rgb, grade_colour
from dicom_ai_node.report import Analysis, SpineReport, Vertebra
from dicom_ai_node.results.comparison import changes
from dicom_ai_node.results.identity import MODEL_NAME
from dicom_ai_node.results.language import ENGLISH, Language, PageWords
from dicom_ai_node.results.source import SourceImages
from dicom_ai_node.results.wording import diagnosis, explained, impression, strikes

_SAID_ANYWAY: Final = ("research-use", "thresholds", "level-uncertain", "numbering-variant")
_MOST_SENTENCES: Final = 8
"""With more vertebrae that stand out, the table alone tells of each."""


@dataclass(frozen=True)
class Row:
    """One vertebra that stands out; what is not known is empty."""

    level: str
    finding: str
    grade: str
    loss: str
    heights: str
    colour: Rgb


@dataclass(frozen=True)
class Page:
    """The page, in the order in which it is read.

    Attributes:
        facts: who was examined and how: (name of the fact, fact), as in the header of the images.
        headline: the one sentence for those who read no more.
        impression: one sentence for each thing that was found or could not be judged.
        rest: the vertebrae without a row, in one line; empty where there are none.
        remarks: what limits the findings.
    """

    language: Language
    facts: tuple[tuple[str, str], ...]
    headline: str
    impression: tuple[str, ...]
    rows: tuple[Row, ...]
    rest: str
    remarks: tuple[str, ...]
    made_by: str

    @property
    def words(self) -> PageWords:
        """Headings and fixed sentences."""
        return self.language.page

    @property
    def legend(self) -> tuple[tuple[Rgb, str], ...]:
        """What each colour means."""
        grades = (grade_colour(grade) for grade in (0, 1, 2, 3, None))
        return tuple(zip(grades, self.language.grades, strict=True))


def page_of(analysis: Analysis, source: SourceImages, language: Language = ENGLISH) -> Page:
    """The page of one analysis.

    Args:
        source: its header says who the patient is.
    """
    report, words = analysis.report, language.page
    since = changes(report, analysis.prior)
    judged = [item for item in report if item.status == "analysed"]
    striking = [item for item in judged if strikes(item, since.get(item.level))]
    rest = [item.level for item in judged if item not in striking]
    # The last sentence says who made it: on a page that is the footer's affair.
    sentences = impression(report, language, analysis.prior)[:-1]
    if len(striking) > _MOST_SENTENCES:
        sentences = sentences[len(striking) :]
    headline = _headline(report, language)
    models = ", ".join(f"{item.name} {item.version}" for item in report.algorithms)
    return Page(
        language,
        tuple(_facts(source, language)),
        headline,
        tuple(sentence for sentence in sentences if sentence != headline),
        tuple(_row(item, language) for item in striking),
        words.rest.format(levels=language.level_list(rest)) if rest and striking else "",
        tuple(_remarks(report, language)),
        words.made_by.format(node=f"{MODEL_NAME} {__version__}", models=models or language.unnamed_models),
    )


def patient_name(header: Dataset) -> str:
    """Family name, given names: the alphabetic form of the name (PS3.5 6.2.1); empty where there is none."""
    name = header.get("PatientName")
    if not name:
        return ""
    groups = str(name).split("=")
    parts = [part.strip() for part in next((group for group in groups if group.strip("^ ")), "").split("^")]
    family, given = parts[0], " ".join(part for part in parts[1:3] if part)
    return ", ".join(part for part in (family, given) if part)


def day_of(value: object) -> date | None:
    """A DA value as a date; None where it is none."""
    try:
        return datetime.strptime(str(value or "").strip(), "%Y%m%d").date()
    except ValueError:
        return None


def _facts(source: SourceImages, language: Language) -> Iterator[tuple[str, str]]:
    header, words = source.header, language.page

    def text(keyword: str) -> str:
        return str(header.get(keyword) or "").strip()

    def day(keyword: str) -> str:
        found = day_of(header.get(keyword))
        return "" if found is None else language.day(found)

    yield words.name, patient_name(header)
    yield words.birth_date, day("PatientBirthDate")
    yield words.sex, words.sexes.get(text("PatientSex"), text("PatientSex"))
    yield words.patient_id, text("PatientID")
    yield words.accession, text("AccessionNumber")
    yield words.study_date, day("StudyDate") or day("SeriesDate") or day("AcquisitionDate")
    count = sum(1 for item in source.slices if item is not None) or sum(1 for _ in source.instances)
    what = [words.modalities.get(text("Modality"), words.modalities[""]), text("StudyDescription")]
    what += [text("SeriesDescription")]
    what += [words.one_image if count == 1 else words.images.format(count=count)]
    yield words.examined, ", ".join(dict.fromkeys(item for item in what if item))


def _headline(report: SpineReport, language: Language) -> str:
    words = language.page
    if report.status == "not-analysable":
        return language.refused
    if not report.vertebrae:
        return language.no_vertebra
    broken = [item.level for item in report if item.fractured]
    ill = [item.level for item in report if item.malignant]
    said = words.unbroken
    if broken:
        template = words.one_fractured if len(broken) == 1 else words.fractured
        said = template.format(levels=language.level_list(broken))
    return f"{words.malignant.format(levels=language.level_list(ill))} {said}" if ill else said


def _row(vertebra: Vertebra, language: Language) -> Row:
    finding = diagnosis(vertebra, language)
    for opinion, names in ((vertebra.acuity, language.acuities), (vertebra.opinion, language.malignancies)):
        if opinion is not None:
            finding += f"; {names[opinion[0]]} {language.rounded_share(opinion[1])}"
    heights = vertebra.heights_mm
    return Row(
        language.level(vertebra.level),
        finding,
        "" if vertebra.genant_grade is None else str(vertebra.genant_grade),
        "" if vertebra.height_loss is None else language.rounded_share(vertebra.height_loss),
        ""
        if heights is None
        else " / ".join(
            language.number(value, 1) for value in (heights.anterior, heights.middle, heights.posterior)
        )
        + " mm",
        grade_colour(vertebra.genant_grade),
    )


def _remarks(report: SpineReport, language: Language) -> Iterator[str]:
    for reason in report.limitations:
        if reason.code not in _SAID_ANYWAY:
            yield explained(reason, language)[0]
