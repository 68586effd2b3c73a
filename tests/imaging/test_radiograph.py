"""Radiographs are read with bone bright, with the size of their pixels, and with what tells their pose."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from dicom_ai_node.errors import NotAnalysable, UnreadableInstance
from dicom_ai_node.imaging.film_pose import ALL_POSES, FilmPose, pose_of, said_view
from dicom_ai_node.imaging.film_spacing import spacing_of
from dicom_ai_node.imaging.radiograph import load_radiograph
from dicom_ai_node.imaging.write_radiograph import RadiographHeader, write_radiograph

PATH = Path("film.dcm")


def film() -> npt.NDArray[np.uint16]:
    """A bright body on grey tissue beside black air, 12 bits."""
    image = np.full((60, 40), 100, dtype=np.uint16)
    image[:, 8:] = 1500
    image[20:40, 15:30] = 3600
    image[0, 0] = 4095
    return image


def written(tmp_path: Path, changes: dict[str, Any] | None = None, **about: Any) -> Path:
    path = write_radiograph(film(), tmp_path / "film.dcm", header=RadiographHeader(**about))
    if changes:
        dataset = pydicom.dcmread(path)
        for keyword, value in changes.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)
    return path


def body_is_brightest(pixels: npt.NDArray[np.float32]) -> bool:
    return float(pixels[30, 20]) > float(pixels[30, 10]) > float(pixels[30, 2])


@pytest.mark.parametrize("kind", ["DX", "CR"])
def test_bone_is_bright_however_it_is_stored(tmp_path: Path, kind: str) -> None:
    plain = load_radiograph(written(tmp_path, object_class=kind))
    assert plain.shape == (60, 40)
    assert plain.pixels.dtype == np.float32
    assert body_is_brightest(plain.pixels)
    path = written(tmp_path, object_class=kind, photometric="MONOCHROME1")
    inverted = pydicom.dcmread(path)
    inverted.PixelData = (4095 - film()).astype("<u2").tobytes()
    inverted.save_as(path)
    assert np.allclose(load_radiograph(path).pixels, plain.pixels, atol=2e-3)


def test_a_rescale_with_a_negative_slope_turns_the_values_over(tmp_path: Path) -> None:
    path = written(tmp_path, {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": None})
    dataset = pydicom.dcmread(path)
    del dataset.WindowWidth
    dataset.PixelData = (4095 - film()).astype("<u2").tobytes()
    dataset.save_as(path)
    assert body_is_brightest(load_radiograph(path).pixels)


def test_a_window_is_applied_unless_it_burns_the_image_out(tmp_path: Path) -> None:
    narrow = load_radiograph(written(tmp_path, {"WindowCenter": 2500, "WindowWidth": 2400}))
    assert narrow.pixels[30, 2] == 0.0
    assert not narrow.notes or all(note.code != "partial" for note in narrow.notes)
    wrong = load_radiograph(written(tmp_path, {"WindowCenter": 30000, "WindowWidth": 10}))
    assert body_is_brightest(wrong.pixels)
    assert any("window" in note.text for note in wrong.notes)


def test_a_lookup_table_is_applied_and_a_broken_one_is_told(tmp_path: Path) -> None:
    item = Dataset()
    item.LUTDescriptor = [4096, 0, 16]
    item.LUTData = (np.arange(4096, dtype=np.uint32) ** 2 // 256).astype("<u2").tobytes()
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "OW"
    curved = load_radiograph(written(tmp_path, {"VOILUTSequence": [item]}))
    assert curved.pixels[30, 10] < 0.2
    item.LUTDescriptor = [4096, 0, 99]
    broken = load_radiograph(written(tmp_path, {"VOILUTSequence": [item]}))
    assert body_is_brightest(broken.pixels)
    assert any("broken" in note.text for note in broken.notes)


def test_linear_exposures_for_processing_come_out_bright_where_bone_is(tmp_path: Path) -> None:
    exposure = np.rint(4000.0 * 2.0 ** (film() / -700.0)).astype("<u2")
    path = written(
        tmp_path,
        {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1.1",
            "PresentationIntentType": "FOR PROCESSING",
            "PixelIntensityRelationship": "LIN",
            "PixelIntensityRelationshipSign": 1,
            "PresentationLUTShape": None,
            "WindowCenter": None,
        },
    )
    dataset = pydicom.dcmread(path)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.PixelData = exposure.tobytes()
    dataset.save_as(path)
    assert body_is_brightest(load_radiograph(path).pixels)


def test_padding_is_black(tmp_path: Path) -> None:
    path = written(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 4095)
    dataset.save_as(path)
    assert load_radiograph(path).pixels[0, 0] == 0.0


def captured(tmp_path: Path, colours: npt.NDArray[np.uint8], photometric: str = "RGB") -> Path:
    """A secondary capture in colour, shape (rows, columns, 3)."""
    path = written(tmp_path)
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.Modality = "OT"
    dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
    dataset.PhotometricInterpretation = photometric
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    del dataset.PresentationLUTShape
    dataset.PixelData = np.ascontiguousarray(colours).tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path)
    return path


def grey_colours() -> npt.NDArray[np.uint8]:
    """The film with eight bits in red, green and blue, which differ a little, as after lossy compression."""
    greys = np.repeat((film() >> 4).astype(np.int16)[:, :, None], 3, axis=2)
    noise = np.random.default_rng(3).integers(-3, 4, greys.shape)
    return np.clip(greys + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("photometric", ["RGB", "planes", "YBR_FULL", "JPEG", "palette"])
def test_a_film_that_was_captured_in_colour_is_read_as_the_grey_film_that_it_is(
    tmp_path: Path, photometric: str
) -> None:
    colours = grey_colours()
    path = captured(tmp_path, colours)
    dataset = pydicom.dcmread(path)
    if photometric == "planes":
        dataset.PlanarConfiguration = 1
        dataset.PixelData = np.ascontiguousarray(colours.transpose(2, 0, 1)).tobytes()
    elif photometric == "YBR_FULL":
        dataset.PhotometricInterpretation = photometric
        dataset.PixelData = convert_color_space(colours, "RGB", "YBR_FULL").tobytes()
    elif photometric == "JPEG":
        stream = BytesIO()
        Image.fromarray(colours).save(stream, "JPEG", quality=90)
        dataset.PhotometricInterpretation = "YBR_FULL_422"
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    elif photometric == "palette":
        # The darkest index is the brightest grey: indices alone would show bone dark.
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "PALETTE COLOR"
        del dataset.PlanarConfiguration
        for name in ("Red", "Green", "Blue"):
            dataset.add_new(f"{name}PaletteColorLookupTableDescriptor", "US", [256, 0, 8])
            dataset.add_new(f"{name}PaletteColorLookupTableData", "OW", bytes(range(255, -1, -1)))
        dataset.PixelData = (255 - (film() >> 4)).astype(np.uint8).tobytes()
    dataset.save_as(path)
    read = load_radiograph(path)
    assert read.pixels.shape == film().shape
    assert body_is_brightest(read.pixels)
    assert not any("lookup" in note.text for note in read.notes)
    assert float(np.abs(read.pixels - (film() >> 4) / 255).mean()) < 0.03


def test_a_picture_with_colours_is_refused_with_the_reason(tmp_path: Path) -> None:
    colours = grey_colours()
    colours[10:20, 10:20] = (200, 40, 40)
    with pytest.raises(NotAnalysable, match="of the pixels are coloured") as refused:
        load_radiograph(captured(tmp_path, colours))
    assert refused.value.code == "modality-mismatch"


@pytest.mark.parametrize(
    ("about", "size", "calibration"),
    [
        ({"pixel_spacing": "calibrated", "magnification": 1.25}, 0.16, "geometry"),
        ({"magnification": 1.25}, 0.16, "magnification"),
        ({"source_detector_mm": 1500.0, "source_patient_mm": 1200.0}, 0.16, "distances"),
        ({}, 0.2, "detector"),
        ({"pixel_spacing": "detector"}, 0.2, "detector"),
    ],
)
def test_millimetres_are_the_patients_where_the_header_lets_them(
    tmp_path: Path, about: dict[str, Any], size: float, calibration: str
) -> None:
    read = load_radiograph(written(tmp_path, **about))
    assert read.spacing is not None
    assert read.spacing.rows_mm == pytest.approx(size)
    assert read.spacing.calibration == calibration
    assert read.spacing.at_patient == (calibration != "detector")
    assert read.spacing.at_patient != any(note.code == "spacing" for note in read.notes)


def test_without_any_spacing_or_with_a_mad_one_there_are_ratios_only() -> None:
    header = Dataset()
    assert spacing_of(header, PATH)[0] is None
    header.PixelSpacing = [0.0, 0.0]
    spacing, notes = spacing_of(header, PATH)
    assert spacing is None
    assert any("PixelSpacing" in note.text for note in notes)


@given(st.sampled_from(ALL_POSES), st.integers(2, 9), st.integers(2, 9), st.data())
def test_points_find_their_way_back_through_any_pose(
    pose: FilmPose, rows: int, columns: int, data: st.DataObject
) -> None:
    stored = np.arange(rows * columns).reshape(rows, columns)
    upright = pose.upright(stored)
    row = data.draw(st.integers(0, upright.shape[0] - 1))
    column = data.draw(st.integers(0, upright.shape[1] - 1))
    (back,) = pose.as_stored(np.array([[row, column]], dtype=float), (rows, columns))
    assert stored[int(back[0]), int(back[1])] == upright[row, column]
    assert np.array_equal(pose.image_as_stored(upright), stored)


@given(st.sampled_from(ALL_POSES))
def test_patient_orientation_tells_how_to_bring_a_lateral_film_upright(pose: FilmPose) -> None:
    # Upright, columns run to posterior and rows to the feet; stored, they run where the pose puts them.
    marks = np.array([["AH", "PH"], ["AF", "PF"]])
    stored = pose.image_as_stored(marks)
    across = next(a for a, b in zip(stored[0, 1], stored[0, 0], strict=True) if a != b)
    down = next(a for a, b in zip(stored[1, 0], stored[0, 0], strict=True) if a != b)
    header = Dataset()
    header.PatientOrientation = [across, down]
    found, notes = pose_of(header, PATH)
    assert found is not None
    assert not notes
    assert np.array_equal(found.upright(stored), marks)


def test_a_frontal_film_is_turned_but_never_mirrored() -> None:
    header = Dataset()
    for across, down, quarters in (("L", "F", 0), ("R", "F", 0), ("R", "H", 2), ("F", "R", 3)):
        header.PatientOrientation = [across, down]
        found, _ = pose_of(header, PATH)
        assert found == FilmPose(quarters)


def test_an_orientation_of_an_axial_slice_is_not_believed() -> None:
    header = Dataset()
    header.PatientOrientation = ["L", "P"]
    found, notes = pose_of(header, PATH)
    assert found is None
    assert "Patient Orientation" in notes[0].text


@pytest.mark.parametrize(
    ("tags", "view"),
    [
        ({"ViewPosition": "LL"}, "lateral"),
        ({"ViewPosition": "AP"}, "frontal"),
        ({"SeriesDescription": "LWS seitlich"}, "lateral"),
        ({"SeriesDescription": "L-Spine LAT"}, "lateral"),
        ({"SeriesDescription": "Rachis lombaire profil"}, "lateral"),
        ({"SeriesDescription": "L SPINE AP"}, "frontal"),
        ({"SeriesDescription": "L-Spine oblique"}, "oblique"),
        ({"StudyDescription": "XR lumbar spine AP and lateral"}, None),
        ({"StudyDescription": "Plate of the patella"}, None),
        ({"PatientOrientation": ["A", "F"]}, "lateral"),
        ({"PatientOrientation": ["L", "F"]}, "frontal"),
        ({}, None),
    ],
)
def test_the_header_tells_the_view_or_is_silent(tags: dict[str, Any], view: str | None) -> None:
    header = Dataset()
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    assert said_view(header)[0] == view


@pytest.mark.parametrize(
    ("words", "view"),
    [
        # Spanish, Portuguese, Italian
        ("COLUMNA LUMBAR PERFIL", "lateral"),
        ("Columna dorsal lateral", "lateral"),
        ("Columna lumbar de frente", "frontal"),
        ("COLUMNA ANTERO-POSTERIOR", "frontal"),
        ("Coluna lombar (perfil)", "lateral"),
        ("Coluna ântero-posterior", "frontal"),
        ("Rachide lombare laterale", "lateral"),
        ("RACHIDE L-L", "lateral"),
        ("Rachide in profilo", "lateral"),
        ("Rachide frontale", "frontal"),
        ("Rachide anteroposteriore", "frontal"),
        # French, German
        ("Rachis lombaire de profil", "lateral"),
        ("RACHIS FACE", "frontal"),
        ("LWS seitlich", "lateral"),
        ("BWS seitliche Aufnahme", "lateral"),
        ("LWS Seitenansicht", "lateral"),
        ("LWS a.p.", "frontal"),
        ("BWS von vorn", "frontal"),
        ("LWS schräg", "oblique"),
        ("Columna oblicua", "oblique"),
        # Japanese, Chinese, Korean
        ("腰椎側面", "lateral"),
        ("胸椎 側面像 立位", "lateral"),
        ("腰椎正面", "frontal"),
        ("腰椎 A→P", "frontal"),
        ("腰椎 R→L", "lateral"),
        ("腰椎ＬＡＴ", "lateral"),
        ("腰椎斜位", "oblique"),
        ("腰椎侧位", "lateral"),
        ("腰椎正位", "frontal"),
        ("胸部后前位", "frontal"),
        ("요추 측면", "lateral"),
        ("요추 정면", "frontal"),
        # Both views are named, or none.
        ("Rachis face et profil", None),
        ("Columna frente y perfil", None),
        ("腰椎正侧位", None),
        ("腰椎正側面", None),
        ("腰椎 側臥位", None),
        ("脊柱侧弯", None),
        ("Facettes L4 L5", None),
        ("Wirbelsäule", None),
    ],
)
def test_a_view_is_told_in_the_words_of_many_languages(words: str, view: str | None) -> None:
    header = Dataset()
    header.SpecificCharacterSet, header.SeriesDescription = "ISO_IR 192", words
    assert said_view(header) == (view, "SeriesDescription" if view else "")


def test_the_image_is_believed_before_the_study() -> None:
    header = Dataset()
    header.StudyDescription, header.ViewPosition = "Spine lateral", "AP"
    assert said_view(header) == ("frontal", "ViewPosition")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, NotAnalysable),
        ({"SamplesPerPixel": 3}, NotAnalysable),
        ({"NumberOfFrames": 2}, NotAnalysable),
        ({"Rows": 4000}, UnreadableInstance),
        ({"PixelData": None}, UnreadableInstance),
    ],
)
def test_what_is_no_radiograph_is_refused_with_its_file_and_tag(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"film\.dcm.*\([0-9A-F]{4},[0-9A-F]{4}\)"):
        load_radiograph(written(tmp_path, changes))


def test_an_empty_film_is_refused(tmp_path: Path) -> None:
    path = write_radiograph(np.full((20, 20), 7, dtype=np.uint16), tmp_path / "film.dcm")
    with pytest.raises(NotAnalysable, match="alike"):
        load_radiograph(path)


def test_real_radiographs_are_read(shared_data: Path) -> None:
    folder = shared_data / "dicom"
    found = [path for path in (folder / "wg04").rglob("RG*") if path.is_file()]
    assert found
    for path in found:
        read = load_radiograph(path)
        assert float(read.pixels.std()) > 0.05, path
