"""A body is measured only where it is known how far it reaches."""

from __future__ import annotations

import numpy as np
import pytest

from dicom_ai_node.anatomy import Level
from dicom_ai_node.inference.film import OutlinedBody, SeenVertebra
from dicom_ai_node.networks.film_geometry import FittedMask, Frame, fitting
from dicom_ai_node.pipelines.film_chain import FilmBody
from dicom_ai_node.pipelines.film_reasons import why_not_measured
from dicom_ai_node.pipelines.labelling import NamedCentre

FILM = (500, 300)
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
    ("seen", "outlined", "used"), [(140.0, 140.0, True), (150.0, 135.0, True), (166.0, 134.0, False)]
)
def test_a_body_that_the_networks_see_in_different_places_is_not_measured(
    seen: float, outlined: float, used: bool
) -> None:
    reason = why_not_measured(body(seen, outlined), POINTS, 0.01, FILM)
    assert (reason is None) == used
    if reason is not None:
        assert reason.code == "model-refused"
        assert "52%" in reason.text
