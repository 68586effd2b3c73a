"""What a detector did not see, and what a network says of a film's bodies beside those plainly sound."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.inference.film import OutlinedBody, SeenVertebra
from dicom_ai_node.networks.film_classes import EVERY_VERTEBRA, PUBLISHED_CLASSES, DetectClass
from dicom_ai_node.networks.film_geometry import FittedMask, Frame
from dicom_ai_node.pipelines.film_chain import FilmBody
from dicom_ai_node.pipelines.film_opinions import DetectorKnowledge, held_against_sound
from dicom_ai_node.pipelines.labelling import NamedCentre

SOUND = 0.02
LOW = 0.6


def test_a_network_that_calls_the_sound_bodies_of_a_film_broken_is_believed_less() -> None:
    # The lateral film of a real CT of 4.25 mm slices: T11 to L5, of which none is broken.
    said = [0.82, 0.99, 0.99, 0.96, 0.84, 0.99, 0.78]
    by_heights = [SOUND, SOUND, LOW, LOW, SOUND, SOUND, LOW]
    believed = [item for item in held_against_sound(said, by_heights) if item is not None]
    # Of the sound ones now one half is above even odds and one below; none is as sure as it was.
    assert sum(item > 0.5 for item in (believed[0], believed[1], believed[4], believed[5])) == 2
    assert all(now < before for now, before in zip(believed, said, strict=True))
    assert sorted(range(7), key=believed.__getitem__) == sorted(range(7), key=said.__getitem__)


def test_on_a_film_whose_sound_bodies_are_called_sound_nothing_changes() -> None:
    said = [0.03, 0.1, 0.99, None, 0.6]
    assert held_against_sound(said, [SOUND, SOUND, LOW, None, SOUND]) == said


@pytest.mark.parametrize("by_heights", [[SOUND, SOUND, LOW, LOW], [None, LOW, LOW, LOW]])
def test_two_sound_bodies_do_not_tell(by_heights: list[float | None]) -> None:
    said: list[float | None] = [0.9, 0.9, 0.9, 0.9]
    assert held_against_sound(said, by_heights) == said


def test_many_fractures_do_not_speak_against_the_network() -> None:
    said: list[float | None] = [0.97, 0.95, 0.99, 0.98, 0.05, 0.1, 0.02]
    assert held_against_sound(said, [LOW, 0.9, 0.9, 0.9, SOUND, SOUND, SOUND]) == said


BOX = np.array([10.0, 10.0, 50.0, 60.0])
DRAWN = OutlinedBody(BOX, 0.9, FittedMask(np.ones((2, 2), np.float32), Frame(torch.zeros(2), torch.eye(2))))


@pytest.mark.parametrize(
    ("classes", "level", "seen", "overlooked"),
    [
        (EVERY_VERTEBRA, Level.L1, False, True),
        # The detector knows T4 to L5; nobody vouches for what the other network draws behind the shoulders.
        (EVERY_VERTEBRA, Level.T2, False, True),
        (EVERY_VERTEBRA, Level.L1, True, False),
        # One that knows fractures alone is silent of a sound body.
        (PUBLISHED_CLASSES, Level.L1, False, False),
    ],
)
def test_what_the_dense_network_alone_draws_is_overlooked_by_a_detector_of_all_bodies(
    classes: tuple[DetectClass, ...], level: Level, seen: bool, overlooked: bool
) -> None:
    knows = DetectorKnowledge.of([item.name for item in classes], 0.2, 0.3)
    by_detector = SeenVertebra(BOX, 0.9, {level: 1.0}, 0.1) if seen else None
    body = FilmBody(NamedCentre(level, np.zeros(3), 1.0, {}), BOX, by_detector, DRAWN)
    assert knows.overlooked(body) is overlooked
