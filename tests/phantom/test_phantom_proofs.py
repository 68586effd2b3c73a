"""The proofs of the phantom, in small: truth measured again, surfaces laid on real ones, curves compared."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom import SpineOptions, sample_spine
from dicom_ai_node.phantom.column import levels_of_spine, sample_steps
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.report import Deformity

# The proofs live beside the package, in conformance/; `pytest` alone does not look there.
sys.path.insert(0, str(Path(__file__).parents[2]))

from conformance.phantom import MODULES, PartMissing, curves, drawing, surfaces, truth_checks


@pytest.mark.parametrize(
    ("seed", "age", "level", "fracture"),
    [
        (2, 45.0, Level.T9, ("none", 0)),
        (11, 69.0, Level.T11, ("biconcave", 3)),
        (12, 72.0, Level.T8, ("crush", 1)),
    ],
)
def test_heights_and_volumes_of_a_half_millimetre_label_map_are_those_of_the_truth(
    seed: int, age: float, level: Level, fracture: tuple[Deformity, int]
) -> None:
    result = truth_checks.measure(seed, age, level, fracture)
    assert np.abs(result.height_errors).max() < 0.3
    assert result.body_label_mm3 == pytest.approx(result.body_shape_mm3, rel=0.01)


def test_a_surface_is_found_again_where_it_was_put() -> None:
    spine = sample_spine(3, fractures={}, options=SpineOptions(supernumerary="none"))
    mine = surfaces.phantom_points(spine[Level.L3], whole=True)
    turn = np.array([[1, 0, 0], [0, 0.94, -0.34], [0, 0.34, 0.94]])
    turn, _ = np.linalg.qr(turn)
    turn *= np.sign(np.diag(turn))
    put = 1.1 * mine @ turn.T + np.array([5.0, -30.0, 80.0])
    move = surfaces.aligned(put, mine)
    assert move.scale == pytest.approx(1 / 1.1, abs=0.01)
    assert surfaces.apart(move(put), mine).mean() < 0.35
    assert surfaces.apart(mine + np.array([3.0, 0.0, 0.0]), mine).mean() > 0.8


def test_vertebrae_have_the_shape_of_real_ones(shared_data: Path) -> None:
    real = surfaces.read_morphable(shared_data / "shape" / "morphable-lumbar")
    assert list(real) == [Level.L2, Level.L3, Level.L4, Level.L5]
    spine = sample_spine(0, fractures={}, options=SpineOptions(age=45.0, supernumerary="none"))
    result = surfaces.compare(spine[Level.L2], real[Level.L2], whole=True)
    assert result.distances.mean() < 1.6
    assert 0.85 < result.move.scale < 1.15


def test_spacing_is_that_of_real_spines(shared_data: Path) -> None:
    real = curves.real_centers(shared_data / "shape" / "vid" / "keypoints.json.gz")
    levels = levels_of_spine(None)
    drawn = np.array([sample_steps(levels, stream(seed, "steps")).spacing for seed in range(400)])
    for name in ("T6-T7", "T12-L1", "L2-L3", "L4-L5"):
        theirs = [x for spine in real if (x := curves.SPACINGS[name](spine)) is not None]
        ours = drawn[:, levels.index(Level(name.split("-")[0]))]
        told = curves.compared(theirs, ours.tolist())
        apart = np.subtract(told["real_quantiles"], told["phantom_quantiles"])
        assert np.abs(apart).max() < 1.2, (name, apart)
        assert told["kolmogorov_smirnov"] < 0.2


def test_every_part_has_a_name_and_a_missing_one_says_so() -> None:
    assert set(MODULES) == {"curves", "surfaces", "ct", "radiographs", "mr", "truth"}
    with pytest.raises(PartMissing, match="nothing"):
        drawing("nothing")
