"""ct-detect as P2 tells it: AP, FP and FN rate by intersection over minimum, counts, pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from rich.table import Table

from dicom_ai_node.commands.ct_slice_data import labelled_slices
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.bundle import Bundle, bundle_of
from dicom_ai_node.inference.ct_slices import detect_all
from dicom_ai_node.inference.device import choose_device
from dicom_ai_node.training.ct_detect import truth_of
from dicom_ai_node.training.ct_slice_pool import phantom_slices
from dicom_ai_node.training.ct_slices import CtSlice
from dicom_ai_node.training.slice_scores import (
    PUBLISHED_SCORE,
    Matched,
    SliceBoxes,
    counts,
    matched,
    precision_recall,
    scores_with_intervals,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = list[Mapping[str, Sequence[float]]]
Progress = Callable[[str, float], None]

TASK: Final = "ct-detect"

PUBLISHED: Final[Mapping[str, Mapping[str, float]]] = {
    "P2, ResNet18": {"ap": 0.982, "fp_rate": 0.0152, "fn_rate": 0.0133},
    "P2, MobileNet v2": {"ap": 0.941},
}
"""P2, "Performance of the VDModule in vertebra detection": 405 slices of other patients than those here."""

_EXAMPLES: Final = 12
_SHOWN_HU: Final = (-300.0, 900.0)


def evaluate(
    bundle: Path, data: str, count: int, progress: Progress, plots: Path | None
) -> tuple[Rows, dict[str, Any]]:
    """Rows, one per patient, and what is told over all slices.

    Args:
        bundle: of ct-detect.
        data: "phantom", or a folder of slices (see `training.ct_slice_folders`).
        count: how many phantom patients.
        progress: is told how far it is.
        plots: folder for pictures.

    Raises:
        ConfigurationError: there is no such data, or the bundle is of another task.
        ModelError: the bundle is missing or was changed.
    """
    loaded = bundle_of(TASK, bundle).to(choose_device("auto"))
    patients, total = _patients(data, count)
    pairs: list[tuple[CtSlice, SliceBoxes]] = []
    for number, slices in enumerate(patients, start=1):
        pairs += zip(slices, found_on(loaded, slices), strict=True)
        progress(f"patient {number} of {total}", number / total)
    compared = [matched(found, truth_of(one)) for one, found in pairs]
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
        draw_curves(plots / f"{TASK}.png", compared)
        draw_examples(plots / f"{TASK}-examples.png", pairs, compared)
    return _rows(compared), tables(compared)


def found_on(bundle: Bundle, slices: Sequence[CtSlice]) -> list[SliceBoxes]:
    """What a bundle finds on slices; those of one shape and spacing run together."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for number, one in enumerate(slices):
        alike.setdefault((one.image.shape, one.spacing_mm), []).append(number)
    answers: dict[int, SliceBoxes] = {}
    for numbers in alike.values():
        images = torch.from_numpy(np.stack([slices[number].image for number in numbers]))
        for number, found in zip(
            numbers, detect_all(bundle, images, slices[numbers[0]].spacing_mm), strict=True
        ):
            answers[number] = SliceBoxes(
                slices[number].patient,
                np.array([box.edges for box in found]).reshape(-1, 4),
                np.array([box.score for box in found]),
            )
    return [answers[number] for number in range(len(slices))]


def tables(compared: Sequence[Matched]) -> dict[str, Any]:
    """What is told over all slices, for ``--json``: P2's measures with intervals, counts, P2's own values."""
    values, intervals = scores_with_intervals(compared)
    pairs = counts(compared)
    return {
        "together": {name: _finite(value) for name, value in values.items()},
        "together_intervals": {name: [*map(_finite, ends)] for name, ends in intervals.items()},
        "slices": len(compared),
        "annotated": int(pairs[:, 0].sum()),
        "detected": int(pairs[:, 1].sum()),
        "published": {name: dict(values) for name, values in PUBLISHED.items()},
    }


def paper_table(told: Mapping[str, Any]) -> Table:
    """P2's measures beside what P2 has of its own patients."""
    table = Table("measure", "value", "95 % interval", *told["published"], box=None)
    for name, value in told["together"].items():
        low, high = told["together_intervals"][name]
        others = [_words(own.get(name)) for own in told["published"].values()]
        table.add_row(name, _words(value), f"{_words(low)} to {_words(high)}", *others)
    return table


def _patients(data: str, count: int) -> tuple[Iterator[list[CtSlice]], int]:
    if data == "phantom":
        return (phantom_slices(seed, training=False) for seed in range(count)), count
    if not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of slices; {data} is neither")
    slices = labelled_slices(Path(data))
    names = list(dict.fromkeys(one.patient for one in slices))
    return ([one for one in slices if one.patient == name] for name in names), len(names)


def _rows(compared: Sequence[Matched]) -> Rows:
    rows: dict[str, dict[str, list[float]]] = {}
    for one in compared:
        row = rows.setdefault(one.patient, {"found": [], "false": [], "overlap": []})
        said = one.scores >= PUBLISHED_SCORE
        row["found"] += (one.hit_by >= PUBLISHED_SCORE).astype(float).tolist()
        row["false"] += (~one.right[said]).astype(float).tolist()
        row["overlap"] += one.overlaps[said & one.right].tolist()
    return list(rows.values())


def draw_curves(file: Path, compared: Sequence[Matched]) -> None:
    """The precision-recall curve, and detected against annotated counts per slice (P2, figures 2C and 2D)."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4))
    recall, precision, score = precision_recall(compared)
    left.plot(recall, precision)
    at = np.flatnonzero(score >= PUBLISHED_SCORE)
    if at.size:
        left.plot(recall[at[-1]], precision[at[-1]], "o", label=f"score {PUBLISHED_SCORE}")
        left.legend(loc="lower left")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    pairs, times = np.unique(counts(compared), axis=0, return_counts=True)
    right.scatter(pairs[:, 0], pairs[:, 1], s=12 * times)
    most = int(pairs.max(initial=1)) + 1
    right.plot([0, most], [0, most], color="grey", linewidth=0.6)
    right.set(xlabel="annotated per slice", ylabel="detected per slice")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_examples(
    file: Path, pairs: Sequence[tuple[CtSlice, SliceBoxes]], compared: Sequence[Matched]
) -> None:
    """Slices with what was found (see `draw_slices`): half of them those with most errors."""
    errors = [
        int((one.hit_by < PUBLISHED_SCORE).sum() + (~one.right[one.scores >= PUBLISHED_SCORE]).sum())
        for one in compared
    ]
    worst = sorted(range(len(pairs)), key=lambda k: -errors[k])[: _EXAMPLES // 2]
    others = [k for k in range(len(pairs)) if k not in worst]
    spread = others[:: max(1, len(others) // (_EXAMPLES - len(worst)))][: _EXAMPLES - len(worst)]
    draw_slices(file, [pairs[k] for k in (*worst, *spread)], [errors[k] for k in (*worst, *spread)])


def draw_slices(
    file: Path, pairs: Sequence[tuple[CtSlice, SliceBoxes]], errors: Sequence[int] | None = None
) -> None:
    """A sheet of slices: annotated boxes are yellow, detections from P2's score on blue."""
    plt = _pyplot()
    figure, axes = plt.subplots(2, math.ceil(len(pairs) / 2), figsize=(15, 9), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, (one, found)) in enumerate(zip(axes.flat, pairs, strict=False)):
        _draw_slice(axis, one, found)
        if errors is not None:
            axis.set_title(f"{len(one.boxes)} annotated, wrong: {errors[number]}", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=90)
    plt.close(figure)


def _draw_slice(axis: Axes, one: CtSlice, found: SliceBoxes) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - only where plots are asked for

    low, high = _SHOWN_HU
    axis.imshow(one.image, cmap="gray", vmin=low, vmax=high, aspect=one.spacing_mm[0] / one.spacing_mm[1])
    kept = found.boxes[found.scores >= PUBLISHED_SCORE]
    for boxes, colour in ((one.boxes, "yellow"), (kept, "deepskyblue")):
        for left, top, right, bottom in boxes:
            axis.add_patch(
                Rectangle(
                    (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=colour, lw=0.9
                )
            )


def _pyplot() -> Any:
    import matplotlib as mpl  # noqa: PLC0415 - only where plots are asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    return plt


def _finite(value: float) -> float | None:
    # JSON knows neither NaN nor infinity.
    return value if math.isfinite(value) else None


def _words(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
