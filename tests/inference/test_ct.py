"""The three networks of the CT pipeline as functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from dicom_ai_node.anatomy import Level
from dicom_ai_node.errors import ConfigurationError, ModelError
from dicom_ai_node.inference import ct
from dicom_ai_node.inference.bundle import Bundle, load_bundle
from dicom_ai_node.inference.device import choose_device
from tests.inference.conftest import MakeBundle

CPU = torch.device("cpu")


def _noise(*shape: int) -> torch.Tensor:
    return 300 * torch.randn(shape, generator=torch.Generator().manual_seed(6))


@pytest.mark.parametrize("size", [(13, 10, 9), (8, 8, 8), (16, 21, 3)])
def test_any_volume_gets_heatmaps_of_its_own_size(
    make_bundle: MakeBundle, size: tuple[int, int, int]
) -> None:
    bundle = load_bundle(make_bundle("ct-localise"), CPU)
    heatmaps = ct.localise(bundle, _noise(*size).short())
    assert heatmaps.shape == (3, *size)
    assert heatmaps.dtype == torch.float32
    assert bool(torch.isfinite(heatmaps).all())


def test_heatmaps_are_named_and_scaled_by_the_bundle(make_bundle: MakeBundle) -> None:
    bundle = load_bundle(make_bundle("ct-localise"), CPU)
    assert ct.levels(bundle) == (Level.T12, Level.L1, Level.S1)
    assert ct.spacing_mm(bundle) == 5.0
    with pytest.raises(ModelError, match=r"preprocessing\.size"):
        ct.crop_shape(bundle)


def test_crops_get_probabilities_one_by_one_as_in_a_batch(make_bundle: MakeBundle) -> None:
    bundle = load_bundle(make_bundle("ct-segment"), CPU)
    crops = _noise(2 * ct.BATCH + 1, *ct.crop_shape(bundle))
    look = ct.look_of(bundle, crops[0])
    found = ct.segment(bundle, crops, look)
    assert found.shape == (len(crops), 3, *crops.shape[1:])
    torch.testing.assert_close(found.sum(dim=1), torch.ones_like(crops))
    one_by_one = torch.cat([ct.segment(bundle, crop[None], look) for crop in crops])
    torch.testing.assert_close(found, one_by_one, rtol=1e-4, atol=1e-5)


def test_segmentation_knows_where_the_middle_is(make_bundle: MakeBundle) -> None:
    folder = make_bundle("ct-segment")
    bundle = load_bundle(folder, CPU)
    flat = torch.zeros(1, *ct.crop_shape(bundle))
    assert float(ct.segment(bundle, flat, ct.look_of(bundle, flat[0]))[0, 1].std()) > 1e-3
    lost = replace(
        bundle,
        metadata=bundle.metadata.model_copy(
            update={
                "preprocessing": bundle.metadata.preprocessing.model_copy(update={"marker_sigma_mm": None})
            }
        ),
    )
    with pytest.raises(ModelError, match="marker_sigma_mm"):
        ct.segment(lost, flat, ct.look_of(lost, flat[0]))


def test_points_do_not_depend_on_the_batch_and_lie_in_the_plane(make_bundle: MakeBundle) -> None:
    bundle = load_bundle(make_bundle("ct-points"), CPU)
    planes = torch.stack([_noise(20, 32, 32), _noise(20, 32, 32).sigmoid()], dim=1)
    found = ct.six_points(bundle, planes)
    assert found.shape == (20, 6, 2)
    assert bool((found >= 0).all())
    assert bool((found <= 31).all())
    one_by_one = torch.cat([ct.six_points(bundle, plane[None]) for plane in planes])
    torch.testing.assert_close(found, one_by_one, rtol=1e-3, atol=1e-2)


def test_a_brighter_table_far_below_the_clip_changes_nothing(make_bundle: MakeBundle) -> None:
    bundle = load_bundle(make_bundle("ct-localise"), CPU)
    volume = _noise(8, 8, 8)
    volume[0] = -900
    darker = volume.clone()
    darker[0] = -3000
    torch.testing.assert_close(ct.localise(bundle, volume), ct.localise(bundle, darker))


@pytest.mark.parametrize("name", ["ct-localise", "ct-segment", "ct-points"])
def test_half_precision_says_nearly_the_same_and_leaves_the_bundle_as_it_is(
    make_bundle: MakeBundle, name: str
) -> None:
    bundle = load_bundle(make_bundle(name), CPU)
    answer: Callable[[Bundle, torch.Tensor], torch.Tensor] = {
        "ct-localise": ct.localise,
        "ct-segment": lambda bundle, crops: ct.segment(bundle, crops, ct.look_of(bundle, crops[0])),
        "ct-points": ct.six_points,
    }[name]
    size = {"ct-localise": (24, 16, 16), "ct-segment": (3, 16, 12, 12), "ct-points": (3, 2, 32, 32)}[name]
    expected = answer(bundle, _noise(*size))
    found = answer(bundle.in_half(), _noise(*size))
    assert found.dtype == torch.float32
    if name != "ct-points":  # the peaks of untrained heatmaps are anywhere
        assert not torch.equal(found, expected)
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(answer(bundle, _noise(*size)), expected, rtol=0, atol=0)


def test_processor_is_chosen_where_it_is_asked_for_or_nothing_else_is_there() -> None:
    assert choose_device("cpu") == CPU
    if torch.cuda.is_available():
        assert choose_device("auto").type == choose_device("cuda").type == "cuda"
    else:
        assert choose_device("auto") == CPU
        with pytest.raises(ConfigurationError, match="no usable CUDA device"):
            choose_device("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["ct-localise", "ct-segment", "ct-points"])
def test_cuda_gives_the_same_answer_as_the_processor(make_bundle: MakeBundle, name: str) -> None:
    bundle = load_bundle(make_bundle(name), CPU)
    answer: Callable[[Bundle, torch.Tensor], torch.Tensor] = {
        "ct-localise": ct.localise,
        "ct-segment": lambda bundle, crops: ct.segment(bundle, crops, ct.look_of(bundle, crops[0])),
        "ct-points": ct.six_points,
    }[name]
    size = {"ct-localise": (24, 16, 16), "ct-segment": (3, 16, 12, 12), "ct-points": (3, 2, 32, 32)}[name]
    expected = answer(bundle, _noise(*size))
    found = answer(bundle.to(torch.device("cuda")), _noise(*size).cuda())
    tolerance = 0.05 if name == "ct-points" else 2e-3
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-2, atol=tolerance)
