"""Classifiers of radiographs: P1's ResNet-18 for one vertebra, and a small network for the view."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from dicom_ai_node.networks.film_intensity import imagenet_normalised


class ResNet18(nn.Module):
    """ResNet-18 with a new last layer (P1, "Model training"; Figure 4), with fresh weights.

    P1 starts from ImageNet's weights; none can be had here without their licence, so all of it is learned.
    BatchNorm stays as published: batches of crops are large enough for its statistics.

    Args:
        classes: of the answer.
        dropout: before the last layer; 0 as published.

    Input (batch, 1, rows, columns), 0 to 1; output logits (batch, classes).
    """

    def __init__(self, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.body = resnet18(weights=None)
        self.body.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.body.fc.in_features, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        answer: Tensor = self.body(imagenet_normalised(x))
        return answer


class ViewNetwork(nn.Module):
    """A small convolutional network: which view a radiograph shows.

    The view is told by the coarse picture: strided convolutions, GroupNorm (one film at a time in use) and
    the mean and the maximum over the whole picture.

    Args:
        classes: of the answer.
        channels: features per level; each level halves the picture.

    Input (batch, 1, rows, columns), 0 to 1; output logits (batch, classes).
    """

    def __init__(self, classes: int, channels: Sequence[int] = (16, 32, 64, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for outputs in channels:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.GroupNorm(8, outputs),
                nn.ReLU(inplace=True),
                nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
                nn.GroupNorm(8, outputs),
                nn.ReLU(inplace=True),
            ]
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(2 * inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        features = self.features(2 * x - 1)
        answer: Tensor = self.head(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))
        return answer
