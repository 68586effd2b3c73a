"""What a bundle says of bodies is what its task says, slice by slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dicom_ai_node.errors import InconsistentGeometry, ModelError
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.inference.mri_classifier import MrBody, classify, series_wanted
from dicom_ai_node.inference.publish import build_network, publish
from dicom_ai_node.networks.mri_classes import FEATURES
from dicom_ai_node.training.mri_classify_recipes import classify_recipe
from dicom_ai_node.training.mri_crops import SERIES
from tests.training.mri_drawn import drawn_example


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("bundle") / "mri-classify"
    recipe = classify_recipe("small-wide-stir")
    torch.manual_seed(2)
    publish(recipe, build_network(recipe), folder, metrics={}, trained_on="cpu", training_data="nothing")
    return load_bundle(folder, torch.device("cpu"))


EXAMPLE = drawn_example("7", "malignant")
ARRAYS = dict(zip(SERIES, EXAMPLE.images, strict=True))
BODY = MrBody(EXAMPLE.box, EXAMPLE.slices)


def test_the_bundle_says_what_it_needs(bundle: Bundle) -> None:
    assert series_wanted(bundle) == ("t1", "t2", "stir")
    assert bundle.metadata.rebuild.endswith("--network small-wide-stir")
    assert bundle.metadata.mri_patch.margin > 2
    with pytest.raises(ModelError, match="no network of CT"):
        _ = bundle.metadata.ct
    with pytest.raises(ModelError, match="no network of radiographs"):
        _ = bundle.metadata.film


def test_a_body_is_judged_as_the_task_judges_it(bundle: Bundle) -> None:
    task = classify_recipe("small-wide-stir").build([], [])
    expected = task.answers(bundle.network, [EXAMPLE])[0]
    first, again = classify(bundle, ARRAYS, [BODY, BODY])
    assert first.classes["malignant"] == pytest.approx(float(expected.together[0]), abs=1e-5)
    assert first.classes["benign"] == pytest.approx(1 - first.classes["malignant"])
    assert first.malignant_by_slice == pytest.approx(expected.slices[:, 0].tolist(), abs=1e-5)
    assert tuple(first.features) == FEATURES
    assert list(first.features.values()) == pytest.approx(expected.together[1:].tolist(), abs=1e-5)
    assert first.malignant_by_slice[first.slices.index(first.slice_of_highest)] == max(
        first.malignant_by_slice
    )
    assert again.malignant_by_slice == pytest.approx(first.malignant_by_slice, abs=1e-5)
    # The scale of a series means nothing in MR.
    scaled = {name: array.astype(np.int16) * 5 for name, array in ARRAYS.items()}
    other = classify(bundle, scaled, [BODY])[0]
    assert other.malignant_by_slice == pytest.approx(first.malignant_by_slice, abs=1e-4)


def test_what_does_not_fit_together_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="stir"):
        classify(bundle, {name: ARRAYS[name] for name in ("t1", "t2")}, [BODY])
    with pytest.raises(InconsistentGeometry, match="one grid"):
        classify(bundle, ARRAYS | {"t1": ARRAYS["t1"][:-1]}, [BODY])
    with pytest.raises(InconsistentGeometry, match="slices"):
        classify(bundle, ARRAYS, [MrBody(EXAMPLE.box, (4, 5))])
    assert classify(bundle, ARRAYS, []) == []
