"""What a human reads in a structured report: the impression, and why something was not judged.

Sentences are never more certain than the data: what is probable is called likely, what is not is called
possible, and the share stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from dicom_ai_node.anatomy import Level, order
from dicom_ai_node.prior import PriorReport
from dicom_ai_node.report import Reason, SpineReport, Vertebra
from dicom_ai_node.results.comparison import SAME_LOSS, WORTH_TELLING, Change, changes
from dicom_ai_node.results.disease_words import disease_words
from dicom_ai_node.results.language import ENGLISH, Language

LIKELY: Final = 0.8
"""From this probability on something is likely, below it is possible."""

_PERCENTAGE: Final = re.compile(r"(\d+(?:\.\d+)?) ?%")
_SIGNAL: Final = re.compile(
    r"(?P<which>dark|bright) on (?P<weighting>.+): (?P<ratio>[\d.]+) of its neighbours"
)
_LOSS: Final = re.compile(r"height loss (?P<percent>[\d.]+) ?%")
"""How `Vertebra.abnormal` tells of the signal, and of the height."""


def impression(
    report: SpineReport, language: Language = ENGLISH, prior: PriorReport | None = None
) -> list[str]:
    """Sentences in the order in which a reader wants them: the worst first, then what was not judged."""
    if report.status == "not-analysable":
        found = [language.not_analysable.format(_why(reason, language)) for reason in report.reasons]
    elif not report.vertebrae:
        found = [language.no_vertebra]
    else:
        found = _findings(report, language, changes(report, prior))
    return [*found, provenance(report, language)]


def finding(vertebra: Vertebra, language: Language = ENGLISH, change: Change | None = None) -> str:
    """One vertebra in words: ``L1: moderate wedge fracture, 31 % loss of height, Genant grade 2, ...``."""
    words = [diagnosis(vertebra, language)]
    low = bool(vertebra.fractured or vertebra.genant_grade)
    since = list(_since(vertebra, change, language))
    if vertebra.height_loss is not None and (low or since):
        words.append(language.height_loss.format(language.rounded_share(vertebra.height_loss)))
    if vertebra.genant_grade:
        words.append(language.genant.format(vertebra.genant_grade))
    elif vertebra.ungraded_fracture:
        words.append(language.grades[-1])
    words += since
    if vertebra.acuity is not None:
        words.append(_hedged(vertebra.acuity, language.acuities, language))
    words += [standing_out(item, language) or item for item in _beside_height(vertebra, language)]
    words += disease_words(vertebra, language)
    if vertebra.opinion is not None:
        words.append(_hedged(vertebra.opinion, language.malignancies, language))
    if vertebra.fracture_probability is not None and low:
        share = language.rounded_share(vertebra.fracture_probability)
        words.append(language.fracture_probability.format(share))
    return language.finding.format(level=language.level(vertebra.level), words=", ".join(words))


def alternatives(vertebra: Vertebra, language: Language = ENGLISH) -> str | None:
    """Which other level the vertebra may be; None where none was considered."""
    others = sorted(vertebra.level_alternatives.items(), key=lambda item: -item[1])
    if not others:
        return None
    listed = ", ".join(
        f"{language.level(Level(level))} ({language.rounded_share(share)})" for level, share in others
    )
    return language.alternatives.format(level=language.level(vertebra.level), others=listed)


def standing_out(words: str, language: Language) -> str | None:
    """One of `Vertebra.abnormal` in the language; None where its words are not known."""
    if language is ENGLISH:
        return words
    lost = _LOSS.fullmatch(words)
    if lost is not None:
        return language.height_loss.format(language.share(float(lost["percent"]) / 100))
    told = _SIGNAL.fullmatch(words)
    if told is None:
        return None
    template = language.dark if told["which"] == "dark" else language.bright
    return template.format(weighting=told["weighting"], ratio=language.number(float(told["ratio"]), 2))


def class_shares(algorithm: str, classes: Mapping[str, float], language: Language) -> str:
    """What an algorithm said: ``radiograph-acuity: acute fracture 72 %, ...``."""
    shares = (
        f"{language.classes.get(name, name)} {language.rounded_share(share)}"
        for name, share in classes.items()
    )
    return f"{algorithm}: {', '.join(shares)}"


def provenance(report: SpineReport, language: Language) -> str:
    """That this is for research use, by which models, and to be checked."""
    models = ", ".join(f"{item.name} {item.version}" for item in report.algorithms)
    return language.provenance.format(
        research_use=language.research_use, models=models or language.unnamed_models
    )


def compared(prior: PriorReport, language: Language) -> str | None:
    """Which earlier report stands behind the changes; None where it does not say when it was."""
    if prior.study_date is None:
        return None
    kind = prior.modality if prior.modality in language.images else "film"
    return language.compared.format(images=language.images[kind], day=language.day(prior.study_date))


_OF_NAMES: Final = ("level-uncertain", "numbering-variant")
"""Limitations that concern every sentence which names a vertebra."""


def _findings(report: SpineReport, language: Language, since: Mapping[Level, Change]) -> list[str]:
    judged = [vertebra for vertebra in report if vertebra.status == "analysed"]
    striking = [item for item in judged if strikes(item, since.get(item.level))]
    rest = [item.level for item in judged if item not in striking]
    striking.sort(key=_severity)
    sentences = [finding(item, language, since.get(item.level)) for item in striking]
    if rest:
        template = language.others_not_broken if striking else language.none_broken
        sentences.append(template.format(language.level_list(rest)))
    for vertebra in report:
        if vertebra.status != "analysed":
            why = " ".join(_why(reason, language) for reason in vertebra.reasons) or language.no_reason
            sentences.append(language.not_judged.format(level=language.level(vertebra.level), why=why))
    sentences += [_why(reason, language) for reason in report.limitations if reason.code in _OF_NAMES]
    return sentences


def strikes(vertebra: Vertebra, change: Change | None) -> bool:
    """Whether the impression has a sentence of its own for a vertebra that was judged."""
    before = change is not None and bool(change.fractured_before)
    grown = change is not None and (change.since or 0.0) >= WORTH_TELLING
    seen = vertebra.fractured or vertebra.genant_grade or vertebra.abnormal or vertebra.diseases
    return bool(seen or before or grown)


def _severity(vertebra: Vertebra) -> tuple[float, ...]:
    """The worst first: tumours, fractures by grade and loss, deformities, what else stands out."""
    return (
        -int(bool(vertebra.malignant)),
        -int(bool(vertebra.fractured)),
        -(vertebra.genant_grade or 0),
        -(vertebra.height_loss or 0.0),
        order(vertebra.level),
    )


def diagnosis(vertebra: Vertebra, language: Language) -> str:
    """What a vertebra has, in a few words without numbers."""
    grade = vertebra.genant_grade or 0
    shape = vertebra.deformity or "none"
    if vertebra.fractured:
        words = language.fractures[shape][grade]
        sure = vertebra.fracture_probability is None or vertebra.fracture_probability >= LIKELY
        return words if sure else language.suspected.format(words)
    if not grade:
        return language.abnormal_only if vertebra.abnormal else language.no_fracture
    # A deformed body that no model calls a fracture: said as seen, not more.
    words = language.deformities[shape][grade]
    return words if vertebra.fractured is None else language.not_a_fracture.format(words)


def _hedged(opinion: tuple[str, float], names: Mapping[str, str], language: Language) -> str:
    name, share = opinion
    template = language.likely if share >= LIKELY else language.possibly
    return template.format(kind=names[name], share=language.rounded_share(share))


def _since(vertebra: Vertebra, change: Change | None, language: Language) -> Iterator[str]:
    if change is None:
        return
    day = language.day(change.day)
    if vertebra.fractured and change.fractured_before is False:
        if change.before is None:
            yield language.new_since.format(day=day)
        else:
            then = language.height_loss.format(language.rounded_share(change.before))
            yield language.new_since_loss.format(day=day, loss=then)
        return
    if vertebra.fractured is False and change.fractured_before:
        yield language.fracture_before.format(day=day)
    if change.since is None:
        return
    points = language.number(100 * abs(change.since))
    if abs(change.since) < SAME_LOSS:
        # Beside a fracture that is no longer seen this would read as a contradiction; of a sound body it goes
        # without saying.
        if vertebra.genant_grade and change.fractured_before == vertebra.fractured:
            yield language.unchanged.format(day=day)
    elif change.since >= WORTH_TELLING or (change.since > 0 and vertebra.genant_grade):
        yield language.more_loss.format(points=points, day=day)
    elif change.since < 0 and change.fractured_before:
        yield language.less_loss.format(points=points, day=day)


def _beside_height(vertebra: Vertebra, language: Language) -> list[str]:
    """What else stands out: not what the sentence says anyway, nor what the language has no words for."""
    reasons = [
        reason
        for reason in vertebra.abnormal
        if vertebra.height_loss is None or _LOSS.fullmatch(reason) is None
    ]
    return [reason for reason in reasons if standing_out(reason, language) is not None]


def explained(reason: Reason, language: Language) -> tuple[str, str | None]:
    """The sentence in the language, and the English detail that it has no words for."""
    cuts = thresholds_in(reason)
    if cuts is not None and language is not ENGLISH:
        mild, moderate, severe = map(language.share, cuts)
        return language.thresholds.format(mild=mild, moderate=moderate, severe=severe), None
    says_it_all = language is ENGLISH or reason.code == "research-use"
    return _why(reason, language), None if says_it_all else reason.text or None


def thresholds_in(reason: Reason) -> tuple[float, float, float] | None:
    """The height losses at which grades 1 to 3 begin, as a limitation says them; None if it does not."""
    if reason.code != "thresholds":
        return None
    told = [float(found) / 100 for found in _PERCENTAGE.findall(reason.text)]
    return (told[0], told[1], told[2]) if len(told) == 3 and told == sorted(told) else None


def _why(reason: Reason, language: Language) -> str:
    """The reason as given in English; in another language the sentence for its code."""
    return reason.text if language is ENGLISH and reason.text else language.reasons[reason.code]
