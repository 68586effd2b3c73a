"""Every tissue has a signal, and contrasts are those of a textbook."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicom_ai_node.phantom.mr_palette import TISSUES, MrPalette, sample_person
from dicom_ai_node.phantom.mr_sequence import MrSequence
from dicom_ai_node.phantom.randomness import stream
from dicom_ai_node.phantom.tissues import Marrow, Matter, Tissue

SEQUENCES = {
    "t1": MrSequence("t1", "SE", 550.0, 11.0, echo_train=3, magnetisation_transfer=0.4),
    "t2": MrSequence("t2", "SE", 3600.0, 100.0, echo_train=17, magnetisation_transfer=0.7),
    "stir": MrSequence("stir", "IR", 4200.0, 50.0, inversion_ms=165.0, echo_train=12),
    "t2-fs": MrSequence("t2-fs", "SE", 3600.0, 75.0, echo_train=15, fat="saturated"),
    "dixon-water": MrSequence("dixon-water", "SE", 3600.0, 90.0, echo_train=15, fat="water-image"),
    "dixon-fat": MrSequence("dixon-fat", "SE", 3600.0, 90.0, echo_train=15, fat="fat-image"),
    "localizer": MrSequence("localizer", "GR", 8.0, 3.0, flip_deg=20.0),
}
HEALTHY = Marrow(0.45)


def seen(palette: MrPalette, name: str) -> float:
    return abs(sum(palette.signals(name)))


def bone(palette: MrPalette, marrow: Marrow, density: float = 120.0) -> float:
    return abs(float(palette.bone(density, marrow).sum()))


@pytest.mark.parametrize("field_t", [1.5, 3.0])
@pytest.mark.parametrize("kind", SEQUENCES)
def test_every_tissue_has_a_value_in_every_sequence(kind: str, field_t: float) -> None:
    palette = MrPalette(SEQUENCES[kind], field_t)
    for tissue in Tissue:
        value = palette.tissue(Matter(tissue, 0.5))
        assert value.shape == (2, 1, 1, 1)
        assert torch.isfinite(value).all()
        assert palette.grain(Matter(tissue, grain=0.1)) >= 0.0
    assert {"tumour", "cement", "metal", "haematoma"} <= set(TISSUES)
    assert seen(palette, "air") == seen(palette, "metal") == 0.0


@pytest.mark.parametrize("field_t", [1.5, 3.0])
def test_contrasts_are_those_of_a_textbook(field_t: float) -> None:
    t1, t2, stir = (MrPalette(SEQUENCES[kind], field_t) for kind in ("t1", "t2", "stir"))
    assert seen(t1, "fat") > bone(t1, HEALTHY) > seen(t1, "muscle") > seen(t1, "canal")
    assert seen(t1, "cord") > seen(t1, "canal")
    assert seen(t2, "canal") > seen(t2, "fat") > bone(t2, HEALTHY) > seen(t2, "muscle")
    assert seen(t2, "nucleus") > 2.5 * seen(t2, "annulus") > 5 * seen(t2, "ligament")
    assert seen(stir, "canal") > 2.5 * seen(stir, "fat")
    for palette in (t1, t2, stir):
        assert seen(palette, "artery") < 0.15 * seen(palette, "fluid")


@pytest.mark.parametrize("field_t", [1.5, 3.0])
def test_oedema_is_dark_on_t1_and_bright_where_fat_is_silent(field_t: float) -> None:
    oedema = Marrow(0.45, oedema=0.8)
    # The inversion time that silences fat is longer at 3 T.
    stir = replace(SEQUENCES["stir"], inversion_ms=165.0 if field_t < 2.0 else 220.0)
    ratios = {
        kind: bone(MrPalette(sequence, field_t), oedema) / bone(MrPalette(sequence, field_t), HEALTHY)
        for kind, sequence in {**SEQUENCES, "stir": stir}.items()
    }
    assert ratios["t1"] < 0.75
    assert ratios["stir"] > 1.8
    assert ratios["t2-fs"] > 1.8
    assert ratios["dixon-water"] > 1.8
    assert ratios["dixon-fat"] < 0.4
    assert ratios["t2"] > 1.0


@pytest.mark.parametrize("field_t", [1.5, 3.0])
def test_tumour_is_dark_on_t1_and_between_on_t2(field_t: float) -> None:
    tumour = Marrow(0.45, tumour=0.9)
    t1, t2, stir = (MrPalette(SEQUENCES[kind], field_t) for kind in ("t1", "t2", "stir"))
    assert bone(t1, tumour) < 0.75 * bone(t1, HEALTHY)
    assert seen(t2, "muscle") < bone(t2, tumour) < 0.7 * seen(t2, "canal")
    assert bone(stir, tumour) > 1.5 * bone(stir, HEALTHY)
    # What makes bone dense takes the signal away.
    assert bone(t2, tumour, 500.0) < 0.6 * bone(t2, tumour)


def test_marrow_of_tensors_is_marrow_voxel_by_voxel() -> None:
    palette = MrPalette(SEQUENCES["stir"])
    oedema = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 3)
    together = palette.bone(torch.full((1, 2, 3), 100.0), Marrow(0.4, oedema, 0.1))
    assert together.shape == (2, 1, 2, 3)
    for k, share in enumerate((0.0, 0.5, 1.0)):
        alone = palette.bone(100.0, Marrow(0.4, share, 0.1))
        np.testing.assert_allclose(together[:, 0, 0, k].numpy(), alone[:, 0, 0, 0].numpy(), rtol=1e-5)


def test_mineral_is_dark_by_its_volume() -> None:
    palette = MrPalette(SEQUENCES["t1"])
    assert bone(palette, HEALTHY, 870.0) == 0.0
    assert bone(palette, HEALTHY, 60.0) > bone(palette, HEALTHY, 160.0) > bone(palette, HEALTHY, 400.0)


def test_fat_brightens_marrow_on_t1_and_darkens_it_on_stir() -> None:
    t1, stir = MrPalette(SEQUENCES["t1"]), MrPalette(SEQUENCES["stir"])
    assert bone(t1, Marrow(0.65)) > 1.2 * bone(t1, Marrow(0.3))
    assert bone(stir, Marrow(0.65)) < 0.85 * bone(stir, Marrow(0.3))


def test_in_and_opposed_phase_add_and_take_away_fat() -> None:
    phases = []
    for fat in ("in-phase", "opposed-phase"):
        sequence = MrSequence("dixon-in", "GR", 7.0, 2.3, flip_deg=10.0, fat=fat)  # type: ignore[arg-type]
        phases.append(MrPalette(sequence).bone(120.0, HEALTHY)[:, 0, 0, 0])
    assert phases[0][0] == phases[1][0]
    assert phases[0][1] == -phases[1][1] > 0


def test_persons_differ_a_little_and_wildly_in_training() -> None:
    def spread(*, training: bool) -> float:
        people = [sample_person(stream(seed, "test"), training=training) for seed in range(40)]
        return float(np.std([np.log(p["muscle"][0]) for p in people]))

    assert 0.04 < spread(training=False) < 0.12
    assert spread(training=True) > 2 * spread(training=False)
    assert sample_person(stream(3, "test")) == sample_person(stream(3, "test"))
