"""Fine anatomy that MR tells apart: nucleus and annulus, cord and roots, ligaments, fat, veins.

Painted into the same geometry that CT sees as one matter; everything is bound to the person, so that all
series of a study show the same nucleus, the same roots and the same islands of fat in the marrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.body import BodyField
from dicom_ai_node.phantom.disc import DiscShape
from dicom_ai_node.phantom.grid import Block
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.painting_solids import Canvas, paint_solid
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.solids import Ellipsoid, Solid, Tube
from dicom_ai_node.phantom.spine import Spine, Vertebra
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

Array = npt.NDArray[np.float64]
Points = tuple[Tensor, Tensor, Tensor]

RIM_MM: Final = 0.55
"""Calcified cartilage, periosteum and chemical bonds to the annulus: a dark line outside the bony cortex."""

ROOTS: Final = 12

_LOW_THORACIC: Final = (Level.T10, Level.T11, Level.T12, Level.T13)

_PER_LEVEL: Final = 3
"""Points of the dural sac's path per vertebra."""


class _Brush:
    """A palette of one value, to paint solids for which `Tissue` has no word."""

    def __init__(self, value: Tensor) -> None:
        self._value = value

    def tissue(self, matter: Matter) -> Tensor:  # noqa: ARG002
        return self._value

    def bone(self, density: Tensor | float, marrow: Marrow) -> Tensor:  # noqa: ARG002
        return self._value

    def grain(self, matter: Matter) -> float:  # noqa: ARG002
        return 0.0


class MrDetail:
    """The fine anatomy of one person in one sequence; see `painting.Detail`."""

    def __init__(self, spine: Spine, palette: MrPalette) -> None:
        self._palette = palette
        self._wear = {id(disc): wear for disc, wear in zip(spine.discs, disc_wear(spine), strict=True)}
        generator = stream(spine.seed, "mr-detail")
        self._mottling = between(generator, 0.03, 0.10)
        self._island = between(generator, 1.6, 3.2)
        self._fatty_ends = _fatty_endplates(spine)
        self._adherent = {name: palette.named(name) for name in ("nucleus", "annulus", "ligament")}

    def around(self, canvas: Canvas, spine: Spine) -> None:
        """Fat in front of the bodies, in the foramina and between the spinous processes; vessels on top."""
        fat = self._palette.named("epidural-fat")
        presacral = spine.vertebrae[:-1]
        lower = [
            v for v in presacral if v.level.region == "L" or v.level in (Level.T10, Level.T11, Level.T12)
        ]
        front = [_at(v, 0.0, 0.5 * (v.body.front_lower + v.body.front_upper) - 5.0, 0.0) for v in lower]
        front.append(_at(spine[Level.S1], 0.0, spine[Level.S1].body.front_upper - 6.0, 0.0))
        self._tube(canvas, front, [8.0] * len(front), fat, flat=1.9, upright=_left(spine))
        for solid in spine.trunk.behind:
            if isinstance(solid, Tube) and solid.matter.tissue in (Tissue.ARTERY, Tissue.VEIN):
                paint_solid(canvas, solid)
        self._foramina(canvas, spine, fat)
        self._multifidus(canvas, spine)
        self._between_spines(canvas, spine)

    def disc(self, disc: DiscShape, points: Points) -> Tensor:
        """Bright nucleus with a cleft, darker annulus, black outer fibres; all grey in a worn disc."""
        u, v, w = points
        worn = self._wear[id(disc)]
        depth = disc.back - disc.front
        dv = v - (disc.front + 0.56 * depth)
        rim = (u / disc.half_width) ** 2 + ((v - disc.front - 0.5 * depth) / (0.52 * depth)) ** 2
        height = max(2.0, disc.half_height - 2.5)
        core = torch.sqrt(
            (u / (0.62 * disc.half_width)) ** 2 + (dv / (0.34 * depth)) ** 2 + (w / height) ** 2
        )
        share = ((1.3 - core) / 0.55).clamp(0.0, 1.0)
        nucleus = share * share * (3.0 - 2.0 * share) * (1.0 - worn)
        # The cleft of fibres that the nucleus of a grown-up has at half height.
        nucleus = nucleus * (1.0 - 0.35 * torch.exp(-((w / 1.1) ** 2)))
        fibres = ((rim - 0.72) / 0.32).clamp(0.0, 1.0)
        bright, dull, black = (self._adherent[name] for name in ("nucleus", "annulus", "ligament"))
        value = dull + nucleus * (bright - dull)
        return value + (fibres * 0.8) * (black - value)

    def canal(self, canvas: Canvas, spine: Spine) -> None:
        """Epidural fat, the dural sac with its fluid, cord down to L1, roots below, voids of moving fluid."""
        named = self._palette.named
        generator = stream(spine.seed, "mr-canal")
        path, radii = _sac(spine, between(generator, 0.92, 1.08))
        path, radii = _smooth(path), list(np.interp(_steps(len(path)), range(len(radii)), radii))
        left = _left(spine)
        self._tube(canvas, path, [r + 1.3 for r in radii], named("epidural-fat"), flat=1.2, upright=left)
        self._dorsal_fat(canvas, spine, generator)
        self._tube(canvas, path, radii, named("canal"), flat=1.2, upright=left)
        self._voids(canvas, spine, path, generator)
        conus = min(range(len(path)), key=lambda k: abs(path[k][2] - _conus(spine, generator)))
        # The cord lies in front where the thoracic spine is bent, behind above its end, and swells there.
        far = np.arange(conus, -1, -1) / _PER_LEVEL
        cord = [
            path[k] + _ahead(spine, k // _PER_LEVEL, float(np.interp(far[k], [0, 2, 4], [1.8, 1.2, -0.8])))
            for k in range(conus + 1)
        ]
        thick = np.interp(far, [0.0, 0.9, 2.0, 3.0, 12.0, 14.0], [0.7, 2.9, 3.9, 3.4, 3.4, 4.2])
        self._tube(canvas, cord, list(thick), named("cord"), flat=1.35, upright=left)
        self._roots(canvas, spine, path[conus - 2 :], radii[conus - 2 :], generator)

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
        canvas.cover(block, rim, self._adherent["ligament"])
        device = canvas.grid.device
        fat: Tensor = torch.as_tensor(marrow.fat, dtype=torch.float32, device=device)
        if canvas.grid.voxel_mm < 2.5:
            mottled = grain(vertebra.seed + 1, points, device, cell_mm=1.7)
            islands = (mottled - self._island).clamp(0.0, 1.0)
            fat = fat + self._mottling * mottled + 0.35 * islands
        above, below = self._fatty_ends.get(vertebra.level, (0.0, 0.0))
        if above:
            fat = fat + above * torch.exp(-((field.upper / 5.0) ** 2))
        if below:
            fat = fat + below * torch.exp(-((field.lower / 5.0) ** 2))
        back = vertebra.body.back_upper
        away = (u / 6.0) ** 2 + ((v - back + 4.0) / 5.5) ** 2 + (w / 1.6) ** 2
        vein = torch.exp(-away.clamp(max=8.0))
        oedema = torch.as_tensor(marrow.oedema, dtype=torch.float32, device=device)
        return Marrow(
            (fat * (1.0 - 0.6 * vein)).clamp(0.02, 0.95), torch.maximum(oedema, 0.75 * vein), marrow.tumour
        )

    def _put(self, canvas: Canvas, solid: Solid, value: Tensor) -> None:
        brush = Canvas(canvas.grid, canvas.value, _Brush(value))
        brush.skin, brush.cavity = canvas.skin, canvas.cavity
        paint_solid(brush, solid)

    def _tube(
        self,
        canvas: Canvas,
        path: Sequence[Array],
        radii: Sequence[float],
        value: Tensor,
        *,
        flat: float = 1.0,
        upright: tuple[float, float, float] = (0.0, 0.0, 1.0),
    ) -> None:
        solid = Tube(np.array(path), np.array(radii), Matter(), flat=flat, upright=upright)
        self._put(canvas, solid, value)

    def _foramina(self, canvas: Canvas, spine: Spine, fat: Tensor) -> None:
        root = self._palette.named("root")
        for vertebra in spine.vertebrae[:-1]:
            if vertebra.level.region == "C":
                continue
            body, size = vertebra.body, 1.0 if vertebra.level.region == "L" else 0.75
            back, low = body.back_lower, 0.5 * (body.lower_back + body.lower_front)
            for side in (1.0, -1.0):
                own = vertebra.frame.copy()
                own[:3, 3] = _at(vertebra, side * 17.0 * size, back + 5.0 * size, low + 1.0)
                self._put(canvas, Ellipsoid(own, (11.0 * size, 5.5 * size, 10.0 * size), Matter()), fat)
                own = own.copy()
                own[:3, 3] = _at(vertebra, side * 17.0 * size, back + 4.0 * size, low + 5.0 * size)
                self._put(canvas, Ellipsoid(own, (8.0 * size, 2.3 * size, 3.0 * size), Matter()), root)

    def _multifidus(self, canvas: Canvas, spine: Spine) -> None:
        """The deep muscles beside the spinous processes, marbled with fat: more in the old, and low down."""
        if canvas.grid.voxel_mm > 2.5:
            return
        generator = stream(spine.seed, "mr-muscle")
        own = around(generator, 0.0, 0.06)
        fat, muscle = self._palette.named("fat"), self._palette.named("muscle")
        marbled = [v for v in spine.vertebrae if v.level.region in ("L", "S") or v.level in _LOW_THORACIC]
        for k, vertebra in enumerate(marbled):
            share = 0.02 + 0.0017 * spine.age + 0.03 * max(0, k - 3) + own + around(generator, 0.0, 0.03)
            radii = np.array([26.0, 15.0, 23.0])
            frame = vertebra.frame.copy()
            frame[:3, 3] = _at(vertebra, 0.0, vertebra.body.back_upper + 36.0, 0.0)
            block = canvas.grid.block(frame, -radii, radii)
            if block is None:
                continue
            u, v, w = canvas.grid.coordinates(frame, block)
            norm = torch.sqrt((u / radii[0]) ** 4 + (v / radii[1]) ** 4 + (w / radii[2]) ** 4)
            # Bundles run along the spine; sheets of fat between them.
            along = (u, v, 0.22 * w + 0.12 * v)
            marbling = grain(spine.trunk.seed, along, canvas.grid.device, cell_mm=1.1)
            fatty = (share + 0.16 * marbling + 0.25 * (marbling - 1.4 + 2.0 * share).clamp(0.0, 1.0)).clamp(
                0.0, 0.9
            )
            distance = canvas.cut((torch.sqrt(norm) - 1.0) * 12.0, block, "skin")
            canvas.cover(block, distance, muscle + fatty * (fat - muscle))

    def _between_spines(self, canvas: Canvas, spine: Spine) -> None:
        ligament, fat = self._palette.named("ligament"), self._palette.named("epidural-fat")
        generator = stream(spine.seed, "mr-interspinous")
        tips, tendon = [], 0.5 * ligament + 0.2 * self._palette.named("muscle")
        for upper, lower in zip(spine.vertebrae[:-1], spine.vertebrae[1:-1], strict=False):
            ends = []
            for vertebra in (upper, lower):
                process = next((p for p in reversed(vertebra.arch.pieces) if not p.mirrored), None)
                if process is None:
                    break
                start, end = np.array(process.start), np.array(process.end)
                ends.append(_at(vertebra, *(0.35 * start + 0.65 * end)))
                tips.append(_at(vertebra, *end))
            if len(ends) == 2:
                share = float(np.clip(around(generator, 0.05 + 0.005 * spine.age, 0.14), 0.05, 0.8))
                value = share * fat + (1.0 - share) * self._palette.named("muscle")
                behind = upper.frame[:3, 1]
                upright = (float(behind[0]), float(behind[1]), float(behind[2]))
                self._tube(canvas, ends, [2.3, 2.3], value, flat=3.2, upright=upright)
        if len(tips) > 2:
            self._tube(canvas, tips, [1.4] * len(tips), tendon)

    def _dorsal_fat(self, canvas: Canvas, spine: Spine, generator: np.random.Generator) -> None:
        # A pad between the yellow ligaments, behind the sac at every disc; largest in the lumbar spine.
        fat = self._palette.named("epidural-fat")
        dark = 0.5 * self._palette.named("ligament") + 0.5 * self._palette.named("annulus")
        for upper in spine.vertebrae[:-1]:
            region = upper.level.region
            if region == "C":
                continue
            size = around(generator, 1.0 if region == "L" else 0.65, 0.15)
            own = upper.frame.copy()
            low = 0.5 * (upper.body.lower_back + upper.body.lower_front)
            own[:3, 3] = _at(upper, 0.0, upper.body.back_lower + 18.0, low)
            self._put(canvas, Ellipsoid(own, (8.0, 4.0, 9.0), Matter()), dark)
            own = own.copy()
            own[:3, 3] = _at(upper, 0.0, upper.body.back_lower + 16.0, low + 1.0)
            self._put(canvas, Ellipsoid(own, (5.0 * size, 3.6 * size, 10.0 * size), Matter()), fat)

    def _voids(
        self,
        canvas: Canvas,
        spine: Spine,
        path: Sequence[Array],
        generator: np.random.Generator,
    ) -> None:
        count = int(generator.integers(0, 9))
        places = [
            (_PER_LEVEL * between(generator, 2.0, 18.0), between(generator, -3.0, 4.0)) for _ in range(count)
        ]
        if self._palette.sequence.readout == "GR":
            return
        water = self._palette.named("canal") * between(generator, 0.45, 0.8)
        for along, behind in places:
            k = min(int(along), len(path) - 2)
            own = np.eye(4)
            own[:3, 3] = (
                path[k] + (along - k) * (path[k + 1] - path[k]) + _ahead(spine, k // _PER_LEVEL, behind)
            )
            self._put(canvas, Ellipsoid(own, (3.5, 1.6, 11.0), Matter(), unevenness=0.2), water)

    def _roots(
        self,
        canvas: Canvas,
        spine: Spine,
        path: Sequence[Array],
        radii: Sequence[float],
        generator: np.random.Generator,
    ) -> None:
        if len(path) < 3 or canvas.grid.voxel_mm > 2.0:
            return
        root = self._palette.named("root")
        last = len(path) - 1
        across = spine[Level.L3].frame[:3, 0]
        behind = spine[Level.L3].frame[:3, 1]
        for _ in range(ROOTS):
            # In the supine most roots sink to the back of the sac.
            angle = between(generator, -0.15 * np.pi, 1.15 * np.pi)
            reach = between(generator, 0.35, 0.8)
            stop = int(generator.integers(4, last + 1))
            line = []
            for k in range(0, stop + 1, 2):
                spread = radii[k] * min(1.0, 0.3 + 0.35 * k / _PER_LEVEL)
                wander = around(generator, 0.0, 0.06)
                line.append(
                    path[k]
                    + across * (1.1 * spread * (reach + wander) * np.cos(angle))
                    + behind * (spread * (reach + wander) * np.sin(angle))
                )
            self._tube(canvas, line, [between(generator, 0.5, 0.95)] * len(line), root)


def disc_wear(spine: Spine) -> list[float]:
    """How worn each disc is, 0 (Pfirrmann I) to 1 (V): with age, and most at L4 to S1."""
    generator = stream(spine.seed, "mr-discs")
    out = []
    for disc, upper in zip(spine.discs, spine.vertebrae, strict=False):
        place = 0.14 if upper.level in (Level.L4, Level.L5, Level.L6) else 0.0
        own = around(generator, 0.0, 0.14)
        out.append(float(np.clip(0.38 + 0.27 * disc.matter.deviation + place + own, 0.0, 1.0)))
    return out


def _fatty_endplates(spine: Spine) -> dict[Level, tuple[float, float]]:
    """Added share of fat below the upper and above the lower endplate (Modic type 2 beside worn discs)."""
    generator = stream(spine.seed, "mr-endplates")
    above: dict[Level, float] = {}
    below: dict[Level, float] = {}
    for wear, upper, lower in zip(disc_wear(spine), spine.vertebrae, spine.vertebrae[1:], strict=False):
        amount = between(generator, 0.1, 0.45)
        if generator.random() < 0.5 * max(0.0, wear - 0.45) / 0.55:
            below[upper.level] = amount
            above[lower.level] = amount * between(generator, 0.4, 1.0)
    return {v.level: (above.get(v.level, 0.0), below.get(v.level, 0.0)) for v in spine.vertebrae}


def _at(vertebra: Vertebra, u: float, v: float, w: float) -> Array:
    point: Array = (vertebra.frame @ np.array([u, v, w, 1.0]))[:3]
    return point


def _left(spine: Spine) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in spine[Level.L3].frame[:3, 0])
    return x, y, z


def _ahead(spine: Spine, k: int, behind: float) -> Array:
    """A step of `behind` mm to posterior at the k-th point of the sac's path."""
    step: Array = spine.vertebrae[min(k, len(spine.vertebrae) - 1)].frame[:3, 1] * behind
    return step


def _sac(spine: Spine, size: float) -> tuple[list[Array], list[float]]:
    """The dural sac from C3 to S2: LPS mm and radius (front to back) at every body."""
    path, radii = [], []
    for vertebra in spine.vertebrae:
        body = vertebra.body
        radius = {"C": 5.8, "T": 6.0, "L": 6.9, "S": 5.5}[vertebra.level.region] * size
        back = 0.5 * (body.back_lower + body.back_upper) - body.waist_back
        path.append(_at(vertebra, 0.0, back + radius + 2.0, 0.0))
        radii.append(radius)
    for segment, radius in zip(spine.sacrum[:2], (3.8 * size, 1.5 * size), strict=False):
        point = segment.frame @ np.array([0.0, segment.body.back_upper + radius + 1.5, 0.0, 1.0])
        path.append(point[:3])
        radii.append(radius)
    return path, radii


def _steps(count: int) -> Array:
    steps: Array = np.linspace(0.0, count - 1.0, (count - 1) * _PER_LEVEL + 1)
    return steps


def _smooth(path: Sequence[Array]) -> list[Array]:
    """`_PER_LEVEL` points per stretch of a path, on a Catmull-Rom curve through its points."""
    points = np.array([2 * path[0] - path[1], *path, 2 * path[-1] - path[-2]])
    out = []
    for place in _steps(len(path)):
        k = min(int(place), len(path) - 2)
        t = place - k
        a, b, c, d = points[k : k + 4]
        out.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * (b - c) + d - a) * t**3)
        )
    return out


def _conus(spine: Spine, generator: np.random.Generator) -> float:
    """Height (LPS z, mm) of the cord's end: L1 with half a level's spread."""
    return float(spine[Level.L1].frame[2, 3]) + around(generator, 0.0, 14.0)
