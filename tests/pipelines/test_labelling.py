"""A chain is named once, in order, without gap or repeat, whatever single peaks say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_ai_node.anatomy import LEVELS, Level, may_follow
from dicom_ai_node.pipelines.labelling import (
    TYPICAL_SPACING_MM,
    Candidate,
    LabellingSettings,
    NamedCentre,
    above_sacrum,
    find_candidates,
    name_chain,
    with_thirteenth,
)
from dicom_ai_node.pipelines.mri import MRI_LABELLING

TRAINED = tuple(level for level in LEVELS if level.region in "TLS" and level is not Level.T13)
USUAL = tuple(level for level in TRAINED if level is not Level.L6)


def centres(present: tuple[Level, ...]) -> dict[Level, npt.NDArray[np.float64]]:
    heights = np.cumsum([0.0, *(TYPICAL_SPACING_MM[level] for level in present[:-1])])
    return {
        level: np.array([3.0, -20.0 * np.sin(z / 120), -z]) for level, z in zip(present, heights, strict=True)
    }


def candidate(center: npt.NDArray[np.float64], **evidence: float) -> Candidate:
    return Candidate(center, np.array([evidence.get(level.value, 0.0) for level in TRAINED]))


def beside(level: Level) -> list[Level]:
    return [
        other
        for other in USUAL
        if other is not level and (may_follow(level, other) or may_follow(other, level))
    ]


def spine(present: tuple[Level, ...], *, smear: float = 0.4) -> list[Candidate]:
    """Candidates as a trained network gives them: the right level, and its neighbours a little."""
    made = []
    for level, center in centres(present).items():
        near = {other.value: smear for other in beside(level)}
        made.append(candidate(center, **{**near, level.value: 0.8}))
    return made


def names(chain: list[NamedCentre]) -> list[Level]:
    return [link.level for link in chain]


def test_one_vertebra_that_looks_like_its_neighbour_is_put_right() -> None:
    present = USUAL[7:17]
    candidates = spine(present)
    candidates[3] = candidate(candidates[3].center_mm, **{present[4].value: 0.9, present[3].value: 0.2})
    assert names(name_chain(candidates, TRAINED)) == list(present)


def test_a_false_peak_beside_the_spine_is_left_out() -> None:
    present = USUAL[9:17]
    candidates = spine(present)
    rib = candidate(candidates[2].center_mm + np.array([80.0, 10.0, 5.0]), **{present[2].value: 0.5})
    ordered = sorted([*candidates, rib], key=lambda item: -item.center_mm[2])
    chain = name_chain(ordered, TRAINED)
    assert names(chain) == list(present)
    assert all(abs(link.center_mm[0] - 3.0) < 1e-6 for link in chain)


def test_a_missing_peak_is_interpolated_and_says_so() -> None:
    present = USUAL[9:17]
    candidates = spine(present)
    hidden = candidates.pop(4)
    chain = name_chain(candidates, TRAINED)
    assert names(chain) == list(present)
    assert [link.interpolated for link in chain].count(True) == 1
    assert chain[4].interpolated
    assert np.linalg.norm(chain[4].center_mm - hidden.center_mm) < 3


def test_l6_is_named_when_its_evidence_is_strong() -> None:
    present = (*USUAL[9:17], Level.L6, Level.S1)
    assert names(name_chain(spine(present, smear=0.1), TRAINED)) == list(present)


def test_a_spine_without_t12_is_not_given_one() -> None:
    """Eleven ribs: L1 is T11's neighbour, and the sacrum is in view."""
    present = tuple(level for level in (*USUAL[5:17], Level.S1) if level is not Level.T12)
    chain = name_chain(spine(present, smear=0.1), TRAINED)
    assert names(chain) == list(present)
    assert not any(link.interpolated for link in chain)


def test_a_t12_that_no_peak_shows_is_still_interpolated() -> None:
    present = USUAL[7:17]
    candidates = [item for item, level in zip(spine(present), present, strict=True) if level is not Level.T12]
    chain = name_chain(candidates, TRAINED)
    assert names(chain) == list(present)
    assert [link.level for link in chain if link.interpolated] == [Level.T12]


def test_t13_is_named_where_t12_and_l1_are_equally_likely_between_them() -> None:
    present = (*USUAL[8:12], Level.T13, *USUAL[12:17], Level.S1)
    candidates = spine(present, smear=0.1)
    between = candidates[4]
    candidates[4] = candidate(between.center_mm, T12=0.5, L1=0.5)
    assert names(name_chain(*with_thirteenth(candidates, TRAINED))) == list(present)


def test_no_t13_is_named_in_a_spine_that_has_none() -> None:
    present = (*USUAL[8:17], Level.S1)
    assert names(name_chain(*with_thirteenth(spine(present), TRAINED))) == list(present)


def test_a_chain_that_could_be_numbered_otherwise_says_how_unsure_it_is() -> None:
    unsure = name_chain(spine(USUAL[8:14], smear=0.75), TRAINED)
    sure = name_chain(spine(USUAL[8:14], smear=0.1), TRAINED)
    assert unsure[2].confidence < 0.6 < sure[2].confidence
    assert set(unsure[2].alternatives) >= {USUAL[9].value, USUAL[11].value}
    assert sum(unsure[2].alternatives.values()) + unsure[2].confidence == pytest.approx(1, abs=0.02)


def test_bodies_that_err_together_do_not_outweigh_a_clear_sacrum() -> None:
    """Evidence of a real lumbar MR: the further from the sacrum, the more a body looks like the next one."""
    seen: dict[tuple[float, float], dict[str, float]] = {
        (166, -7): {"T9": 0.1, "T10": 0.26, "T11": 0.51, "T12": 0.34, "L1": 0.1, "L2": 0.15, "L3": 0.09},
        (168, -31): {"T10": 0.1, "T11": 0.49, "T12": 0.71, "L1": 0.18},
        (169, -61): {"T11": 0.1, "T12": 0.63, "L1": 0.64},
        (167, -95): {"T12": 0.22, "L1": 0.79, "L2": 0.48},
        (166, -131): {"L1": 0.28, "L2": 0.83, "L3": 0.21},
        (165, -169): {"L2": 0.44, "L3": 0.84},
        (165, -208): {"L3": 0.64, "L4": 0.65},
        (169, -246): {"L4": 0.94, "L5": 0.32},
        (182, -281): {"L4": 0.11, "L5": 1.07, "S1": 0.08},
        (202, -308): {"L5": 0.2, "S1": 1.03},
    }
    column = [candidate(np.array([-23.0, *place]), **evidence) for place, evidence in seen.items()]
    right = [Level.T9, Level.T10, Level.T11, Level.T12, *USUAL[-6:]]
    assert names(name_chain(column, TRAINED)) != right
    assert names(name_chain(column, TRAINED, MRI_LABELLING)) == right


def test_nothing_found_is_an_empty_chain() -> None:
    assert name_chain([], TRAINED) == []


@settings(max_examples=40, deadline=None)
@given(
    start=st.integers(0, 10),
    length=st.integers(3, 8),
    noise=st.lists(st.floats(-5, 5), min_size=24, max_size=24),
    weak=st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
def test_names_always_run_in_order_without_gap_or_repeat(
    start: int, length: int, noise: list[float], weak: list[float]
) -> None:
    candidates = [
        Candidate(item.center_mm + np.array(noise[3 * i : 3 * i + 3]), item.evidence * weak[i])
        for i, item in enumerate(spine(USUAL[start : start + length]))
    ]
    named = names(name_chain(candidates, TRAINED))
    usual = [level for level in named if level is not Level.L6]
    positions = [USUAL.index(level) for level in usual]
    assert positions == list(range(positions[0], positions[0] + len(positions)))


def test_peaks_are_found_between_voxels() -> None:
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = [-50, -60, -70]
    shape, at = (24, 20, 22), np.array([10.3, 9.6, 11.25])
    squared = sum((grid - c) ** 2 for grid, c in zip(np.indices(shape), at, strict=True))
    heatmaps = np.zeros((len(TRAINED), *shape), np.float32)
    heatmaps[5] = np.exp(-squared / (2 * 1.75**2))
    (found,) = find_candidates(heatmaps, affine, LabellingSettings())
    np.testing.assert_allclose(found.center_mm, affine[:3, :3] @ at + affine[:3, 3], atol=0.6)
    assert found.evidence.argmax() == 5


def test_sacral_segments_below_a_clear_sacrum_name_nothing() -> None:
    present = USUAL[11:]
    column = spine(present)
    below = [
        candidate(column[-1].center_mm - np.array([0.0, -10.0, 20.0 * number]), S1=0.6, L5=0.3)
        for number in (1, 2)
    ]
    taken = above_sacrum([*column, *below], TRAINED)
    assert taken == column
    assert names(name_chain(taken, TRAINED)) == list(present)
    # Doubtful ones are left to the chain, and so is what looks more like a lumbar body.
    doubtful = [*column[:-1], candidate(column[-1].center_mm, S1=0.4), *below[:1]]
    assert above_sacrum(doubtful, TRAINED) == doubtful
    lumbar = [*column[:-1], candidate(column[-1].center_mm, S1=0.6, L5=0.7)]
    assert above_sacrum(lumbar, TRAINED) == lumbar
