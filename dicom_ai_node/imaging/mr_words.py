"""What the descriptions of an MR series call it, in the words of makes and of sites in several languages.

Descriptions are typed by people: what they say is evidence, never proof. Words are looked for in the Series
Description first; the Protocol Name often outlives a change of the protocol and counts only where that is
silent.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

Topic = Literal[
    "localizer", "diffusion", "adc", "angiography", "myelography", "phase", "derived", "flair", "stir",
    "t1", "t2", "t2-star", "pd", "fat-suppressed", "dixon", "water", "fat", "in-phase", "opposed-phase",
    "contrast", "no-contrast", "spine", "cervical", "below-neck",
]  # fmt: skip

# Letters before a word part it from another; digits and signs do not. CJK letters never do.
_START: Final = r"(?<![a-z])"
_END: Final = r"(?![a-z])"

_SPELLINGS: Final[dict[Topic, str]] = {
    "localizer": rf"{_START}(loc|locali[sz]\w*|localizador|locator|scout|survey|pilot|plan ?scan"
    rf"|3 ?plane?|ubersicht|reperage|локализ\w*){_END}|位置決め|定位",
    "diffusion": rf"{_START}(dwi|dwibs|diff\w*|ep2d|ep b\d*|trace\w*|dti|ivim|b ?\d{{2,4}}){_END}"
    r"|弥散|拡散|확산",
    "adc": rf"{_START}e?adc{_END}|apparent diffusion",
    "angiography": rf"{_START}(angio\w*|c?e?mra|tof|mip|pc ?[23]d|phase contrast|venc\w*){_END}|血管",
    "myelography": rf"{_START}(myelo\w*|mrm|radiculo\w*|urogra\w*){_END}|ミエロ|水成像",
    "phase": rf"{_START}(phase (map|image)|pha|field ?map|b0 map){_END}",
    "derived": rf"{_START}(t[12]\*? ?map\w*|fa map|colou?r fa|sub(tracted|traction)?|fused|fusion){_END}",
    "flair": rf"{_START}(flair|dark ?fluid){_END}",
    "stir": rf"stir|tirm{_END}|{_START}turbo ?ir{_END}",
    "t1": r"(?<![a-z0-9])[sv]?t1(?!\d)(?! ?map)",
    "t2-star": r"(?<![a-z0-9])t2 ?(\*|star)|(?<![a-z])(medic|merge|m-?ffe|adage)(?![a-z])",
    "t2": r"(?<![a-z0-9])[sv]?t2(?!\d)(?! ?map)(?! ?(\*|star))",
    "pd": rf"{_START}(pd|pdw|dp|rho|proton ?dens\w*){_END}",
    "fat-suppressed": rf"{_START}(fs|fsat|fat ?sat\w*|spair|spir|chess|fat ?supp?\w*|fatsup\w*|sat ?grasa"
    rf"|sat ?graisse|fettsat\w*|fettsupp\w*|we|proset|fat ?(null|free)\w*){_END}"
    r"|压脂|抑脂|脂肪抑制|지방억제|жироп",
    "dixon": rf"{_START}(m?dixon|ideal|wfop|wfs?i|flex|wf){_END}",
    "water": rf"{_START}(water|wasser|wat){_END}",
    "fat": rf"{_START}(fat|fett|lipid){_END}(?! ?(sat|supp?|null|free))",
    "in-phase": rf"{_START}(in ?phase|ip){_END}",
    "opposed-phase": rf"{_START}(out ?(of)? ?phase|opp\w* ?phase|opp|outphase|op){_END}",
    # After an operation, or a posterior saturation band, is not after a contrast medium.
    "contrast": rf"\+ ?(c|k|km|gd|gad\w*){_END}"
    rf"|{_START}(gd|gad\w*|post ?(contrast|gd|gad\w*|km|iv|inj\w*|c)|inj\w*"
    r"|post(?! ?(op|lat|proc|sat|lam|trauma))"
    r"|magnevist|dotarem|clariscan|prohance|omniscan|multihance|elucirem|vueway"
    rf"|(mit|avec|con|with) (km|kontrast\w*|inj\w*|contraste?)|c\+|km|ce|[ck]ontraste?|контраст\w*){_END}"
    r"|增强|造影",
    "no-contrast": rf"{_START}(nativ\w*|pre ?(contrast|gd|km)|(ohne|sans|sin|w o|without|no|non) "
    rf"(km|kontrast\w*|inj\w*|contraste?)|без контраст\w*|plain){_END}|平扫",
    # "CS" alone is more often a compressed-sensing acceleration than the cervical spine.
    "spine": rf"spin[ae](?!cho)|{_START}(ls|ts|ws|lws|bws|hws|sws|gws)p?{_END}"
    r"|lumb|lomb[ao]|thorac|dorsal|cervic|sacr|wirbel|rachis|column|vertebr"
    r"|позвон|поясн|грудн|ше[ий]н|кресц|脊|椎|척추|요추|흉추|경추|омсс|ομσσ|ομσς"
    rf"|{_START}(back|myelo\w*|whole ?spine){_END}",
    "cervical": rf"cervic|{_START}(hws|hals\w*|c ?spine|csp){_END}|ше[ий]н|頚椎|頸椎|颈椎|경추",
    "below-neck": r"lumb|lomb[ao]|thorac|dors|sacr"
    rf"|{_START}(lws|bws|[lt] ?spine|lsp?|tsp?|ctl|whole ?spine|gws|iliosacr\w*){_END}"
    r"|поясн|грудн|кресц|омсс|ομσσ|ομσς|腰|胸椎|全脊|요추|흉추",
}  # fmt: skip
_PATTERNS: Final = {topic: re.compile(spelling) for topic, spelling in _SPELLINGS.items()}

_NAMES: Final = {
    "SeriesDescription": "Series Description",
    "ProtocolName": "Protocol Name",
    "StudyDescription": "Study Description",
}
_DIXON_LETTERS: Final[dict[str, Topic]] = {
    "w": "water",
    "f": "fat",
    "in": "in-phase",
    "ip": "in-phase",
    "op": "opposed-phase",
    "opp": "opposed-phase",
    "out": "opposed-phase",
}


@dataclass(frozen=True)
class Words:
    """What was found in the descriptions: topic -> the description that says so, as one would cite it."""

    found: tuple[tuple[Topic, str], ...]

    def says(self, topic: Topic) -> str | None:
        """`Series Description "Sag STIR"`, None where no description says it."""
        return next((where for name, where in self.found if name == topic), None)


def words_of(descriptions: tuple[tuple[str, str], ...]) -> Words:
    """Topics in the descriptions of one series.

    Args:
        descriptions: (keyword, text) as `mr_tags.MrTags.descriptions` has them.
    """
    found: dict[Topic, str] = {}
    texts = dict(descriptions)
    described = texts.get("SeriesDescription", "")
    topics = topics_in(described)
    _cite(found, topics, "SeriesDescription", described)
    if not topics & _CONTRASTS:
        protocol = texts.get("ProtocolName", "")
        _cite(found, topics_in(protocol), "ProtocolName", protocol)
    # Of the whole study's name only the region is the series' own.
    regions = topics_in(texts.get("StudyDescription", "")) & {"spine", "cervical", "below-neck"}
    if "cervical" not in found and "below-neck" not in found:
        _cite(found, regions, "StudyDescription", texts.get("StudyDescription", ""))
    elif "spine" in regions:
        _cite(found, {"spine"}, "StudyDescription", texts["StudyDescription"])
    return Words(tuple(sorted(found.items())))


_CONTRASTS: Final[frozenset[Topic]] = frozenset(
    ("localizer", "diffusion", "adc", "angiography", "myelography", "stir", "t1", "t2", "t2-star", "pd")
)


def topics_in(text: str) -> set[Topic]:
    """Topics of one description."""
    plain = _plain(text)
    found = {topic for topic, pattern in _PATTERNS.items() if pattern.search(plain)}
    if "dixon" in found:
        tokens = plain.split()
        # Makes put the letter first or last: "W sT2W_mDIXON", "t2_tse_dixon_sag_W".
        for token in (tokens[0], tokens[-1]):
            if token in _DIXON_LETTERS:
                found.add(_DIXON_LETTERS[token])
    else:
        # "fat" and "in" mean a Dixon image only beside its name, or as GE's "FAT: ".
        found -= {"in-phase", "opposed-phase"}
        if not re.match(r"(water|fat|inphase|outphase|in phase|out phase) ?:", text.strip().lower()):
            found -= {"water", "fat"}
    if "no-contrast" in found:
        found.discard("contrast")
    if "adc" in found or "diffusion" in found:
        found.discard("flair")
    return found


def _cite(found: dict[Topic, str], topics: set[Topic], keyword: str, text: str) -> None:
    for topic in topics:
        found.setdefault(topic, f'{_NAMES[keyword]} "{text}"')


def _plain(text: str) -> str:
    """Lower case, without accents, Cyrillic look-alikes as Latin where they stand before a digit."""
    folded = "".join(
        letter
        for letter in unicodedata.normalize("NFKD", text).casefold()
        if not unicodedata.combining(letter)
    )
    # NFKD takes Cyrillic short i apart too, which the patterns do not use.
    folded = re.sub(r"т(?=[12])", "t", unicodedata.normalize("NFKC", folded))
    return " ".join(re.sub(r"[_:/\\,;()\[\]<>|=-]+", " ", folded).split())
