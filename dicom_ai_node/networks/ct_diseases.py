"""What the classifier of P2 says of a vertebra on a sagittal CT slice: five diseases, or none of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DISEASES: Final = ("OVCF", "OF", "SN", "KD", "PS")
"""P2's diseases, in its order; several occur in one vertebra."""

NORMAL: Final = "normal"

OUTPUTS: Final = (*DISEASES, NORMAL)
"""The channels of `ct_classifier.CtClassifier`, a logit each, independent of each other. `NORMAL`
is an answer of its own, not what the diseases leave over (P2, "Development of the VCModule")."""

AVERAGED: Final = ("OVCF", "OF", "KD", "PS")
"""The diseases over which P2 averages its scores: all but Schmorl's nodes."""

MEANINGS: Final[Mapping[str, str]] = {
    "OVCF": "osteoporotic vertebral compression fracture",
    "OF": "old fracture",
    "SN": "Schmorl's node",
    "KD": "Kümmell's disease",
    "PS": "previous surgery",
    NORMAL: "none of the five diseases",
}
"""The outputs in words. An OVCF is fresh and an old fracture has healed; Kümmell's disease is a collapsed
body with a cleft of gas or fluid, a Schmorl's node a disc's herniation through an endplate; previous surgery
shows cement or metal (P2, introduction)."""
