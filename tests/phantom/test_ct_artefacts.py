"""What goes wrong in a scanner, other ways of cutting (tilted gantry, reformats), and worn discs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.phantom import (
    CtAcquisition,
    Disease,
    LesionKind,
    Spine,
    SpineOptions,
    reformat_grid,
    reformatted,
    render_ct,
    sample_ct_acquisition,
    sample_spine,
    tilted,
    truth,
)
from dicom_ai_node.phantom.ct_streaks import Beam, add_streaks

D, L = Disease, Level


def upright(spine: Spine, spacing: float = 2.0, **changes: object) -> CtAcquisition:
    shape = (round(70 / spacing), round(130 / spacing), round(120 / spacing))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing], [0, spacing, 0], [-spacing, 0, 0]])
    affine[:3, 3] = spine[L.L3].frame[:3, 3] + np.array([-60.0, -55.0, 35.0])
    plain = CtAcquisition(shape, affine, spacing, resolution_mm=spacing, noise_hu=0.0, table=False, seed=5)
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def screwed() -> Spine:
    return sample_spine(20, fractures={}, options=SpineOptions(diseases={L.L3: (D.PS,), L.L4: (D.PS,)}))


@pytest.fixture(scope="module")
def sound() -> Spine:
    return sample_spine(20, fractures={}, options=SpineOptions(supernumerary="none"))


def test_metal_throws_streaks_over_its_slices_and_no_others(screwed: Spine) -> None:
    clean, streaked = (render_ct(screwed, upright(screwed, streaks=s)) for s in (0.0, 1.0))
    wrong = np.abs(streaked.hu.astype(float) - clean.hu)
    metal = (clean.lesions == LesionKind.METAL).any(axis=(1, 2))
    assert metal.any()
    with_metal = wrong[metal].mean(axis=(1, 2))
    assert 8 < with_metal.mean() < 200
    np.testing.assert_array_equal(clean.lesions, streaked.lesions)
    np.testing.assert_array_equal(clean.labels, streaked.labels)
    quiet = ~((clean.hu > 2000).any(axis=(1, 2)) | metal)
    assert not quiet.any() or wrong[quiet].max() == 0


def test_streaks_are_dark_between_two_dense_parts() -> None:
    """The textbook picture: two rods in water, a dark band on the line that joins them."""
    y, x = np.mgrid[:160, :160] * 1.5 - 119.25
    image = np.where(x**2 + y**2 < 105**2, 0.0, -1000.0)
    for side in (-30.0, 30.0):
        image[(x - side) ** 2 + y**2 < 25.0] = 9000.0
    value = torch.from_numpy(image.astype(np.float32))[None]
    before = value.clone()
    add_streaks(value, (1.5, 1.5), Beam(120, 1), 0)
    change = (value - before)[0].numpy()
    between = change[78:82, 72:88].mean()
    across = change[40:60, 72:88].mean()
    assert between < across - 60
    assert np.abs(change[:3]).max() < 500


def test_streaks_of_a_slice_do_not_depend_on_its_neighbours() -> None:
    stack = torch.zeros(3, 80, 80)
    stack[:, 30:34, 20:24] = 8000.0
    stack[2, 50:54, 60:64] = 8000.0
    whole = stack.clone()
    add_streaks(whole, (2.0, 2.0), Beam(120, 4), 10)
    alone = stack[2:].clone()
    add_streaks(alone, (2.0, 2.0), Beam(120, 4), 12)
    assert torch.equal(whole[2:], alone)


def test_motion_doubles_contours_and_keeps_the_labels(sound: Spine) -> None:
    still, moved = (render_ct(sound, upright(sound, motion_mm=m)) for m in (0.0, 6.0))
    np.testing.assert_array_equal(still.labels, moved.labels)
    change = np.abs(moved.hu.astype(float) - still.hu).mean(axis=(1, 2))
    assert change.max() > 15
    assert abs(float(moved.hu.mean()) - float(still.hu.mean())) < 3
    sharp = [np.abs(np.diff(p.hu[change.argmax()].astype(float), axis=1)).mean() for p in (still, moved)]
    assert sharp[1] < sharp[0]


def test_a_tilted_gantry_shears_the_grid_and_sees_the_same_body(sound: Spine) -> None:
    straight = upright(sound)
    leaning = tilted(straight, 18.0)
    step, rows = leaning.affine[:3, 0], leaning.affine[:3, 1]
    assert abs(
        np.degrees(np.arcsin(step @ rows / np.linalg.norm(step) / np.linalg.norm(rows)))
    ) == pytest.approx(18)
    a, b = render_ct(sound, straight), render_ct(sound, leaning)
    label = verse_label(L.L3)
    volumes = [(p.labels == label).sum() * abs(np.linalg.det(p.affine[:3, :3])) for p in (a, b)]
    assert abs(volumes[1] / volumes[0] - 1) < 0.03
    centers = [
        np.argwhere(p.labels == label).mean(axis=0) @ p.affine[:3, :3].T + p.affine[:3, 3] for p in (a, b)
    ]
    assert np.linalg.norm(centers[0] - centers[1]) < 0.7


def test_artefacts_are_drawn_beside_all_else(sound: Spine) -> None:
    kinds = set()
    for seed in range(60):
        plain = sample_ct_acquisition(seed, sound)
        spoilt = sample_ct_acquisition(seed, sound, artefacts=True)
        same = replace(spoilt, affine=plain.affine, streaks=plain.streaks, motion_mm=plain.motion_mm)
        assert repr(same) == repr(plain)
        kinds.add((bool(spoilt.motion_mm), bool((spoilt.affine != plain.affine).any())))
    assert kinds >= {(False, False), (True, False), (False, True)}


@pytest.mark.parametrize("plane", ["sagittal", "coronal"])
def test_a_reformat_shows_what_the_axial_series_has(screwed: Spine, plane: str) -> None:
    source = render_ct(screwed, upright(screwed, streaks=1.0))
    about = screwed[L.L3].frame[:3, 3]
    shape, affine = reformat_grid(source, plane, (3.0, 2.0, 2.0), about, 3)  # type: ignore[arg-type]
    made = reformatted(source, screwed, shape, affine, thickness_mm=2.0)
    assert made.hu.shape == made.labels.shape == made.lesions.shape == shape
    directly = render_ct(screwed, replace(upright(screwed), shape=shape, affine=affine))
    inner = (slice(None), slice(4, -4), slice(4, -4))
    assert (made.labels[inner] == directly.labels[inner]).mean() > 0.95
    both = np.corrcoef(made.hu[inner].ravel().clip(-300, 800), directly.hu[inner].ravel().clip(-300, 800))[
        0, 1
    ]
    assert both > 0.85
    entry = next(item for item in made.truth["vertebrae"] if item["level"] == "L3")
    assert 0 < entry["visible"] < 1


def test_worn_discs_are_lower_and_slipped_vertebrae_stand_forward() -> None:
    narrowed = slipped = 0
    for seed in range(8):
        fresh, worn = (
            sample_spine(
                seed, fractures={}, options=SpineOptions(supernumerary="none", rotation=0.0, degeneration=w)
            )
            for w in ("none", "rich")
        )
        np.testing.assert_allclose(fresh[L.S1].frame, worn[L.S1].frame)
        for k, state in enumerate(worn.wear):
            before, after = fresh.discs[k].gap, worn.discs[k].gap
            # Discs whose rims nearly touch already have nothing to lose.
            assert 1.2 < after <= before + (0.3 if state.slip_mm == 0 else 1.5)
            narrowed += after < before - 0.4
            if abs(state.slip_mm) > 2.5:
                back = [
                    (spine.vertebrae[k].frame[:3, 3] - spine.vertebrae[k + 1].frame[:3, 3])
                    @ spine.vertebrae[k + 1].frame[:3, 1]
                    for spine in (fresh, worn)
                ]
                assert back[0] - back[1] == pytest.approx(state.slip_mm, abs=0.05)
                slipped += 1
        told = truth(worn)["discs"]
        assert [disc["slip_mm"] for disc in told] == [round(state.slip_mm, 2) for state in worn.wear]
    assert narrowed > 5
    assert slipped > 0


def test_variants_are_there_when_asked_for_and_not_else() -> None:
    options = SpineOptions(supernumerary="none", uncinate=True, sacralised=True)
    spine, usual = sample_spine(4, fractures={}, options=options), sample_spine(4, fractures={})
    entries = {entry["level"]: entry for entry in truth(spine)["vertebrae"]}
    assert entries["L5"]["transitional"]
    assert not entries["L4"]["transitional"]
    low, high = spine[L.L5].arch.extent
    assert high[0] > usual[L.L5].arch.extent[1][0] * 0.8
    assert low[2] < usual[L.L5].arch.extent[0][2] + 10
    assert spine[L.C5].body.uncus > 2 > usual[L.C5].body.uncus == 0
    corner = entries["C5"]["corners"]
    rise = np.array(corner["left_superior"]) - np.array(corner["anterior_superior"])
    assert rise @ np.array(entries["C5"]["axes"]["superior"]) > 1.5
