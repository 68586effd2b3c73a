"""radiograph-localise: drawn bodies are named by their place in the column."""

from __future__ import annotations

from pathlib import Path

import torch

from dicom_ai_node.training.film_augment import PLAIN
from dicom_ai_node.training.film_localise import FilmLocaliseOptions, FilmLocaliseTask
from dicom_ai_node.training.loop import LoopOptions, train
from tests.training.drawn_films import drawn_film

OPTIONS = FilmLocaliseOptions(
    size=(96, 64),
    sigma=2.5,
    channels=(8, 16, 24),
    global_channels=8,
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


def test_bodies_are_named_after_some_steps(tmp_path: Path) -> None:
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
    assert after["seen"] > before["seen"]
