"""radiograph-localise: drawn bodies come apart, and are named by their place in the column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from dicom_ai_node.networks.film_bodies import OFFSET_UNIT
from dicom_ai_node.training.film_augment import PLAIN
from dicom_ai_node.training.film_localise import FilmLocaliseOptions, FilmLocaliseTask
from dicom_ai_node.training.loop import LoopOptions, train
from tests.training.drawn_films import drawn_film

OPTIONS = FilmLocaliseOptions(
    size=(128, 96),
    sigma=1.5,
    channels=(8, 12, 16, 24, 24),
    global_channels=12,
    scale=(0.95, 1.05),
    shift=0.02,
    degrees=3.0,
    look=PLAIN,
)


def test_targets_follow_the_film(tmp_path: Path) -> None:
    film = drawn_film(0)
    task = FilmLocaliseTask([film], [film], OPTIONS)
    batch = task.draw(torch.Generator().manual_seed(0))
    known = ~batch["positions"][0, :, 0].isnan()
    levels = [level for level, there in zip(OPTIONS.levels, known.tolist(), strict=True) if there]
    assert levels == [item.level for item in film.vertebrae]
    rows = batch["positions"][0, known, 0]
    assert bool((rows.diff() > 0).all())


def test_every_pixel_of_a_body_points_to_its_middle() -> None:
    film = drawn_film(1)
    task = FilmLocaliseTask([film], [film], replace(OPTIONS, degrees=20.0, scale=(0.9, 1.2)))
    batch = task.draw(torch.Generator().manual_seed(3))
    for body, offset, positions in zip(batch["body"], batch["offset"], batch["positions"], strict=True):
        places = body.nonzero()
        assert len(places) > 500
        votes = places + OFFSET_UNIT * offset[:, places[:, 0], places[:, 1]].T
        known = positions[~positions[:, 0].isnan()]
        assert float(torch.cdist(votes, known).min(dim=1).values.max()) < 0.1


def test_bodies_are_found_and_named_after_some_steps(tmp_path: Path) -> None:
    films = [drawn_film(seed) for seed in range(4)]
    task = FilmLocaliseTask(films, films[:2], OPTIONS)
    before = task.validate(task.build())
    network = train(
        task,
        tmp_path,
        minutes=10.0,
        device=torch.device("cpu"),
        options=LoopOptions(learning_rate=5e-3, ema=0.9, warmup_steps=5),
        say=lambda _line: None,
        max_steps=60,
    )
    after = task.validate(network)
    assert after["named"] > max(0.7, before["named"])
    assert after["found"] == 1.0
    assert after["dice"] > 0.9
    assert after["false"] == 0.0
