"""What a bundle of ct-classify says of vertebrae is what its task says, slice by slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.errors import InconsistentGeometry, ModelError
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.inference.ct_classifier import classify
from dicom_ai_node.inference.publish import build_network, publish
from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.training.ct_classify_recipes import ct_classify_recipe, ct_classify_task
from tests.training.ct_drawn import drawn_slice

SLICES = [drawn_slice("5", number, ("OVCF", "", "KD+PS", "SN")) for number in range(3)]
IMAGES = torch.from_numpy(np.stack([one.image for one in SLICES]))
BOXES = [torch.from_numpy(one.boxes[: 4 - number]) for number, one in enumerate(SLICES)]
SPACING = SLICES[0].spacing_mm


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("bundle") / "ct-classify"
    recipe = ct_classify_recipe("small")
    torch.manual_seed(2)
    publish(recipe, build_network(recipe), folder, metrics={}, trained_on="cpu", training_data="nothing")
    return load_bundle(folder, torch.device("cpu"))


def test_the_bundle_says_what_its_network_sees(bundle: Bundle) -> None:
    metadata = bundle.metadata
    assert metadata.output_channels == OUTPUTS
    assert metadata.rebuild.endswith("--network small")
    assert (metadata.ct_patch.size, len(metadata.ct_patch.windows_hu)) == (96, 3)
    with pytest.raises(ModelError, match="no network of CT"):
        _ = metadata.ct
    with pytest.raises(ModelError, match="no classifier of vertebrae on MR"):
        _ = metadata.mri_patch


def test_vertebrae_are_judged_as_the_task_judges_them(bundle: Bundle) -> None:
    task = ct_classify_task(bundle.metadata.ct_patch.model_dump())
    expected = task.answers(bundle.network, SLICES).said
    told = classify(bundle, IMAGES, SPACING, BOXES)
    assert [tuple(part.shape) for part in told] == [(4, 6), (3, 6), (2, 6)]
    together = torch.cat(told).numpy()
    np.testing.assert_allclose(together, expected[[0, 1, 2, 3, 4, 5, 6, 8, 9]], atol=1e-5)
    # Independent of each other: they are no shares of one.
    assert np.abs(together.sum(axis=1) - 1).max() > 0.05


def test_what_is_said_of_a_vertebra_does_not_hang_on_its_company(bundle: Bundle) -> None:
    told = classify(bundle, IMAGES.float(), SPACING, BOXES)
    alone = classify(bundle, IMAGES[1:2], SPACING, [BOXES[1][2:3]])
    torch.testing.assert_close(alone[0][0], told[1][2], atol=1e-5, rtol=0)


def test_slices_without_boxes_and_boxes_over_the_rim_are_no_trouble(bundle: Bundle) -> None:
    over = torch.tensor([[40.0, -10.0, 70.0, 8.0]])
    told = classify(bundle, IMAGES[:2], SPACING, [torch.zeros(0, 4), over])
    assert told[0].shape == (0, 6)
    assert bool(((told[1] > 0) & (told[1] < 1)).all())
    assert classify(bundle, IMAGES[:0], SPACING, []) == []


def test_what_does_not_fit_together_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InconsistentGeometry, match="2 sets of boxes"):
        classify(bundle, IMAGES, SPACING, BOXES[:2])
    with pytest.raises(InconsistentGeometry, match="slice 0 has a box without area"):
        classify(bundle, IMAGES[:1], SPACING, [torch.tensor([[5.0, 5.0, 5.0, 9.0]])])
