"""Diseases that sagittal CT slices show, in the words of a report."""

from __future__ import annotations

from dicom_ai_node.report import Vertebra
from dicom_ai_node.results.language import ENGLISH, Language


def disease_words(vertebra: Vertebra, language: Language = ENGLISH) -> list[str]:
    """``Schmorl's node 83 % (on 3 of 7 sagittal slices)`` for each disease, likeliest first."""
    shares = vertebra.disease_shares or {}
    present = sorted(vertebra.diseases or (), key=lambda name: -shares.get(name, 0.0))
    return [
        " ".join(
            [
                language.classes[name],
                language.rounded_share(shares.get(name, 0.0)),
                *(f"({words})" for words in [seen_on(vertebra, name, language)] if words),
            ]
        )
        for name in present
    ]


def seen_on(vertebra: Vertebra, name: str, language: Language = ENGLISH) -> str:
    """``on 3 of 7 sagittal slices``; "" where that is not known."""
    seen = vertebra.seen_on.get(name)
    return "" if seen is None else language.on_slices.format(slices=seen.slices, of=seen.of)
