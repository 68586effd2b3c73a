"""The losses of P3: smooth L1 on heatmaps (eq. 9), Dice with cross-entropy on classes (eq. 13)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_SMOOTHING = 1e-5


def heatmap_loss(predicted: Tensor, target: Tensor, *, near: float = 20.0, smoothing: float = 1.0) -> Tensor:
    """Smooth L1 (P3 eq. 9), with more weight near any landmark.

    Nearly every voxel of nearly every heatmap is background: without a weight the best first answer is zero
    everywhere, and training lingers there.

    Args:
        predicted, target: shape (batch, landmarks, *size).
        near: weight at a landmark's place, in the maps of all landmarks; far from all landmarks it is 1.
        smoothing: sigma of eq. 9; the loss is quadratic below 1 / sigma squared.

    Returns:
        The weighted sum per sample divided by the number of voxels of one map, averaged over the batch.
    """
    weight = 1.0 + (near - 1.0) * target.amax(dim=1, keepdim=True).clamp(0, 1)
    beta = 1.0 / smoothing**2
    loss = functional.smooth_l1_loss(predicted, target, reduction="none", beta=beta)
    voxels = target[0, 0].numel()
    return (weight * loss).sum() / (voxels * target.shape[0])


def dice_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss plus cross-entropy (P3 eq. 13).

    The Dice term is taken over the whole batch and over the foreground classes that occur in it; with one
    vertebra per crop, one of normal and fractured is always absent from a sample.

    Args:
        logits: shape (batch, classes, *size).
        target: class numbers, int64, shape (batch, *size); 0 is background.
    """
    probabilities = logits.softmax(dim=1)
    entropy = functional.cross_entropy(logits, target)
    one_hot = functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    # Body against background first: it is what the label map is drawn from.
    foreground = _dice(1 - probabilities[:, :1], 1 - one_hot[:, :1])
    present = one_hot[:, 1:].sum(dim=(0, *range(2, one_hot.ndim))) > 0
    classes = _dice(probabilities[:, 1:], one_hot[:, 1:])
    per_class = (classes * present).sum() / present.sum().clamp(min=1)
    return entropy + 0.5 * foreground.mean() + 0.5 * per_class


def published_dice_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss plus cross-entropy as P3 prints them (eq. 13): nothing is weighted, every label counts alike.

    The Dice term is the mean over all labels, background among them, each taken over the whole batch.

    Args:
        logits: shape (batch, classes, *size).
        target: class numbers, int64, shape (batch, *size).
    """
    one_hot = functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
    return _dice(logits.softmax(dim=1), one_hot).mean() + functional.cross_entropy(logits, target)


def _dice(predicted: Tensor, target: Tensor) -> Tensor:
    axes = (0, *range(2, predicted.ndim))
    overlap = 2 * (predicted * target).sum(dim=axes) + _SMOOTHING
    size = (predicted**2).sum(dim=axes) + (target**2).sum(dim=axes) + _SMOOTHING
    return 1 - overlap / size
