"""`bench mri` measures a study of the size that is told, of the same place as the phantom's scanner chose."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.commands.bench_mri import KINDS, SEED, SHAPE, of_shape
from dicom_ai_node.phantom.mr import render_mr
from dicom_ai_node.phantom.mr_study import sample_mr_study
from dicom_ai_node.phantom.spine import sample_spine


def test_every_series_has_the_shape_that_is_told_and_shows_the_same_place() -> None:
    spine = sample_spine(SEED)
    study = [one for one in sample_mr_study(SEED, spine, region="lumbar") if one.series in KINDS]
    assert len(study) == 3
    for one in study:
        bench = of_shape(one, SHAPE)
        assert bench.shape == (15, 512, 512)
        middles = [item.affine @ [*((np.array(item.shape) - 1) / 2), 1.0] for item in (one, bench)]
        np.testing.assert_allclose(middles[0], middles[1], atol=1e-9)
        sizes = [np.linalg.norm(item.affine[:3, 1:3], axis=0) * item.shape[1:] for item in (one, bench)]
        np.testing.assert_allclose(sizes[0], sizes[1])
        np.testing.assert_allclose(bench.affine[:3, 0], one.affine[:3, 0])
    small = of_shape(study[0], (2, 320, 320))
    assert render_mr(spine, small).pixels.shape == (2, 320, 320)
