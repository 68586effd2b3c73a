"""CT headers as odd as real ones: valid, different from site to site, and read back to the same values."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_ai_node.imaging.ct_habits import CtKind, CtSettings, ct_header, sample_ct_site
from dicom_ai_node.imaging.habits import ALPHABETS, sample_language
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.imaging.write_ct import CtHeader, write_ct_series, write_enhanced_ct
from tests.imaging.conftest import AXIAL, numbered_voxels

ANGLE = np.radians(18.0)
TILTED = AXIAL @ np.array([[1, 0, 0, 0], [0, np.cos(ANGLE), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]) + np.array(
    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0.7 * np.sin(ANGLE), 0, 0], [0, 0, 0, 0]]
)
"""The posterior edge of the slices stands higher; the table moves along z."""
SAGITTAL = np.array([[3.0, 0, 0, -20], [0, 0, 0.8, -60], [0, -0.8, 0, 90], [0, 0, 0, 1]])
CORONAL = np.array([[0, 0, 0.8, -50], [3.0, 0, 0, -60], [0, -0.8, 0, 90], [0, 0, 0, 1]])
TURNED = np.array([[0.8, 0, -0.6], [0, 1, 0], [0.6, 0, 0.8]])
OBLIQUE = np.block([[TURNED @ SAGITTAL[:3, :3], SAGITTAL[:3, 3:]], [np.zeros((1, 3)), np.ones((1, 1))]])
PLANES: dict[CtKind, np.ndarray] = {
    "axial": AXIAL,
    "sagittal": SAGITTAL,
    "coronal": CORONAL,
    "oblique": OBLIQUE,
    "scout": CORONAL,
}


def written(folder: Path, seed: int, kind: CtKind, affine: np.ndarray) -> tuple[list[Path], np.ndarray]:
    """One series as the site of a seed writes it; the array that it should hold."""
    shape = (1, 40, 36) if kind == "scout" else (3, 32, 34)
    voxels = numbered_voxels(shape)
    padded = kind == "axial" and seed % 3 == 0
    if padded:
        voxels[:, 0, 0] = -2000
    site = sample_ct_site(seed)
    settings = CtSettings(kind, 2.0, 120.0, bool(seed % 2), int(voxels.min()), padded)
    header = ct_header(seed, site, settings, number=2)
    if site.enhanced and kind != "scout":
        return [write_enhanced_ct(voxels, affine, folder, seed=seed, header=header)], voxels
    return write_ct_series(voxels, affine, folder, seed=seed, header=header), voxels


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("kind", list(PLANES))
def test_dciodvfy_finds_no_error_in_what_any_site_writes(tmp_path: Path, kind: CtKind) -> None:
    for seed in range(16):
        affine = TILTED if kind == "axial" and seed % 4 == 1 else PLANES[kind]
        path = written(tmp_path / f"{kind}-{seed}", seed, kind, affine)[0][0]
        verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in verdict.stderr, (seed, sample_ct_site(seed), verdict.stderr)


@pytest.mark.parametrize("seed", range(12))
def test_values_and_places_are_read_back(tmp_path: Path, seed: int) -> None:
    affine = (TILTED, SAGITTAL, OBLIQUE)[seed % 3]
    kind: CtKind = "axial" if affine is TILTED else "sagittal"
    paths, voxels = written(tmp_path, seed, kind, affine)
    volume = load_volume(paths)
    # Slices come back in ascending order along their normal.
    own, order = affine, slice(None)
    if affine[:3, 0] @ np.cross(affine[:3, 2], affine[:3, 1]) < 0:
        own, order = affine.copy(), slice(None, None, -1)
        own[:3, 3] += own[:3, 0] * (len(voxels) - 1)
        own[:3, 0] *= -1
    np.testing.assert_allclose(volume.affine, own, atol=1e-6)
    inside = voxels[order] > -1500
    np.testing.assert_array_equal(volume.voxels[inside], voxels[order][inside])


def test_sites_differ_as_real_ones_do() -> None:
    sites = [sample_ct_site(seed) for seed in range(300)]
    share = {syntax: np.mean([s.transfer_syntax == syntax for s in sites]) for syntax in
             (JPEGLSLossless, JPEG2000Lossless, RLELossless)}  # fmt: skip
    assert all(0.02 < value < 0.2 for value in share.values())
    assert {s.make for s in sites} == {"siemens", "ge", "philips", "canon"}
    assert {s.language for s in sites} == set(ALPHABETS)
    assert 0.05 < np.mean([s.enhanced for s in sites]) < 0.3
    assert any(s.body_part is None for s in sites)
    assert any(s.omit for s in sites)
    assert any(not s.omit for s in sites)


@pytest.mark.parametrize("language", list(ALPHABETS))
def test_names_in_every_alphabet_are_read_back(tmp_path: Path, language: str) -> None:
    seed = next(k for k in range(400) if sample_language(k) == language)
    site = replace(sample_ct_site(seed), enhanced=False, omit=())
    settings = CtSettings("axial", 2.0, 120.0, True, -1024)
    header = ct_header(seed, site, settings, number=2)
    one = pydicom.dcmread(write_ct_series(numbered_voxels((1, 32, 33)), AXIAL, tmp_path, header=header)[0])
    assert str(one.PatientName) == ALPHABETS[language].patient_name
    assert one.StudyDescription == header.study_description
    assert one.SeriesDescription == header.series_description.strip()


@pytest.mark.parametrize(
    ("position", "degrees"), [("HFS", 18.0), ("FFS", -18.0), ("HFP", -18.0), ("FFP", 18.0)]
)
def test_tilt_is_negative_where_the_gantrys_top_leans_away_from_the_table(
    tmp_path: Path, position: str, degrees: float
) -> None:
    header = CtHeader(patient_position=position)
    one = pydicom.dcmread(write_ct_series(numbered_voxels(), TILTED, tmp_path, header=header)[0])
    assert float(one.GantryDetectorTilt) == pytest.approx(degrees, abs=0.01)


def test_slice_location_runs_along_the_table_or_along_the_normal(tmp_path: Path) -> None:
    def steps(name: str, affine: np.ndarray) -> np.ndarray:
        paths = write_ct_series(numbered_voxels(), affine, tmp_path / name)
        return np.diff([float(pydicom.dcmread(path).SliceLocation) for path in paths])

    np.testing.assert_allclose(steps("tilted", TILTED), 1.25)
    np.testing.assert_allclose(np.abs(steps("sagittal", SAGITTAL)), 3.0)
    np.testing.assert_allclose(np.abs(steps("oblique", OBLIQUE)), 3.0)
