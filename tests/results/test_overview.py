"""The overview picture: bodies in the colours of their grades, and words in the language of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font
from PIL import Image

from dicom_ai_node.anatomy import Level
from dicom_ai_node.colours import GRADE_COLOURS, UNGRADED_COLOUR
from dicom_ai_node.imaging.picture import sagittal_sheet
from dicom_ai_node.report import Analysis, Reason, SpineReport, Vertebra
from dicom_ai_node.results.language import ENGLISH, LANGUAGES, Language
from dicom_ai_node.results.overview import draw_overview, short_finding
from dicom_ai_node.results.typeface import BOLD, PLAIN
from tests.results.phrases import phrases

OTHERS = [tag for tag in LANGUAGES if tag != "en"]


@pytest.fixture(scope="module")
def overview(encoded) -> Any:
    """The block spine as a picture, with its findings or others, in a language."""

    def draw(analysis: Analysis | None = None, language: Language = ENGLISH) -> Image.Image:
        study = encoded("axial").study
        shown = analysis or study.analysis
        return draw_overview(*sagittal_sheet(study.source.volume, shown), shown.report, language)

    return draw


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    """Colours that cover more than a few pixels, to within what blending does to them."""
    pixels = np.asarray(picture).reshape(-1, 3).astype(int)
    wanted = [*GRADE_COLOURS, UNGRADED_COLOUR]
    return {colour for colour in wanted if (np.abs(pixels - colour).max(axis=1) < 30).sum() > 550}


@pytest.mark.parametrize("with_map", [True, False])
def test_the_overview_outlines_bodies_in_the_colours_of_their_grades(encoded, overview, with_map: bool):
    analysis = encoded("axial").study.analysis
    graded = [item for item in analysis.report if item.genant_grade is not None]
    shown = replace(analysis, report=replace(analysis.report, vertebrae=tuple(graded)))
    picture = overview(shown if with_map else replace(shown, label_map=None))
    assert picture.mode == "RGB"
    assert colours_of(picture) == set(GRADE_COLOURS)
    plain = tuple(replace(item, genant_grade=None) for item in graded)
    assert colours_of(overview(replace(shown, report=replace(shown.report, vertebrae=plain)))) == {
        UNGRADED_COLOUR
    }


def test_the_overview_of_a_refusal_says_why(encoded, overview):
    source = encoded("axial").study.analysis.report.source
    reasons = (Reason("no-spine", "no vertebra was found " * 5),)
    picture = np.asarray(overview(Analysis(SpineReport("not-analysable", source, reasons))))
    silent = np.asarray(overview(Analysis(SpineReport("analysed", source))))
    assert picture.shape == silent.shape
    assert (picture != silent).any(axis=-1).sum() > 500


@pytest.mark.parametrize("tag", OTHERS)
def test_the_overview_differs_between_languages_in_its_words_alone(encoded, overview, tag: str):
    analysis = encoded("axial").study.analysis
    english, other = np.asarray(overview()), np.asarray(overview(language=LANGUAGES[tag]))
    sheet, _ = sagittal_sheet(encoded("axial").study.source.volume, analysis)
    rows, columns = sheet.grey.shape
    different = (english != other).any(axis=-1)
    # Image and levels: everything left of the findings, between title and legend.
    assert not different[64 : 64 + rows, : 110 + columns].any()
    margins = {
        "title": different[:40, :500],
        "notice": different[:40, -400:],
        "findings": different[64 : 64 + rows, 110 + columns :],
        "legend": different[64 + rows : -60],
        "how to read it": different[-60:-36],
    }
    assert [name for name, part in margins.items() if not part.any()] == []


def test_every_letter_of_every_language_is_in_the_typeface():
    needed = {ord(sign) for language in LANGUAGES.values() for _, text in phrases(language) for sign in text}
    for file in (PLAIN, BOLD):
        assert needed <= set(FT2Font(str(file)).get_charmap()), file.name


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        ({}, "level only"),
        ({"fractured": True, "fracture_probability": 0.85}, "fractured   not graded   p 0.85"),
        (
            {"fractured": True, "fracture_probability": 0.7, "height_loss": 0.17, "genant_grade": 0},
            "loss 17 %   fractured   p 0.70",
        ),
        (
            {"height_loss": 0.3, "genant_grade": 2, "deformity": "wedge", "fractured": False},
            "loss 30 %   grade 2   wedge",
        ),
    ],
)
def test_fractures_without_a_grade_or_without_loss_are_called_fractured(findings: dict[str, Any], words: str):
    assert short_finding(Vertebra(Level.T12, 0.9, **findings), ENGLISH) == words
