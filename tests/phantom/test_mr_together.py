"""Series that are painted together are those that are painted one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.mr import MrAcquisition, render_mr, render_mr_together
from dicom_ai_node.phantom.mr_kspace import Readout
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.mr_study import SAGITTAL, stack_affine
from dicom_ai_node.phantom.mr_together import joined
from dicom_ai_node.phantom.spine import Spine, sample_spine

T1 = MrSequence("t1", "SE", 550.0, 11.0, echo_train=3, magnetisation_transfer=0.4)
T2 = MrSequence("t2", "SE", 3600.0, 100.0, echo_train=17, magnetisation_transfer=0.7)
STIR = MrSequence("stir", "IR", 4200.0, 50.0, inversion_ms=165.0, echo_train=12)
GRADIENT = MrSequence("localizer", "GR", 9.0, 4.0, flip_deg=20.0)


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(5, fractures={})


def about_l2(spine: Spine, sequence: MrSequence) -> MrAcquisition:
    """Two sagittal slices of 48 x 48 pixels of 2 mm."""
    shape = (2, 48, 48)
    center = spine[Level.L2].frame[:3, 3]
    return MrAcquisition(
        sequence.kind, "sagittal", shape, stack_affine(center, SAGITTAL, shape, (4.0, 2.0)), 4.0,
        MrPalette(sequence), Readout((44, 44), noise=3.0), subslice_mm=2.0, seed=5,
    )  # fmt: skip


def test_painted_together_is_painted_alone(spine: Spine) -> None:
    wanted = [about_l2(spine, sequence) for sequence in (T1, T2, STIR)]
    together = render_mr_together(spine, wanted)
    for one, made in zip(wanted, together, strict=True):
        alone = render_mr(spine, one)
        np.testing.assert_array_equal(made.labels, alone.labels)
        np.testing.assert_array_equal(made.structures, alone.structures)
        assert made.truth == alone.truth
        # The texture of soft tissue has one amplitude for all series; bone, fat and fluid are the same.
        seen, expected = made.pixels.astype(float), alone.pixels.astype(float)
        assert np.corrcoef(seen.ravel(), expected.ravel())[0, 1] > 0.98
        bodies = made.labels > 0
        assert np.median(seen[bodies]) == pytest.approx(np.median(expected[bodies]), rel=0.05)
    assert np.median(together[0].pixels) != np.median(together[1].pixels)


def test_what_lies_elsewhere_is_not_painted_together(spine: Spine) -> None:
    first = about_l2(spine, T1)
    affine = first.affine.copy()
    affine[0, 3] += 0.5
    aside = replace(first, affine=affine)
    with pytest.raises(ValueError, match="one grid"):
        render_mr_together(spine, [first, aside])
    with pytest.raises(ValueError, match="gradient echo"):
        render_mr_together(spine, [first, about_l2(spine, GRADIENT)])


def test_one_palette_stays_itself() -> None:
    palette = MrPalette(T1)
    assert joined([palette]) is palette
    both = joined([palette, MrPalette(T2)])
    assert both.named("fat").flatten().tolist() == [
        *palette.named("fat").flatten().tolist(),
        *MrPalette(T2).named("fat").flatten().tolist(),
    ]
    with pytest.raises(ValueError, match="no palette"):
        joined([])
