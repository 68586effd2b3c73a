"""SCN and each half of M-SCN: what P3 compares its network with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.networks.mscn_parts import GlobalNetwork, LocalNetwork
from dicom_ai_node.networks.scn import SCN


def _network(name: str, dimensions: int = 3) -> nn.Module:
    torch.manual_seed(2)
    networks: dict[str, nn.Module] = {
        "scn": SCN(2, 5, dimensions, (4, 4, 6), global_channels=4, global_stride=2),  # type: ignore[arg-type]
        "ln": LocalNetwork(2, 5, dimensions, (4, 4, 6)),  # type: ignore[arg-type]
        "gn": GlobalNetwork(2, 5, dimensions, global_channels=4, levels=3),  # type: ignore[arg-type]
        "gn, coarser": GlobalNetwork(2, 5, dimensions, global_channels=4, levels=2, global_stride=2),  # type: ignore[arg-type]
    }
    return networks[name]


NAMES = ["scn", "ln", "gn", "gn, coarser"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dimensions", "size"), [(2, (16, 24)), (3, (8, 16, 8))])
def test_every_network_answers_with_one_heatmap_per_landmark(
    name: str, dimensions: int, size: tuple[int, ...]
) -> None:
    network = _network(name, dimensions)
    assert network.multiple == 4
    answer = network(torch.randn(2, 2, *size))
    assert answer.product.shape == (2, 5, *size)
    torch.testing.assert_close(answer.product, answer.local_factor * answer.global_factor)


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_learns_from_the_first_step_on(name: str) -> None:
    network = _network(name)
    network(torch.randn(2, 2, 16, 16, 8)).product.sub(1).square().mean().backward()
    for key, weight in network.named_parameters():
        assert weight.grad is not None, key
    assert sum(float(weight.grad.abs().max()) > 0 for weight in network.parameters()) > 4  # type: ignore[union-attr]


def test_spatial_part_of_scn_sees_nothing_but_the_local_heatmaps() -> None:
    network = _network("scn")
    network.local_head.weight.data.zero_()  # type: ignore[union-attr,operator]
    first, second = (network(torch.randn(1, 2, 8, 8, 8)).global_factor for _ in range(2))
    assert torch.equal(first, second)
    assert float(first.detach().abs().max()) <= 1.0


def test_the_halves_have_the_weights_of_the_whole_and_no_others() -> None:
    def shapes(network: nn.Module) -> dict[str, torch.Size]:
        return {name: value.shape for name, value in network.state_dict().items()}

    whole = shapes(MSCN(1, 4, 3, (4, 6, 8, 8, 8), global_channels=4))
    local = shapes(LocalNetwork(1, 4, 3, (4, 6, 8, 8, 8), attention=True, residual=True))
    alone = shapes(GlobalNetwork(1, 4, 3, global_channels=4))
    assert local.items() <= whole.items()
    # The image takes the place of the four local heatmaps, and nothing is there to be filtered.
    differing = {name for name in alone if alone[name] != whole[name]}
    assert differing == {"refeature.3.convolution.weight"}
    others = {name.split(".")[0] for name in whole.keys() - local.keys() - alone.keys()}
    assert others == {"project"}


def test_a_stride_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(ValueError, match="power of two, not 3"):
        SCN(1, 1, 2, global_stride=3)
    with pytest.raises(ValueError, match="1 or 2, not 4"):
        GlobalNetwork(1, 1, 2, global_stride=4)
