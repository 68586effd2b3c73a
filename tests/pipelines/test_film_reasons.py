"""A body is measured only where it is known how far it reaches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.imaging.film_field import ExposedField
from dicom_ai_node.inference.film import OutlinedBody, SeenVertebra
from dicom_ai_node.networks.film_geometry import FittedMask, Frame, fitting
from dicom_ai_node.pipelines.film_chain import FilmBody
from dicom_ai_node.pipelines.film_reasons import hardly_seen, why_not_measured
from dicom_ai_node.pipelines.labelling import NamedCentre

FILM = (500, 300)
FIELD = ExposedField(FILM)
POINTS = np.array([[100, 100], [140, 100], [102, 130], [138, 130], [100, 160], [140, 160]], dtype=np.float64)


def body(last_row_seen: float, last_row_outlined: float) -> FilmBody:
    """A body of two networks that agree on all but where it ends."""
    seen, outlined = (np.array([100.0, 100.0, row, 160.0]) for row in (last_row_seen, last_row_outlined))
    return FilmBody(
        NamedCentre(Level.L3, np.zeros(3), 1.0, {}),
        (seen + outlined) / 2,
        SeenVertebra(seen, 1.0, {Level.L3: 1.0}, 0.1),
        OutlinedBody(
            outlined, 1.0, FittedMask(np.zeros((2, 2), dtype=np.float32), Frame(*fitting(FILM, (2, 2))))
        ),
    )


@pytest.mark.parametrize(
    ("seen", "outlined", "spread", "used"),
    [
        (140.0, 140.0, 0.05, True),
        (150.0, 135.0, 0.05, True),
        (166.0, 134.0, 0.05, False),
        # Three looks that agree as closely have understood it.
        (166.0, 134.0, 0.01, True),
    ],
)
def test_a_body_that_the_networks_see_in_different_places_is_measured_only_where_its_looks_agree_closely(
    seen: float, outlined: float, spread: float, used: bool
) -> None:
    reason = why_not_measured(body(seen, outlined), POINTS, spread, FIELD)
    assert (reason is None) == used
    if reason is not None:
        assert reason.code == "model-refused"
        assert "52%" in reason.text


@pytest.mark.parametrize(("spread", "used"), [(0.05, False), (0.01, True)])
def test_a_body_that_one_network_overlooked_is_measured_only_where_its_looks_agree_closely(
    spread: float, used: bool
) -> None:
    alone = replace(body(140.0, 140.0), seen=None)
    reason = why_not_measured(alone, POINTS, spread, FIELD, overlooked=True)
    assert (reason is None) == used
    if reason is not None:
        assert "only one of the two networks" in reason.text


def under_a_blade(rows: int) -> ExposedField:
    """A film of which the first rows are black."""
    pixels = np.full(FILM, 0.5, dtype=np.float32)
    pixels[:rows] = 0.0
    return ExposedField.of(pixels)


@pytest.mark.parametrize(("rows", "cut"), [(0, False), (98, False), (110, True)])
def test_a_body_under_a_blade_of_the_collimator_is_cut_off(rows: int, cut: bool) -> None:
    reason = why_not_measured(body(140.0, 140.0), POINTS, 0.01, under_a_blade(rows))
    assert (reason is not None) == cut
    if reason is not None:
        assert reason.code == "coverage"
        assert reason.text == "L3 is cut off by the edge of the exposed field."


def test_a_body_that_ends_with_the_film_is_cut_off_by_the_film() -> None:
    reason = why_not_measured(body(140.0, 140.0), POINTS, 0.01, ExposedField((141, 300)))
    assert reason is not None
    assert reason.text == "L3 is cut off by the edge of the film."


@pytest.mark.parametrize(("rows", "hidden"), [(110, False), (130, True)])
def test_a_body_most_of_which_a_blade_hides_is_not_reported(rows: int, hidden: bool) -> None:
    assert hardly_seen(body(140.0, 140.0), under_a_blade(rows)) == hidden
