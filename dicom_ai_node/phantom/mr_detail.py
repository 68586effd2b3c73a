"""Fine anatomy that MR tells apart, joined: soft tissue, discs, canal and the marrow of the bodies.

Painted into the same geometry that CT sees as one matter; everything is bound to the person, so that all
series of a study show the same nucleus, the same roots and the same islands of fat in the marrow.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from dicom_ai_node.phantom.body import BodyField
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.grid import Block
from dicom_ai_node.phantom.lesion import LesionKind
from dicom_ai_node.phantom.mr_canal import paint_canal
from dicom_ai_node.phantom.mr_disc import disc_value, disc_wear, fatty_endplates
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.mr_soft import paint_belly, paint_soft
from dicom_ai_node.phantom.painting_disease import union
from dicom_ai_node.phantom.painting_solids import Canvas
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.tissues import Marrow

Points = tuple[Tensor, Tensor, Tensor]

RIM_MM: Final = 0.55
"""Calcified cartilage, periosteum and chemical bonds to the annulus: a dark line outside the bony cortex."""


HAEMANGIOMA_BLOOD: Final = 0.45
"""Share of slow blood in a haemangioma's stroma."""


class MrDetail:
    """The fine anatomy of one person in one sequence; see `painting.Detail`."""

    def __init__(self, spine: Spine, palette: MrPalette) -> None:
        self._palette = palette
        self._wear = {
            id(disc): (wear, upper.seed + 3)
            for disc, wear, upper in zip(spine.discs, disc_wear(spine), spine.vertebrae, strict=False)
        }
        generator = stream(spine.seed, "mr-detail")
        self._mottling = between(generator, 0.015, 0.05)
        self._island = between(generator, 1.6, 3.2)
        # Red marrow gives way to yellow in patches of a centimetre, in some people much, in most little.
        self._patches = 0.02 + 0.16 * between(generator, 0.0, 1.0) ** 2
        self._patch = between(generator, 2.5, 5.0)
        self._fatty_ends = fatty_endplates(spine)
        self._ligament = palette.named("ligament")

    def cavity(self, canvas: Canvas, spine: Spine) -> None:
        """Bowel and mesentery, under all organs."""
        paint_belly(canvas, spine, self._palette)

    def around(self, canvas: Canvas, spine: Spine) -> None:
        """Fat, deep muscles and ligaments about the column."""
        paint_soft(canvas, spine, self._palette)

    def disc(self, disc: DiscShape, points: Points) -> Tensor:
        """Nucleus and annulus."""
        wear, seed = self._wear[id(disc)]
        return disc_value(disc, wear, seed, points, self._palette)

    def canal(self, canvas: Canvas, spine: Spine) -> None:
        """Epidural fat, dural sac, cord and roots."""
        paint_canal(canvas, spine, self._palette)

    def marrow(
        self,
        canvas: Canvas,
        vertebra: Vertebra,
        place: tuple[Block, Points],
        field: BodyField,
        marrow: Marrow,
    ) -> Marrow:
        """Dark rim outside; inside mottled marrow, fatty ends beside worn discs, the basivertebral vein."""
        block, points = place
        u, v, w = points
        # The longitudinal ligaments thicken the line in front and behind.
        longitudinal = 0.55 * torch.exp(-((u / (0.55 * vertebra.body.half_width_lower)) ** 2))
        rim = torch.maximum(
            field.side - RIM_MM - longitudinal,
            torch.maximum(field.upper - RIM_MM, field.lower - RIM_MM),
        )
        canvas.cover(block, rim, self._ligament)
        device = canvas.grid.device
        fat: Tensor = torch.as_tensor(marrow.fat, dtype=torch.float32, device=device)
        if canvas.grid.voxel_mm < 2.5:
            mottled = grain(vertebra.seed + 1, points, device, cell_mm=1.7)
            islands = (mottled - self._island).clamp(0.0, 1.0)
            patches = grain(vertebra.seed + 2, points, device, cell_mm=self._patch)
            fat = fat + self._mottling * mottled + 0.3 * islands + self._patches * patches
        above, below = self._fatty_ends.get(vertebra.level, (0.0, 0.0))
        if above:
            fat = fat + above * torch.exp(-((field.upper / 5.0) ** 2))
        if below:
            fat = fat + below * torch.exp(-((field.lower / 5.0) ** 2))
        back = vertebra.body.back_upper
        away = (u / 6.0) ** 2 + ((v - back + 4.0) / 5.5) ** 2 + (w / 1.6) ** 2
        vein = torch.exp(-away.clamp(max=8.0))
        oedema = torch.as_tensor(marrow.oedema, dtype=torch.float32, device=device)
        for lesion in vertebra.findings.lesions:
            if lesion.kind is LesionKind.HAEMANGIOMA:
                # Blood stands between the fat: bright without fat, too.
                share = torch.sigmoid(-1.5 * union(canvas, block, lesion))
                oedema = torch.maximum(oedema, HAEMANGIOMA_BLOOD * share)
        return Marrow(
            (fat * (1.0 - 0.6 * vein)).clamp(0.02, 0.95), torch.maximum(oedema, 0.75 * vein), marrow.tumour
        )
