"""`evaluate ct-volume` on a folder in VerSe's layout: what its labels tell is measured, the rest is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dicom_ai_node.anatomy import LEVELS, Level, verse_label
from dicom_ai_node.cli import app
from dicom_ai_node.commands import evaluate_ct_volume
from dicom_ai_node.commands.ct_volume_answers import answer_beside, volume_of_voxels
from dicom_ai_node.commands.verse_cases import labelled_scans
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.report import Analysis, HeightsMm, LabelMap, Source, SpineReport, Vertebra
from tests.commands.test_verse_cases import STEP_MM, write_case

SHIFT = 2
"""Voxels by which the pipeline below draws every body too high."""


class _Pipeline:
    """Finds what is bright, knows where it is by the truth of the folder, calls L1 broken."""

    levels = LEVELS

    def __init__(self, folder: Path) -> None:
        (self.scan,) = labelled_scans(folder)

    def analyse(self, volume: Volume) -> Analysis:
        assert (volume.voxels[self.scan.labels > 0] > 150).all()
        assert volume.affine[2, 0] > 0
        vertebrae = []
        for entry in self.scan.vertebrae:
            level = Level(entry["level"])
            x, y, z = entry["center_mm"]
            broken = level is Level.L1
            vertebrae.append(
                Vertebra(
                    level=level, level_confidence=1.0, center_mm=(x, y, z + SHIFT * STEP_MM),
                    status="analysed", heights_mm=HeightsMm(20.0, 20.0, 20.0, 20.0), height_loss=0.3 * broken,
                    genant_grade=2 * broken, deformity="wedge" if broken else "none", fractured=broken,
                    fracture_probability=float(broken),
                )
            )  # fmt: skip
        report = SpineReport(
            status="analysed", source=Source("1.2", ("1.3",), "CT", "1.4"), vertebrae=tuple(vertebrae)
        )
        return Analysis(report, LabelMap(np.roll(self.scan.labels, SHIFT, axis=0), volume.affine))


def _evaluated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, float], list[str], str]:
    monkeypatch.setattr(evaluate_ct_volume.CtVolumePipeline, "load", lambda *_: _Pipeline(folder))
    out = folder.parent / "out.json"
    arguments = ["evaluate", "ct-volume", "--bundle", str(folder), "--data", str(folder), "--json", str(out)]
    said = CliRunner().invoke(app, [*arguments, "--plots", str(folder.parent / "plots")])
    assert said.exit_code == 0, said.output
    found = json.loads(out.read_text(), parse_constant=pytest.fail)
    assert set(found["intervals"]) == set(found["metrics"])
    (scan,) = labelled_scans(folder)
    drawn = {path.name for path in (folder.parent / "plots").iterdir()}
    assert drawn == {"ct-volume.png", f"{scan.name}.png"}
    return found["metrics"], found["untold"], said.output


def test_places_and_outlines_are_measured_and_what_is_untold_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "verse"
    write_case(folder)
    told, untold, said = _evaluated(folder, monkeypatch)
    assert told["identified"] == 1.0
    assert told["centre_error_mm"] == pytest.approx(SHIFT * STEP_MM)
    # Bodies are 19 voxels high.
    assert told["dice"] == pytest.approx(1 - SHIFT / 19, abs=0.02)
    assert told["mssd_mm"] == pytest.approx(SHIFT * STEP_MM, abs=0.1)
    for name in (
        "height_error_mm",
        "grade_right",
        "fracture_found",
        "false_positives_per_patient",
        "fracture_auc",
    ):
        assert told.get(name) is None
        assert name in untold
    assert "Localisation (P3 table 4)" in said
    assert "the labels do not tell" in said
    assert "error of a height, mm" in said.partition("the labels do not tell")[2]


def test_a_table_of_grades_lets_fractures_be_measured_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "verse"
    write_case(folder)
    (folder / "fractures.csv").write_text("name,level,grade\nsub-a,L1,2\n")
    told, untold, _ = _evaluated(folder, monkeypatch)
    assert told["fracture_found"] == told["sensitivity_grade_2"] == told["grade_right"] == 1.0
    assert (told["false_alarm"], told["false_positives_per_patient"]) == (0.0, 0.0)
    assert told["grade_kappa"] == told["fracture_auc"] == 1.0
    assert untold == ["height_error_mm", "grade_kappa_worst_plane", "type_right"]
    assert all(told.get(name) is None for name in untold)


def test_a_body_at_the_edge_of_the_scan_is_not_judged(tmp_path: Path) -> None:
    write_case(tmp_path)
    (scan,) = labelled_scans(tmp_path)
    assert [item["level"] for item in scan.vertebrae] == ["T12", "L1", "L2"]
    corners = np.array([item["extent_mm"] for item in scan.vertebrae])
    for level, (low, high) in zip((Level.T12, Level.L1, Level.L2), corners, strict=True):
        index = np.argwhere(scan.labels == verse_label(level))
        first, last = (scan.affine[:3, :3] @ index[n] + scan.affine[:3, 3] for n in (0, -1))
        assert low[2] == pytest.approx(first[2])
        assert high[2] == pytest.approx(last[2])
    # Of a scan that ends in the middle of L1 only T12 is judged: L1 was not seen whole, L2 not at all.
    low, high = (int(edge) for edge in (36, len(scan.hu)))
    affine = scan.affine.copy()
    affine[:3, 3] += affine[:3, 0] * low
    labels = scan.labels[low:high].copy()
    report = SpineReport(status="analysed", source=Source("1.2", ("1.3",), "CT", "1.4"), vertebrae=())
    analysis = Analysis(report, LabelMap(np.zeros_like(labels), affine))
    volume = volume_of_voxels(scan.hu[low:high], affine)
    values = answer_beside(analysis, LEVELS, scan.vertebrae, labels, volume).values
    assert values["identified"] == [0.0]


def test_a_folder_without_cases_is_wrong_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_ct_volume.CtVolumePipeline, "load", lambda *_: None)
    arguments = ["evaluate", "ct-volume", "--bundle", str(tmp_path), "--data", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 2
