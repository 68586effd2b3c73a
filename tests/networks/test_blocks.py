"""The blocks are the operations that they stand for, only in a faster layout."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from dicom_ai_node.networks.blocks import AttentionGate, DoubleConvolution, InstanceNorm, Projection
from dicom_ai_node.networks.half_precision import InHalfTheBits
from dicom_ai_node.networks.intensity import marker, standardise
from dicom_ai_node.networks.mscn import MSCN


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("size", [(3, 6, 5, 7), (3, 6, 4, 5, 7)])
def test_instance_normalisation_is_torchs_own_and_keeps_the_layout(size: tuple[int, ...]) -> None:
    layout = torch.channels_last if len(size) == 4 else torch.channels_last_3d
    x = _noise(*size).contiguous(memory_format=layout)
    norm = InstanceNorm(6)
    with torch.no_grad():
        norm.weight.copy_(_noise(6))
        norm.bias.copy_(_noise(6))
    found = norm(x)
    torch.testing.assert_close(found, functional.instance_norm(x, weight=norm.weight, bias=norm.bias))
    assert found.is_contiguous(memory_format=layout)


def test_projection_is_a_convolution_with_kernel_one() -> None:
    x = _noise(2, 6, 4, 5, 3)
    projection = Projection(6, 4)
    expected = functional.conv3d(x, projection.weight[:, :, None, None, None], projection.bias)
    torch.testing.assert_close(projection(x), expected)


def test_attention_gate_only_ever_weakens_the_skip_connection() -> None:
    skip, gate = _noise(2, 8, 6, 6), _noise(2, 8, 6, 6) * 5
    weakened = AttentionGate(8)(skip, gate).detach()
    assert bool((weakened.abs() <= skip.abs()).all())
    share = weakened / skip
    torch.testing.assert_close(share, share[:, :1].expand_as(share))
    assert float(share.std()) > 0.01


def test_residual_connection_carries_the_first_convolution_around_the_second() -> None:
    x = _noise(1, 3, 8, 8)
    block = DoubleConvolution(2, 3, 5, residual=True)
    with torch.no_grad():
        block.norm.weight.zero_()
    first = block.first(x)
    torch.testing.assert_close(block(x), functional.leaky_relu(first, 0.1))


def test_standard_score_is_taken_per_crop_after_clipping() -> None:
    crops = _noise(2, 6, 7, 8) * 300 + torch.tensor([0.0, 400.0])[:, None, None, None]
    crops[0, 0, 0, 0] = 30000
    found = standardise(crops, (-500.0, 1300.0))
    for crop, score in zip(crops.clamp(-500, 1300), found, strict=True):
        deviation, mean = torch.std_mean(crop, correction=0)
        torch.testing.assert_close(score, (crop - mean) / (deviation + 1e-3))


def test_flat_crop_gets_a_score_of_zero() -> None:
    assert float(standardise(torch.full((4, 4, 4), -1024.0), (-500.0, 1300.0)).abs().max()) == 0.0


def test_marker_is_brightest_in_the_middle() -> None:
    found = marker((9, 7, 5), 2.0)
    assert [int(place) for place in torch.unravel_index(found.argmax(), found.shape)] == [4, 3, 2]
    assert float(found[4, 3, 2]) == pytest.approx(1.0)
    assert float(found[6, 3, 2]) == pytest.approx(torch.exp(torch.tensor(-0.5)).item())


def test_one_value_has_no_spread_to_be_normalised_by() -> None:
    norm = InstanceNorm(2)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, -2.0]))
    answer = norm(torch.full((3, 2, 1, 1, 1), 7.0))
    assert answer[:, :, 0, 0, 0].tolist() == [[1.0, -2.0]] * 3


@pytest.mark.parametrize("size", [(16, 16, 16), (32, 16, 16), (32, 32, 32)])
def test_small_volumes_are_answered_and_learned_from_in_half_the_bits(size: tuple[int, int, int]) -> None:
    network = MSCN(1, 2, 3, channels=(4, 4, 8, 8, 8), global_channels=12, global_stride=2)
    image = torch.randn(2, 1, *size)
    with torch.inference_mode():
        assert network(image).product.shape == (2, 2, *size)
    InHalfTheBits(network)(image).product.square().mean().backward()
    assert all(bool(item.grad.isfinite().all()) for item in network.parameters() if item.grad is not None)
