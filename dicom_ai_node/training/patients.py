"""Whose an example is: what is learned from and what is judged must not share a patient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Example = TypeVar("Example")


def split_by_patient(
    examples: Sequence[Example], patient: Callable[[Example], str], held_out: int, *, one_in: int = 5
) -> tuple[list[Example], list[Example]]:
    """(training, held out): those of the first patients are held out.

    Args:
        examples: of all patients.
        patient: tells whose an example is.
        held_out: so many patients at most.
        one_in: and at most one in so many, but one at least.
    """
    everyone = list(dict.fromkeys(patient(example) for example in examples))
    chosen = set(everyone[: min(held_out, max(1, len(everyone) // one_in))])
    return (
        [example for example in examples if patient(example) not in chosen],
        [example for example in examples if patient(example) in chosen],
    )
