"""What a report says, as a table for people."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table

from dicom_ai_node.report import SpineReport, Vertebra

_GRADE_COLOURS = {0: "green", 1: "yellow", 2: "dark_orange", 3: "red"}
_NOTHING = "-"
_COLUMNS = ("level", "ant mm", "mid mm", "post mm", "loss", "grade", "type", "fracture", "HU", "opinion")
_ALWAYS = ("level", "fracture", "opinion")


def findings_table(report: SpineReport, title: str | None = None) -> Table:
    """One row per vertebra: level, heights in millimetres, loss, Genant grade, type of deformity, density.

    What was measured of none of them has no column.
    """
    # As wide as 80 columns allow: a table in a log file has no more.
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    rows = [_row(vertebra) for vertebra in report]
    kept = [
        number
        for number, name in enumerate(_COLUMNS)
        if name in _ALWAYS or any(row[number] != _NOTHING for row in rows)
    ]
    for number in kept:
        name = _COLUMNS[number]
        right = name not in {"level", "type", "opinion"}
        table.add_column(name, justify="right" if right else "left", no_wrap=name == "level")
    for row in rows:
        table.add_row(*(row[number] for number in kept))
    return table


def in_one_line(report: SpineReport) -> str:
    """The report in a sentence."""
    if report.status == "not-analysable":
        return "could not be analysed: " + "; ".join(reason.text for reason in report.reasons)
    levels = [vertebra.level.value for vertebra in report]
    if not levels:
        return "no vertebra was found"
    span = levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"
    broken = [_fracture(vertebra) for vertebra in report]
    said = [*filter(None, broken), *_diseased(report), *_malignant(report)]
    return f"{len(levels)} vertebrae, {span}; " + (", ".join(said) or "no fracture")


def _fracture(vertebra: Vertebra) -> str:
    level = vertebra.level.value
    if vertebra.ungraded_fracture:
        return f"{level} fractured, not graded"
    if not vertebra.fractured or vertebra.genant_grade is None:
        return ""
    if vertebra.genant_grade == 0:
        return f"{level} fractured, grade 0"
    return f"{level} {vertebra.deformity} grade {vertebra.genant_grade}"


def _diseased(report: SpineReport) -> list[str]:
    return [
        f"{vertebra.level.value} {'+'.join(vertebra.diseases)}" for vertebra in report if vertebra.diseases
    ]


def _malignant(report: SpineReport) -> list[str]:
    return [f"{vertebra.level.value} called malignant" for vertebra in report if vertebra.malignant]


def _row(vertebra: Vertebra) -> list[str]:
    heights = vertebra.heights_mm
    measured = [None] * 3 if heights is None else [heights.anterior, heights.middle, heights.posterior]
    level = vertebra.level.value
    if vertebra.level_confidence < 0.9 and vertebra.level_alternatives:
        other = max(vertebra.level_alternatives, key=lambda name: vertebra.level_alternatives[name])
        level += f" (or {other})"
    probability = vertebra.fracture_probability
    if vertebra.fractured is None:
        fractured = "; ".join(reason.code for reason in vertebra.reasons) or _NOTHING
    else:
        fractured = "yes" if vertebra.fractured else "no"
    return [
        level,
        *(_NOTHING if value is None else f"{value:.1f}" for value in measured),
        _NOTHING if vertebra.height_loss is None else f"{max(vertebra.height_loss, 0.0):.0%}",
        _grade(vertebra.genant_grade),
        vertebra.deformity or _NOTHING,
        fractured if probability is None else f"{fractured} ({probability:.2f})",
        _NOTHING if vertebra.mean_hu is None else f"{vertebra.mean_hu:.0f}",
        _opinion(vertebra),
    ]


def _opinion(vertebra: Vertebra) -> str:
    """How old a fracture is, diseases and on how many slices, benign or malignant, what stands out."""
    said = [f"{kind} {share:.0%}" for kind, share in filter(None, (vertebra.acuity, vertebra.opinion))]
    shares = vertebra.disease_shares or {}
    for name in vertebra.diseases or ():
        seen = vertebra.seen_on.get(name)
        slices = "" if seen is None else f" ({seen.slices}/{seen.of})"
        said.append(f"{name} {shares.get(name, 0.0):.0%}{slices}")
    said += [words for words in vertebra.abnormal if not words.startswith("height loss")]
    return "; ".join(said) or _NOTHING


def _grade(grade: int | None) -> str:
    return _NOTHING if grade is None else f"[{_GRADE_COLOURS[grade]}]{grade}[/]"
