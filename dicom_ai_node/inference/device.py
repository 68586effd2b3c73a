"""Which device computes."""

from __future__ import annotations

from typing import Literal

import torch

from dicom_ai_node.errors import ConfigurationError

Choice = Literal["auto", "cpu", "cuda"]


def choose_device(choice: Choice) -> torch.device:
    """The device for `auto` (CUDA where there is one), `cpu` or `cuda`.

    Raises:
        ConfigurationError: CUDA was asked for and is not usable.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            "[models] device is 'cuda', but torch finds no usable CUDA device; "
            "install the driver, or set device to 'auto' or 'cpu'"
        )
    if choice == "auto":
        choice = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(choice)
