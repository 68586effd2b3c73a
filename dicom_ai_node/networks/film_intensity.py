"""What is done to a radiograph's brightness before a network sees it: the same in training and inference."""

from __future__ import annotations

import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
_COUNTED = 60_000


def film_contrast(image: Tensor, percentiles: tuple[float, float] = (1.0, 99.0)) -> Tensor:
    """Brightness between two percentiles of the image, as 0 to 1; what lies beyond is cut off.

    Makers' grey scales share no unit: the image's own percentiles are all there is.

    Args:
        image: any shape and type, brighter where bone is.
        percentiles: that become 0 and 1.
    """
    values = image.float()
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.numel() // _COUNTED)]
    low, high = torch.quantile(flat, torch.tensor([p / 100 for p in percentiles], device=flat.device))
    answer: Tensor = ((values - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return answer


def imagenet_normalised(image: Tensor) -> Tensor:
    """Three equal channels, normalised as published (P1, "Model training").

    Args:
        image: shape (batch, 1, rows, columns), 0 to 1.

    Returns:
        Shape (batch, 3, rows, columns).
    """
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).reshape(1, 3, 1, 1)
    deviation = torch.tensor(IMAGENET_DEVIATION, device=image.device).reshape(1, 3, 1, 1)
    return (image.expand(-1, 3, -1, -1) - mean) / deviation
