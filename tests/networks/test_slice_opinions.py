"""From slices to vertebrae: one odd slice does not decide, and two slices are enough."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.networks.ct_diseases import DISEASES, NORMAL, OUTPUTS
from dicom_ai_node.networks.slice_opinions import best_slices, over_slices
from dicom_ai_node.report import DISEASES as REPORTED
from dicom_ai_node.report import NO_DISEASE

NAMES = ("SN", NORMAL)


def test_the_waist_knows_the_diseases_of_the_classifier() -> None:
    assert tuple(REPORTED) == DISEASES
    assert NO_DISEASE == NORMAL
    assert (*DISEASES, NORMAL) == OUTPUTS


def test_a_node_on_two_neighbouring_slices_is_reported_and_one_odd_slice_is_not() -> None:
    node = np.array([[0.0, 0.9], [0.9, 0.1], [0.8, 0.1], [0.0, 0.9], [0.0, 0.9]])
    odd = np.array([[0.0, 0.9], [0.9, 0.1], [0.0, 0.9], [0.0, 0.9], [0.0, 0.9]])
    assert over_slices(node, NAMES) == pytest.approx([0.85, 0.1])
    assert over_slices(odd, NAMES) == pytest.approx([0.45, 0.5])


def test_a_vertebra_on_one_slice_is_judged_by_that_slice() -> None:
    assert over_slices(np.array([[0.7, 0.2]]), NAMES) == pytest.approx([0.7, 0.2])


def test_the_order_of_the_slices_does_not_matter_from_either_side() -> None:
    said = np.random.default_rng(0).random((7, len(OUTPUTS)))
    np.testing.assert_allclose(over_slices(said), over_slices(said[::-1]))


def test_of_equally_good_slices_the_middle_one_is_shown() -> None:
    said = np.array([[0.5, 0.1], [0.5, 0.9], [0.5, 0.2]])
    assert best_slices(said).tolist() == [1, 1]
