"""Films of real CT: the lengths that rays pass through known blocks of water and bone."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.phantom.radiograph_cone import Cone
from dicom_ai_node.phantom.radiograph_volume import thickness_of_volume


def cone(rows: int = 21, columns: int = 31, pixel: float = 4.0) -> Cone:
    return Cone(
        source=np.array([-900.0, 0.0, 0.0]),
        normal=np.array([1.0, 0.0, 0.0]),
        across=np.array([0.0, 1.0, 0.0]),
        down=np.array([0.0, 0.0, -1.0]),
        distance=1100.0,
        origin=((columns - 1) / 2, (rows - 1) / 2),
        pixel=pixel,
        matrix=(rows, columns),
    )


def volume() -> tuple[np.ndarray, np.ndarray]:
    """Water 120 mm thick from left to right, and in it, to the back, a block of 1000 HU, 40 mm thick."""
    hu = np.full((40, 60, 80), -1000, dtype=np.int16)
    hu[:, 10:50, 10:70] = 0
    hu[:, 30:50, 30:50] = 1000
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = 2.0, 2.0, 2.0
    affine[:3, 3] = [-79.0, -59.0, -39.0]
    affine[3, 3] = 1.0
    return hu, affine


def test_rays_pass_through_as_much_water_and_mineral_as_there_is() -> None:
    passed = thickness_of_volume(*volume(), cone(), step_mm=0.5)
    row, middle = 10, 15
    # Left of the middle (front of the patient) there is water alone.
    water, mineral = passed.water[row, middle - 4], passed.mineral[row, middle - 4]
    assert float(water) == pytest.approx(12.0, rel=0.01)
    assert float(mineral) == pytest.approx(0.0, abs=0.01)
    # Right of it 40 mm of it are bone: 0.8 g/cm3 of mineral.
    behind = passed.mineral[row, middle + 4]
    assert float(behind) == pytest.approx(0.8 * 4.0, rel=0.03)
    assert float(passed.water[row, middle + 4]) < 12.0


def test_beside_the_volume_there_is_nothing() -> None:
    passed = thickness_of_volume(*volume(), cone(columns=61), step_mm=1.0)
    assert float(passed.water[10, 0]) == 0.0
    assert float(passed.mineral[10, -1]) == 0.0
