"""Real files: what SimpleITK (GDCM) reads from the same series, and every transfer syntax at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from dicom_ai_node.imaging.volume import load_volume

SITK: Any = SimpleITK


def test_the_real_series_has_the_geometry_and_values_that_simpleitk_reads(shared_data: Path) -> None:
    folder = shared_data / "ct" / "acrin-flt-breast-lumbar"
    volume = load_volume(sorted(folder.iterdir()))
    reader = SITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    theirs = SITK.GetArrayFromImage(image)
    # The scanner's padding, which SimpleITK rescales like a pixel, is air here.
    np.testing.assert_array_equal(volume.voxels, np.where(theirs == -3024, -1024, theirs))
    assert (theirs == -3024).any()
    for index in [(0, 0, 0), (511, 0, 3), (17, 400, 98)]:
        point = volume.affine @ [index[2], index[1], index[0], 1]
        np.testing.assert_allclose(point[:3], image.TransformIndexToPhysicalPoint(index), atol=1e-3)
    assert volume.modality == "CT"
    assert volume.notes == ()
    assert len({item.sop_instance_uid for item in volume.instances}) == 99
