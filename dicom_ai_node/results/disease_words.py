"""Diseases that sagittal CT slices show, in words: whole for a report, short for a picture."""

from __future__ import annotations

from dicom_ai_node.report import DISEASES, Vertebra


def disease_words(vertebra: Vertebra) -> list[str]:
    """``Schmorl's node 83 % (on 3 of 7 sagittal slices)`` for each disease, likeliest first."""
    shares = vertebra.disease_shares or {}
    present = sorted(vertebra.diseases or (), key=lambda name: -shares.get(name, 0.0))
    return [
        f"{DISEASES[name]} {100 * shares.get(name, 0.0):.0f} %{_slices(vertebra, name)}" for name in present
    ]


def disease_names(vertebra: Vertebra) -> str:
    """``OVCF KD``: the short names of the vertebra's diseases; "" where there is none."""
    return " ".join(vertebra.diseases or ())


def _slices(vertebra: Vertebra, name: str) -> str:
    seen = vertebra.seen_on.get(name)
    return "" if seen is None else f" (on {seen.slices} of {seen.of} sagittal slices)"
