"""Boxes of vertebrae lie in the slice's own pixels, whatever the network saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from dicom_ai_node.errors import InconsistentGeometry, ModelError
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.inference.ct_slices import detect, detect_all
from dicom_ai_node.inference.publish import build_network, publish
from dicom_ai_node.training.ct_detect_recipes import slice_detect_recipe
from tests.training.drawn_slices import drawn_slice


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("bundle") / "ct-detect"
    recipe = slice_detect_recipe("resnet18-small")
    torch.manual_seed(2)
    publish(recipe, build_network(recipe), folder, metrics={}, trained_on="cpu", training_data="nothing")
    return load_bundle(folder, torch.device("cpu"))


class _Bright(nn.Module):
    """Says exactly where bright things lie, as a perfect detector would."""

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        answers = []
        for image in images[:, 0]:
            places = ndimage.find_objects(ndimage.label(image.numpy() > 0.45)[0])
            boxes = [[c.start, r.start, c.stop, r.stop] for r, c in places if r.stop - r.start > 3]
            answers.append(
                {"boxes": torch.tensor(boxes).reshape(-1, 4).float(), "scores": torch.ones(len(boxes))}
            )
        return answers


@pytest.mark.parametrize(
    ("spacing", "shape", "published"),
    [
        ((1.25, 1.25), (150, 90), False),
        ((0.5, 0.5), (300, 217), False),
        ((0.6, 0.9), (333, 201), False),
        ((0.4, 0.4), (400, 300), True),
        ((0.09, 0.11), (1500, 700), True),
    ],
)
def test_box_lies_where_the_body_lies(
    bundle: Bundle, spacing: tuple[float, float], shape: tuple[int, int], published: bool
) -> None:
    one = drawn_slice(5, spacing_mm=spacing, shape=shape)
    seen = bundle.metadata.ct_slice
    if published:
        seen = seen.model_copy(update={"size": (1024, 1024), "spacing_mm": None})
    perfect = replace(
        bundle, metadata=bundle.metadata.model_copy(update={"preprocessing": seen}), network=_Bright()
    )
    found = detect(perfect, torch.from_numpy(one.image), spacing)
    assert len(found) == 4
    # Within a pixel of what the network saw.
    pixel = 1.0 if published else 1.25 / min(spacing)
    np.testing.assert_allclose([box.edges for box in found], one.boxes, atol=1.01 * pixel)
    assert all(box.edges[1] == box.rows[0] and box.edges[2] == box.columns[1] + 1 for box in found)


def test_detection_is_that_of_the_task_and_the_same_in_a_batch(bundle: Bundle) -> None:
    task = slice_detect_recipe("resnet18-small").build([], [])
    slices = [drawn_slice(seed) for seed in range(5)]
    together = detect_all(
        bundle, torch.from_numpy(np.stack([one.image for one in slices])), slices[0].spacing_mm
    )
    for one, found in zip(slices, together, strict=True):
        expected = task.detect(bundle.network, one)
        assert len(found) == len(expected.scores) > 0
        assert sorted(box.score for box in found) == pytest.approx(sorted(expected.scores), abs=1e-4)
        assert [box.rows for box in found] == sorted(
            (box.rows for box in found), key=lambda rows: rows[0] + rows[1]
        )


def test_no_slices_have_no_vertebrae(bundle: Bundle) -> None:
    assert detect_all(bundle, torch.zeros(0, 40, 30), (1.0, 1.0)) == []


def test_what_is_no_slice_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InconsistentGeometry, match="rows and columns"):
        detect(bundle, torch.zeros(3, 40, 30), (1.0, 1.0))
    with pytest.raises(InconsistentGeometry, match="rows, columns"):
        detect_all(bundle, torch.zeros(40, 30), (1.0, 1.0))
    with pytest.raises(InconsistentGeometry, match="above 0"):
        detect(bundle, torch.zeros(40, 30), (0.0, 1.0))


def test_bundle_says_what_it_is(bundle: Bundle) -> None:
    assert bundle.metadata.rebuild.endswith("--network resnet18-small")
    with pytest.raises(ModelError, match="no network of CT"):
        _ = bundle.metadata.ct
    with pytest.raises(ModelError, match="no network of MR slices"):
        _ = bundle.metadata.mr
