"""What is written is a valid CT series, the same every time, and holds what was given."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest

from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.imaging.write_ct import CtHeader, from_nifti_axes, write_ct_series
from tests.imaging.conftest import AXIAL, numbered_voxels

NIBABEL: Any = nibabel
WriteSeries = Callable[..., list[Path]]

TILTED = AXIAL + np.array([[0, 0, 0, 0], [0.3, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
OBLIQUE = np.array(
    [[0.0, 0, 0.7, -50], [1.25 * 0.6, 0.7 * 0.8, 0, -60], [1.25 * 0.8, -0.7 * 0.6, 0, 0], [0, 0, 0, 1]]
)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not installed")
@pytest.mark.parametrize("affine", [AXIAL, TILTED, OBLIQUE], ids=["axial", "tilted", "oblique"])
@pytest.mark.parametrize("how", [{}, {"bits_stored": 12, "signed": False}, {"pixel_padding_value": -2000}])
def test_dciodvfy_finds_neither_error_nor_warning(
    write_series: WriteSeries, affine: np.ndarray, how: dict[str, object]
) -> None:
    for path in write_series(numbered_voxels(), affine, **how)[::4]:
        verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert verdict.returncode == 0
        assert verdict.stderr.split() == ["CTImage"]


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    first = write_ct_series(numbered_voxels(), AXIAL, tmp_path / "a", seed=7)
    second = write_ct_series(numbered_voxels(), AXIAL, tmp_path / "b", seed=7)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_seed_gives_the_patient_and_content_the_series(tmp_path: Path) -> None:
    def identity(name: str, offset: int, seed: int) -> tuple[str, str, str, str]:
        path = write_ct_series(numbered_voxels() + offset, AXIAL, tmp_path / name, seed=seed)[0]
        one = pydicom.dcmread(path)
        return one.PatientID, one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID

    base, other_pixels, other_seed = identity("a", 0, 1), identity("b", 1, 1), identity("c", 0, 2)
    assert base[:2] == other_pixels[:2]
    assert not set(base[2:]) & set(other_pixels[2:])
    assert not set(base) & set(other_seed)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in base[1:])


def test_odd_headers_can_be_asked_for(write_series: WriteSeries) -> None:
    path = write_series(numbered_voxels(), body_part_examined="BREAST", omit=("SliceLocation", "KVP"))[0]
    one = pydicom.dcmread(path)
    assert one.BodyPartExamined == "BREAST"
    assert "KVP" not in one
    assert "SliceLocation" not in one


def test_nifti_arrays_become_the_same_points_in_space(tmp_path: Path) -> None:
    array = numbered_voxels((5, 6, 7))
    ras = np.array([[-0.8, 0, 0, 40], [0, -0.9, 0, 30], [0, 0, 2.5, -200], [0, 0, 0, 1]])
    image = NIBABEL.Nifti1Image(array, ras)
    voxels, affine = from_nifti_axes(np.asarray(image.dataobj), image.affine)
    volume = load_volume(write_ct_series(voxels, affine, tmp_path))
    i, j, k = 4, 2, 6
    x, y, z = NIBABEL.affines.apply_affine(image.affine, [i, j, k])
    index = np.rint(np.linalg.inv(volume.affine) @ [-x, -y, z, 1])[:3].astype(int)
    assert volume.voxels[tuple(index)] == array[i, j, k]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    skewed = AXIAL.copy()
    skewed[0, 1] = 0.3
    with pytest.raises(ValueError, match="right angles"):
        write_ct_series(numbered_voxels(), skewed, tmp_path)
    with pytest.raises(ValueError, match="do not fit into 12 unsigned bits"):
        write_ct_series(
            numbered_voxels() + 4000, AXIAL, tmp_path, header=CtHeader(bits_stored=12, signed=False)
        )
    assert list(tmp_path.iterdir()) == []
