"""The truth measured again: heights and volumes from label maps, by code that knows no parameter of a shape.

Heights: the label map at 0.5 mm voxels is read off in the body's frame (centre and axes of the truth). Both
endplates are the ends of the label's columns; the middle height is taken at half depth, the anterior and the
posterior one where a line through the endplate next to the rim meets the rim. Volumes: voxels of a label
against random points that fall into the body's and the arch's implicit surfaces (Monte Carlo).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import map_coordinates

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.phantom import CtAcquisition, Spine, SpineOptions, Vertebra, render_ct, sample_spine
from dicom_ai_node.phantom.arch import arch_distance
from dicom_ai_node.phantom.body import body_field
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.report import Deformity

mpl.use("Agg")
from matplotlib import pyplot as plt

Array = npt.NDArray[np.float64]

VOXEL_MM: Final = 0.5
ASKEW: Final = (0.23, 0.31, 0.37)
"""Angles in radians by which the label map's grid is turned out of the patient's axes."""
NAMES: Final = ("anterior", "middle", "posterior")
CASES: Final[tuple[tuple[int, float, Level, tuple[Deformity, int]], ...]] = (
    (1, 30.0, Level.T5, ("none", 0)),
    (2, 45.0, Level.T9, ("none", 0)),
    (3, 60.0, Level.T12, ("none", 0)),
    (4, 75.0, Level.L2, ("none", 0)),
    (5, 88.0, Level.L5, ("none", 0)),
    (6, 70.0, Level.T7, ("wedge", 2)),
    (7, 78.0, Level.L1, ("wedge", 1)),
    (8, 66.0, Level.T12, ("wedge", 3)),
    (9, 81.0, Level.L3, ("biconcave", 1)),
    (10, 74.0, Level.L2, ("biconcave", 2)),
    (11, 69.0, Level.T11, ("biconcave", 3)),
    (12, 72.0, Level.T8, ("crush", 1)),
    (13, 77.0, Level.L4, ("crush", 2)),
    (14, 83.0, Level.L1, ("crush", 3)),
    (15, 58.0, Level.T9, ("wedge", 0)),
    (16, 50.0, Level.L3, ("biconcave", 0)),
)
"""(seed, age, level, fracture) of each vertebra that is measured."""


@dataclass(frozen=True)
class Measured:
    """One vertebra measured again; heights in mm (anterior, middle, posterior), volumes in mm3."""

    level: Level
    deformity: str
    age: float
    told_mm: tuple[float, float, float]
    heights_mm: tuple[float, float, float]
    body_label_mm3: float
    body_shape_mm3: float
    whole_label_mm3: float
    whole_shape_mm3: float

    @property
    def height_errors(self) -> Array:
        """Shape (3,), measured less told, in mm."""
        errors: Array = np.array(self.heights_mm) - np.array(self.told_mm)
        return errors


def measure(
    seed: int, age: float, level: Level, fracture: tuple[Deformity, int], *, with_arch: bool = False
) -> Measured:
    """Render one vertebra at 0.5 mm and measure it; volumes with the arch are 0 where it is not asked for."""
    options = SpineOptions(age=age, supernumerary="none", rotation=0.12)
    spine = sample_spine(seed, fractures={level: fracture}, options=options)
    # Osteophytes belong to a body's label and not to its heights: here they are left out.
    bare = replace(spine, vertebrae=tuple(replace(v, osteophytes=()) for v in spine.vertebrae))
    vertebra = bare[level]
    labels, whole, affine, entry = _rendered(bare, vertebra, with_arch=with_arch)
    number = verse_label(level)
    volume = VOXEL_MM**3
    heights = measured_heights(labels == number, affine, entry)
    body, both = shape_volumes(vertebra, with_arch=with_arch)
    return Measured(
        level,
        f"{fracture[0]} {fracture[1]}",
        age,
        (entry["heights_mm"]["anterior"], entry["heights_mm"]["middle"], entry["heights_mm"]["posterior"]),
        heights,
        float((labels == number).sum()) * volume,
        body,
        float((whole == number).sum()) * volume if with_arch else 0.0,
        both,
    )


def _rendered(spine: Spine, vertebra: Vertebra, *, with_arch: bool) -> tuple[Any, Any, Array, dict[str, Any]]:
    """(body labels, whole labels, affine, truth) on an upright grid about one vertebra."""
    low, high = vertebra.body.extent
    if with_arch:
        low, high = np.minimum(low, vertebra.arch.extent[0]), np.maximum(high, vertebra.arch.extent[1])
    corners = np.array([[(low, high)[k >> axis & 1][axis] for axis in range(3)] for k in range(8)])
    # The grid lies askew to every body: steps of its voxels then even out over the width of an endplate.
    axes = rotation(*ASKEW)[:, ::-1]
    placed = (corners @ vertebra.frame[:3, :3].T + vertebra.frame[:3, 3]) @ axes
    start, end = placed.min(axis=0), placed.max(axis=0)
    affine = np.eye(4)
    affine[:3, :3] = axes * VOXEL_MM
    affine[:3, 3] = axes @ start
    slices, rows, columns = (int(n) for n in np.ceil((end - start) / VOXEL_MM))
    # Neighbours are out of the way: their arches and bodies would cover parts of this one.
    alone = replace(spine, vertebrae=(vertebra,), discs=(), sacrum=(), wear=())
    acquisition = CtAcquisition((slices, rows, columns), affine, VOXEL_MM, noise_hu=0.0, table=False)
    nothing = replace(spine.trunk, behind=(), bones=())
    phantom = render_ct(replace(alone, trunk=nothing), acquisition)
    return phantom.labels, phantom.whole_labels, affine, phantom.truth["vertebrae"][0]


def measured_heights(
    mask: npt.NDArray[np.bool_], affine: Array, entry: dict[str, Any]
) -> tuple[float, float, float]:
    """Anterior, middle and posterior height in mm of a label, read off in the body's frame.

    Args:
        mask: (slices, rows, columns).
        affine: index -> LPS mm.
        entry: the truth of the vertebra; only its centre and axes are used.
    """
    axes = np.array([entry["axes"][name] for name in ("left", "posterior", "superior")])
    u, v, w = np.arange(-3.0, 3.01, 0.5), np.arange(-30.0, 30.01, 0.25), np.arange(-26.0, 26.01, 0.1)
    lattice = np.stack(np.meshgrid(u, v, w, indexing="ij"), axis=-1) @ axes + np.array(entry["center_mm"])
    inside = np.linalg.inv(affine)
    index = lattice @ inside[:3, :3].T + inside[:3, 3]
    value = map_coordinates(mask.astype(np.float32), np.moveaxis(index, -1, 0), order=1)
    filled = value > 0.5
    upper = _endplate(filled & (w > 0), v, w, top=True)
    lower = _endplate(filled & (w < 0), v, w, top=False)
    lengths = np.linalg.norm(upper - lower, axis=1)
    return float(lengths[0]), float(lengths[1]), float(lengths[2])


def _endplate(filled: npt.NDArray[np.bool_], v: Array, w: Array, *, top: bool) -> Array:
    """Shape (3, 2): (v, w) of one endplate at the front rim, at half depth and at the back rim."""
    seen = filled.any(axis=2)
    last = filled.shape[2] - 1 - filled[:, :, ::-1].argmax(axis=2) if top else filled.argmax(axis=2)
    edge = np.where(seen, w[last], np.nan)
    # The last sample inside lies half a step from the surface, on the mean.
    half = 0.5 * float(w[1] - w[0]) * (1.0 if top else -1.0)
    many = seen.mean(axis=0) > 0.5
    profile = np.where(many, np.nansum(edge, axis=0) / np.maximum(1, seen.sum(axis=0)), np.nan) + half
    front, back = _rims(profile, v)
    middle = 0.5 * (front + back)
    points = []
    for place, low, high, degree in (
        (front, front + 0.25, front + 3.2, 2),
        (middle, middle - 1.5, middle + 1.5, 1),
        (back, back - 3.2, back - 0.25, 2),
    ):
        near = (v >= low) & (v <= high)
        points.append([place, float(np.polyval(np.polyfit(v[near], profile[near], degree), place))])
    return np.array(points)


def _rims(profile: Array, v: Array) -> tuple[float, float]:
    """Where an endplate begins and ends: from the middle outwards, until the label ends or a wall begins."""
    steps = np.abs(np.diff(profile)) < 0.6
    center = int(np.nanmedian(np.flatnonzero(~np.isnan(profile))))
    first, last = center, center
    while first > 0 and steps[first - 1]:
        first -= 1
    while last < len(v) - 1 and steps[last]:
        last += 1
    # Half a step to the border, and what interpolating voxels rounds off the rim.
    return float(v[first]) - 0.2, float(v[last]) + 0.2


def shape_volumes(
    vertebra: Vertebra, points: int = 400_000, *, with_arch: bool = True
) -> tuple[float, float]:
    """(body, body with arch or 0) in mm3 by random points in a box about the vertebra."""
    low, high = vertebra.body.extent
    body = _share(vertebra, low, high, points, whole=False)
    if not with_arch:
        return body, 0.0
    low, high = np.minimum(low, vertebra.arch.extent[0]), np.maximum(high, vertebra.arch.extent[1])
    return body, _share(vertebra, low, high, 2 * points, whole=True)


def _share(vertebra: Vertebra, low: Array, high: Array, points: int, *, whole: bool) -> float:
    generator = np.random.default_rng(0)
    u, v, w = (torch.from_numpy(generator.uniform(low[k], high[k], points)) for k in range(3))
    distance = body_field(vertebra.body, u, v, w).outside
    if whole:
        distance = torch.minimum(distance, arch_distance(vertebra.arch, u, v, w))
    return float((distance < 0).double().mean()) * float(np.prod(high - low))


def summary(results: Sequence[Measured]) -> dict[str, Any]:
    """Largest and mean errors of all results."""
    errors = np.array([result.height_errors for result in results])
    body = np.array([r.body_label_mm3 / r.body_shape_mm3 - 1.0 for r in results])
    whole = np.array(
        [r.whole_label_mm3 / r.whole_shape_mm3 - 1.0 for r in results if r.whole_shape_mm3] or [0.0]
    )
    return {
        "vertebrae": len(results),
        "voxel_mm": VOXEL_MM,
        "height_error_mm": {
            "largest": round(float(np.abs(errors).max()), 3),
            "mean": round(float(np.abs(errors).mean()), 3),
            "bias": round(float(errors.mean()), 3),
            "largest_by_height": {
                name: round(float(np.abs(errors[:, k]).max()), 3) for k, name in enumerate(NAMES)
            },
        },
        "volume_error": {
            "body": {
                "largest": round(float(np.abs(body).max()), 5),
                "mean": round(float(np.abs(body).mean()), 5),
            },
            "whole": {
                "largest": round(float(np.abs(whole).max()), 5),
                "mean": round(float(np.abs(whole).mean()), 5),
            },
        },
        "each": [
            {
                "level": result.level.value,
                "deformity": result.deformity,
                "age": result.age,
                "height_errors_mm": np.round(result.height_errors, 3).tolist(),
            }
            for result in results
        ],
    }


def draw(data: Path, out: Path) -> list[Path]:
    """Measure `CASES`; numbers in `truth.json`, measured against told in `truth.png`. Needs no real data."""
    del data
    results = [measure(*case, with_arch=k % 4 == 0) for k, case in enumerate(CASES)]
    told = summary(results)
    numbers, picture = out / "truth.json", out / "truth.png"
    numbers.write_text(json.dumps(told, indent=1) + "\n")
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5))
    for k, name in enumerate(NAMES):
        left.scatter([r.told_mm[k] for r in results], [r.height_errors[k] for r in results], s=14, label=name)
    left.axhspan(-0.3, 0.3, color="0.9", zorder=0)
    left.set(xlabel="height told, mm", ylabel="measured less told, mm", title="Heights, 0.5 mm voxels")
    left.legend(fontsize=8)
    for label, shape, name in (
        ([r.body_label_mm3 for r in results], [r.body_shape_mm3 for r in results], "body"),
        (
            [r.whole_label_mm3 for r in results if r.whole_shape_mm3],
            [r.whole_shape_mm3 for r in results if r.whole_shape_mm3],
            "body and arch",
        ),
    ):
        right.scatter(np.array(shape) / 1000, 100 * (np.array(label) / np.array(shape) - 1), s=14, label=name)
    right.axhline(0, color="0.6", linewidth=0.8)
    right.set(xlabel="volume of the shape, ml", ylabel="label less shape, %", title="Volumes")
    right.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(picture, dpi=80)
    plt.close(figure)
    return [picture, numbers]


__all__ = ["CASES", "Measured", "draw", "measure", "measured_heights", "summary"]
