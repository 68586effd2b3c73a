"""What a human reads in a structured report: the impression, and why something was not judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dicom_ai_node.report import SpineReport, Vertebra
from dicom_ai_node.results.disease_words import disease_words
from dicom_ai_node.results.modules import RESEARCH_USE_ONLY

_DEGREES: Final = ("normal", "mild", "moderate", "severe")


def impression(report: SpineReport) -> list[str]:
    """Sentences in the order in which a reader wants them: fractures, what else, what was not judged."""
    if report.status == "not-analysable":
        found = [f"The images could not be analysed: {reason.text}" for reason in report.reasons]
    elif not report.vertebrae:
        found = ["No vertebra was found."]
    else:
        found = _findings(report)
    return [*found, _provenance(report)]


def finding(vertebra: Vertebra) -> str:
    """One vertebra in words: ``L1: moderate wedge fracture, height loss 31 %, Genant grade 2, ...``."""
    words = [_diagnosis(vertebra)]
    if vertebra.height_loss is not None:
        words.append(f"height loss {100 * vertebra.height_loss:.0f} %")
    if vertebra.genant_grade is not None:
        words.append(f"Genant grade {vertebra.genant_grade}")
    if vertebra.fracture_probability is not None:
        words.append(f"fracture probability {100 * vertebra.fracture_probability:.0f} %")
    kind = vertebra.acuity
    if kind is not None:
        words.append(f"{kind[0]} {100 * kind[1]:.0f} %")
    words += vertebra.abnormal if vertebra.height_loss is None else _but_height(vertebra.abnormal)
    words += disease_words(vertebra)
    if vertebra.opinion is not None:
        words.append(f"{vertebra.opinion[0]} {100 * vertebra.opinion[1]:.0f} %")
    return f"{vertebra.level.value}: {', '.join(words)}."


def alternatives(vertebra: Vertebra) -> str | None:
    """Which other level the vertebra may be; None where none was considered."""
    others = sorted(vertebra.level_alternatives.items(), key=lambda item: -item[1])
    if not others:
        return None
    listed = ", ".join(f"{level} ({100 * share:.0f} %)" for level, share in others)
    return f"The level {vertebra.level.value} could also be {listed}."


def _findings(report: SpineReport) -> list[str]:
    judged = [vertebra for vertebra in report if vertebra.status == "analysed"]
    striking = [
        item for item in judged if item.fractured or item.genant_grade or item.abnormal or item.diseases
    ]
    rest = [item for item in judged if item not in striking]
    sentences = [finding(vertebra) for vertebra in striking]
    if not striking and judged:
        sentences.append(f"No vertebral fracture found in {_levels(judged)}.")
    elif rest:
        sentences.append(f"No fracture found in {_levels(rest)}.")
    for vertebra in report:
        if vertebra.status != "analysed":
            why = " ".join(reason.text for reason in vertebra.reasons) or "No reason was given."
            sentences.append(f"{vertebra.level.value} could not be judged: {why}")
    return sentences


def _diagnosis(vertebra: Vertebra) -> str:
    grade = vertebra.genant_grade
    if not vertebra.fractured and not grade:
        return "abnormal, no fracture" if vertebra.abnormal else "no fracture"
    kind = "" if vertebra.deformity in {None, "none"} else f"{vertebra.deformity} "
    degree = "" if not grade else f"{_DEGREES[grade]} "
    if vertebra.fractured:
        return f"{degree}{kind}fracture"
    # A deformed body that no model calls a fracture: said as seen, not more.
    return f"{degree}{kind}deformity" + ("" if vertebra.fractured is None else ", not called a fracture")


def _but_height(reasons: Sequence[str]) -> list[str]:
    """Without what the sentence says anyway."""
    return [reason for reason in reasons if not reason.startswith("height loss")]


def _levels(vertebrae: Sequence[Vertebra]) -> str:
    return ", ".join(vertebra.level.value for vertebra in vertebrae)


def _provenance(report: SpineReport) -> str:
    names = ", ".join(f"{item.name} {item.version}" for item in report.algorithms)
    return (
        f"{RESEARCH_USE_ONLY}. Output of artificial intelligence{f' ({names})' if names else ''}, "
        "not validated clinically; to be checked on the images."
    )
