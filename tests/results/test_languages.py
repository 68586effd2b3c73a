"""What a human reads, in every language: nothing is missing, and codes stay as they are."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from typing import get_args

import pydicom
import pytest
from pydicom.dataset import Dataset

from conformance import checks
from dicom_ai_node.anatomy import Level
from dicom_ai_node.config import ResultSettings
from dicom_ai_node.report import ACUITIES, DISEASES, MALIGNANCIES, REASON_CODES, Deformity
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.identity import ResultIdentity
from dicom_ai_node.results.iod import problems
from dicom_ai_node.results.language import ENGLISH, LANGUAGES, Language
from dicom_ai_node.results.modules import Stamp
from dicom_ai_node.results.source import SourceImages, read_source
from dicom_ai_node.results.sr import encode_report
from tests.results.phrases import phrases

OTHERS = [tag for tag in LANGUAGES if tag != "en"]
Report = Callable[..., pydicom.FileDataset]


@pytest.fixture(scope="module")
def images(encoded) -> SourceImages:
    return read_source(encoded("axial").study.source)


@pytest.fixture(scope="module")
def report_in(encoded, images) -> Report:
    """The axial study's report in a language, of a source in any character set."""

    def make(
        tag: str, charset: str | None = "ISO_IR 100", name: str = "Conformance^Spine"
    ) -> pydicom.FileDataset:
        analysis = encoded("axial").study.analysis
        header = Dataset()
        header.update(images.header)
        header.PatientName = name
        if charset is None:
            del header.SpecificCharacterSet
        else:
            header.SpecificCharacterSet = charset
        identity = ResultIdentity.of(images.study_instance_uid, ["1.2.3"], analysis.report.algorithms)
        return encode_report(
            analysis,
            replace(images, header=header),
            identity,
            Stamp("20240131", "083000"),
            language=LANGUAGES[tag],
            thresholds=ResultSettings(),
        )

    return make


def walk(item: pydicom.Dataset) -> Iterator[pydicom.Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from walk(child)


def texts(dataset: pydicom.Dataset) -> list[str]:
    return [item.TextValue for item in walk(dataset) if item.ValueType == "TEXT"]


def placeholders(phrase: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(phrase) if name is not None}


def test_the_setting_offers_every_language() -> None:
    assert get_args(ResultSettings.model_fields["language"].annotation) == tuple(LANGUAGES)
    assert all(language.tag == tag for tag, language in LANGUAGES.items())


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
def test_no_language_lacks_a_text(language: Language) -> None:
    assert language.reasons.keys() == REASON_CODES.keys()
    assert language.acuities.keys() == set(ACUITIES)
    assert language.malignancies.keys() == set(MALIGNANCIES)
    assert set(ACUITIES + MALIGNANCIES) <= language.classes.keys() == ENGLISH.classes.keys()
    assert language.fractures.keys() == language.deformities.keys() == set(get_args(Deformity))
    assert language.levels.keys() == {level.region for level in Level}
    short = language.picture
    assert short.deformities.keys() == set(get_args(Deformity)) - {"none"}
    assert short.acuities.keys() | short.malignancies.keys() == set(ACUITIES + MALIGNANCIES)
    assert short.diseases.keys() == DISEASES.keys()
    texts = dict(phrases(language))
    assert texts.keys() == dict(phrases(ENGLISH)).keys()
    assert [name for name, phrase in texts.items() if not phrase.strip()] == []


@pytest.mark.parametrize("tag", OTHERS)
def test_every_language_says_the_same_things(tag: str) -> None:
    english = dict(phrases(ENGLISH))
    for name, phrase in phrases(LANGUAGES[tag]):
        if name != "run":
            assert placeholders(phrase) == placeholders(english[name]), name


@pytest.mark.parametrize("tag", OTHERS)
def test_nothing_is_left_in_english(tag: str) -> None:
    english = dict(phrases(ENGLISH))
    same = {name for name, phrase in phrases(LANGUAGES[tag]) if phrase == english[name]}
    assert same <= {
        *("percent", "finding", "levels C", "levels T", "levels L", "levels S"),
        # The same words in another language.
        *("grades 0", "classes normal", "page name", "page grade", "page images", "page one_image"),
        *("picture grade", "picture deformities biconcave", "picture six_points"),
    }


def test_numbers_dates_and_levels_are_written_as_usual() -> None:
    german, french, spanish = (LANGUAGES[tag] for tag in ("de", "fr", "es"))
    assert [item.number(3.25, 1) for item in (ENGLISH, german, french, spanish)] == [
        "3.2",
        "3,2",
        "3,2",
        "3,2",
    ]
    assert [item.share(0.275) for item in (ENGLISH, german)] == ["27.5 %", "27,5 %"]
    assert ENGLISH.rounded_share(0.275) == "28 %"
    assert ENGLISH.number(-0.0) == "0"
    day = date(2023, 5, 1)
    assert [item.day(day) for item in LANGUAGES.values()] == [
        "2023-05-01",
        "01.05.2023",
        "01/05/2023",
        "01/05/2023",
    ]
    levels = [Level.T11, Level.T12, Level.L1, Level.L3, Level.L4]
    assert ENGLISH.level_list(levels) == "T11 to L1, L3, L4"
    assert german.level_list(levels) == "BWK 11 bis LWK 1, LWK 3, LWK 4"
    assert french.level_list([Level.L1, Level.L2, Level.L3]) == "L1 à L3"
    assert spanish.level_list([Level.T12, Level.T13, Level.L1]) == "T12, T13, L1"
    assert german.level_list([Level.C2, Level.C3, Level.C4]) == "HWK 2 bis 4"


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ("en", "T12: severe crush fracture, 44 % loss of height, Genant grade 3"),
        ("de", "BWK 12: hochgradige Kompressionsfraktur (Plattwirbel), Höhenminderung 44 %, Genant Grad 3"),
        ("fr", "T12 : tassement en galette sévère, perte de hauteur de 44 %, grade 3 de Genant"),
        ("es", "T12: fractura por aplastamiento grave, pérdida de altura del 44 %, grado 3 de Genant"),
    ],
)
def test_the_report_is_read_in_the_language_of_the_setting(
    report_in: Report, tag: str, sentence: str
) -> None:
    report = report_in(tag)
    assert problems(report) == []
    language = report.ContentSequence[0].ConceptCodeSequence[0]
    assert (language.CodeValue, language.CodingSchemeDesignator) == (tag, "RFC5646")
    impressions = next(item.ContentSequence for item in walk(report) if _name(item) == "Impressions")
    assert impressions[0].TextValue.startswith(sentence)
    assert impressions[-1].TextValue.startswith(LANGUAGES[tag].research_use)


@pytest.mark.parametrize("tag", OTHERS)
def test_only_words_differ_between_languages(report_in: Report, tag: str) -> None:
    def coded(report: pydicom.Dataset) -> list[tuple[str, str]]:
        return [
            (_name(item), str(item.get("ConceptCodeSequence", item.get("MeasuredValueSequence"))))
            for item in walk(report)
            if item.ValueType in {"CODE", "NUM"} and not _name(item).startswith("Language")
        ]

    english, other = report_in("en"), report_in(tag)
    assert coded(english) == coded(other)
    assert english.SOPInstanceUID != other.SOPInstanceUID
    assert english.SeriesInstanceUID == other.SeriesInstanceUID


@pytest.mark.parametrize("tag", OTHERS)
def test_a_detail_that_was_given_in_english_says_that_it_is(report_in: Report, tag: str) -> None:
    comments = {item.TextValue: item for item in walk(report_in(tag)) if _name(item) == "Comment"}
    detail = comments["The lower endplate lies outside the field of view."]
    (marked,) = detail.ContentSequence
    assert (_name(marked), marked.ConceptCodeSequence[0].CodeValue) == (
        "Language of Content Item and Descendants",
        "en",
    )
    assert "ContentSequence" not in comments[LANGUAGES[tag].reasons["coverage"]]
    # What the language has words for needs no detail: thresholds, research use.
    assert not any(words.startswith(("Genant: loss", "Results are")) for words in comments)


@pytest.mark.parametrize(
    ("charset", "name", "word"),
    [
        ("ISO_IR 100", "Müller^Jörg", "Höhenminderung"),
        ("ISO_IR 192", "Müller^Jörg", "Höhenminderung"),
        # A name that says it is ASCII says the same in Latin-1.
        (None, "Mueller^Joerg", "Höhenminderung"),
        ("ISO_IR 144", "Люкceмбypг", "Hoehenminderung"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎", "Hoehenminderung"),
    ],
)
def test_texts_fit_the_character_set_of_the_names(
    report_in: Report, tmp_path, charset, name: str, word: str
) -> None:
    report = report_in("de", charset, name)
    report.save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    read = pydicom.dcmread(tmp_path / "sr.dcm")
    assert read.SpecificCharacterSet == (charset or "ISO_IR 100")
    assert str(read.PatientName) == name
    assert any(word in words for words in texts(read))


def test_other_programs_read_words_with_accents(encoded, with_tools, tmp_path) -> None:
    study = encoded("axial").study
    encode(study.analysis, study.source, tmp_path, overlay=False, language="de")
    assert checks.highdicom_reads(tmp_path) == []
    assert with_tools(checks.same_numbers, study, tmp_path / "sr.dcm") == []


@pytest.mark.parametrize("tag", OTHERS)
def test_validators_find_no_fault_in_any_language(report_in: Report, with_tools, tmp_path, tag: str) -> None:
    report_in(tag).save_as(tmp_path / "sr.dcm", enforce_file_format=True)
    assert with_tools(checks.dciodvfy, tmp_path / "sr.dcm") == []
    assert with_tools(checks.dsrdump, tmp_path / "sr.dcm") == []


def _name(item: pydicom.Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeMeaning) if names else ""
