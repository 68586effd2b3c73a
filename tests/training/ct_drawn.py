"""Drawn sagittal slices: what a vertebra has is plain to see."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.networks.ct_diseases import DISEASES
from dicom_ai_node.training.ct_slices import CtSlice

LEVELS = ("T12", "L1", "L2", "L3")

_BODY_HU = {"": 250, "OVCF": 420, "OF": 800, "SN": 250, "KD": 420, "PS": 250}


def drawn_slice(patient: str, number: int, ill: tuple[str, str, str, str]) -> CtSlice:
    """Four bodies of 16 x 24 pixels below each other; "KD+PS" has both, "?" is not known.

    A fresh fracture is brighter, an old one brighter still; a node is a dark pit from above, Kümmell's cleft
    is gas in the middle, and cement is as bright as metal.
    """
    generator = np.random.default_rng(int(patient) * 100 + number)
    image = generator.normal(40, 15, (100, 60)).astype(np.float32)
    boxes = []
    for row, words in enumerate(ill):
        top, left = 6 + 24 * row, 20
        names = [] if words == "?" else words.split("+")
        image[top : top + 16, left : left + 24] = max((_BODY_HU[name] for name in names), default=250)
        if "SN" in names:
            image[top : top + 8, left + 8 : left + 16] = 40
        if "KD" in names:
            image[top + 6 : top + 11, left + 4 : left + 20] = -900
        if "PS" in names:
            image[top + 2 : top + 14, left + 2 : left + 10] = 2500
        boxes.append([left, top, left + 24, top + 16])
    diseases = [[-1 if words == "?" else int(name in words.split("+")) for name in DISEASES] for words in ill]
    return CtSlice(
        patient=patient,
        number=number,
        image=image.astype(np.int16),
        spacing_mm=(1.5, 1.5),
        boxes=np.array(boxes, dtype=np.float32),
        levels=LEVELS,
        diseases=np.array(diseases, dtype=np.int8),
    )


def drawn_patients(count: int) -> list[CtSlice]:
    """Two slices of each patient; all diseases are among three patients."""
    plans = (("OVCF", "", "KD", ""), ("", "OF", "", "PS"), ("SN", "", "OVCF+PS", ""))
    return [drawn_slice(f"{k:03d}", number, plans[k % 3]) for k in range(count) for number in range(2)]
