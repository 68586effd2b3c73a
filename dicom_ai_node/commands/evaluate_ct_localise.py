"""ct-localise as P3's table 4 tells it: errors beyond 4, 10 and 20 mm, of one network or of its ablation.

The ablation, small enough for two cores; without ``small-`` as published, on a GPU, with ``--steps 30000``::

    rows="scn ln gn ln-gn ag filtering residual"
    for row in $rows; do
        dicom-ai-node train ct-localise --network small-$row --steps 3000 --out ablation/small-$row
    done
    bundles="$(printf -- '--bundle ablation/small-%s ' $rows) --bundle models/ct-localise"
    dicom-ai-node evaluate ct-localise --count 100 $bundles
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.commands.verse_cases import labelled_ct
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.inference.bundle import Bundle, bundle_of
from dicom_ai_node.inference.device import choose_device
from dicom_ai_node.training.cases import with_cubic_voxels_of
from dicom_ai_node.training.localise import LocaliseTask, Located
from dicom_ai_node.training.localise_recipes import localise_task_of
from dicom_ai_node.training.metrics import clustered_interval, summarise
from dicom_ai_node.training.tasks import fresh_cases

Progress = Callable[[str, float], None]

TASK: Final = "ct-localise"

PUBLISHED: Final[Mapping[str, tuple[float, float, float]]] = {
    "P3, SCN": (6.36, 2.90, 1.54),
    "P3, LN": (9.16, 7.78, 7.78),
    "P3, GN": (13.15, 9.86, 9.31),
    "P3, LN and GN": (7.65, 2.12, 1.63),
    "P3, AG": (6.95, 2.34, 1.85),
    "P3, multiple filtering": (4.95, 1.65, 1.65),
    "P3, residual": (5.63, 2.30, 1.69),
    "P3, M-SCN": (5.31, 0.91, 0.45),
}
"""P3, table 4: per cent of vertebrae further away than 4, 10 and 20 mm; patients of VerSe and its own."""

_COLUMNS: Final = (
    "error_over_4mm",
    "error_over_10mm",
    "error_over_20mm",
    "identification_rate",
    "name_right",
)


@dataclass
class Judged:
    """One bundle and what it said of every case."""

    name: str
    bundle: Bundle
    task: LocaliseTask
    cases: list[Located] = field(default_factory=list)

    @property
    def rows(self) -> list[Mapping[str, Sequence[float]]]:
        """Per case: quantity -> its values, one per vertebra."""
        return [case.measured() for case in self.cases]


def evaluate(bundles: Sequence[Path], data: str, count: int, progress: Progress) -> list[Judged]:
    """What each bundle says of the same cases, at the spacing that it was trained for.

    Args:
        bundles: of ct-localise.
        data: "phantom", or a folder of cases.
        count: how many phantoms; no training saw them.
        progress: is told how far it is.

    Raises:
        ConfigurationError: there is no such data, or a bundle is of another task.
        ModelError: a bundle is missing or was changed.
    """
    if data != "phantom" and not Path(data).is_dir():
        raise ConfigurationError(f"--data is 'phantom' or a folder of cases; {data} is neither")
    judged = [_judged(folder) for folder in bundles]
    spacings = dict.fromkeys(one.bundle.metadata.ct.spacing_mm for one in judged)
    for number, spacing in enumerate(spacings):
        if data == "phantom":
            cases, total = fresh_cases(spacing, count), count
        else:
            labelled = with_cubic_voxels_of(labelled_ct(Path(data), spacing), spacing)
            cases, total = iter(labelled), len(labelled)
        chosen = [one for one in judged if one.bundle.metadata.ct.spacing_mm == spacing]
        for done, case in enumerate(cases, start=1):
            for one in chosen:
                with torch.inference_mode():
                    one.cases.append(one.task.located(one.bundle.network, case))
            words = f"case {done} of {total}" + (f" at {spacing:g} mm" if len(spacings) > 1 else "")
            progress(words, (number + done / total) / len(spacings))
    return judged


def told(judged: Sequence[Judged]) -> dict[str, Any]:
    """What ``--json`` writes of the first bundle; under `bundles` that of each where there are several."""
    each = [_numbers(one) for one in judged]
    answer = {**each[0], "published": {name: [v / 100 for v in row] for name, row in PUBLISHED.items()}}
    if len(each) > 1:
        answer["bundles"] = {one.name: numbers for one, numbers in zip(judged, each, strict=True)}
    return answer


def show(console: Console, judged: Sequence[Judged]) -> None:
    """P3's table 4 with 95 % intervals over cases, and the errors of each level of the first bundle."""
    table = Table(
        "per cent of vertebrae",
        "> 4 mm",
        "> 10 mm",
        "> 20 mm",
        "identified",
        "name right",
        "mean mm",
        box=None,
    )
    for one in judged:
        means, intervals = summarise(one.rows)
        cells = [_percent(means[name], intervals[name]) for name in _COLUMNS]
        low, high = intervals["mean_error_mm"]
        table.add_row(one.name, *cells, f"{_words(means['mean_error_mm'])} ({_words(low)}-{_words(high)})")
    for name, row in PUBLISHED.items():
        table.add_row(name, *(f"{value:.2f}" for value in row), f"{100 - row[-1]:.2f}", "", "")
    console.print(table)
    first = judged[0]
    console.print(
        f"{len(first.cases)} cases; intervals are 95 %, over cases; identified: within 20 mm (P3 eq. 27); "
        "name right: the level's own heatmap is the brightest at its centre; P3's are other patients"
    )
    console.print(_level_table(first))


def _judged(folder: Path) -> Judged:
    # At 1 mm a processor takes minutes for what a GPU does in seconds.
    bundle = bundle_of(TASK, folder).to(choose_device("auto"))
    metadata = bundle.metadata
    task = localise_task_of(metadata.ct.model_dump(), metadata.output_channels)
    return Judged(str(folder), bundle, task)


def _numbers(one: Judged) -> dict[str, Any]:
    means, intervals = summarise(one.rows)
    return {
        "n": len(one.cases),
        "metrics": {name: _finite(value) for name, value in means.items()},
        "intervals": {name: [*map(_finite, ends)] for name, ends in intervals.items()},
        "levels": {level.value: numbers for level, numbers in _per_level(one).items()},
        "called_otherwise": {
            f"{level}>{called}": times for (level, called), times in sorted(_misnamed(one).items())
        },
    }


def _per_level(one: Judged) -> dict[Level, dict[str, Any]]:
    """Of each level that the cases hold: how many, the median error and its interval, shares."""
    answer = {}
    for level in sorted({level for case in one.cases for level in case.levels}, key=order):
        errors = [
            np.array([error for own, error in zip(case.levels, case.errors_mm, strict=True) if own is level])
            for case in one.cases
        ]
        called = [
            name
            for case in one.cases
            for own, name in zip(case.levels, case.called, strict=True)
            if own is level
        ]
        together = np.concatenate(errors)
        answer[level] = {
            "vertebrae": len(together),
            "median_error_mm": _finite(float(np.median(together))),
            "median_error_interval_mm": [*map(_finite, clustered_interval(errors, _median))],
            "error_over_20mm": float((together > 20).mean()),
            "name_right": float(np.mean([name is level for name in called])),
        }
    return answer


def _median(errors: Sequence[Any]) -> float:
    together = np.concatenate(list(errors))
    return float(np.median(together)) if together.size else math.nan


def _misnamed(one: Judged) -> Counter[tuple[str, str]]:
    """How often the heatmap of another level was the brightest: (true, called)."""
    return Counter(
        (level.value, called.value)
        for case in one.cases
        for level, called in zip(case.levels, case.called, strict=True)
        if called is not level
    )


def _level_table(one: Judged) -> Table:
    table = Table(one.name, "vertebrae", "median mm", "> 20 mm, %", "called otherwise", box=None)
    misnamed = _misnamed(one)
    for level, numbers in _per_level(one).items():
        low, high = (_words(end) for end in numbers["median_error_interval_mm"])
        others = [
            f"{called} {times}" for (own, called), times in misnamed.most_common() if own == level.value
        ]
        table.add_row(
            level.value,
            str(numbers["vertebrae"]),
            f"{_words(numbers['median_error_mm'])} ({low}-{high})",
            f"{100 * numbers['error_over_20mm']:.1f}",
            ", ".join(others),
        )
    return table


def _percent(value: float, interval: tuple[float, float]) -> str:
    if not math.isfinite(value):
        return "-"
    low, high = interval
    return f"{100 * value:.2f} ({100 * low:.1f}-{100 * high:.1f})"


def _finite(value: float) -> float | None:
    # JSON knows neither NaN nor infinity.
    return value if math.isfinite(value) else None


def _words(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.3g}"
