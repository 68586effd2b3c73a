"""Several series of one person that lie on one grid: the person is painted once and seen by all of them.

Painting costs most of a rendering; where T1, T2 and STIR are wanted on the same voxels (what a classifier of
paired series is taught with) it need not be done three times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.tissues import Marrow, Matter


@dataclass(frozen=True)
class JoinedPalette(MrPalette):
    """The palettes of several series as one of more channels: water and fat of the first, of the second, ...

    Attributes:
        parts: of the series, all spin or inversion echoes. What is asked of the palette itself (its
            sequence) is the first one's.
    """

    parts: tuple[MrPalette, ...] = ()

    def named(self, name: str, deviation: float = 0.0) -> Tensor:
        """Shape (2 * series, 1, 1, 1)."""
        return torch.cat([part.named(name, deviation) for part in self.parts])

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor:
        """Shape (2 * series, ...)."""
        return torch.cat([part.bone(density, marrow) for part in self.parts])

    def grain(self, matter: Matter) -> float:
        """The mean amplitude of the texture: a painting has one for all channels."""
        return float(np.mean([part.grain(matter) for part in self.parts]))


def joined(palettes: Sequence[MrPalette]) -> MrPalette:
    """One palette for all; a single one as it is.

    Raises:
        ValueError: there is none, or a gradient echo among several: the canal is painted otherwise in it.
    """
    if not palettes:
        raise ValueError("no palette")
    if len(palettes) == 1:
        return palettes[0]
    if any(palette.sequence.readout == "GR" for palette in palettes):
        raise ValueError("a gradient echo is painted on its own")
    first = palettes[0]
    return JoinedPalette(
        first.sequence, first.field_t, first.person, first.fat_left, first.texture, first.device,
        tuple(replace(palette, device=first.device) for palette in palettes),
    )  # fmt: skip
