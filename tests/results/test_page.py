"""The report of one page: one page whatever was found, in every language, and nothing of it is cut off."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from conformance.films import DRESSES, make_film_study
from dicom_ai_node.anatomy import LEVELS, Level
from dicom_ai_node.report import Analysis, Reason
from dicom_ai_node.results.encode import encode
from dicom_ai_node.results.language import LANGUAGES
from dicom_ai_node.results.page import Page, page_of, patient_name
from dicom_ai_node.results.page_html import html_page
from dicom_ai_node.results.page_pdf import pdf_page
from dicom_ai_node.results.rendition import Rendition
from dicom_ai_node.results.source import SourceImages, read_source
from dicom_ai_node.results.validate import validate

WHOLE_SPINE = [level for level in LEVELS if level.value not in {"T13", "L6", "S1"}][:24]


def text_of(pdf: bytes, folder: Path) -> tuple[int, str]:
    """Pages, and the words on them as poppler reads them."""
    for program in ("pdftotext", "pdfinfo"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    path = folder / "page.pdf"
    path.write_bytes(pdf)
    info = subprocess.run(["pdfinfo", path], capture_output=True, text=True, check=True).stdout
    words = subprocess.run(["pdftotext", path, "-"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"Pages:\s+(\d+)", info)[0]), " ".join(words.split())


@pytest.fixture
def source(encoded: Any) -> SourceImages:
    return read_source(encoded("axial").study.source)


def analysis_of(encoded: Any, levels: list[Level], **changes: Any) -> Analysis:
    """The wedge of the block spine at all these levels."""
    analysis = encoded("axial").study.analysis
    wedge = next(vertebra for vertebra in analysis.report if vertebra.level is Level.L1)
    vertebrae = tuple(replace(wedge, level=level, level_alternatives={}, **changes) for level in levels)
    return replace(analysis, report=replace(analysis.report, vertebrae=vertebrae))


def said(page: Page) -> str:
    return " ".join([page.headline, *page.impression, page.rest, *page.remarks])


@pytest.mark.parametrize("tag", sorted(LANGUAGES))
@pytest.mark.parametrize("count", [3, 24])
def test_one_page_holds_three_fractures_and_a_whole_spine_of_them(encoded, source, tmp_path, tag, count):
    language = LANGUAGES[tag]
    page = page_of(analysis_of(encoded, WHOLE_SPINE[-count:]), source, language)
    pages, words = text_of(pdf_page(page, None), tmp_path)
    assert pages == 1
    for level in WHOLE_SPINE[-count:]:
        assert language.level(level) in words
    assert words.count(page.rows[0].heights) == count
    for text in (page.language.research_use, page.words.disclaimer, page.made_by, *page.impression):
        assert " ".join(text.split()) in words


def test_what_is_normal_is_one_line_and_what_was_not_judged_is_said_with_its_reason(encoded, source):
    page = page_of(encoded("axial").study.analysis, source)
    assert [row.level for row in page.rows] == ["T12", "L1", "L3"]
    assert [(row.grade, row.loss) for row in page.rows] == [("3", "44 %"), ("2", "31 %"), ("1", "22 %")]
    assert page.rest == "Measured, nothing that stands out: T11, L2, L4."
    assert page.headline == "Vertebrae that look fractured: T12, L1, L3."
    assert any("L5" in sentence and "lower endplate" in sentence for sentence in page.impression)
    assert "block-spine-segment 1.0" in page.made_by


def test_a_normal_spine_says_so_in_plain_words(encoded, source, tmp_path):
    normal = {"fractured": False, "genant_grade": 0, "height_loss": 0.04, "deformity": "none"}
    page = page_of(analysis_of(encoded, WHOLE_SPINE, **normal, fracture_probability=0.02), source)
    assert page.headline == "No vertebra looks fractured."
    assert page.rows == ()
    assert text_of(pdf_page(page, None), tmp_path)[0] == 1


def test_a_page_without_a_vertebra_says_so_once(encoded, source):
    page = page_of(analysis_of(encoded, []), source)
    assert page.headline == "No vertebra was found."
    assert page.impression == ()


def test_images_that_could_not_be_analysed_give_a_page_that_says_why(encoded, tmp_path):
    study = encoded("axial").study
    reasons = (Reason("geometry", "Slices 40 and 41 are 7.5 mm apart, the others 3 mm."),)
    report = replace(study.analysis.report, status="not-analysable", vertebrae=(), reasons=reasons)
    wanted = [Rendition(kinds=("pdf",))]
    objects = encode(Analysis(report), study.source, tmp_path, renditions=wanted, page=True)
    validate(objects)
    pages, words = text_of((tmp_path / "report.pdf").read_bytes(), tmp_path)
    assert pages == 1
    assert "could not be analysed" in words
    assert "7.5 mm apart" in words


def test_the_archive_s_document_is_the_page_and_names_its_images(encoded, tmp_path):
    study = encoded("axial").study
    wanted = [Rendition(kinds=("pdf", "sc"))]
    objects = encode(study.analysis, study.source, tmp_path / "a", renditions=wanted, page=True)
    validate(objects)
    document = pydicom.dcmread(tmp_path / "a" / "pdf.dcm")
    data = (tmp_path / "a" / "report.pdf").read_bytes()
    assert document.EncapsulatedDocument[: document.EncapsulatedDocumentLength] == data
    assert document.PatientName == "Conformance^Spine"
    assert document.BurnedInAnnotation == "YES"
    assert len(document.SourceInstanceSequence) == len(study.source.paths)
    again = encode(study.analysis, study.source, tmp_path / "b", renditions=wanted)
    for one, other in zip(objects, again, strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()


def test_every_letter_is_embedded_and_names_in_other_alphabets_are_shown(encoded, source, tmp_path):
    source.header.SpecificCharacterSet = "ISO_IR 192"
    source.header.PatientName = "Müller-Łukasiewicz^Désirée^Παπα Иванова"
    page = page_of(encoded("axial").study.analysis, source)
    pdf = pdf_page(page, None)
    words = text_of(pdf, tmp_path)[1]
    for part in ("Müller-Łukasiewicz", "Désirée", "Παπα", "Иванова"):
        assert part in words
    fonts = subprocess.run(["pdffonts", tmp_path / "page.pdf"], capture_output=True, text=True, check=True)
    lines = fonts.stdout.splitlines()[2:]
    assert lines
    assert all("DejaVuSans" in line and re.search(r"yes +yes +yes", line) for line in lines)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("Doe^Jane^Mary^Dr.", "Doe, Jane Mary"),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
        ("=山田^太郎", "山田, 太郎"),
        ("Doe", "Doe"),
        ("", ""),
    ],
)
def test_a_name_is_written_as_one_reads_it(stored, shown):
    header = Dataset()
    header.PatientName = stored
    assert patient_name(header) == shown


def test_a_name_cannot_become_part_of_the_html(encoded, source):
    source.header.PatientName = "<script>alert(1)</script>^&amp;"
    html = html_page(page_of(encoded("axial").study.analysis, source), None)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_the_html_page_says_what_the_pdf_says(encoded, source, tmp_path):
    page = page_of(encoded("axial").study.analysis, source, LANGUAGES["de"])
    html = re.sub(r"<[^>]+>", " ", html_page(page, None))
    words = text_of(pdf_page(page, None), tmp_path)[1]
    for text in (*page.impression, page.headline, page.rest, page.language.research_use):
        assert text in html
        assert " ".join(text.split()) in words


def test_a_film_without_calibration_has_no_millimetres(tmp_path):
    dress = next(item for item in DRESSES if item.pixel_spacing == "none")
    film = make_film_study(dress, tmp_path)
    page = page_of(film.analysis, read_source(film.source))
    assert all(row.heights == "" and row.loss for row in page.rows)
    assert "Radiograph" in dict(page.facts)["Examined"]
    assert any("pixel spacing" in remark for remark in page.remarks)
