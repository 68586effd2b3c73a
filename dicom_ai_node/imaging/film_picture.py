"""`film_sheet`: a radiograph as a picture, with the bodies that were found on it."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.imaging.film_pose import FilmPose
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.imaging.sheet import Body, Mask, Sheet
from dicom_ai_node.report import Analysis, LabelMap, Vertebra

FloatArray = npt.NDArray[np.float64]

_HEIGHT, _WIDTH = 1200, 1100
"""Pixels that the film is fitted into: large films shrink, small ones grow."""
_BLACK, _WHITE = 0.5, 99.8
"""Percentiles of the film that become black and white."""
_OUTLINE: Final = (0, 2, 4, 5, 3, 1)
"""The six points around the body."""


class _Frame:
    """The way from the film as stored to the picture.

    Args:
        film: rows and columns as stored.
        turned: how the picture shows them.
    """

    def __init__(self, film: Radiograph, turned: FilmPose) -> None:
        self.shape, self.turned = film.shape, turned
        across = turned.quarters % 2 == 1
        rows, columns = film.shape[::-1] if across else film.shape
        edge = np.ones(2)
        if film.spacing is not None:
            edge = np.array([film.spacing.rows_mm, film.spacing.columns_mm])[:: -1 if across else 1]
        # Pixels that are not square become so.
        size = np.array([rows, columns]) * edge / edge.min()
        grow = min(_HEIGHT / size[0], _WIDTH / size[1])
        self.size = (max(1, round(size[0] * grow)), max(1, round(size[1] * grow)))
        self.scale = np.array(self.size) / (rows, columns)
        self.spacing_mm: float | None = None
        if film.spacing is not None and film.spacing.at_patient:
            self.spacing_mm = float(edge[0] / self.scale[0])

    def points(self, stored: npt.ArrayLike) -> FloatArray:
        """Pixel centres [row, column] of the film, shape (n, 2), as pixel centres of the picture."""
        upright = self.turned.as_upright(np.asarray(stored, dtype=np.float64), self.shape)
        shown: FloatArray = (upright + 0.5) * self.scale - 0.5
        return shown

    def image(self, stored: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The film's values in the picture."""
        upright = np.ascontiguousarray(self.turned.upright(stored))
        resized = Image.fromarray(upright).resize(self.size[::-1], Image.Resampling.BICUBIC)
        return np.asarray(resized, dtype=np.float32)

    def mask(self, body: Mask, corner: tuple[int, int]) -> Mask:
        """A mask whose first pixel is `corner` of the film, in the picture; interpolated, without stairs."""
        shown = np.zeros(self.size, bool)
        framed = np.pad(body, 2)
        last = np.array(framed.shape) - 1
        ends = np.array(corner) - 2 + np.array([(0, 0), last])
        at = np.sort(self.points(ends), axis=0)
        first = np.clip(np.ceil(at[0]), 0, self.size).astype(int)
        stop = np.clip(np.floor(at[1]) + 1, 0, self.size).astype(int)
        if (first >= stop).any():
            return shown
        upright = np.ascontiguousarray(self.turned.upright(framed))
        # The edges of the picture's pixels on the padded body.
        start = at[0] + 0.5 - 0.5 * self.scale
        top, left = np.clip((first - start) / self.scale, 0, upright.shape)
        bottom, right = np.clip((stop - start) / self.scale, 0, upright.shape)
        part = Image.fromarray(upright.astype(np.uint8) * 255).resize(
            (int(stop[1] - first[1]), int(stop[0] - first[0])),
            Image.Resampling.BILINEAR,
            box=(float(left), float(top), float(right), float(bottom)),
        )
        shown[first[0] : stop[0], first[1] : stop[1]] = np.asarray(part) >= 128
        return shown


def film_sheet(
    film: Radiograph, analysis: Analysis, turned: FilmPose, lies: FilmPose | None = None
) -> tuple[Sheet, list[Body]]:
    """What is drawn on, and where the bodies are.

    Args:
        film: that was analysed.
        analysis: what was found, in pixels of the film as stored; without a label map, bodies are drawn by
            their six points or boxes.
        turned: how the picture shows the film.
        lies: how the patient lies in the film as stored; None where nothing tells.
    """
    frame = _Frame(film, turned)
    places = [] if analysis.label_map is None else ndimage.find_objects(analysis.label_map.labels[0])
    bodies = []
    for vertebra in analysis.report:
        mask = _mask(frame, vertebra, analysis.label_map, places)
        rows = np.flatnonzero(mask.any(axis=1))
        if len(rows):
            points = _points(vertebra)
            shown = None if points is None else frame.points(points)
            bodies.append(Body(vertebra, float(rows[0] + rows[-1]) / 2, mask, shown))
    sheet = Sheet(
        _grey(frame.image(film.pixels)),
        "film",
        _letters(turned, lies),
        frame.spacing_mm,
    )
    return sheet, bodies


def _mask(
    frame: _Frame,
    vertebra: Vertebra,
    label_map: LabelMap | None,
    places: list[tuple[slice, ...] | None],
) -> Mask:
    label = verse_label(vertebra.level)
    place = places[label - 1] if label <= len(places) else None
    if label_map is not None and place is not None:
        body = label_map.labels[0][place] == label
        return frame.mask(body, (place[0].start, place[1].start))
    points, box = _points(vertebra), vertebra.box_px
    if points is not None:
        return _polygon(frame.points(points[list(_OUTLINE)]), frame.size)
    if box is not None:
        (top, bottom), (left, right) = box.rows, box.columns
        corners = frame.points([(top, left), (top, right), (bottom, right), (bottom, left)])
        return _polygon(corners, frame.size)
    return np.zeros(frame.size, bool)


def _polygon(corners: FloatArray, size: tuple[int, int]) -> Mask:
    picture = Image.new("L", size[::-1], 0)
    ImageDraw.Draw(picture).polygon([(float(column), float(row)) for row, column in corners], fill=255)
    mask: Mask = np.asarray(picture) > 0
    return mask


def _points(vertebra: Vertebra) -> FloatArray | None:
    if vertebra.six_points is None or len(vertebra.six_points.anterior_superior) != 2:
        return None
    return vertebra.six_points.to_array()


def _grey(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Bone bright; the darkest and brightest few pixels, markers among them, do not decide the contrast."""
    exposed = pixels[pixels > 0]
    low, high = np.percentile(exposed if exposed.size else pixels, [_BLACK, _WHITE])
    shown = np.clip((pixels - low) / max(float(high - low), 1e-6), 0, 1)
    return np.asarray(np.rint(shown * 255), dtype=np.uint8)


def _letters(turned: FilmPose, lies: FilmPose | None) -> tuple[str, str, str, str]:
    """Where left, right, top and bottom edge of the picture lie in the patient."""
    if lies is None:
        return ("", "", "", "")
    corner = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    origin, feet, back = turned.as_upright(lies.as_stored(corner, (1, 1)), (1, 1))
    edges = {}
    for direction, (far, near) in ((feet - origin, ("F", "H")), (back - origin, ("P", "A"))):
        down, right = np.rint(direction).astype(int)
        edges[down, right], edges[-down, -right] = far, near
    return edges[0, -1], edges[0, 1], edges[-1, 0], edges[1, 0]
