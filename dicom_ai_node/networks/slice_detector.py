"""P2's VDModule: Faster R-CNN that finds the vertebrae of a sagittal CT slice, all of one class.

torchvision's, with ResNet-18 or MobileNetV2 under a feature pyramid and fresh weights: P2 starts from
ImageNet's. `networks.film_detector` says why GroupNorm stands in for BatchNorm then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

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
from dicom_ai_node.networks.slice_frame import framed, merged, slice_frames

OVERLAP: Final = 0.4
"""Intersection over union from which on two boxes are one vertebra: neighbours in a column share a fifth."""


class SliceDetector(nn.Module):
    """Finds vertebral bodies on sagittal slices.

    Args:
        backbone: "resnet18" or "mobilenet-v2" as published; "resnet18-half" for training on a CPU.
        norm: "group", or "batch" for large batches.
        features: channels of the feature pyramid (torchvision: 256); the head shrinks with it.
        anchor_px: edge of the anchors on the finest of five pyramid levels; each level doubles it.
        score: detections below are dropped.
        overlap: non-maximum suppression.
        most: detections per slice.
        sampled: anchors and regions per slice that the losses are taken over.
        dense: a further loss asks every place of the finest level whether it is in a box, as
            `FilmDetector` does, so that fresh weights learn from all of a slice.

    `forward` takes images (batch, 1, rows, columns), 0 to 1. In training it needs `boxes` (n, 4) per image
    and gives a dictionary of losses; in evaluation it gives one dictionary per image: `boxes` (n, 4) as left,
    top, right, bottom in pixels, integers at pixel edges, and `scores` (n,), the surest first.
    """

    def __init__(
        self,
        backbone: Backbone = "resnet18",
        *,
        norm: Norm = "group",
        features: int = 256,
        anchor_px: int = 32,
        score: float = 0.05,
        overlap: float = OVERLAP,
        most: int = 60,
        sampled: int = 256,
        dense: bool = False,
    ) -> None:
        super().__init__()
        layer = norm_layer(norm)
        hidden = 4 * features
        self.dense = nn.Conv2d(features, 2, 1) if dense else None
        self.detector = FasterRCNN(
            feature_pyramid(backbone, layer, features, (1, 2, 3, 4), LastLevelMaxPool()),
            rpn_anchor_generator=body_anchors(anchor_px),
            box_head=TwoMLPHead(features * 49, hidden),
            box_predictor=FastRCNNPredictor(hidden, 2),
            box_score_thresh=score,
            box_nms_thresh=overlap,
            box_detections_per_img=most,
            # A slice shows twenty bodies at most, not hundreds of things.
            rpn_pre_nms_top_n_train=1000,
            rpn_pre_nms_top_n_test=500,
            rpn_post_nms_top_n_train=400,
            rpn_post_nms_top_n_test=150,
            box_batch_size_per_image=sampled,
            rpn_batch_size_per_image=sampled,
        )
        self.detector.transform = as_it_is()

    def forward(
        self, images: Tensor, boxes: Sequence[Tensor] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses by name in training, detections per image in evaluation."""
        expanded = list(images.expand(-1, 3, -1, -1))
        if boxes is None:
            found: list[dict[str, Tensor]] = self.detector(expanded)
            return found
        targets = [
            {"boxes": own, "labels": torch.ones(len(own), dtype=torch.int64, device=own.device)}
            for own in boxes
        ]
        with watched(self.detector.backbone) as seen:
            losses: dict[str, Tensor] = self.detector(expanded, targets)
        if self.dense is None:
            return losses
        logits = self.dense(seen[0])
        stride = images.shape[2] / logits.shape[2]
        inside = [_inside(own / stride, (logits.shape[2], logits.shape[3])) for own in boxes]
        return losses | {"loss_dense": dense_loss(logits, torch.stack(inside))}


def find_vertebrae(
    network: nn.Module,
    images: Tensor,
    spacing_mm: tuple[float, float],
    *,
    size: tuple[int, int],
    at_mm: float | None,
    clip_hu: tuple[float, float],
) -> list[tuple[Tensor, Tensor]]:
    """What a detector in evaluation mode finds on slices of one shape.

    Args:
        network: a `SliceDetector`.
        images: HU, shape (n, rows, columns), on the network's device.
        spacing_mm: of rows and columns.
        size, at_mm: of frames, see `slice_frames`.
        clip_hu: become black and white.

    Returns:
        Per slice its boxes (left, top, right, bottom in the slice's own pixels) and scores, the surest first.
    """
    shape = (images.shape[1], images.shape[2])
    frames = slice_frames(shape, spacing_mm, size=size, at_mm=at_mm)
    looks = [network(framed(images, frame, clip_hu)) for frame in frames]
    return [
        merged(
            [(frame, look[k]["boxes"], look[k]["scores"]) for frame, look in zip(frames, looks, strict=True)],
            shape,
            OVERLAP,
        )
        for k in range(len(images))
    ]


def _inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """1 where a place's middle lies in a box (left, top, right, bottom), else 0; int64, shape `size`."""
    rows = torch.arange(size[0], device=boxes.device)[None, :, None] + 0.5
    columns = torch.arange(size[1], device=boxes.device)[None, None, :] + 0.5
    left, top, right, bottom = (edge[:, None, None] for edge in boxes.unbind(1))
    within = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return within.any(dim=0).long()
