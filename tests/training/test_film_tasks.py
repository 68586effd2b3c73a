"""The networks of radiographs learn a handful of drawn films."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Generator, nn

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ModelError
from dicom_ai_node.inference.bundle import _NETWORKS, FilmPreprocessing, NetworkDefinition, load_bundle
from dicom_ai_node.inference.film import seen_vertebrae
from dicom_ai_node.inference.publish import publish
from dicom_ai_node.networks.film_classes import EVERY_VERTEBRA, PUBLISHED_CLASSES, DetectClass, class_of_name
from dicom_ai_node.networks.film_detector import FilmDetector
from dicom_ai_node.networks.film_points import faces_left
from dicom_ai_node.training.film_augment import PLAIN
from dicom_ai_node.training.film_classify import (
    FilmAcuityOptions,
    FilmAcuityTask,
    FilmViewOptions,
    FilmViewTask,
    leave_one_out,
)
from dicom_ai_node.training.film_detect import FilmDetectOptions, FilmDetectTask
from dicom_ai_node.training.film_points import FilmPointsOptions, FilmPointsTask
from dicom_ai_node.training.film_recipes import DETECTORS, FILM_RECIPES, film_pool
from dicom_ai_node.training.films import ACUITIES, VIEWS, Film, save_film
from dicom_ai_node.training.loop import LoopOptions, Task, train
from tests.training.drawn_films import drawn_film

CPU = torch.device("cpu")
CLASSES = (
    DetectClass(Level.T12, False),
    DetectClass(Level.L1, False),
    DetectClass(Level.L1, True),
    DetectClass(Level.L2, False),
)
STATES = (False, True)
FILM_SMALL = DETECTORS["mask-rcnn-small"].network
SMALL = {"backbone": "resnet18", "features": 32, "anchor_px": 8}
DETECT = FilmDetectOptions(CLASSES, SMALL, (128, 96), degrees=0, scale=(0.97, 1.03), shift=0.01, look=PLAIN)


def _train(task: Task, folder: Path, steps: int, options: LoopOptions) -> nn.Module:
    return train(
        task, folder, minutes=5, device=CPU, options=options, say=lambda _line: None, max_steps=steps
    )


@pytest.mark.parametrize(("kind", "steps"), [("mask-rcnn", 80), ("retinanet", 70), ("fcos", 40)])
def test_detector_learns_a_film_by_heart(tmp_path: Path, kind: str, steps: int) -> None:
    film = drawn_film(1)
    network = {**SMALL, "kind": kind, **({"sampled": 64} if kind == "mask-rcnn" else {"features": 64})}
    task = FilmDetectTask([film], [film], replace(DETECT, network=network, batch=1))
    rate = LoopOptions("adamw", 2e-3, 1e-4, clip=10, warmup_steps=5, ema=0.7, validate_every_s=1e6)
    trained = _train(task, tmp_path, steps, rate)
    scores = task.scores(trained, [film])
    assert scores["box_map_50"] > 0.6
    assert ("mask_map_50" in scores) == (kind == "mask-rcnn")
    if kind == "mask-rcnn":
        assert scores["mask_map_50"] > 0.6


def test_small_detector_that_shares_between_states_learns_a_film_by_heart(tmp_path: Path) -> None:
    film = drawn_film(1)
    classes = tuple(
        DetectClass(level, state) for level in (Level.T12, Level.L1, Level.L2) for state in STATES
    )
    network = {**FILM_SMALL, "features": 32, "anchor_px": 8, "sampled": 64}
    task = FilmDetectTask([film], [film], replace(DETECT, classes=classes, network=network, batch=1))
    rate = LoopOptions("adamw", 2e-3, 1e-4, clip=10, warmup_steps=5, ema=0.7, validate_every_s=1e6)
    scores = task.scores(_train(task, tmp_path, 80, rate), [film])
    assert scores["box_map_50"] > 0.6
    assert scores["mask_map_50"] > 0.6


def test_detector_cannot_share_between_states_that_are_no_part_of_the_classes() -> None:
    with pytest.raises(ValueError, match="5 classes are not every level in each of 2 states"):
        FilmDetector(5, backbone="resnet18-half", features=32, states=2)


def test_detector_is_taught_what_the_film_shows() -> None:
    film = drawn_film(3)
    task = FilmDetectTask([film], [], replace(DETECT, degrees=20, scale=(0.8, 1.4), shift=0.2))
    generator, seen = Generator().manual_seed(1), 0
    for _ in range(6):
        batch = task.draw(generator)
        assert batch["image"].shape == (2, 1, 128, 96)
        for box, mask, owner in zip(batch["boxes"], batch["masks"].bool(), batch["film"], strict=True):
            left, top, right, bottom = box.int().tolist()
            assert mask[top:bottom, left:right].sum() == mask.sum()
            assert mask[top].any()
            assert mask[:, right - 1].any()
            image = batch["image"][owner, 0]
            assert (
                float(image[mask].mean())
                > float(image[~batch["masks"][batch["film"] == owner].bool().any(0)].mean()) + 0.1
            )
            seen += 1
    assert seen > 15


def test_film_without_instances_is_taught_too() -> None:
    task = FilmDetectTask([drawn_film(0, fractured=None)], [], replace(DETECT, classes=PUBLISHED_CLASSES))
    network = task.build().train()
    batch = task.draw(Generator().manual_seed(0))
    assert batch["labels"].numel() == 0
    loss = task.loss(network, batch)
    loss.backward()
    assert bool(torch.isfinite(loss))


def test_classes_are_the_papers_six_and_every_vertebra() -> None:
    assert [item.name for item in PUBLISHED_CLASSES] == [
        f"{level} fractured" for level in ("T11", "T12", "L1", "L2", "L3", "L4")
    ]
    assert len(EVERY_VERTEBRA) == 2 * 16
    assert {Level.T4, Level.T13, Level.L6} <= {item.level for item in EVERY_VERTEBRA}
    assert all(class_of_name(item.name) == item for item in EVERY_VERTEBRA)


def test_detections_of_one_place_are_one_vertebra_with_alternatives() -> None:
    boxes = torch.tensor([[0.0, 0, 20, 10], [0, 1, 20, 10], [1, 0, 20, 10], [0, 30, 20, 40]])
    scores = torch.tensor([0.5, 0.3, 0.1, 0.2])
    (first,) = seen_vertebrae(boxes, torch.tensor([2, 3, 4, 1]), scores, CLASSES)
    assert first.number == 0
    assert first.score == pytest.approx(0.9)
    assert first.levels == pytest.approx({Level.L1: 0.8 / 0.9, Level.L2: 0.1 / 0.9})
    assert first.fractured == pytest.approx(0.3 / 0.9)


def _mirrored(film: Film) -> Film:
    """The same patient, facing the other way."""
    last = film.pixels.shape[1] - 1
    turned = []
    for item in film.vertebrae:
        assert item.six_points is not None
        outline, points = item.outline.copy(), item.six_points.copy()
        outline[:, 1], points[:, 1] = last - outline[:, 1], last - points[:, 1]
        turned.append(replace(item, outline=outline, six_points=points))
    return replace(film, pixels=film.pixels[:, ::-1].copy(), vertebrae=tuple(turned))


def test_points_are_found_on_drawn_bodies_whichever_way_they_face(tmp_path: Path) -> None:
    films = [drawn_film(seed) for seed in range(3)]
    films.append(_mirrored(drawn_film(3)))
    options = FilmPointsOptions(
        size=(48, 48),
        margin=1.7,  # in so few steps front and back are told apart on wide crops alone
        sigma=1.5,
        marker_sigma=5,
        channels=(8, 16, 16),
        global_channels=8,
        degrees=5,
        look=PLAIN,
    )
    task = FilmPointsTask(films, films[:2], options)
    before = task.validate(task.build())
    network = _train(task, tmp_path, 120, LoopOptions(learning_rate=5e-3, ema=0.9, warmup_steps=5))
    with torch.inference_mode():
        after = task.validate(network)
        turned = [*task.find(network, films[3], [item.box for item in films[3].vertebrae])]
    assert all(not faces_left(points) for points in turned)
    assert after["height_error"] < 0.12
    assert after["point_error"] < 0.4 * before["point_error"]


def test_points_move_with_the_crop() -> None:
    task = FilmPointsTask([drawn_film(5)], [], FilmPointsOptions(size=(64, 64), jitter=0.0, look=PLAIN))
    batch = task.draw(Generator().manual_seed(4))
    for image, points in zip(batch["image"][:, 0], batch["positions"], strict=True):
        middle = points.mean(dim=0)
        assert float((middle - 31.5).abs().max()) < 3
        # Halfway to the middle is bright body, as far beyond a corner is dark.
        for point in points:
            row, column = (middle + 0.5 * (point - middle)).round().long().tolist()
            assert float(image[row, column]) > 0


def _acuity_films(count: int) -> list[Film]:
    return [
        replace(drawn_film(seed, acuity=ACUITIES[seed % 3]), patient=f"p{seed // 2}") for seed in range(count)
    ]


ACUITY = FilmAcuityOptions(size=(64, 64), degrees=10, upside_down=0.0, batch=6, look=PLAIN)


def test_acuity_is_learnt_and_running_statistics_follow(tmp_path: Path) -> None:
    films = _acuity_films(6)
    task = FilmAcuityTask(films, films, ACUITY)
    network = _train(task, tmp_path, 60, LoopOptions(learning_rate=1e-3, ema=0.8, warmup_steps=5))
    # In evaluation mode: without its running statistics BatchNorm would answer at random.
    scores = task.validate(network)
    assert scores["accuracy"] == 1.0
    assert {scores[f"auc_{name}"] for name in ACUITIES} == {1.0}


def test_a_network_that_sees_healthy_bodies_too_tells_them_apart(tmp_path: Path) -> None:
    films = _acuity_films(6)
    task = FilmAcuityTask(films, films, replace(ACUITY, healthy=0.5, batch=8))
    targets = [task.draw(Generator().manual_seed(seed))["target"] for seed in range(20)]
    share = float((torch.cat(targets) == len(ACUITIES)).float().mean())
    assert 0.4 < share < 0.6
    network = _train(task, tmp_path, 80, LoopOptions(learning_rate=1e-3, ema=0.8, warmup_steps=5))
    scores = task.validate(network)
    assert scores["auc_fractured"] > 0.95
    assert scores["accuracy"] == 1.0
    # Ages are told given that a body is broken, whatever the network thinks of that.
    assert task.probabilities(network, films[0], films[0].vertebrae[0].box).sum() == pytest.approx(1.0)


def test_leave_one_out_never_reads_a_patient_it_was_trained_on() -> None:
    films = _acuity_films(6)
    trained: list[set[str]] = []

    class Answers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.logits.expand(len(x), 3)

    def fit(training: Sequence[Film]) -> nn.Module:
        trained.append({film.group for film in training})
        return Answers()

    values, intervals, probabilities = leave_one_out(films, fit, ACUITY, resamples=50)
    assert trained == [{"p1", "p2"}, {"p0", "p2"}, {"p0", "p1"}]
    assert probabilities.shape == (6, 3)
    assert values["accuracy"] == pytest.approx(1 / 3)
    assert values["auc_acute"] == pytest.approx(0.5)
    assert intervals["accuracy"][0] <= 1 / 3 <= intervals["accuracy"][1]


def test_view_is_learnt(tmp_path: Path) -> None:
    films = []
    for seed in range(4):
        upright = drawn_film(seed)
        films += [upright, replace(upright, name=f"f{seed}", pixels=upright.pixels.T.copy(), view=VIEWS[1])]
    task = FilmViewTask(films, films, FilmViewOptions(size=(32, 32), channels=(8, 16, 16), look=PLAIN))
    network = _train(task, tmp_path, 60, LoopOptions(learning_rate=5e-3, ema=0.8, warmup_steps=5))
    assert task.validate(network)["accuracy"] == 1.0


@pytest.mark.parametrize("name", sorted(FILM_RECIPES))
def test_recipe_describes_the_network_that_is_trained(name: str) -> None:
    recipe = FILM_RECIPES[name]
    definition = NetworkDefinition(architecture=recipe.architecture, arguments=dict(recipe.arguments))  # type: ignore[arg-type]
    with torch.device("meta"):
        described = _NETWORKS[definition.architecture](**definition.arguments)
        trained = recipe.build([], []).build()
    shapes = {key: value.shape for key, value in described.state_dict().items()}
    assert shapes == {key: value.shape for key, value in trained.state_dict().items()}
    outputs = {definition.arguments.get(key) for key in ("classes", "out_channels", "levels")}
    assert len(recipe.output_channels) in outputs
    assert min(FilmPreprocessing(**recipe.preprocessing).size) > 0


def test_pool_keeps_the_films_that_are_there(tmp_path: Path) -> None:
    for seed in (1000, 1001):
        save_film(replace(drawn_film(seed), name=f"{seed:05d}"), tmp_path)
    lines: list[str] = []
    films = film_pool(FILM_RECIPES["radiograph-view"], tmp_path, lines.append, size=2)
    assert [film.name for film in films] == ["01000", "01001"]
    assert not lines


def test_the_share_of_films_rich_in_fractures_stays_in_a_small_pool(tmp_path: Path) -> None:
    for seed in (1000, 1001, 5000, 5001, 5002):
        save_film(replace(drawn_film(seed), name=f"{seed:05d}"), tmp_path)
    lines: list[str] = []
    films = film_pool(FILM_RECIPES["radiograph-points"], tmp_path, lines.append, size=5)
    assert [film.name for film in films] == ["05000", "01000", "05001", "01001", "05002"]
    assert not lines


def test_bundle_keeps_running_statistics_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    recipe = FILM_RECIPES["radiograph-acuity"]
    network = recipe.build([], []).build().eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(1e6)
        elif name.endswith("running_mean"):
            buffer.fill_(1e-9)
    publish(recipe, network, tmp_path, metrics={}, trained_on="cpu", training_data="nothing")
    loaded = load_bundle(tmp_path, CPU)
    assert loaded.metadata.film.size == (224, 224)
    with pytest.raises(ModelError, match="no network of CT"):
        _ = loaded.metadata.ct
    kept = dict(loaded.network.named_buffers())
    for name, buffer in network.named_buffers():
        assert torch.equal(kept[name], buffer)
