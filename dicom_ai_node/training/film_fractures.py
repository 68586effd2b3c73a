"""Films of people with many fractures, of all ages alike: what radiograph-acuity is taught with.

Among people as they come one film in two shows a fracture, and one fracture in seven is pathologic: hundreds
of films would teach a classifier of fractures next to nothing.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.fracturing import FRACTURE_LEVELS
from dicom_ai_node.phantom.radiograph import render_radiograph, sample_radiograph_acquisition
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine
from dicom_ai_node.report import Deformity
from dicom_ai_node.training.films import Film, film_of_truth

PIXELS: Final = 1_000_000
_MOST: Final = 8
_KINDS: Final[tuple[Deformity, ...]] = ("wedge", "biconcave", "crush")
_DISEASES: Final[tuple[tuple[tuple[Disease, ...], float], ...]] = (
    ((Disease.OVCF,), 0.29),
    ((Disease.OF,), 0.29),
    ((Disease.KD,), 0.05),
    ((Disease.OF, Disease.KD), 0.04),
    ((Disease.MALIGNANT,), 0.33),
)
"""Fresh, old, Kuemmell's with fresh or old marrow, tumour; as frequent as makes P1's three classes equal."""


def fractures_film(seed: int, *, training: bool = True, max_pixels: int = PIXELS) -> Film:
    """A lateral film of a spine with four to eight fractures; kind, grade and age vary independently.

    Args:
        seed: of person and exposure.
        training: one film of three has contrast and noise beyond what radiography does; else all are
            realistic. Fewer than for the other tasks: the signs of age are the first to drown.
        max_pixels: of the film.

    Of a plan that leaves no sound body to grade by, as few as needed of the lowest fractures are left out.
    """
    generator = stream(seed, "many fractures")
    count = int(generator.integers(4, _MOST + 1))
    candidates = [level for level in FRACTURE_LEVELS if level is not Level.T4]
    chosen = sorted(generator.choice(len(candidates), count, replace=False).tolist())
    fractures: dict[Level, tuple[Deformity, int]] = {}
    diseases: dict[Level, tuple[Disease, ...]] = {}
    for number in chosen:
        level = candidates[number]
        ill = _DISEASES[int(generator.choice(len(_DISEASES), p=[share for _, share in _DISEASES]))][0]
        least = 2 if Disease.KD in ill else 1
        fractures[level] = (
            _KINDS[int(generator.choice(3, p=(0.5, 0.3, 0.2)))],
            int(generator.integers(least, 4)),
        )
        diseases[level] = ill
    spine = _spine(seed, fractures, diseases, age=float(generator.uniform(50.0, 90.0)))
    acquisition = sample_radiograph_acquisition(
        seed, spine, training=training and seed % 3 == 0, max_pixels=max_pixels
    )
    made = render_radiograph(spine, acquisition)
    pixels = np.rint(made.shown * np.float32(65535)).astype(np.uint16)
    return film_of_truth(f"{seed:05d}", pixels, made.truth)


def _spine(
    seed: int,
    fractures: dict[Level, tuple[Deformity, int]],
    diseases: dict[Level, tuple[Disease, ...]],
    *,
    age: float,
) -> Spine:
    """The spine with these fractures, less the lowest while no sound body is left to grade by."""
    while True:
        options = SpineOptions(age=age, diseases=diseases, degeneration="realistic")
        try:
            return sample_spine(seed, fractures=fractures, options=options)
        except ValueError:
            if not fractures:
                raise
            lowest = max(fractures, key=order)
            del fractures[lowest], diseases[lowest]
