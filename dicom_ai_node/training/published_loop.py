"""How P3 trained its three networks: one schedule, for localisation, segmentation and points alike."""

from __future__ import annotations

from typing import Final

from dicom_ai_node.training.loop import LoopOptions

PUBLISHED_LOOP: Final = LoopOptions(
    "sgd",
    1e-4,
    weight_decay=5e-4,
    clip=2.0,
    warmup_steps=1,
    ema=0.0,
    constant=True,
    plateau=5,
    validate_every_steps=1000,
)
"""P3 table 1. Patience and validations are our own: a tenth of the rate after 5,000 steps without a lower
loss."""
