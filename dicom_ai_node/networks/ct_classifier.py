"""P2's classifier: a residual network with six independent answers (VCModule; Figure 1D)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet18, resnet50
from torchvision.models.resnet import BasicBlock

from dicom_ai_node.networks.blocks import Norm, memory_format, norm_layer
from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.networks.ct_patch import WINDOWS
from dicom_ai_node.networks.film_intensity import imagenet_normalised

Backbone = Literal["resnet50", "resnet18", "mobilenet_v2", "narrow"]

NARROW: Final = (24, 48, 96, 160)
"""Features of the narrow backbone's four blocks."""


class CtClassifier(nn.Module):
    """Logits of `ct_diseases.OUTPUTS` for patches about a vertebra.

    P2 starts from ImageNet's weights; none can be had here without their licence, so all of it is learned.

    Args:
        backbone: "resnet50" as published; the backbones that P2 compares in its detector, "resnet18" and
            "mobilenet_v2"; "narrow", four residual blocks that a CPU can train.
        norm: "batch" as published; "group" for small batches, whose statistics are noise.
        dropout: before the answers; 0 as published.

    Input (batch, 3, rows, columns), windows from 0 to 1, of any size from 32 on (see `ct_patch`); output
    (batch, 6).
    """

    def __init__(
        self, backbone: Backbone = "resnet50", *, norm: Norm = "batch", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.body, width = _trunk(backbone, norm)
        self.dropout = nn.Dropout(dropout)
        self.answers = nn.Linear(width, len(OUTPUTS))
        self.to(memory_format=memory_format(2))  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = imagenet_normalised(x).contiguous(memory_format=memory_format(2))
        answer: Tensor = self.answers(self.dropout(self.body(x)))
        return answer


class NarrowTrunk(nn.Module):
    """A stem and a residual block per level, each half as large; at last mean and maximum over all places.

    The maximum is there because a cleft or a node is a small part of a vertebra.

    Args:
        channels: features per level.
        norm: of its layers.
    """

    def __init__(self, channels: Sequence[int], norm: Norm) -> None:
        super().__init__()
        made = norm_layer(norm)
        self.stem = nn.Sequential(
            nn.Conv2d(WINDOWS, channels[0], 3, stride=2, padding=1, bias=False),
            made(channels[0]),
            nn.ReLU(inplace=True),
        )
        blocks: list[nn.Module] = [BasicBlock(channels[0], channels[0], norm_layer=made)]
        for inputs, outputs in pairwise(channels):
            shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), made(outputs))
            blocks.append(BasicBlock(inputs, outputs, stride=2, downsample=shortcut, norm_layer=made))
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 2 * channels[-1])."""
        features = self.blocks(self.stem(x))
        return torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)


def answers_of(network: nn.Module, patches: Tensor, batch: int = 64) -> Tensor:
    """Probabilities of `ct_diseases.OUTPUTS`, the mean over all patches of a vertebra: (n, 6).

    Args:
        network: a `CtClassifier` in evaluation mode.
        patches: (n, patches of each, 3, rows, columns), see `ct_patch.vertebra_patches`.
        batch: patches that the network looks at together.
    """
    if not len(patches):
        return torch.zeros(0, len(OUTPUTS), device=patches.device)
    parts = [network(part).sigmoid() for part in torch.split(patches.flatten(0, 1), batch)]
    return torch.cat(parts).reshape(*patches.shape[:2], len(OUTPUTS)).mean(dim=1)


def _trunk(backbone: Backbone, norm: Norm) -> tuple[nn.Module, int]:
    """A backbone without its last layer, and how many features it gives."""
    if backbone == "narrow":
        return NarrowTrunk(NARROW, norm), 2 * NARROW[-1]
    made = norm_layer(norm)
    if backbone == "mobilenet_v2":
        mobile = mobilenet_v2(weights=None, norm_layer=made)
        mobile.classifier = nn.Identity()
        return mobile, mobile.last_channel
    residual = (resnet50 if backbone == "resnet50" else resnet18)(weights=None, norm_layer=made)
    width = residual.fc.in_features
    residual.fc = nn.Identity()
    return residual, width
