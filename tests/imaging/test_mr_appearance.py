"""Where tags are silent the image tells T1, T2 and STIR apart, or says that it does not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dicom_ai_node.imaging.mr_appearance import appearance, decided_by_sight
from dicom_ai_node.imaging.mr_contrast import MrIdentity, MrImageKind, identify
from dicom_ai_node.imaging.mr_pairing import role_of
from dicom_ai_node.imaging.mr_tags import MrTags
from dicom_ai_node.phantom.mr import render_mr
from dicom_ai_node.phantom.mr_sequence import SeriesKind
from dicom_ai_node.phantom.mr_study import sample_mr_series
from dicom_ai_node.phantom.spine import sample_spine

SEED = 2003
KINDS: tuple[SeriesKind, ...] = ("t1", "t2", "stir")
UNSURE = MrIdentity("unknown", None, "unsure", ("Repetition Time and Echo Time do not tell",))


@dataclass(frozen=True, eq=False)
class Image:
    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def images() -> dict[str, Image]:
    """A lumbar study of 128 x 128 pixels."""
    spine = sample_spine(SEED)
    made = {
        kind: render_mr(spine, sample_mr_series(SEED, spine, kind, region="lumbar", max_matrix=128))
        for kind in KINDS
    }
    return {kind: Image(one.pixels, one.affine) for kind, one in made.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_image_tells_what_it_is(images: dict[str, Image], kind: str) -> None:
    told = decided_by_sight(UNSURE, images[kind])
    assert (told.kind, told.certainty) == (kind, "likely")
    assert "the image" in told.reasons[0]
    # What the tags said is kept, for the reader of the decision.
    assert UNSURE.reasons[0] in told.disagreements


def test_what_an_image_cannot_show_stays_as_the_tags_have_it(images: dict[str, Image]) -> None:
    doubtful = MrIdentity("t1-contrast", "T1", "unsure", ("Contrast/Bolus Agent is Gadovist",), ("plain",))
    told = decided_by_sight(doubtful, images["t1"])
    assert (told.kind, told.certainty) == ("t1-contrast", "likely"), "no partner: nothing there denies it"
    assert decided_by_sight(doubtful, images["t2"]).kind == "t2"


@pytest.mark.parametrize("kind", ["dixon-in", "dixon-opposed"])
def test_the_weighting_of_a_dixon_is_seen_where_its_header_leaves_it_open(
    images: dict[str, Image], kind: MrImageKind
) -> None:
    tags = MrTags(image_type=("DERIVED", "PRIMARY", "DIXON", "IP" if kind == "dixon-in" else "OP"))
    silent = identify(tags)
    assert (silent.kind, silent.weighting, silent.certainty) == (kind, None, "unsure")
    for name, weighting in (("t1", "T1"), ("t2", "T2")):
        told = decided_by_sight(silent, images[name])
        assert (told.kind, told.weighting, told.certainty) == (kind, weighting, "likely")
    # No fat: these are no images of water and fat.
    dark = decided_by_sight(silent, images["stir"])
    assert (dark.weighting, dark.certainty) == (None, "unsure")
    assert "fat is dark" in dark.reasons[-1]


def test_a_dixon_whose_name_contradicts_its_times_is_what_it_looks_like(images: dict[str, Image]) -> None:
    tags = MrTags(
        image_type=("DERIVED", "PRIMARY", "DIXON", "IP"),
        scanning=("SE",),
        repetition_ms=3500.0,
        echo_ms=100.0,
        descriptions=(("SeriesDescription", "t1_tse_dixon_sag_in"),),
    )
    contradicted = identify(tags)
    assert (contradicted.kind, contradicted.certainty) == ("dixon-in", "unsure")
    assert role_of(decided_by_sight(contradicted, images["t1"])) == "t1"
    assert role_of(decided_by_sight(contradicted, images["t2"])) == "t2"
    # Its water image is read by the fluid and its fat image by the fat, whatever the weighting.
    water = identify(replace(tags, image_type=("DERIVED", "PRIMARY", "DIXON", "W")))
    assert (water.kind, water.certainty) == ("dixon-water", "sure")


def test_it_does_not_matter_how_the_slices_are_stored(images: dict[str, Image]) -> None:
    plain = images["t1"]
    affine = plain.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (plain.voxels.shape[1] - 1)
    affine[:3, 1] *= -1
    upside_down = replace(plain, voxels=plain.voxels[:, ::-1], affine=affine)
    first, second = appearance(plain), appearance(upside_down)
    assert first is not None
    assert second is not None
    assert second.fat_share == pytest.approx(first.fat_share, abs=0.02)
    assert (second.fat_bright, second.fluid_bright) == (True, False)


def test_what_tells_nothing_stays_unsure(images: dict[str, Image]) -> None:
    flat = replace(images["t2"], voxels=np.full_like(images["t2"].voxels, 100))
    told = decided_by_sight(UNSURE, flat)
    assert told.kind == "unknown"
    assert told.certainty == "unsure"
    assert told.reasons[-1] == "the image does not decide"
    two = replace(images["t2"], voxels=images["t2"].voxels[:2])
    assert appearance(two) is None
    assert appearance(replace(two, voxels=np.zeros_like(images["t2"].voxels))) is None
