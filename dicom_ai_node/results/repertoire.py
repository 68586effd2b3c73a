"""Texts of our own in the character set of the source, which stays as it is, and with it the names.

A source that declares none is in the default repertoire; where all that was copied from it is plain ASCII,
Latin-1 says the same and holds our four languages. What a character set cannot hold is written without its
accents.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset

from dicom_ai_node.results.modules import plain

LATIN_1: Final = "ISO_IR 100"

_OUR_TEXTS: Final = ("TextValue", "UnformattedTextValue")
_TEXT_VRS: Final = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})
_UMLAUTS: Final = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss", "¿": "", "¡": ""}
)
_AMONG_CAPITALS: Final = re.compile("(?<=[A-ZÄÖÜ])[ÄÖÜ]|[ÄÖÜ](?=[A-ZÄÖÜ])")


def settle_texts(dataset: Dataset) -> None:
    """Brings every text of a report (0040,A160) or presentation state (0070,0006) into the data set's
    character set; may declare Latin-1.
    """
    texts = [element for element in dataset.iterall() if element.keyword in _OUR_TEXTS]
    if all(str(element.value).isascii() for element in texts):
        return
    charset = dataset.get("SpecificCharacterSet")
    if not charset and _all_ascii(dataset):
        dataset.SpecificCharacterSet = charset = LATIN_1
    # With code extensions (several values) only the first is sure to be read everywhere.
    encoding = python_encoding.get(charset, "ascii") if isinstance(charset, str) and charset else "ascii"
    for element in texts:
        if not _fits(str(element.value), encoding):
            element.value = plain(_without_umlauts(str(element.value)))


def _without_umlauts(text: str) -> str:
    """``Höhe`` as ``Hoehe``, ``FÜR`` as ``FUER``."""
    capitals = _AMONG_CAPITALS.sub(lambda found: found[0].translate(_UMLAUTS).upper(), text)
    return capitals.translate(_UMLAUTS)


def _all_ascii(dataset: Dataset) -> bool:
    return all(
        str(element.value).isascii()
        for element in dataset.iterall()
        if element.VR in _TEXT_VRS and element.keyword not in _OUR_TEXTS
    )


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
