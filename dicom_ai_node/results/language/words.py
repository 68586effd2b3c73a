"""What a language must have words for, and how it writes numbers, dates and levels.

The fields are whole phrases where grammar would bend their parts: an adjective follows the gender of its
noun, and stands before it or behind. In braces stand what is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from dicom_ai_node.anatomy import USUAL_LEVELS, Code, Level
from dicom_ai_node.results.language.page_words import PageWords
from dicom_ai_node.results.language.picture_words import PictureWords

ByGrade = tuple[str, str, str, str]
"""A phrase for each Genant grade, 0 to 3."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """The words of one language.

    Attributes:
        tag: RFC 5646.
        meaning: the language's name in English, as codes have it.
        decimal_sign: before the decimals of a number.
        date_format: for `date.strftime`.
        levels: first letter of a level ("C", "T", "L", "S") -> what stands before its number.
        run: from one level to another: `{first}`, `{last}`, and `{end}` for the last one's number alone where
            the region is the same.
        fractures: deformity -> the fracture by grade; "none" is a fracture without a typical shape.
        deformities: deformity -> the deformity by grade, of a body that is not called a fracture.
        not_a_fracture: what is said behind a deformity that was judged, and is none.
        suspected: before a fracture that is not sure.
        acuities, malignancies: how a fracture or a vertebra is called in a sentence about it.
        classes: what an algorithm may say -> its name in a list with probabilities.
        on_slices: behind what was seen on some of the slices of a vertebra.
        reasons: a sentence for every key of `report.REASON_CODES`.
        images: those of a modality, as they stand in `compared`.
        grades: names of the grades 0 to 3, and of what has none, beside their colours.
        how_to_read: what a grade is, for those who do not know it.
        refused: `not_analysable` without the reason.
        page: what stands on the report of one page beside the findings.
        picture: what stands in pictures, in as few letters as possible.
    """

    tag: str
    meaning: str
    decimal_sign: str
    date_format: str
    levels: Mapping[str, str]
    run: str
    percent: str
    research_use: str

    finding: str
    fractures: Mapping[str, ByGrade]
    deformities: Mapping[str, ByGrade]
    not_a_fracture: str
    suspected: str
    no_fracture: str
    abnormal_only: str
    height_loss: str
    genant: str
    grades: tuple[str, str, str, str, str]
    how_to_read: str
    fracture_probability: str
    likely: str
    possibly: str
    acuities: Mapping[str, str]
    malignancies: Mapping[str, str]
    on_slices: str
    dark: str
    bright: str

    none_broken: str
    others_not_broken: str
    not_judged: str
    not_analysable: str
    refused: str
    no_vertebra: str
    no_reason: str
    provenance: str
    unnamed_models: str

    alternatives: str
    stands_out: str
    classes: Mapping[str, str]
    algorithm: str
    thresholds: str
    malignant_threshold: str
    reasons: Mapping[str, str]

    compared: str
    images: Mapping[str, str]
    new_since: str
    new_since_loss: str
    fracture_before: str
    unchanged: str
    more_loss: str
    less_loss: str

    page: PageWords
    picture: PictureWords

    @property
    def code(self) -> Code:
        """The language as a coded concept (PS3.16 CID 5000)."""
        return Code(self.tag, "RFC5646", self.meaning)

    def number(self, value: float, decimals: int = 0) -> str:
        """A number with as many decimals, rounded."""
        return f"{round(value, decimals) + 0.0:.{decimals}f}".replace(".", self.decimal_sign)

    def share(self, value: float) -> str:
        """A fraction of one in percent: ``31 %``; decimals only where they are part of the value."""
        whole = abs(100 * value - round(100 * value)) < 1e-6
        return self.percent.format(self.number(100 * value, 0 if whole else 1))

    def rounded_share(self, value: float) -> str:
        """A fraction of one in whole percent."""
        return self.percent.format(self.number(100 * value))

    def day(self, value: date) -> str:
        """A date."""
        return value.strftime(self.date_format)

    def level(self, level: Level) -> str:
        """The name of a level."""
        return self.levels[level.region] + level.value[1:]

    def level_list(self, levels: Sequence[Level]) -> str:
        """Several levels, from head to tail; three and more in a row as first and last."""
        runs: list[list[Level]] = []
        for level in levels:
            if runs and _next_to(runs[-1][-1], level):
                runs[-1].append(level)
            else:
                runs.append([level])
        return ", ".join(self._run(run) for run in runs)

    def _run(self, run: Sequence[Level]) -> str:
        if len(run) < 3:
            return ", ".join(map(self.level, run))
        first, last = run[0], run[-1]
        # Within one region its name need not be said twice.
        end = last.value[1:] if first.region == last.region else self.level(last)
        return self.run.format(first=self.level(first), last=self.level(last), end=end)


def _next_to(upper: Level, lower: Level) -> bool:
    if upper not in USUAL_LEVELS or lower not in USUAL_LEVELS:
        return False
    return USUAL_LEVELS.index(lower) - USUAL_LEVELS.index(upper) == 1
