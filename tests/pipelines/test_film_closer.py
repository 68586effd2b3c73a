"""At the second look every body is drawn once, larger, and none that the first one saw is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

from dicom_ai_node.inference import film as networks
from dicom_ai_node.inference.film import OutlinedBody
from dicom_ai_node.networks.film_geometry import FittedMask, Frame, crop, fitting, out_of_crop
from dicom_ai_node.pipelines.film_closer import CLOSER, outlined_closer

SIZE = (224, 144)
SHAPE = (900, 520)
TOPS = range(30, 830, 80)
Pixels = npt.NDArray[np.float32]
BUNDLE: Any = None
"""The network is stood in for."""


def column(left: int = 200) -> Pixels:
    """Ten bodies of 60 x 70 pixels."""
    pixels = np.zeros(SHAPE, dtype=np.float32)
    for top in TOPS:
        pixels[top : top + 60, left : left + 70] = 1.0
    return pixels


class Looks:
    """Stands in for the dense network: draws every bright body of its picture, and keeps where it looked."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def localise(
        self, _bundle: Any, film: Pixels, frame: Frame | None = None
    ) -> tuple[None, list[OutlinedBody]]:
        chosen = frame or Frame(*fitting((film.shape[0], film.shape[1]), SIZE))
        self.frames.append(chosen)
        picture = crop(film, chosen.center, chosen.matrix, SIZE)
        found = []
        for rows, columns in ndimage.find_objects(ndimage.label(picture.numpy() > 0.5)[0]):
            edges = torch.tensor(
                [[rows.start, columns.start], [rows.stop - 1, columns.stop - 1]], dtype=torch.float32
            )
            box = out_of_crop(edges, chosen.center, chosen.matrix, SIZE).double().numpy().reshape(4)
            mask = np.zeros(SIZE, np.float32)
            mask[rows, columns] = 1.0
            found.append(OutlinedBody(box, 0.9, FittedMask(mask, chosen)))
        return None, found


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    stand_in = Looks()
    monkeypatch.setattr(networks, "localise", stand_in.localise)
    return stand_in


def test_every_body_is_drawn_once_whole_and_larger(looks: Looks) -> None:
    film = column()
    _, first = looks.localise(BUNDLE, film)
    # What the first look missed the second one may find.
    missed = first[:1] + first[2:-1]
    found = outlined_closer(BUNDLE, film, missed)
    wanted = [[top, 200, top + 59, 269] for top in TOPS]
    np.testing.assert_allclose([item.box for item in found], wanted, atol=2.7)  # a pixel of the picture
    assert len(looks.frames) == 3
    whole, *closer = looks.frames
    for frame in closer:
        torch.testing.assert_close(frame.matrix * CLOSER, whole.matrix)
    pixels = [float((item.mask.values > 0).sum()) for item in found]
    assert np.mean(pixels) > 2 * np.mean([float((item.mask.values > 0).sum()) for item in first])


def test_where_the_column_bends_the_second_look_follows(looks: Looks) -> None:
    film = np.maximum(column(left=40) * (np.arange(SHAPE[0]) < 430)[:, None], 0)
    film[430:] = column(left=400)[430:]
    _, first = looks.localise(BUNDLE, film)
    found = outlined_closer(BUNDLE, film, first)
    assert len(found) == len(TOPS)
    _, upper, lower = looks.frames
    assert float(upper.center[1]) < float(lower.center[1])


def test_what_lies_beside_the_parts_stays_as_it_was_first_seen(looks: Looks) -> None:
    film = column()
    film[400:460, 480:519] = 1.0
    _, first = looks.localise(BUNDLE, film)
    beside = first[[item.box[1] > 470 for item in first].index(True)]
    found = outlined_closer(BUNDLE, film, first)
    assert sum(item is beside for item in found) == 1
    assert len(found) == len(TOPS) + 1
    rows = [float(item.box[0]) for item in found]
    assert rows == sorted(rows)


def test_without_a_body_at_the_first_look_there_is_no_second(looks: Looks) -> None:
    assert outlined_closer(BUNDLE, column(), []) == []
    assert looks.frames == []
