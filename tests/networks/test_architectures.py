"""MSCN and UNet as P3 draws them."""

from __future__ import annotations

import pytest
import torch

from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.networks.unet import UNet


def _small(**options: object) -> MSCN:
    torch.manual_seed(0)
    return MSCN(1, 4, 2, (4, 6, 8, 8, 8), global_channels=4, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("dimensions", "size"), [(2, (32, 48)), (3, (16, 32, 16))])
def test_mscn_answers_with_one_heatmap_per_landmark(
    dimensions: int, size: tuple[int, ...], stride: int
) -> None:
    network = MSCN(2, 5, dimensions, (4, 4, 8, 8, 8), global_channels=4, global_stride=stride)  # type: ignore[arg-type]
    heatmaps = network(torch.randn(2, 2, *size))
    assert heatmaps.product.shape == (2, 5, *size)
    torch.testing.assert_close(heatmaps.product, heatmaps.local_factor * heatmaps.global_factor)


def test_both_factors_learn_from_the_first_step_on() -> None:
    network = _small()
    network(torch.randn(2, 1, 32, 32)).product.sub(1).square().mean().backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None]
    assert not still
    for name in ("local_head.weight", "global_head.weight", "encoder.blocks.0.first.convolution.weight"):
        gradient = dict(network.named_parameters())[name].grad
        assert gradient is not None
        assert float(gradient.abs().max()) > 0


def test_each_ablation_of_table_4_takes_away_what_it_names() -> None:
    def names(**options: object) -> set[str]:
        return {name for name, _ in _small(**options).named_parameters()}

    whole = names()
    assert any("gates" in name for name in whole)
    assert not any("gates" in name for name in names(attention=False))
    without = names(multiple_filtering=False)
    assert whole - without == {f"project.{k}.{kind}" for k in (1, 2, 3) for kind in ("weight", "bias")}
    x = torch.randn(1, 1, 32, 32)
    with_residual, without = _small(), _small(residual=False)
    without.load_state_dict(with_residual.state_dict())
    assert not torch.allclose(with_residual(x).product, without(x).product)


def test_global_part_filters_four_decoder_levels() -> None:
    assert len(_small().project) == 4
    # Without, it filters the finest alone, but remains a U as deep.
    only_finest = _small(multiple_filtering=False)
    assert len(only_finest.project) == 1
    assert len(only_finest.refeature) == len(only_finest.reconvolve) == 4


def test_global_part_sees_further_than_the_local_part() -> None:
    def reach(factor: int, kernel: int) -> int:
        torch.manual_seed(1)
        network = MSCN(1, 1, 2, (4, 4), attention=False, global_channels=4, kernel=kernel).double().eval()
        # The normalisation looks at the whole image; without it only the kernels decide how far one sees.
        for module in network.modules():
            if type(module).__name__ == "InstanceNorm":
                module.forward = lambda x: x
        x = torch.randn(1, 1, 96, 96, dtype=torch.float64, requires_grad=True)
        network(x)[factor][0, 0, 48, 48].backward()
        assert x.grad is not None
        return int((x.grad[0, 0].abs().sum(dim=0) > 0).sum())

    assert reach(2, 7) >= reach(1, 7) + 12
    assert reach(2, 7) > reach(2, 3)


@pytest.mark.parametrize(("dimensions", "size"), [(2, (16, 24)), (3, (8, 16, 8))])
def test_unet_gives_a_logit_per_class_and_voxel(dimensions: int, size: tuple[int, ...]) -> None:
    network = UNet(2, 3, dimensions, (4, 8, 8))  # type: ignore[arg-type]
    assert network.multiple == 4
    assert network(torch.randn(3, 2, *size)).shape == (3, 3, *size)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    network = UNet(1, 3, 3, (4, 8)).eval()
    x = torch.randn(3, 1, 8, 8, 8)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-4, atol=1e-5)


def test_stride_of_the_global_part_is_one_or_two() -> None:
    with pytest.raises(ValueError, match="1 or 2, not 4"):
        MSCN(1, 1, 2, (4, 4), global_stride=4)
