"""The training stream: crops say what is in them, workers share nothing, a cache goes on where it stopped."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from dicom_ai_node.phantom.cached_volumes import (
    CachedVolume,
    VertebraTable,
    cached_names,
    ct_volume,
    fill_cache,
    mr_volume,
    open_volume,
    save_volume,
    volume_names,
)
from dicom_ai_node.phantom.stream import Crop, CropStream, Variation

STILL = Variation(shift_mm=0.0, mirror=0.0, curve=0.0, noise=0.0, blur=0.0, thick=0.0, gain=0.0)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    fill_cache(folder, volume_names("CT", range(4)), lambda name: ct_volume(name, 4.0, 130.0))
    return folder


def first(stream: CropStream, count: int) -> list[Crop]:
    return list(itertools.islice(stream, count))


def same(one: Crop, other: Crop) -> bool:
    return all(torch.equal(torch.nan_to_num(one[k]), torch.nan_to_num(other[k])) for k in one)  # type: ignore[literal-required]


def test_the_same_seed_gives_the_same_crops_and_another_does_not(cache: Path) -> None:
    streams = [CropStream(cache, size=(16, 16, 16), seed=seed) for seed in (3, 3, 4)]
    one, again, other = (first(stream, 12) for stream in streams)
    assert all(same(a, b) for a, b in zip(one, again, strict=True))
    assert not any(same(a, b) for a, b in zip(one, other, strict=True))


def test_workers_draw_from_volumes_of_their_own(cache: Path) -> None:
    held = []
    for which in range(2):
        stream = CropStream(cache, size=(12, 12, 12), seed=1, share=(which, 2), elsewhere=0.0)
        held.append({tuple(np.round(crop["heights_mm"].numpy(), 2)) for crop in first(stream, 30)})
    assert held[0]
    assert not {key for key in held[0] & held[1] if not np.isnan(key[0])}
    loaded = next(iter(DataLoader(CropStream(cache, size=(12, 12, 12), seed=1), batch_size=3)))
    assert loaded["image"].shape == (3, 1, 12, 12, 12)
    assert loaded["points"].shape == (3, 6, 3)


@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_a_crop_holds_the_vertebra_that_it_names(cache: Path, mirror: float) -> None:
    variation = Variation(shift_mm=8.0, mirror=mirror, thick=0.0)
    fractured = 0
    for crop in first(CropStream(cache, size=(20, 20, 20), variation=variation, elsewhere=0.0), 60):
        where = tuple(crop["center"].round().long().tolist())
        assert crop["labels"][where] == crop["verse"]
        fractured += int(crop["fractured"])
        assert bool(crop["fractured"]) == (int(crop["grade"]) > 0) == (int(crop["deformity"]) > 0)
        if not crop["points"].isnan().any():
            pairs = crop["points"].reshape(3, 2, 3)
            across = (pairs[:, 0] - pairs[:, 1]) * crop["spacing_mm"]
            assert torch.allclose(across.norm(dim=1), crop["heights_mm"], atol=0.01)
            # Six points are mid-sagittal: their mean is the centre, mirrored or not.
            assert torch.allclose(crop["points"].mean(dim=0), crop["center"], atol=0.01)
    assert 5 < fractured < 45


def test_a_mirror_image_is_the_crop_turned_over(cache: Path) -> None:
    plain, turned = (
        first(CropStream(cache, size=(20, 20, 20), variation=replaced, elsewhere=0.0), 1)[0]
        for replaced in (STILL, Variation(**{**STILL.__dict__, "mirror": 1.0}))
    )
    assert torch.equal(plain["image"].flip(-1), turned["image"])
    assert torch.equal(plain["labels"].flip(-1), turned["labels"])
    assert float(plain["center"][2] + turned["center"][2]) == pytest.approx(19.0, abs=1e-4)


def test_crops_beyond_the_border_are_filled_and_standardised(cache: Path) -> None:
    for crop in first(CropStream(cache, size=(90, 90, 1), variation=STILL), 6):
        assert crop["image"].shape == (1, 90, 90)
        assert crop["labels"].shape == (90, 90)
        assert abs(float(crop["image"].mean())) < 1e-3
        assert float(crop["image"].std()) == pytest.approx(1.0, abs=0.05)


def test_variation_changes_the_picture_and_not_the_truth(cache: Path) -> None:
    always = Variation(shift_mm=0.0, mirror=0.0, curve=1.0, noise=1.0, blur=1.0, thick=1.0)
    plain, varied = (
        first(CropStream(cache, size=(20, 20, 20), variation=v, elsewhere=0.0), 1)[0] for v in (STILL, always)
    )
    assert torch.equal(plain["labels"], varied["labels"])
    assert torch.equal(plain["heights_mm"], varied["heights_mm"])
    assert not torch.allclose(plain["image"], varied["image"], atol=0.05)


def test_filling_goes_on_where_it_stopped(cache: Path, tmp_path: Path) -> None:
    source = open_volume(cache / "ct-0")
    asked: list[str] = []

    def make(name: str) -> CachedVolume:
        asked.append(name)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return CachedVolume(name, "CT", source.voxels, source.labels, source.affine, source.truth)

    names = volume_names("CT", range(4))
    with pytest.raises(KeyboardInterrupt):
        fill_cache(tmp_path, names, make)
    (tmp_path / ".ct-9.1").mkdir()
    assert cached_names(tmp_path) == ["ct-0", "ct-1"]
    assert fill_cache(tmp_path, names, make) == 2
    assert asked == ["ct-0", "ct-1", "ct-2", "ct-2", "ct-3"]
    saved = open_volume(save_volume(source, tmp_path))
    np.testing.assert_array_equal(saved.voxels, source.voxels)
    assert not saved.voxels.flags.writeable


def test_an_mr_series_is_cached_on_its_own_grid(tmp_path: Path) -> None:
    fill_cache(tmp_path, ["mr-2"], lambda name: mr_volume(name, max_matrix=96))
    volume = open_volume(tmp_path / "mr-2")
    assert volume.modality == "MR"
    assert len(VertebraTable(volume)) >= 3
    crop = first(CropStream(tmp_path, size=(1, 48, 48), variation=Variation(clip=None, shift_mm=0.0)), 1)[0]
    assert crop["image"].shape == (1, 48, 48)
    assert crop["image"].isfinite().all()


def test_what_is_no_cache_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fill"):
        CropStream(tmp_path)
    with pytest.raises(ValueError, match="no cached volume"):
        open_volume(tmp_path)
    with pytest.raises(ValueError, match="share"):
        CropStream(cache, share=(2, 2))
