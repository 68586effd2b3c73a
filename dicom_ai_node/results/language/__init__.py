"""The words of human-readable texts, one module per language. Codes and their meanings stay English."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from dicom_ai_node.results.language.english import ENGLISH
from dicom_ai_node.results.language.french import FRENCH
from dicom_ai_node.results.language.german import GERMAN
from dicom_ai_node.results.language.page_words import PageWords
from dicom_ai_node.results.language.picture_words import PictureWords
from dicom_ai_node.results.language.spanish import SPANISH
from dicom_ai_node.results.language.words import Language

__all__ = ["ENGLISH", "LANGUAGES", "Language", "LanguageTag", "PageWords", "PictureWords"]

LanguageTag = Literal["en", "de", "fr", "es"]

LANGUAGES: Final[Mapping[LanguageTag, Language]] = {
    "en": ENGLISH,
    "de": GERMAN,
    "fr": FRENCH,
    "es": SPANISH,
}
"""By their tag (RFC 5646)."""
