"""Films of people with many fractures, for the classifier of their age."""

from __future__ import annotations

import numpy as np

from dicom_ai_node.training.film_classify import FilmAcuityOptions, FilmAcuityTask
from dicom_ai_node.training.film_fractures import fractures_film
from dicom_ai_node.training.films import ACUITIES


def test_films_show_many_fractures_of_known_age_and_repeat() -> None:
    film = fractures_film(1004, max_pixels=60_000)
    broken = [item for item in film.vertebrae if item.fractured]
    assert len(broken) >= 4
    assert all(item.acuity in ACUITIES and item.grade for item in broken)
    assert np.array_equal(film.pixels, fractures_film(1004, max_pixels=60_000).pixels)


def test_only_fractures_that_are_in_the_field_are_taught() -> None:
    film = fractures_film(1002, max_pixels=60_000)
    task = FilmAcuityTask([film], [], FilmAcuityOptions())
    taught = [item for pairs in task.pairs for _, item in pairs]
    cut = [item for item in film.vertebrae if item.fractured and item.visible < 0.8]
    assert cut
    assert taught
    assert all(item.fractured and item.visible >= 0.8 for item in taught)


def test_fractures_that_leave_no_sound_neighbours_are_as_many_as_do() -> None:
    film = fractures_film(5309, max_pixels=60_000)
    assert 1 <= sum(item.fractured for item in film.vertebrae) < 6
