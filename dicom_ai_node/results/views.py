"""Where each vertebra is drawn: on which image, its box, its outline and its six points, in pixels.

An axial series gets one derived sagittal reformat; a sagittal series is drawn on as it is; for films see
`results.film_views`. All coordinates
here are image-relative pixel edges as presentation states and SCOORDs have them: the centre of the first
pixel is (0.5, 0.5), order (row, column).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import contourpy
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.imaging.reformat import FlatReformat
from dicom_ai_node.imaging.resample import sample_points
from dicom_ai_node.report import Analysis, BoxPx, LabelMap, SixPoints, Vertebra
from dicom_ai_node.results.source import ImageReference, SourceImages

FloatArray = npt.NDArray[np.float64]

SMALLEST_CUT: Final = 0.3
"""A plane that meets less of a body than this share of its profile passes beside it: no outline is drawn."""
LONE_CENTRE_MM: Final = 15.0
"""Half the edge of the box where nothing but the centre is known."""


@dataclass(frozen=True)
class VertebraView:
    """One vertebra on one image.

    Attributes:
        rows, columns: first and last edge of the box; None on neighbouring slices, which show outlines only.
        outlines: closed polygons, each of shape (n, 2), first point = last.
        points: shape (6, 2) in the order of `report.SIX_POINT_NAMES`, those of the body's middle plane, which
            is what the picture shows; None where unknown.
        corners_mm: shape (4, 3), the box in LPS millimetres, in order; None without a patient space.
    """

    vertebra: Vertebra
    image: ImageReference
    rows: tuple[float, float] | None
    columns: tuple[float, float] | None
    outlines: tuple[FloatArray, ...] = ()
    points: FloatArray | None = None
    slice_index: int | None = None
    off_plane: bool = False
    """The plane passes beside the body: the box is where it would be seen."""
    corners_mm: FloatArray | None = None


def is_sagittal(affine: FloatArray) -> bool:
    """Whether the planes of a volume show the patient from the side (normal within 45 degrees of left)."""
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    return bool(abs(normal[0]) > np.linalg.norm(normal) * np.sqrt(0.5))


def views_on_reformat(
    analysis: Analysis, reformat: FlatReformat, image: ImageReference
) -> tuple[VertebraView, ...]:
    """Every vertebra whose place is known, on the one sagittal plane."""
    label_map = analysis.label_map
    places = () if label_map is None else ndimage.find_objects(label_map.labels)
    views = []
    for vertebra in analysis.report:
        label = verse_label(vertebra.level)
        place = places[label - 1] if label <= len(places) else None
        if label_map is not None and label_map.affine is not None and place is not None:
            cut, profile = _cut(reformat, label_map, place, label)
            outlines = outlines_of(cut, reformat.pixels.shape)
        else:
            outlines, profile = (), None
        box = _box(outlines, profile, vertebra, reformat.to_pixels, 1 / reformat.spacing_mm)
        if box is not None:
            points = _points(vertebra.middle_points, reformat.to_pixels)
            rows, columns = _within(box, reformat.pixels.shape)
            beside = profile is not None and not outlines
            corners_mm = reformat.to_mm(_corners(rows, columns))
            views.append(
                VertebraView(
                    vertebra, image, rows, columns, outlines, points, off_plane=beside, corners_mm=corners_mm
                )
            )
    return tuple(views)


def views_on_slices(analysis: Analysis, source: SourceImages) -> tuple[VertebraView, ...]:
    """Every vertebra on the source's own slices: box and points on its middle slice, outlines on all."""
    if source.affine is None or source.shape is None:
        return ()
    inverse = np.linalg.inv(source.affine)
    plane = source.shape[1], source.shape[2]

    def to_pixels(points_mm: npt.ArrayLike) -> FloatArray:
        pixels: FloatArray = np.asarray(points_mm, dtype=np.float64) @ inverse[1:3, :3].T + inverse[1:3, 3]
        return pixels

    per_mm = float(1 / np.linalg.norm(source.affine[:3, 1]))
    views: list[VertebraView] = []
    for vertebra in analysis.report:
        if analysis.label_map is None and vertebra.six_points is None and vertebra.box_px is not None:
            views += _told_views(vertebra, vertebra.box_px, source)
            continue
        outlines = _slice_outlines(analysis.label_map, vertebra, source)
        middle = _middle_slice(vertebra, outlines, source)
        if middle is None:
            continue
        for index, polygons in outlines.items():
            image = source.reference(index)
            if index != middle and image is not None and polygons:
                views.append(VertebraView(vertebra, image, None, None, polygons, None, index))
        image = source.reference(middle)
        box = _box(outlines.get(middle, ()), None, vertebra, to_pixels, per_mm)
        if image is not None and box is not None:
            points = _points(vertebra.middle_points, to_pixels)
            polygons = outlines.get(middle, ())
            rows, columns = _within(box, plane)
            at = np.column_stack([np.full(4, middle), _corners(rows, columns)])
            corners_mm = at @ source.affine[:3, :3].T + source.affine[:3, 3]
            views.append(
                VertebraView(vertebra, image, rows, columns, polygons, points, middle, corners_mm=corners_mm)
            )
    return tuple(views)


def _told_views(vertebra: Vertebra, told: BoxPx, source: SourceImages) -> Iterator[VertebraView]:
    """The box that the report tells; on the slices that show a disease best, the outline of the box there."""
    assert source.shape is not None
    index = source.slice_of(told)
    if index is None:
        return
    image = source.reference(index)
    assert image is not None
    corners = np.array([told.rows, told.columns]).T + np.array([[0.0], [1.0]])
    rows, columns = _within(corners, source.shape[1:])
    yield VertebraView(vertebra, image, rows, columns, (), None, index)
    drawn = {index}
    for name in vertebra.diseases or ():
        best = vertebra.seen_on[name].box_px if name in vertebra.seen_on else None
        other = None if best is None else source.slice_of(best)
        reference = None if other is None else source.reference(other)
        if best is None or other is None or reference is None or other in drawn:
            continue
        drawn.add(other)
        (top, bottom), (left, right) = best.rows, best.columns
        outline = np.array(
            [(top, left), (top, right + 1), (bottom + 1, right + 1), (bottom + 1, left), (top, left)]
        )
        yield VertebraView(vertebra, reference, None, None, (outline,), None, other)


def _cut(
    reformat: FlatReformat, label_map: LabelMap, place: tuple[slice, slice, slice], label: int
) -> tuple[FloatArray, FloatArray]:
    """How much of each pixel of the plane is this body (0 to 1), and the body's profile in pixels.

    The profile has shape (2, 2): lowest and highest (row, column) of the whole body seen along the normal.
    """
    assert label_map.affine is not None
    body = np.pad((label_map.labels[place] == label).astype(np.float32), 1)
    affine = label_map.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array([part.start - 1 for part in place])
    voxels = np.argwhere(body > 0)
    seen = reformat.to_pixels(voxels @ affine[:3, :3].T + affine[:3, 3])
    profile = np.stack([seen.min(axis=0), seen.max(axis=0)])
    cut = np.zeros(reformat.pixels.shape)
    first = np.clip(np.floor(profile[0]) - 2, 0, cut.shape).astype(int)
    last = np.clip(np.ceil(profile[1]) + 3, 0, cut.shape).astype(int)
    if (last - first).min() > 0:
        grid = np.moveaxis(np.indices(tuple(last - first)), 0, -1) + first
        values = sample_points(body, affine, reformat.to_mm(grid), fill=0.0).numpy()
        cut[first[0] : last[0], first[1] : last[1]] = values
    whole = float(np.prod(profile[1] - profile[0] + 1))
    if np.count_nonzero(cut >= 0.5) < SMALLEST_CUT * whole:
        cut[:] = 0
    return cut, profile


def outlines_of(field: npt.NDArray[np.floating], shape: tuple[int, ...] | None) -> tuple[FloatArray, ...]:
    """Closed polygons where the field passes 0.5, largest first; specks of a few pixels are left out.

    Args:
        field: shape (rows, columns).
        shape: of the image that polygons must not leave; None lets them reach half a pixel around the field.
    """
    rows, columns = np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))
    if not len(rows):
        return ()
    part = np.pad(field[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float64), 1)
    corner = np.array([rows[0] - 1 + 0.5, columns[0] - 1 + 0.5])
    lines = contourpy.contour_generator(z=part).lines(0.5)
    polygons = [np.asarray(line, dtype=np.float64)[:, ::-1] + corner for line in lines]
    sized = sorted(((_area(polygon), polygon) for polygon in polygons), key=lambda item: -item[0])
    kept = [polygon for area, polygon in sized if area > max(4.0, 0.05 * sized[0][0])]
    if shape is None:
        return tuple(kept)
    limits = np.array(shape, dtype=np.float64)
    return tuple(np.clip(polygon, 0, limits) for polygon in kept)


def _area(polygon: FloatArray) -> float:
    y, x = polygon[:, 0], polygon[:, 1]
    return float(0.5 * abs(x[:-1] @ y[1:] - x[1:] @ y[:-1]))


def _slice_outlines(
    label_map: LabelMap | None, vertebra: Vertebra, source: SourceImages
) -> dict[int, tuple[FloatArray, ...]]:
    if label_map is None:
        return {}
    label = verse_label(vertebra.level)
    found = {}
    for index, plane in enumerate(label_map.labels):
        if source.reference(index) is not None and (plane == label).any():
            found[index] = outlines_of((plane == label).astype(np.float64), plane.shape)
    return found


def _middle_slice(
    vertebra: Vertebra, outlines: dict[int, tuple[FloatArray, ...]], source: SourceImages
) -> int | None:
    """The slice through the centre, or the nearest to it that exists and shows the body."""
    if vertebra.center_mm is not None:
        wanted: float = source.nearest_slice(vertebra.center_mm)
    elif outlines:
        wanted = float(np.mean(list(outlines)))
    else:
        return None
    candidates = [index for index, polygons in outlines.items() if polygons] or [
        index for index, image in enumerate(source.slices) if image is not None
    ]
    return min(candidates, key=lambda index: abs(index - wanted)) if candidates else None


def _box(
    outlines: Sequence[FloatArray],
    profile: FloatArray | None,
    vertebra: Vertebra,
    to_pixels: Callable[[npt.ArrayLike], FloatArray],
    per_mm: float,
) -> FloatArray | None:
    """Lowest and highest (row, column) edge of the box, shape (2, 2), from the best that is known."""
    if outlines:
        corners = np.concatenate(list(outlines))
        return np.stack([corners.min(axis=0), corners.max(axis=0)])
    if profile is not None:
        edges: FloatArray = profile + np.array([[0.0], [1.0]])
        return edges
    points = _points(vertebra.middle_points, to_pixels)
    if points is not None:
        return np.stack([points.min(axis=0), points.max(axis=0)])
    if vertebra.center_mm is not None and len(vertebra.center_mm) == 3:
        reach = LONE_CENTRE_MM * per_mm
        centre = to_pixels(vertebra.center_mm) + 0.5
        return np.stack([centre - reach, centre + reach])
    return None


def _corners(rows: tuple[float, float], columns: tuple[float, float]) -> FloatArray:
    """A box's corners, in order around it, as (row, column) counted from the centre of the first pixel."""
    (top, bottom), (left, right) = rows, columns
    return np.array([(top, left), (top, right), (bottom, right), (bottom, left)]) - 0.5


def _points(
    six_points: SixPoints | None, to_pixels: Callable[[npt.ArrayLike], FloatArray]
) -> FloatArray | None:
    if six_points is None or len(six_points.anterior_superior) != 3:
        return None
    centres: FloatArray = to_pixels(six_points.to_array()) + 0.5
    return centres


def _within(box: FloatArray, shape: tuple[int, ...]) -> tuple[tuple[float, float], tuple[float, float]]:
    """The box as (rows, columns), kept inside the image."""
    (top, left), (bottom, right) = np.clip(box, 0, np.array(shape, dtype=np.float64))
    return (float(top), float(bottom)), (float(left), float(right))
