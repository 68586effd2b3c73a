"""One colour per Genant grade, told apart also by colour-blind readers (Okabe and Ito 2008)."""

from __future__ import annotations

from typing import Final

Rgb = tuple[int, int, int]

GRADE_COLOURS: Final[tuple[Rgb, ...]] = (
    (0, 158, 115),  # bluish green: normal
    (240, 228, 66),  # yellow: mild
    (230, 159, 0),  # orange: moderate
    (213, 94, 0),  # vermilion: severe
)
"""sRGB by Genant grade 0 to 3."""
UNGRADED_COLOUR: Final[Rgb] = (86, 180, 233)
"""Sky blue: seen, but not graded."""
LABEL_COLOUR: Final[Rgb] = (255, 255, 255)
POINT_COLOUR: Final[Rgb] = (204, 121, 167)
"""Reddish purple: the six points."""


def grade_colour(grade: int | None) -> Rgb:
    """The colour of a vertebra with this Genant grade."""
    return UNGRADED_COLOUR if grade is None else GRADE_COLOURS[grade]


def pcs_cielab(rgb: Rgb) -> list[int]:
    """An sRGB colour as the three 16-bit PCS values of PS3.3 section C.10.7.1.1 (CIELab under D50)."""
    linear = [value / 255 for value in rgb]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in linear]
    # sRGB primaries to XYZ, Bradford-adapted from D65 to D50 (IEC 61966-2-1, ICC.1).
    matrix = (
        (0.4360747, 0.3850649, 0.1430804),
        (0.2225045, 0.7168786, 0.0606169),
        (0.0139322, 0.0971045, 0.7141733),
    )
    white = (0.9642, 1.0, 0.8251)
    x, y, z = (
        _lab_curve(sum(a * b for a, b in zip(row, linear, strict=True)) / reference)
        for row, reference in zip(matrix, white, strict=True)
    )
    lightness, a, b = 116 * y - 16, 500 * (x - y), 200 * (y - z)
    return [
        _u16(lightness / 100),
        _u16((a + 128) / 255),
        _u16((b + 128) / 255),
    ]


def _lab_curve(ratio: float) -> float:
    return float(ratio ** (1 / 3)) if ratio > 216 / 24389 else (24389 / 27 * ratio + 16) / 116


def _u16(fraction: float) -> int:
    return min(65535, max(0, round(fraction * 65535)))
