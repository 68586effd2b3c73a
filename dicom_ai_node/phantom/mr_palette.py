"""What each tissue is worth in MR: relaxation times, proton density and fat, and its signal in a sequence.

A value has two channels, water and fat, because a scanner puts fat in another place and can switch it off.

Relaxation times at 1.5 and 3 T, where measured in vivo: Stanisz et al., Magn Reson Med 2005; 54:507 (muscle,
cord, liver, kidney, heart, blood, cartilage); de Bazelaire et al., Radiology 2004; 230:652 (kidney, liver,
spleen, pancreas, muscle, marrow, fat); Gold et al., AJR 2004; 183:343 (fat, marrow, muscle, cartilage); T2 of
discs falls from nucleus to annulus and with Pfirrmann's grade (Marinelli et al., Spine 2009; 34:520;
Welsch et al., Eur Radiol 2011; 21:844). Where authors differ the number lies between them; tissues without a
measurement (faeces, oedema, ligament) are set so that they look as textbooks describe them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.randomness import around, between
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

CHANNELS: Final = 2
"""Water, fat."""

SCALE: Final = 1000.0
"""Value of fully relaxed pure water."""


class Protons(NamedTuple):
    """What a tissue has to offer.

    Attributes:
        t1, t2: ms of its water at (1.5 T, 3 T).
        density: protons relative to pure water, all together.
        fat: share of them in fat.
        bound: share of the water's magnetisation that off-resonance pulses can take.
        spread: relative deviation of the times between persons (and of a `Matter.deviation` of 1).
        void: share of the signal that flow takes from a spin echo.
    """

    t1: tuple[float, float] = (1.0, 1.0)
    t2: tuple[float, float] = (1.0, 1.0)
    density: float = 0.0
    fat: float = 0.0
    bound: float = 0.0
    spread: float = 0.08
    void: float = 0.0


_SILENT: Final = Protons()

TISSUES: Final[Mapping[str, Protons]] = {
    "air": _SILENT,
    "gas": _SILENT,
    "calcium": _SILENT,
    "bone": _SILENT,
    "cement": _SILENT,
    "metal": _SILENT,
    "table-shell": _SILENT,
    "table-foam": _SILENT,
    "skin": Protons((850, 1000), (32, 30), 0.65, 0.10, 0.2),
    "fat": Protons((700, 900), (40, 36), 0.97, 0.93, 0.1),
    "visceral-fat": Protons((750, 950), (42, 38), 0.95, 0.86, 0.1),
    "muscle": Protons((1000, 1400), (32, 29), 0.82, 0.03, 0.28),
    "lung": Protons((1150, 1270), (16, 12), 0.16, 0.0, 0.1, 0.2, 0.3),
    "soft": Protons((900, 1150), (55, 50), 0.86, 0.05, 0.2),
    "liver": Protons((580, 810), (46, 36), 0.82, 0.05, 0.2, 0.10),
    "spleen": Protons((1060, 1330), (79, 62), 0.88, 0.0, 0.15),
    "kidney": Protons((1100, 1290), (86, 78), 0.90, 0.0, 0.15),
    "renal-pelvis": Protons((1800, 2100), (180, 160), 0.95, 0.60, 0.05, 0.2),
    "heart": Protons((1030, 1470), (42, 45), 0.84, 0.02, 0.15, 0.08, 0.75),
    "artery": Protons((1440, 1930), (250, 160), 0.90, 0.0, 0.0, 0.05, 0.96),
    "vein": Protons((1440, 1930), (170, 70), 0.90, 0.0, 0.0, 0.05, 0.80),
    "bowel": Protons((900, 1100), (52, 48), 0.84, 0.04, 0.2, 0.15),
    "faeces": Protons((650, 800), (38, 34), 0.55, 0.12, 0.1, 0.30),
    "fluid": Protons((2900, 3300), (420, 360), 0.97, 0.0, 0.0, 0.15),
    "disc": Protons((900, 1100), (68, 60), 0.80, 0.0, 0.2, 0.12),
    "cord": Protons((750, 990), (76, 76), 0.80, 0.0, 0.22),
    "canal": Protons((4100, 4300), (1500, 1300), 1.0, 0.0, 0.0, 0.04),
    "cartilage": Protons((1040, 1200), (38, 34), 0.62, 0.05, 0.25, 0.15),
    "tumour": Protons((1050, 1300), (88, 80), 0.88, 0.0, 0.15, 0.15),
    "haematoma": Protons((480, 560), (95, 80), 0.90, 0.0, 0.1, 0.25),
    # Finer than the words of `Tissue`: what only MR tells apart.
    "nucleus": Protons((1100, 1350), (145, 126), 0.85, 0.0, 0.1, 0.12),
    "annulus": Protons((750, 920), (64, 57), 0.78, 0.0, 0.15, 0.10),
    "ligament": Protons((700, 900), (9, 8), 0.50, 0.02, 0.3, 0.10),
    "root": Protons((850, 1100), (78, 74), 0.80, 0.02, 0.2),
    "epidural-fat": Protons((750, 950), (45, 40), 0.95, 0.85, 0.1),
    "slow-vein": Protons((1440, 1930), (190, 110), 0.92, 0.05, 0.0, 0.05, 0.15),
    "red-marrow": Protons((760, 950), (56, 52), 0.95, 0.0, 0.06, 0.08),
    "oedema": Protons((1450, 1700), (110, 100), 0.94, 0.0, 0.05, 0.08),
}
"""By the value of `Tissue`, and by words of their own."""

FAT_T1: Final = (250.0, 330.0)
"""ms of the methylene protons at 1.5 and 3 T: an inversion time of some 160 or 220 ms silences them."""

FAT_T1_OTHER: Final = (600.0, 750.0)
FAT_OTHER: Final = 0.14
"""T1 in ms and share of fat's other protons: no single inversion time silences all of them."""

FAT_T2: Final = (62.0, 66.0)
FAT_T2_IN_TRAIN: Final = (145.0, 130.0)
"""ms; refocusing trains undo J-coupling and make fat bright (Henkelman et al., J Magn Reson Imaging 1992;
2:533)."""

FAT_DENSITY: Final = 0.92
MINERAL_SHARE: Final = 1.0 / 850.0
"""Share of bone that gives no signal, per mg/cm3 of mineral: matrix and bound water are dark with it."""

MINERAL_RELAXATION: Final = 0.35
"""1/s per mg/cm3 that trabeculae add to 1/T2* of marrow (about 50/s in the healthy lumbar spine)."""


@dataclass(frozen=True)
class MrPalette:
    """Signals for one sequence on one scanner in one person.

    Attributes:
        sequence: what the scanner does.
        field_t: 1.5 or 3 T.
        person: per name of `TISSUES` factors on T1, T2 and proton density.
        fat_left: share of fat that saturation leaves where the field is homogeneous.
        texture: relative strength of the texture of soft tissue.
        device: where values live.
    """

    sequence: MrSequence
    field_t: float = 1.5
    person: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    fat_left: float = 0.06
    texture: float = 1.0
    device: str = "cpu"

    def tissue(self, matter: Matter) -> Tensor:
        """Shape (2, 1, 1, 1): water and fat signal of soft matter."""
        return self.named(matter.tissue.value, matter.deviation)

    def named(self, name: str, deviation: float = 0.0) -> Tensor:
        """Shape (2, 1, 1, 1): water and fat signal of one of `TISSUES`."""
        water, fat = self.signals(name, deviation)
        return torch.tensor([water, fat], dtype=torch.float32, device=self.device).reshape(CHANNELS, 1, 1, 1)

    def signals(self, name: str, deviation: float = 0.0) -> tuple[float, float]:
        """Water and fat signal of one of `TISSUES`, in units of 1/1000 of pure water (times the gain)."""
        own = TISSUES[name]
        fat_share = own.fat
        if name in ("fat", "visceral-fat", "epidural-fat"):
            fat_share = float(np.clip(fat_share + 0.03 * deviation, 0.6, 0.97))
        if name in ("disc", "nucleus", "annulus"):
            # More mineral and collagen in CT is less water here.
            deviation = -deviation
        change = float(np.clip(1.0 + own.spread * deviation, 0.4, 2.0))
        water = own.density * (1.0 - fat_share) * self._water(name, change)
        return water, own.density * fat_share * self.fat_signal()

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor:
        """Shape (2, ...): bone of a mineral density in mg/cm3 and what fills its spaces.

        Mineral is dark by its volume; tumour displaces marrow, and oedema what the tumour has left of it.
        """
        mineral = torch.as_tensor(density, dtype=torch.float32, device=self.device)
        mineral = mineral if mineral.dim() else mineral.reshape(1, 1, 1)
        space = (1.0 - mineral * MINERAL_SHARE).clamp(0.0, 1.0)
        if self.sequence.readout == "GR":
            space = space * torch.exp(
                mineral.clamp(0.0, 400.0) * (-MINERAL_RELAXATION * 1e-3 * self.sequence.echo_ms)
            )
        fat, oedema, tumour = (
            torch.as_tensor(share, dtype=torch.float32, device=self.device).clamp(0.0, 1.0)
            for share in (marrow.fat, marrow.oedema, marrow.tumour)
        )
        left = 1.0 - tumour
        own = left * (1.0 - oedema)
        water = space * (
            own * (1.0 - fat) * self.signals("red-marrow")[0]
            + left * oedema * self.signals("oedema")[0]
            + tumour * self.signals("tumour")[0]
        )
        fatty = space * own * fat * (FAT_DENSITY * self.fat_signal())
        return torch.stack([water, fatty.expand_as(water)])

    def grain(self, matter: Matter) -> float:
        """Amplitude of the texture of soft matter, added to both channels."""
        if matter.tissue is Tissue.FAECES:
            return 0.0
        if matter.tissue is Tissue.LUNG:
            return 25.0
        water, fat = self.signals(matter.tissue.value)
        # Above the painter's threshold for muscle, whose streaks of fat hang on its texture.
        least = 8.5 if matter.tissue is Tissue.MUSCLE else 0.0
        return max(least, self.texture * 0.5 * matter.grain * abs(water + fat))

    @property
    def gain(self) -> float:
        """Value of all magnetisation; a small flip angle excites little, and the receiver is turned up."""
        return SCALE * (8.0 if self.sequence.readout == "GR" else 1.0)

    def fat_signal(self) -> float:
        """Signal of pure fat in the fat channel."""
        train = self.sequence.echo_train > 1
        place = 1 if self.field_t > 2.0 else 0
        t1, t2, scale = self._person("fat-protons")
        t2 *= (FAT_T2_IN_TRAIN if train else FAT_T2)[place]
        signal = self.sequence.signal(FAT_T1[place] * t1, t2, 0.5 * t2)
        other = self.sequence.signal(FAT_T1_OTHER[place] * t1, t2, 0.5 * t2)
        signal = self.gain * scale * ((1.0 - FAT_OTHER) * signal + FAT_OTHER * other)
        kept = {
            "with": 1.0, "fat-image": 1.0, "in-phase": 1.0, "opposed-phase": -1.0,
            # The olefinic protons resonate beside water: no method takes them from the water image.
            "saturated": self.fat_left, "water-image": 0.05,
        }  # fmt: skip
        return signal * kept[self.sequence.fat]

    def _water(self, name: str, change: float) -> float:
        own = TISSUES[name]
        if own.density <= 0:
            return 0.0
        place = 1 if self.field_t > 2.0 else 0
        t1, t2, scale = self._person(name)
        t1, t2 = own.t1[place] * t1 * change, own.t2[place] * t2 * change
        signal = self.gain * scale * self.sequence.signal(t1, t2, 1.0 / (1.0 / t2 + 0.012))
        signal *= 1.0 - own.bound * self.sequence.magnetisation_transfer
        # In a gradient echo blood that flows in is fresh, and bright.
        signal *= 1.0 + own.void if self.sequence.readout == "GR" else 1.0 - own.void
        return signal * (0.04 if self.sequence.fat == "fat-image" else 1.0)

    def _person(self, name: str) -> tuple[float, float, float]:
        return self.person.get(name, (1.0, 1.0, 1.0))

    def with_sequence(self, sequence: MrSequence) -> MrPalette:
        """The same person on the same scanner, another sequence."""
        return replace(self, sequence=sequence)


def sample_person(
    generator: np.random.Generator, *, training: bool = False
) -> dict[str, tuple[float, float, float]]:
    """Factors on T1, T2 and proton density per tissue of one person.

    For training they leave what bodies are made of: contrast between tissues becomes nearly arbitrary.
    """
    person = {}
    wild = 0.45 * between(generator, 0.3, 1.0) if training else 0.0
    for name, own in {**TISSUES, "fat-protons": Protons(spread=0.03)}.items():
        person[name] = (
            float(np.exp(around(generator, 0.0, own.spread + wild))),
            float(np.exp(around(generator, 0.0, own.spread + wild))),
            float(np.exp(around(generator, 0.0, 0.03 + 0.7 * wild))),
        )
    return person
