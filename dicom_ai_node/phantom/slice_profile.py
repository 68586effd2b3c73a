"""The profile of a slice: the mean of thinner slices through it, one of them exactly in its middle."""

from __future__ import annotations


def subslices(distance_mm: float, thickness_mm: float, about_mm: float) -> tuple[int, int]:
    """(sub-slices per slice distance, sub-slices averaged into one slice); both are odd.

    What is true of a slice is painted on its middle sub-slice. With an even number the middle lies between
    two of them, and the truth would be half a sub-slice off: 0.75 mm on slices of 3 mm.

    Args:
        distance_mm: of the slices' middles.
        thickness_mm: of a slice; slices overlap or leave gaps where it is not their distance.
        about_mm: sub-slices are about so far apart.
    """
    per_step = _odd(distance_mm / about_mm)
    return per_step, _odd(thickness_mm * per_step / distance_mm)


def _odd(count: float) -> int:
    """The count rounded, and one more where that is even."""
    whole = max(1, round(count))
    return whole + (whole % 2 == 0)
