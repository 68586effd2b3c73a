"""The phantom's CT beside real CT: pictures of 24 people, and Hounsfield units per tissue.

Tissues are told apart alike on both sides, by values and, for bone, by labels: lung -950 to -600 HU, fat -160
to -50, soft 0 to 90 (muscle and organs), bodies and whole vertebrae by the label maps. The real scan with
labels is `ct/totalsegmentator` (3 mm); `ct/acrin-flt-breast-lumbar` has none and is shown and counted for the
soft tissues. `ct.json` holds quantiles, shares of the body's volume and the distance of the distributions.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import nibabel
import numpy as np
import numpy.typing as npt
import pydicom
from scipy.stats import ks_2samp, wasserstein_distance

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom import (
    CtAcquisition,
    Spine,
    SpineOptions,
    render_ct,
    sample_ct_acquisition,
    sample_spine,
)

mpl.use("Agg")
from matplotlib import pyplot as plt

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.int16]

SEEDS: Final = range(24)
WINDOW: Final = (-250, 550)
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
RANGES: Final = {"lung": (-950, -600), "fat": (-160, -50), "soft": (0, 90)}
BODY_LABELS: Final = tuple(range(26, 34))
"""S1, L5 to T11 in the label map of the real scan."""


def upright(
    spine: Spine, center: Array, shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int
) -> CtAcquisition:
    """A person's scanner on an upright grid about a point (LPS mm): slices down, rows back, columns left."""
    like = sample_ct_acquisition(seed, spine)
    affine = np.eye(4)
    step, row, column = spacing
    affine[:3, :3] = np.array([[0, 0, column], [0, row, 0], [-step, 0, 0]])
    affine[:3, 3] = center - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return replace(like, shape=shape, affine=affine, slice_thickness_mm=max(step, 2.0), circle=False)


def pictures_of(seed: int) -> tuple[Image, Image, tuple[float, float]]:
    """(mid-sagittal picture, axial picture through L3, mm of a pixel along rows of both) of one person."""
    spine = sample_spine(seed, options=SpineOptions(degeneration="realistic", diseases="realistic"))
    body = spine[Level.L1].frame[:3, 3]
    sagittal = upright(spine, body + np.array([0.0, -30.0, 0.0]), (170, 160, 3), (2.0, 1.5, 1.5), seed)
    below = spine[Level.L3].frame[:3, 3] + np.array([0.0, -45.0, 0.0])
    axial = upright(spine, below, (1, 190, 270), (3.0, 1.5, 1.5), seed)
    return (
        render_ct(spine, sagittal).hu[:, :, 1],
        render_ct(spine, axial).hu[0],
        (2.0 / 1.5, 1.0),
    )


def acrin(folder: Path) -> tuple[Image, tuple[float, float, float]]:
    """HU (slices from the head down, rows, columns) and spacing of the unlabelled scan."""
    found = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    if not found:
        raise FileNotFoundError(folder)
    found.sort(key=lambda one: -float(one.ImagePositionPatient[2]))
    hu = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in found])
    step = abs(float(found[0].ImagePositionPatient[2]) - float(found[1].ImagePositionPatient[2]))
    row, column = (float(value) for value in found[0].PixelSpacing)
    return hu.astype(np.int16), (step, row, column)


def totalsegmentator(folder: Path) -> tuple[Image, npt.NDArray[np.uint8], npt.NDArray[np.bool_], float]:
    """(HU, whole vertebrae, bodies, voxel mm), slices from the head down, rows back, columns left."""
    arrays = []
    for name in ("example_ct", "totalseg", "totalseg_vertebrae_body"):
        image = nibabel.load(str(folder / f"{name}.nii.gz"))
        image = nibabel.funcs.as_closest_canonical(image)  # type: ignore[no-untyped-call]
        # Right-anterior-superior, (x, y, z) -> slices down, rows to posterior, columns to the left.
        arrays.append(np.transpose(np.asanyarray(image.dataobj), (2, 1, 0))[::-1, ::-1, ::-1])
        spacing = float(image.header.get_zooms()[0])
    hu, whole, bodies = arrays
    return hu.astype(np.int16), whole.astype(np.uint8), bodies > 0, spacing


def tissues(
    hu: Image, whole: npt.NDArray[np.bool_] | None, bodies: npt.NDArray[np.bool_] | None
) -> dict[str, Image]:
    """HU per tissue: at most 20,000 values of each."""
    out = {name: hu[(hu >= low) & (hu <= high)] for name, (low, high) in RANGES.items()}
    if whole is not None and bodies is not None:
        out["bodies"] = hu[bodies]
        out["arches"] = hu[whole & ~bodies]
    generator = np.random.default_rng(0)
    return {k: generator.choice(x, min(len(x), 20_000), replace=False) for k, x in out.items() if len(x)}


def _phantom_tissues(seed: int) -> tuple[dict[str, Image], dict[str, float]]:
    spine = sample_spine(seed, fractures={}, options=SpineOptions(age=35.0 + 40.0 * (seed % 5) / 4))
    center = spine[Level.L1].frame[:3, 3] + np.array([0.0, -40.0, 0.0])
    acquisition = upright(spine, center, (24, 90, 130), (9.0, 3.0, 3.0), seed)
    acquisition = replace(acquisition, table=False, palette=replace(acquisition.palette, agent={}, kvp=120))
    phantom = render_ct(spine, acquisition)
    bodies = (phantom.labels > 0) & (phantom.labels < 26)
    whole = (phantom.whole_labels > 0) & (phantom.whole_labels < 26)
    return tissues(phantom.hu, whole, bodies), shares(phantom.hu)


def shares(hu: Image) -> dict[str, float]:
    """Share of the patient's volume (everything above -950 HU) that has the values of a tissue."""
    inside = float((hu > -950).sum())
    return {k: float(((hu >= a) & (hu <= b)).sum()) / inside for k, (a, b) in RANGES.items()}


def draw(data: Path, out: Path) -> list[Path]:
    """Contact sheet `ct-sheet.png`, histograms `ct-tissues.png`, numbers `ct.json`."""
    real, whole, bodies, _ = totalsegmentator(data / "ct" / "totalsegmentator")
    other, spacing = acrin(data / "ct" / "acrin-flt-breast-lumbar")
    sheet = _sheet(out / "ct-sheet.png", real, bodies, other, spacing)
    in_bone = np.isin(whole, BODY_LABELS[1:])
    sources = {
        "totalsegmentator": tissues(real, in_bone | bodies, bodies & in_bone),
        "acrin": tissues(other[:, ::2, ::2], None, None),
    }
    people = [_phantom_tissues(seed) for seed in range(8)]
    ours = {
        k: np.concatenate([found[k] for found, _ in people if k in found])
        for k in (*RANGES, "bodies", "arches")
    }
    told: dict[str, Any] = {"quantiles": list(QUANTILES), "phantom": _quantiles(ours)}
    told["share_of_patient"] = {
        "phantom": {k: round(float(np.mean([share[k] for _, share in people])), 3) for k in RANGES},
        "totalsegmentator": {k: round(x, 3) for k, x in shares(real).items()},
        "acrin": {k: round(x, 3) for k, x in shares(other).items()},
    }
    for name, found in sources.items():
        told[name] = _quantiles(found)
        told[f"{name} against phantom"] = {
            k: {
                "kolmogorov_smirnov": round(float(ks_2samp(x, ours[k]).statistic), 3),
                "wasserstein_hu": round(float(wasserstein_distance(x, ours[k])), 1),
            }
            for k, x in found.items()
            if k in ours
        }
    histogram = _histograms(out / "ct-tissues.png", ours, sources)
    numbers = out / "ct.json"
    numbers.write_text(json.dumps(told, indent=1) + "\n")
    return [sheet, histogram, numbers]


def _quantiles(found: dict[str, Image]) -> dict[str, list[float]]:
    return {k: np.round(np.quantile(x, QUANTILES), 1).tolist() for k, x in found.items()}


def _sheet(
    path: Path, real: Image, bodies: npt.NDArray[np.bool_], other: Image, spacing: tuple[float, float, float]
) -> Path:
    column = int(np.median(np.nonzero(bodies)[2]))
    slice_ = int(np.quantile(np.nonzero(bodies)[0], 0.6))
    step, row, across = spacing
    middle = other.shape[2] // 2
    cells: list[tuple[str, Image, float]] = [
        ("real: totalsegmentator", real[:, :, column], 1.0),
        ("real", real[slice_], 1.0),
        ("real: acrin", other[:, 120:430, middle], step / row),
        ("real", other[len(other) // 2, 90:460, 40:470], row / across),
    ]
    for seed in SEEDS:
        sagittal, axial, (tall, flat) = pictures_of(seed)
        cells += [(f"{seed}", sagittal, tall), (f"{seed}", axial, flat)]
    columns = 8
    lines = -(-len(cells) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(2.3 * columns, 2.3 * lines), facecolor="black")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, picture, aspect) in zip(axes.flat, cells, strict=False):
        axis.imshow(picture, cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1], aspect=aspect)
        axis.set_title(name, color="white", fontsize=7, pad=2)
    figure.subplots_adjust(0.002, 0.002, 0.998, 0.985, 0.02, 0.06)
    figure.savefig(path, dpi=80, facecolor="black")
    plt.close(figure)
    return path


def _histograms(path: Path, ours: dict[str, Image], sources: dict[str, dict[str, Image]]) -> Path:
    figure, axes = plt.subplots(1, len(ours), figsize=(3.4 * len(ours), 3.2))
    for axis, (name, values) in zip(axes, ours.items(), strict=True):
        low, high = RANGES.get(name, (-100, 700))
        bins = np.linspace(low, high, 50)
        axis.hist(values, bins, density=True, alpha=0.4, color="tab:blue", label="phantom")
        for colour, (source, found) in zip(("tab:red", "tab:orange"), sources.items(), strict=True):
            if name in found:
                axis.hist(found[name], bins, density=True, histtype="step", color=colour, label=source)
        axis.set(title=name, xlabel="HU")
        axis.set_yticks([])
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    plt.close(figure)
    return path
