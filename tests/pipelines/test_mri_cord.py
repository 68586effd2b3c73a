"""The cord behind a body is told from the fluid about it, where there is one, on T1, T2 and STIR."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.mr_pairing import Role
from dicom_ai_node.phantom.mr import MrAcquisition, MrPhantom, render_mr_together
from dicom_ai_node.phantom.mr_kspace import Readout
from dicom_ai_node.phantom.mr_palette import MrPalette
from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.mr_study import SAGITTAL, stack_affine
from dicom_ai_node.phantom.spine import sample_spine
from dicom_ai_node.pipelines.mri_cord import body_axes
from dicom_ai_node.pipelines.mri_signal import BodySignal, body_signals, ratios
from dicom_ai_node.report import SIX_POINT_NAMES, LabelMap

SEQUENCES: dict[Role, MrSequence] = {
    "t1": MrSequence("t1", "SE", 550.0, 11.0, echo_train=3, magnetisation_transfer=0.4),
    "t2": MrSequence("t2", "SE", 3600.0, 100.0, echo_train=17, magnetisation_transfer=0.7),
    "stir": MrSequence("stir", "IR", 4200.0, 50.0, inversion_ms=165.0, echo_train=12),
}
WITHOUT_CORD = {"cord": (1.0, 1.0, 0.0)}
SURE = (Level.T9, Level.T10, Level.T11)
"""This person's cord ends at T12."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One weighting of the phantom.

    Attributes:
        image: as it was measured.
        cord: how much cord each voxel holds, 0 to 1.
    """

    image: MrPhantom
    cord: npt.NDArray[np.float64]

    def points(self) -> dict[Level, npt.NDArray[np.float64]]:
        """Six points of the bodies in the image, LPS mm."""
        inverse, found = np.linalg.inv(self.image.affine), {}
        for entry in self.image.truth["vertebrae"]:
            if entry["six_points"] is None:
                continue
            points = np.array([entry["six_points"][name] for name in SIX_POINT_NAMES])
            rows = (points @ inverse[:3, :3].T + inverse[:3, 3])[:, 1]
            if rows.min() > 4 and rows.max() < self.image.pixels.shape[1] - 5:
                found[Level(entry["level"])] = points
        return found

    def signals(self, role: Role) -> dict[Level, BodySignal]:
        """What is measured."""
        image, seen = self.image.pixels.astype(float), np.ones(self.image.pixels.shape, dtype=bool)
        label_map = LabelMap(self.image.labels, self.image.affine)
        return body_signals(image, seen, label_map, self.points(), across=0, role=role)

    def true_cord(self, points: npt.NDArray[np.float64]) -> float | None:
        """Signal of what is cord and nothing else behind a body, None where there is little of it."""
        index = np.moveaxis(np.indices(self.cord.shape), 0, -1)
        places = index @ self.image.affine[:3, :3].T + self.image.affine[:3, 3]
        left, back = body_axes(points)
        own = (places - 0.5 * (points[4] + points[5])) @ np.array([left, back, np.cross(left, back)]).T
        near = (np.abs(own) <= [2.1, 20.0, 5.0]).all(axis=-1)
        cord = near & (self.cord > 0.85 * self.cord[near].max())
        if self.cord[near].max() < 0.3:
            return None
        return float(np.median(self.image.pixels[cord]))


@pytest.fixture(scope="module")
def seen() -> dict[Role, Seen]:
    """Seven sagittal slices about T11; where the cord is says the same patient without one."""
    spine = sample_spine(31, fractures={})
    shape = (7, 176, 80)
    center = spine[Level.T11].frame[:3, 3] + spine[Level.T11].frame[:3, 1] * 14.0
    acquisitions = [
        MrAcquisition(
            role, "sagittal", shape, stack_affine(center, SAGITTAL, shape, (4.0, 1.0)), 4.0,
            MrPalette(sequence, person=person), Readout(shape[1:], noise=6.0, apodisation=0.2),
            texture=0.02, seed=5,
        )
        for role, sequence in SEQUENCES.items()
        for person in ({}, WITHOUT_CORD)
    ]  # fmt: skip
    drawn = render_mr_together(spine, acquisitions)
    answer = {}
    for number, role in enumerate(SEQUENCES):
        whole, lacking = drawn[2 * number], drawn[2 * number + 1]
        missing = np.clip(whole.pixels.astype(float) - lacking.pixels, 0.0, None)
        answer[role] = Seen(whole, missing / np.percentile(missing, 99.9))
    return answer


@pytest.mark.parametrize("role", SEQUENCES)
def test_the_cord_is_told_from_the_fluid_about_it(seen: dict[Role, Seen], role: Role) -> None:
    one = seen[role]
    told, points = one.signals(role), one.points()
    for level in SURE:
        true = one.true_cord(points[level])
        assert true is not None
        assert told[level].cord == pytest.approx(true, rel=0.08), level
        assert ratios(told)[level]["to_cord"] == pytest.approx(told[level].middle / true, rel=0.08)


@pytest.mark.parametrize("role", SEQUENCES)
def test_roots_are_no_cord(seen: dict[Role, Seen], role: Role) -> None:
    one = seen[role]
    told, points = one.signals(role), one.points()
    below = [level for level in (Level.L1, Level.L2) if level in points]
    assert below
    for level in below:
        assert one.true_cord(points[level]) is None
        assert told[level].cord is None
        # What the canal holds is told all the same.
        assert "to_canal" in ratios(told)[level]
        assert "to_cord" not in ratios(told)[level]


def test_a_canal_of_fluid_alone_has_no_cord(seen: dict[Role, Seen]) -> None:
    one = seen["t2"]
    points = one.points()
    pixels = one.image.pixels.copy()
    pixels[one.cord > 0.05] = np.percentile(pixels, 99.0)
    told = replace(one, image=replace(one.image, pixels=pixels)).signals("t2")
    assert [told[level].cord for level in SURE if level in points] == [None] * len(SURE)
    # Fat has no signal to tell cord from fluid by, whatever stands in the image.
    assert all(body.cord is None for body in one.signals("fat").values())
