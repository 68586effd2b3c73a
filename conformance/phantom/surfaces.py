"""Shape of the vertebrae against real surfaces: how far apart they lie, level by level.

Real surfaces: the Visible Human's L1 to S1 (`shape/artisynth-lumbosacral`, body alone and body with arch) and
the mean L2 to L5 of 87 patients (`shape/morphable-lumbar`). Each is laid on the phantom's vertebra by rigid
motion and one scale, found by iterating nearest points in both directions (Besl and McKay, IEEE PAMI 1992;
14:239; scale after Umeyama, IEEE PAMI 1991; 13:376). The distance is symmetric: of points of each surface to
the other. Triangles, points, alignment and distances are this module's own; of the phantom it takes nothing
but the inside and outside of its bodies and arches.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom import SpineOptions, sample_spine
from dicom_ai_node.phantom.arch import arch_distance
from dicom_ai_node.phantom.body import body_field
from dicom_ai_node.phantom.spine import Vertebra

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection

Array = npt.NDArray[np.float64]

SEEDS: Final = range(6)
LUMBAR: Final = tuple(Level(f"L{n}") for n in range(1, 6))
STEP_MM: Final = 1.0
POINTS: Final = 20_000
TILTS: Final = tuple(np.deg2rad([-40.0, -20.0, 0.0, 20.0, 40.0]))
PLANES: Final = (("mid-sagittal", 0, 0.0), ("axial, pedicles", 2, 0.3), ("axial, middle", 2, 0.0),
                 ("coronal, body", 1, 0.0), ("coronal, arch", 1, 1.0))  # fmt: skip


@dataclass(frozen=True)
class Surface:
    """Triangles: `vertices` (n, 3) in mm along left, posterior, superior; `faces` (m, 3) indices."""

    vertices: Array
    faces: npt.NDArray[np.int64]

    def points(self, count: int, seed: int = 0) -> Array:
        """Points spread evenly over the surface, shape (count, 3)."""
        generator = np.random.default_rng(seed)
        a, b, c = (self.vertices[self.faces[:, k]] for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        chosen = generator.choice(len(area), count, p=area / area.sum())
        s, t = np.sqrt(generator.random(count))[:, None], generator.random(count)[:, None]
        spread: Array = (1 - s) * a[chosen] + s * (1 - t) * b[chosen] + s * t * c[chosen]
        return spread

    def cut(self, axis: int, place: float) -> Array:
        """Where a plane across an axis meets the triangles: line segments, shape (n, 2, 3)."""
        corners = self.vertices[self.faces]
        side = corners[:, :, axis] - place
        segments = []
        for k in range(3):
            # The corner k alone on its side of the plane.
            a, b, c = k, (k + 1) % 3, (k + 2) % 3
            alone = (side[:, a] * side[:, b] < 0) & (side[:, a] * side[:, c] < 0)
            tip, one, two = corners[alone, a], corners[alone, b], corners[alone, c]
            height, low, high = side[alone, a, None], side[alone, b, None], side[alone, c, None]
            ends = [tip + (one - tip) * height / (height - low), tip + (two - tip) * height / (height - high)]
            segments.append(np.stack(ends, axis=1))
        return np.concatenate(segments)


def read_obj(path: Path) -> Surface:
    """A Wavefront OBJ (gzip) in metres whose axes are anterior, left, superior."""
    vertices, faces = [], []
    with gzip.open(path, "rt") as lines:
        for line in lines:
            words = line.split()
            if words[:1] == ["v"]:
                vertices.append([float(word) for word in words[1:4]])
            elif words[:1] == ["f"]:
                faces.append([int(word.split("/")[0]) - 1 for word in words[1:4]])
    x, y, z = np.array(vertices).T * 1000.0
    return Surface(np.stack([y, -x, z], axis=1), np.array(faces))


def read_morphable(folder: Path) -> dict[Level, Surface]:
    """The mean L2 to L5, told apart as connected parts of one mesh, from head to tail."""
    x, y, z = np.loadtxt(folder / "meanMesh_vertices.csv.gz", delimiter=",").T
    vertices = np.stack([y, -x, z], axis=1)
    faces = np.loadtxt(folder / "meanMesh_faces.csv.gz", delimiter=",").astype(np.int64) - 1
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    _, part = connected_components(graph, directed=False)
    parts = [k for k in np.unique(part) if (part == k).sum() > 2000]
    parts.sort(key=lambda k: -vertices[part == k, 2].mean())
    levels = LUMBAR[1:]
    return {
        level: Surface(vertices, faces[part[faces[:, 0]] == k])
        for level, k in zip(levels, parts, strict=True)
    }


def phantom_distance(vertebra: Vertebra, points: Array, *, whole: bool) -> Array:
    """Positive outside the phantom's vertebra, negative inside; points (..., 3) in its body's frame."""
    u, v, w = (torch.from_numpy(np.ascontiguousarray(points[..., k])) for k in range(3))
    inside = body_field(vertebra.body, u, v, w).outside
    if whole:
        inside = torch.minimum(inside, arch_distance(vertebra.arch, u, v, w))
    distance: Array = inside.numpy()
    return distance


def phantom_points(vertebra: Vertebra, *, whole: bool) -> Array:
    """Where the edges of a lattice cross the phantom's surface, shape (n, 3), in its body's frame."""
    low, high = vertebra.body.extent
    if whole:
        low, high = np.minimum(low, vertebra.arch.extent[0]), np.maximum(high, vertebra.arch.extent[1])
    axes = [np.arange(a, b + STEP_MM, STEP_MM) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    value = phantom_distance(vertebra, lattice, whole=whole)
    found = []
    for axis in range(3):
        near = [slice(None)] * 3
        far = [slice(None)] * 3
        near[axis], far[axis] = slice(0, -1), slice(1, None)
        a, b = value[tuple(near)], value[tuple(far)]
        crossing = (a < 0) != (b < 0)
        share = a[crossing] / (a[crossing] - b[crossing])
        start, end = lattice[tuple(near)][crossing], lattice[tuple(far)][crossing]
        found.append(start + share[:, None] * (end - start))
    return np.concatenate(found)


@dataclass(frozen=True)
class Similarity:
    """x -> scale * turn @ x + shift."""

    scale: float
    turn: Array
    shift: Array

    def __call__(self, points: Array) -> Array:
        moved: Array = self.scale * points @ self.turn.T + self.shift
        return moved


def fitted(source: Array, target: Array) -> Similarity:
    """The similarity that brings paired points, shape (n, 3), closest together (Umeyama 1991)."""
    a, b = source.mean(axis=0), target.mean(axis=0)
    left, values, right = np.linalg.svd((target - b).T @ (source - a) / len(source))
    flip = np.diag([1.0, 1.0, float(np.sign(np.linalg.det(left @ right)))])
    turn = left @ flip @ right
    scale = float((values * np.diag(flip)).sum() / ((source - a) ** 2).sum(axis=1).mean())
    return Similarity(scale, turn, b - scale * turn @ a)


def aligned(source: Array, target: Array) -> Similarity:
    """Lay one point cloud on another; the axes of both point about the same way."""
    generator = np.random.default_rng(0)
    source = source[generator.permutation(len(source))[:1600]]
    target = target[generator.permutation(len(target))[:1600]]
    scale = float(np.sqrt(target.var(axis=0).sum() / source.var(axis=0).sum()))
    tries = []
    for tilt in TILTS:
        turn = np.array(
            [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]], dtype=np.float64
        )
        start = Similarity(scale, turn, target.mean(axis=0) - scale * turn @ source.mean(axis=0))
        tries.append(_nearer(start, source[:500], target[:500], 8))
    return _nearer(min(tries, key=lambda found: found[1])[0], source, target, 25)[0]


def _nearer(move: Similarity, source: Array, target: Array, rounds: int) -> tuple[Similarity, float]:
    """(better move, mean distance in mm) after pairing nearest points in both directions."""
    tree = cKDTree(target)
    distance = np.inf
    for _ in range(rounds):
        placed = move(source)
        far, there = tree.query(placed)
        back_far, back = cKDTree(placed).query(target)
        distance = float(far.mean() + back_far.mean())
        move = fitted(np.concatenate([source, source[back]]), np.concatenate([target[there], target]))
    return move, distance


def apart(first: Array, second: Array) -> Array:
    """Distances in mm of points of each cloud to the other, in one array."""
    one, other = cKDTree(first), cKDTree(second)
    return np.concatenate([other.query(first[::6])[0], one.query(second[::6])[0]])


@dataclass(frozen=True)
class Compared:
    """One phantom's vertebra against one real surface: distances in mm, and how the real one was laid."""

    distances: Array
    move: Similarity
    vertebra: Vertebra


def compare(vertebra: Vertebra, real: Surface, *, whole: bool) -> Compared:
    """Lay a real surface on a phantom's vertebra and measure."""
    cloud, mine = real.points(POINTS), phantom_points(vertebra, whole=whole)
    move = aligned(cloud, mine)
    return Compared(apart(move(cloud), mine), move, vertebra)


def draw(data: Path, out: Path) -> list[Path]:
    """Distances per level in `surfaces.json`; contours of one phantom over the real ones in PNGs."""
    visible_human = data / "shape" / "artisynth-lumbosacral"
    sources: dict[str, tuple[bool, dict[Level, Surface]]] = {
        "artisynth body": (False, {x: read_obj(visible_human / f"{x}_body.obj.gz") for x in LUMBAR}),
        "artisynth whole": (
            True,
            {x: read_obj(visible_human / f"{x}_Schrumpfverpacken.obj.gz") for x in LUMBAR},
        ),
        "morphable whole": (True, read_morphable(data / "shape" / "morphable-lumbar")),
    }
    options = SpineOptions(age=45.0, supernumerary="none")
    spines = [sample_spine(seed, fractures={}, options=options) for seed in SEEDS]
    told: dict[str, dict[str, dict[str, float]]] = {}
    written = []
    for name, (whole, surfaces) in sources.items():
        shown = {}
        told[name] = {}
        for level, surface in surfaces.items():
            results = [compare(spine[level], surface, whole=whole) for spine in spines]
            means = [float(result.distances.mean()) for result in results]
            told[name][level.value] = {
                "mean_mm": round(float(np.mean(means)), 3),
                "lowest_mean_mm": round(min(means), 3),
                "highest_mean_mm": round(max(means), 3),
                "p95_mm": round(float(np.mean([np.percentile(r.distances, 95) for r in results])), 3),
                "scale": round(float(np.mean([r.move.scale for r in results])), 4),
            }
            shown[level] = results[int(np.argsort(means)[len(means) // 2])], surface
        path = out / f"surfaces-{name.replace(' ', '-')}.png"
        _picture(path, name, shown, whole=whole)
        written.append(path)
    numbers = out / "surfaces.json"
    numbers.write_text(json.dumps({"seeds": list(SEEDS), "distance": told}, indent=1) + "\n")
    return [*written, numbers]


def _picture(path: Path, name: str, shown: dict[Level, tuple[Compared, Surface]], *, whole: bool) -> None:
    figure, axes = plt.subplots(
        len(shown), len(PLANES), figsize=(3.4 * len(PLANES), 3.2 * len(shown)), squeeze=False
    )
    for row, (level, (result, surface)) in zip(axes, shown.items(), strict=True):
        laid = Surface(result.move(surface.vertices), surface.faces)
        for axis, (title, across, share) in zip(row, PLANES, strict=True):
            body = result.vertebra.body
            place = share * {0: 0.0, 1: body.back_upper + 19.0, 2: body.upper_back}[across]
            first, second = [k for k in range(3) if k != across]
            reach = np.arange(-62.0, 90.0, 0.6)
            grid = np.zeros((len(reach), len(reach), 3))
            grid[..., first], grid[..., second] = np.meshgrid(reach, reach)
            grid[..., across] = place
            value = phantom_distance(result.vertebra, grid, whole=whole)
            axis.contour(reach, reach, value, levels=[0.0], colors="tab:blue", linewidths=1.3)
            lines = laid.cut(across, place)[..., [first, second]]
            axis.add_collection(LineCollection(list(lines), colors="tab:red", linewidths=0.7))
            spread = 36.0 if not whole else 56.0
            middle = {0: 0.0, 1: 18.0 if whole else 0.0, 2: -6.0 if whole else 0.0}
            axis.set_xlim(middle[first] - spread, middle[first] + spread)
            # Axial views show the front at the top, as on a screen.
            limits = (middle[second] - spread, middle[second] + spread)
            axis.set_ylim(*(limits[::-1] if across == 2 else limits))
            axis.set_aspect("equal")
            axis.set_title(f"{level.value} {title}  {result.distances.mean():.2f} mm", fontsize=8)
            axis.tick_params(labelsize=6)
    figure.suptitle(f"Phantom (blue) and {name} (red), mm", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    plt.close(figure)
