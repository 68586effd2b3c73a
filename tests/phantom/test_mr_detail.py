"""Discs by Pfirrmann's grade, and diseases as radiologists describe them on T1, T2 and STIR."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.lesion import LesionKind
from dicom_ai_node.phantom.mr import MrAcquisition, render_mr
from dicom_ai_node.phantom.mr_disc import disc_value, disc_wear, pfirrmann
from dicom_ai_node.phantom.mr_kspace import Readout
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.mr_study import SAGITTAL, stack_affine
from dicom_ai_node.phantom.spine import SpineOptions, sample_spine

T1 = MrSequence("t1", "SE", 550.0, 11.0, echo_train=3, magnetisation_transfer=0.4)
T2 = MrSequence("t2", "SE", 3600.0, 100.0, echo_train=17, magnetisation_transfer=0.7)
STIR = MrSequence("stir", "IR", 4200.0, 50.0, inversion_ms=165.0, echo_train=12)


def test_a_worn_disc_loses_its_bright_nucleus_first_and_its_annulus_stays_dark() -> None:
    disc = sample_spine(3, fractures={}).discs[-2]
    depth = disc.back - disc.front
    # Above the cleft in the nucleus, and in the outer fibres in front.
    u = torch.tensor([0.0, 0.0])
    v = torch.tensor([disc.front + 0.57 * depth, disc.front + 0.04 * depth])
    w = torch.tensor([2.0, 0.0])
    points = (u.reshape(1, 1, 2), v.reshape(1, 1, 2), w.reshape(1, 1, 2))
    palette = MrPalette(T2)
    nucleus, annulus = zip(
        *(
            disc_value(disc, wear, 1, points, palette)[0, 0, 0].tolist()
            for wear in (0.0, 0.25, 0.5, 0.75, 1.0)
        ),
        strict=True,
    )
    assert all(more > less for more, less in pairwise(nucleus))
    assert nucleus[0] > 4 * nucleus[-1]
    assert max(annulus) < 0.3 * nucleus[0]


def test_grades_follow_age_and_the_anatomy() -> None:
    young, old = (
        [
            pfirrmann(wear)
            for seed in range(5)
            for wear in disc_wear(sample_spine(seed, fractures={}, options=SpineOptions(age=age)))
        ]
        for age in (22.0, 80.0)
    )
    assert np.mean(young) < 2.2
    assert np.mean(old) > 2.9
    assert len(set(young) | set(old)) >= 4
    worn = sample_spine(2, options=SpineOptions(age=30.0, degeneration="rich"))
    for state, wear in zip(worn.wear, disc_wear(worn), strict=True):
        if state.vacuum or state.narrowing > 0.3:
            assert pfirrmann(wear) >= 4


@pytest.mark.parametrize(
    ("seed", "disease", "kind", "looks"),
    [
        (1, Disease.OVCF, LesionKind.OEDEMA, {"t1": "dark", "stir": "bright"}),
        (3, Disease.PS, LesionKind.CEMENT, {"t1": "dark", "t2": "dark", "stir": "dark"}),
        (9, Disease.HAEMANGIOMA, LesionKind.HAEMANGIOMA, {"t2": "bright", "stir": "bright"}),
    ],
)
def test_a_disease_looks_as_radiologists_describe_it(
    seed: int, disease: Disease, kind: LesionKind, looks: dict[str, str]
) -> None:
    options = SpineOptions(diseases={Level.L2: (disease,)}, age=62.0)
    spine = sample_spine(seed, fractures={}, options=options)
    center = spine[Level.L2].frame[:3, 3]
    shape = (3, 48, 48)
    acquisition = MrAcquisition(
        "test", "sagittal", shape, stack_affine(center, SAGITTAL, shape, (6.0, 1.8)), 4.0,
        MrPalette(T2), Readout((48, 48), noise=0.0), texture=0.0,
    )  # fmt: skip
    for sequence in (T1, T2, STIR):
        if sequence.kind not in looks:
            continue
        phantom = render_mr(spine, replace(acquisition, palette=MrPalette(sequence)))
        ill = phantom.pixels[(phantom.lesions == kind) & (phantom.labels > 0)]
        other = phantom.pixels[(phantom.labels > 0) & (phantom.lesions == 0)]
        assert ill.size > 20
        ratio = float(np.median(ill) / np.median(other))
        assert ratio < 0.85 if looks[sequence.kind] == "dark" else ratio > 1.15, (sequence.kind, ratio)
