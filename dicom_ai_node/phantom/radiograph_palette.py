"""What a radiograph sees in a tissue: how much water, and how much bone mineral, attenuates like it.

Between 30 and 100 keV every tissue attenuates nearly like a mixture of two materials (Alvarez and Macovski
1976). `WaterPalette` gives the water in HU-like numbers (-1000 is nothing, 0 is water of 1 g/cm3, so that
textures made for HU fit), `MineralPalette` the hydroxyapatite in mg/cm3. Densities: ICRU report 44.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.phantom.randomness import around
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

WATER: Final[Mapping[str, tuple[float, float]]] = {
    "air": (-1000.0, 0.0),
    "gas": (-998.0, 0.0),
    "skin": (60.0, 15.0),
    "fat": (-100.0, 8.0),
    "visceral-fat": (-95.0, 8.0),
    "muscle": (48.0, 10.0),
    "lung": (-760.0, 40.0),
    "soft": (40.0, 8.0),
    "liver": (60.0, 8.0),
    "spleen": (55.0, 6.0),
    "kidney": (45.0, 5.0),
    "renal-pelvis": (0.0, 10.0),
    "heart": (48.0, 6.0),
    "artery": (50.0, 6.0),
    "vein": (48.0, 6.0),
    "bowel": (35.0, 8.0),
    "faeces": (10.0, 30.0),
    "fluid": (10.0, 10.0),
    "disc": (80.0, 14.0),
    "cord": (38.0, 4.0),
    "canal": (12.0, 6.0),
    "cartilage": (80.0, 15.0),
    "calcium": (0.0, 0.0),
    "table-shell": (0.0, 100.0),
    "table-foam": (-950.0, 10.0),
    "bone": (0.0, 0.0),
    "tumour": (45.0, 8.0),
    "haematoma": (55.0, 8.0),
    "cement": (0.0, 30.0),
    "metal": (-200.0, 0.0),
}
"""Mean and deviation between persons; bone has a rule of its own."""

MINERAL: Final[Mapping[str, tuple[float, float]]] = {
    "calcium": (480.0, 150.0),
    "cartilage": (30.0, 30.0),
    "cement": (4500.0, 600.0),
    "metal": (8500.0, 0.0),
}
"""Mean and deviation in mg/cm3 of hydroxyapatite. Cement holds 10-30 % barium sulphate or zirconia, implants
are of titanium alloy: both as the mineral that attenuates as much at 60 keV."""

MINERAL_TISSUES: Final = frozenset(MINERAL)


@dataclass(frozen=True)
class WaterPalette:
    """Water-like part of tissues; `offsets` are added without a physical reason (training only)."""

    offsets: Mapping[str, float] = field(default_factory=dict)

    def tissue(self, matter: Matter) -> float:
        """HU-like number of soft matter."""
        mean, spread = WATER[matter.tissue.value]
        return max(-1000.0, mean + spread * matter.deviation + self.offsets.get(matter.tissue.value, 0.0))

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor | float:
        """Marrow and collagen, displaced in part by mineral: cortex holds 1.1 and 0.8 g/cm3."""
        fat = marrow.fat * (1.0 - marrow.oedema) * (1.0 - marrow.tumour)
        return 40.0 - 90.0 * fat - 0.2 * density + self.offsets.get(Tissue.BONE.value, 0.0)

    def grain(self, matter: Matter) -> float:
        """Amplitude of the texture of soft matter."""
        if matter.tissue is Tissue.LUNG:
            # Its vessels are drawn one by one.
            return 0.0
        if matter.tissue is Tissue.FAECES:
            return 60.0
        return 12.0 * matter.grain

    @classmethod
    def sample(cls, generator: np.random.Generator, *, training: bool = False) -> WaterPalette:
        """For training tissues are heavier or lighter than any."""
        if not training:
            return cls()
        return cls(
            {name: around(generator, 0.0, 35.0) for name in WATER if name not in {"air", "gas"}}
            | {Tissue.BONE.value: around(generator, 0.0, 30.0)}
        )


@dataclass(frozen=True)
class MineralPalette:
    """Bone mineral of tissues in mg/cm3; `scale` multiplies that of bone (training only)."""

    scale: float = 1.0

    def tissue(self, matter: Matter) -> float:
        """Mineral of what is no bone: calcified, or a metal, else none."""
        mean, spread = MINERAL.get(matter.tissue.value, (0.0, 0.0))
        return max(0.0, mean + spread * matter.deviation)

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor | float:
        """The mineral density itself; what fills the spaces holds none."""
        del marrow
        return density * self.scale

    def grain(self, matter: Matter) -> float:
        """Soft matter has no mineral texture."""
        del matter
        return 0.0


@dataclass(frozen=True)
class MaterialsPalette:
    """Water and mineral at once, as two channels: of bones in soft matter, which is told of elsewhere.

    Attributes:
        water, mineral: of the two channels.
        around: HU-like number of what the bones displace; the water is told relative to it.
        device: where the numbers live.
    """

    water: WaterPalette
    mineral: MineralPalette
    around: float
    device: torch.device

    def tissue(self, matter: Matter) -> Tensor:
        """Shape (2, 1, 1, 1): soft matter."""
        return self._pair(self.water.tissue(matter) - self.around, self.mineral.tissue(matter))

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor:
        """Shape (2, ...): bone of a density in mg/cm3."""
        return self._pair(self.water.bone(density, marrow) - self.around, self.mineral.bone(density, marrow))

    def grain(self, matter: Matter) -> float:
        """Amplitude of the texture of matter, the same in both channels."""
        return self.water.grain(matter)

    def _pair(self, water: Tensor | float, mineral: Tensor | float) -> Tensor:
        both = (torch.as_tensor(part, dtype=torch.float32, device=self.device) for part in (water, mineral))
        first, second = torch.broadcast_tensors(*both)
        found = torch.stack([first, second])
        return found if found.ndim > 1 else found[:, None, None, None]
