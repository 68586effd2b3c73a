"""Hounsfield units: what each tissue is worth in CT, with its spread, voltage and contrast agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from torch import Tensor

from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

HOUNSFIELD: Final[Mapping[Tissue, tuple[float, float]]] = {
    Tissue.AIR: (-1000.0, 0.0),
    Tissue.GAS: (-960.0, 0.0),
    Tissue.SKIN: (10.0, 15.0),
    Tissue.FAT: (-105.0, 8.0),
    Tissue.VISCERAL_FAT: (-98.0, 8.0),
    Tissue.MUSCLE: (48.0, 12.0),
    Tissue.LUNG: (-885.0, 35.0),
    Tissue.SOFT: (38.0, 8.0),
    Tissue.LIVER: (57.0, 10.0),
    Tissue.SPLEEN: (48.0, 6.0),
    Tissue.KIDNEY: (33.0, 5.0),
    Tissue.RENAL_PELVIS: (-40.0, 30.0),
    Tissue.HEART: (42.0, 6.0),
    Tissue.ARTERY: (42.0, 6.0),
    Tissue.VEIN: (40.0, 6.0),
    Tissue.BOWEL: (38.0, 8.0),
    Tissue.FAECES: (20.0, 30.0),
    Tissue.FLUID: (14.0, 14.0),
    Tissue.DISC: (82.0, 16.0),
    Tissue.CORD: (38.0, 4.0),
    Tissue.CANAL: (16.0, 6.0),
    Tissue.CARTILAGE: (110.0, 45.0),
    Tissue.CALCIUM: (650.0, 250.0),
    Tissue.TABLE_SHELL: (0.0, 120.0),
    Tissue.TABLE_FOAM: (-930.0, 30.0),
}
"""Mean and deviation between persons, HU at 120 kVp without contrast agent; bone has `MINERAL_SLOPE`."""

DISEASED_HOUNSFIELD: Final[Mapping[Tissue, tuple[float, float]]] = {
    Tissue.TUMOUR: (52.0, 12.0),
    Tissue.HAEMATOMA: (62.0, 8.0),
    Tissue.CEMENT: (1750.0, 320.0),
    Tissue.METAL: (8500.0, 3500.0),
}
"""The same for what disease and surgery bring: PMMA with a third of barium or zirconium, titanium (two
deviations up: steel). Scanners without an extended scale cut both metals off at 3071 HU."""

HEAVY_EXPONENT: Final[Mapping[Tissue, float]] = {Tissue.CEMENT: 1.6, Tissue.METAL: 1.1}
"""HU of these go with (120 / kVp) to this power: the photoelectric part of barium and titanium."""

MINERAL_SLOPE: Final[Mapping[int, float]] = {80: 1.70, 100: 1.38, 120: 1.18, 140: 1.05}
"""HU per mg/cm3 of bone mineral at a tube voltage in kVp (calcium's attenuation falls with the energy)."""

MARROW_HU: Final = 5.0
"""HU of cancellous bone without mineral: red and fatty marrow together."""

FAT_HU: Final = -110.0
"""HU between marrow without fat and marrow that is all fat; `MARROW_HU` holds at `USUAL_FAT`."""

USUAL_FAT: Final = 0.5

OEDEMA_HU: Final = 15.0
"""HU that marrow gains where water has displaced all of its fat."""

TUMOUR_HU: Final = 40.0
"""HU that marrow gains where solid tumour has displaced all of it."""


@dataclass(frozen=True)
class CtPalette:
    """Numbers for one scan.

    Attributes:
        kvp: tube voltage, one of `MINERAL_SLOPE`.
        agent: HU that contrast agent adds per tissue.
        offsets: HU added per tissue without a physical reason (training only).
        mineral_scale: factor on the bone's slope (training only).
    """

    kvp: int = 120
    agent: Mapping[Tissue, float] = field(default_factory=dict)
    offsets: Mapping[Tissue, float] = field(default_factory=dict)
    mineral_scale: float = 1.0

    def tissue(self, matter: Matter) -> float:
        """HU of soft matter."""
        if matter.tissue in DISEASED_HOUNSFIELD:
            return self._diseased(matter)
        mean, spread = HOUNSFIELD[matter.tissue]
        iodine = self.agent.get(matter.tissue, 0.0)
        return mean + spread * matter.deviation + iodine + self.offsets.get(matter.tissue, 0.0)

    def _diseased(self, matter: Matter) -> float:
        mean, spread = DISEASED_HOUNSFIELD[matter.tissue]
        heavy = float((120.0 / self.kvp) ** HEAVY_EXPONENT.get(matter.tissue, 0.0))
        value = (mean + spread * matter.deviation) * heavy
        # Tumours drink as much contrast agent as muscle and more; a clot drinks none.
        iodine = 2.5 * self.agent.get(Tissue.MUSCLE, 0.0) if matter.tissue is Tissue.TUMOUR else 0.0
        return value + iodine + self.offsets.get(Tissue.SOFT, 0.0)

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor | float:
        """HU of bone: its mineral density in mg/cm3, and what fills its spaces."""
        displaced = OEDEMA_HU * marrow.oedema + TUMOUR_HU * marrow.tumour
        displaced = displaced + FAT_HU * (marrow.fat - USUAL_FAT)
        return (
            MARROW_HU
            + displaced
            + self.offsets.get(Tissue.BONE, 0.0)
            + MINERAL_SLOPE[self.kvp] * self.mineral_scale * density
        )

    def grain(self, matter: Matter) -> float:
        """Amplitude in HU of the texture of soft matter."""
        if matter.tissue is Tissue.LUNG:
            return 260.0
        if matter.tissue is Tissue.FAECES:
            return 60.0
        if matter.tissue is Tissue.CARTILAGE:
            return 40.0
        if matter.tissue is Tissue.CEMENT:
            return 180.0 * matter.grain
        if matter.tissue is Tissue.MUSCLE:
            return 90.0 * matter.grain
        return 12.0 * matter.grain

    @classmethod
    def sample(cls, generator: np.random.Generator, *, training: bool = False) -> CtPalette:
        """A voltage, sometimes contrast agent; for training also tissues brighter or darker than any."""
        kvp = int(generator.choice(list(MINERAL_SLOPE), p=[0.05, 0.25, 0.6, 0.1]))
        agent: dict[Tissue, float] = {}
        if generator.random() < 0.45:
            dose = between(generator, 0.6, 1.3) * (120.0 / kvp) ** 1.2
            arterial = between(generator, 0.0, 1.0)
            agent = {
                Tissue.ARTERY: dose * (110.0 + 220.0 * arterial),
                Tissue.VEIN: dose * (110.0 - 60.0 * arterial),
                Tissue.HEART: dose * (90.0 + 120.0 * arterial),
                Tissue.KIDNEY: dose * between(generator, 100.0, 180.0),
                Tissue.LIVER: dose * (55.0 - 35.0 * arterial),
                Tissue.SPLEEN: dose * 75.0,
                Tissue.SOFT: dose * 35.0,
                Tissue.BOWEL: dose * between(generator, 20.0, 60.0),
                Tissue.MUSCLE: dose * 12.0,
            }
            if generator.random() < 0.3:
                agent[Tissue.RENAL_PELVIS] = dose * between(generator, 200.0, 900.0)
        if generator.random() < 0.15:
            agent[Tissue.FLUID] = between(generator, 80.0, 350.0)
        if not training:
            return cls(kvp, agent)
        offsets: dict[Tissue, float] = {
            tissue: around(generator, 0.0, 25.0)
            for tissue in HOUNSFIELD
            if tissue not in (Tissue.AIR, Tissue.GAS)
        }
        offsets[Tissue.BONE] = around(generator, 0.0, 30.0)
        return cls(kvp, agent, offsets, float(np.exp(around(generator, 0.0, 0.2))))
