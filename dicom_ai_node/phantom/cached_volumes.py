"""Rendered people on disk, to draw crops from: one folder per volume, filled bit by bit.

``<cache>/<name>/voxels.npy`` (int16), ``labels.npy`` (uint8 VerSe numbers of bodies), ``volume.json``
(affine, modality, truth). A folder appears under its name only when it is complete, so filling can stop
anywhere, go on later, and run in several processes at once. Volumes are read as memory maps: a crop costs the
pages that it touches.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.phantom.ct import render_ct
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.mr import render_mr
from dicom_ai_node.phantom.mr_study import sample_mr_study
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.phantom.spine import SpineOptions, sample_spine
from dicom_ai_node.phantom.training_cases import upright_acquisition
from dicom_ai_node.report import SIX_POINT_NAMES

Array = npt.NDArray[np.float64]
Modality = Literal["CT", "MR"]

DEFORMITIES: Final = ("none", "wedge", "biconcave", "crush")
"""Classes of deformity in the order of their numbers."""

DISEASES: Final = tuple(Disease)
"""Diseases in the order of the flags of a vertebra."""

FORMAT: Final = "dicom-ai-node/cached-volume/1"


@dataclass(frozen=True)
class CachedVolume:
    """One image with its truth.

    Attributes:
        name: the same name is the same person in the same scan.
        modality: CT (voxels are HU) or MR.
        voxels: int16, (slices, rows, columns).
        labels: uint8, vertebral bodies as VerSe numbers, same shape.
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres.
        truth: see `truth`.
    """

    name: str
    modality: Modality
    voxels: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    affine: Array
    truth: Mapping[str, Any]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(a), float(b), float(c)


class VertebraTable:
    """What is true about the vertebrae of one volume, one row each; places are voxel coordinates.

    Only vertebrae whose centre lies in the volume have a row. Attributes, all arrays of n rows:
        verse: int64, VerSe numbers.
        centers: float32 (n, 3), [slice, row, column].
        points: float32 (n, 6, 3) in the order of `report.SIX_POINT_NAMES`; NaN where there are none (S1).
        heights_mm: float32 (n, 3), anterior, middle, posterior; NaN where there are none.
        grades: int64, Genant grade (0 where the method does not apply); fractured: bool.
        deformities: int64, places in `DEFORMITIES`.
        diseases: float32 (n, len(DISEASES)), 1 for each disease that a vertebra has.
    """

    def __init__(self, volume: CachedVolume) -> None:
        inside = np.linalg.inv(volume.affine)
        entries = []
        for entry in volume.truth["vertebrae"]:
            center = inside[:3, :3] @ np.array(entry["center_mm"]) + inside[:3, 3]
            if (center >= 0).all() and (center <= np.array(volume.voxels.shape) - 1).all():
                entries.append((entry, center))
        self.verse = np.array([entry["verse_label"] for entry, _ in entries], dtype=np.int64)
        self.centers = np.array([center for _, center in entries], dtype=np.float32).reshape(-1, 3)
        self.points = np.full((len(entries), 6, 3), np.nan, dtype=np.float32)
        self.heights_mm = np.full((len(entries), 3), np.nan, dtype=np.float32)
        self.grades = np.array([entry["genant_grade"] or 0 for entry, _ in entries], dtype=np.int64)
        self.fractured = np.array([entry["fractured"] for entry, _ in entries], dtype=bool)
        self.deformities = np.array(
            [DEFORMITIES.index(entry["deformity"] or "none") for entry, _ in entries], dtype=np.int64
        )
        self.diseases = np.array(
            [[float(disease in entry["disease"]) for disease in DISEASES] for entry, _ in entries],
            dtype=np.float32,
        ).reshape(-1, len(DISEASES))
        for row, (entry, _) in enumerate(entries):
            if entry["six_points"] is not None:
                points = np.array([entry["six_points"][name] for name in SIX_POINT_NAMES])
                self.points[row] = points @ inside[:3, :3].T + inside[:3, 3]
                self.heights_mm[row] = [entry["heights_mm"][k] for k in ("anterior", "middle", "posterior")]

    def __len__(self) -> int:
        return len(self.verse)


def save_volume(volume: CachedVolume, cache: Path) -> Path:
    """Write a volume to its folder in the cache; one that is there already is left as it is."""
    folder = cache / volume.name
    if folder.exists():
        return folder
    unfinished = cache / f".{volume.name}.{os.getpid()}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    np.save(unfinished / "voxels.npy", volume.voxels)
    np.save(unfinished / "labels.npy", volume.labels)
    about = {
        "format": FORMAT,
        "modality": volume.modality,
        "affine": volume.affine.tolist(),
        "truth": dict(volume.truth),
    }
    (unfinished / "volume.json").write_text(json.dumps(about))
    try:
        unfinished.rename(folder)
    except OSError:
        # Another process has made the same one meanwhile.
        shutil.rmtree(unfinished)
        if not folder.exists():
            raise
    return folder


def open_volume(folder: Path) -> CachedVolume:
    """A volume of the cache, its arrays memory-mapped and read-only.

    Raises:
        ValueError: the folder holds no volume of this format.
    """
    try:
        about = json.loads((folder / "volume.json").read_text())
        voxels = np.load(folder / "voxels.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(folder / "labels.npy", mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as missing:
        raise ValueError(f"{folder} is no cached volume: {missing}") from missing
    if about.get("format") != FORMAT or voxels.shape != labels.shape:
        raise ValueError(f"{folder} is no cached volume of format {FORMAT}; fill the cache again")
    return CachedVolume(
        folder.name, about["modality"], voxels, labels, np.array(about["affine"]), about["truth"]
    )


def cached_names(cache: Path) -> list[str]:
    """Names of the complete volumes of a cache, sorted."""
    return sorted(path.parent.name for path in cache.glob("*/volume.json") if path.parent.name[0] != ".")


def fill_cache(
    cache: Path,
    names: Iterable[str],
    make: Callable[[str], CachedVolume],
    *,
    progress: Callable[[str], None] | None = None,
) -> int:
    """Make the volumes that the cache lacks; how many were made.

    Args:
        cache: folder, made where it does not exist.
        names: of all volumes wanted; give each of several processes a part of them.
        make: a volume from its name, as `ct_volume` and `mr_volume` do.
        progress: called with the name of every new volume.
    """
    made = 0
    for name in names:
        if (cache / name / "volume.json").exists():
            continue
        save_volume(make(name), cache)
        made += 1
        if progress is not None:
            progress(name)
    return made


def volume_names(modality: Modality, seeds: Sequence[int]) -> list[str]:
    """Names that `ct_volume` and `mr_volume` understand."""
    return [f"{modality.lower()}-{seed}" for seed in seeds]


def _options(seed: int) -> SpineOptions:
    # Half of the people are as sick as is realistic, half have many diseases, so that rare ones are learned.
    rich = stream(seed, "cache").random() < 0.5
    return SpineOptions(
        diseases="rich" if rich else "realistic",
        degeneration="rich" if rich else "realistic",
        sacralised=None,
        uncinate=True,
    )


def _seed(name: str) -> int:
    return int(name.rsplit("-", 1)[1])


def ct_volume(name: str, spacing_mm: float = 1.5, width_mm: float | None = None) -> CachedVolume:
    """The CT called ``ct-<seed>``: cubic voxels; slices up, rows to posterior, columns to the left."""
    seed = _seed(name)
    spine = sample_spine(seed, options=_options(seed))
    phantom = render_ct(spine, upright_acquisition(seed, spine, spacing_mm, width_mm=width_mm))
    return CachedVolume(name, "CT", phantom.hu, phantom.labels, phantom.affine, phantom.truth)


def mr_volume(name: str, series: int = 0, max_matrix: int = 320) -> CachedVolume:
    """The MR called ``mr-<seed>``: one series of a sagittal study, on that series' own grid.

    Args:
        name: of the volume.
        series: which of the study's sagittal series, counted from 0 (past the last: the last).
        max_matrix: rows and columns at most.
    """
    seed = _seed(name)
    spine = sample_spine(seed, options=_options(seed))
    study = sample_mr_study(seed, spine, training=True, max_matrix=max_matrix)
    sagittal = [one for one in study if one.plane == "sagittal" and "localizer" not in one.series]
    phantom = render_mr(spine, sagittal[min(series, len(sagittal) - 1)])
    voxels = np.minimum(phantom.pixels, np.iinfo(np.int16).max).astype(np.int16)
    return CachedVolume(name, "MR", voxels, phantom.labels, phantom.affine, phantom.truth)
