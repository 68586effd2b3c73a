"""P2's opinions beside P3's: planes through the bodies, boxes from the label map, words that differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from conformance.studies import GRIDS, SPINE, UNJUDGED, Study, make_study
from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.resample import sample_points
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.pipelines.ct_planes import cut_planes, measured_planes
from dicom_ai_node.pipelines.ct_volume_opinions import CtVolumeOpinions
from dicom_ai_node.report import Algorithm, Analysis, Reason

ALGORITHM = Algorithm("ct-classify", "1", "0" * 64, "2.25.2")


class Judge:
    """Calls everything by what the test says, and remembers the boxes that it was shown."""

    def __init__(self, **said: float) -> None:
        self.row = torch.tensor(
            [said.get(name, 0.9 if name == "normal" and not said else 0.02) for name in OUTPUTS]
        )
        self.images = torch.zeros(0)
        self.boxes: list[torch.Tensor] = []

    def __call__(
        self, images: torch.Tensor, _spacing_mm: tuple[float, float], boxes: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        self.images, self.boxes = images, list(boxes)
        return [self.row.repeat(len(own), 1) for own in boxes]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Study]:
    wanted = ("axial", "sagittal")
    return {
        grid.name: make_study(grid, tmp_path_factory.mktemp("opinions"))
        for grid in GRIDS
        if grid.name in wanted
    }


def judged(study: Study, judge: Judge, threshold: float = 0.5) -> Analysis:
    volume = study.source.volume
    assert volume is not None
    return CtVolumeOpinions(judge, ALGORITHM, threshold).added(study.analysis, volume)


@pytest.mark.parametrize("name", ["axial", "sagittal"])
def test_every_judged_body_gets_an_opinion_from_planes_that_pass_through_it(
    studies: dict[str, Study], name: str
) -> None:
    judge = Judge(SN=0.8)
    analysis = judged(studies[name], judge)
    assert analysis.label_map is studies[name].analysis.label_map
    for vertebra in analysis.report:
        if vertebra.level is UNJUDGED:
            # It is cut off at its lower end.
            assert name == "sagittal" or vertebra.diseases is None
            continue
        assert vertebra.diseases == ("SN",)
        seen = vertebra.seen_on["SN"]
        assert seen.slices == seen.of >= 3
        assert (seen.box_px is not None) == (name == "sagittal")
        (block,) = [block for block in SPINE if block.level is vertebra.level]
        assert seen.corners_mm is not None
        corners = np.array(seen.corners_mm)
        assert corners.mean(axis=0) == pytest.approx(block.centre, abs=13)
        assert np.ptp(corners[:, 1]) == pytest.approx(30, abs=4)
        assert np.ptp(corners[:, 0]) == pytest.approx(0, abs=3)


def test_the_boxes_that_the_judge_sees_hold_the_bodies(studies: dict[str, Study]) -> None:
    judge = Judge()
    judged(studies["axial"], judge)
    inside, outside = [], []
    for image, boxes in zip(judge.images, judge.boxes, strict=True):
        mask = torch.zeros_like(image, dtype=torch.bool)
        for left, top, right, bottom in boxes.round().int().tolist():
            mask[max(0, top) : bottom, max(0, left) : right] = True
        if len(boxes):
            inside.append(float(image[mask].mean()))
            outside.append(float(image[~mask].mean()))
    assert min(inside) > max(outside) + 50


def test_words_that_differ_from_the_heights_are_told(studies: dict[str, Study]) -> None:
    fractures = judged(studies["axial"], Judge(OF=0.9))
    for vertebra in fractures.report:
        differs = "disagreement" in [reason.code for reason in vertebra.reasons]
        before = next(one for one in studies["axial"].analysis.report if one.level is vertebra.level)
        if before.fractured is not None:
            assert differs == (not vertebra.fractured)
    assert ALGORITHM in fractures.report.algorithms


def test_the_threshold_is_the_administrator_s_and_in_the_report(studies: dict[str, Study]) -> None:
    analysis = judged(studies["axial"], Judge(SN=0.6), threshold=0.7)
    assert all(not vertebra.diseases for vertebra in analysis.report)
    assert any("70%" in reason.text for reason in analysis.report.limitations)


def test_without_a_label_map_nothing_is_added(studies: dict[str, Study]) -> None:
    study = studies["axial"]
    assert study.source.volume is not None
    bare = replace(study.analysis, label_map=None)
    assert CtVolumeOpinions(Judge(), ALGORITHM).added(bare, study.source.volume) is bare


def test_a_cut_plane_shows_what_the_volume_holds_there(studies: dict[str, Study]) -> None:
    volume = studies["axial"].source.volume
    assert volume is not None
    planes = cut_planes(volume, np.array([-10.0, -20.0, -60.0]), np.array([12.0, 15.0, 40.0]))
    assert len(planes) == 5
    assert planes.step_mm == pytest.approx(5.0)
    places = planes.to_mm(2, [60, 80], [50, 70])
    expected = sample_points(volume.voxels, volume.affine, places).numpy()
    shown = planes.images[2, [60, 80], [50, 70]].numpy()
    # Averaged over three millimetres of a spine of plain blocks.
    np.testing.assert_allclose(shown, expected, atol=80)


def test_slices_that_were_sent_are_shown_as_they_are(studies: dict[str, Study]) -> None:
    volume = studies["sagittal"].source.volume
    assert isinstance(volume, Volume)
    planes = measured_planes(volume)
    places = np.array([planes.to_mm(2, 40.0, 30.0)[0], planes.to_mm(3, 25.0, 20.0)[0]])
    expected = sample_points(volume.voxels, volume.affine, places).numpy()
    shown = [float(planes.images[2, 40, 30]), float(planes.images[3, 25, 20])]
    np.testing.assert_allclose(shown, expected, atol=60)


def test_levels_and_heights_of_the_volume_stay_as_they_were(studies: dict[str, Study]) -> None:
    before, after = studies["axial"].analysis.report, judged(studies["axial"], Judge(KD=0.9)).report
    for one, other in zip(before, after, strict=True):
        assert (one.level, one.heights_mm, one.genant_grade) == (
            other.level, other.heights_mm, other.genant_grade
        )  # fmt: skip
        assert one.fractured in {None, other.fractured}
    assert Level.L1 in [vertebra.level for vertebra in after]


def test_a_body_without_usable_heights_is_judged_by_its_slices_and_its_reason_stays(
    studies: dict[str, Study],
) -> None:
    study = studies["axial"]
    reason = Reason("model-refused", "The measurement was not used.")
    unmeasured = replace(study.analysis.report.vertebrae[2], status="not-analysable", reasons=(reason,))
    unmeasured = replace(unmeasured, heights_mm=None, fractured=None, fracture_probability=None)
    vertebrae = [unmeasured if one.level is unmeasured.level else one for one in study.analysis.report]
    report = replace(study.analysis.report, vertebrae=tuple(vertebrae))
    told = judged(replace(study, analysis=replace(study.analysis, report=report)), Judge(PS=0.97, OVCF=0.7))
    (found,) = [one for one in told.report if one.level is unmeasured.level]
    assert (found.status, found.fractured, found.fracture_probability) == (
        "analysed",
        True,
        pytest.approx(0.7),
    )
    assert found.diseases == ("OVCF", "PS")
    assert found.reasons == (reason,)


def test_a_body_that_the_volume_cuts_is_not_judged(studies: dict[str, Study]) -> None:
    study = studies["axial"]
    reason = Reason("coverage", "cut off by the edge of the image.")
    cut = replace(study.analysis.report.vertebrae[0], status="not-analysable", reasons=(reason,))
    report = replace(study.analysis.report, vertebrae=(cut, *study.analysis.report.vertebrae[1:]))
    told = judged(replace(study, analysis=replace(study.analysis, report=report)), Judge(PS=0.97))
    assert told.report.vertebrae[0] == cut
