"""Pulse sequences: what is left of a tissue's magnetisation when the scanner listens.

Signals are relative to the fully relaxed magnetisation of water; after an inversion they may be negative.
Equations: Haacke, Brown et al., Magnetic Resonance Imaging (2014), chapters 8 (spin echo, inversion
recovery) and 18 (spoiled gradient echo); Bernstein, King, Zhou, Handbook of MRI Pulse Sequences (2004), 14.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

Fat = Literal["with", "saturated", "water-image", "fat-image", "in-phase", "opposed-phase"]
"""What becomes of the fat: seen, spectrally saturated, or taken apart from water by Dixon's method."""

SeriesKind = Literal[
    "t1", "t2", "stir", "t2-fs", "dixon-water", "dixon-fat", "dixon-in", "dixon-opposed", "localizer"
]

FAT_SHIFT_PPM: Final = 3.4
"""Chemical shift between water and the methylene protons of fat."""

HERTZ_PER_PPM: Final = 42.577
"""Of protons, per tesla."""


@dataclass(frozen=True)
class MrSequence:
    """One pulse sequence.

    Attributes:
        kind: what a radiologist calls the images.
        readout: SE spin echo, IR inversion recovery with spin echoes, GR spoiled gradient echo.
        repetition_ms, echo_ms: TR and (effective) TE.
        inversion_ms: TI of an inversion recovery.
        flip_deg: flip angle of the excitation.
        echo_train: echoes per excitation; above 1 a turbo (fast) spin echo.
        fat: what becomes of the fat.
        bandwidth_hz: per pixel in the frequency direction.
        magnetisation_transfer: how far off-resonance pulses of the other slices saturate what is bound to
            macromolecules, 0..1 (Melki and Mulkern, Magn Reson Med 1992; 24:184).
    """

    kind: SeriesKind
    readout: Literal["SE", "IR", "GR"]
    repetition_ms: float
    echo_ms: float
    inversion_ms: float | None = None
    flip_deg: float = 90.0
    echo_train: int = 1
    fat: Fat = "with"
    bandwidth_hz: float = 180.0
    magnetisation_transfer: float = 0.0

    def __post_init__(self) -> None:
        if self.repetition_ms <= 0 or not 0 < self.echo_ms < self.repetition_ms:
            raise ValueError(f"TR {self.repetition_ms} ms and TE {self.echo_ms} ms: 0 < TE < TR")
        if (self.readout == "IR") != (self.inversion_ms is not None):
            raise ValueError("an inversion recovery, and nothing else, has an inversion time")

    def signal(self, t1_ms: float, t2_ms: float, t2_star_ms: float) -> float:
        """Transverse magnetisation at the echo of protons with these relaxation times (ms), -1..1."""
        if t1_ms <= 0 or t2_ms <= 0 or t2_star_ms <= 0:
            return 0.0
        tr, te = self.repetition_ms, self.echo_ms
        recovered = float(np.exp(-tr / t1_ms))
        if self.readout == "GR":
            angle = np.radians(self.flip_deg)
            steady = np.sin(angle) * (1.0 - recovered) / (1.0 - np.cos(angle) * recovered)
            return float(steady * np.exp(-te / t2_star_ms))
        refocused = float(np.exp(-(tr - 0.5 * te) / t1_ms))
        if self.inversion_ms is None:
            along = 1.0 - 2.0 * refocused + recovered
        else:
            along = 1.0 - 2.0 * np.exp(-self.inversion_ms / t1_ms) + 2.0 * refocused - recovered
        return float(along * np.exp(-te / t2_ms))

    def fat_shift_px(self, field_t: float) -> float:
        """How far fat is misplaced in the frequency direction, in acquired pixels."""
        return FAT_SHIFT_PPM * HERTZ_PER_PPM * field_t / self.bandwidth_hz
