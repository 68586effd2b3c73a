"""The networks of radiographs give the same answer on every device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dicom_ai_node.inference import film
from dicom_ai_node.inference.bundle import Bundle, find_models_dir, load_bundle
from tests.e2e.running_node import needs_models

pytestmark = [needs_models, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

BOX = np.array([180.0, 90.0, 260.0, 200.0])


def answer(bundle: Bundle, pixels: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float64]]:
    """Numbers that a bundle of radiographs gives for a film."""
    if bundle.name == "radiograph-view":
        return [np.array([*film.view(bundle, pixels).values()])]
    if bundle.name == "radiograph-detect":
        seen = film.detect(bundle, pixels, score=0.2)
        return [np.array([item.score for item in seen]), np.array([item.box for item in seen])]
    if bundle.name == "radiograph-localise":
        maps, outlined = film.localise(bundle, pixels)
        return [maps.heatmaps.double().numpy(), np.array([item.box for item in outlined])]
    if bundle.name == "radiograph-points":
        return [film.six_points(bundle, pixels, [BOX]).places]
    looks = film.fracture_looks(bundle, pixels, [BOX])
    return [np.array([*look.ages.values()]) for look in looks]


@pytest.mark.parametrize("name", ["view", "detect", "localise", "points", "acuity"])
def test_cuda_gives_the_same_answer_as_the_processor(name: str) -> None:
    folder: Path = find_models_dir(None) / f"radiograph-{name}"
    # Bars on a shaded ground, so that there is something to find.
    pixels = np.linspace(0.1, 0.4, 300, dtype=np.float32)[None].repeat(500, axis=0)
    for top in range(60, 440, 60):
        pixels[top : top + 44, 100:190] = 0.8
    expected = answer(load_bundle(folder, torch.device("cpu")), pixels)
    found = answer(load_bundle(folder, torch.device("cuda")), pixels)
    assert len(found) == len(expected)
    for there, here in zip(found, expected, strict=True):
        # Boxes and points in pixels of the film, the rest from 0 to 1.
        np.testing.assert_allclose(there, here, rtol=1e-2, atol=0.05 if here.max(initial=0) > 2 else 2e-3)
