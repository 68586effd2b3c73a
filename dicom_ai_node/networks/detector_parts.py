"""What the detectors of films and of CT slices are built of: backbones, pyramids, anchors, a dense loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import mobilenet_v2, resnet18, resnet50
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

Backbone = Literal["resnet50", "resnet18", "resnet18-half", "mobilenet-v2"]
Norm = Literal["group", "batch"]

ASPECTS: Final = (0.4, 0.7, 1.2)
"""Height over width of the anchors: a crushed body, a healthy one, a tall one in a tilted image."""

_MOBILE_LAYERS: Final = ((3, 24), (6, 32), (13, 96), (18, 1280))
"""The last layer of MobileNetV2 at strides 4, 8, 16, 32, and its channels."""


class _HalfResNet18(ResNet):  # type: ignore[misc]
    """torchvision's ResNet-18 with half the channels in every layer: a quarter of the arithmetic."""

    def __init__(self, layer: Callable[[int], nn.Module]) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], norm_layer=layer)
        self.inplanes = 32
        self.conv1 = nn.Conv2d(3, 32, 7, stride=2, padding=3, bias=False)
        self.bn1 = layer(32)
        for number, channels in enumerate((32, 64, 128, 256), start=1):
            made = self._make_layer(BasicBlock, channels, 2, stride=1 if number == 1 else 2)
            setattr(self, f"layer{number}", made)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class _AsItIs(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalises and batches; images have their size already, and torchvision would resize them."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def as_it_is() -> GeneralizedRCNNTransform:
    """A detector's transform for images of brightness 0 to 1 that have their size already."""
    return _AsItIs(0, 0, image_mean=[0.5] * 3, image_std=[0.25] * 3)


def norm_layer(norm: Norm) -> Callable[[int], nn.Module]:
    """What makes a normalisation of so many channels."""
    if norm == "batch":
        return nn.BatchNorm2d
    return _group_norm


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(channels, min(32, channels // 4)), channels)


def feature_pyramid(
    backbone: Backbone,
    layer: Callable[[int], nn.Module],
    features: int,
    levels: Sequence[int],
    extra: ExtraFPNBlock,
) -> BackboneWithFPN:
    """A backbone with fresh weights and a feature pyramid on it.

    Args:
        backbone: which one.
        layer: see `norm_layer`.
        features: channels of the pyramid.
        levels: of the backbone, 1 (stride 4) to 4 (stride 32).
        extra: makes coarser levels of the last one.
    """
    body, names, channels = _body(backbone, layer)
    return BackboneWithFPN(
        body,
        return_layers={names[level - 1]: str(number) for number, level in enumerate(levels)},
        in_channels_list=[channels[level - 1] for level in levels],
        out_channels=features,
        extra_blocks=extra,
        norm_layer=layer,
    )


def _body(
    backbone: Backbone, layer: Callable[[int], nn.Module]
) -> tuple[nn.Module, tuple[str, ...], tuple[int, ...]]:
    """(network, names of its layers at strides 4 to 32, their channels)."""
    if backbone == "mobilenet-v2":
        layers = mobilenet_v2(weights=None, norm_layer=layer).features
        return layers, tuple(str(k) for k, _ in _MOBILE_LAYERS), tuple(n for _, n in _MOBILE_LAYERS)
    names = tuple(f"layer{level}" for level in range(1, 5))
    if backbone == "resnet18-half":
        return _HalfResNet18(layer), names, (32, 64, 128, 256)
    if backbone == "resnet18":
        return resnet18(weights=None, norm_layer=layer), names, (64, 128, 256, 512)
    return resnet50(weights=None, norm_layer=layer), names, (256, 512, 1024, 2048)


def body_anchors(edge: int, octaves: int = 1) -> AnchorGenerator:
    """Anchors of the shapes of vertebral bodies on five pyramid levels, `edge` pixels on the finest."""
    sizes = tuple(
        tuple(round(edge * 2 ** (level + step / octaves)) for step in range(octaves)) for level in range(5)
    )
    return AnchorGenerator(sizes, (ASPECTS,) * len(sizes))


@contextmanager
def watched(pyramid: nn.Module) -> Iterator[list[Tensor]]:
    """The finest level of a pyramid at every call within the context, for losses beside the detector's."""
    seen: list[Tensor] = []
    hook = pyramid.register_forward_hook(
        lambda _module, _arguments, levels: seen.append(next(iter(levels.values())))
    )
    try:
        yield seen
    finally:
        hook.remove()


def dense_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy of the class of each place, background and bodies weighing alike.

    Args:
        logits: shape (batch, 1 + classes, rows, columns).
        classes: shape (batch, rows, columns), 0 for background.
    """
    each = functional.cross_entropy(logits, classes, reduction="none")
    body = classes > 0
    return 0.5 * (
        (each * body).sum() / body.sum().clamp(min=1) + (each * ~body).sum() / (~body).sum().clamp(min=1)
    )


def total_loss(losses: dict[str, Tensor]) -> Tensor:
    """The sum of a detector's losses, all with weight 1 as in torchvision's reference training."""
    return torch.stack(list(losses.values())).sum()
