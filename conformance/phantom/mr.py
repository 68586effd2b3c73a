"""MR of the phantom beside real MR: contact sheet, intensities per tissue, texture within bodies.

Real: VB1 (T1, T2, TIRM) and VB2 (T2) of Chu et al., VB3 (water images). VB2 may have set numbers of the
phantom; VB1 and VB3 never did.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from conformance.phantom.mr_regions import REGIONS, SagittalVolume, Values, real_volume, spectrum, tissues
from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.mr import MrAcquisition, render_mr
from dicom_ai_node.phantom.mr_sequence import SeriesKind
from dicom_ai_node.phantom.mr_study import sample_mr_series
from dicom_ai_node.phantom.spine import Spine, SpineOptions, sample_spine

mpl.use("Agg")

SEEDS: Final = 24
KINDS: Final[tuple[SeriesKind, ...]] = ("t1", "t2", "stir", "dixon-water")
SHOWN: Final[tuple[SeriesKind, ...]] = ("t1", "t2", "stir")
SLICES: Final = 1

SETS: Final[Mapping[str, tuple[SeriesKind, tuple[str, ...]]]] = {
    "VB1 T1": ("t1", ("VB1_02", "VB1_10")),
    "VB1 T2": ("t2", ("VB1_11",)),
    "VB2 T2": ("t2", ("VB2_02", "VB2_04", "VB2_05", "VB2_06", "VB2_07", "VB2_08")),
    "VB1 TIRM": ("stir", ("VB1_03",)),
    "VB3 water": ("dixon-water", tuple(f"VB3_{k:02d}" for k in range(1, 13))),
}
"""Real scans by what they show, and the phantom's series that shows the same."""

BINS: Final = np.linspace(0.0, 5.0, 101)


def draw(data: Path, out: Path) -> list[Path]:
    """Write ``mr-sheet.png``, ``mr-histograms.png``, ``mr-spectrum.png`` and ``mr.json``.

    Args:
        data: folder of real images.
        out: folder that exists.

    Raises:
        FileNotFoundError: the real MR is not in `data`.
    """
    folder = data / "mr" / "vertebrae"
    real = {name: [real_volume(folder, scan) for scan in scans] for name, (_, scans) in SETS.items()}
    phantoms = {kind: [_phantom(seed, kind) for seed in range(SEEDS)] for kind in KINDS}
    paths = [out / name for name in ("mr-sheet.png", "mr-histograms.png", "mr-spectrum.png", "mr.json")]
    _sheet(real, phantoms, paths[0])
    measured = _measured(real, phantoms)
    _histograms(measured, paths[1])
    _spectra(real, phantoms, paths[2])
    paths[3].write_text(json.dumps(_report(real, phantoms, measured), indent=2) + "\n")
    return paths


def _person(seed: int) -> Spine:
    return sample_spine(
        seed, options=SpineOptions(diseases="realistic", degeneration="realistic", uncinate=True)
    )


def _phantom(seed: int, kind: SeriesKind) -> SagittalVolume:
    """The slice of a realistic lumbar series through the middle of L3."""
    spine = _person(seed)
    whole = sample_mr_series(seed, spine, kind, region="lumbar", max_matrix=320)
    acquisition = _few_slices(whole, spine)
    phantom = render_mr(spine, acquisition)
    image, labels = phantom.pixels.astype(np.float32), phantom.labels
    if acquisition.affine[0, 0] < 0:
        image, labels = image[::-1], labels[::-1]
    return SagittalVolume(f"{seed} {kind}", image, labels, acquisition.spacing_mm)


def _few_slices(whole: MrAcquisition, spine: Spine) -> MrAcquisition:
    place = np.linalg.inv(whole.affine) @ spine[Level.L3].frame[:, 3]
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, 0] * (place[0] - SLICES // 2)
    return replace(whole, shape=(SLICES, *whole.shape[1:]), affine=affine)


def _measured(
    real: Mapping[str, Sequence[SagittalVolume]], phantoms: Mapping[SeriesKind, Sequence[SagittalVolume]]
) -> dict[str, list[dict[str, Values]]]:
    """Intensities per region of every scan, by set ("VB2 T2") or by series of the phantom ("t2")."""
    groups: dict[str, Sequence[SagittalVolume]] = {
        **real,
        **{str(kind): scans for kind, scans in phantoms.items()},
    }
    return {name: [tissues(scan) for scan in scans] for name, scans in groups.items()}


def _pooled(scans: Sequence[Mapping[str, Values]], region: str) -> Values:
    return np.concatenate([scan[region] for scan in scans])


def _report(
    real: Mapping[str, Sequence[SagittalVolume]],
    phantoms: Mapping[SeriesKind, Sequence[SagittalVolume]],
    measured: Mapping[str, Sequence[Mapping[str, Values]]],
) -> dict[str, Any]:
    """Medians with their spread between scans, distances of the distributions, and texture."""
    about: dict[str, Any] = {"seeds": SEEDS, "unit": "median of the bodies", "scans": {}, "distances": {}}
    groups: dict[str, Sequence[SagittalVolume]] = {
        **real,
        **{str(kind): scans for kind, scans in phantoms.items()},
    }
    for name, scans in measured.items():
        entry: dict[str, Any] = {"count": len(scans)}
        for region in REGIONS:
            medians = [float(np.median(scan[region])) for scan in scans if len(scan[region])]
            entry[region] = {
                "median": round(float(np.median(medians)), 3),
                "scans": [round(float(q), 3) for q in np.percentile(medians, (10, 90))],
            }
        spread = [float(np.std(scan["body"])) for scan in scans]
        entry["body"]["deviation"] = round(float(np.median(spread)), 3)
        curves = [curve for curve in map(spectrum, groups[name]) if curve is not None]
        fine = [float(np.interp(0.3, *curve)) for curve in curves]
        coarse = [float(np.interp(0.1, *curve)) for curve in curves]
        entry["power"] = {
            "0.1 per mm": float(f"{np.median(coarse):.3g}"), "0.3 per mm": float(f"{np.median(fine):.3g}"),
        }  # fmt: skip
        about["scans"][name] = entry
    for name, (kind, _) in SETS.items():
        about["distances"][name] = {
            region: round(
                float(wasserstein_distance(_pooled(measured[name], region), _pooled(measured[kind], region))),
                3,
            )
            for region in REGIONS
        }
    return about


def _shown(volume: SagittalVolume) -> npt.NDArray[np.float32]:
    """The mid-sagittal slice on its window: 1st to 99.5th percentile."""
    image = volume.image[volume.middle]
    low, high = np.percentile(image, (1.0, 99.5))
    shown: npt.NDArray[np.float32] = np.clip((image - low) / max(float(high - low), 1e-6), 0.0, 1.0).astype(
        np.float32
    )
    return shown


def _sheet(
    real: Mapping[str, Sequence[SagittalVolume]],
    phantoms: Mapping[SeriesKind, Sequence[SagittalVolume]],
    path: Path,
) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415

    tiles = [phantoms[kind][seed] for seed in range(SEEDS) for kind in SHOWN]
    tiles += [scan for scans in real.values() for scan in scans]
    columns = 12
    rows = -(-len(tiles) // columns)
    figure = Figure(figsize=(2.0 * columns, 2.12 * rows), dpi=100, facecolor="black")
    for k, tile in enumerate(tiles):
        axes = figure.add_axes(
            ((k % columns) / columns, 1.0 - (k // columns + 1) / rows, 0.97 / columns, 0.93 / rows)
        )
        axes.imshow(
            _shown(tile), cmap="gray", vmin=0.0, vmax=1.0, aspect=tile.spacing_mm[1] / tile.spacing_mm[2]
        )
        axes.set_title(tile.name, color="white", fontsize=7, pad=1)
        axes.set_axis_off()
    figure.savefig(path)


def _histograms(measured: Mapping[str, Sequence[Mapping[str, Values]]], path: Path) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(4.0 * len(REGIONS), 2.6 * len(SETS)), dpi=90)
    grid = figure.subplots(len(SETS), len(REGIONS), sharex=True)
    for row, (name, (kind, _)) in enumerate(SETS.items()):
        for column, region in enumerate(REGIONS):
            axes = grid[row][column]
            for group, colour in ((name, "black"), (str(kind), "tab:orange")):
                values = np.clip(_pooled(measured[group], region), BINS[0], BINS[-1])
                label = group if group == name else f"phantom {group}"
                axes.hist(values, BINS, density=True, histtype="step", color=colour, label=label)
            axes.set_yticks([])
            if row == 0:
                axes.set_title(region)
            if column == 0:
                axes.legend(fontsize=7)
            if row == len(SETS) - 1:
                axes.set_xlabel("relative to the bodies' median")
    figure.tight_layout()
    figure.savefig(path)


def _spectra(
    real: Mapping[str, Sequence[SagittalVolume]],
    phantoms: Mapping[SeriesKind, Sequence[SagittalVolume]],
    path: Path,
) -> None:
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(4.0 * len(SETS), 3.4), dpi=90)
    for axes, (name, (kind, _)) in zip(figure.subplots(1, len(SETS), sharey=True), SETS.items(), strict=True):
        for scans, colour in ((phantoms[kind], "tab:orange"), (real[name], "black")):
            for curve in filter(None, map(spectrum, scans)):
                axes.loglog(*curve, color=colour, alpha=0.5, linewidth=0.9)
        axes.set_title(f"{name} (black), phantom {kind}", fontsize=9)
        axes.set_xlabel("cycles per mm")
    figure.tight_layout()
    figure.savefig(path)
