"""Spacing, curvature and numbering of the phantom against the spines that its statistics come from.

Both sides are seen alike: body centres only, turned about the long axis so that left is left (the phantom
by its frames, a real spine by its pedicle points), spines lying as they lay in the scanner. Compared are the
distances of neighbouring centres per level, lordosis (T12-L1 against L4-L5), kyphosis (T4-T5 against
T11-T12), the largest sideways bend, and how many have an L6. `curves.json` holds quantiles and, for each, the
two-sample Kolmogorov-Smirnov distance and the Wasserstein distance.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from scipy.stats import ks_2samp, wasserstein_distance

from dicom_ai_node.phantom import SpineOptions, sample_spine
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.fit_statistics import CHAIN, read_spines, squared_up

mpl.use("Agg")
from matplotlib import pyplot as plt

Array = npt.NDArray[np.float64]
Centers = Mapping[str, Array]

SPINES: Final = 240
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST: Final = 30
"""Fewer real values than these are not compared."""


def real_centers(path: Path) -> list[Centers]:
    """Body centres per level of every real spine, mm."""
    return [{level: body for level, body, _, _ in squared_up(spine)} for spine in read_spines(path)]


def phantom_centers(seeds: Sequence[int]) -> list[Centers]:
    """Body centres per level of healthy phantoms, turned as the real ones are."""
    found: list[Centers] = []
    for seed in seeds:
        spine = sample_spine(seed, fractures={}, options=SpineOptions(fractured_fraction=0.0))
        left = np.mean([vertebra.frame[:3, 0] for vertebra in spine.vertebrae], axis=0)
        turn = rotation(0.0, 0.0, -float(np.arctan2(left[1], left[0])))
        found.append({v.level.value: turn @ v.frame[:3, 3] for v in spine.vertebrae if v.level.value != "S1"})
    return found


def _step(spine: Centers, upper: str, lower: str, axis: int) -> float | None:
    """Angle in degrees of the step from one centre to the next below: axis 1 sagittal, 0 coronal."""
    if upper not in spine or lower not in spine:
        return None
    step = spine[lower] - spine[upper]
    return float(np.degrees(np.arctan2(step[axis], -step[2])))


def _between(first: tuple[str, str], last: tuple[str, str]) -> Callable[[Centers], float | None]:
    def angle(spine: Centers) -> float | None:
        a, b = _step(spine, *first, 1), _step(spine, *last, 1)
        return None if a is None or b is None else b - a

    return angle


def _spacing(upper: str, lower: str) -> Callable[[Centers], float | None]:
    def distance(spine: Centers) -> float | None:
        if upper not in spine or lower not in spine:
            return None
        return float(np.linalg.norm(spine[lower] - spine[upper]))

    return distance


def _sideways(first: str) -> Callable[[Centers], float | None]:
    """Largest less smallest coronal angle of all steps between a level and L5, in degrees."""
    chain = CHAIN[CHAIN.index(first) :]

    def bend(spine: Centers) -> float | None:
        angles = [_step(spine, a, b, 0) for a, b in itertools.pairwise(chain)]
        seen = [angle for angle in angles if angle is not None]
        return max(seen) - min(seen) if len(seen) == len(angles) else None

    return bend


MEASURES: Final[dict[str, Callable[[Centers], float | None]]] = {
    "lordosis, degrees": _between(("T12", "L1"), ("L4", "L5")),
    "kyphosis, degrees": _between(("T11", "T12"), ("T4", "T5")),
    "lordosis upper half, degrees": _between(("T12", "L1"), ("L2", "L3")),
    "sideways bend T11-L5, degrees": _sideways("T11"),
    "sideways bend T4-L5, degrees": _sideways("T4"),
}
SPACINGS: Final = {f"{a}-{b}": _spacing(a, b) for a, b in itertools.pairwise(CHAIN)}


def compared(real: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """Numbers of one measure: quantiles of both and how far apart they are."""
    return {
        "real": len(real),
        "phantom": len(ours),
        "quantiles": list(QUANTILES),
        "real_quantiles": np.round(np.quantile(real, QUANTILES), 2).tolist(),
        "phantom_quantiles": np.round(np.quantile(ours, QUANTILES), 2).tolist(),
        "kolmogorov_smirnov": round(float(ks_2samp(real, ours).statistic), 3),
        "wasserstein": round(float(wasserstein_distance(real, ours)), 3),
    }


def draw(data: Path, out: Path) -> list[Path]:
    """Quantile plots in `curves.png` and `curves-spacing.png`, numbers in `curves.json`."""
    real = real_centers(data / "shape" / "vid" / "keypoints.json.gz")
    ours = phantom_centers(range(SPINES))
    values: dict[str, tuple[list[float], list[float]]] = {}
    for name, measure in (MEASURES | SPACINGS).items():
        both = tuple([x for spine in spines if (x := measure(spine)) is not None] for spines in (real, ours))
        if len(both[0]) >= LEAST:
            values[name] = both[0], both[1]
    with_l5 = [sum("L5" in spine for spine in spines) for spines in (real, ours)]
    l6 = [sum("L6" in spine for spine in spines) for spines in (real, ours)]
    told = {
        "real_spines": len(real),
        "phantoms": len(ours),
        "share_with_l6": {"real": round(l6[0] / with_l5[0], 4), "phantom": round(l6[1] / with_l5[1], 4)},
        "measures": {name: compared(*both) for name, both in values.items()},
    }
    numbers = out / "curves.json"
    numbers.write_text(json.dumps(told, indent=1) + "\n")
    return [*_pictures(out, values), numbers]


def _pictures(out: Path, values: Mapping[str, tuple[list[float], list[float]]]) -> list[Path]:
    shown = [name for name in MEASURES if name in values]
    figure, axes = plt.subplots(1, len(shown), figsize=(4.2 * len(shown), 4.2), squeeze=False)
    shares = np.linspace(0.01, 0.99, 99)
    for axis, name in zip(axes[0], shown, strict=True):
        real, ours = (np.quantile(x, shares) for x in values[name])
        axis.plot(real, ours, ".", markersize=4)
        ends = [min(real.min(), ours.min()), max(real.max(), ours.max())]
        axis.plot(ends, ends, color="0.6", linewidth=0.8)
        axis.set(xlabel="real, quantiles 1-99 %", ylabel="phantom", title=name)
    figure.tight_layout()
    first = out / "curves.png"
    figure.savefig(first, dpi=75)
    plt.close(figure)
    figure, plain = plt.subplots(figsize=(10, 4.5))
    names = [name for name in SPACINGS if name in values]
    places = np.arange(len(names))
    for which, colour, shift in ((0, "tab:red", -0.13), (1, "tab:blue", 0.13)):
        low, below, middle, above, high = np.array(
            [np.quantile(values[name][which], QUANTILES) for name in names]
        ).T
        plain.vlines(places + shift, low, high, color=colour, linewidth=1)
        plain.vlines(places + shift, below, above, color=colour, linewidth=4)
        plain.plot(places + shift, middle, "o", color=colour, label=("real", "phantom")[which], markersize=4)
    plain.set_xticks(places, names, rotation=60, fontsize=8)
    plain.set(ylabel="distance of body centres, mm", title="Median, quartiles, 5-95 %")
    plain.legend()
    figure.tight_layout()
    second = out / "curves-spacing.png"
    figure.savefig(second, dpi=75)
    plt.close(figure)
    return [first, second]
