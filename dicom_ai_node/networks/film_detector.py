"""Detectors of vertebrae on radiographs: Mask R-CNN (P0, "Study settings") and two rivals with boxes alone.

All are torchvision's, with fresh weights. P0 fine-tunes a pretrained network with frozen BatchNorm; frozen
statistics of nothing would be no normalisation, and BatchNorm's own are noise at two films per batch. With
GroupNorm detectors train from scratch as well as pretrained ones do (He, Girshick, Dollar: Rethinking
ImageNet pre-training, 2019, section 4.2), so that is the default; "batch" is kept for large batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from torchvision.models.detection import FCOS, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

Kind = Literal["mask-rcnn", "retinanet", "fcos"]
Backbone = Literal["resnet50", "resnet18"]
Norm = Literal["group", "batch"]

_BACKBONES = {"resnet50": (resnet50, 2048), "resnet18": (resnet18, 512)}
_ASPECTS = (0.4, 0.7, 1.2)
"""Height over width of the anchors: a crushed body, a healthy one, a tall one in a tilted film."""


class FilmDetector(nn.Module):
    """Finds instances on radiographs.

    Args:
        classes: without background.
        kind: "mask-rcnn" as published, "retinanet" or "fcos" as rivals that draw no outline.
        backbone: "resnet50" as published; "resnet18" for training on a CPU.
        norm: see the module.
        features: channels of the feature pyramid (published: 256); the heads shrink with it.
        anchor_px: edge of the anchors on the finest of five levels; each level doubles it. Mask R-CNN and
            FCOS look at pyramid levels from stride 4 and 8 on, RetinaNet from 8 on.
        score: detections below are dropped.
        overlap: non-maximum suppression within a class.
        most: detections per film.
        sampled: anchors and regions per film that Mask R-CNN's losses are taken over. torchvision's 256 and
            512 suit photographs of many things; where few bodies lie in a film, background drowns them.

    `forward` takes images (batch, 1, rows, columns), 0 to 1. In training it needs targets as torchvision
    does and gives a dictionary of losses; in evaluation it gives one dictionary per image: `boxes` (n, 4) as
    left, top, right, bottom in pixels, integers at pixel edges; `labels` (n,) from 1; `scores` (n,); and of
    Mask R-CNN `masks` (n, 1, rows, columns), 0 to 1.
    """

    def __init__(
        self,
        classes: int,
        kind: Kind = "mask-rcnn",
        backbone: Backbone = "resnet50",
        *,
        norm: Norm = "group",
        features: int = 256,
        anchor_px: int = 16,
        score: float = 0.05,
        overlap: float = 0.5,
        most: int = 100,
        sampled: int = 256,
    ) -> None:
        super().__init__()
        layer = _norm(norm)
        self.kind = kind
        if kind == "mask-rcnn":
            pyramid = _pyramid(backbone, layer, features, (1, 2, 3, 4), LastLevelMaxPool())
            hidden = 4 * features
            self.detector = MaskRCNN(
                pyramid,
                rpn_anchor_generator=_anchors(anchor_px),
                box_head=TwoMLPHead(features * 49, hidden),
                box_predictor=FastRCNNPredictor(hidden, classes + 1),
                mask_head=MaskRCNNHeads(features, (features,) * 4, 1, norm_layer=layer),
                mask_predictor=MaskRCNNPredictor(features, features, classes + 1),
                box_score_thresh=score,
                box_nms_thresh=overlap,
                box_detections_per_img=most,
                # A film shows twenty bodies at most, not hundreds of things.
                rpn_pre_nms_top_n_train=1000,
                rpn_pre_nms_top_n_test=500,
                rpn_post_nms_top_n_train=500,
                rpn_post_nms_top_n_test=200,
                box_batch_size_per_image=sampled,
                rpn_batch_size_per_image=sampled,
            )
        else:
            pyramid = _pyramid(backbone, layer, features, (2, 3, 4), LastLevelP6P7(features, features))
            thresholds = {"score_thresh": score, "nms_thresh": overlap, "detections_per_img": most}
            if kind == "retinanet":
                self.detector = RetinaNet(
                    pyramid,
                    classes + 1,
                    anchor_generator=_anchors(2 * anchor_px, octaves=3),
                    topk_candidates=400,
                    **thresholds,
                )
            else:
                self.detector = FCOS(pyramid, classes + 1, topk_candidates=400, **thresholds)

        self.detector.transform = _AsItIs(0, 0, image_mean=[0.5] * 3, image_std=[0.25] * 3)

    def forward(
        self, images: Tensor, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses by name in training, detections per image in evaluation."""
        expanded = list(images.expand(-1, 3, -1, -1))
        answer: dict[str, Tensor] | list[dict[str, Tensor]] = self.detector(
            expanded, None if targets is None else list(targets)
        )
        return answer


class _AsItIs(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Normalises and batches; films have their size already, and torchvision would resize them."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


def _norm(norm: Norm) -> Callable[[int], nn.Module]:
    if norm == "batch":
        return nn.BatchNorm2d
    return _group_norm


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(min(32, channels // 4), channels)


def _pyramid(
    backbone: Backbone,
    layer: Callable[[int], nn.Module],
    features: int,
    levels: Sequence[int],
    extra: ExtraFPNBlock,
) -> BackboneWithFPN:
    build, last = _BACKBONES[backbone]
    body = build(weights=None, norm_layer=layer)
    return BackboneWithFPN(
        body,
        return_layers={f"layer{level}": str(number) for number, level in enumerate(levels)},
        in_channels_list=[last // 2 ** (4 - level) for level in levels],
        out_channels=features,
        extra_blocks=extra,
        norm_layer=layer,
    )


def _anchors(edge: int, octaves: int = 1) -> AnchorGenerator:
    sizes = tuple(
        tuple(round(edge * 2 ** (level + step / octaves)) for step in range(octaves)) for level in range(5)
    )
    return AnchorGenerator(sizes, (_ASPECTS,) * len(sizes))


def total_loss(losses: dict[str, Tensor]) -> Tensor:
    """The sum of a detector's losses, all with weight 1 as in torchvision's reference training."""
    return torch.stack(list(losses.values())).sum()
