"""What an MR series is: all makes, classic and enhanced, mixed series, odd and real headers."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_ai_node.imaging.mr_contrast import MrIdentity, identify
from dicom_ai_node.imaging.mr_habits import Make
from dicom_ai_node.imaging.mr_series import MrStack, mr_stacks, unsuited
from dicom_ai_node.imaging.mr_tags import MrTags, tags_of
from dicom_ai_node.imaging.mr_words import topics_in
from dicom_ai_node.imaging.write_mr import MrHeader
from tests.imaging.conftest import change
from tests.imaging.mr_files import AXIAL, KINDS, SAGITTAL, made_by, write

MAKES: tuple[Make, ...] = ("siemens", "ge", "philips", "canon")
TINY = (2, 6, 6)


@pytest.mark.parametrize("make", MAKES)
def test_every_make_says_what_its_series_are(tmp_path: Path, make: Make) -> None:
    for kind in KINDS:
        for seed, enhanced in ((1, False), (8, False), (5, True)):
            header = made_by(make, kind, seed)
            folder = tmp_path / f"{kind}-{seed}"
            (one,) = mr_stacks(write(folder, header, shape=TINY, enhanced=enhanced, seed=seed))
            assert one.identity.kind == kind, (header.series_description, one.identity.in_words())
            # These opposed images are gradient echoes that are named after a T2, or after nothing.
            about = one.identity
            doubtful = kind == "dixon-opposed" and (bool(about.disagreements) or about.weighting is None)
            assert (one.identity.certainty == "unsure") is doubtful, one.identity.in_words()
            assert one.identity.reasons
            assert one.tags.make == make
            assert one.plane == "sagittal"


def a(**values: object) -> MrIdentity:
    return identify(MrTags(**values))  # type: ignore[arg-type]


def called(description: str) -> tuple[tuple[str, str], ...]:
    return (("SeriesDescription", description),)


T1_TIMES = {"scanning": ("SE",), "repetition_ms": 550.0, "echo_ms": 11.0}
T2_TIMES = {"scanning": ("SE",), "repetition_ms": 3500.0, "echo_ms": 100.0}


@pytest.mark.parametrize(
    ("values", "kind", "certainty"),
    [
        (T1_TIMES, "t1", "sure"),
        (T2_TIMES, "t2", "sure"),
        ({**T2_TIMES, "echo_ms": 25.0}, "pd", "sure"),
        ({**T2_TIMES, "suppressed": "FAT"}, "t2-fs", "sure"),
        ({**T2_TIMES, "descriptions": called("T2 SPAIR sag")}, "t2-fs", "likely"),
        ({**T2_TIMES, "scanning": ("SE", "IR"), "inversion_ms": 160.0, "echo_ms": 60.0}, "stir", "sure"),
        ({**T2_TIMES, "scanning": ("IR",), "inversion_ms": 220.0, "field_t": 3.0}, "stir", "sure"),
        ({**T2_TIMES, "scanning": ("SE", "IR"), "inversion_ms": 2400.0}, "flair", "sure"),
        # T1 FLAIR of the spine: repetition 2 s, inversion 0.8 s, short echo.
        ({"scanning": ("IR",), "repetition_ms": 2200.0, "echo_ms": 9.0, "inversion_ms": 860.0}, "t1", "sure"),
        # A stray inversion time in a series without inversion.
        ({**T2_TIMES, "inversion_ms": 200.0}, "t2", "sure"),
        ({**T1_TIMES, "agent": "Gadobutrol"}, "t1-contrast", "sure"),
        ({**T1_TIMES, "descriptions": called("T1 TSE sag +KM")}, "t1-contrast", "sure"),
        ({**T1_TIMES, "descriptions": called("SAG T1 POST")}, "t1-contrast", "sure"),
        ({**T2_TIMES, "image_type": ("DERIVED", "PRIMARY", "OUT_OF_PHASE")}, "dixon-opposed", "sure"),
        (
            {**T1_TIMES, "agent": "Gadovist", "descriptions": called("T1 sag nativ")},
            "t1-contrast",
            "unsure",
        ),
        ({"scanning": ("GR",), "repetition_ms": 500.0, "echo_ms": 18.0, "flip_deg": 20.0}, "t2-star", "sure"),
        ({**T2_TIMES, "three_d": True, "repetition_ms": 1200.0}, "t2", "sure"),
        ({**T2_TIMES, "echo_ms": 700.0}, "myelography", "likely"),
        ({**T2_TIMES, "scanning": ("SE", "EP"), "b_value": 800.0}, "diffusion", "sure"),
        ({**T2_TIMES, "image_type": ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")}, "adc", "sure"),
        ({**T1_TIMES, "image_type": ("ORIGINAL", "PRIMARY", "P", "ND")}, "phase", "sure"),
        ({**T1_TIMES, "image_type": ("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC")}, "mosaic", "sure"),
        ({**T2_TIMES, "image_type": ("ORIGINAL", "PRIMARY", "R_SE", "R", "SE")}, "complex", "sure"),
        ({**T2_TIMES, "component": "IMAGINARY"}, "complex", "sure"),
        ({**T2_TIMES, "image_type": ("DERIVED", "PRIMARY", "M", "T2 MAP")}, "derived", "sure"),
        ({"angiography": "Angio Flag is Y", **T1_TIMES}, "angiography", "sure"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER"), **T2_TIMES}, "localizer", "sure"),
        ({"descriptions": called("Sag T2 FRFSE")}, "t2", "likely"),
        ({"weighting": "T1"}, "t1", "likely"),
        ({"weighting": "T1", "descriptions": called("Sag T2")}, "t2", "unsure"),
        ({}, "unknown", "unsure"),
        ({"descriptions": called("Series 7")}, "unknown", "unsure"),
    ],
)  # fmt: skip
def test_one_image_is_what_its_physics_makes_it(values: dict[str, object], kind: str, certainty: str) -> None:
    found = a(**values)
    assert (found.kind, found.certainty) == (kind, certainty), found.in_words()


def test_physics_outranks_a_wrong_name_and_both_are_told() -> None:
    found = a(**T2_TIMES, descriptions=called("T1 TSE SAG"))
    assert (found.kind, found.weighting, found.certainty) == ("t2", "T2", "unsure")
    assert "Echo Time is 100 ms" in found.reasons[0]
    assert found.disagreements == ('Series Description "T1 TSE SAG" says T1',)
    assert "but Series Description" in found.in_words()


def test_a_protocol_name_counts_only_where_the_description_is_silent() -> None:
    stale = (("SeriesDescription", "T2 TSE sag"), ("ProtocolName", "t1_tse_sag"))
    assert a(**T2_TIMES, descriptions=stale).certainty == "sure"
    named = (("SeriesDescription", "sag 2"), ("ProtocolName", "t1_tse_sag"))
    assert a(descriptions=named).kind == "t1"


@pytest.mark.parametrize(
    ("text", "topic", "there"),
    [
        ("T2 FRFSE flow comp", "angiography", False),
        ("Т2 саг", "t2", True),
        ("矢状位T2压脂", "fat-suppressed", True),
        ("T2* MEDIC", "t2-star", True),
        ("T2* MEDIC", "t2", False),
        ("T1 mapping", "t1", False),
        ("Sag T2 FatSat", "fat", False),
        ("T2 spin echo", "spine", False),
        ("T1 sag nativ", "contrast", False),
        ("FastSTIR sag", "stir", True),
        ("МРТ шейного отдела", "cervical", True),
        ("MRT HWS", "cervical", True),
        ("MRT LWS", "cervical", False),
        # Compressed sensing, on lumbar and on cranial series alike.
        ("sT2W_TSE CS", "cervical", False),
        ("sT2W_FLAIR CS", "spine", False),
        ("MRI C-SPINE", "cervical", True),
        ("T1 SAG POST", "contrast", True),
        ("T1 sag post-op", "contrast", False),
        ("SAG T1 INJ", "contrast", True),
        ("SAG T1 non inj", "contrast", False),
        ("T1 sag Dotarem", "contrast", True),
        ("T1 FS GAD SAG", "contrast", True),
        ("T1 con contraste", "contrast", True),
        ("T1 inphase", "in-phase", False),
        ("InPhase: Sag T2 IDEAL", "in-phase", True),
    ],
)
def test_words_of_descriptions(text: str, topic: str, there: bool) -> None:
    assert (topic in topics_in(text)) is there, topics_in(text)


def joined(*series: list[Path]) -> list[Path]:
    """Several series under the first one's Series Instance UID, Instance Numbers as they were."""
    uid = pydicom.dcmread(series[0][0], stop_before_pixels=True).SeriesInstanceUID
    for paths in series[1:]:
        for path in paths:
            change(path, SeriesInstanceUID=uid)
    return [path for paths in series for path in paths]


def kinds(paths: list[Path]) -> list[tuple[str, int]]:
    random.Random(4).shuffle(paths)
    return sorted((one.identity.kind, len(one.slices)) for one in mr_stacks(paths))


def plain(folder: Path, **header: object) -> list[Path]:
    about = MrHeader(series_description="", protocol_name=" ", **header)  # type: ignore[arg-type]
    return list(write(folder, about, shape=(3, 6, 6)))


def test_two_echoes_of_one_series_are_two_stacks(tmp_path: Path) -> None:
    first, second = plain(tmp_path / "a", echo_ms=20.0), plain(tmp_path / "b", echo_ms=100.0)
    assert kinds(joined(first, second)) == [("pd", 3), ("t2", 3)]


def test_magnitude_and_phase_of_one_series_are_two_stacks(tmp_path: Path) -> None:
    first = plain(tmp_path / "a")
    second = plain(tmp_path / "b", image_type=("ORIGINAL", "PRIMARY", "P", "ND"))
    assert kinds(joined(first, second)) == [("phase", 3), ("t2", 3)]


def test_the_four_images_of_a_dixon_are_four_stacks(tmp_path: Path) -> None:
    words = {"W": "dixon-water", "F": "dixon-fat", "IP": "dixon-in", "OP": "dixon-opposed"}
    parts = [
        plain(tmp_path / word, image_type=("ORIGINAL", "PRIMARY", f"{word}_SE", word, "SE")) for word in words
    ]
    paths = joined(*parts)
    assert kinds(paths) == sorted((kind, 3) for kind in words.values())
    assert {one.identity.weighting for one in mr_stacks(paths)} == {"T2"}


def test_few_slices_in_three_planes_are_a_localizer_whatever_they_are_called(tmp_path: Path) -> None:
    about = MrHeader(series_description="T2 HASTE")
    first = list(write(tmp_path / "a", about, shape=(3, 6, 6)))
    second = list(write(tmp_path / "b", about, shape=(3, 6, 6), affine=AXIAL))
    assert kinds(joined(first, second)) == [("localizer", 3), ("localizer", 3)]


def test_the_order_of_files_changes_nothing(tmp_path: Path) -> None:
    paths = joined(plain(tmp_path / "a", echo_ms=20.0), plain(tmp_path / "b", echo_ms=100.0))
    whole = [(one.identity, one.paths) for one in mr_stacks(paths)]
    for seed in range(3):
        random.Random(seed).shuffle(paths)
        assert [(one.identity, one.paths) for one in mr_stacks(paths)] == whole


def test_ge_says_phase_in_a_private_element(tmp_path: Path) -> None:
    paths = plain(tmp_path / "a", manufacturer="GE MEDICAL SYSTEMS")
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x2F, "SS", 1)
        dataset.save_as(path)
    assert kinds(paths) == [("phase", 3)]


def test_broken_values_count_as_absent() -> None:
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    header.file_meta = Dataset()  # type: ignore[assignment]
    header.ImageType = ["ORIGINAL", "PRIMARY"]
    header.RepetitionTime = ""
    (tags,) = tags_of(header)
    assert tags.repetition_ms is None
    assert tags.echo_ms is None


@pytest.fixture
def stack_of(tmp_path: Path) -> Callable[..., MrStack]:
    def make(**options: object) -> MrStack:
        header = options.pop("header", None)
        return mr_stacks(list(write(tmp_path, header, **options)))[0]  # type: ignore[arg-type]

    return make


def test_a_sagittal_t2_is_suited(stack_of: Callable[..., MrStack]) -> None:
    one = stack_of()
    assert unsuited(one) is None
    assert one.in_words() == "6 sagittal slices, 4.4 mm apart, 117 mm from head to feet"
    # The normal of slices with rows to the feet and columns to the back points to the patient's right.
    np.testing.assert_allclose(one.affine[:3, :3] @ [5, 0, 0], -SAGITTAL[:3, 0] * 5, atol=1e-6)


def test_unsuited_images_are_refused_with_their_code(stack_of: Callable[..., MrStack]) -> None:
    one = unsuited(stack_of(shape=(1, 6, 6)))
    assert one is not None
    assert (one.code, "one sagittal slice only (IM0001.dcm)" in one.text) == ("coverage", True)


def test_axial_slices_are_refused_unless_they_are_as_fine_as_pixels(tmp_path: Path) -> None:
    (thick,) = mr_stacks(list(write(tmp_path / "thick", affine=AXIAL, shape=(24, 6, 6))))
    refusal = unsuited(thick)
    assert refusal is not None
    assert refusal.code == "orientation"
    fine_steps = AXIAL.copy()
    fine_steps[2, 0] = 1.0
    (fine,) = mr_stacks(list(write(tmp_path / "fine", affine=fine_steps, shape=(24, 6, 6))))
    assert unsuited(fine) is None


@pytest.mark.parametrize("image_type", [("P", "ND"), ("R", "ND"), ("M", "MOSAIC")])
def test_pixels_that_are_no_magnitude_are_refused(
    stack_of: Callable[..., MrStack], image_type: tuple[str, str]
) -> None:
    refusal = unsuited(stack_of(header=MrHeader(image_type=("ORIGINAL", "PRIMARY", *image_type))))
    assert refusal is not None
    assert refusal.code == "modality-mismatch"
    assert "Image Type says" in refusal.text


REAL = {
    "dcm_qa_enh/In/Philips/IM_0027_fMAP.dcm": [("complex", "axial", 32), ("t1", "axial", 32)],
    "dcmqi/data/paramaps/pm-example-slice.dcm": [("adc", "axial", 1)],
    "pydicom-data/data_store/data/MR-SIEMENS-DICOM-WithOverlays.dcm": [("t1-contrast", "axial", 1)],
    "wg04/J2KI/MR1_J2KI": [("t2", "axial", 1)],
    "wg04/J2KI/MR2_J2KI": [("t1", "sagittal", 1)],
    "wg04/RLE/MR3_RLE": [("t1", "coronal", 1)],
    "dcm_qa_enh/In/Siemens/XA10/6_1.dcm": [("unknown", "axial", 6)],
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_what_their_headers_make_them(shared_data: Path, name: str) -> None:
    found = mr_stacks([shared_data / "dicom" / name])
    assert sorted((one.identity.kind, one.plane, len(one.slices)) for one in found) == REAL[name]
    for one in found:
        assert unsuited(one) is not None


def test_real_localizers_and_angiographies_are_known(shared_data: Path) -> None:
    folder = shared_data / "dicom/pydicom/src/pydicom/data/test_files/dicomdirtests/98892003"
    for name, kind in (("MR1", "localizer"), ("MR2", "localizer"), ("MR700", "angiography")):
        for path in sorted((folder / name).iterdir()):
            (one,) = mr_stacks([path])
            assert one.identity.kind == kind
