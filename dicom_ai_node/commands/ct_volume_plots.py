"""What `evaluate ct-volume --plots` draws: confusion of grades, ROC and precision-recall, Bland-Altman."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

from dicom_ai_node.commands.ct_volume_answers import BodyAnswer
from dicom_ai_node.commands.evaluate_ct_volume import GRADES, grade_confusion
from dicom_ai_node.training.classification_metrics import (
    area_under_roc,
    average_precision,
    precision_recall_curve,
    roc_curve,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(file: Path, bodies: Sequence[BodyAnswer]) -> None:
    """One picture of four plots over all bodies that were graded."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of the backend

    figure, axes = plt.subplots(2, 2, figsize=(11.5, 9.5), layout="constrained")
    _confusion(axes[0, 0], bodies)
    _roc(axes[0, 1], bodies)
    _precision_recall(axes[1, 0], bodies)
    _bland_altman(axes[1, 1], bodies)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _confusion(axis: Axes, bodies: Sequence[BodyAnswer]) -> None:
    """Colours are shares of a row, which is one true grade: most bodies are sound."""
    counts = grade_confusion(bodies)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else "black"
        words = f"{count}\n{shares[row, column]:.0%}"
        axis.text(column, row, words, ha="center", va="center", color=colour)
    grades = range(GRADES)
    axis.set(xticks=grades, yticks=grades, xlabel="grade found", ylabel="true grade")
    axis.set_title(f"Genant grade, {len(bodies)} bodies")


def _roc(axis: Axes, bodies: Sequence[BodyAnswer]) -> None:
    said, truth = [body.fracture for body in bodies], [body.broken for body in bodies]
    axis.plot([0, 1], [0, 1], linewidth=0.6, color="grey")
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if 0 < sum(truth) < len(truth):
        false, true, _ = roc_curve(said, truth)
        axis.plot(false, true, drawstyle="steps-post", label=f"area {area_under_roc(said, truth):.3f}")
        axis.legend(loc="lower right")
    axis.set_title(f"Fracture: {sum(truth)} of {len(truth)} bodies")


def _precision_recall(axis: Axes, bodies: Sequence[BodyAnswer]) -> None:
    said, truth = [body.fracture for body in bodies], [body.broken for body in bodies]
    axis.set(xlabel="sensitivity", ylabel="precision", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_title("Fracture: precision and sensitivity")
    if any(truth):
        precisions, sensitivities = precision_recall_curve(said, truth)
        words = f"average precision {average_precision(said, truth):.3f}"
        axis.plot([0, *sensitivities], [precisions[0], *precisions], drawstyle="steps-pre", label=words)
        share = sum(truth) / len(truth)
        axis.axhline(share, linewidth=0.6, color="grey", label=f"by chance {share:.3f}")
        axis.legend(loc="lower left")


def _bland_altman(axis: Axes, bodies: Sequence[BodyAnswer]) -> None:
    """Difference of found and true heights over their mean (Bland 1986, Lancet 1:307)."""
    axis.set(xlabel="mean of found and true height (mm)", ylabel="found - true (mm)", title="Heights")
    known = [body.heights_mm for body in bodies if np.isfinite(body.heights_mm).all()]
    if not known:
        return
    names = ("anterior", "middle", "posterior")
    heights = np.stack(known)
    for number, name in enumerate(names):
        pairs = heights[:, number]
        axis.scatter(pairs.mean(axis=1), pairs[:, 1] - pairs[:, 0], s=8, label=name)
    difference = (heights[..., 1] - heights[..., 0]).ravel()
    # Room on the right for the words of the lines, so that they hide no body.
    low, high = float(heights.mean(axis=2).min()), float(heights.mean(axis=2).max())
    axis.set_xlim(low - 0.05 * (high - low) - 0.5, high + 0.4 * (high - low) + 0.5)
    bias, spread = float(difference.mean()), 1.96 * float(difference.std())
    for place, words in (
        (bias, "mean"),
        (bias + spread, "mean + 1.96 SD"),
        (bias - spread, "mean - 1.96 SD"),
    ):
        axis.axhline(place, linewidth=0.8, color="black", linestyle="-" if words == "mean" else "--")
        axis.annotate(
            f"{words}: {place:+.2f}",
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
        )
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, frameon=False)
