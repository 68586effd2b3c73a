"""The scanner: same seed same bytes, right contrasts in place, series that do not quite agree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.mr import MrAcquisition, MrPhantom, render_mr
from dicom_ai_node.phantom.mr_coil import Coil
from dicom_ai_node.phantom.mr_kspace import Readout
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.mr_study import SAGITTAL, sample_mr_study, stack_affine
from dicom_ai_node.phantom.painting import CANAL_LABEL, DISC_LABEL, paint
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine
from dicom_ai_node.phantom.tissues import Marrow
from dicom_ai_node.phantom.truth import visible_share

T1 = MrSequence("t1", "SE", 550.0, 11.0, echo_train=3, magnetisation_transfer=0.4)
T2 = MrSequence("t2", "SE", 3600.0, 100.0, echo_train=17, magnetisation_transfer=0.7)
STIR = MrSequence("stir", "IR", 4200.0, 50.0, inversion_ms=165.0, echo_train=12)
QUIET = Readout((112, 112), noise=0.0, apodisation=0.2)


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(5, fractures={})


def small(spine: Spine, sequence: MrSequence = T2, **changes: object) -> MrAcquisition:
    """Three sagittal slices of 112 x 112 pixels of 1.25 mm about L2."""
    shape = (3, 112, 112)
    center = spine[Level.L2].frame[:3, 3] + spine[Level.L2].frame[:3, 1] * 10.0
    acquisition = MrAcquisition(
        "test", "sagittal", shape, stack_affine(center, SAGITTAL, shape, (4.0, 1.25)), 4.0,
        MrPalette(sequence), QUIET, white=2000, texture=0.0, seed=5,
    )  # fmt: skip
    return replace(acquisition, **changes)  # type: ignore[arg-type]


def flat(phantom: MrPhantom) -> npt.NDArray[np.float64]:
    return phantom.pixels.astype(float)


def at(phantom: MrPhantom, spine: Spine, level: Level, v: float, w: float = 0.0) -> float:
    """Median of 5 x 5 pixels in the plane at (0, v, w) of a body's frame."""
    point = spine[level].frame @ np.array([0.0, v, w, 1.0])
    k, r, c = np.rint(np.linalg.inv(phantom.affine) @ point)[:3].astype(int)
    return float(np.median(phantom.pixels[k, r - 2 : r + 3, c - 2 : c + 3]))


def sac(spine: Spine, level: Level) -> float:
    return spine[level].body.back_upper + 9.0


def with_marrow(spine: Spine, level: Level, marrow: Marrow) -> Spine:
    """The same person with another filling of one body."""
    vertebrae = tuple(
        replace(v, matter=replace(v.matter, marrow=marrow)) if v.level is level else v
        for v in spine.vertebrae
    )
    return replace(spine, vertebrae=vertebrae)


def test_the_same_arguments_give_the_same_bytes_whatever_the_threads(spine: Spine) -> None:
    threads = torch.get_num_threads()
    noisy = replace(QUIET, noise=8.0, pulsation=0.1, breathing=0.1, partial=0.7, motion_px=0.3)
    acquisition = small(spine, readout=noisy, randomise=0.5, texture=0.03, shape=(1, 112, 112))
    rendered = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            rendered.append(render_mr(sample_spine(5, fractures={}), acquisition))
    finally:
        torch.set_num_threads(threads)
    assert rendered[0].pixels.tobytes() == rendered[1].pixels.tobytes()
    assert rendered[0].labels.tobytes() == rendered[1].labels.tobytes()
    assert rendered[0].truth == rendered[1].truth


def test_contrasts_lie_where_the_anatomy_says(spine: Spine) -> None:
    t1, t2, stir = (render_mr(spine, small(spine, sequence)) for sequence in (T1, T2, STIR))
    level = Level.L3
    canal = sac(spine, level)
    assert at(t2, spine, level, canal) > 1.3 * at(t2, spine, level, 0.0, 6.0)
    assert at(t1, spine, level, canal) < 0.8 * at(t1, spine, level, 0.0, 6.0)
    assert at(stir, spine, level, canal) > 2.0 * at(stir, spine, level, 0.0, 6.0)
    assert t1.pixels.dtype == np.uint16
    assert 1500 < t1.pixels.max() < 20000
    # The endplates are dark lines: across a disc the signal falls twice.
    body = spine[level].body
    mid = 0.5 * (body.upper_front + body.upper_back) - body.dish_upper
    assert at(t1, spine, level, 0.0, 6.0) > 1.2 * at(t1, spine, level, 0.0, mid + 0.3)


@pytest.mark.parametrize(
    ("marrow", "dark", "bright"),
    [(Marrow(0.45, oedema=0.8), 0.8, 1.5), (Marrow(0.45, tumour=0.9), 0.8, 1.3)],
    ids=["oedema", "tumour"],
)
def test_sick_marrow_is_dark_on_t1_and_bright_on_stir(
    spine: Spine, marrow: Marrow, dark: float, bright: float
) -> None:
    sick = with_marrow(spine, Level.L2, marrow)
    for sequence, holds in ((T1, lambda ratio: ratio < dark), (STIR, lambda ratio: ratio > bright)):
        acquisition = small(spine, sequence, shape=(1, 112, 112))
        values = []
        for person in (spine, sick):
            phantom = render_mr(person, acquisition)
            # Relative to a neighbour, which is the same in both.
            body, other = (phantom.labels == verse_label(level) for level in (Level.L2, Level.L3))
            values.append(float(flat(phantom)[body].mean() / flat(phantom)[other].mean()))
        assert holds(values[1] / values[0]), (sequence.kind, values)


def test_labels_are_those_of_any_modality(spine: Spine) -> None:
    acquisition = small(spine)
    phantom = render_mr(spine, acquisition)
    assert not phantom.lesions.any()
    plain = paint(
        spine, Grid(acquisition.shape, acquisition.affine, torch.device("cpu")), acquisition.palette
    )
    assert (phantom.labels == plain.bodies.numpy()).mean() > 0.999
    assert (phantom.whole_labels == plain.whole.numpy()).mean() > 0.999
    assert (phantom.structures == plain.structures.numpy()).mean() > 0.999
    assert {CANAL_LABEL, DISC_LABEL + verse_label(Level.L2)} <= set(np.unique(phantom.structures))
    assert {verse_label(level) for level in (Level.L1, Level.L2, Level.L3)} <= set(np.unique(phantom.labels))


def test_a_patient_who_has_moved_has_moved_in_pixels_labels_and_truth(spine: Spine) -> None:
    motion = np.eye(4)
    motion[:3, 3] = [0.0, 5.0, -10.0]
    still, moved = render_mr(spine, small(spine)), render_mr(spine, small(spine, motion=motion))
    np.testing.assert_array_equal(still.affine, moved.affine)
    # 10 mm to the feet are 8 rows down, 5 mm to the back 4 columns.
    np.testing.assert_array_equal(still.labels[:, :-8, :-4], moved.labels[:, 8:, 4:])
    inner = (slice(None), slice(30, 80), slice(30, 80))
    shifted = np.roll(flat(still), (8, 4), axis=(1, 2))[inner]
    assert np.corrcoef(shifted.ravel(), flat(moved)[inner].ravel())[0, 1] > 0.99
    points = [next(v for v in p.truth["vertebrae"] if v["level"] == "L2") for p in (still, moved)]
    np.testing.assert_allclose(
        np.array(points[1]["center_mm"]) - points[0]["center_mm"], [0.0, 5.0, -10.0], atol=2e-3
    )
    assert points[0]["heights_mm"] == points[1]["heights_mm"]


def test_a_band_in_front_and_a_coil_behind_shape_the_brightness(spine: Spine) -> None:
    plain = render_mr(spine, small(spine))
    banded = render_mr(spine, small(spine, saturation_ahead_mm=32.0))
    front, back = (slice(None), slice(None), slice(3, 11)), (slice(None), slice(None), slice(50, 80))

    def share(phantom: MrPhantom) -> float:
        return float(flat(phantom)[front].mean() / flat(phantom)[back].mean())

    assert share(banded) < 0.6 * share(plain)
    even = render_mr(spine, small(spine, coil=Coil(evened=0.9)))
    assert share(even) > share(plain)


def test_what_lies_outside_folds_in_along_the_phase_direction(spine: Spine) -> None:
    plain, wrapped = render_mr(spine, small(spine)), render_mr(spine, small(spine, wrap=0.1))
    scale = np.median(flat(plain)[:, 40:70, 30:80]) / np.median(flat(wrapped)[:, 40:70, 30:80])
    changed = np.abs(flat(wrapped) * scale - flat(plain)).mean(axis=(0, 2))
    assert changed[:6].mean() > 5 * changed[40:70].mean()
    np.testing.assert_array_equal(plain.labels, wrapped.labels)


@pytest.mark.parametrize("training", [False, True])
def test_studies_hold_t1_t2_stir_and_a_localizer_of_one_spine(training: bool) -> None:
    grids_differ = 0
    for seed in range(6):
        spine = sample_spine(seed)
        study = sample_mr_study(seed, spine, training=training, max_matrix=384)
        assert {"t1", "t2", "stir", "localizer"} <= {one.series for one in study}
        assert {one.plane for one in study if one.series == "localizer"} == {"sagittal", "coronal", "axial"}
        t1, t2 = (next(one for one in study if one.series == kind) for kind in ("t1", "t2"))
        grids_differ += not np.allclose(t1.affine, t2.affine)
        assert np.array_equal(t2.motion, np.eye(4))
        assert len({one.palette.field_t for one in study}) == 1
        for one in study:
            if one.series == "localizer":
                continue
            step, row, column = one.spacing_mm
            assert 11 <= one.shape[0] <= 20
            assert row == pytest.approx(column)
            assert 0.5 <= row <= 1.3
            assert 3.0 <= one.slice_thickness_mm <= step + 1e-9
            grid = Grid(one.shape, one.affine, torch.device("cpu"))
            assert sum(visible_share(v, grid) > 0.7 for v in spine.vertebrae) >= 4, (seed, one.series)
    assert grids_differ >= 4


@pytest.mark.parametrize("extra", [None, Level.T13, Level.L6])
def test_a_spine_with_another_number_of_vertebrae_is_rendered(extra: Level | None) -> None:
    # Seed 93 has no T12.
    one = sample_spine(93) if extra is None else sample_spine(5, options=SpineOptions(supernumerary=extra))
    assert (Level.T12 in one.levels) == (extra is not None)
    phantom = render_mr(one, small(one))
    assert phantom.labels.any()
    assert phantom.pixels.std() > 10


def test_training_shows_contrasts_that_no_scanner_makes(spine: Spine) -> None:
    realistic, wild = (
        [sample_mr_study(seed, spine, training=training)[3] for seed in range(12)]
        for training in (False, True)
    )
    assert all(one.randomise == 0.0 for one in realistic)
    assert any(one.randomise > 0.0 for one in wild)
    spreads = [
        np.std([np.log(one.palette.person["red-marrow"][1]) for one in group]) for group in (realistic, wild)
    ]
    assert spreads[1] > 2 * spreads[0]
    odd = render_mr(spine, small(spine, randomise=1.0, seed=6, shape=(1, 112, 112)))
    plain = render_mr(spine, small(spine, shape=(1, 112, 112)))
    np.testing.assert_array_equal(odd.labels, plain.labels)
    assert abs(np.corrcoef(flat(odd).ravel(), flat(plain).ravel())[0, 1]) < 0.98
