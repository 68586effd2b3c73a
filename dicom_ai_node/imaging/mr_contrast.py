"""What the images of one MR series are (T1, T2, STIR ...), from their headers, with the reasons in words.

The physics of the sequence outranks what people and makes call it: a spin echo with a repetition time of 500
ms and an echo time of 10 ms is T1-weighted whatever its name. Where the two disagree the answer is "unsure"
and says so; the image itself can then decide (`mr_appearance`).

Sources: PS3.3 C.8.3.1, C.8.13; Bernstein, King, Zhou, Handbook of MRI Pulse Sequences (2004), chapters 14
and 17 (weighting, inversion times); Dixon, Radiology 1984; 153:189.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from dicom_ai_node.imaging.mr_tags import MrTags
from dicom_ai_node.imaging.mr_timing import Weighting, weighting_by_timing
from dicom_ai_node.imaging.mr_words import Words, words_of

MrImageKind = Literal[
    "t1", "t1-fs", "t1-contrast", "t2", "t2-fs", "t2-star", "stir", "pd", "pd-fs", "flair",
    "dixon-water", "dixon-fat", "dixon-in", "dixon-opposed",
    "localizer", "diffusion", "adc", "angiography", "myelography",
    "phase", "complex", "mosaic", "derived", "unknown",
]  # fmt: skip
Certainty = Literal["sure", "likely", "unsure"]

MAGNITUDE_CONTRASTS: Final[frozenset[MrImageKind]] = frozenset(
    ("t1", "t1-fs", "t1-contrast", "t2", "t2-fs", "stir", "pd", "pd-fs",
     "dixon-water", "dixon-fat", "dixon-in", "dixon-opposed")
)  # fmt: skip
"""Kinds that show vertebrae as a reader of the spine looks at them."""

WATER_AND_FAT: Final[frozenset[MrImageKind]] = frozenset(("dixon-in", "dixon-opposed"))
"""Images of a Dixon that hold the signal of both, and look as their weighting makes them."""


@dataclass(frozen=True)
class MrIdentity:
    """What the images are.

    Attributes:
        kind: what a radiologist calls them.
        weighting: what the contrast rests on; None where nothing says it.
        certainty: "unsure" where tags contradict each other, or none of them decides.
        reasons: which tag said what, the deciding one first.
        disagreements: what was said otherwise and not followed.
    """

    kind: MrImageKind
    weighting: Weighting | None
    certainty: Certainty
    reasons: tuple[str, ...]
    disagreements: tuple[str, ...] = ()

    def in_words(self) -> str:
        """`stir (sure: Inversion Time is 160 ms ...)`."""
        text = f"{self.kind} ({self.certainty}: {'; '.join(self.reasons)}"
        return f"{text}; but {'; '.join(self.disagreements)})" if self.disagreements else f"{text})"


def identify(tags: MrTags) -> MrIdentity:
    """What one image, and all like it, shows; never raises."""
    words = words_of(tags.descriptions)
    special = _no_anatomy(tags, words) or _other_purpose(tags, words)
    if special is not None:
        return special
    weighted = _weighting(tags, words)
    dixon = _dixon(tags, words)
    if dixon is not None:
        kind, reason, sure = dixon
        # Of water and of fat it decides which of the four images it is; an image of both is read by its
        # weighting, and where that is open or contradicted it has to be looked at.
        asked = kind in WATER_AND_FAT and weighted.certainty == "unsure"
        certainty: Certainty = "unsure" if asked else "sure" if sure else "likely"
        return replace(weighted, kind=kind, certainty=certainty, reasons=(reason, *weighted.reasons))
    return _with_agent(_with_fat(weighted, tags, words), tags, words)


_COMPONENTS: Final[dict[str, MrImageKind]] = {
    "PHASE": "phase", "REAL": "complex", "IMAGINARY": "complex",
}  # fmt: skip
_PHASE_TYPES: Final = frozenset({"P", "PHASE", "PHASE MAP", "PH", "VELOCITY", "PCA", "PHASE CONTRAST M"})
_COMPLEX_TYPES: Final = frozenset({"R", "REAL", "I", "IMAG", "IMAGINARY", "R_SE", "I_SE", "R_FFE", "I_FFE"})
_MAP_TYPES: Final = frozenset(
    {"T1 MAP", "T2 MAP", "T2_STAR MAP", "T2STAR MAP", "R2_STAR MAP", "B0", "B0 MAP", "B1", "FIELD_MAP",
     "FA", "RELCBV", "RELCBF", "RELMTT", "TTP", "PERFUSION", "FAT_FRACTION", "FF", "T1_MAP", "T2_MAP"}
)  # fmt: skip
_PICTURE_TYPES: Final = frozenset(
    {"SUB", "SUBTRACTION", "SCREEN SAVE", "CSA REPORT", "CSA MPR THICK", "VOLUME_RENDER", "SURFACE_RENDER",
     "STDDEV", "MEAN", "COMPRESSED SENSING DIFF", "ERROR MAP", "QUALITY"}
)  # fmt: skip
_PROJECTIONS: Final = frozenset({"PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP", "MNIP", "MAXIP", "MINIP"})


def _no_anatomy(tags: MrTags, words: Words) -> MrIdentity | None:
    """Images whose pixels are no magnitude of a signal, or several images in one."""
    later = tags.image_type[2:]
    if "MOSAIC" in tags.image_type:
        return _certain("mosaic", "Image Type says MOSAIC: many slices in one picture")
    if tags.component in _COMPONENTS:
        return _certain(_COMPONENTS[tags.component], f"Complex Image Component is {tags.component}")
    for value in later:
        if value in _PHASE_TYPES:
            return _certain("phase", f"Image Type says {value}")
        # Philips and GE classic images; "T1" and "T2" there name the weighting in enhanced ones only.
        if value in _COMPLEX_TYPES:
            return _certain("complex", f"Image Type says {value}")
    maps = [value for value in later if value in _MAP_TYPES]
    if maps:
        return _certain("derived", f"Image Type says {maps[0]}: a calculated map")
    pictures = [value for value in later if value in _PICTURE_TYPES]
    if pictures:
        return _certain("derived", f"Image Type says {pictures[0]}")
    said = words.says("phase")
    if said is not None:
        return MrIdentity("phase", None, "likely", (f"{said} names a phase image",))
    said = words.says("derived")
    return (
        None if said is None else MrIdentity("derived", None, "likely", (f"{said} names a calculated image",))
    )


def _other_purpose(tags: MrTags, words: Words) -> MrIdentity | None:
    """Images that show the patient, but are made for something else."""
    later = tags.image_type[2:]
    if "ADC" in later or words.says("adc"):
        return _certain(
            "adc", "Image Type says ADC" if "ADC" in later else f"{words.says('adc')} names an ADC map"
        )
    if {"DIFFUSION", "TRACEW", "TENSOR"} & set(later):
        return _certain("diffusion", "Image Type says diffusion")
    if tags.b_value:
        return _certain("diffusion", f"Diffusion b-value is {tags.b_value:g} s/mm2")
    said = words.says("diffusion")
    planar = "EP" in tags.scanning or "ep" in tags.sequence_name[:4].lstrip("*")
    if planar and said is not None:
        return _certain("diffusion", f"an echo-planar sequence, and {said} names diffusion")
    if "LOCALIZER" in tags.image_type:
        return _certain("localizer", "Image Type says LOCALIZER")
    if words.says("localizer"):
        return _certain("localizer", f"{words.says('localizer')} names a localizer")
    projected = [value for value in later if value in _PROJECTIONS]
    if projected:
        return _certain("angiography", f"Image Type says {projected[0]}")
    if tags.angiography:
        return _certain("angiography", tags.angiography)
    for topic in _FLUID_ALONE:
        fluid = words.says(topic)
        if fluid is not None:
            return MrIdentity(topic, None, "likely", (f"{fluid} names {topic}",))
    if tags.echo_ms is not None and tags.echo_ms > _MYELOGRAPHY_ECHO_MS and "GR" not in tags.scanning:
        return MrIdentity("myelography", "T2", "likely", (f"Echo Time is {tags.echo_ms:g} ms: fluid alone",))
    if planar:
        reason = "an echo-planar sequence (Scanning Sequence, Sequence Name)"
        return MrIdentity("unknown", None, "unsure", (reason,), () if said is None else (f"{said}",))
    return None


_MYELOGRAPHY_ECHO_MS: Final = 350.0
_FLUID_ALONE: Final[tuple[Literal["angiography", "myelography"], ...]] = ("angiography", "myelography")

_DIXON_TYPES: Final[dict[str, MrImageKind]] = {
    "W": "dixon-water", "WATER": "dixon-water", "W_SE": "dixon-water", "W_FFE": "dixon-water",
    "F": "dixon-fat", "FAT": "dixon-fat", "F_SE": "dixon-fat", "F_FFE": "dixon-fat",
    "IP": "dixon-in", "IN_PHASE": "dixon-in", "IP_SE": "dixon-in", "IP_FFE": "dixon-in",
    "OP": "dixon-opposed", "OUT_PHASE": "dixon-opposed", "OPP_PHASE": "dixon-opposed",
    "OUT_OF_PHASE": "dixon-opposed",
    "OPPOSED_PHASE": "dixon-opposed", "OP_SE": "dixon-opposed", "OP_FFE": "dixon-opposed",
}  # fmt: skip
_DIXON_TOPICS: Final[tuple[tuple[Literal["water", "fat", "in-phase", "opposed-phase"], MrImageKind], ...]] = (
    ("water", "dixon-water"),
    ("fat", "dixon-fat"),
    ("in-phase", "dixon-in"),
    ("opposed-phase", "dixon-opposed"),
)


def _dixon(tags: MrTags, words: Words) -> tuple[MrImageKind, str, bool] | None:
    for value in tags.image_type[2:]:
        if value in _DIXON_TYPES:
            return _DIXON_TYPES[value], f"Image Type says {value}", True
    found = [(kind, said) for topic, kind in _DIXON_TOPICS if (said := words.says(topic)) is not None]
    if len(found) == 1:
        kind, said = found[0]
        return kind, f"{said} names a {kind.replace('-', ' ')} image", words.says("dixon") is not None
    return None


def _weighting(tags: MrTags, words: Words) -> MrIdentity:
    """Kind and weighting from timing, from Acquisition Contrast and from words, in this order."""
    timing = weighting_by_timing(tags)
    named = _named_kind(words)
    labelled = _LABELS.get(tags.weighting)
    if timing is not None:
        kind = timing.kind
        disagreements = [
            said for other, said in (named, (labelled, f"Acquisition Contrast is {tags.weighting}"))
            if other is not None and not _agree(kind, other)
        ]  # fmt: skip
        certainty: Certainty = "unsure" if disagreements else "sure" if timing.sure else "likely"
        if not disagreements and named[0] is not None and _agree(kind, named[0]):
            certainty = "sure"
        reasons = [timing.reason]
        if named[0] is not None and not disagreements:
            reasons.append(named[1])
        return MrIdentity(kind, timing.weighting, certainty, tuple(reasons), tuple(disagreements))
    silent = "Repetition Time and Echo Time do not tell"
    said_so: list[tuple[MrImageKind, str]] = []
    if labelled is not None:
        said_so.append((labelled, f"Acquisition Contrast is {tags.weighting}"))
    if named[0] is not None:
        said_so.append((named[0], named[1]))
    if not said_so:
        return MrIdentity("unknown", None, "unsure", (silent, "no description names the weighting"))
    told, reason = said_so[-1]
    others = tuple(text for other, text in said_so if not _agree(told, other))
    agreed = tuple(text for other, text in said_so if _agree(told, other) and text != reason)
    return MrIdentity(
        told, _WEIGHTING_OF.get(told), "unsure" if others else "likely", (reason, *agreed, silent), others
    )


_LABELS: Final[dict[str, MrImageKind]] = {
    "T1": "t1", "T2": "t2", "STIR": "stir", "PROTON_DENSITY": "pd", "T2_STAR": "t2-star",
    "FLUID_ATTENUATED": "flair",
}  # fmt: skip
"""Acquisition Contrast (PS3.3 C.8.13.3.1.4) where it names one of ours."""

_WEIGHTING_OF: Final[dict[MrImageKind, Weighting]] = {
    "t1": "T1", "t2": "T2", "stir": "T2", "pd": "PD", "t2-star": "T2*", "flair": "T2",
}  # fmt: skip

_ORDER: Final[tuple[Literal["stir", "flair", "t2-star", "t2", "t1", "pd"], ...]] = (
    "stir", "flair", "t2-star", "t2", "t1", "pd",
)  # fmt: skip


def _named_kind(words: Words) -> tuple[MrImageKind | None, str]:
    """What the description calls the images; "T2 TIRM" is a STIR, "T1 FLAIR" a T1."""
    found = [topic for topic in _ORDER if words.says(topic) is not None]
    if {"t1", "t2"} <= set(found) and "stir" not in found:
        return None, ""
    if "flair" in found and "t1" in found:
        found = ["t1"]
    if not found:
        return None, ""
    return found[0], f"{words.says(found[0])} says {found[0].upper()}"


def _agree(kind: MrImageKind, other: MrImageKind) -> bool:
    # A short inversion time suppresses fat in a T2, and T2* is a T2 of its own: makes label them by either.
    return kind == other or {kind, other} in ({"stir", "t2"}, {"t2-star", "t2"})


_FAT_FREE: Final[dict[MrImageKind, MrImageKind]] = {"t1": "t1-fs", "t2": "t2-fs", "pd": "pd-fs"}


def _with_fat(found: MrIdentity, tags: MrTags, words: Words) -> MrIdentity:
    if found.kind not in _FAT_FREE:
        return found
    said = words.says("fat-suppressed")
    kind = _FAT_FREE[found.kind]
    if "FAT" in tags.suppressed:
        keyword = "Scan Options" if "FS" in tags.options else "Spectrally Selected Suppression"
        reason = f"{keyword} says fat was suppressed"
        return replace(found, kind=kind, reasons=(*found.reasons, reason))
    if said is not None:
        certainty: Certainty = "likely" if found.certainty == "sure" else found.certainty
        return replace(
            found, kind=kind, certainty=certainty, reasons=(*found.reasons, f"{said} says fat was suppressed")
        )
    return found


def _with_agent(found: MrIdentity, tags: MrTags, words: Words) -> MrIdentity:
    if found.kind not in {"t1", "t1-fs"}:
        return found
    after, before = words.says("contrast"), words.says("no-contrast")
    if tags.agent and before is not None:
        return replace(
            found,
            kind="t1-contrast",
            certainty="unsure",
            reasons=(*found.reasons, f"Contrast/Bolus Agent is {tags.agent}"),
            disagreements=(*found.disagreements, f"{before} says without contrast medium"),
        )
    if tags.agent or after is not None:
        reason = f"Contrast/Bolus Agent is {tags.agent}" if tags.agent else f"{after} names a contrast medium"
        return replace(found, kind="t1-contrast", reasons=(*found.reasons, reason))
    return found


def _certain(kind: MrImageKind, reason: str) -> MrIdentity:
    return MrIdentity(kind, None, "sure", (reason,))
