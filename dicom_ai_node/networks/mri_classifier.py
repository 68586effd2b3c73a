"""P4's classifier: a 1x1 convolution from six channels to three, and a ResNet-50 (Yeh 2022, Figure 2).

The benign/malignant logit is as published. A second head reads P4's 15 features off the same trunk, and not
off a network of its own: the features are what radiologists decide by (a logistic regression over them alone
is right in 94 %, "Analysis of MSK radiologist's reading features"), so that learning them teaches a trunk
without pretrained weights what to look for; it costs one small layer; and what a report shows as evidence
is then seen by the very network whose opinion it is to explain. `detached` keeps the features from teaching
the trunk: the decision is then learned exactly as published.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50

from dicom_ai_node.networks.blocks import Norm, norm_layer
from dicom_ai_node.networks.mri_classes import ABSENCES, FEATURES, OUTPUTS

Backbone = Literal["resnet50", "resnet18"]


class MriClassifier(nn.Module):
    """Logits of malignancy and of the features for patches about a vertebral body.

    P4 starts from ImageNet's weights; none can be had here without their licence, so all of it is learned.

    Args:
        in_channels: 6 as published (T1 and T2 of a slice and both neighbours); 9 with STIR.
        backbone: "resnet50" as published; "resnet18" for training on a CPU.
        norm: "batch" as published: batches are 32, large enough for its statistics, and at rest it costs
            nothing; "group" for small batches, whose statistics are noise.
        dropout: before both heads; P4 applies it ("Discussion") without saying how much.
        hidden: width of the features' head.
        detached: whether the features leave the trunk alone.

    Input (batch, in_channels, rows, columns), every image with mean 0 and deviation 1, of any size from 32
    on (published: 64x64); output (batch, 16): `mri_classes.OUTPUTS`.
    """

    def __init__(
        self,
        in_channels: int = 6,
        backbone: Backbone = "resnet50",
        *,
        norm: Norm = "batch",
        dropout: float = 0.5,
        hidden: int = 128,
        detached: bool = False,
    ) -> None:
        super().__init__()
        self.detached = detached
        self.mix = nn.Conv2d(in_channels, 3, 1)
        made = resnet50 if backbone == "resnet50" else resnet18
        self.body = made(weights=None, norm_layer=norm_layer(norm))
        # P4's first convolution is 3x3, not torchvision's 7x7: the patches are small.
        self.body.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(self.body.conv1.weight, mode="fan_out", nonlinearity="relu")
        width = self.body.fc.in_features
        self.body.fc = nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.malignant = nn.Linear(width, 1)
        self.features = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, len(FEATURES))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        trunk = self.body(self.mix(x))
        read = trunk.detach() if self.detached else trunk
        return torch.cat([self.malignant(self.dropout(trunk)), self.features(self.dropout(read))], dim=1)


def over_slices(probabilities: Tensor) -> Tensor:
    """What is said of a body, from what is said of its slices: (slices, 16) -> (16,).

    The highest probability (P4, "Evaluation using cross-validation"); of features that every slice must show
    (`ABSENCES`) the lowest.
    """
    absent = torch.tensor([name in ABSENCES for name in OUTPUTS], device=probabilities.device)
    return torch.where(absent, probabilities.amin(dim=0), probabilities.amax(dim=0))
