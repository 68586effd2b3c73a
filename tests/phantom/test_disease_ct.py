"""Diseases as CT sees them; the truth measured again, by other code, from fine label maps."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.phantom import (
    CANAL_LABEL,
    DISC_LABEL,
    CtAcquisition,
    CtPhantom,
    Disease,
    LesionKind,
    Spine,
    SpineOptions,
    render_ct,
    sample_spine,
)
from dicom_ai_node.phantom.body import body_field
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.ct_palette import CtPalette
from dicom_ai_node.phantom.degeneration import Wear
from dicom_ai_node.phantom.disease_plan import DiseaseWish
from dicom_ai_node.phantom.tissues import Matter, Tissue
from dicom_ai_node.report import SIX_POINT_NAMES, Deformity

Array = npt.NDArray[np.float64]
D, L, K = Disease, Level, LesionKind
NAMES = ("anterior", "middle", "posterior")


def person(
    seed: int,
    diseases: DiseaseWish,
    fractures: dict[Level, tuple[Deformity, int]] | None = None,
    wear: Wear = "none",
) -> Spine:
    options = SpineOptions(age=68.0, supernumerary="none", diseases=diseases, degeneration=wear)
    return sample_spine(seed, fractures=fractures, options=options)


def scan(
    spine: Spine, level: Level, spacing: float, box: tuple[float, float, float], askew: float = 0.0
) -> CtPhantom:
    """A noiseless CT about one body in its own axes; `box` is superior, posterior, left in mm.

    `askew` turns the grid (radians), so that an endplate does not lie along a layer of voxels.
    """
    frame = spine[level].frame.copy()
    frame[:3, :3] = frame[:3, :3] @ rotation(askew, 0.8 * askew, 0.0)
    shape = tuple(round(edge / spacing) for edge in box)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([frame[:3, 2], frame[:3, 1], frame[:3, 0]], axis=1) * spacing
    affine[:3, 3] = frame[:3, 3] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    quiet = CtAcquisition(
        (shape[0], shape[1], shape[2]),
        affine,
        spacing,
        noise_hu=0.0,
        resolution_mm=0.5,
        table=False,
        streaks=0.0,
    )
    return render_ct(spine, quiet)


def without_spurs(spine: Spine, level: Level) -> Spine:
    """The same person without osteophytes at one level: they stand out beyond the six points by design."""
    bare = tuple(replace(v, osteophytes=()) if v.level is level else v for v in spine.vertebrae)
    return replace(spine, vertebrae=bare)


def measured_heights(phantom: CtPhantom, level: Level, points: Array) -> list[float]:
    """Heights from a label map alone: the endplates are found as steps of the labels, and fitted.

    Near each of the six points (LPS mm) the last labelled voxel of every column of the map is taken, a smooth
    surface is laid through these steps, and read off at the point's place.
    """
    mask = phantom.labels == verse_label(level)
    inside = np.linalg.inv(phantom.affine)
    index = points @ inside[:3, :3].T + inside[:3, 3]
    spacing = float(np.linalg.norm(phantom.affine[:3, 0]))
    middle = index[:, 1].mean()
    found = []
    for k, (height, row, column) in enumerate(index):
        upper, at_rim = k % 2 == 0, k not in (2, 3)
        toward = np.sign(middle - row) if at_rim else 1.0
        samples, steps = [], []
        for r in range(int(row - 5), int(row + 7)):
            for c in range(round(column - 6), round(column + 7)):
                away = toward * (r - row)
                held = np.flatnonzero(mask[:, r, c])
                if not len(held) or away < (0.4 if at_rim else -5.0) or away > 4.6:
                    continue
                # The surface lies half a voxel beyond the last labelled centre.
                samples.append((r - row, c - column))
                steps.append(held.max() + 0.5 if upper else held.min() - 0.5)
        x, y = np.array(samples).T
        curved = [] if at_rim else [x * x]
        design = np.stack([np.ones_like(x), x, y, y * y, x * y, *curved], axis=1)
        heights = np.array(steps)
        # Columns that leave the body through its wall end early: they are left out.
        good = np.abs(heights - np.median(heights)) < 3.0 / spacing
        surface = np.linalg.lstsq(design[good], heights[good], rcond=None)[0]
        assert abs(surface[0] - height) < 4
        found.append(phantom.affine[:3, :3] @ np.array([surface[0], row, column]))
    return [float(np.linalg.norm(found[k] - found[k + 1])) for k in (0, 2, 4)]


CASES: list[tuple[str, DiseaseWish, dict[Level, tuple[Deformity, int]]]] = [
    ("healthy", "none", {}),
    ("wedge", "none", {L.L1: ("wedge", 2)}),
    ("crush", "none", {L.L1: ("crush", 3)}),
    ("fresh", {L.L1: (D.OVCF,)}, {L.L1: ("biconcave", 2)}),
    ("old", {L.L1: (D.OF, D.PS)}, {L.L1: ("wedge", 1)}),
    ("kuemmell", {L.L1: (D.KD,)}, {L.L1: ("wedge", 3)}),
    ("malignant", {L.L1: (D.MALIGNANT,)}, {L.L1: ("crush", 2)}),
    ("cupid", {L.L1: (D.CUPIDS_BOW, D.HAEMANGIOMA)}, {}),
    ("short", {L.L1: (D.SHORT_HEIGHT,)}, {}),
    ("scheuermann", {L.T12: (D.SCHEUERMANN,), L.L1: (D.SCHEUERMANN,), L.L2: (D.SCHEUERMANN,)}, {}),
]


@pytest.mark.parametrize(("name", "diseases", "fractures"), CASES, ids=[case[0] for case in CASES])
def test_heights_measured_on_half_millimetre_labels_are_the_truth(
    name: str, diseases: DiseaseWish, fractures: dict[Level, tuple[Deformity, int]]
) -> None:
    seed = 31 + len(name)
    spine = without_spurs(person(seed, diseases, fractures), L.L1)
    phantom = scan(spine, L.L1, 0.5, (54.0, 54.0, 16.0), askew=0.12)
    entry = next(item for item in phantom.truth["vertebrae"] if item["level"] == "L1")
    points = np.array([entry["six_points"][key] for key in SIX_POINT_NAMES])
    told = [entry["heights_mm"][key] for key in NAMES]
    np.testing.assert_allclose(measured_heights(phantom, L.L1, points), told, atol=0.3)


@pytest.mark.parametrize(
    ("diseases", "fractures"),
    [("none", {}), ({L.L2: (D.OVCF,)}, {L.L2: ("wedge", 2)}), ({L.L2: (D.SN,)}, {})],
    ids=["healthy", "fresh", "schmorl"],
)
def test_volumes_of_labels_are_those_of_the_implicit_shape(
    diseases: DiseaseWish, fractures: dict[Level, tuple[Deformity, int]]
) -> None:
    spine = without_spurs(person(12, diseases, fractures), L.L2)
    vertebra = spine[L.L2]
    phantom = scan(spine, L.L2, 1.0, (48.0, 56.0, 64.0))
    label = (phantom.labels == verse_label(L.L2)).sum() * 1.0
    # The implicit shape, integrated by chance: points of a box, none of them on the image's grid.
    low, high = vertebra.body.extent
    dice = np.random.default_rng(7).uniform(low, high, (200_000, 3))
    u, v, w = (torch.from_numpy(dice[:, k]) for k in range(3))
    inside = (body_field(vertebra.body, u, v, w).outside < 0).numpy()
    for pit in vertebra.findings.recesses:
        own = (
            dice @ vertebra.frame[:3, :3].T + vertebra.frame[:3, 3] - pit.solid.frame[:3, 3]
        ) @ pit.solid.frame[:3, :3]
        inside &= ((own / np.array(pit.solid.radii)) ** 2).sum(axis=1) > 1.0
    expected = float(inside.mean() * np.prod(high - low))
    assert expected * 0.985 < label < expected * 1.015


@cache
def surgical() -> tuple[Spine, CtPhantom]:
    spine = person(20, {L.L3: (D.PS,), L.L4: (D.PS,), L.L1: (D.OF, D.PS)}, {L.L1: ("wedge", 1)})
    return spine, scan(spine, L.L3, 1.5, (130.0, 110.0, 90.0))


def kinds(phantom: CtPhantom) -> set[LesionKind]:
    return {LesionKind(int(number)) for number in np.unique(phantom.lesions) if number}


def hu_of(phantom: CtPhantom, kind: LesionKind) -> Array:
    inside: Array = phantom.hu[phantom.lesions == kind].astype(np.float64)
    return inside


def test_implants_are_as_dense_as_they_are_and_change_no_label() -> None:
    spine, phantom = surgical()
    assert {K.METAL, K.CEMENT} <= kinds(phantom)
    assert np.median(hu_of(phantom, K.METAL)) == 3071
    assert 900 < np.median(hu_of(phantom, K.CEMENT)) < 3071
    metal = phantom.lesions == K.METAL
    for level in (L.L3, L.L4):
        held = metal & (phantom.labels == verse_label(level))
        assert held.sum() * 1.5**3 > 150, level
    # Two screws of one vertebra, as long and thick as their tubes say.
    shafts = [
        lesion.solids[0]
        for lesion in spine[L.L3].findings.lesions
        if lesion.kind is K.METAL and len(lesion.solids) == 2
    ]
    assert len(shafts) >= 2
    assert all(35 < np.ptp(shaft.points, axis=0).max() < 65 for shaft in shafts[:2])  # type: ignore[union-attr]


def test_cement_and_metal_are_denser_at_low_voltage() -> None:
    for tissue in (Tissue.CEMENT, Tissue.METAL):
        low, high = (CtPalette(kvp).tissue(Matter(tissue)) for kvp in (80, 140))
        assert low > 1.5 * high


def test_a_palette_knows_every_tissue() -> None:
    palette = CtPalette.sample(np.random.default_rng(3), training=True)
    for tissue in Tissue:
        if tissue is not Tissue.BONE:
            assert np.isfinite(palette.tissue(Matter(tissue)))


def test_a_cleft_holds_gas_or_fluid_below_the_endplate_of_a_collapsed_body() -> None:
    spine = person(4, {L.T12: (D.KD,)}, {L.T12: ("wedge", 2)})
    phantom = scan(spine, L.T12, 1.0, (44.0, 50.0, 56.0))
    cleft = phantom.lesions == K.CLEFT
    assert cleft.sum() > 60
    assert (phantom.labels[cleft] == verse_label(L.T12)).all()
    matter = next(x.matter for x in spine[L.T12].findings.lesions if x.kind is K.CLEFT)
    darkest = np.percentile(hu_of(phantom, K.CLEFT), 10)
    assert darkest < -500 if matter.tissue is Tissue.GAS else -20 < darkest < 150
    height = np.argwhere(cleft)[:, 0].mean()
    body = np.argwhere(phantom.labels == verse_label(L.T12))[:, 0]
    assert height > body.mean()


def test_a_schmorls_node_is_disc_in_a_hard_bowl() -> None:
    spine = person(5, {L.L2: (D.SN,)}, {})
    phantom = scan(spine, L.L2, 0.8, (46.0, 50.0, 56.0))
    pit = phantom.lesions == K.SCHMORL
    assert pit.sum() * 0.8**3 > 30
    assert (phantom.labels[pit] == 0).mean() > 0.95
    assert 40 < np.median(hu_of(phantom, K.SCHMORL)) < 200
    around = np.zeros_like(pit)
    for axis in range(3):
        for shift in (-2, 2):
            around |= np.roll(pit, shift, axis)
    rim = around & ~pit & (phantom.labels == verse_label(L.L2))
    core = (phantom.labels == verse_label(L.L2)) & ~around
    assert phantom.hu[rim].mean() > phantom.hu[core].mean() + 100


def test_lytic_tumour_is_soft_and_blastic_is_hard_and_masses_lie_beside_the_bone() -> None:
    found: dict[LesionKind, float] = {}
    outside = 0
    # Persons with a lytic, a blastic and a mixed tumour, the first and the last with a mass beside it.
    for seed in (0, 8, 4):
        spine = person(seed, {L.L2: (D.MALIGNANT,)}, {})
        phantom = scan(spine, L.L2, 2.0, (48.0, 66.0, 90.0))
        for kind in kinds(phantom) & {K.LYTIC, K.BLASTIC, K.MIXED, K.SOFT_MASS}:
            found[kind] = float(np.median(hu_of(phantom, kind)))
        mass = phantom.lesions == K.SOFT_MASS
        outside += int(mass.sum())
        assert not phantom.whole_labels[mass].any()
    assert 30 < found[K.LYTIC] < 130
    assert found[K.BLASTIC] > 300
    assert found[K.LYTIC] < found[K.MIXED] < found[K.BLASTIC]
    assert 30 < found[K.SOFT_MASS] < 90
    assert outside > 100


def test_the_lesions_of_the_truth_are_where_the_label_map_has_them() -> None:
    _, phantom = surgical()
    inside = np.linalg.inv(phantom.affine)
    checked = 0
    for entry in phantom.truth["vertebrae"]:
        axes = np.array([entry["axes"][name] for name in ("left", "posterior", "superior")])
        for lesion in entry["lesions"]:
            if lesion["kind"] != "cement":
                continue
            voxels = np.argwhere(phantom.lesions == lesion["number"]) @ phantom.affine[:3, :3].T
            away = (voxels + phantom.affine[:3, 3] - lesion["center_mm"]) @ axes.T
            near = (np.abs(away) < np.array(lesion["size_mm"]) / 2 + 1.5).all(axis=1)
            assert near.any()
            center = inside[:3, :3] @ lesion["center_mm"] + inside[:3, 3]
            assert (center > 0).all()
            checked += 1
    assert checked


def test_discs_and_canal_have_labels_of_their_own() -> None:
    spine = person(9, "none", {})
    phantom = scan(spine, L.L3, 1.5, (66.0, 90.0, 60.0))
    middle = phantom.structures.shape[2] // 2
    numbers = set(np.unique(phantom.structures)) - {0}
    assert {CANAL_LABEL, DISC_LABEL + verse_label(L.L2), DISC_LABEL + verse_label(L.L3)} <= numbers
    assert not (phantom.structures[phantom.whole_labels > 0]).any()
    canal = np.argwhere(phantom.structures[:, :, middle] == CANAL_LABEL)[:, 1].mean()
    body = np.argwhere(phantom.labels[:, :, middle] > 0)[:, 1].mean()
    assert canal > body + 10
    above = np.argwhere(phantom.structures == DISC_LABEL + verse_label(L.L2))[:, 0].mean()
    assert above > np.argwhere(phantom.labels == verse_label(L.L3))[:, 0].mean() + 8


def test_gas_in_a_worn_disc_stays_in_the_disc() -> None:
    spine = person(2, "none", {}, wear="rich")
    worn = [v.level for v, state in zip(spine.vertebrae, spine.wear, strict=False) if state.vacuum]
    phantom = scan(spine, worn[-1], 0.8, (70.0, 50.0, 60.0))
    gas = phantom.lesions == K.VACUUM
    assert gas.sum() > 5
    assert not phantom.whole_labels[gas].any()
    assert np.percentile(hu_of(phantom, K.VACUUM), 5) < -250
    told = [disc for disc in phantom.truth["discs"] if disc["vacuum"]]
    assert worn[-1].value in {disc["above"] for disc in told}
