"""Detectors of vertebrae on radiographs: Mask R-CNN (P0, "Study settings") and two rivals with boxes alone.

All are torchvision's, with fresh weights. P0 fine-tunes a pretrained network with frozen BatchNorm; frozen
statistics of nothing would be no normalisation, and BatchNorm's own are noise at two films per batch. With
GroupNorm detectors train from scratch as well as pretrained ones do (He, Girshick, Dollar: Rethinking
ImageNet pre-training, 2019, section 4.2), so that is the default; "batch" is kept for large batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FCOS, MaskRCNN, RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from dicom_ai_node.networks.detector_parts import (
    Backbone,
    Norm,
    as_it_is,
    body_anchors,
    dense_loss,
    feature_pyramid,
    norm_layer,
    watched,
)

Kind = Literal["mask-rcnn", "retinanet", "fcos"]


class FilmDetector(nn.Module):
    """Finds instances on radiographs.

    Args:
        classes: without background.
        kind: "mask-rcnn" as published, "retinanet" or "fcos" as rivals that draw no outline.
        backbone: "resnet50" as published; "resnet18" and "resnet18-half", with half its channels, for
            training on a CPU.
        norm: see the module.
        features: channels of the feature pyramid (published: 256); the heads shrink with it.
        anchor_px: edge of the anchors on the finest of five levels; each level doubles it. Mask R-CNN and
            FCOS look at pyramid levels from stride 4 and 8 on, RetinaNet from 8 on.
        score: detections below are dropped.
        overlap: non-maximum suppression within a class.
        most: detections per film.
        sampled: anchors and regions per film that Mask R-CNN's losses are taken over. torchvision's 256 and
            512 suit photographs of many things; where few bodies lie in a film, background drowns them.
        states: 1 as published: every class learns alone. Where the classes are each level in so many states,
            states fastest, Mask R-CNN's heads share what a level looks like in all its states, what a state
            looks like at all levels, and box and outline between all classes (class-agnostic masks are as
            good: Mask R-CNN, table 2b): rare classes learn from frequent ones.
        dense: besides the published losses, one that asks every pixel of the finest pyramid level for its
            class in training (as the semantic branch of Hybrid Task Cascade, 2019, section 3.3): a backbone
            without pretrained weights learns from all of a film instead of a few hundred regions.

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
        states: int = 1,
        dense: bool = False,
    ) -> None:
        super().__init__()
        layer = norm_layer(norm)
        self.kind = kind
        self.dense = nn.Conv2d(features, classes + 1, 1) if dense else None
        if kind == "mask-rcnn":
            pyramid = feature_pyramid(backbone, layer, features, (1, 2, 3, 4), LastLevelMaxPool())
            hidden = 4 * features
            self.detector = MaskRCNN(
                pyramid,
                rpn_anchor_generator=body_anchors(anchor_px),
                box_head=TwoMLPHead(features * 49, hidden),
                box_predictor=FastRCNNPredictor(hidden, classes + 1)
                if states == 1
                else _SharedPredictor(hidden, classes, states),
                mask_head=MaskRCNNHeads(features, (features,) * 4, 1, norm_layer=layer),
                mask_predictor=MaskRCNNPredictor(features, features, classes + 1)
                if states == 1
                else _SharedMasks(features, classes),
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
            pyramid = feature_pyramid(backbone, layer, features, (2, 3, 4), LastLevelP6P7(features, features))
            thresholds = {"score_thresh": score, "nms_thresh": overlap, "detections_per_img": most}
            if kind == "retinanet":
                self.detector = RetinaNet(
                    pyramid,
                    classes + 1,
                    anchor_generator=body_anchors(2 * anchor_px, octaves=3),
                    topk_candidates=400,
                    **thresholds,
                )
            else:
                self.detector = FCOS(pyramid, classes + 1, topk_candidates=400, **thresholds)

        self.detector.transform = as_it_is()

    def forward(
        self, images: Tensor, targets: Sequence[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses by name in training, detections per image in evaluation."""
        expanded = list(images.expand(-1, 3, -1, -1))
        if not self.training or self.dense is None or targets is None:
            answer: dict[str, Tensor] | list[dict[str, Tensor]] = self.detector(
                expanded, None if targets is None else list(targets)
            )
            return answer
        with watched(self.detector.backbone) as seen:
            losses: dict[str, Tensor] = self.detector(expanded, list(targets))
        logits = self.dense(seen[0])
        size = (logits.shape[2], logits.shape[3])
        classes = torch.stack([_classes_of_places(target, size) for target in targets])
        return losses | {"loss_dense": dense_loss(logits, classes)}


def _classes_of_places(target: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
    """The class of each place of the finest pyramid level, 0 for background, shape `size`."""
    if not len(target["masks"]):
        return torch.zeros(*size, dtype=torch.int64, device=target["labels"].device)
    masks = functional.adaptive_avg_pool2d(target["masks"].float(), size) >= 0.5
    # Bodies do not overlap but at their rims, where any of them will do.
    return (masks * target["labels"][:, None, None]).amax(dim=0)


class _SharedPredictor(nn.Module):
    """Class scores as the sum of a level's and a state's, and one box for all classes."""

    def __init__(self, channels: int, classes: int, states: int) -> None:
        super().__init__()
        if classes % states:
            raise ValueError(f"{classes} classes are not every level in each of {states} states")
        self.classes = classes
        self.background = nn.Linear(channels, 1)
        self.levels = nn.Linear(channels, classes // states)
        self.states = nn.Linear(channels, states)
        self.box = nn.Linear(channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(scores, boxes) of regions, shapes (n, 1 + classes) and (n, 4 * (1 + classes))."""
        scores = (self.levels(x)[:, :, None] + self.states(x)[:, None]).flatten(1)
        return torch.cat([self.background(x), scores], dim=1), self.box(x).repeat(1, 1 + self.classes)


class _SharedMasks(nn.Module):
    """One outline for all classes; otherwise torchvision's `MaskRCNNPredictor`."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.predictor = MaskRCNNPredictor(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of shape (n, 1 + classes, rows, columns)."""
        logits: Tensor = self.predictor(x)
        return logits.expand(-1, 1 + self.classes, -1, -1)
