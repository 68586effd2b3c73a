"""From an ideal plane to the scanner's image, by way of k-space.

Water and fat are sampled on the scanner's own matrix (truncation: Gibbs ringing), fat displaced along the
frequency direction (chemical shift), lines disturbed by what moves while they are read (ghosts), some lines
never read (partial Fourier), noise added to what is read, the rest filled with zeros; the magnitude is shown,
so noise is Rician where there is no signal (Gudbjartsson and Patz, Magn Reson Med 1995; 34:910).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Readout:
    """How k-space is read.

    Attributes:
        matrix: (rows, columns) that are sampled; at most those of the image.
        phase_axis: "rows" where lines are encoded from row to row, "columns" from column to column.
        partial: share of the phase lines that are read, above 0.5.
        apodisation: 0 for a sharp edge of k-space, 1 for a Hann window.
        fat_shift_px: displacement of fat along the frequency direction in sampled pixels (signed).
        breathing: relative amplitude of ghosts of what breathing moves.
        pulsation: the same of vessels and cerebrospinal fluid.
        breaths, beats: cycles during the scan: ghosts lie at multiples of that many sampled pixels.
        motion_px: how far the patient moves during the scan, sampled pixels.
        noise: standard deviation of the noise in each of the two parts of an image pixel.
    """

    matrix: tuple[int, int]
    phase_axis: Literal["rows", "columns"] = "rows"
    partial: float = 1.0
    apodisation: float = 0.3
    fat_shift_px: float = 1.0
    breathing: float = 0.0
    pulsation: float = 0.0
    breaths: float = 30.0
    beats: float = 90.0
    motion_px: float = 0.0
    noise: float = 10.0


@dataclass(frozen=True)
class Plane:
    """Tensors of (slices, rows, columns): signal of water and of fat, of what breathes and what pulses."""

    water: Tensor
    fat: Tensor
    breathing: Tensor | None = None
    pulsing: Tensor | None = None


def read_out(plane: Plane, readout: Readout, generator: np.random.Generator) -> Tensor:
    """The magnitude image, shape (slices, rows, columns); noise is drawn slice by slice.

    Raises:
        ValueError: the matrix is larger than the image, or fewer than half of the lines are read.
    """
    _, rows, columns = plane.water.shape
    height, width = readout.matrix
    if not (2 <= height <= rows and 2 <= width <= columns):
        raise ValueError(f"a matrix of {readout.matrix} cannot be sampled from {(rows, columns)} pixels")
    if not 0.5 < readout.partial <= 1.0:
        raise ValueError("partial Fourier reads more than half of the lines")
    device = plane.water.device
    by_rows = readout.phase_axis == "rows"
    # Frequencies in cycles per sampled pixel, zero frequency in the middle.
    ky = (torch.arange(height, device=device, dtype=torch.float32) - height // 2) / height
    kx = (torch.arange(width, device=device, dtype=torch.float32) - width // 2) / width
    frequency = kx[None, :] if by_rows else ky[:, None]
    phase = ky[:, None] if by_rows else kx[None, :]
    lines = height if by_rows else width
    order = (torch.arange(lines, device=device, dtype=torch.float32) / lines).reshape(
        (lines, 1) if by_rows else (1, lines)
    )
    k = _sampled(plane.water, height, width)
    k += _sampled(plane.fat, height, width) * _turn(-frequency * readout.fat_shift_px)
    for source, amplitude, cycles in (
        (plane.breathing, readout.breathing, readout.breaths),
        (plane.pulsing, readout.pulsation, readout.beats),
    ):
        if source is not None and amplitude > 0:
            k += _sampled(source, height, width) * _unsteady(order, amplitude, cycles, generator)
    if readout.motion_px > 0:
        k *= _moved(order, phase, frequency, readout.motion_px, generator)
    window = _window(ky, readout.apodisation)[:, None] * _window(kx, readout.apodisation)[None, :]
    if readout.partial < 1.0:
        window = window * ((order + 0.5 / lines) < readout.partial)
    if readout.noise > 0:
        # Noise of the wanted strength per image pixel, whose energy all lies in the sampled matrix.
        strength = readout.noise * float(np.sqrt(height * width))
        drawn = generator.standard_normal((*k.shape, 2), dtype=np.float32) * np.float32(strength)
        k += torch.view_as_complex(torch.from_numpy(drawn)).to(device)
    k *= window
    full = torch.zeros((k.shape[0], rows, columns), dtype=torch.complex64, device=device)
    top, first = rows // 2 - height // 2, columns // 2 - width // 2
    full[:, top : top + height, first : first + width] = k
    image = torch.fft.ifft2(torch.fft.ifftshift(full, dim=(1, 2)))
    shown: Tensor = image.abs() * (rows * columns / (height * width))
    return shown


def _sampled(image: Tensor, height: int, width: int) -> Tensor:
    """K-space of the image cut to the sampled matrix, scaled so that its inverse has the same brightness."""
    _, rows, columns = image.shape
    k = torch.fft.fftshift(torch.fft.fft2(image.to(torch.complex64)), dim=(1, 2))
    top, first = rows // 2 - height // 2, columns // 2 - width // 2
    cut = k[:, top : top + height, first : first + width]
    scaled: Tensor = cut * (height * width / (rows * columns))
    return scaled


def _turn(cycles: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(cycles), cycles * (2.0 * torch.pi))


def _unsteady(order: Tensor, amplitude: float, cycles: float, generator: np.random.Generator) -> Tensor:
    # Cycles are not regular: the phase wanders, which smears ghosts of higher order.
    start, wander = float(generator.uniform(0, 2 * np.pi)), float(generator.uniform(0.0, 0.9))
    slow = float(generator.uniform(1.5, 4.0))
    angle = 2.0 * torch.pi * cycles * order + start + wander * torch.sin(2.0 * torch.pi * slow * order)
    wave = torch.sin(angle) + 0.3 * torch.sin(2.0 * angle)
    # Fresh blood changes the strength, its speed the phase, in the same rhythm: ghosts on both sides.
    return torch.complex(amplitude * wave, 0.7 * amplitude * torch.sin(angle))


def _moved(
    order: Tensor, phase: Tensor, frequency: Tensor, size: float, generator: np.random.Generator
) -> Tensor:
    """Phases of lines read after the patient has moved: a few steps at random times."""
    along = torch.zeros_like(order)
    across = torch.zeros_like(order)
    for _ in range(int(generator.integers(1, 4))):
        late = (order > float(generator.uniform(0.1, 0.9))).to(torch.float32)
        along = along + late * float(generator.normal(0.0, size))
        across = across + late * float(generator.normal(0.0, 0.6 * size))
    return _turn(-(phase * along + frequency * across))


def _window(frequency: Tensor, apodisation: float) -> Tensor:
    return 1.0 - apodisation * 0.5 * (1.0 - torch.cos(2.0 * torch.pi * frequency))
