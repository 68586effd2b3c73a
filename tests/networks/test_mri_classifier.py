"""P4's network and the patches it sees."""

from __future__ import annotations

import pytest
import torch

from dicom_ai_node.networks.blocks import Norm
from dicom_ai_node.networks.mri_classes import FEATURES, OUTPUTS
from dicom_ai_node.networks.mri_classifier import Backbone, MriClassifier, over_slices
from dicom_ai_node.networks.mri_patch import body_patches, cut_square, square_about, three_slices
from dicom_ai_node.phantom.disease import FEATURE_NAMES

BOX = torch.tensor([10.0, 8.0, 17.0, 19.0])


def test_features_are_those_of_the_phantoms_truth() -> None:
    assert FEATURES == FEATURE_NAMES
    assert ("malignant", *FEATURES) == OUTPUTS


@pytest.mark.parametrize(
    ("backbone", "norm", "blocks"), [("resnet50", "batch", 16), ("resnet18", "group", 8)]
)
def test_the_network_is_the_papers(backbone: Backbone, norm: Norm, blocks: int) -> None:
    network = MriClassifier(6, backbone, norm=norm)
    assert (network.mix.weight.shape[:2], network.mix.kernel_size) == ((3, 6), (1, 1))
    assert network.body.conv1.kernel_size == (3, 3)
    layers = (network.body.layer1, network.body.layer2, network.body.layer3, network.body.layer4)
    assert sum(len(layer) for layer in layers) == blocks
    has_statistics = any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert has_statistics == (norm == "batch")
    with torch.inference_mode():
        assert network.eval()(torch.zeros(2, 6, 64, 64)).shape == (2, 16)


@pytest.mark.parametrize("detached", [True, False])
def test_features_teach_the_trunk_unless_they_are_detached(detached: bool) -> None:
    torch.manual_seed(1)
    network = MriClassifier(9, "resnet18", norm="group", dropout=0.0, detached=detached)
    network(torch.randn(1, 9, 32, 32))[:, 1:].sum().backward()
    taught = network.mix.weight.grad
    assert (taught is None or not taught.any()) == detached
    assert network.features[0].weight.grad is not None


def test_the_square_holds_the_body_and_reaches_behind_it() -> None:
    center, edge = square_about(BOX, 1.5, 0.0)
    assert center.tolist() == [13.5, 13.5]
    assert edge == pytest.approx(18.0)
    behind, _ = square_about(BOX, 1.5, 0.25)
    assert (behind - center).tolist() == [0.0, 3.0]


def test_a_square_of_its_own_size_is_cut_without_change() -> None:
    images = torch.rand(2, 20, 24)
    cut = cut_square(images, torch.tensor([9.5, 11.5]), torch.eye(2), 8)
    torch.testing.assert_close(cut, images[:, 6:14, 8:16])
    # One center for each image: the second lies a column further on.
    centers = torch.tensor([[9.5, 11.5], [9.5, 12.5]])
    apart = cut_square(images, centers, torch.eye(2), 8)
    torch.testing.assert_close(apart[0], images[0, 6:14, 8:16])
    torch.testing.assert_close(apart[1], images[1, 6:14, 9:17])


def test_at_the_end_of_a_stack_the_last_slice_repeats() -> None:
    stacks = torch.arange(8.0).reshape(2, 4, 1, 1).expand(2, 4, 3, 3)
    assert three_slices(stacks, 0)[:, 0, 0].tolist() == [0, 0, 1, 4, 4, 5]
    assert three_slices(stacks, 2)[:, 0, 0].tolist() == [1, 2, 3, 5, 6, 7]


def test_patches_are_standardised_whatever_the_scale_of_the_series() -> None:
    stacks = torch.rand(2, 5, 30, 30)
    scaled = stacks * torch.tensor([3.0, 500.0])[:, None, None, None] + 40
    first, second = (
        body_patches(part, BOX, (1, 3), size=16, margin=1.2, behind=0.1) for part in (stacks, scaled)
    )
    assert first.shape == (2, 6, 16, 16)
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(first.mean(dim=(2, 3)), torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(first.std(dim=(2, 3), correction=0), torch.ones(2, 6), atol=1e-3, rtol=0)


def test_a_body_is_as_malignant_as_its_worst_slice_and_as_unchanged_as_its_least() -> None:
    said = torch.full((3, 16), 0.5)
    said[:, 0] = torch.tensor([0.1, 0.9, 0.2])
    unchanged, mass = OUTPUTS.index("homogeneous_marrow"), OUTPUTS.index("mass")
    said[:, unchanged] = torch.tensor([0.9, 0.3, 0.8])
    said[:, mass] = torch.tensor([0.0, 0.7, 0.1])
    together = over_slices(said)
    assert float(together[0]) == pytest.approx(0.9)
    assert float(together[unchanged]) == pytest.approx(0.3)
    assert float(together[mass]) == pytest.approx(0.7)
