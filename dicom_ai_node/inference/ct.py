"""The three networks of the CT pipeline as functions from tensors to tensors.

Volumes and crops run head-ward, back-ward, left-ward (slices to superior, rows to posterior, columns to
left) with cubic voxels of `spacing_mm`; planes run foot-ward and back-ward. Values are Hounsfield units.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ModelError
from dicom_ai_node.inference.bundle import Bundle
from dicom_ai_node.networks.heatmaps import peak_positions
from dicom_ai_node.networks.intensity import OUTLINED, clipped_moments, marker, standardise
from dicom_ai_node.networks.overlapping import PatchInput

BATCH = 4
"""Crops that run at once: enough to keep a device busy, few enough for a small memory."""


def spacing_mm(bundle: Bundle) -> float:
    """Edge of a voxel or pixel that the network was trained on."""
    return bundle.metadata.ct.spacing_mm


def crop_shape(bundle: Bundle) -> tuple[int, ...]:
    """Size of the crop or plane that the network was trained on.

    Raises:
        ModelError: the bundle takes any size.
    """
    size = bundle.metadata.ct.size
    if size is None:
        raise ModelError(f"{bundle.name}: metadata.json names no preprocessing.size")
    return size


def look_of(bundle: Bundle, scanned: Tensor) -> PatchInput:
    """What is done to patches and crops of a volume before the network sees them.

    Args:
        scanned: HU of the volume at any spacing: what standardisation over a volume is told by.
    """
    options = bundle.metadata.ct
    moments = clipped_moments(scanned, options.clip_hu) if options.standardised == "volume" else None
    return PatchInput(options.clip_hu, options.smoothing_mm / options.spacing_mm, moments)


def levels(bundle: Bundle) -> tuple[Level, ...]:
    """What each heatmap of a localisation bundle stands for."""
    return tuple(Level(name) for name in bundle.metadata.output_channels)


@torch.inference_mode()
def localise(bundle: Bundle, volume: Tensor) -> Tensor:
    """One heatmap per level over a whole volume at once.

    Args:
        volume: HU, shape (slices, rows, columns), any size.

    Returns:
        float32, shape (levels, slices, rows, columns); 1 is the peak that training asks for.
    """
    image = standardise(volume, bundle.metadata.ct.clip_hu)[None, None].to(bundle.device)
    multiple = int(cast("int", bundle.network.multiple))
    padding = [amount for length in reversed(image.shape[2:]) for amount in (0, (-length) % multiple)]
    padded = functional.pad(image, padding, mode="replicate")
    heatmaps: Tensor = bundle.network(padded).product[0]
    slices, rows, columns = volume.shape
    return heatmaps[:, :slices, :rows, :columns].float()


@torch.inference_mode()
def segment(bundle: Bundle, crops: Tensor, look: PatchInput) -> Tensor:
    """Probabilities of background, normal and fractured body for the vertebra in the middle of each crop.

    Args:
        crops: HU, shape (crops, slices, rows, columns): `crop_shape` with the look's `margin` on every side.
        look: `look_of` the volume that they were cut out of.

    Returns:
        float32, shape (crops, 3, slices, rows, columns) with `crop_shape`.

    Raises:
        ModelError: the bundle does not say how wide the marker is that its network sees.
    """
    options = bundle.metadata.ct
    if options.marker_sigma_mm is None and bundle.metadata.network.arguments.get("in_channels") != 1:
        raise ModelError(
            f"{bundle.name}: metadata.json names no preprocessing.marker_sigma_mm, its network sees one"
        )
    answers = []
    for batch in torch.split(crops, BATCH):
        image = look.standardised(torch.stack([look.filtered(crop) for crop in batch.to(bundle.device)]))
        channels = [image]
        if options.marker_sigma_mm is not None:
            sigma = options.marker_sigma_mm / options.spacing_mm
            channels.append(marker(crop_shape(bundle), sigma).to(bundle.device).expand_as(image))
        logits = bundle.network(torch.stack(channels, dim=1))
        answers.append(logits.float().softmax(dim=1))
    return torch.cat(answers)


@torch.inference_mode()
def six_points(bundle: Bundle, planes: Tensor) -> Tensor:
    """The six morphometry points on mid-sagittal planes.

    Args:
        planes: shape (planes, 2, rows, columns): HU, and the probability that a pixel is the body. A network
            of one channel, as P3's, is shown the body's binary mask alone.

    Returns:
        float32, shape (planes, 6, 2): [row, column], sub-pixel, in the order of `report.SIX_POINT_NAMES`.
    """
    answers = []
    outline_only = bundle.metadata.network.arguments.get("in_channels") == 1
    for batch in torch.split(planes, 4 * BATCH):
        if outline_only:
            seen = (batch[:, 1:] >= OUTLINED).to(batch.dtype)
        else:
            image = torch.stack([standardise(plane, bundle.metadata.ct.clip_hu) for plane in batch[:, :1]])
            seen = torch.cat([image, batch[:, 1:]], dim=1)
        heatmaps = bundle.network(seen.to(bundle.device)).product
        answers.append(peak_positions(heatmaps)[0])
    return torch.cat(answers)
