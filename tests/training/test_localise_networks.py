"""Every network of P3's table 4 learns, is kept, and is measured as what it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator
from typer.testing import CliRunner

from dicom_ai_node.anatomy import Level
from dicom_ai_node.cli import app
from dicom_ai_node.inference.bundle import load_bundle
from dicom_ai_node.inference.publish import publish
from dicom_ai_node.networks.intensity import clipped_moments, smoothed
from dicom_ai_node.training import localise_recipes
from dicom_ai_node.training.cases import save_case
from dicom_ai_node.training.localise import LocaliseOptions, LocaliseTask, Located
from dicom_ai_node.training.localise_recipes import LOCALISERS, localise_recipe, localise_task_of
from dicom_ai_node.training.loop import train
from dicom_ai_node.training.recipes import recipe_of
from tests.training.labelled import block_spine

CPU = torch.device("cpu")
runner = CliRunner()

ROWS = {"scn", "ln", "gn", "ln-gn", "ag", "filtering", "residual"}


def _shrunk(options: LocaliseOptions) -> LocaliseOptions:
    """A narrower network of the same kind, taught in the same way on patches of a few voxels."""
    arguments = dict(options.arguments)
    if "channels" in arguments:
        arguments["channels"] = [max(4, width // 8) for width in arguments["channels"]]
    if "global_channels" in arguments:
        arguments["global_channels"] = 4
    return replace(options, spacing_mm=4.0, sigma_mm=8.0, sizes=((32, 16, 16),), batch=1, arguments=arguments)


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {name: _shrunk(options) for name, options in LOCALISERS.items()}
    monkeypatch.setattr(localise_recipes, "LOCALISERS", small)


def test_every_row_of_table_4_can_be_named_as_published_and_small() -> None:
    assert set(LOCALISERS) == ROWS | {"published", "small"} | {f"small-{row}" for row in ROWS}
    assert recipe_of("ct-localise").arguments == recipe_of("ct-localise", "small").arguments
    assert LOCALISERS["small"] == LocaliseOptions()


def test_the_published_recipe_is_that_of_the_paper() -> None:
    recipe = recipe_of("ct-localise", "published")
    options, loop = LOCALISERS["published"], recipe.loop
    assert recipe.preprocessing["spacing_mm"] == 1.0
    assert sorted(recipe.preprocessing["size"]) == [96, 96, 128]
    assert recipe.preprocessing["clip_hu"] == (-2048.0, 8192.0)
    assert options.batch == 4
    assert (loop.optimiser, loop.learning_rate, loop.weight_decay, loop.clip) == ("sgd", 1e-4, 5e-4, 2.0)
    assert loop.plateau > 0
    network = recipe.build([], []).build()
    kernels = {
        tuple(weight.shape[2:]) for name, weight in network.named_parameters()
        if name.startswith(("refeature", "reconvolve")) and weight.ndim == 5
    }  # fmt: skip
    assert kernels == {(7, 7, 7)}
    assert len(network.project) == 4  # type: ignore[arg-type]
    assert len(network.decoder.gates) == 4  # type: ignore[arg-type,union-attr]


@pytest.mark.usefixtures("shrunk")
@pytest.mark.parametrize("name", sorted(LOCALISERS))
def test_every_network_learns_is_kept_and_says_the_same_when_it_is_loaded(name: str, tmp_path: Path) -> None:
    recipe = localise_recipe(name)
    cases = [block_spine(seed, 4.0, size_mm=(180, 96, 80)) for seed in range(2)]
    task = recipe.build(cases[1:], cases[:1])
    before = {key: value.clone() for key, value in task.build().state_dict().items()}
    steps = 2
    network = train(
        task, tmp_path / "work", minutes=1, device=CPU, options=recipe.loop, say=lambda _line: None,
        max_steps=steps,
    )  # fmt: skip
    assert not any(torch.equal(before[key], value) for key, value in network.state_dict().items())
    metadata = publish(
        recipe,
        network,
        tmp_path / "bundle",
        metrics={},
        trained_on="cpu",
        training_data="blocks",
        steps=steps,
    )
    assert f"--network {name} --steps {steps}" in metadata.rebuild
    overlapping = not name.startswith("small")
    assert metadata.ct.size == ((32, 16, 16) if overlapping else None)
    assert metadata.ct.standardised == ("volume" if overlapping else "input")
    loaded = load_bundle(tmp_path / "bundle", CPU)
    judge = localise_task_of(metadata.ct.model_dump(), metadata.output_channels)
    with torch.inference_mode():
        kept, said = judge.located(loaded.network, cases[0]), task.located(network, cases[0])
    assert kept.levels == said.levels == (Level.T12, Level.L1, Level.L2, Level.L3)
    # Half precision on disk, and peaks of a network that learned nothing yet: values, not places.
    assert kept.absent_peaks == pytest.approx(said.absent_peaks, rel=0.05, abs=0.02)


def test_published_patches_are_filtered_and_standardised_by_the_whole_volume() -> None:
    case = block_spine(1, 4.0)
    options = replace(
        _shrunk(LOCALISERS["published"]), elsewhere=0.0, smoothing_mm=3.0,
        pose=replace(LOCALISERS["published"].pose, degrees=(0.0, 0.0, 0.0), mirror_left_right=False),
    )  # fmt: skip
    plain = replace(options, smoothing_mm=0.0)
    mean, deviation = clipped_moments(case.voxels, options.intensity.clip_hu)
    drawn = LocaliseTask([case], [], plain).draw(Generator().manual_seed(7))
    hu = drawn["image"][0, 0] * deviation + mean
    # Nothing but the volume and air beyond it: no other contrast, no noise.
    assert float(hu.max()) <= float(case.voxels.max()) + 1
    assert float(hu.min()) >= -1025
    soft = LocaliseTask([case], [], options).draw(Generator().manual_seed(7))
    torch.testing.assert_close(drawn["positions"], soft["positions"], equal_nan=True)
    assert float(soft["image"].diff(dim=2).abs().max()) < 0.8 * float(drawn["image"].diff(dim=2).abs().max())


def test_published_loss_is_the_sum_of_smooth_l1_alone() -> None:
    options = _shrunk(LOCALISERS["published"])
    task = LocaliseTask([block_spine(1, 4.0)], [], options)
    batch = task.draw(Generator().manual_seed(3))

    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            shape = (len(x), len(options.levels), *x.shape[2:])
            return type("Answer", (), {"product": torch.full(shape, 0.5)})

    empty = {**batch, "positions": torch.full_like(batch["positions"], float("nan"))}
    expected = 0.5 * 0.5**2 * len(options.levels) * batch["image"][0, 0].numel()
    assert float(task.loss(Constant(), empty)) == pytest.approx(expected, rel=1e-4)


def test_held_out_loss_is_that_of_the_same_patches_every_time() -> None:
    cases = [block_spine(seed, 4.0) for seed in range(2)]
    options = replace(
        _shrunk(LOCALISERS["published"]), architecture="LocalNetwork", arguments={"channels": [4, 8]}
    )
    task = LocaliseTask(cases[1:], cases[:1], options)
    network = task.build().eval()
    with torch.inference_mode():
        first, second = task.validate(network), task.validate(network)
        named = LocaliseTask([], cases[:1], replace(options, loss="named")).validate(network)
    assert first["loss"] == second["loss"] > 0
    assert "loss" not in named


class _Marked(torch.nn.Module):
    """Sees each level by its brightness: in the blocks of bone each body has one of its own."""

    multiple = 1

    def __init__(self, task: LocaliseTask, mean: float, deviation: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.task, self.mean, self.deviation = task, mean, deviation

    def forward(self, x: torch.Tensor) -> Any:
        hu = x[:, 0] * self.deviation + self.mean
        maps = torch.zeros(len(x), len(self.task.options.levels), *hu.shape[1:])
        for number, level in enumerate((Level.T12, Level.L1, Level.L2, Level.L3)):
            body = (hu - 350 - 60 * number).abs().lt(20).float()
            # Brightest in the middle.
            maps[:, self.task.options.levels.index(level)] = smoothed(
                body[0], 10 / self.task.options.spacing_mm
            )
        return type("Answer", (), {"product": maps})


@pytest.mark.parametrize("spacing", [1.0, 2.0])
def test_vertebrae_are_located_in_millimetres_through_patches_and_blocks(spacing: float) -> None:
    case = block_spine(1, spacing, fractured=(), size_mm=(200, 84, 76))
    options = replace(LOCALISERS["published"], spacing_mm=spacing, sizes=((64, 64, 64),), smoothing_mm=0.0)
    task = LocaliseTask([], [case], options)
    located = task.located(_Marked(task, *clipped_moments(case.voxels, options.intensity.clip_hu)), case)
    assert located.levels == located.called == (Level.T12, Level.L1, Level.L2, Level.L3)
    assert max(located.errors_mm) < 2.5
    rows = located.measured()
    assert rows["name_right"] == [1.0] * 4
    assert len(rows["absent_peak"]) == len(options.levels) - 4 - 1  # without L6


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    for seed in range(3):
        save_case(block_spine(seed, 4.0), tmp_path / "cases")
    return tmp_path / "cases"


def _run(*arguments: str) -> str:
    said = runner.invoke(app, list(arguments))
    assert said.exit_code == 0, said.output
    return said.output


@pytest.mark.usefixtures("shrunk")
def test_an_ablation_is_trained_and_told_as_the_table_of_the_paper(
    tmp_path: Path, cases: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    small = {
        name: replace(options, architecture="LocalNetwork", arguments={"channels": [4, 8]})
        for name, options in localise_recipes.LOCALISERS.items()
    }
    monkeypatch.setattr(localise_recipes, "LOCALISERS", small)
    bundles = []
    for name in ("ln", "ag"):
        out = tmp_path / name
        _run(
            "train", "ct-localise", "--network", name, "--out", str(out), "--data", str(cases),
            "--steps", "2", "--device", "cpu",
        )  # fmt: skip
        bundles += ["--bundle", str(out)]
    file = tmp_path / "found.json"
    told = _run("evaluate", "ct-localise", *bundles, "--data", str(cases), "--json", str(file))
    found = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert found["n"] == 3
    assert [Path(name).name for name in found["bundles"]] == ["ln", "ag"]
    assert {"error_over_4mm", "error_over_10mm", "error_over_20mm", "identification_rate"} <= set(
        found["metrics"]
    )
    assert found["metrics"]["identification_rate"] == pytest.approx(1 - found["metrics"]["error_over_20mm"])
    assert set(found["intervals"]) == set(found["metrics"])
    assert set(found["levels"]) == {"T12", "L1", "L2", "L3"}
    assert sum(level["vertebrae"] for level in found["levels"].values()) == 12
    named = sum(level["name_right"] * level["vertebrae"] for level in found["levels"].values())
    assert sum(found["called_otherwise"].values()) == 12 - round(named)
    assert found["bundles"][found["bundle"]]["metrics"] == found["metrics"]
    for words in ("> 4 mm", "> 10 mm", "> 20 mm", "P3, M-SCN", "0.45", "called otherwise"):
        assert words in told


def test_several_bundles_of_another_task_are_wrong_use(tmp_path: Path) -> None:
    said = runner.invoke(
        app, ["evaluate", "ct-segment", "--bundle", str(tmp_path), "--bundle", str(tmp_path)]
    )
    assert said.exit_code == 2
    assert "one --bundle" in said.stderr


def test_measures_are_those_of_the_paper() -> None:
    located = Located(
        (Level.T12, Level.L1, Level.L2), (3.0, 11.0, 25.0), (Level.T12, Level.L2, Level.L2), (0.1,)
    )
    rows = located.measured()
    assert rows["error_over_4mm"] == [0.0, 1.0, 1.0]
    assert rows["error_over_10mm"] == [0.0, 1.0, 1.0]
    assert rows["error_over_20mm"] == [0.0, 0.0, 1.0]
    assert rows["identification_rate"] == [1.0, 1.0, 0.0]
    assert rows["name_right"] == [1.0, 0.0, 1.0]
    assert rows["absent_peak"] == [0.1]
