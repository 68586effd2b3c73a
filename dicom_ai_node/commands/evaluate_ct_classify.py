"""ct-classify as P2 tells it: table 3 per slice and per vertebra, one-against-all ROC and confusions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.table import Table

from dicom_ai_node.commands.ct_slice_data import labelled_slices
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.bundle import bundle_of
from dicom_ai_node.inference.device import choose_device
from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.training.classification_metrics import roc_curve
from dicom_ai_node.training.ct_classify_recipes import ct_classify_task
from dicom_ai_node.training.ct_slice_pool import FIRST_SEED, phantom_slices
from dicom_ai_node.training.ct_slices import CtSlice
from dicom_ai_node.training.disease_scores import (
    MEAN,
    MEASURES,
    DiseaseAnswers,
    Intervals,
    Values,
    confusions,
    disease_scores,
    joined,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Console

Progress = Callable[[str, float], None]

TASK: Final = "ct-classify"

PUBLISHED: Final[Mapping[str, tuple[float, float, float, float, float]]] = {
    "OVCF": (0.958, 0.986, 0.910, 0.994, 0.934),
    "OF": (0.808, 0.996, 0.911, 0.991, 0.856),
    "SN": (0.756, 0.995, 0.532, 0.998, 0.624),
    "KD": (0.913, 0.999, 0.913, 0.999, 0.913),
    "PS": (0.997, 0.999, 0.986, 1.000, 0.992),
    MEAN: (0.919, 0.995, 0.930, 0.996, 0.924),
}
"""Sensitivity, specificity, PPV, NPV and F1 per slice (P2, table 3, Luhe test set): other patients than those
judged here."""


def evaluate(
    bundle: Path, data: str, count: int, progress: Progress, plots: Path | None, *, threshold: float = 0.5
) -> dict[str, Any]:
    """What ``--json`` writes: `n` patients, `metrics` and `intervals` per slice, and the tables beside them.

    Args:
        bundle: of ct-classify.
        data: "phantom", or a folder of labelled slices (COCO, or ``slices-*.npz``).
        count: how many phantom patients; no training saw them.
        progress: is told how far it is.
        plots: folder for pictures.
        threshold: a disease is said to be there from this probability on.

    Raises:
        ConfigurationError: there is no such data, or the bundle is of another task.
        ModelError: the bundle is missing or was changed.
    """
    if data == "phantom" and count > FIRST_SEED:
        raise ConfigurationError(f"--count is {FIRST_SEED} at most: phantoms beyond are those of training")
    loaded = bundle_of(TASK, bundle).to(choose_device("auto"))
    task = ct_classify_task(loaded.metadata.ct_patch.model_dump())
    parts = []
    for words, share, slices in _patients(data, count):
        parts.append(task.answers(loaded.network, slices))
        progress(words, share)
    answers = joined(parts)
    whole = answers.per_vertebra()
    if plots is not None:
        draw(plots / f"{TASK}.png", answers, threshold, "slices of vertebrae")
        if len(whole.said):
            draw(plots / f"{TASK}-vertebrae.png", whole, threshold, "vertebrae")
    values, spans = disease_scores(answers, threshold=threshold)
    vertebra_values, vertebra_spans = disease_scores(whole, threshold=threshold)
    return {
        "n": len(set(answers.patients)),
        "metrics": _finite(values),
        "intervals": _spans(spans),
        "threshold": threshold,
        "judged": {"slices of vertebrae": len(answers.said), "vertebrae": len(whole.said)},
        "per_vertebra": {"metrics": _finite(vertebra_values), "intervals": _spans(vertebra_spans)},
        "confusion_truth_found": confusions(answers, threshold),
        "published": {name: list(row) for name, row in PUBLISHED.items()},
    }


def show(console: Console, found: Mapping[str, Any]) -> None:
    """P2's table 3 of what `evaluate` gives: per slice beside the paper's, and per vertebra."""
    counts = found["judged"]
    console.print(
        _table(f"{found['n']} patients, {counts['slices of vertebrae']} vertebrae on slices", found)
    )
    if counts["vertebrae"]:
        whole = found["per_vertebra"]
        title = f"{counts['vertebrae']} vertebrae, each with a disease that one or more slices show"
        console.print(_table(title, whole))
    console.print("the mean is over OVCF, OF, KD and PS; below each value its 95 % interval over patients")


def draw(file: Path, answers: DiseaseAnswers, threshold: float, things: str) -> None:
    """One-against-all ROC curves and confusions (P2, Figure 3E and F)."""
    import matplotlib as mpl  # noqa: PLC0415 - only where plots are asked for

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplot_mosaic(
        [["roc", "roc", *OUTPUTS[:3]], ["roc", "roc", *OUTPUTS[3:]]], figsize=(15, 6.4)
    )
    roc = axes["roc"]
    corner = roc.inset_axes((0.4, 0.4, 0.56, 0.46), xlim=(0, 0.1), ylim=(0.8, 1.005))
    values, _ = disease_scores(answers, threshold=threshold, resamples=0)
    for column, name in enumerate(OUTPUTS):
        known = answers.truth[:, column] >= 0
        area = values[f"auc_{name}"]
        for axis in (roc, corner):
            if math.isfinite(area):
                false, true, _ = roc_curve(answers.said[known, column], answers.truth[known, column] == 1)
                words = f"{name} {area:.3f}"
                axis.plot(false, true, drawstyle="steps-post", color=f"C{column}", label=words)
            if name in PUBLISHED:
                axis.plot(1 - PUBLISHED[name][1], PUBLISHED[name][0], "x", color=f"C{column}")
    roc.plot([0, 1], [0, 1], linewidth=0.6, color="grey")
    roc.set(
        xlabel="1 - specificity", ylabel="sensitivity", title=f"{len(answers.said)} {things}; crosses: P2"
    )
    roc.legend(loc="lower right", title="area under the curve", ncols=2)
    for name, counts in confusions(answers, threshold).items():
        _draw_confusion(axes[name], name, counts)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_confusion(axis: Axes, name: str, counts: Sequence[Sequence[int]]) -> None:
    """Shares of each row, which is one truth: most vertebrae have no disease at all."""
    rows = np.array(counts, dtype=np.float64)
    shares = rows / np.maximum(1.0, rows.sum(axis=1, keepdims=True))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        words = f"{counts[row][column]}\n{100 * share:.1f} %"
        axis.text(column, row, words, ha="center", va="center", color="white" if share > 0.5 else "black")
    kinds = ("others", name)
    axis.set(xticks=range(2), xticklabels=kinds, yticks=range(2), yticklabels=kinds, xlabel="found")
    axis.set_ylabel("true")


def _table(title: str, found: Mapping[str, Any]) -> Table:
    table = Table("class", *MEASURES, box=None, padding=(0, 1, 0, 0), title=title, title_justify="left")
    for name in (*OUTPUTS[:-1], MEAN, OUTPUTS[-1]):
        cells = []
        for measure in MEASURES:
            value, span = (found[kind].get(f"{measure}_{name}") for kind in ("metrics", "intervals"))
            cells.append("-" if value is None else f"{value:.3f}\n{_short(span[0])}-{_short(span[1])}")
        table.add_row(name, *cells)
        if name in PUBLISHED and "n" in found:
            table.add_row("  P2", *(f"{value:.3f}" for value in PUBLISHED[name]), style="dim")
    return table


def _short(share: float | None) -> str:
    return "?" if share is None else f"{share:.2f}".removeprefix("0").replace("1.00", "1")


def _patients(data: str, count: int) -> Iterator[tuple[str, float, Sequence[CtSlice]]]:
    if data == "phantom":
        for seed in range(count):
            yield f"patient {seed + 1} of {count}", (seed + 1) / count, phantom_slices(seed, training=False)
        return
    if not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of labelled slices; {data} is neither")
    slices = labelled_slices(Path(data), every_body=False)
    for number, one in enumerate(slices, start=1):
        yield "all slices", number / len(slices), [one]


def _finite(values: Values) -> dict[str, float | None]:
    # JSON knows neither NaN nor infinity.
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _spans(intervals: Intervals) -> dict[str, list[float | None]]:
    return {name: [end if math.isfinite(end) else None for end in span] for name, span in intervals.items()}
