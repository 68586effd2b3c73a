"""An endless stream of vertebra crops for training, drawn from rendered people on disk.

    fill_cache(cache, volume_names("CT", range(500)), ct_volume)
    stream = CropStream(cache, size=(64, 64, 64), seed=1)
    for batch in DataLoader(stream, batch_size=16, num_workers=4): ...

One crop is a dict of tensors (see `CropStream`). What varies from crop to crop is cheap: place, mirror image,
contrast, noise, sharpness, slice thickness. What is dear (a new person, a new scan) is in the cache. The same
seed gives every worker the same crops in the same order; no two workers share a crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from dicom_ai_node.phantom.cached_volumes import (
    DISEASES,
    CachedVolume,
    VertebraTable,
    cached_names,
    open_volume,
)
from dicom_ai_node.phantom.randomness import between, stream

Image = npt.NDArray[np.float32]
Number = TypeVar("Number", np.int16, np.uint8)

KNOTS: Final = 7
"""Knots of a random contrast curve."""


@dataclass(frozen=True)
class Variation:
    """What changes from crop to crop; chances are 0..1.

    Attributes:
        shift_mm: how far the crop's centre may lie from the vertebra's, along each axis.
        mirror: chance of swapping left and right. Vertebrae are alike then; organs lie on the wrong side.
        clip: values (HU) that the window begins and ends with; None for the whole range of the volume (MR).
        curve: chance of a random monotone contrast curve; `inverted` that it is turned upside down.
        noise: chance of noise; `noise_share` its largest deviation, in deviations of the crop.
        blur: chance of a slightly soft crop.
        thick: chance that slices of 2 or 3 voxels are averaged along the first axis.
        gain: spread of the contrast (factor, natural log) and of the brightness after standardising.
    """

    shift_mm: float = 12.0
    mirror: float = 0.5
    clip: tuple[int, int] | None = (-500, 1300)
    curve: float = 0.35
    inverted: float = 0.2
    noise: float = 0.4
    noise_share: float = 0.35
    blur: float = 0.25
    thick: float = 0.2
    gain: float = 0.15


class Crop(TypedDict):
    """One crop; its size is called `size` below, without axes of length 1.

    image: float32 (1, *size), mean 0 and deviation 1 before `Variation.gain`.
    labels: uint8, `size`: bodies as VerSe numbers.
    verse: int64 (): VerSe number of the vertebra that the crop is about; 0 for a crop about none.
    center: float32 (3,), [slice, row, column] of its centre in the crop.
    points: float32 (6, 3), its six points [slice, row, column]; NaN where there are none.
    heights_mm: float32 (3,), anterior, middle, posterior; NaN where there are none.
    grade, deformity: int64 (): Genant grade, place in `DEFORMITIES`.
    fractured: bool ().
    diseases: float32 (len(DISEASES),), flags in the order of `DISEASES`.
    spacing_mm: float32 (3,).
    """

    image: Tensor
    labels: Tensor
    verse: Tensor
    center: Tensor
    points: Tensor
    heights_mm: Tensor
    grade: Tensor
    deformity: Tensor
    fractured: Tensor
    diseases: Tensor
    spacing_mm: Tensor


class CropStream(IterableDataset[Crop]):
    """Crops about vertebrae, for ever.

    A worker keeps few volumes open at a time and draws from all of them in turn; each gives `per_volume`
    crops and makes room for the next, in an order that is shuffled anew whenever all have been seen. Volumes
    are shared out among the workers; where there are fewer volumes than workers, workers share volumes.

    Args:
        cache: folder that `fill_cache` filled.
        size: voxels along slices, rows and columns; axes of length 1 are dropped: (224, 224, 1) of a CT of
            `ct_volume`, or (1, 224, 224) of a sagittal MR, is a sagittal picture through the vertebra.
        seed: of all draws; another epoch is another seed.
        variation: what changes from crop to crop.
        fractured_share: share of crops that are about a fractured vertebra where a volume has one; None for
            as many as there are.
        elsewhere: share of crops about any place of the volume, to learn what is no vertebra.
        open_volumes: how many are open at a time.
        per_volume: crops before a volume is exchanged.
        share: (which, of how many) processes that train together; each gets other volumes.

    Raises:
        ValueError: the cache holds no volume, or an argument is out of range.
    """

    def __init__(
        self,
        cache: Path,
        *,
        size: tuple[int, int, int] = (64, 64, 64),
        seed: int = 0,
        variation: Variation = Variation(),
        fractured_share: float | None = 0.3,
        elsewhere: float = 0.1,
        open_volumes: int = 16,
        per_volume: int = 48,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        super().__init__()
        self.names = cached_names(cache)
        if not self.names:
            raise ValueError(f"{cache} holds no volume; fill it with phantom.cached_volumes.fill_cache")
        if min(size) < 1 or open_volumes < 1 or per_volume < 1 or not 0 <= share[0] < share[1]:
            raise ValueError(f"size {size}, {open_volumes} open, {per_volume} per volume, share {share}")
        self.cache = cache
        self.size = size
        self.seed = seed
        self.variation = variation
        self.fractured_share = fractured_share
        self.elsewhere = elsewhere
        self.open_volumes = open_volumes
        self.per_volume = per_volume
        self.share = share

    def __iter__(self) -> Iterator[Crop]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        place, places = self.share[0] * workers + worker, self.share[1] * workers
        mine = self.names[place::places] if places <= len(self.names) else self.names
        generator = stream(self.seed, "crops", place, places)
        order = _endless(mine, generator)
        shelf: list[tuple[CachedVolume, VertebraTable]] = []
        left: list[int] = []
        turn = 0
        bank = _noise_bank(generator)
        while True:
            if len(shelf) < min(self.open_volumes, len(mine)):
                shelf.append(self._opened(next(order)))
                # The first ones go after unlike numbers of crops, so that not all are exchanged at once.
                left.append(int(generator.integers(1, self.per_volume + 1)))
                continue
            turn = (turn + 1) % len(shelf)
            yield self._crop(*shelf[turn], generator, bank)
            left[turn] -= 1
            if left[turn] == 0:
                shelf[turn] = self._opened(next(order))
                left[turn] = self.per_volume

    def _opened(self, name: str) -> tuple[CachedVolume, VertebraTable]:
        volume = open_volume(self.cache / name)
        return volume, VertebraTable(volume)

    def _crop(
        self, volume: CachedVolume, table: VertebraTable, generator: np.random.Generator, bank: Image
    ) -> Crop:
        row = self._chosen(table, generator)
        spacing = np.array(volume.spacing_mm, dtype=np.float32)
        if row is None:
            middle = generator.uniform(0.0, 1.0, 3) * np.array(volume.voxels.shape)
        else:
            middle = table.centers[row] + generator.uniform(-1.0, 1.0, 3) * self.variation.shift_mm / spacing
        first = np.round(middle - (np.array(self.size) - 1) / 2).astype(int)
        raw, labels = _cut(volume.voxels, first, self.size), _cut(volume.labels, first, self.size)
        image = seen(raw, self.variation, generator)
        image = _varied(image, self.variation, generator, bank)
        points = _row(table.points, row, (6, 3)) - first
        center = _row(table.centers, row, (3,)) - first
        if generator.random() < self.variation.mirror:
            axis = _left_right(volume)
            image, labels = np.flip(image, axis).copy(), np.flip(labels, axis).copy()
            for places in (points, center):
                places[..., axis] = self.size[axis] - 1 - places[..., axis]
        kept = [length for length in self.size if length > 1]
        return Crop(
            image=torch.from_numpy(image.reshape(1, *kept)),
            labels=torch.from_numpy(labels.reshape(kept)),
            verse=torch.tensor(0 if row is None else table.verse[row]),
            center=torch.from_numpy(center.astype(np.float32)),
            points=torch.from_numpy(points.astype(np.float32)),
            heights_mm=torch.from_numpy(_row(table.heights_mm, row, (3,))),
            grade=torch.tensor(0 if row is None else table.grades[row]),
            deformity=torch.tensor(0 if row is None else table.deformities[row]),
            fractured=torch.tensor(False if row is None else bool(table.fractured[row])),
            diseases=torch.zeros(len(DISEASES)) if row is None else torch.from_numpy(table.diseases[row]),
            spacing_mm=torch.from_numpy(spacing),
        )

    def _chosen(self, table: VertebraTable, generator: np.random.Generator) -> int | None:
        if len(table) == 0 or generator.random() < self.elsewhere:
            return None
        rows = np.arange(len(table))
        if self.fractured_share is not None and table.fractured.any():
            wanted = generator.random() < self.fractured_share
            rows = rows[table.fractured == wanted] if (table.fractured == wanted).any() else rows
        return int(rows[int(generator.integers(len(rows)))])


def _endless(names: list[str], generator: np.random.Generator) -> Iterator[str]:
    while True:
        for place in generator.permutation(len(names)):
            yield names[int(place)]


def _row(table: npt.NDArray[np.float32], row: int | None, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return np.full(shape, np.nan, dtype=np.float32) if row is None else table[row].copy()


def _left_right(volume: CachedVolume) -> int:
    """The axis of the array along which left and right lie."""
    directions = volume.affine[:3, :3] / np.array(volume.spacing_mm)
    return int(np.abs(directions[0]).argmax())


def _cut(
    volume: npt.NDArray[Number], first: npt.NDArray[np.int64], size: tuple[int, int, int]
) -> npt.NDArray[Number]:
    """A box of the volume; beyond its borders lies its lowest corner value (air, background)."""
    last = first + np.array(size)
    low, high = np.maximum(first, 0), np.minimum(last, volume.shape)
    if (low == first).all() and (high == last).all():
        return np.array(volume[first[0] : last[0], first[1] : last[1], first[2] : last[2]])
    out = np.full(size, 0 if volume.dtype == np.uint8 else volume[0, 0, 0], dtype=volume.dtype)
    if (low < high).all():
        a, b = low - first, high - first
        out[a[0] : b[0], a[1] : b[1], a[2] : b[2]] = volume[
            low[0] : high[0], low[1] : high[1], low[2] : high[2]
        ]
    return out


def seen(raw: npt.NDArray[np.int16], variation: Variation, generator: np.random.Generator) -> Image:
    """Stored values through a window and, at times, a random curve: float32 of the same shape."""
    if variation.clip is None:
        low, high = int(raw.min()), max(int(raw.max()), int(raw.min()) + 1)
    else:
        low, high = variation.clip
    if generator.random() >= variation.curve:
        image = raw.astype(np.float32)
        return np.clip(image, low, high, out=image)
    steps = generator.random(KNOTS - 1) ** 1.5 + 0.05
    heights = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    if generator.random() < variation.inverted:
        heights = heights[::-1]
    places = np.linspace(low, high, KNOTS)
    table = np.interp(np.arange(low, high + 1), places, heights).astype(np.float32)
    index = raw.astype(np.intp)
    index -= low
    # What lies outside the window gets the value of its end.
    curved: Image = table.take(index, mode="clip")
    return curved


def _noise_bank(generator: np.random.Generator) -> Image:
    """Normal numbers to take a run of anywhere: new ones for every voxel would cost most of the time."""
    return generator.standard_normal(1 << 20, dtype=np.float32)


def _varied(image: Image, variation: Variation, generator: np.random.Generator, bank: Image) -> Image:
    """Thick slices, softness, the standard score, noise, brightness."""
    if generator.random() < variation.thick and image.shape[0] > 3:
        _thick(image, int(generator.integers(2, 4)))
    if generator.random() < variation.blur:
        _soften(image, between(generator, 0.05, 0.25))
    flat = image.reshape(-1)
    mean = float(flat.mean())
    deviation = float(np.sqrt(max(float(flat.dot(flat)) / flat.size - mean * mean, 0.0)))
    scale = float(np.exp(variation.gain * generator.standard_normal())) / (deviation + 1e-6)
    shift = variation.gain * float(generator.standard_normal())
    image *= scale
    image += shift - mean * scale
    if generator.random() < variation.noise:
        strength = variation.noise_share * generator.random() ** 2
        while flat.size > bank.size:
            bank = np.concatenate([bank, bank[::-1]])
        start = int(generator.integers(0, bank.size - flat.size + 1))
        flat += np.float32(strength) * bank[start : start + flat.size]
    return image


def _soften(image: Image, weight: float) -> None:
    """Smooth along all axes with the kernel (weight, 1 - 2 weight, weight), in place; borders repeat."""
    for axis in range(3):
        if image.shape[axis] < 3:
            continue
        line = np.moveaxis(image, axis, 0)
        steps = line[1:] - line[:-1]
        steps *= weight
        line[:-1] += steps
        line[1:] -= steps


def _thick(image: Image, count: int) -> None:
    """Average runs of slices, in place: what a scan of thicker slices looks like."""
    whole = image.shape[0] // count * count
    runs = image[:whole].reshape(whole // count, count, *image.shape[1:])
    runs[:] = runs.mean(axis=1, keepdims=True)
