"""The detector of CT slices, and the frames in which it sees them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dicom_ai_node.networks.slice_detector import SliceDetector
from dicom_ai_node.networks.slice_frame import SliceFrame, framed, merged, slice_frames

SIZES = st.tuples(st.integers(20, 1500), st.integers(20, 1500))
SPACINGS = st.tuples(st.floats(0.3, 1.6), st.floats(0.3, 1.6))


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet-v2", "resnet18-half"])
def test_detector_gives_losses_in_training_and_boxes_in_the_image_in_evaluation(backbone: str) -> None:
    torch.manual_seed(0)
    network = SliceDetector(backbone, features=32, score=0.0)  # type: ignore[arg-type]
    image = torch.rand(2, 1, 128, 96)
    losses = network.train()(image, [torch.tensor([[10.0, 20, 50, 60]]), torch.zeros(0, 4)])
    assert all(bool(torch.isfinite(value)) for value in losses.values())
    with torch.inference_mode():
        found = network.eval()(image)
    for answer in found:
        assert (answer["boxes"] >= 0).all()
        assert (answer["boxes"] <= torch.tensor([96, 128, 96, 128])).all()
        assert (answer["scores"].diff() <= 0).all()
        assert len(answer["boxes"]) > 0


def test_dense_loss_asks_for_what_is_in_a_box() -> None:
    torch.manual_seed(0)
    network = SliceDetector("resnet18-half", features=16, dense=True).train()
    losses = network(torch.rand(1, 1, 64, 64), [torch.tensor([[8.0, 8, 40, 40]])])
    assert losses["loss_dense"] > 0
    assert isinstance(network.dense, nn.Conv2d)
    losses["loss_dense"].backward()
    assert network.dense.weight.grad is not None


@given(SIZES, SPACINGS, st.sampled_from([((256, 192), 1.25), ((1024, 1024), None), ((512, 512), None)]))
@settings(max_examples=150, deadline=None)
def test_every_place_of_a_slice_is_seen_and_found_again(
    shape: tuple[int, int],
    spacing: tuple[float, float],
    how: tuple[tuple[int, int], float | None],
) -> None:
    frames = slice_frames(shape, spacing, size=how[0], at_mm=how[1])
    box = torch.tensor([[shape[1] * 0.3, shape[0] * 0.2, shape[1] * 0.5, shape[0] * 0.9]])
    seen = torch.zeros(shape[0], shape[1], dtype=torch.bool) if shape[0] * shape[1] < 300_000 else None
    for frame in frames:
        assert frame.out_of(frame.into(box)).numpy() == pytest.approx(box.numpy(), abs=1e-2)
        if how[1] is not None:
            assert all(edge % 32 == 0 for edge in frame.size)
            assert all(edge >= least for edge, least in zip(frame.size, how[0], strict=True))
        else:
            assert frame.size == how[0]
        if seen is not None:
            whole = frame.out_of(torch.tensor([[0.0, 0, frame.size[1], frame.size[0]]]))[0]
            left, top, right, bottom = (int(edge) for edge in whole.round().tolist())
            seen[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
    assert seen is None or bool(seen.all())


def test_small_slice_lies_in_the_middle_of_1024_pixels_of_its_own() -> None:
    (frame,) = slice_frames((743, 619), (0.45, 0.45), size=(1024, 1024), at_mm=None)
    assert frame.zoom == (1.0, 1.0)
    image = torch.full((1, 743, 619), 350.0)
    shown = framed(image, frame, (-300.0, 1000.0))[0, 0]
    assert shown.shape == (1024, 1024)
    rows, columns = (shown > 0).any(1).nonzero().flatten(), (shown > 0).any(0).nonzero().flatten()
    assert (len(rows), len(columns)) == (743, 619)
    assert abs(int(rows[0]) - (1023 - int(rows[-1]))) <= 1
    assert abs(int(columns[0]) - (1023 - int(columns[-1]))) <= 1


def test_pixels_that_are_not_square_become_square() -> None:
    image = torch.full((1, 80, 100), -1000.0)
    image[0, 20:40, 30:60] = 1000.0
    (frame,) = slice_frames((80, 100), (1.5, 0.5), size=(96, 64), at_mm=1.0)
    shown = framed(image, frame, (-300.0, 1000.0))[0, 0] > 0.5
    rows, columns = shown.any(1).nonzero().flatten(), shown.any(0).nonzero().flatten()
    expected = frame.into(torch.tensor([[30.0, 20, 60, 40]]))[0].tolist()
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    assert [float(edge) for edge in found] == pytest.approx(expected, abs=1.0)
    assert expected[2] - expected[0] == pytest.approx(15)
    assert expected[3] - expected[1] == pytest.approx(30)


def test_body_on_the_seam_of_two_frames_is_one_box() -> None:
    size = (256, 192)
    frames = slice_frames((500, 180), (1.0, 1.0), size=size, at_mm=None)
    assert len(frames) > 1
    bodies = torch.tensor([[60.0, 12 + 30 * k, 95, 36 + 30 * k] for k in range(16)])
    found: list[tuple[SliceFrame, Tensor, Tensor]] = []
    for frame in frames:
        inside = frame.into(bodies)
        inside[:, 1::2] = inside[:, 1::2].clamp(0, size[0])
        shown = inside[:, 3] - inside[:, 1] > 3
        # What a frame cuts off is the surest of all: it must not win.
        cut = (inside[:, 1] == 0) | (inside[:, 3] == size[0])
        found.append((frame, inside[shown], torch.where(cut, 0.99, 0.9)[shown]))
    boxes, _ = merged(found, (500, 180), 0.4)
    assert boxes[boxes[:, 1].argsort()].numpy() == pytest.approx(bodies.numpy(), abs=1e-3)


def test_what_is_found_beside_the_slice_is_dropped() -> None:
    (frame,) = slice_frames((100, 60), (1.25, 1.25), size=(256, 192), at_mm=1.25)
    boxes = frame.into(torch.tensor([[10.0, 10, 30, 30], [-20, 10, -2, 30], [40, 80, 70, 120]]))
    found, scores = merged([(frame, boxes, torch.tensor([0.9, 0.8, 0.7]))], (100, 60), 0.4)
    assert found.tolist() == [[10, 10, 30, 30], [40, 80, 60, 100]]
    assert scores.tolist() == pytest.approx([0.9, 0.7])


def test_pixels_finer_than_any_scanner_s_do_not_multiply_frames() -> None:
    assert len(slice_frames((4000, 900), (0.01, 0.01), size=(1024, 1024), at_mm=None)) == 7
