"""Thick sagittal slices to a report: which disease, on which slice, and no level surer than it should be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.commands.process import process
from dicom_ai_node.config import Settings, settings_from
from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.imaging.write_ct import CtHeader, write_ct_series
from dicom_ai_node.inference.bundle import Bundle, find_models_dir, load_bundle
from dicom_ai_node.inference.ct_slices import SliceBox, detect_all
from dicom_ai_node.inference.publish import build_network, publish
from dicom_ai_node.networks.ct_diseases import OUTPUTS
from dicom_ai_node.phantom.ct import CtPhantom
from dicom_ai_node.phantom.disease import Disease
from dicom_ai_node.phantom.spine import SpineOptions, sample_spine
from dicom_ai_node.pipelines.analyse import analyse
from dicom_ai_node.pipelines.ct_planes import measured_planes
from dicom_ai_node.pipelines.ct_sagittal import CtSagittalPipeline
from dicom_ai_node.report import Algorithm, Analysis, SpineReport, Vertebra
from dicom_ai_node.training.ct_classify_recipes import ct_classify_recipe
from dicom_ai_node.training.ct_detect_recipes import slice_detect_recipe
from tests.pipelines.ct_stacks import KnowingNetworks, sagittal_phantom, volume_of

ALGORITHMS = (
    Algorithm("ct-detect", "1", "0" * 64, "2.25.1"),
    Algorithm("ct-classify", "1", "0" * 64, "2.25.2"),
)
ILL = {Level.L1: {"OVCF": 0.9, "KD": 0.7}, Level.L3: {"SN": 0.8}}

Run = Callable[..., Analysis]


@pytest.fixture(scope="module")
def localise() -> Bundle:
    return load_bundle(find_models_dir(None) / "ct-localise", torch.device("cpu"))


@pytest.fixture(scope="module")
def lumbar() -> CtPhantom:
    """T10 to S1 in seven slices, 5.5 mm apart."""
    options = SpineOptions(age=72, diseases={Level.L1: (Disease.OVCF,)}, sacralised=None)
    return sagittal_phantom(sample_spine(5, options=options), Level.T10, Level.S1)


@pytest.fixture(scope="module")
def run(localise: Bundle, lumbar: CtPhantom) -> Run:
    def analysed(volume: Volume | None = None, **errors: object) -> Analysis:
        shown = volume_of(lumbar) if volume is None else volume
        networks = KnowingNetworks(lumbar, measured_planes(shown), ILL, **errors)  # type: ignore[arg-type]
        return CtSagittalPipeline(networks.detect, networks.judge, localise, ALGORITHMS).analyse(shown)

    return analysed


@pytest.fixture(scope="module")
def plain(run: Run) -> SpineReport:
    return run(noise_px=0.7).report


def of(report: SpineReport, level: Level) -> Vertebra:
    return next(vertebra for vertebra in report if vertebra.level is level)


def codes_of(report: SpineReport) -> list[str]:
    return [reason.code for reason in report.limitations]


def test_levels_count_from_the_sacrum_that_is_in_view(plain: SpineReport) -> None:
    levels = [vertebra.level for vertebra in plain if vertebra.status == "analysed"]
    assert levels[-5:] == [Level.L1, Level.L2, Level.L3, Level.L4, Level.L5]
    assert "level-uncertain" not in codes_of(plain)


def test_diseases_are_reported_where_the_slices_show_them_and_nowhere_else(plain: SpineReport) -> None:
    assert {vertebra.level: vertebra.diseases for vertebra in plain if vertebra.diseases} == {
        Level.L1: ("OVCF", "KD"),
        Level.L3: ("SN",),
    }
    broken = of(plain, Level.L1)
    assert broken.fractured
    assert broken.fracture_probability == pytest.approx(0.9)
    assert of(plain, Level.L3).fractured is False
    assert broken.classes["ct-classify"]["KD"] == pytest.approx(0.7)


def test_no_heights_are_told_that_were_not_measured(plain: SpineReport) -> None:
    for vertebra in plain:
        assert vertebra.heights_mm is None
        assert vertebra.genant_grade is None
        assert vertebra.six_points is None
    assert "spacing" in codes_of(plain)


def test_the_best_slice_is_an_image_that_was_sent_and_the_box_lies_on_the_body(
    plain: SpineReport, lumbar: CtPhantom
) -> None:
    seen = of(plain, Level.L1).seen_on["OVCF"]
    assert seen.box_px is not None
    assert 2 <= seen.slices <= seen.of <= 7
    number = int(seen.box_px.sop_instance_uid.removeprefix("1.2.")) - 1
    row, column = (round(sum(ends) / 2) for ends in (seen.box_px.rows, seen.box_px.columns))
    assert lumbar.labels[number, row, column] == 20  # VerSe: L1
    assert seen.corners_mm is not None
    middle = np.mean(seen.corners_mm, axis=0)
    index = np.linalg.inv(lumbar.affine) @ [*middle, 1.0]
    assert index[0] == pytest.approx(number, abs=1e-3)


def test_a_disease_that_one_slice_alone_shows_is_not_reported(run: Run) -> None:
    report = run(only_on={(Level.L3, "SN"): frozenset({3})}).report
    assert of(report, Level.L3).diseases == ()
    assert of(report, Level.L3).seen_on["SN"].slices == 1


def test_vertebrae_that_are_missed_on_some_slices_are_still_found_and_the_gap_is_told(run: Run) -> None:
    report = run(missed=frozenset({(3, Level.L1), (2, Level.L4)})).report
    assert of(report, Level.L1).diseases == ("OVCF", "KD")
    assert [reason.code for reason in of(report, Level.L1).reasons] == ["partial"]


def test_a_vertebra_that_no_slice_shows_is_named_and_not_judged(run: Run) -> None:
    report = run(missed=frozenset((plane, Level.L2) for plane in range(7))).report
    missing = of(report, Level.L2)
    assert missing.status == "not-analysable"
    assert missing.diseases is None
    assert [vertebra.level for vertebra in report][-5:] == [
        Level.L1, Level.L2, Level.L3, Level.L4, Level.L5
    ]  # fmt: skip


def test_false_boxes_on_single_slices_change_nothing_but_are_told(run: Run, plain: SpineReport) -> None:
    false = tuple(
        (plane, SliceBox((40.0 + 60 * plane, 60.0 + 60 * plane), (120.0, 148.0), 0.9)) for plane in (1, 3)
    )
    report = run(noise_px=0.7, false=false).report
    assert [vertebra.level for vertebra in report] == [vertebra.level for vertebra in plain]
    assert "model-refused" in codes_of(report)


def test_without_the_sacrum_the_numbering_is_relative_and_says_so(run: Run, lumbar: CtPhantom) -> None:
    shown = np.flatnonzero((lumbar.labels == 23).any(axis=(0, 2)))  # L4
    whole = volume_of(lumbar)
    above = Volume(
        whole.voxels[:, : shown[-1]].copy(), whole.affine, whole.instances, "1.2", "1.3", "1.4", "CT"
    )
    report = run(above).report
    assert "level-uncertain" in codes_of(report)
    assert all(vertebra.level_confidence <= 0.5 for vertebra in report)


def test_slices_stored_from_left_to_right_and_feet_first_give_the_same_levels(
    run: Run, plain: SpineReport, lumbar: CtPhantom
) -> None:
    whole = volume_of(lumbar)
    affine = whole.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [whole.shape[0] - 1, whole.shape[1] - 1, 0]
    affine[:3, :2] *= -1
    turned = Volume(whole.voxels[::-1, ::-1].copy(), affine, whole.instances[::-1], "1.2", "1.3", "1.4", "CT")
    report = run(turned).report
    assert [(v.level, v.diseases) for v in report] == [(v.level, v.diseases) for v in plain]


def test_three_slices_are_refused_with_the_reason(run: Run, lumbar: CtPhantom) -> None:
    with pytest.raises(NotAnalysable) as refused:
        run(volume_of(lumbar, slice(2, 5)))
    assert refused.value.code == "coverage"


def test_slices_without_a_vertebra_are_refused(localise: Bundle, lumbar: CtPhantom) -> None:
    def nothing(images: torch.Tensor, _spacing: tuple[float, float]) -> list[list[SliceBox]]:
        return [[] for _ in images]

    pipeline = CtSagittalPipeline(nothing, lambda *_: [], localise, ALGORITHMS)
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(volume_of(lumbar))
    assert refused.value.code == "no-spine"


def test_bodies_that_the_naming_network_does_not_know_are_refused(localise: Bundle) -> None:
    """Boxes in a head: nothing there looks like a thoracic or lumbar vertebra."""
    affine = np.array([[5.0, 0, 0, -15.0], [0, 0, 1.0, -80.0], [0, -1.0, 0, 60.0], [0, 0, 0, 1.0]])
    voxels = np.full((7, 160, 160), 30, np.int16)
    rows, columns = np.indices((160, 160)) - 80
    voxels[:, np.hypot(rows, columns) > 75] = -1000
    shell = (np.hypot(rows, columns) > 66) & (np.hypot(rows, columns) <= 72)
    voxels[:, shell] = 900
    head = volume_of(CtPhantom(voxels, affine, voxels, voxels, {}))

    def boxes(images: torch.Tensor, _spacing: tuple[float, float]) -> list[list[SliceBox]]:
        return [
            [SliceBox((60.0, 78.0), (60.0, 80.0), 0.9), SliceBox((84.0, 102.0), (60.0, 80.0), 0.9)]
        ] * len(images)

    pipeline = CtSagittalPipeline(boxes, lambda *_: [], localise, ALGORITHMS)
    with pytest.raises(NotAnalysable) as refused:
        pipeline.analyse(head)
    assert refused.value.code == "coverage"


@pytest.fixture(scope="module")
def sighted(localise: Bundle, lumbar: CtPhantom) -> CtSagittalPipeline:
    """With the detector of this repository; the judge knows."""
    detector = load_bundle(find_models_dir(None) / "ct-detect", torch.device("cpu"))
    networks = KnowingNetworks(lumbar, measured_planes(volume_of(lumbar)), ILL)
    return CtSagittalPipeline(partial(detect_all, detector), networks.judge, localise, ALGORITHMS)


def test_the_detector_of_this_repository_finds_the_vertebrae(
    sighted: CtSagittalPipeline, lumbar: CtPhantom, plain: SpineReport
) -> None:
    report = sighted.analyse(volume_of(lumbar)).report
    assert {vertebra.level for vertebra in report} >= {Level.L1, Level.L2, Level.L3, Level.L4, Level.L5}
    for vertebra in report:
        other = next((one for one in plain if one.level is vertebra.level), None)
        if other is not None and vertebra.status == other.status == "analysed":
            # From side to side a body's place is told by the slices that show it, 5.5 mm apart.
            assert vertebra.center_mm == pytest.approx(other.center_mm, abs=12)
            assert vertebra.diseases == other.diseases


def test_legs_are_refused(sighted: CtSagittalPipeline) -> None:
    """Slices through a thigh: muscle, a shaft of bone, air."""
    affine = np.array([[5.0, 0, 0, -15.0], [0, 0, 1.0, -80.0], [0, -1.0, 0, 150.0], [0, 0, 0, 1.0]])
    voxels = np.full((7, 300, 160), -1000, np.int16)
    voxels[:, :, 20:140] = 60
    voxels[:, :, 68:96] = 1300
    voxels[:, :, 75:89] = -60
    voxels += np.random.default_rng(2).normal(0, 12, voxels.shape).astype(np.int16)
    with pytest.raises(NotAnalysable) as refused:
        sighted.analyse(volume_of(CtPhantom(voxels, affine, voxels, voxels, {})))
    assert refused.value.code in {"no-spine", "coverage"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Everything switched on, with the bundles of this repository beside small untrained ones of P2."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("ct-localise", "ct-segment", "ct-points"):
        (folder / name).symlink_to(find_models_dir(None) / name, target_is_directory=True)
    for recipe, name in (
        (slice_detect_recipe("resnet18-small"), "ct-detect"),
        (ct_classify_recipe("small"), "ct-classify"),
    ):
        torch.manual_seed(4)
        network = build_network(recipe)
        publish(recipe, network, folder / name, metrics={}, trained_on="cpu", training_data="nothing")
    rules = {"ct": {"sagittal": True, "diseases": True, "min_slices": 4}}
    return settings_from(
        {"routes": rules, "models": {"models_dir": str(folder)}, "results": {"disease_threshold": 0.4}}
    )


@pytest.fixture(scope="module")
def files(lumbar: CtPhantom, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    header = CtHeader(image_type=("DERIVED", "SECONDARY", "MPR"))
    return write_ct_series(lumbar.hu, lumbar.affine, tmp_path_factory.mktemp("files"), header=header)


def test_a_detector_that_finds_nothing_leads_to_a_report_with_the_reason(
    settings: Settings, files: list[Path], tmp_path: Path
) -> None:
    (processed,) = process(files, tmp_path, settings, Console(quiet=True))
    assert processed.report.status == "not-analysable"
    assert processed.report.reasons[0].code == "no-spine"
    assert (processed.folder / "sr.dcm").exists()


def test_a_volume_gets_the_opinions_of_the_classifier_that_is_installed(
    settings: Settings, lumbar: CtPhantom, tmp_path: Path
) -> None:
    rows = np.flatnonzero((lumbar.labels == verse_label(Level.L3)).any(axis=(0, 2)))
    first, last = rows[0] - 25, rows[-1] + 25
    affine = lumbar.affine.copy()
    affine[:3, 3] += affine[:3, 1] * first
    files = write_ct_series(lumbar.hu[:, first:last], affine, tmp_path)
    found = analyse("ct-volume", files, settings)
    judged = [vertebra for vertebra in found.analysis.report if vertebra.diseases is not None]
    assert judged
    assert all(set(vertebra.seen_on) == set(OUTPUTS) for vertebra in judged)
    assert [item.name for item in found.analysis.report.algorithms] == [
        "ct-localise", "ct-segment", "ct-points", "ct-classify"
    ]  # fmt: skip
    assert any("40%" in reason.text for reason in found.analysis.report.limitations)
