"""What the workstation makes of the detector's signal: logarithm, edges, contrast curve, levels.

The steps are those that all makers share (multi-scale processing after Vuylsteke and Schoeters 1994): the
logarithm of the exposure, normalised by the part of the histogram that holds the patient; a pyramid whose
details are amplified, small ones most, and whose base is compressed; a curve of the shape of film's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as f
from torch import Tensor

from dicom_ai_node.phantom.randomness import around, between, stream

_SCALES = 6
_SPINE_GREY = 0.46
_LEAST_RANGE = 0.9
"""Logarithm of exposure between black and the spine's grey: no workstation stretches less to that."""


@dataclass(frozen=True)
class Processing:
    """Settings.

    Attributes:
        inverted: MONOCHROME1, stored values fall from black to white.
        bits: 10 to 14 stored.
        base: factor of the broad differences (under 1 flattens the image).
        detail: factor of the fine ones.
        power: exponent on the details' amplitude; under 1 lifts faint ones.
        gain: steepness of the contrast curve.
        shift: over- (positive, darker) or underexposure that the normalisation left, of the range 0..1.
        latitude: shares of the histogram below black, and below the middle grey of the spine.
        masked: whether the collimator's shadow is blacked out.
        curve_seed: of a contrast curve beyond realism (training), None for film's.
        mottle: amplitude of blotches beyond realism (training).
    """

    inverted: bool = False
    bits: int = 12
    base: float = 0.85
    detail: float = 1.4
    power: float = 0.92
    gain: float = 4.0
    shift: float = 0.0
    latitude: tuple[float, float] = (0.04, 0.65)
    masked: bool = True
    curve_seed: int | None = None
    mottle: float = 0.0


def sample_processing(generator: np.random.Generator, *, training: bool = False) -> Processing:
    """One maker's taste; for training also what no maker would do."""
    modest = Processing(
        inverted=bool(generator.random() < 0.4),
        bits=int(generator.choice([10, 12, 12, 12, 14])),
        base=between(generator, 0.55, 1.0),
        detail=between(generator, 0.9, 1.6),
        power=between(generator, 0.82, 1.0),
        gain=between(generator, 2.5, 4.5),
        shift=around(generator, 0.0, 0.07),
        latitude=(between(generator, 0.01, 0.1), between(generator, 0.55, 0.75)),
        masked=bool(generator.random() < 0.7),
    )
    if not training:
        return modest
    return Processing(
        inverted=modest.inverted,
        bits=modest.bits,
        base=between(generator, 0.3, 1.3),
        detail=between(generator, 0.6, 3.0),
        power=between(generator, 0.7, 1.1),
        gain=between(generator, 1.5, 7.0),
        shift=around(generator, 0.0, 0.15),
        latitude=modest.latitude,
        masked=modest.masked,
        curve_seed=int(generator.integers(2**31)) if generator.random() < 0.4 else None,
        mottle=between(generator, 0.0, 0.1) if generator.random() < 0.3 else 0.0,
    )


def process(exposure: Tensor, field: Tensor, settings: Processing) -> Tensor:
    """Brightness of a display, 0 black to 1 white (bone), shape (rows, columns).

    Args:
        exposure: relative exposure of each pixel, 1 behind the spine.
        field: bool, the pixels that the collimator left open.
        settings: the workstation's.
    """
    density = -torch.log(exposure.clamp(min=1e-3, max=60.0))
    if settings.base != 1.0 or settings.detail != 1.0 or settings.power != 1.0:
        density = _enhanced(density, field, settings)
    # Direct radiation beside the patient is no part of the histogram that counts.
    patient = density[field & (exposure < 12.0)]
    if patient.numel() < 64:
        patient = density.reshape(-1)
    # What a workstation is set up for, the spine, becomes middle grey; what is denser may well be white.
    low, middle = _quantiles(patient, settings.latitude[0], settings.latitude[1])
    share = _SPINE_GREY + (density - middle) * (0.5 / max(middle - low, _LEAST_RANGE)) - settings.shift
    curve = 1.0 / (1.0 + torch.exp(-settings.gain * (share - 0.5)))
    ends = [1.0 / (1.0 + float(np.exp(settings.gain * (0.5 - x)))) for x in (-0.06, 1.06)]
    shown = ((curve - ends[0]) / (ends[1] - ends[0])).clamp(0.0, 1.0)
    if settings.curve_seed is not None:
        shown = _odd_curve(shown, settings.curve_seed)
    if settings.mottle:
        shown = _mottled(shown, settings)
    return shown.masked_fill(~field, 0.0) if settings.masked else shown


def stored(shown: Tensor, settings: Processing) -> Tensor:
    """Stored pixel values, int32 of the shape of `shown`: of `bits` bits, falling for MONOCHROME1."""
    top = (1 << settings.bits) - 1
    level = 1.0 - shown if settings.inverted else shown
    return (level * top).round_().to(torch.int32)


def downsampled(image: Tensor, factor: int) -> Tensor:
    """Means of squares of `factor` pixels; the last ones may be incomplete. Shape (ceil, ceil)."""
    return f.avg_pool2d(
        image[None, None], factor, ceil_mode=True, count_include_pad=False
    )[0, 0]  # fmt: skip


def upsampled(image: Tensor, factor: int, shape: tuple[int, int]) -> Tensor:
    """Linear between the centres of squares of `factor` pixels, cut to `shape`."""
    big = f.interpolate(image[None, None], scale_factor=factor, mode="bilinear", align_corners=False)[0, 0]
    return big[: shape[0], : shape[1]]


def _enhanced(density: Tensor, field: Tensor, settings: Processing) -> Tensor:
    # The shadow of the collimator would draw a bright line about the field.
    inside = density[field] if bool(field.any()) else density
    current = density.masked_fill(~field, float(inside.median()))
    details = []
    for _ in range(_SCALES):
        small = downsampled(current, 2)
        shape = (current.shape[0], current.shape[1])
        details.append(current - upsampled(small, 2, shape))
        current = small
    mean = float(current.mean())
    current = mean + settings.base * (current - mean)
    for scale in reversed(range(_SCALES)):
        part = details[scale]
        # From the finest, which is mostly noise, over the middle ones to the base's own factor.
        weight = [0.75, 1.0, 1.0, 0.85, 0.6, 0.3][scale]
        gain = (
            1.0 + (settings.detail - 1.0) * weight
            if scale < 4
            else (settings.base + (settings.detail - settings.base) * weight)
        )
        if settings.power != 1.0 and scale > 0:
            part = part.sign() * (part.abs() / 0.2 + 1e-6) ** settings.power * 0.2
        shape = (part.shape[0], part.shape[1])
        current = upsampled(current, 2, shape) + gain * part
    return torch.where(field, current, density)


def _quantiles(values: Tensor, low: float, high: float) -> tuple[float, float]:
    some = values[:: max(1, values.numel() // 100_000)].sort().values
    last = len(some) - 1
    return float(some[int(low * last)]), float(some[int(high * last)])


def _odd_curve(shown: Tensor, seed: int) -> Tensor:
    generator = stream(seed, "curve")
    steps = np.exp(0.7 * generator.standard_normal(10))
    curve = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    table = torch.from_numpy(np.interp(np.linspace(0, 1, 1025), np.linspace(0, 1, 11), curve)).to(shown)
    return table[(shown * 1024).to(torch.int64)]


def _mottled(shown: Tensor, settings: Processing) -> Tensor:
    generator = stream(settings.curve_seed or 0, "mottle", int(settings.mottle * 1e9))
    rows, columns = shown.shape
    cells = torch.from_numpy(
        generator.standard_normal((rows // 40 + 2, columns // 40 + 2)).astype(np.float32)
    )
    return (shown + settings.mottle * upsampled(cells.to(shown.device), 40, (rows, columns))).clamp(0.0, 1.0)
