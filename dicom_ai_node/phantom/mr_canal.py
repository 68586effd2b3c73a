"""The spinal canal as MR sees it: epidural fat, the dural sac, cord down to L1, roots below, moving fluid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.mr_brush import at, leftwards, put, put_tube
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.painting_solids import Canvas
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.solids import Ellipsoid
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.tissues import Matter

Array = npt.NDArray[np.float64]

ROOTS: Final = 16

_PER_LEVEL: Final = 3
"""Points of the dural sac's path per vertebra."""


def paint_canal(canvas: Canvas, spine: Spine, palette: MrPalette) -> None:
    """Everything in the canal, from the fat inwards."""
    named = palette.named
    generator = stream(spine.seed, "mr-canal")
    path, radii = _sac(spine, between(generator, 0.92, 1.08))
    path, radii = _smooth(path), list(np.interp(_steps(len(path)), range(len(radii)), radii))
    left = leftwards(spine)
    put_tube(canvas, path, [r + 1.3 for r in radii], named("epidural-fat"), flat=1.2, upright=left)
    _dorsal_fat(canvas, spine, generator, named("epidural-fat"))
    put_tube(canvas, path, [r + 0.45 for r in radii], named("ligament"), flat=1.2, upright=left)
    put_tube(canvas, path, radii, named("canal"), flat=1.2, upright=left)
    _voids(canvas, spine, path, generator, palette)
    conus = min(range(len(path)), key=lambda k: abs(path[k][2] - _conus(spine, generator)))
    # The cord lies in front where the thoracic spine is bent, behind above its end, and swells there.
    far = np.arange(conus, -1, -1) / _PER_LEVEL
    cord = [
        path[k] + _ahead(spine, k // _PER_LEVEL, float(np.interp(far[k], [0, 2, 4], [1.8, 1.2, -0.8])))
        for k in range(conus + 1)
    ]
    thick = np.interp(far, [0.0, 0.9, 2.0, 3.0, 12.0, 14.0], [0.7, 2.9, 3.9, 3.4, 3.4, 4.2])
    put_tube(canvas, cord, list(thick), named("cord"), flat=1.35, upright=left)
    _roots(canvas, spine, (path[conus - 2 :], radii[conus - 2 :]), generator, palette)


def _dorsal_fat(canvas: Canvas, spine: Spine, generator: np.random.Generator, fat: Tensor) -> None:
    """A pad behind the sac between the laminae at every disc; largest in the lumbar spine."""
    for upper in spine.vertebrae[:-1]:
        region = upper.level.region
        if region == "C":
            continue
        size = around(generator, 1.0 if region == "L" else 0.7, 0.15)
        own = upper.frame.copy()
        low = 0.5 * (upper.body.lower_back + upper.body.lower_front)
        own[:3, 3] = at(upper, 0.0, upper.body.back_lower + 15.5, low - 1.0)
        put(canvas, Ellipsoid(own, (7.0 * size, 5.6 * size, 12.5 * size), Matter()), fat)


def _voids(
    canvas: Canvas,
    spine: Spine,
    path: Sequence[Array],
    generator: np.random.Generator,
    palette: MrPalette,
) -> None:
    count = int(generator.integers(0, 9))
    places = [
        (_PER_LEVEL * between(generator, 2.0, 18.0), between(generator, -3.0, 4.0)) for _ in range(count)
    ]
    dim = between(generator, 0.5, 0.85)
    if palette.sequence.readout == "GR":
        return
    water = palette.named("canal") * dim
    for along, behind in places:
        k = min(int(along), len(path) - 2)
        own = np.eye(4)
        own[:3, 3] = path[k] + (along - k) * (path[k + 1] - path[k]) + _ahead(spine, k // _PER_LEVEL, behind)
        put(canvas, Ellipsoid(own, (3.5, 1.6, 11.0), Matter(), unevenness=0.2), water)


def _roots(
    canvas: Canvas,
    spine: Spine,
    sac: tuple[Sequence[Array], Sequence[float]],
    generator: np.random.Generator,
    palette: MrPalette,
) -> None:
    path, radii = sac
    if len(path) < 3 or canvas.grid.voxel_mm > 2.0:
        return
    # Roots are bundles with fluid between their threads.
    root = 0.7 * palette.named("root") + 0.3 * palette.named("canal")
    last = len(path) - 1
    across = spine[Level.L3].frame[:3, 0]
    behind = spine[Level.L3].frame[:3, 1]
    for _ in range(ROOTS):
        # In the supine most roots sink to the back of the sac.
        angle = between(generator, 0.05 * np.pi, 0.95 * np.pi)
        reach = between(generator, 0.3, 0.85)
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
        put_tube(canvas, line, [between(generator, 0.5, 0.95)] * len(line), root)


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
        path.append(at(vertebra, 0.0, back + radius + 2.0, 0.0))
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
