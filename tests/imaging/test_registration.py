"""Phantom series that moved by known amounts come back to within a fraction of a slice, or are refused."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.registration import RegistrationLimits, register, resampled, similarity
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.mr import MrAcquisition, render_mr
from dicom_ai_node.phantom.mr_kspace import Readout
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.mr_study import SAGITTAL, stack_affine
from dicom_ai_node.phantom.spine import Spine, sample_spine

T1 = MrSequence("t1", "SE", 550.0, 11.0, echo_train=3, magnetisation_transfer=0.4)
T2 = MrSequence("t2", "SE", 3600.0, 100.0, echo_train=17, magnetisation_transfer=0.7)


@dataclass(frozen=True, eq=False)
class Image:
    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]


def drawn(spine: Spine, sequence: MrSequence) -> Image:
    """Nine sagittal slices of 88 x 88 pixels of 2.5 mm about L2."""
    shape = (9, 88, 88)
    center = spine[Level.L2].frame[:3, 3] + spine[Level.L2].frame[:3, 1] * 10.0
    acquisition = MrAcquisition(
        "test", "sagittal", shape, stack_affine(center, SAGITTAL, shape, (5.0, 2.5)), 4.0,
        MrPalette(sequence), Readout((88, 88), noise=8.0, apodisation=0.2), white=2000, texture=0.02, seed=5,
    )  # fmt: skip
    rendered = render_mr(spine, acquisition)
    return Image(rendered.pixels, rendered.affine)


@pytest.fixture(scope="module")
def spine() -> Spine:
    return sample_spine(5, fractures={})


@pytest.fixture(scope="module")
def pair(spine: Spine) -> tuple[Image, Image]:
    return drawn(spine, T2), drawn(spine, T1)


def moved(image: Image, shift_mm: tuple[float, float, float], turn_deg: float) -> tuple[Image, np.ndarray]:
    """The image as if the patient had moved before it: its grid turned about its middle, and the motion."""
    middle = image.affine[:3, :3] @ ((np.array(image.voxels.shape) - 1) / 2) + image.affine[:3, 3]
    motion = np.eye(4)
    motion[:3, :3] = rotation(np.radians(turn_deg), np.radians(0.5 * turn_deg), 0.0)
    motion[:3, 3] = middle - motion[:3, :3] @ middle + shift_mm
    return replace(image, affine=motion @ image.affine), motion


def error_mm(spine: Spine, found: np.ndarray, true: np.ndarray) -> float:
    """Mean distance between where the centres of T11 to L5 are put and where they are."""
    levels = (Level.T12, Level.L1, Level.L2, Level.L3, Level.L4)
    points = np.array([[*spine[level].frame[:3, 3], 1.0] for level in levels]).T
    return float(np.linalg.norm(((found - true) @ points)[:3], axis=0).mean())


@pytest.mark.parametrize(
    ("shift", "turn"), [((0.0, 0.0, 0.0), 0.0), ((1.5, 3.0, -4.0), 2.0), ((-2.0, -5.0, 6.0), -3.0)]
)
def test_a_known_motion_is_found(
    spine: Spine, pair: tuple[Image, Image], shift: tuple[float, float, float], turn: float
) -> None:
    fixed, still = pair
    moving, true = moved(still, shift, turn)
    found = register(fixed, moving)
    assert error_mm(spine, found.transform, true) < 1.0, found.check.in_words()
    assert found.check.similarity_after >= found.check.similarity_before - 1e-3
    image, inside = found.onto(moving, fixed)
    assert image.shape == fixed.voxels.shape
    assert inside.mean() > 0.8
    known, _ = resampled(moving, fixed, true)
    best = similarity(fixed, Image(known, fixed.affine), np.eye(4))
    assert similarity(fixed, Image(image, fixed.affine), np.eye(4)) > 0.95 * best


@pytest.mark.parametrize("longer", [0.96, 1.04])
def test_a_partner_that_is_stretched_is_met_by_a_motion_that_changes_no_length(
    spine: Spine, pair: tuple[Image, Image], longer: float
) -> None:
    # Gradients of another scanner, or of another distance from its middle.
    fixed, still = pair
    middle = still.affine[:3, :3] @ ((np.array(still.voxels.shape) - 1) / 2) + still.affine[:3, 3]
    stretch = np.diag([1.0, 1.0, longer, 1.0])
    stretch[:3, 3] = middle - stretch[:3, :3] @ middle + [0.0, 2.0, -2.0]
    found = register(fixed, replace(still, affine=stretch @ still.affine))
    np.testing.assert_allclose(found.transform[:3, :3] @ found.transform[:3, :3].T, np.eye(3), atol=1e-9)
    assert error_mm(spine, found.transform, stretch) < 2.5, found.check.in_words()


def test_the_same_images_give_the_same_motion(pair: tuple[Image, Image]) -> None:
    fixed, still = pair
    moving, _ = moved(still, (0.0, 3.0, 2.0), 1.0)
    first, second = register(fixed, moving), register(fixed, moving)
    # Sums over vectors of memory end in the last digits as memory is aligned.
    np.testing.assert_allclose(first.transform, second.transform, atol=1e-9)


@pytest.mark.parametrize(
    ("shift", "limits", "word"),
    [
        ((0.0, 0.0, 200.0), RegistrationLimits(), "in common"),
        ((0.0, 4.0, 4.0), RegistrationLimits(largest_move_mm=2.0), "a motion of"),
        ((0.0, 0.0, 0.0), RegistrationLimits(least_peak=0.99), "beside the found place"),
        ((0.0, 4.0, 4.0), RegistrationLimits(largest_inverse_error_mm=0.0), "there and back"),
    ],
)
def test_a_motion_that_fails_a_check_is_refused(
    pair: tuple[Image, Image], shift: tuple[float, float, float], limits: RegistrationLimits, word: str
) -> None:
    moving, _ = moved(pair[1], shift, 0.0)
    with pytest.raises(NotAnalysable) as caught:
        register(pair[0], moving, limits=limits)
    assert caught.value.code == "registration"
    assert word in caught.value.text


def test_noise_is_no_partner(pair: tuple[Image, Image]) -> None:
    fixed = pair[0]
    noise = np.random.default_rng(0).normal(100.0, 20.0, fixed.voxels.shape).astype(np.float32)
    with pytest.raises(NotAnalysable) as caught:
        register(fixed, Image(noise, fixed.affine))
    assert caught.value.code == "registration"
    with pytest.raises(NotAnalysable, match="empty"):
        register(fixed, Image(np.zeros_like(noise), fixed.affine))


def test_outside_the_moving_image_is_nothing(pair: tuple[Image, Image]) -> None:
    fixed = pair[0]
    shift = np.eye(4)
    shift[2, 3] = 100.0
    image, inside = resampled(fixed, fixed, shift)
    assert 0.3 < inside.mean() < 0.8
    assert not image[~inside].any()
    whole, everywhere = resampled(fixed, fixed, np.eye(4))
    assert everywhere.all()
    np.testing.assert_allclose(whole, fixed.voxels, rtol=1e-4, atol=1e-3)
