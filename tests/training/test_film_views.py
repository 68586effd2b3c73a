"""Films of all views: what the view network learns from, and how it is told which way is up."""

from __future__ import annotations

import numpy as np
import torch

from dicom_ai_node.training.film_classify import FilmViewOptions, FilmViewTask
from dicom_ai_node.training.film_views import PIXELS, view_film
from dicom_ai_node.training.films import VIEWS, Film


def test_views_go_in_turn_with_the_seed_and_repeat() -> None:
    film = view_film(1)
    again = view_film(1)
    assert film.view == "frontal-spine"
    assert np.array_equal(film.pixels, again.pixels)
    assert film.pixels.size <= 1.05 * PIXELS
    assert view_film(2).view == "chest"
    assert view_film(3).view == "other"


def test_films_that_lie_on_their_side_are_others() -> None:
    pixels = np.zeros((64, 32), dtype=np.float32)
    pixels[:32] = 1.0
    film = Film("half", pixels, None, (), "lateral-spine")
    task = FilmViewTask([film], [], FilmViewOptions(size=(32, 32), turned=1.0, degrees=0.0, batch=12))
    batch = task.draw(torch.Generator().manual_seed(0))
    assert set(batch["target"].tolist()) == {VIEWS.index("other")}
    never = FilmViewTask([film], [], FilmViewOptions(size=(32, 32), turned=0.0, batch=12))
    assert set(never.draw(torch.Generator().manual_seed(0))["target"].tolist()) == {0}
