"""Soft tissue about the column as MR sees it: fat, deep muscles, ligaments; bowel and mesentery in front."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.mr_brush import at, leftwards, put, put_tube
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.solids import Ellipsoid, Tube
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.tissues import Matter, Tissue

Array = npt.NDArray[np.float64]

_LOW_THORACIC: Final = (Level.T10, Level.T11, Level.T12, Level.T13)


def paint_belly(canvas: Canvas, spine: Spine, palette: MrPalette) -> None:
    """Coils of small bowel and the mesentery's vessels in the fat in front of the column."""
    if canvas.cavity is None or canvas.grid.voxel_mm > 3.0:
        return
    trunk = spine.trunk
    inside = np.linalg.inv(trunk.frame)
    # The last thoracic vertebra, which need not be T12.
    last = spine.vertebrae[spine.levels.index(Level.L1) - 1]
    top, bottom = (inside @ vertebra.frame[:, 3] for vertebra in (last, spine[Level.S1]))
    low = np.array([min(top[0], bottom[0]) - 105.0, min(top[1], bottom[1]) - 230.0, bottom[2] - 130.0])
    high = np.array([max(top[0], bottom[0]) + 105.0, max(top[1], bottom[1]) + 5.0, top[2]])
    block = canvas.grid.block(trunk.frame, low, high)
    if block is None:
        return
    generator = stream(spine.seed, "mr-belly")
    x, y, z = canvas.grid.coordinates(trunk.frame, block)
    phase = [between(generator, 0.0, 6.28) for _ in range(8)]
    reach = between(generator, 7.0, 10.5)
    # A gyroid, bent at random, is a heap of coils that never end.
    bend = 0.9 * torch.sin(y / 23.0 + phase[0]) + 0.7 * torch.sin(x / 31.0 + z / 27.0 + phase[1])
    a, b, c = x / reach + bend, y / reach + phase[2], z / reach - bend
    coil = torch.sin(a) * torch.cos(b) + torch.sin(b) * torch.cos(c) + torch.sin(c) * torch.cos(a)
    # Coils lie in some places; elsewhere is fat with the streaks of its vessels.
    where = torch.sin(z / 38.0 + phase[3]) + torch.sin(y / 33.0 + x / 40.0 + phase[4]) + 0.25
    behind = torch.minimum(y - (bottom[1] - 42.0), y - (top[1] - 46.0))
    heap = torch.sigmoid(3.0 * where) * torch.sigmoid(-behind / 5.0)
    content = torch.sin(x / 19.0 + phase[5]) + torch.sin(y / 21.0 + z / 17.0 + phase[6])
    named = palette.named
    chyme = 0.55 * named("bowel") + 0.2 * named("fluid")
    filling = chyme + (content > 1.1) * (0.7 * named("fluid") - chyme)
    filling = filling + (content < -1.0) * (0.12 * named("bowel") - filling)
    streaks = _waves(generator, y + 0.25 * z, (z, x), (0.14, 0.8))
    vessel = ((streaks - 0.9) / 0.8).clamp(0.0, 0.75)
    fat = named("visceral-fat")
    value = fat * (1.0 + 0.07 * streaks) + vessel * (0.6 * named("muscle") - fat)
    value = value + heap * ((coil - 0.25) * 2.5).clamp(0.0, 1.0) * (named("bowel") - value)
    value = value + heap * ((coil - 0.62) * 3.0).clamp(0.0, 1.0) * (filling - value)
    cavity = canvas.cavity[block]
    canvas.cover(block, cavity + 1.0, value)


def _waves(
    generator: np.random.Generator,
    across: Tensor,
    others: tuple[Tensor, Tensor],
    pitches: tuple[float, float],
) -> Tensor:
    """Smooth noise of deviation 1: streaks, changing fast along one coordinate in mm and slowly along others.

    `pitches` are the slowest and the fastest wave in radians per mm.
    """
    total: Tensor | float = 0.0
    count = 7
    for pitch in np.geomspace(*pitches, count):
        phase = between(generator, 0.0, 6.28)
        lean = [around(generator, 0.0, 0.35) for _ in others]
        place = across + lean[0] * others[0] + lean[1] * others[1]
        total = total + torch.sin(float(pitch) * place + phase)
    return torch.as_tensor(total) * float(np.sqrt(2.0 / count))


def paint_soft(canvas: Canvas, spine: Spine, palette: MrPalette) -> None:
    """Fat in front of the bodies and behind the sacrum, in the foramina and between the spinous processes."""
    fat = palette.named("epidural-fat")
    lower = [v for v in spine.vertebrae[:-1] if v.level.region == "L" or v.level in _LOW_THORACIC]
    front = [at(v, 0.0, 0.5 * (v.body.front_lower + v.body.front_upper) - 5.0, 0.0) for v in lower]
    front.append(at(spine[Level.S1], 0.0, spine[Level.S1].body.front_upper - 6.0, 0.0))
    put_tube(canvas, front, [8.0] * len(front), fat, flat=1.9, upright=leftwards(spine))
    for solid in spine.trunk.behind:
        if isinstance(solid, Tube) and solid.matter.tissue in (Tissue.ARTERY, Tissue.VEIN):
            paint_solid(canvas, solid)
    _foramina(canvas, spine, palette)
    _behind_sacrum(canvas, spine, palette)
    _multifidus(canvas, spine, palette)
    _between_spines(canvas, spine, palette)


def _foramina(canvas: Canvas, spine: Spine, palette: MrPalette) -> None:
    fat, root = palette.named("epidural-fat"), palette.named("root")
    for vertebra in spine.vertebrae[:-1]:
        if vertebra.level.region == "C":
            continue
        body, size = vertebra.body, 1.0 if vertebra.level.region == "L" else 0.75
        back, low = body.back_lower, 0.5 * (body.lower_back + body.lower_front)
        for side in (1.0, -1.0):
            own = vertebra.frame.copy()
            own[:3, 3] = at(vertebra, side * 17.0 * size, back + 5.0 * size, low + 1.0)
            put(canvas, Ellipsoid(own, (11.0 * size, 5.5 * size, 10.0 * size), Matter()), fat)
            own = own.copy()
            own[:3, 3] = at(vertebra, side * 17.0 * size, back + 4.0 * size, low + 5.0 * size)
            put(canvas, Ellipsoid(own, (8.0 * size, 2.3 * size, 3.0 * size), Matter()), root)


def _behind_sacrum(canvas: Canvas, spine: Spine, palette: MrPalette) -> None:
    """Fat over the back of the sacrum, where the long muscles have become thin."""
    path = [at(spine[Level.S1], 0.0, spine[Level.S1].body.back_upper + 46.0, -8.0)]
    for segment in spine.sacrum[:4]:
        point = segment.frame @ np.array([0.0, segment.body.back_upper + 33.0, 0.0, 1.0])
        path.append(point[:3])
    if len(path) > 1:
        radii = list(np.linspace(15.0, 11.0, len(path)))
        solid = Tube(np.array(path), np.array(radii), Matter(), flat=1.9, upright=leftwards(spine),
                     within="skin")  # fmt: skip
        put(canvas, solid, palette.named("fat"))


def _marbled(share: float, texture: Tensor, lean: Tensor, fat: Tensor) -> Tensor:
    """Lean tissue marbled with a share of fat, by a texture of deviation 1."""
    fatty = (share + 0.16 * texture + 0.25 * (texture - 1.4 + 2.0 * share).clamp(0.0, 1.0)).clamp(0.0, 0.9)
    return lean + fatty * (fat - lean)


def _multifidus(canvas: Canvas, spine: Spine, palette: MrPalette) -> None:
    """The deep muscles beside the spinous processes, marbled with fat: more in the old, and low down."""
    if canvas.grid.voxel_mm > 2.5:
        return
    generator = stream(spine.seed, "mr-muscle")
    own = around(generator, 0.0, 0.06)
    fat, muscle = palette.named("fat"), palette.named("muscle")
    marbled = [v for v in spine.vertebrae if v.level.region in ("L", "S") or v.level in _LOW_THORACIC]
    for k, vertebra in enumerate(marbled):
        share = 0.02 + 0.0017 * spine.age + 0.03 * max(0, k - 3) + own + around(generator, 0.0, 0.03)
        radii = np.array([26.0, 15.0, 23.0])
        frame = vertebra.frame.copy()
        frame[:3, 3] = at(vertebra, 0.0, vertebra.body.back_upper + 36.0, 0.0)
        block = canvas.grid.block(frame, -radii, radii)
        if block is None:
            continue
        u, v, w = canvas.grid.coordinates(frame, block)
        norm = torch.sqrt((u / radii[0]) ** 4 + (v / radii[1]) ** 4 + (w / radii[2]) ** 4)
        # Bundles run along the spine and to the middle; sheets of fat between them.
        fibres = v + 0.22 * w + 0.35 * u.abs()
        texture = _waves(generator, fibres, (u, 0.3 * w), (0.35, 1.9))
        distance = canvas.cut((torch.sqrt(norm) - 1.0) * 12.0, block, "skin")
        canvas.cover(block, distance, _marbled(share, texture, muscle, fat))


def _process(vertebra: Vertebra) -> tuple[Array, Array] | None:
    """Root and tip of the spinous process in the body's frame, mm."""
    piece = next((p for p in reversed(vertebra.arch.pieces) if not p.mirrored), None)
    return None if piece is None else (np.array(piece.start), np.array(piece.end))


def _between_spines(canvas: Canvas, spine: Spine, palette: MrPalette) -> None:
    """Ligament and fat between neighbouring spinous processes, and the tendon over their tips."""
    ligament, fat, muscle = (palette.named(name) for name in ("ligament", "epidural-fat", "muscle"))
    generator = stream(spine.seed, "mr-interspinous")
    tips: list[Array] = []
    lean = 0.65 * muscle + 0.35 * ligament
    for upper, lower in zip(spine.vertebrae[:-1], spine.vertebrae[1:], strict=False):
        share = float(np.clip(around(generator, 0.12 + 0.006 * spine.age, 0.16), 0.08, 0.85))
        tilt = around(generator, 0.5, 0.3)
        above, below = _process(upper), _process(lower)
        if above is None or below is None:
            break
        tips.append(at(upper, *above[1]))
        ends = [at(v, *(0.42 * p[0] + 0.58 * p[1])) for v, p in ((upper, above), (lower, below))]
        length = float(np.linalg.norm(above[1] - above[0]))
        frame = np.eye(4)
        down = ends[1] - ends[0]
        apart = float(np.linalg.norm(down))
        back = upper.frame[:3, 1] + lower.frame[:3, 1]
        axis = -down / max(apart, 1e-6)
        back -= axis * (back @ axis)
        back /= np.linalg.norm(back)
        frame[:3, :3] = np.stack([np.cross(back, axis), back, axis], axis=1)
        frame[:3, 3] = 0.5 * (ends[0] + ends[1])
        radii = np.array([4.2, 0.5 * length + 4.0, 0.5 * apart + 2.0])
        block = canvas.grid.block(frame, -radii - 1.0, radii + 1.0)
        if block is None or canvas.grid.voxel_mm > 2.5:
            continue
        u, v, w = canvas.grid.coordinates(frame, block)
        norm = torch.sqrt((u / radii[0]) ** 4 + (v / radii[1]) ** 4 + (w / radii[2]) ** 4)
        # Fibres fan out from below and front to above and behind.
        texture = _waves(generator, w - tilt * v, (u, 0.6 * v), (0.3, 1.8))
        distance = canvas.cut((torch.sqrt(norm) - 1.0) * 4.2, block, "skin")
        canvas.cover(block, distance, _marbled(share, 1.4 * texture, lean, fat))
    if len(tips) > 2:
        put_tube(canvas, tips, [1.4] * len(tips), 0.5 * ligament + 0.2 * muscle)
