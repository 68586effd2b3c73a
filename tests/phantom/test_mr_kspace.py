"""Artefacts that come from how k-space is read lie where theory puts them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicom_ai_node.phantom.mr_kspace import Plane, Readout, read_out
from dicom_ai_node.phantom.randomness import stream

QUIET = Readout((64, 64), apodisation=0.0, fat_shift_px=0.0, noise=0.0)
ZERO = torch.zeros((1, 64, 64))


def square(rows: slice = slice(20, 40), columns: slice = slice(24, 48)) -> torch.Tensor:
    image = torch.zeros((1, 64, 64))
    image[:, rows, columns] = 100.0
    return image


def read(readout: Readout, **plane: torch.Tensor) -> np.ndarray:
    parts = {"water": ZERO, "fat": ZERO, **plane}
    return read_out(Plane(**parts), readout, stream(1, "test"))[0].numpy()


def center(image: np.ndarray) -> np.ndarray:
    grid = np.indices(image.shape)
    return (grid * image).sum(axis=(1, 2)) / image.sum()


def test_all_of_k_space_gives_the_image_back() -> None:
    np.testing.assert_allclose(read(QUIET, water=square()), square()[0].numpy(), atol=1e-3)


@pytest.mark.parametrize(("axis", "moved"), [("rows", (0.0, 2.0)), ("columns", (2.0, 0.0))])
def test_fat_moves_along_the_frequency_direction(axis: str, moved: tuple[float, float]) -> None:
    shifted = read(replace(QUIET, phase_axis=axis, fat_shift_px=2.0), fat=square())  # type: ignore[arg-type]
    np.testing.assert_allclose(center(shifted) - center(square()[0].numpy()), moved, atol=1e-3)


def test_a_shift_counts_in_sampled_pixels() -> None:
    shifted = read(replace(QUIET, matrix=(64, 32), apodisation=1.0, fat_shift_px=2.0), fat=square())
    np.testing.assert_allclose(center(shifted) - center(square()[0].numpy()), (0.0, 4.0), atol=0.35)


def test_truncation_rings_at_edges_and_apodisation_calms_it() -> None:
    cut = read(replace(QUIET, matrix=(32, 32)), water=square())
    # The Gibbs overshoot is 9 % of a jump on each side, in two directions.
    assert 105.0 < cut.max() < 122.0
    assert read(replace(QUIET, matrix=(32, 32), apodisation=1.0), water=square()).max() < 103.0


def test_noise_is_rician_in_air_and_gaussian_in_signal() -> None:
    readout = replace(QUIET, noise=5.0)
    air = read(readout)
    assert air.mean() == pytest.approx(5.0 * np.sqrt(np.pi / 2), rel=0.05)
    bright = read(readout, water=torch.full((1, 64, 64), 200.0))
    assert bright.std() == pytest.approx(5.0, rel=0.08)


def test_noise_has_the_same_strength_on_a_smaller_matrix() -> None:
    image = read(replace(QUIET, matrix=(40, 48), noise=5.0), water=torch.full((1, 64, 64), 200.0))
    assert image.std() == pytest.approx(5.0, rel=0.12)


def test_ghosts_lie_along_the_phase_direction_at_the_frequency_of_the_motion() -> None:
    source = square(slice(30, 34), slice(30, 34))
    ghosted = read(replace(QUIET, pulsation=0.3, beats=16.0), water=source, pulsing=source)
    extra = ghosted - source[0].numpy()
    # On both sides, one stronger than the other: the blood changes in size and in phase.
    ghosts = sorted(float(extra[32 + way, 30:34].mean()) for way in (-16, 16))
    assert ghosts[1] > 10.0
    assert ghosts[0] > 0.1 * ghosts[1]
    # Nothing beside it in the frequency direction.
    assert np.abs(extra[:, :26]).max() < 1e-2
    turned = read(
        replace(QUIET, phase_axis="columns", pulsation=0.3, beats=16.0), water=source, pulsing=source
    )
    assert turned[30:34, 32 + 16].mean() > 5.0


def test_lines_that_are_never_read_blur_along_the_phase_direction() -> None:
    sharp = read(QUIET, water=square())
    blurred = read(replace(QUIET, partial=0.6), water=square())

    def steepest(image: np.ndarray, axis: int) -> float:
        return float(np.abs(np.diff(image, axis=axis))[18:42, 22:50].max())

    assert steepest(blurred, 0) < 0.85 * steepest(sharp, 0)
    # Along the other direction the edges stay.
    assert np.abs(np.diff(blurred[30])).max() > 95.0


def test_a_patient_who_moves_is_smeared() -> None:
    still, restless = read(QUIET, water=square()), read(replace(QUIET, motion_px=1.5), water=square())
    assert np.abs(restless - still).mean() > 0.5
    assert restless.sum() == pytest.approx(still.sum(), rel=0.25)


def test_readouts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be sampled"):
        read(replace(QUIET, matrix=(128, 64)))
    with pytest.raises(ValueError, match="more than half"):
        read(replace(QUIET, partial=0.4))
