"""Diseases of a vertebra, and how often each sign of them is seen.

Classes: P2 (Wang 2024, Quant Imaging Med Surg 14:800: OVCF, OF, SN, KD, PS, several at once), malignant
fractures of P1 (VCFNet) and P4 (Yeh 2022, Eur Spine J 31:2022), haemangioma, and look-alikes of a fracture.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

import numpy as np

from dicom_ai_node.genant import Grading, Heights


class Disease(StrEnum):
    """What a vertebra can have; the values are those of the truth."""

    OVCF = "OVCF"
    OF = "OF"
    SN = "SN"
    KD = "KD"
    PS = "PS"
    MALIGNANT = "malignant"
    HAEMANGIOMA = "haemangioma"
    SCHEUERMANN = "Scheuermann"
    CUPIDS_BOW = "cupids-bow"
    LIMBUS = "limbus"
    SHORT_HEIGHT = "short-height"


COLLAPSES: Final = frozenset({Disease.OVCF, Disease.OF, Disease.KD})
"""Diseases that are benign fractures: fresh, old, and Kuemmell's."""

LOOK_ALIKES: Final = frozenset(
    {Disease.SCHEUERMANN, Disease.CUPIDS_BOW, Disease.LIMBUS, Disease.SHORT_HEIGHT}
)
"""Diseases and variants that look like a fracture and are none."""


@dataclass(frozen=True)
class Features:
    """The 15 features that P4's radiologist scored (table 1), for one vertebra.

    The first of them is about the loss of height; it, the next three and the truth's heights tell the same
    story, so these four are read off the body. All others are drawn and then built.
    """

    absence_of_collapse: bool = False
    anterior_wedge: bool = False
    whole_body_compression: bool = False
    central_concavity: bool = False
    homogeneous_marrow: bool = False
    dark_line: bool = False
    band_oedema: bool = False
    dark_patch: bool = False
    cleft: bool = False
    diffuse_change: bool = False
    mass: bool = False
    protrusion: bool = False
    soft_tissue_mass: bool = False
    posterior_elements: bool = False
    skip_lesion: bool = False


FEATURE_NAMES: Final = tuple(field.name for field in fields(Features))

BENIGN_COUNTS: Final = dict(
    zip(FEATURE_NAMES, (3, 77, 54, 59, 48, 37, 44, 14, 8, 31, 0, 19, 1, 0, 8), strict=True)
)
"""P4 table 1: how many of 140 benign fractures had a feature."""

MALIGNANT_COUNTS: Final = dict(
    zip(FEATURE_NAMES, (17, 7, 25, 14, 0, 0, 2, 5, 1, 44, 11, 16, 22, 5, 39), strict=True)
)
"""P4 table 1: how many of 50 malignant fractures had a feature."""

BENIGN: Final = 140
MALIGNANT: Final = 50


def draw_benign(generator: np.random.Generator, *, fresh: bool | None = None) -> Features:
    """Features of a benign fracture with the frequencies of P4's table 1.

    Without any change of the marrow it is an old one (P4, results). Band-like and diffuse change exclude each
    other, and together with the dark line need changed marrow: they are drawn among the fresh.

    Args:
        generator: where the randomness comes from.
        fresh: whether the marrow is changed; None leaves it to chance (92 of 140).
    """
    n = BENIGN_COUNTS
    changed = BENIGN - n["homogeneous_marrow"]
    if fresh is None:
        fresh = bool(generator.random() < changed / BENIGN)
    which = generator.random() * changed
    line, patch, cleft, protrusion, mass, skip = generator.random(6)
    return Features(
        homogeneous_marrow=not fresh,
        dark_line=fresh and bool(line < n["dark_line"] / changed),
        band_oedema=fresh and bool(which < n["band_oedema"]),
        diffuse_change=fresh and bool(n["band_oedema"] <= which < n["band_oedema"] + n["diffuse_change"]),
        dark_patch=bool(patch < n["dark_patch"] / BENIGN),
        cleft=bool(cleft < n["cleft"] / BENIGN),
        protrusion=bool(protrusion < n["protrusion"] / BENIGN),
        soft_tissue_mass=bool(mass < n["soft_tissue_mass"] / BENIGN),
        skip_lesion=bool(skip < n["skip_lesion"] / BENIGN),
    )


def draw_malignant(generator: np.random.Generator) -> Features:
    """Features of a vertebra with metastases, with the frequencies of P4's table 1.

    A body that is not changed as a whole holds a nodule, else there would be nothing to see.
    """
    n = MALIGNANT_COUNTS
    diffuse = bool(generator.random() < n["diffuse_change"] / MALIGNANT)
    focal = MALIGNANT - n["diffuse_change"]
    nodule = (n["mass"] - focal) / n["diffuse_change"] if diffuse else 1.0
    mass, band, patch, cleft, protrusion, soft, posterior, skip = generator.random(8)
    return Features(
        diffuse_change=diffuse,
        mass=bool(mass < nodule),
        band_oedema=bool(band < n["band_oedema"] / MALIGNANT),
        dark_patch=bool(patch < n["dark_patch"] / MALIGNANT),
        cleft=bool(cleft < n["cleft"] / MALIGNANT),
        protrusion=bool(protrusion < n["protrusion"] / MALIGNANT),
        soft_tissue_mass=bool(soft < n["soft_tissue_mass"] / MALIGNANT),
        posterior_elements=bool(posterior < n["posterior_elements"] / MALIGNANT),
        skip_lesion=bool(skip < n["skip_lesion"] / MALIGNANT),
    )


def shape_features(heights: Heights, grading: Grading | None) -> dict[str, bool]:
    """The four features of P4 that are about height, from heights in mm and their Genant grading.

    A body of any kind is centrally concave where its middle is 12 % lower than both walls; without a grading
    (levels that Genant's method leaves out) there is no collapse.
    """
    if grading is None or grading.grade == 0:
        return {
            "absence_of_collapse": True,
            "anterior_wedge": False,
            "whole_body_compression": False,
            "central_concavity": False,
        }
    hollow = heights.middle < 0.88 * min(heights.anterior, heights.posterior)
    return {
        "absence_of_collapse": False,
        "anterior_wedge": grading.deformity == "wedge",
        "whole_body_compression": grading.deformity == "crush",
        "central_concavity": grading.deformity == "biconcave" or hollow,
    }
