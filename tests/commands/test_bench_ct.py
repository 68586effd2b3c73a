"""The peer of `bench ct` does what is told of it: as many windows as MONAI lays over a volume."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from dicom_ai_node.commands.bench_ct import OVERLAP, seconds_per_window, windows_of


class _Counting:
    """A network that gives back what it sees, and counts."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, window: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(window.shape[2:]))
        return window


@pytest.mark.parametrize("shape", [(16, 8, 8), (40, 8, 21), (16, 30, 9), (50, 33, 27), (5, 6, 7)])
def test_the_windows_of_a_volume_are_counted_as_monai_lays_them(shape: tuple[int, int, int]) -> None:
    roi, seen = (16, 8, 8), _Counting()
    inferer = SlidingWindowInferer(roi_size=roi, sw_batch_size=1, overlap=OVERLAP, mode="gaussian")
    inferer(torch.zeros(1, 1, *shape), seen)
    assert windows_of(shape, roi) == len(seen.shapes)


@pytest.mark.parametrize("shape", [(64, 40, 40), (10, 5, 40)])
@pytest.mark.parametrize("windows", [1, 3])
def test_as_many_windows_are_measured_as_are_told(shape: tuple[int, int, int], windows: int) -> None:
    seen = _Counting()
    assert seconds_per_window(seen, torch.zeros(shape), (16, 8, 8), windows) > 0
    # One more is run before, so that none is measured cold.
    assert seen.shapes == [(16, 8, 8)] * (windows + 1)
