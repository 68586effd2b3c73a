"""Discs as MR sees them: nucleus and annulus by Pfirrmann's grade, and the marrow beside worn ones.

Pfirrmann et al., Spine 2001; 26:1873: I bright and homogeneous; II bright with a dark band; III grey and
inhomogeneous; IV dark grey, nucleus and annulus no longer told apart; V black and collapsed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.degeneration import SOUND
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.texture import grain

_LOWEST: Final = (Level.L4, Level.L5, Level.L6)


def disc_wear(spine: Spine) -> list[float]:
    """How worn each disc is, 0 (Pfirrmann I) to 1 (V): with age, most at L4 to S1, and where it is narrow."""
    generator = stream(spine.seed, "mr-discs")
    states = spine.wear or (SOUND,) * len(spine.discs)
    # Discs of one person age alike.
    own = around(generator, 0.0, 0.13)
    out = []
    for disc, upper, state in zip(spine.discs, spine.vertebrae, states, strict=False):
        place = 0.12 if upper.level in _LOWEST else 0.0
        wear = 0.0085 * (spine.age - 18.0) + 0.08 * disc.matter.deviation + place + own
        wear += around(generator, 0.0, 0.12)
        if state.narrowing > 0.1:
            wear = max(wear, 0.45 + state.narrowing)
        if state.vacuum or state.modic:
            wear = max(wear, 0.75)
        out.append(float(np.clip(wear, 0.0, 1.0)))
    return out


def pfirrmann(wear: float) -> int:
    """The grade, 1 to 5, of a disc that is so worn."""
    return 1 + int(np.digitize(wear, (0.14, 0.36, 0.6, 0.84)))


def fatty_endplates(spine: Spine) -> dict[Level, tuple[float, float]]:
    """Added share of fat below the upper and above the lower endplate, beside worn discs.

    Where the anatomy tells of Modic changes nothing is added.
    """
    generator = stream(spine.seed, "mr-endplates")
    told = any(state != SOUND for state in spine.wear)
    above: dict[Level, float] = {}
    below: dict[Level, float] = {}
    for wear, upper, lower in zip(disc_wear(spine), spine.vertebrae, spine.vertebrae[1:], strict=False):
        amount = between(generator, 0.1, 0.45)
        if generator.random() < (0.15 if told else 0.5) * max(0.0, wear - 0.45) / 0.55:
            below[upper.level] = amount
            above[lower.level] = amount * between(generator, 0.4, 1.0)
    return {v.level: (above.get(v.level, 0.0), below.get(v.level, 0.0)) for v in spine.vertebrae}


def disc_value(
    disc: DiscShape, wear: float, seed: int, points: tuple[Tensor, Tensor, Tensor], palette: MrPalette
) -> Tensor:
    """Water and fat of a disc at points (left, posterior, superior) of its frame in mm.

    A lens of nucleus, a dull inner and a black outer annulus.
    """
    u, v, w = points
    depth = disc.back - disc.front
    dv = v - (disc.front + 0.57 * depth)
    bright, dull, black = (palette.named(name) for name in ("nucleus", "annulus", "ligament"))
    # A worn nucleus is smaller, and its lens flatter.
    size = 1.0 - 0.3 * wear
    height = max(1.8, disc.half_height - 2.2 - 1.2 * wear)
    core = torch.sqrt(
        (u / (0.66 * size * disc.half_width)) ** 2 + (dv / (0.36 * size * depth)) ** 2 + (w / height) ** 2
    )
    share = ((1.22 - core) / 0.42).clamp(0.0, 1.0)
    left = float(np.clip((0.92 - wear) / 0.72, 0.0, 1.0)) ** 1.3
    nucleus = share * share * (3.0 - 2.0 * share) * left
    # The cleft of fibres that the nucleus of a grown-up has at half height.
    cleft = float(np.clip((wear - 0.1) / 0.25, 0.0, 1.0)) * 0.45
    nucleus = nucleus * (1.0 - cleft * torch.exp(-((w / 1.2) ** 2)))
    if wear > 0.3:
        mottled = grain(seed, points, bright.device, cell_mm=1.9)
        nucleus = nucleus * (1.0 + 0.45 * wear * mottled).clamp(0.2, 1.4)
    rim = torch.sqrt((u / disc.half_width) ** 2 + ((v - disc.front - 0.5 * depth) / (0.5 * depth)) ** 2)
    fibres: Tensor = 0.75 * ((rim - 0.72) / 0.22).clamp(0.0, 1.0) * (1.0 - 0.7 * nucleus.clamp(max=1.0))
    # Grade IV and V: collagen where the nucleus was.
    dry = max(0.0, wear - 0.6) * 1.3
    inner: Tensor = dull + dry * (black - dull)
    value: Tensor = inner + nucleus * (bright - inner)
    return value + fibres * (black - value)
