"""Small untrained bundles of each kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dicom_ai_node.inference.bundle import (
    Metadata,
    NetworkDefinition,
    Preprocessing,
    save_bundle,
)
from dicom_ai_node.networks.mscn import MSCN
from dicom_ai_node.networks.unet import UNet

MakeBundle = Callable[[str], Path]

_KINDS = {
    "ct-localise": (
        NetworkDefinition(
            architecture="MSCN",
            arguments={"in_channels": 1, "out_channels": 3, "channels": [4, 4, 8], "global_channels": 4},
        ),
        Preprocessing(spacing_mm=5.0, clip_hu=(-500.0, 1300.0)),
        ("T12", "L1", "S1"),
    ),
    "ct-segment": (
        NetworkDefinition(
            architecture="UNet", arguments={"in_channels": 2, "out_channels": 3, "channels": [4, 8]}
        ),
        Preprocessing(spacing_mm=2.0, size=(16, 12, 12), clip_hu=(-500.0, 1300.0), marker_sigma_mm=6.0),
        ("background", "normal", "fractured"),
    ),
    "ct-points": (
        NetworkDefinition(
            architecture="MSCN",
            arguments={
                "in_channels": 2,
                "out_channels": 6,
                "dimensions": 2,
                "channels": [4, 4, 8],
                "global_channels": 4,
            },
        ),
        Preprocessing(spacing_mm=0.6, size=(32, 32), clip_hu=(-500.0, 1300.0)),
        ("a", "b", "c", "d", "e", "f"),
    ),
}


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Write the bundle of that name and give its folder."""

    def make(name: str) -> Path:
        definition, preprocessing, channels = _KINDS[name]
        torch.manual_seed(4)
        network = {"MSCN": MSCN, "UNet": UNet}[definition.architecture](**definition.arguments)
        metadata = Metadata(
            name=name,
            version="0.0.1",
            task=name,
            description="untrained",
            authors="tests",
            license="Apache-2.0",
            intended_use="tests",
            training_data="none",
            trained_on="never",
            rebuild="no",
            output_channels=channels,
            network=definition,
            preprocessing=preprocessing,
            metrics={},
            weights=(),
            device_uid="2.25.1",
        )
        save_bundle(tmp_path / name, network, metadata)
        return tmp_path / name

    return make
