"""What the timing of a pulse sequence makes of the contrast: T1, T2, proton density, short inversion time.

Bounds are those by which radiologists speak of weighting, with the overlap left open: a spin echo of 1,300 ms
is neither. Sources: Haacke, Brown et al., Magnetic Resonance Imaging (2014), 8.3 and 15; Bydder, Young,
J Comput Assist Tomogr 1985; 9:659 (STIR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from dicom_ai_node.imaging.mr_tags import MrTags

Weighting = Literal["T1", "T2", "PD", "T2*"]
TimedKind = Literal["t1", "t2", "t2-star", "stir", "pd", "flair"]

_STIR_MS: Final = (70.0, 300.0)
"""Inversion times that null fat: ln 2 times its T1, which is 250 to 400 ms between 0.5 and 3 T."""
_FLUID_NULL_MS: Final = 1400.0
"""From here on an inversion nulls fluid."""
_SHORT_ECHO_MS: Final = 32.0
_LONG_ECHO_MS: Final = 60.0


@dataclass(frozen=True)
class Timing:
    """What the times say, and whether they leave a doubt."""

    kind: TimedKind
    weighting: Weighting
    sure: bool
    reason: str


def weighting_by_timing(tags: MrTags) -> Timing | None:
    """The contrast by repetition, echo and inversion time; None where they are absent or tell nothing."""
    if tags.echo_ms is None:
        # An inversion time alone still tells a STIR.
        return _inverted(tags, None) if _is_inversion(tags) else None
    if "GR" in tags.scanning and "SE" not in tags.scanning:
        return _gradient_echo(tags, tags.echo_ms)
    if _is_inversion(tags):
        found = _inverted(tags, tags.echo_ms)
        if found is not None:
            return found
    return None if tags.repetition_ms is None else _spin_echo(tags, tags.echo_ms, tags.repetition_ms)


def _is_inversion(tags: MrTags) -> bool:
    # Some scanners leave a stray Inversion Time in images that were not inverted.
    named = "IR" in tags.scanning or tags.sequence_name.lstrip("*").startswith(("tir", "ir"))
    return tags.inversion_ms is not None and (named or not tags.scanning)


def _inverted(tags: MrTags, echo_ms: float | None) -> Timing | None:
    inversion = tags.inversion_ms
    if inversion is None:
        return None
    said = f"inversion recovery, Inversion Time is {inversion:g} ms"
    if _STIR_MS[0] <= inversion <= _STIR_MS[1]:
        return Timing("stir", "T2", True, f"{said}: fat is nulled")
    if inversion >= _FLUID_NULL_MS:
        return Timing("flair", "T2", True, f"{said}: fluid is nulled")
    if echo_ms is not None and echo_ms <= _SHORT_ECHO_MS:
        return Timing("t1", "T1", True, f"{said}, Echo Time is {echo_ms:g} ms")
    return None


def _spin_echo(tags: MrTags, echo: float, repetition: float) -> Timing | None:
    said = f"Repetition Time is {repetition:g} ms, Echo Time is {echo:g} ms"
    if echo <= _SHORT_ECHO_MS and repetition <= 1500.0:
        return Timing("t1", "T1", repetition <= 1100.0, said)
    if echo >= _LONG_ECHO_MS and repetition >= 800.0:
        # Volume sequences restore the magnetisation and repeat sooner.
        return Timing("t2", "T2", echo >= 70.0 and (repetition >= 1800.0 or tags.three_d), said)
    if repetition >= 1500.0 and echo <= 50.0:
        return Timing("pd", "PD", repetition >= 1800.0 and echo <= 40.0, said)
    if repetition >= 1500.0:
        return Timing("t2", "T2", False, said)
    return None


def _gradient_echo(tags: MrTags, echo: float) -> Timing | None:
    said = f"gradient echo, Echo Time is {echo:g} ms"
    if echo >= 10.0:
        return Timing("t2-star", "T2*", True, said)
    balanced = "SS" in tags.variant and "SP" not in tags.variant
    if tags.flip_deg is None or balanced:
        return None
    angle = f"{said}, Flip Angle is {tags.flip_deg:g} degrees"
    prepared = tags.inversion_ms is not None and "IR" in tags.scanning
    if tags.flip_deg >= 9.0 or prepared:
        return Timing("t1", "T1", False, angle)
    if tags.flip_deg <= 5.0:
        return Timing("pd", "PD", False, angle)
    return None
