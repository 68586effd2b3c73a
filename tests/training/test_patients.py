"""No patient is both learned from and judged."""

from __future__ import annotations

import pytest

from dicom_ai_node.training.patients import split_by_patient

FILMS = [(f"film {number}", f"patient {number // 2}") for number in range(20)]


def owner(film: tuple[str, str]) -> str:
    """Whose film it is."""
    return film[1]


@pytest.mark.parametrize(("held_out", "one_in", "patients"), [(5, 5, 2), (5, 3, 3), (1, 3, 1), (5, 50, 1)])
def test_the_first_patients_are_held_out_with_all_they_have(
    held_out: int, one_in: int, patients: int
) -> None:
    training, kept = split_by_patient(FILMS, owner, held_out, one_in=one_in)
    assert kept == FILMS[: 2 * patients]
    assert training == FILMS[2 * patients :]


def test_patients_are_never_parted_however_their_films_lie() -> None:
    mixed = FILMS[::2] + FILMS[1::2]
    training, kept = split_by_patient(mixed, owner, 5)
    assert not set(map(owner, training)) & set(map(owner, kept))
    assert sorted(training + kept) == sorted(FILMS)
