"""The exposed part of a film is told from the shadow of the blades, and not from lungs or air."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dicom_ai_node.imaging.film_field import ExposedField

ROWS, COLUMNS = 1200, 800
MIDDLE = np.array([(ROWS - 1) / 2, (COLUMNS - 1) / 2])


@pytest.fixture
def film() -> npt.NDArray[np.float32]:
    """Tissue from edge to edge."""
    return np.random.default_rng(0).uniform(0.2, 0.8, (ROWS, COLUMNS)).astype(np.float32)


def whole() -> npt.NDArray[np.float64]:
    return np.array([0.0, 0.0, ROWS - 1, COLUMNS - 1])


def test_a_film_without_blades_is_exposed_to_its_edges(film: npt.NDArray[np.float32]) -> None:
    assert np.array_equal(ExposedField.of(film).about(MIDDLE), whole())


@pytest.mark.parametrize("shade", [0.0, 1.0])
@pytest.mark.parametrize("degrees", [0.0, 2.0, -3.0])
def test_blades_end_the_field_where_they_are(
    film: npt.NDArray[np.float32], shade: float, degrees: float
) -> None:
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    slope = np.tan(np.radians(degrees))
    first, last = 90 + slope * (columns - MIDDLE[1]), 1100 + slope * (columns - MIDDLE[1])
    film[(rows < first) | (rows > last)] = shade
    field = ExposedField.of(film)
    for column in (100.0, 400.0, 700.0):
        found = field.about(np.array([600.0, column]))
        turned = slope * (column - MIDDLE[1])
        assert found == pytest.approx([90 + turned, 0, 1100 + turned, COLUMNS - 1], abs=4)


def test_blades_at_both_sides_are_found_beside_a_marker(film: npt.NDArray[np.float32]) -> None:
    film[:, :70], film[:, -120:] = 0.0, 0.0
    film[200:260, 10:60] = 1.0
    assert ExposedField.of(film).about(MIDDLE) == pytest.approx([0, 70, ROWS - 1, COLUMNS - 121], abs=4)


def test_a_black_lung_at_the_edge_is_exposed(film: npt.NDArray[np.float32]) -> None:
    rows, columns = np.mgrid[:ROWS, :COLUMNS]
    film[((rows / 500) ** 2 + ((columns - 350) / 300) ** 2) < 1] = 0.0
    assert np.array_equal(ExposedField.of(film).about(MIDDLE), whole())


def test_air_behind_the_patient_does_not_hide_the_blade_below(film: npt.NDArray[np.float32]) -> None:
    film[:, 560:] = 0.0
    film[1000:] = 0.0
    assert ExposedField.of(film).about(MIDDLE)[2] == pytest.approx(999, abs=4)


def test_a_film_of_one_value_has_no_blades() -> None:
    assert np.array_equal(ExposedField.of(np.zeros((ROWS, COLUMNS), np.float32)).about(MIDDLE), whole())
