"""Label maps as other tools read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dicom_ai_node.imaging.nifti import write_label_map
from dicom_ai_node.imaging.write_ct import from_nifti_axes

NIBABEL: Any = nibabel


@pytest.mark.parametrize("seed", range(4))
def test_an_oblique_label_map_comes_back_at_its_place(tmp_path: Path, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 29, (4, 5, 6)).astype(np.uint8)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() * [2.5, 0.7, 0.9]
    affine[:3, seed % 3] *= -1
    affine[:3, 3] = [-30, 12, 400]
    path = tmp_path / "labels.nii.gz"
    write_label_map(path, labels, affine)
    image = NIBABEL.load(path)
    voxels, found = from_nifti_axes(np.asarray(image.dataobj), image.affine)
    np.testing.assert_array_equal(voxels, labels)
    np.testing.assert_allclose(found, affine, atol=1e-4)


def test_a_sheared_grid_is_refused(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 0] = 0.3
    with pytest.raises(ValueError, match="right angles"):
        write_label_map(tmp_path / "labels.nii.gz", np.zeros((2, 2, 2), np.uint8), affine)
