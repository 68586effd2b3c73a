"""The words for what a body is made of; numbers for them belong to the physics of each modality."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Tissue(StrEnum):
    """One kind of matter."""

    AIR = "air"
    SKIN = "skin"
    FAT = "fat"
    VISCERAL_FAT = "visceral-fat"
    MUSCLE = "muscle"
    LUNG = "lung"
    SOFT = "soft"
    LIVER = "liver"
    SPLEEN = "spleen"
    KIDNEY = "kidney"
    RENAL_PELVIS = "renal-pelvis"
    HEART = "heart"
    ARTERY = "artery"
    VEIN = "vein"
    BOWEL = "bowel"
    FAECES = "faeces"
    GAS = "gas"
    FLUID = "fluid"
    DISC = "disc"
    CORD = "cord"
    CANAL = "canal"
    CARTILAGE = "cartilage"
    CALCIUM = "calcium"
    BONE = "bone"
    TABLE_SHELL = "table-shell"
    TABLE_FOAM = "table-foam"
    TUMOUR = "tumour"
    CEMENT = "cement"
    METAL = "metal"
    HAEMATOMA = "haematoma"


@dataclass(frozen=True)
class Marrow:
    """Shares of what fills cancellous bone, each 0..1, as numbers or as tensors of a block's shape.

    Attributes:
        fat: of the fat in healthy marrow; the rest is blood-forming and mostly water.
        oedema: how far water has displaced marrow (fresh fracture, end of a diseased disc).
        tumour: how far solid tumour has displaced marrow.
    """

    fat: Tensor | float = 0.5
    oedema: Tensor | float = 0.0
    tumour: Tensor | float = 0.0


@dataclass(frozen=True)
class Matter:
    """A tissue in one person.

    Attributes:
        tissue: what it is.
        deviation: this person's (or this organ's) place in the tissue's spread, in standard deviations.
        density: bone mineral of the cancellous core in mg/cm3 (bone only).
        cortex: thickness in mm of the cortex (bone only; 0 for bone without).
        cortical_density: bone mineral of the cortex in mg/cm3 (bone only).
        grain: relative strength of the texture.
        marrow: what fills the spaces between the trabeculae (bone only).
    """

    tissue: Tissue = Tissue.SOFT
    deviation: float = 0.0
    density: float = 0.0
    cortex: float = 0.0
    cortical_density: float = 0.0
    grain: float = 0.0
    marrow: Marrow = Marrow()
