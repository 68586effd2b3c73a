"""The MR pipeline with networks that know the truth: what lies between them is what runs in the node."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.networks.mscn import Heatmaps
from dicom_ai_node.pipelines.mri import MriPipeline
from dicom_ai_node.report import Analysis, SpineReport, Vertebra
from tests.drawn_mr import UPRIGHT, DrawnBody, KnowingPoints, column, drawn_volume, knowing_bundles

LUMBAR = (Level.T12, Level.L1, Level.L2, Level.L3, Level.L4, Level.L5, Level.S1)


@pytest.fixture(scope="module")
def pipeline() -> MriPipeline:
    return MriPipeline(*knowing_bundles())


def turned(degrees: float, axis: int) -> npt.NDArray[np.float64]:
    """A rotation about a patient axis: 0 left, 1 posterior, 2 superior."""
    angle = np.radians(degrees)
    first, second = [other for other in range(3) if other != axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix


def of(analysis: Analysis, level: Level) -> Vertebra:
    (found,) = [vertebra for vertebra in analysis.report if vertebra.level is level]
    return found


def levels(analysis: Analysis) -> list[Level]:
    return [vertebra.level for vertebra in analysis.report]


def overlap(analysis: Analysis, truth: npt.NDArray[np.uint8], level: Level) -> float:
    assert analysis.label_map is not None
    mine, true = analysis.label_map.labels == verse_label(level), truth == verse_label(level)
    return 2.0 * float((mine & true).sum()) / float(mine.sum() + true.sum())


ORIENTATIONS = {
    "usual": UPRIGHT,
    "slices to the right": UPRIGHT * [-1, 1, 1],
    "rows upwards": UPRIGHT * [1, -1, 1],
    "columns forwards": UPRIGHT * [1, 1, -1],
    "upside down and reversed": UPRIGHT * [-1, -1, -1],
    "rows backwards, columns down": UPRIGHT[:, [0, 2, 1]],
    "rows forwards, columns up": UPRIGHT[:, [0, 2, 1]] * [1, -1, -1],
    "oblique": turned(14.0, 2) @ UPRIGHT,
    "oblique, reversed, turned in its plane": turned(8.0, 1) @ turned(20.0, 0) @ UPRIGHT * [-1, 1, 1],
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_bodies_are_named_outlined_and_measured_on_any_sagittal_grid(
    pipeline: MriPipeline, name: str
) -> None:
    axes = ORIENTATIONS[name]
    bodies = column(LUMBAR, L2=0.35)
    swapped = abs(axes[2, 1]) < 0.5
    size = (68.0, 160.0, 300.0) if swapped else (68.0, 300.0, 160.0)
    volume, truth = drawn_volume(bodies, axes=axes, size_mm=size)
    analysis = pipeline.analyse(volume)
    assert levels(analysis) == list(LUMBAR[:-1])
    assert SpineReport.from_json(analysis.report.to_json()) == analysis.report
    for body in bodies[:-1]:
        found = of(analysis, body.level)
        assert overlap(analysis, truth, body.level) > 0.88
        assert found.center_mm == pytest.approx(body.center, abs=2.5)
        assert found.heights_mm is not None, found.reasons
        # The drawn edges are as fine as the pixels.
        posterior, middle = (body.height * (1 - body.wedge * share) for share in (0.06, 0.5))
        assert found.heights_mm.posterior == pytest.approx(posterior, abs=1.5)
        assert found.heights_mm.middle == pytest.approx(middle, abs=1.5)
    broken = of(analysis, Level.L2)
    assert (broken.deformity, broken.fractured) == ("wedge", True)
    assert broken.genant_grade == 2
    assert {of(analysis, level).genant_grade for level in (Level.L1, Level.L3, Level.L4)} == {0}


@pytest.mark.parametrize("step_mm", [3.0, 3.9, 5.5])
def test_points_lie_in_a_measured_slice_however_thick_slices_are(
    pipeline: MriPipeline, step_mm: float
) -> None:
    volume, _ = drawn_volume(column(LUMBAR[:5]), spacing_mm=(step_mm, 1.5, 1.5), center_mm=(3.0, 0, 0))
    to_index = np.linalg.inv(volume.affine)
    for vertebra in pipeline.analyse(volume).report:
        assert vertebra.six_points is not None
        points = vertebra.six_points.to_array()
        index = points @ to_index[:3, :3].T + to_index[:3, 3]
        assert np.abs(index[:, 0] - np.rint(index[0, 0])).max() < 1e-3
        assert abs(points[0, 0]) <= step_mm  # next to the middle of the body


class BeyondTheDisc(KnowingPoints):
    """Puts the lower points where the next body begins."""

    def forward(self, x: Tensor) -> Heatmaps:
        """Heatmaps of six points, every second one 4 mm too low."""
        maps = super().forward(x).product.clone()
        maps[:, 1::2] = maps[:, 1::2].roll(6, dims=2)
        return Heatmaps(maps, maps, maps)


def test_points_outside_of_the_outline_are_not_used() -> None:
    detect, points = knowing_bundles()
    lost = MriPipeline(detect, replace(points, network=BeyondTheDisc()))
    volume, _ = drawn_volume(column(LUMBAR), spacing_mm=(5.0, 1.5, 1.5))
    report = lost.analyse(volume).report
    assert len(report.vertebrae) == len(LUMBAR) - 1
    for vertebra in report:
        assert vertebra.heights_mm is None
        assert "outside of the body that was outlined" in vertebra.reasons[0].text


def test_thin_slices_are_measured_in_the_bodys_own_plane(pipeline: MriPipeline) -> None:
    bodies = column(LUMBAR[2:])
    volume, truth = drawn_volume(
        bodies, spacing_mm=(1.5, 1.5, 1.5), size_mm=(54.0, 200.0, 120.0), axes=turned(10.0, 2) @ UPRIGHT
    )
    analysis = pipeline.analyse(volume)
    for body in bodies[1:-1]:
        found = of(analysis, body.level)
        assert overlap(analysis, truth, body.level) > 0.88
        assert found.six_points is not None
        # Across its own left: the plane runs through the middle of the block, not along the turned slices.
        points = found.six_points.to_array()
        assert np.ptp(points[:, 0]) < 3.0
        assert found.heights_mm is not None
        assert found.heights_mm.posterior == pytest.approx(26.0, abs=1.5)


@pytest.mark.parametrize(
    "whole",
    [
        (Level.T11, Level.T12, Level.T13, Level.L1, Level.L2, Level.L3, Level.L4, Level.L5, Level.S1),
        (Level.L1, Level.L2, Level.L3, Level.L4, Level.L5, Level.L6, Level.S1),
    ],
)
def test_a_supernumerary_vertebra_gets_its_name(pipeline: MriPipeline, whole: tuple[Level, ...]) -> None:
    volume, _ = drawn_volume(column(whole), size_mm=(52.0, 330.0, 150.0), spacing_mm=(5.0, 1.5, 1.5))
    assert levels(pipeline.analyse(volume)) == list(whole[:-1])


def test_bodies_cut_off_by_the_edge_are_named_but_not_measured(pipeline: MriPipeline) -> None:
    bodies = column(LUMBAR)
    top = bodies[0].center[2]
    volume, truth = drawn_volume(bodies, size_mm=(60.0, 2 * top + 4.0, 150.0))
    assert 0 < (truth == verse_label(Level.T12)).sum() < (truth == verse_label(Level.L1)).sum()
    analysis = pipeline.analyse(volume)
    cut = of(analysis, Level.T12)
    assert (cut.status, cut.heights_mm, cut.genant_grade) == ("not-analysable", None, None)
    assert [reason.code for reason in cut.reasons] == ["coverage"]
    assert of(analysis, Level.L1).genant_grade == 0
    assert overlap(analysis, truth, Level.T12) > 0.85


def test_bodies_that_touch_come_apart(pipeline: MriPipeline) -> None:
    bodies = column(LUMBAR, gap_mm=0.0)
    volume, truth = drawn_volume(bodies, size_mm=(60.0, 230.0, 150.0))
    analysis = pipeline.analyse(volume)
    assert levels(analysis) == list(LUMBAR[:-1])
    assert min(overlap(analysis, truth, body.level) for body in bodies[:-1]) > 0.88


def test_slices_that_end_in_the_middle_of_the_bodies_give_no_heights(pipeline: MriPipeline) -> None:
    volume, _ = drawn_volume(column(LUMBAR), size_mm=(24.0, 300.0, 150.0), center_mm=(-25.0, 0.0, 0.0))
    analysis = pipeline.analyse(volume)
    assert len(levels(analysis)) >= 5
    assert {reason.code for item in analysis.report for reason in item.reasons} == {"coverage"}
    assert all(item.heights_mm is None for item in analysis.report)


def test_without_the_sacrum_the_report_says_that_names_are_relative(pipeline: MriPipeline) -> None:
    volume, _ = drawn_volume(column(LUMBAR[:-1]))
    said = [item for item in pipeline.analyse(volume).report.limitations if item.code == "level-uncertain"]
    assert len(said) == 1
    assert "from T12 to L5" in said[0].text
    # Of the vertebrae to count from, the network knows one: nothing is said of C2, which may well be in view.
    assert said[0].text.startswith("The sacrum was not recognised")
    assert "C2" not in said[0].text
    with_sacrum, _ = drawn_volume(column(LUMBAR))
    codes = [item.code for item in pipeline.analyse(with_sacrum).report.limitations]
    assert codes == ["research-use", "thresholds"]


def test_the_neck_is_counted_up_and_what_has_no_name_is_told(pipeline: MriPipeline) -> None:
    neck = (
        Level.C1,
        Level.C2,
        Level.C3,
        Level.C4,
        Level.C5,
        Level.C6,
        Level.C7,
        Level.T1,
        Level.T2,
        Level.T3,
    )
    bodies = [
        DrawnBody(level, np.array([0.0, 0.0, 90.0 - 20.0 * number]), height=15.0, depth=24.0, width=30.0)
        for number, level in enumerate(neck)
    ]
    analysis = pipeline.analyse(drawn_volume(bodies, size_mm=(60.0, 260.0, 120.0))[0])
    assert levels(analysis) == list(neck[2:])
    (said,) = [item.text for item in analysis.report.limitations if item.code == "partial"]
    assert said.startswith("2 bodies were seen above C3 and not named")
    whole = pipeline.analyse(drawn_volume(bodies[2:], size_mm=(60.0, 260.0, 120.0))[0])
    assert "partial" not in {item.code for item in whole.report.limitations}


def test_a_body_that_nobody_saw_is_reported_as_missing() -> None:
    blind = MriPipeline(*knowing_bundles(unseen=(Level.L2,)))
    analysis = blind.analyse(drawn_volume(column(LUMBAR))[0])
    assert levels(analysis) == list(LUMBAR[:-1])
    missing = of(analysis, Level.L2)
    assert (missing.status, missing.heights_mm) == ("not-analysable", None)
    assert [reason.code for reason in missing.reasons] == ["model-refused"]
    assert of(analysis, Level.L3).status == "analysed"


def test_box_lies_on_the_image_through_the_middle(pipeline: MriPipeline) -> None:
    volume, truth = drawn_volume(column(LUMBAR))
    analysis = pipeline.analyse(volume)
    box = of(analysis, Level.L3).box_px
    assert box is not None
    index = int(box.sop_instance_uid.rsplit(".", 1)[1]) - 1
    assert abs(index - (volume.shape[0] - 1) / 2) <= 1
    rows, columns = np.nonzero(truth[index] == verse_label(Level.L3))
    assert box.rows == pytest.approx((rows.min(), rows.max()), abs=1)
    assert box.columns == pytest.approx((columns.min(), columns.max()), abs=1)


def test_progress_goes_forward_to_the_end(pipeline: MriPipeline) -> None:
    told: list[tuple[str, float]] = []
    pipeline.analyse(drawn_volume(column(LUMBAR[3:]))[0], lambda stage, share: told.append((stage, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert told[-1] == ("report", 1.0)


AXIAL = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("bodies", "options", "code"),
    [
        ([], {}, "no-spine"),
        ([DrawnBody(Level.L3, np.zeros(3), height=8.0, depth=9.0, width=12.0)], {}, "no-spine"),
        (column(LUMBAR), {"axes": AXIAL, "size_mm": (300.0, 150.0, 60.0)}, "orientation"),
        (column(LUMBAR), {"axes": turned(50.0, 2) @ UPRIGHT}, "orientation"),
        (column(LUMBAR), {"spacing_mm": (12.0, 1.5, 1.5)}, "spacing"),
        (column(LUMBAR), {"spacing_mm": (4.0, 3.0, 3.0)}, "spacing"),
        (column(LUMBAR), {"size_mm": (60.0, 300.0, 30.0)}, "coverage"),
    ],
)
def test_what_cannot_be_analysed_is_refused_with_the_reason(
    pipeline: MriPipeline, bodies: list[DrawnBody], options: dict[str, object], code: str
) -> None:
    volume, _ = drawn_volume(bodies, **options)  # type: ignore[arg-type]
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(volume)
    assert refused.value.code == code


def test_an_isotropic_axial_series_is_cut_sagittally(pipeline: MriPipeline) -> None:
    bodies = column(LUMBAR[3:])
    volume, truth = drawn_volume(bodies, axes=AXIAL, spacing_mm=(1.5, 1.5, 1.5), size_mm=(160.0, 120.0, 54.0))
    analysis = pipeline.analyse(volume)
    assert levels(analysis) == [Level.L3, Level.L4, Level.L5]
    assert min(overlap(analysis, truth, level) for level in levels(analysis)) > 0.88
