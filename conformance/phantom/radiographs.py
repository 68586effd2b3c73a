"""The phantom's films beside real ones: contact sheets, and how intensity, noise and sharpness compare.

`draw` writes ``radiograph-films.png`` (24 lateral films), ``radiograph-crops.png`` (single vertebrae, real
and phantom, by P1's classes), ``radiograph-statistics.png`` and ``radiograph-statistics.json``. Real crops:
VCFNet (P1), ``xray/vcfnet`` of the shared data; without them the phantom is drawn alone.
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
from PIL import Image

mpl.use("Agg")
from matplotlib import pyplot as plt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.radiograph import (
    RadiographPhantom,
    render_radiograph,
    sample_radiograph_acquisition,
)
from dicom_ai_node.phantom.spine import SpineOptions, sample_spine

Grey = npt.NDArray[np.float32]

CLASSES: Final[Mapping[str, Disease]] = {
    "acute": Disease.OVCF,
    "chronic": Disease.OF,
    "pathologic": Disease.MALIGNANT,
}
_FILMS: Final = 24
_PER_CLASS: Final = 8
_LEVELS: Final = (Level.T12, Level.L1, Level.L2, Level.L3, Level.L4, Level.L1, Level.T11, Level.L2)
_BANDS: Final = 40


def draw(data: Path, out: Path) -> list[Path]:
    """Writes the figures.

    Args:
        data: folder of real data; only ``xray/vcfnet`` is read.
        out: folder for the figures; made where it is missing.

    Returns:
        The files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    real = real_crops(data)
    phantom = {name: phantom_crops(disease) for name, disease in CLASSES.items()}
    statistics = {"real": _summary(real), "phantom": _summary(phantom)}
    paths = [
        _sheet(whole_films(), out / "radiograph-films.png", columns=8, size=(2.2, 3.6)),
        _crops_sheet(real, phantom, out / "radiograph-crops.png"),
        _statistics_figure(real, phantom, out / "radiograph-statistics.png"),
        out / "radiograph-statistics.json",
    ]
    paths[-1].write_text(json.dumps(statistics, indent=2) + "\n")
    return paths


def whole_films() -> list[tuple[str, Grey]]:
    """(title, brightness 0..1) of lateral films of 24 persons with realistic diseases."""
    films = []
    for seed in range(_FILMS):
        spine = sample_spine(seed, options=SpineOptions(diseases="realistic", degeneration="realistic"))
        taken = sample_radiograph_acquisition(seed, spine, max_pixels=300_000)
        shown = render_radiograph(spine, taken).shown
        films.append((f"{seed}: {spine.age:.0f} y, {taken.kvp:.0f} kV", shown))
    return films


def phantom_crops(disease: Disease, count: int = _PER_CLASS) -> list[tuple[str, Grey]]:
    """(title, brightness 0..1) of single vertebrae of the old with one disease, cut as P1's readers cut."""
    crops: list[tuple[str, Grey]] = []
    seed = 100
    while len(crops) < count:
        seed += 1
        level = _LEVELS[len(crops) % len(_LEVELS)]
        # P1's patients: mean age 75, and some younger ones with tumours.
        age = 58.0 + (seed * 7) % 34
        try:
            spine = sample_spine(
                seed,
                options=SpineOptions(
                    age=age, diseases={level: (disease,)}, degeneration="realistic", supernumerary="none"
                ),
            )
        except ValueError:
            continue
        crop = _crop(_film_of(spine, seed, level), level)
        if crop is not None:
            crops.append((f"{level} {age:.0f} y", crop))
    return crops


def _film_of(spine: Any, seed: int, level: Level) -> RadiographPhantom:
    """A lumbar film of usual resolution, cut to the surroundings of one vertebra."""
    taken = sample_radiograph_acquisition(seed, spine, max_pixels=20_000_000)
    center = spine[level].frame[:3, 3]
    rows, columns = round(170.0 / taken.pixel_mm), round(130.0 / taken.pixel_mm)
    near = replace(
        taken,
        center=center,
        matrix=(rows, columns),
        collimation=(0, rows, 0, columns),
        collimator_tilt=0.0,
        marker=None,
        annotation=None,
        buckle=False,
        cable=False,
    )
    return render_radiograph(spine, near)


def _crop(film: RadiographPhantom, level: Level) -> Grey | None:
    """The body with a margin of a sixth of its size; None where it leaves the film."""
    entry = next(item for item in film.truth["vertebrae"] if item["level"] == level)
    if entry["visible"] < 1.0:
        return None
    box = entry["projection"]["box_px"]
    (top, bottom), (left, right) = box["rows"], box["columns"]
    rows, columns = (bottom - top) / 6.0, (right - left) / 6.0
    shown = film.shown
    cut = shown[
        max(0, int(top - rows)) : int(bottom + rows), max(0, int(left - columns)) : int(right + columns)
    ]
    # VCFNet's patients look to the right.
    return cut[:, ::-1] if film.acquisition.facing == "left" else cut


def real_crops(data: Path) -> dict[str, list[tuple[str, Grey]]]:
    """(title, brightness 0..1) of VCFNet's crops by class; empty lists where there are none."""
    names = {"4": "L4", "3": "L3", "2": "L2", "1": "L1", "12": "T12", "11": "T11"}
    found: dict[str, list[tuple[str, Grey]]] = {}
    for name in CLASSES:
        files = sorted((data / "xray" / "vcfnet" / name.capitalize()).glob("*.png"))
        found[name] = []
        for path in files:
            _, _, level, age, _ = path.stem.split("-")
            with Image.open(path) as image:
                grey = np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255.0)
            found[name].append((f"{names.get(level, level)} {age} y", grey))
    return found


def measure(crop: Grey) -> dict[str, float]:
    """What tells a film from a drawing: grey levels are of 255, frequencies in cycles per pixel.

    `mean`, `deviation`, `p01`, `p99` of the grey levels; `noise`: deviation of white noise that explains the
    second differences (Immerkaer 1996); `edges`: 99th percentile of the gradient of the smoothed crop, of its
    deviation; `slope` of log power over log frequency between 0.01 and 0.1; `fine_share`: of the power above
    0.02 that lies above 0.15; `upright`: power of fine stripes that stand over those that lie.
    """
    grey = crop.astype(np.float64) * 255.0
    kernel = (
        grey[:-2, :-2] - 2 * grey[:-2, 1:-1] + grey[:-2, 2:]
        - 2 * grey[1:-1, :-2] + 4 * grey[1:-1, 1:-1] - 2 * grey[1:-1, 2:]
        + grey[2:, :-2] - 2 * grey[2:, 1:-1] + grey[2:, 2:]
    )  # fmt: skip
    smooth = (grey[:-1, :-1] + grey[1:, :-1] + grey[:-1, 1:] + grey[1:, 1:]) / 4.0
    smooth = (smooth[:-2, :-2] + smooth[2:, :-2] + smooth[:-2, 2:] + smooth[2:, 2:]) / 4.0
    gradient = np.hypot(*np.gradient(smooth))
    frequency, power = spectrum(crop)
    low = (frequency > 0.01) & (frequency < 0.1)
    slope = np.polyfit(np.log(frequency[low]), np.log(power[low]), 1)[0]
    rings = frequency * power
    across, along = _directed(grey)
    return {
        "mean": float(grey.mean()),
        "deviation": float(grey.std()),
        "p01": float(np.quantile(grey, 0.01)),
        "p99": float(np.quantile(grey, 0.99)),
        "noise": float(np.sqrt(np.pi / 2) / 6.0 * np.abs(kernel).mean()),
        "edges": float(np.quantile(gradient, 0.99) / grey.std()),
        "slope": float(slope),
        "fine_share": float(rings[frequency > 0.15].sum() / rings[frequency > 0.02].sum()),
        "upright": across / along,
    }


def spectrum(crop: Grey) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(frequencies in cycles per pixel, radial mean of the power in grey levels squared), shape (40,)."""
    power, radius, _, _ = _power(crop.astype(np.float64) * 255.0)
    edges = np.linspace(0.0, 0.5, _BANDS + 1)
    band = np.digitize(radius, edges) - 1
    inside = band < _BANDS
    count = np.bincount(band[inside], minlength=_BANDS)
    total = np.bincount(band[inside], power[inside], minlength=_BANDS)
    return 0.5 * (edges[:-1] + edges[1:]), total / np.maximum(count, 1)


def _power(grey: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    centred = (grey - (grey * window).sum() / window.sum()) * window
    power = np.abs(np.fft.fft2(centred)) ** 2 / (window**2).sum()
    down, across = (np.fft.fftfreq(n) for n in grey.shape)
    y, x = np.meshgrid(down, across, indexing="ij")
    return power, np.hypot(x, y), x, y


def _directed(grey: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Power between 0.06 and 0.2 of waves across (stripes that stand) and along."""
    power, radius, x, y = _power(grey)
    fine = (radius > 0.06) & (radius < 0.2)
    return float(power[fine & (np.abs(x) > 2 * np.abs(y))].mean()), float(
        power[fine & (np.abs(y) > 2 * np.abs(x))].mean()
    )


def _summary(crops: Mapping[str, Sequence[tuple[str, Grey]]]) -> dict[str, Any]:
    """Median and quartiles of every number over all crops, and how many there were."""
    numbers = [measure(crop) for each in crops.values() for _, crop in each]
    if not numbers:
        return {"count": 0}
    told: dict[str, Any] = {"count": len(numbers)}
    for key in numbers[0]:
        values = [one[key] for one in numbers]
        told[key] = [round(float(x), 4) for x in np.quantile(values, [0.25, 0.5, 0.75])]
    return told


def _sheet(films: Sequence[tuple[str, Grey]], path: Path, *, columns: int, size: tuple[float, float]) -> Path:
    rows = -(-len(films) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False)
    for place in axes.flat:
        place.axis("off")
    for place, (title, film) in zip(axes.flat, films, strict=False):
        place.imshow(film, cmap="gray", vmin=0.0, vmax=1.0)
        place.set_title(title, fontsize=7)
    return _saved(figure, path)


def _crops_sheet(
    real: Mapping[str, Sequence[tuple[str, Grey]]],
    phantom: Mapping[str, Sequence[tuple[str, Grey]]],
    path: Path,
) -> Path:
    rows = [
        (f"{who} {name}", crops[name])
        for name in CLASSES
        for who, crops in (("real", real), ("phantom", phantom))
    ]
    columns = max(len(crops) for _, crops in rows)
    figure, axes = plt.subplots(len(rows), columns, figsize=(2.4 * columns, 1.9 * len(rows)), squeeze=False)
    for line, (label, crops) in zip(axes, rows, strict=True):
        for place in line:
            place.set_xticks([])
            place.set_yticks([])
            place.set_frame_on(False)
        line[0].set_ylabel(label, fontsize=9)
        for place, (title, crop) in zip(line, crops, strict=False):
            place.imshow(crop, cmap="gray", vmin=0.0, vmax=1.0)
            place.set_title(title, fontsize=7, pad=2)
    return _saved(figure, path)


def _statistics_figure(
    real: Mapping[str, Sequence[tuple[str, Grey]]],
    phantom: Mapping[str, Sequence[tuple[str, Grey]]],
    path: Path,
) -> Path:
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    for who, crops, colour in (("real", real, "tab:orange"), ("phantom", phantom, "tab:blue")):
        one = [crop for each in crops.values() for _, crop in each]
        for number, crop in enumerate(one):
            label = who if number == 0 else None
            values, edges = np.histogram(crop, bins=48, range=(0.0, 1.0), density=True)
            left.plot(
                0.5 * (edges[:-1] + edges[1:]) * 255, values, color=colour, alpha=0.35, lw=0.8, label=label
            )
            right.loglog(*spectrum(crop), color=colour, alpha=0.35, lw=0.8, label=label)
    left.set(xlabel="grey level", ylabel="share", title="Histograms of single vertebrae")
    right.set(xlabel="cycles per pixel", ylabel="power", title="Radial power spectra")
    left.legend()
    right.legend()
    return _saved(figure, path)


def _saved(figure: Any, path: Path) -> Path:
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
