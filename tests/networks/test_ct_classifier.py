"""P2's network: six independent answers."""

from __future__ import annotations

import pytest
import torch

from dicom_ai_node.networks.blocks import Norm
from dicom_ai_node.networks.ct_classifier import Backbone, CtClassifier, answers_of
from dicom_ai_node.networks.ct_diseases import AVERAGED, DISEASES, MEANINGS, OUTPUTS
from dicom_ai_node.phantom.disease import Disease


def test_diseases_are_those_of_the_phantoms_truth() -> None:
    assert {Disease(name) for name in DISEASES} < set(Disease)
    assert OUTPUTS == (*DISEASES, "normal") == tuple(MEANINGS)
    assert set(DISEASES) - set(AVERAGED) == {"SN"}


@pytest.mark.parametrize(
    ("backbone", "norm"),
    [("resnet50", "batch"), ("resnet18", "batch"), ("mobilenet_v2", "group"), ("narrow", "group")],
)
def test_every_backbone_gives_six_logits(backbone: Backbone, norm: Norm) -> None:
    network = CtClassifier(backbone, norm=norm).eval()
    has_statistics = any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert has_statistics == (norm == "batch")
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 64, 64)).shape == (2, 6)


def test_the_published_network_is_a_resnet_50_with_one_new_layer() -> None:
    network = CtClassifier()
    assert sum(len(getattr(network.body, f"layer{k}")) for k in range(1, 5)) == 16
    assert network.answers.in_features == 2048
    learned = sum(parameter.numel() for parameter in network.parameters())
    assert learned == 23_508_032 + 6 * 2049


def test_answers_are_independent_sigmoids_averaged_over_the_patches() -> None:
    torch.manual_seed(1)
    network = CtClassifier("narrow", norm="group").eval()
    patches = torch.rand(3, 4, 3, 32, 32)
    with torch.inference_mode():
        said = answers_of(network, patches, batch=5)
        each = torch.stack([network(patches[:, view]).sigmoid() for view in range(4)])
        assert answers_of(network, patches[:0]).shape == (0, 6)
    torch.testing.assert_close(said, each.mean(dim=0))
    # Nothing binds them to a sum of one.
    assert float((said.sum(dim=1) - 1).abs().min()) > 0.1
