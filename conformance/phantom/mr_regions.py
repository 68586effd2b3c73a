"""Bodies, discs and canal of a sagittal MR volume, found from masks of bodies alone.

The same code measures real scans and phantoms, so that both are judged alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
import numpy.typing as npt
from scipy import ndimage

Values = npt.NDArray[np.float64]

REGIONS: Final = ("body", "nucleus", "annulus", "canal")

PATCH_MM: Final = 12.0
"""Edge of the squares in bodies whose spectrum is measured."""


@dataclass(frozen=True)
class SagittalVolume:
    """A sagittal stack.

    Attributes:
        name: of the scan.
        image: axes (left, inferior, posterior).
        labels: not zero in bodies, one number each; same shape.
        spacing_mm: of each axis.
    """

    name: str
    image: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float, float]

    @property
    def middle(self) -> int:
        """The slice through the middle of the bodies."""
        return round(float(np.argwhere(self.labels > 0)[:, 0].mean()))


def real_volume(folder: Path, name: str) -> SagittalVolume:
    """One of the labelled real scans, turned to (left, inferior, posterior).

    Raises:
        FileNotFoundError: it is not there.
    """
    axes: Any = nibabel.orientations
    arrays = []
    for part in ("img", "seg"):
        path = folder / f"{name}_{part}.nii.gz"
        if not path.is_file():
            raise FileNotFoundError(path)
        loaded: Any = nibabel.load(path)
        turn = axes.ornt_transform(axes.io_orientation(loaded.affine), axes.axcodes2ornt(("L", "I", "P")))
        arrays.append(np.ascontiguousarray(axes.apply_orientation(np.asarray(loaded.dataobj), turn)))
    # Some sets were stored with a window whose black is not 0.
    image = arrays[0].astype(np.float32)
    image -= np.percentile(image[:, ::3, ::3], 1.0)
    return SagittalVolume(name, image, arrays[1].astype(np.uint8), (1.0, 1.0, 1.0))


def tissues(volume: SagittalVolume) -> dict[str, Values]:
    """Intensities per region, relative to the median in all bodies.

    Bodies without 2 mm of their rim; nucleus and annulus in the gap between neighbouring bodies, about its
    middle and near its front and back; canal 5 to 12 mm behind bodies. Only near the mid-sagittal plane.
    """
    spacing = np.array(volume.spacing_mm)
    near = np.abs(np.arange(volume.image.shape[0]) - volume.middle) * spacing[0] <= 6.0
    found: dict[str, list[Values]] = {region: [] for region in REGIONS}
    centers: list[Values] = []
    for number, box in enumerate(ndimage.find_objects(volume.labels), start=1):
        if box is None:
            continue
        part = (
            box[0],
            slice(max(0, box[1].start - 1), box[1].stop + 1),
            slice(max(0, box[2].start - 1), box[2].stop + 1),
        )
        mask = (volume.labels[part] == number) & near[part[0], None, None]
        if mask.sum() < 30:
            continue
        depth = np.stack([ndimage.distance_transform_edt(plane, sampling=spacing[1:]) for plane in mask])
        found["body"].append(volume.image[part][depth > 2.0].astype(float))
        start = np.array([axis.start for axis in part])
        centers.append((np.argwhere(mask).mean(axis=0) + start) * spacing)
    centers.sort(key=lambda center: float(center[1]))
    for above, below in pairwise(centers):
        _disc(volume, (above, below), found)
        _canal(volume, (above, below), found)
    level = float(np.median(np.concatenate(found["body"])))
    return {
        region: np.concatenate(parts) / level if parts else np.empty(0) for region, parts in found.items()
    }


def _sampled(volume: SagittalVolume, points: Values) -> tuple[Values, npt.NDArray[np.uint8]]:
    """Image and label of the nearest voxels of points in mm, shape (n, 3)."""
    index = np.rint(points / np.array(volume.spacing_mm)).astype(int)
    index = np.clip(index, 0, np.array(volume.image.shape) - 1)
    where = tuple(index.T)
    return volume.image[where].astype(float), volume.labels[where]


def _axes(ends: tuple[Values, Values]) -> tuple[Values, Values, float]:
    """Unit vectors to inferior and to posterior in the sagittal plane, and the distance of two bodies."""
    down = ends[1] - ends[0]
    down[0] = 0.0
    apart = float(np.linalg.norm(down))
    down = down / apart
    return down, np.array([0.0, -down[2], down[1]]), apart


def _disc(volume: SagittalVolume, ends: tuple[Values, Values], found: dict[str, list[Values]]) -> None:
    down, back, apart = _axes(ends)
    steps = np.arange(0.0, apart, 0.5)
    _, on_line = _sampled(volume, ends[0] + steps[:, None] * down)
    gap = steps[on_line == 0]
    if len(gap) == 0 or not 1.5 <= len(gap) * 0.5 <= 20.0:
        return
    middle = ends[0] + float(gap.mean()) * down
    half = 0.5 * _depth(volume, ends[0], back)
    for region, places in (("nucleus", (-0.22, 0.22)), ("annulus", (0.72, 0.92))):
        along = np.linspace(places[0] * half, places[1] * half, 9)
        if region == "annulus":
            along = np.concatenate([along, -along])
        points = middle + along[:, None] * back
        values, inside = _sampled(volume, points)
        found[region].append(values[inside == 0])


def _depth(volume: SagittalVolume, center: Values, back: Values) -> float:
    steps = np.arange(-30.0, 30.0, 0.5)
    _, labels = _sampled(volume, center + steps[:, None] * back)
    return 0.5 * float((labels > 0).sum())


def _canal(volume: SagittalVolume, ends: tuple[Values, Values], found: dict[str, list[Values]]) -> None:
    _, back, _ = _axes(ends)
    steps = np.arange(5.0, 12.0, 1.0)
    for center in ends:
        wall = 0.5 * _depth(volume, center, back)
        values, labels = _sampled(volume, center + (wall + steps)[:, None] * back)
        found["canal"].append(values[labels == 0])


def spectrum(volume: SagittalVolume) -> tuple[Values, Values] | None:
    """(cycles per mm, power) of the texture in bodies, as a share of the bodies' median squared, per mm^-2.

    From squares in the mid-sagittal slice, a plane taken away, under a Hann window; None without any square.
    """
    _, step, column = volume.spacing_mm
    edge = max(6, round(PATCH_MM / step))
    image, labels = volume.image[volume.middle], volume.labels[volume.middle]
    level = float(np.median(image[labels > 0]))
    window = np.outer(np.hanning(edge + 2)[1:-1], np.hanning(edge + 2)[1:-1])
    y, x = np.mgrid[:edge, :edge]
    plane = np.stack([np.ones(edge * edge), y.ravel(), x.ravel()], axis=1)
    total, count = np.zeros((edge, edge)), 0
    for number in (int(n) for n in np.unique(labels) if n):
        row, col = (round(float(v)) - edge // 2 for v in np.argwhere(labels == number).mean(axis=0))
        part = (slice(row, row + edge), slice(col, col + edge))
        if image[part].shape != (edge, edge) or (labels[part] == number).mean() < 0.97:
            continue
        values = image[part].astype(float).ravel() / level
        values -= plane @ np.linalg.lstsq(plane, values, rcond=None)[0]
        total += np.abs(np.fft.fft2(values.reshape(edge, edge) * window)) ** 2
        count += 1
    if count == 0:
        return None
    power = total / count * step * column / (window**2).sum()
    frequency = np.hypot(
        *np.meshgrid(np.fft.fftfreq(edge, step), np.fft.fftfreq(edge, column), indexing="ij")
    )
    bins = np.arange(0.5, edge // 2 + 1) / (edge * step)
    place = np.digitize(frequency, bins)
    centers = np.arange(1, edge // 2 + 1) / (edge * step)
    return centers, np.array([power[place == k].mean() for k in range(1, edge // 2 + 1)])
