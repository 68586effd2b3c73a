"""mri-detect and mri-points: what they draw is true, what they learn can be measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from torch import Generator

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.commands.mri_cases import labelled_cases, lowest_level
from dicom_ai_node.errors import ConfigurationError
from dicom_ai_node.networks.column_detector import ColumnAnswer, ColumnDetector
from dicom_ai_node.networks.mr_columns import OFFSET_UNIT_MM
from dicom_ai_node.training.localise import TAUGHT_LEVELS
from dicom_ai_node.training.loop import LoopOptions, train
from dicom_ai_node.training.mri_augment import MrLook, field_of_view, vary_mr
from dicom_ai_node.training.mri_cases import UNLABELLED, MrCase, load_mr_case, save_mr_case
from dicom_ai_node.training.mri_detect import MriDetectOptions, MriDetectTask
from dicom_ai_node.training.mri_points import MriPointsOptions, MriPointsTask
from dicom_ai_node.training.mri_recipes import MRI_RECIPES, split_mr
from tests.drawn_mr import KnowingDetector, KnowingPoints, column, drawn_volume

LEVELS = (Level.L2, Level.L3, Level.L4, Level.L5, Level.S1)
PLAIN = MrLook(0.0, 0.0, 0.0, 0.0, noise=0.0, blur=0.0, window=0.0, cropped=0.0, lost=0.0, moved=0.0)


def drawn_case(name: str = "drawn", pixel_mm: float = 2.0, slice_mm: float = 4.0) -> MrCase:
    """A drawn spine with the truth that a phantom would bring; L3 is wedged."""
    bodies = column(LEVELS, L3=0.3)
    volume, labels = drawn_volume(
        bodies, spacing_mm=(slice_mm, pixel_mm, pixel_mm), size_mm=(48.0, 208.0, 112.0)
    )
    vertebrae = []
    for body in bodies:
        front = body.height / 2 * (1 - body.wedge)
        places = {"anterior": (-16.0, front), "middle": (0.0, (front + 13) / 2), "posterior": (16.0, 13.0)}
        points = {
            f"{where}_{end}": (body.center + np.array([0.0, back, side * up])).tolist()
            for where, (back, up) in places.items()
            for end, side in (("superior", 1), ("inferior", -1))
        }
        vertebrae.append(
            {
                "level": body.level.value,
                "center_mm": body.center.tolist(),
                "six_points": None if body.level is Level.S1 else points,
                "axes": {"superior": [0.0, 0.0, 1.0]},
                "fractured": body.wedge > 0,
            }
        )
    truth = {"vertebrae": vertebrae}
    image, label_map = torch.from_numpy(volume.voxels), torch.from_numpy(labels)
    return MrCase(name, image, label_map, volume.affine, truth, "t2")


def small_detect(**changes: object) -> MriDetectOptions:
    options = {
        "spacing_mm": 2.0, "sizes": ((96, 64),), "sigma_mm": 12.0, "channels": (6, 8, 12, 16),
        "global_channels": 8, "batch": 2, "look": PLAIN, **changes,
    }  # fmt: skip
    return MriDetectOptions(**options)  # type: ignore[arg-type]


def generator(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def test_pixels_of_a_body_point_to_its_centre_however_the_patch_is_turned() -> None:
    task = MriDetectTask([drawn_case()], [], small_detect(elsewhere=0.0))
    seen = set()
    for seed in range(6):
        batch = task.draw(generator(seed))
        assert batch["image"].shape == (2, 3, 96, 64)
        for body, offset, positions in zip(batch["body"], batch["offset"], batch["positions"], strict=True):
            rows, columns = torch.nonzero(body == 1, as_tuple=True)
            votes = torch.stack([rows, columns], dim=1) + offset[:, rows, columns].T * OFFSET_UNIT_MM / 2.0
            places = positions[~positions.isnan().any(dim=1)]
            if len(places) == 0:
                continue
            nearest = torch.linalg.vector_norm(votes[:, None] - places, dim=2).amin(dim=1)
            # Those whose centre lies outside of the patch point there.
            outside = ((votes.round() < 0) | (votes.round() >= torch.tensor([96.0, 64.0]))).any(dim=1)
            assert float(((nearest < 0.01) | outside).float().mean()) > 0.95
            seen.update(torch.nonzero(~positions.isnan().any(dim=1)).flatten().tolist())
    assert {TAUGHT_LEVELS[index] for index in seen} <= set(LEVELS)
    assert len(seen) >= 4


def test_middle_slice_stands_between_its_own_neighbours_and_repeats_at_the_end() -> None:
    case = drawn_case()
    numbered = torch.arange(case.image.shape[0])[:, None, None].expand_as(case.image) * 1000
    case = MrCase(case.name, numbered.to(torch.int16).contiguous(), case.labels, case.affine, case.truth)
    task = MriDetectTask([case], [], small_detect(elsewhere=1.0, degrees=0.0, sizes=((32, 32),)))
    low, high = case.range
    steps = set()
    for seed in range(12):
        for image in task.draw(generator(seed))["image"]:
            values = (((image[:, 16, 16] + 1) / 2) ** 2 * (high - low) + low) / 1000
            steps.add(tuple((values - values[1]).round().int().tolist()))
    ends = {(0, 0, 1), (1, 0, 0), (-1, 0, 0), (0, 0, -1)}
    # A patch may lie beside the image: there all slices are empty.
    assert steps <= {*ends, (-1, 0, 1), (1, 0, -1), (0, 0, 0)}
    assert {(-1, 0, 1), (1, 0, -1)} <= steps


def test_what_nobody_labelled_teaches_nothing() -> None:
    case = drawn_case()
    labels = torch.where(case.labels == 0, torch.tensor(UNLABELLED, dtype=torch.uint8), case.labels)
    labels[:, :40] = UNLABELLED
    unknown = MrCase(case.name, case.image, labels, case.affine, case.truth)
    task = MriDetectTask([unknown], [], small_detect())
    batch = task.draw(generator(1))
    hidden = batch["body"] == 2
    assert 0.05 < float(hidden.float().mean()) < 1.0
    answer = task.build()(batch["image"])
    coarse = torch.nn.functional.avg_pool2d(hidden[:, None].float(), 4) > 0.5
    other = ColumnAnswer(
        torch.where(hidden, 5.0, answer.body),
        torch.where(hidden[:, None], 9.0, answer.offset),
        torch.where(coarse, 3.0, answer.heatmaps),
    )
    losses = [task.loss(_Says(said), batch).item() for said in (answer, other)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    seen = answer._replace(body=torch.where(hidden, answer.body, 5.0))
    assert task.loss(_Says(seen), batch).item() > 1.2 * losses[0]


class _Says(torch.nn.Module):
    """A network with one answer."""

    def __init__(self, answer: ColumnAnswer) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, _image: torch.Tensor) -> ColumnAnswer:
        return self.answer


def test_a_perfect_detector_scores_perfectly() -> None:
    case = drawn_case()
    task = MriDetectTask([], [], small_detect())
    network = KnowingDetector(2.0)
    scores = task.measure(network, case)
    assert scores["found"] == [1.0] * len(LEVELS)
    assert min(scores["dice"]) > 0.9
    assert max(scores["assd_mm"]) < 1.0
    assert scores["level_right"] == [1.0] * len(LEVELS)
    assert max(scores["offset_mm"]) < 1.5
    assert scores["false_body_ml"] == [pytest.approx(0.0, abs=0.1)]


def test_an_untrained_detector_does_not() -> None:
    torch.manual_seed(0)
    task = MriDetectTask([], [], small_detect())
    scores = task.measure(task.build().eval(), drawn_case())
    assert max(scores["dice"]) < 0.5


def test_one_small_case_is_learned_by_heart(tmp_path: Path) -> None:
    case = drawn_case(pixel_mm=4.0)
    options = small_detect(
        spacing_mm=4.0, sizes=((48, 24),), sigma_mm=16.0, channels=(8, 12, 16, 24),
        degrees=0.0, scale=(1.0, 1.0), stretch=0.0, elsewhere=0.0,
    )  # fmt: skip
    task = MriDetectTask([case], [], options)
    before = task.loss(task.build(), task.draw(generator(0))).item()
    torch.manual_seed(1)
    network = train(
        task, tmp_path, minutes=9, device=torch.device("cpu"), max_steps=120,
        options=LoopOptions(learning_rate=8e-3, warmup_steps=5, ema=0.9), say=lambda _line: None,
    )  # fmt: skip
    after = task.loss(network, task.draw(generator(0))).item()
    assert after < 0.4 * before
    scores = task.measure(network, case)
    assert np.mean(scores["found"]) > 0.7
    assert np.mean(scores["dice"]) > 0.6


def test_every_level_has_its_own_global_reach() -> None:
    network = ColumnDetector(3, 5, (4, 4, 6, 6, 8), global_channels=4)
    assert network.multiple == 16
    answer = network(torch.zeros(2, 3, 48, 32))
    assert answer.body.shape == (2, 48, 32)
    assert answer.offset.shape == (2, 2, 48, 32)
    assert answer.heatmaps.shape == (2, 5, 12, 8)
    with pytest.raises(ValueError, match="four levels"):
        ColumnDetector(3, 5, (4, 4, 6))


def test_six_points_lie_where_the_plane_shows_them() -> None:
    task = MriPointsTask([drawn_case(pixel_mm=1.0)], [], MriPointsOptions(look=PLAIN, batch=4, disc=0.0))
    for seed in range(3):
        batch = task.draw(generator(seed))
        assert batch["image"].shape == (4, 2, 80, 80)
        for image, points in zip(batch["image"], batch["positions"], strict=True):
            inside = image[1] > 0.5
            middle = points.mean(dim=0).round().long().tolist()
            assert bool(inside[middle[0], middle[1]])
            # Upper points lie above lower ones, front points before back ones; all on the body's edge.
            assert bool((points[0::2, 0] < points[1::2, 0]).all())
            assert bool((points[:2, 1].mean() < points[2:4, 1].mean() < points[4:, 1].mean()).all())
            rows = torch.nonzero(inside)[:, 0]
            assert float(points[:, 0].min()) == pytest.approx(int(rows.min()), abs=4.0)
            assert float(points[:, 0].max()) == pytest.approx(int(rows.max()), abs=4.0)


def test_perfect_points_are_measured_as_such() -> None:
    task = MriPointsTask([], [], MriPointsOptions())
    scores = task.measure(_with_a_weight(KnowingPoints()), drawn_case(pixel_mm=1.0))
    assert len(scores["height_error_mm"]) == len(LEVELS) - 1
    assert max(scores["height_error_mm"]) < 1.2
    assert max(scores["point_error_mm"]) < 2.5


def test_points_need_cases_that_have_them() -> None:
    case = drawn_case()
    bare = {"vertebrae": [{**entry, "six_points": None} for entry in case.truth["vertebrae"]]}
    with pytest.raises(ConfigurationError, match="six points"):
        MriPointsTask([MrCase("bare", case.image, case.labels, case.affine, bare)], [], MriPointsOptions())


def test_augmentation_keeps_range_and_emptiness_and_repeats() -> None:
    image = torch.rand(3, 40, 32, generator=generator(0)) * 2 - 1
    image[:, :8] = -1.0
    strong = MrLook(1.0, 1.0, 1.0, 1.0, noise=1.0, blur=0.0, window=1.0, lost=1.0, moved=0.0)
    first, again = (vary_mr(generator(3), image, strong) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == image.shape
    assert float(first.min()) >= -1.0
    assert float(first.max()) <= 1.0
    assert bool((first[:, :8] == -1.0).all())
    ended, inside = field_of_view(generator(5), image, MrLook(cropped=1.0))
    assert bool((ended[:, ~inside] == -1.0).all())
    assert torch.equal(ended[:, inside], image[:, inside])


def test_case_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    case = drawn_case()
    back = load_mr_case(save_mr_case(case, tmp_path))
    assert torch.equal(back.image, case.image)
    assert torch.equal(back.labels, case.labels)
    np.testing.assert_array_equal(back.affine, case.affine)
    assert (back.truth, back.series) == (case.truth, "t2")
    assert [item.level for item in back.vertebrae] == list(LEVELS)
    np.savez(tmp_path / "case-ct.npz", voxels=np.zeros(1))
    with pytest.raises(ConfigurationError, match="no case of MR"):
        load_mr_case(tmp_path / "case-ct.npz")


def test_nifti_with_a_manifest_becomes_cases(tmp_path: Path) -> None:
    case = drawn_case(pixel_mm=4.0)
    numbers = torch.zeros_like(case.labels)
    for number, level in enumerate((Level.L5, Level.L4, Level.L3), start=1):
        numbers[case.labels == verse_label(level)] = number
    for kind, array in (("img", case.image.numpy()), ("seg", numbers.numpy())):
        # Another order of the axes, and one of them mirrored, as files of other tools have.
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose(1, 2, 0)[::-1]))
        step = case.affine[:3, :3][:, [1, 2, 0]] * [-1, 1, 1]
        spacing = np.linalg.norm(step, axis=0)
        image.SetSpacing(spacing[::-1].tolist())
        image.SetDirection((step / spacing)[:, ::-1].ravel().tolist())
        origin = case.affine @ [0, array.shape[1] - 1, 0, 1]
        image.SetOrigin(origin[:3].tolist())
        SimpleITK.WriteImage(image, str(tmp_path / f"VB2_01_{kind}.nii.gz"))
    entries = [{"id": "VB2_01", "labels": "label 1 = L5 ... 3 = L3"}, {"id": "VB2_02", "labels": ""}]
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    (found,) = labelled_cases(tmp_path)
    np.testing.assert_allclose(found.affine, case.affine, atol=1e-4)
    assert torch.equal(found.image, case.image)
    assert [item.level for item in found.vertebrae] == [Level.L3, Level.L4, Level.L5]
    for level in (Level.L3, Level.L4, Level.L5):
        assert torch.equal(found.labels == verse_label(level), case.labels == verse_label(level))
    # L2 and S1 are in the image, but nobody labelled them.
    for level in (Level.L2, Level.S1):
        inner = found.labels[case.labels == verse_label(level)]
        assert float((inner == UNLABELLED).float().mean()) > 0.95


def test_manifest_without_a_level_is_refused() -> None:
    assert lowest_level("label 1 = S1, 2 = L5, 3 = L4 ... upward") is Level.S1
    with pytest.raises(ConfigurationError, match="label 1"):
        lowest_level("labels from below")


def test_validation_sets_are_never_trained_on() -> None:
    real = [drawn_case(name, 8.0) for name in ("VB1_02", "VB2_02", "VB2_04", "VB2_05", "VB3_01")]
    phantoms = [drawn_case(f"{seed:05d}", 8.0) for seed in range(6)]
    training, held_out = split_mr(phantoms, real, 8)
    names = [case.name for case in training]
    assert not [name for name in names if name.startswith(("VB1", "VB3"))]
    assert {"VB1_02", "VB3_01", "VB2_02", "00000"} <= {case.name for case in held_out}
    assert not set(names) & {case.name for case in held_out}
    assert names.count("VB2_04") > names.count("00003") == 1


def test_real_series_become_cases(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "mr" / "vertebrae"
    (tmp_path / "manifest.json").write_bytes((source / "manifest.json").read_bytes())
    for kind in ("img", "seg"):
        (tmp_path / f"VB2_02_{kind}.nii.gz").symlink_to(source / f"VB2_02_{kind}.nii.gz")
    (case,) = labelled_cases(tmp_path)
    assert [item.level.value for item in case.vertebrae] == ["T11", "T12", "L1", "L2", "L3", "L4", "L5"]
    # Rows run foot-ward: each body lies below the one before; columns run back-ward.
    rows = [float(item.center[1]) for item in case.vertebrae]
    assert rows == sorted(rows)
    behind = torch.nonzero((case.labels > 0) & (case.labels != UNLABELLED))[:, 2].float().mean()
    assert 0.25 < float(behind) / case.image.shape[2] < 0.75


def test_recipes_describe_their_networks() -> None:
    for recipe in MRI_RECIPES.values():
        network = recipe.build([], []).build()
        assert sum(parameter.numel() for parameter in network.parameters()) < 4_000_000


def _with_a_weight(network: torch.nn.Module) -> torch.nn.Module:
    network.weight = torch.nn.Parameter(torch.zeros(1))
    return network
