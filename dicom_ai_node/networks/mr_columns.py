"""A `ColumnDetector` over every slice of a sagittal MR stack, each with its two neighbours."""

from __future__ import annotations

from typing import Final, cast

import torch
from torch import Tensor, nn

from dicom_ai_node.networks.column_detector import ColumnAnswer
from dicom_ai_node.networks.mr_intensity import filled_up, with_neighbours

NEIGHBOURS: Final = 3
"""Channels of the network: the slice before, the slice itself, the slice behind."""

OFFSET_UNIT_MM: Final = 10.0
"""Offsets are answered in this unit: numbers about 1 are learned best."""


def answer_stack(network: nn.Module, stack: Tensor, batch: int = 4) -> ColumnAnswer:
    """What a network says of every slice of a stack.

    Args:
        network: a `ColumnDetector` of `NEIGHBOURS` channels.
        stack: (slices, rows, columns), -1 to 1, on any device.
        batch: slices that run at once.

    Returns:
        float32 on the CPU: body and offset cut to the size of the stack, heatmaps with what was filled up.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    multiple = int(cast("int", network.multiple))
    rows, columns = stack.shape[1:]
    parts: list[ColumnAnswer] = []
    for slices in torch.split(with_neighbours(filled_up(stack, multiple)), batch):
        with torch.inference_mode():
            parts.append(ColumnAnswer(*(item.float().cpu() for item in network(slices.to(device)))))
    body, offset, heatmaps = (torch.cat(items) for items in zip(*parts, strict=True))
    return ColumnAnswer(body[:, :rows, :columns], offset[:, :, :rows, :columns], heatmaps)
