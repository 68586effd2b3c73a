"""The MR study: partners come onto the bodies, signal is compared, and only what stands out is judged."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.config import settings_from
from dicom_ai_node.errors import ConfigurationError, NotAnalysable
from dicom_ai_node.imaging.mr_pairing import Role
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.inference.bundle import (
    Bundle,
    Metadata,
    MriPatchPreprocessing,
    NetworkDefinition,
    WeightsFile,
)
from dicom_ai_node.networks.mri_classes import FEATURES, OUTPUTS
from dicom_ai_node.pipelines.mri import MriPipeline
from dicom_ai_node.pipelines.mri_signal import SignalLimits, body_signals, ratios
from dicom_ai_node.pipelines.mri_study import MriStudyPipeline, MriStudySettings
from dicom_ai_node.report import Analysis, LabelMap, SpineReport, Vertebra
from tests.drawn_mr import DrawnBody, column, drawn_volume, knowing_bundles

LUMBAR = (Level.T12, Level.L1, Level.L2, Level.L3, Level.L4, Level.L5, Level.S1)
MARROW, DISC, CANAL, FAT = 600.0, 300.0, 150.0, 900.0


class SaysWhatItSees(nn.Module):
    """Calls a body malignant that is darker on T1 than the disc above it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked = 0

    def forward(self, patches: Tensor) -> Tensor:
        assert patches.shape[1:] == (6, 64, 64)
        self.asked += len(patches)
        middle, disc = (patches[:, 1, rows, 24:40].mean(dim=(1, 2)) for rows in (slice(24, 40), slice(4, 8)))
        return torch.where(middle < disc, 3.0, -3.0)[:, None].expand(-1, len(OUTPUTS))


def classifier(series: tuple[str, ...] = ("t1", "t2")) -> Bundle:
    metadata = Metadata(
        name="mri-classify", version="0", task="mri-classify", description="", authors="", license="",
        intended_use="", training_data="", trained_on="", rebuild="", output_channels=OUTPUTS,
        network=NetworkDefinition(architecture="MriClassifier", arguments={}),
        preprocessing=MriPatchPreprocessing(series=series, size=64, margin=1.15, behind=0.0),  # type: ignore[arg-type]
        metrics={}, weights=(WeightsFile(file="weights.safetensors", sha256=64 * "0"),), device_uid="2.25.1",
    )  # fmt: skip
    return Bundle(metadata, SaysWhatItSees().eval(), torch.device("cpu"))


def pipeline(series: tuple[str, ...] = ("t1", "t2")) -> MriStudyPipeline:
    return MriStudyPipeline(MriPipeline(*knowing_bundles()), classifier(series))


def painted(
    volume: Volume, labels: npt.NDArray[np.uint8], bodies: list[DrawnBody], changed: dict[Level, float]
) -> npt.NDArray[np.float32]:
    """Marrow, discs between bodies, canal behind them, and bodies of another signal."""
    index = np.moveaxis(np.indices(volume.shape), 0, -1)
    points = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    signal = volume.voxels.astype(np.float32)
    signal[signal > 900] = FAT
    for upper, lower in itertools.pairwise(bodies):
        middle = 0.5 * (upper.center + lower.center)
        near = np.abs(points - middle) <= [20.0, 15.0, 4.5]
        signal[near.all(axis=-1) & (labels == 0)] = DISC
    for body in bodies:
        behind = np.abs(points - body.center - [0.0, 26.0, 0.0]) <= [8.0, 8.0, 17.0]
        signal[behind.all(axis=-1) & (labels == 0)] = CANAL
        signal[labels == verse_label(body.level)] = changed.get(body.level, MARROW)
    return signal


@pytest.fixture(scope="module")
def study() -> dict[Role, Volume]:
    """A T2 whose bodies show their level; a T1 in which L3 is dark. L1 is wedged."""
    bodies = column(LUMBAR, L1=0.35)
    t2, labels = drawn_volume(bodies, size_mm=(68.0, 300.0, 160.0))
    t1 = painted(t2, labels, bodies, {Level.L3: 250.0})
    return {
        "t1": replace(t2, voxels=t1, series_instance_uid="1.3.1"),
        "t2": replace(t2, series_instance_uid="1.3.2"),
    }


@pytest.fixture(scope="module")
def analysis(study: dict[Role, Volume]) -> Analysis:
    return pipeline().analyse(study)


def of(analysis: Analysis, level: Level) -> Vertebra:
    (found,) = [vertebra for vertebra in analysis.report if vertebra.level is level]
    return found


def test_what_stands_out_is_judged_and_nothing_else(analysis: Analysis) -> None:
    report = analysis.report
    assert SpineReport.from_json(report.to_json()) == report
    assert report.source.series_instance_uids == ("1.3.2", "1.3.1")
    assert [item.name for item in report.algorithms] == ["mri-detect", "mri-points", "mri-classify"]
    wedged, dark = of(analysis, Level.L1), of(analysis, Level.L3)
    assert wedged.abnormal[0].startswith("height loss 2")
    assert any(words.startswith("dark on T1: 0.4") for words in dark.abnormal)
    assert (wedged.malignant, dark.malignant) == (False, True)
    assert dark.malignancy == pytest.approx(0.95, abs=0.01)
    assert set(dark.features) == set(FEATURES)
    for vertebra in report:
        if vertebra.level not in (Level.L1, Level.L3):
            assert not any("T1" in words or "height" in words for words in vertebra.abnormal)
        assert (vertebra.malignant is None) == (not vertebra.abnormal)


class SeesBrightness(SaysWhatItSees):
    """Calls a body the more malignant the darker it is on T1."""

    def forward(self, patches: Tensor) -> Tensor:
        middle = patches[:, 1, 24:40, 24:40].mean(dim=(1, 2))
        return (-2.0 * middle)[:, None].expand(-1, len(OUTPUTS))


def test_the_slice_that_looks_most_malignant_is_told_and_it_is_an_image_that_was_sent(
    study: dict[Role, Volume], analysis: Analysis
) -> None:
    for level in (Level.L1, Level.L3):
        found = of(analysis, level)
        seen = found.seen_on["malignant"]
        assert seen.of >= 3
        assert (seen.slices > 0) is found.malignant
    assert not of(analysis, Level.L2).seen_on
    # In one slice L3 is darker than in its others.
    t1, t2 = study["t1"], study["t2"]
    place = np.linalg.inv(t1.affine) @ [*(of(analysis, Level.L3).center_mm or ()), 1.0]
    darkest = round(float(place[0])) + 2
    voxels = t1.voxels.copy()
    box = of(analysis, Level.L3).box_px
    assert box is not None
    rows, columns = (slice(int(first), int(last) + 1) for first, last in (box.rows, box.columns))
    voxels[darkest, rows, columns] = 90.0
    own = replace(classifier(), network=SeesBrightness().eval())
    judge = MriStudyPipeline(MriPipeline(*knowing_bundles()), own)
    told = of(judge.analyse({"t2": t2, "t1": replace(t1, voxels=voxels)}), Level.L3).seen_on["malignant"]
    assert told.box_px is not None
    assert (told.box_px.sop_instance_uid, told.box_px.frame) == (
        t2.instances[darkest].sop_instance_uid,
        t2.instances[darkest].frame,
    )
    assert told.box_px.rows == pytest.approx(box.rows, abs=1.5)
    assert told.box_px.columns == pytest.approx(box.columns, abs=1.5)
    assert told.corners_mm is not None
    index = np.array(told.corners_mm) @ np.linalg.inv(t2.affine)[:3, :3].T + np.linalg.inv(t2.affine)[:3, 3]
    assert index[:, 0] == pytest.approx(darkest, abs=0.01)


def test_signal_is_told_against_what_lies_beside(analysis: Analysis) -> None:
    healthy, dark = of(analysis, Level.L2).signal["t1"], of(analysis, Level.L3).signal["t1"]
    assert healthy == pytest.approx(
        {"to_neighbours": 1.0, "to_discs": MARROW / DISC, "to_canal": MARROW / CANAL}, rel=0.03
    )
    assert dark == pytest.approx(
        {"to_neighbours": 250 / MARROW, "to_discs": 250 / DISC, "to_canal": 250 / CANAL}, rel=0.03
    )


def test_a_partner_that_moved_is_brought_back(study: dict[Role, Volume], analysis: Analysis) -> None:
    shift = np.eye(4)
    shift[:3, 3] = [0.0, 5.0, -6.0]
    moved = replace(study["t1"], affine=shift @ study["t1"].affine)
    found = pipeline().analyse({**study, "t1": moved})
    assert of(found, Level.L3).malignant is True
    still = of(analysis, Level.L3).signal["t1"]["to_neighbours"]
    assert of(found, Level.L3).signal["t1"]["to_neighbours"] == pytest.approx(still, abs=0.08)


def test_a_partner_that_cannot_be_brought_together_is_left_out_with_a_reason(
    study: dict[Role, Volume],
) -> None:
    noise = np.random.default_rng(0).normal(300.0, 40.0, study["t1"].shape).astype(np.float32)
    found = pipeline().analyse({**study, "t1": replace(study["t1"], voxels=noise)})
    codes = {item.code for item in found.report.limitations}
    assert {"registration", "partial"} <= codes
    assert all("t1" not in vertebra.signal for vertebra in found.report)
    assert all(vertebra.malignant is None for vertebra in found.report)
    assert of(found, Level.L1).genant_grade == 2


@pytest.mark.parametrize("alone", ["t1", "t2"])
def test_a_lone_series_is_analysed_with_what_it_can_tell(study: dict[Role, Volume], alone: Role) -> None:
    # Bodies are recognised by their signal, which only the T2 has.
    found = pipeline().analyse({alone: study["t2"]})
    assert of(found, Level.L1).genant_grade == 2
    assert of(found, Level.L1).malignant is None
    assert [item.name for item in found.report.algorithms] == ["mri-detect", "mri-points"]
    other = "T1" if alone == "t2" else "T2"
    (said,) = [item.text for item in found.report.limitations if "malignant" in item.text]
    assert f"takes {other} of the same place" in said


def test_nothing_to_analyse_is_said() -> None:
    with pytest.raises(NotAnalysable, match="no T2, T1 or STIR"):
        pipeline().analyse({})


def test_the_threshold_of_malignancy_is_a_setting(study: dict[Role, Volume]) -> None:
    strict = MriStudyPipeline(
        MriPipeline(*knowing_bundles()), classifier(), MriStudySettings(malignant_threshold=0.99)
    )
    found = of(strict.analyse(study), Level.L3)
    assert found.malignant is False
    assert found.malignancy == pytest.approx(0.95, abs=0.01)


def test_from_where_on_signal_stands_out_is_a_setting(study: dict[Role, Volume]) -> None:
    settings = settings_from({"results": {"signal_t1": [0.0, 1.6], "signal_t2": [0.0, math.inf]}}).results
    limits = SignalLimits(settings.signal_t1, settings.signal_t2, settings.signal_stir)
    lenient = MriStudyPipeline(MriPipeline(*knowing_bundles()), classifier(), MriStudySettings(signal=limits))
    found = lenient.analyse(study)
    assert of(found, Level.L3).abnormal == ()
    assert of(found, Level.L1).abnormal[0].startswith("height loss")


@pytest.mark.parametrize("wrong", [[1.6, 0.7], [-0.1, 2.0], [0.7], [math.nan, 1.0], "dark"])
def test_bounds_that_are_none_are_named(wrong: object) -> None:
    with pytest.raises(ConfigurationError, match="signal_t1"):
        settings_from({"results": {"signal_t1": wrong}})


def test_few_voxels_tell_nothing() -> None:
    labels = np.zeros((3, 20, 20), np.uint8)
    labels[1, 5:8, 5:8] = verse_label(Level.L2)
    told = body_signals(
        np.ones((3, 20, 20)), np.ones((3, 20, 20), bool), LabelMap(labels, np.eye(4)), {}, across=0, role="t1"
    )
    assert told == {}
    assert ratios(told) == {}
