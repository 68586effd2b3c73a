"""What all recipes have in common: how a network is trained, and what its bundle says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dicom_ai_node.training.loop import LoopOptions


@dataclass(frozen=True, kw_only=True)
class NetworkRecipe:
    """How one network is trained.

    Attributes:
        name: of the task and of its bundle.
        description: one line for the bundle.
        architecture: name of the class in `networks`.
        arguments: of that class.
        output_channels: what the channels of the answer mean.
        preprocessing: spacing, size, intensities (see `inference.preprocessing`).
        pool_size: phantoms, films or patients to draw from; the first ones are held out.
        loop: optimiser, learning rate, schedule.
        network: which of several networks the task knows; empty for the one that it has without a choice.
        taught_shares: how frequent a class is among what is drawn; empty where no share is fixed.
    """

    name: str
    description: str
    architecture: str
    arguments: Mapping[str, Any]
    output_channels: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    pool_size: int
    loop: LoopOptions = field(default_factory=LoopOptions)
    network: str = ""
    taught_shares: Mapping[str, float] = field(default_factory=dict)
