"""A lateral film of known truth, stored in every way in which films are: class, greys, pose, spacing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.radiograph import Radiograph, load_radiograph
from dicom_ai_node.imaging.write_radiograph import RadiographHeader, write_radiograph
from dicom_ai_node.phantom.radiograph import (
    RadiographPhantom,
    render_radiograph,
    sample_radiograph_acquisition,
)
from dicom_ai_node.phantom.spine import sample_spine
from dicom_ai_node.report import (
    Algorithm,
    Analysis,
    BoxPx,
    HeightsMm,
    LabelMap,
    Reason,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.results.source import SourceSeries
from dicom_ai_node.training.films import Film, FilmVertebra, film_of_truth, polygon_mask

LEVELS = (Level.T12, Level.L1, Level.L2, Level.L3)
UNJUDGED = Level.T12
ACUITY = {"acute": 0.7, "chronic": 0.2, "pathologic": 0.1}


@dataclass(frozen=True)
class Dress:
    """How the film is stored.

    Attributes:
        quarters, mirrored: mirrored left to right first where it is, then turned clockwise so many quarters.
        pixel_spacing: as `RadiographHeader`'s; "none" has no spacing at all.
    """

    name: str
    object_class: Literal["DX", "CR", "SC"]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    quarters: int = 0
    mirrored: bool = False
    pixel_spacing: Literal["imager", "detector", "calibrated", "none"] = "imager"

    def turn(self, upright: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An image of the upright film as this one is stored."""
        across = upright[:, ::-1] if self.mirrored else upright
        return np.ascontiguousarray(np.rot90(across, -self.quarters))

    def places(self, upright: npt.NDArray[np.float64], shape: tuple[int, int]) -> npt.NDArray[np.float64]:
        """Pixel centres [row, column] of the upright film of that shape, in the film as stored.

        Found by turning an image of numbered pixels, so that no formula for it can be wrong twice.
        """
        numbered = self.turn(np.arange(shape[0] * shape[1]).reshape(shape))
        origin, down, right = (np.argwhere(numbered == n)[0] for n in (0, shape[1], 1))
        places: npt.NDArray[np.float64] = (
            origin + upright[:, :1] * (down - origin) + upright[:, 1:] * (right - origin)
        )
        return places

    def orientation(self, shape: tuple[int, int]) -> tuple[str, str]:
        """Patient Orientation: where rows and columns run."""
        origin, feet, back = self.places(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), shape)
        letters = {}
        for step, far, near in ((feet - origin, "F", "H"), (back - origin, "P", "A")):
            letters[tuple(step)], letters[tuple(-step)] = far, near
        return letters[0.0, 1.0], letters[1.0, 0.0]


DRESSES = (
    Dress("DX", "DX", "MONOCHROME2", pixel_spacing="calibrated"),
    Dress("DX, MONOCHROME1, turned by 90", "DX", "MONOCHROME1", quarters=1, pixel_spacing="calibrated"),
    Dress("CR, MONOCHROME1, turned by 180", "CR", "MONOCHROME1", quarters=2, pixel_spacing="detector"),
    Dress("SC, turned by 270", "SC", "MONOCHROME2", quarters=3, pixel_spacing="none"),
    Dress("SC, MONOCHROME1, mirrored", "SC", "MONOCHROME1", mirrored=True, pixel_spacing="none"),
    Dress("DX, mirrored and turned by 90", "DX", "MONOCHROME2", quarters=1, mirrored=True),
    Dress("CR, mirrored and turned by 180", "CR", "MONOCHROME2", quarters=2, mirrored=True),
    Dress("DX, MONOCHROME1, mirrored and turned by 270", "DX", "MONOCHROME1", quarters=3, mirrored=True),
)

FURTHER_DRESSES = (
    Dress("CR", "CR", "MONOCHROME2", pixel_spacing="calibrated"),
    Dress("SC, MONOCHROME1", "SC", "MONOCHROME1", pixel_spacing="none"),
    Dress("DX, turned by 180", "DX", "MONOCHROME2", quarters=2, pixel_spacing="detector"),
    Dress("CR, MONOCHROME1, turned by 90", "CR", "MONOCHROME1", quarters=1),
    Dress("DX, MONOCHROME1, turned by 270", "DX", "MONOCHROME1", quarters=3, pixel_spacing="calibrated"),
    Dress("DX, mirrored", "DX", "MONOCHROME2", mirrored=True, pixel_spacing="calibrated"),
    Dress("CR, MONOCHROME1, mirrored and turned by 90", "CR", "MONOCHROME1", quarters=1, mirrored=True),
    Dress("SC, mirrored and turned by 180", "SC", "MONOCHROME2", 2, mirrored=True, pixel_spacing="none"),
    Dress("SC, mirrored and turned by 270", "SC", "MONOCHROME2", 3, mirrored=True, pixel_spacing="none"),
)


@dataclass(frozen=True)
class FilmStudy:
    """A stored film with what an analysis of it says, made from the truth.

    Attributes:
        masks: which stored pixels show which body.
        points: the six points in stored pixels, centres at integers, shape (6, 2).
        upright: brightness of the upright film, 0 to 1, as its values are stored.
    """

    dress: Dress
    path: Path
    film: Radiograph
    analysis: Analysis
    masks: dict[Level, npt.NDArray[np.bool_]]
    points: dict[Level, npt.NDArray[np.float64]]
    upright: npt.NDArray[np.float64]

    @property
    def source(self) -> SourceSeries:
        """The series, which holds another file too."""
        return SourceSeries((self.path.with_name("other.dcm"), self.path), None, self.film)

    def extent(self, level: Level) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last row, first and last column of a body."""
        rows, columns = np.nonzero(self.masks[level])
        return (int(rows.min()), int(rows.max())), (int(columns.min()), int(columns.max()))


@lru_cache(maxsize=1)
def phantom() -> RadiographPhantom:
    """T10 to L5 with a wedge and a biconcave fracture; 245 by 123 pixels, odd numbers both."""
    spine = sample_spine(6, fractures={Level.L1: ("wedge", 2), Level.L3: ("biconcave", 1)})
    return render_radiograph(spine, sample_radiograph_acquisition(6, spine, max_pixels=256 * 128))


def bodies() -> list[FilmVertebra]:
    """The vertebrae that the analysis finds."""
    case = phantom()
    film: Film = film_of_truth("phantom", case.pixels, case.truth)
    return [item for item in film.vertebrae if item.level in LEVELS]


def make_film_study(dress: Dress, folder: Path, *, size: tuple[int, int] | None = None) -> FilmStudy:
    """Writes the film and analyses it by looking at the truth.

    Args:
        size: rows, columns of the upright film; what lies beyond them below and at the back is cut off.
    """
    case = phantom()
    if size is not None:
        case = replace(case, pixels=case.pixels[: size[0], : size[1]])
    white = 2**case.bits - 1
    bright = case.pixels if case.photometric == "MONOCHROME2" else white - case.pixels
    values = bright if dress.photometric == "MONOCHROME2" else white - bright
    path = _written(dress, dress.turn(values), case, folder / "film.dcm")
    film = load_radiograph(path)
    shape = (case.pixels.shape[0], case.pixels.shape[1])
    labels = np.zeros((1, *film.shape), np.uint8)
    masks, points, vertebrae = {}, {}, []
    losses = {entry["level"]: entry for entry in case.truth["vertebrae"]}
    for body in bodies():
        masks[body.level] = dress.turn(polygon_mask(body.outline, shape)) & (labels[0] == 0)
        labels[0][masks[body.level]] = verse_label(body.level)
    for body in bodies():
        # Neighbours overlap in projection: the label map says whose a pixel is.
        assert body.six_points is not None
        points[body.level] = dress.places(body.six_points, shape)
        vertebrae.append(
            _vertebra(body, film, masks[body.level], points[body.level], losses[body.level.value])
        )
    report = SpineReport(
        "analysed",
        Source(film.study_instance_uid, (film.series_instance_uid,), film.modality, None),
        limitations=(
            *film.notes,
            Reason("thresholds", "Genant: loss from 20 % grade 1, over 25 % grade 2, over 40 % grade 3."),
        ),
        algorithms=(
            Algorithm("radiograph-detect", "1.0", "a" * 64, "2.25.21"),
            Algorithm("radiograph-acuity", "1.2", "b" * 64, "2.25.22"),
        ),
        vertebrae=tuple(vertebrae),
    )
    analysis = Analysis(report, LabelMap(labels, None))
    return FilmStudy(dress, path, film, analysis, masks, points, bright / white)


def _written(dress: Dress, values: npt.NDArray[Any], case: RadiographPhantom, path: Path) -> Path:
    image = case.truth["image"]
    calibrated = dress.pixel_spacing == "calibrated"
    header = RadiographHeader(
        object_class="DX" if dress.object_class == "DX" else "CR",
        photometric=dress.photometric,
        bits_stored=case.bits,
        imager_pixel_mm=image["pixel_mm"],
        pixel_spacing="imager" if dress.pixel_spacing == "none" else dress.pixel_spacing,
        magnification=image["magnification"] if calibrated else None,
        patient_orientation=dress.orientation((case.pixels.shape[0], case.pixels.shape[1])),
    )
    # Each dress is a patient of its own.
    seed = 1 + (*DRESSES, *FURTHER_DRESSES).index(dress)
    write_radiograph(values.astype(np.uint16), path, header=header, seed=seed)
    write_radiograph(
        values[::2, ::2].astype(np.uint16), path.with_name("other.dcm"), header=header, seed=seed
    )
    if dress.object_class == "SC":
        captured = pydicom.dcmread(path)
        captured.SOPClassUID = captured.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        captured.Modality, captured.ConversionType = "OT", "DF"
        for keyword in ("ImagerPixelSpacing", "ViewPosition", "KVP", "Exposure", "ExposureInuAs"):
            del captured[keyword]
        captured.save_as(path)
    return path


def _vertebra(
    body: FilmVertebra,
    film: Radiograph,
    mask: npt.NDArray[np.bool_],
    points: npt.NDArray[np.float64],
    entry: dict[str, Any],
) -> Vertebra:
    rows, columns = np.nonzero(mask)
    box = BoxPx(
        film.instance.sop_instance_uid,
        1,
        (float(rows.min()), float(rows.max())),
        (float(columns.min()), float(columns.max())),
    )
    if body.level is UNJUDGED:
        return Vertebra(
            body.level,
            0.91,
            box_px=box,
            status="not-analysable",
            reasons=(Reason("coverage", "The upper endplate is hidden by the diaphragm."),),
        )
    calibrated = film.spacing is not None and film.spacing.at_patient
    return Vertebra(
        body.level,
        0.97,
        box_px=box,
        six_points=SixPoints.from_array(points),
        heights_mm=HeightsMm(**entry["heights_mm"]) if calibrated else None,
        height_loss=entry["height_loss"],
        genant_grade=body.grade,
        deformity=body.deformity,  # type: ignore[arg-type]
        fractured=body.fractured,
        fracture_probability=0.9 if body.fractured else 0.04,
        classes={"radiograph-acuity": ACUITY} if body.fractured else {},
    )
