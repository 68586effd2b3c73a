"""Where each vertebra is drawn on a film, and how the findings say that the film lies.

Coordinates are pixel edges of the film as stored, as in `results.views`: the centre of the first pixel is
(0.5, 0.5), order (row, column). The report's are pixel centres.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from dicom_ai_node.anatomy import verse_label
from dicom_ai_node.imaging.film_pose import ALL_POSES, FilmPose
from dicom_ai_node.report import SIX_POINT_NAMES, Analysis, LabelMap, SpineReport, Vertebra
from dicom_ai_node.results.source import ImageReference, SourceImages
from dicom_ai_node.results.views import VertebraView, outlines_of

FloatArray = npt.NDArray[np.float64]

_SUPERIOR: Final = [k for k, name in enumerate(SIX_POINT_NAMES) if name.endswith("superior")]
_INFERIOR: Final = [k for k, name in enumerate(SIX_POINT_NAMES) if name.endswith("inferior")]
_ANTERIOR: Final = [k for k, name in enumerate(SIX_POINT_NAMES) if name.startswith("anterior")]
_POSTERIOR: Final = [k for k, name in enumerate(SIX_POINT_NAMES) if name.startswith("posterior")]


def views_on_film(analysis: Analysis, source: SourceImages) -> tuple[VertebraView, ...]:
    """Every vertebra whose place is known on the one film that `source` is."""
    image = source.reference(0)
    if image is None or source.shape is None:
        return ()
    shape = source.shape[1], source.shape[2]
    label_map = analysis.label_map
    places = () if label_map is None else ndimage.find_objects(label_map.labels)
    views = []
    for vertebra in analysis.report:
        label = verse_label(vertebra.level)
        place = places[label - 1] if label <= len(places) else None
        outlines = () if label_map is None or place is None else _outlines(label_map, place[1:], label, shape)
        points = film_points(vertebra)
        box = _box(vertebra, image, outlines, points)
        if box is not None:
            (top, left), (bottom, right) = np.clip(box, 0, np.array(shape, dtype=np.float64))
            rows, columns = (float(top), float(bottom)), (float(left), float(right))
            edges = None if points is None else points + 0.5
            views.append(VertebraView(vertebra, image, rows, columns, outlines, edges, 0))
    return tuple(views)


def found_pose(report: SpineReport) -> FilmPose | None:
    """The pose that the findings show: head to feet by the bodies, front to back by their six points.

    Without six points the order of the vertebrae tells the quarter turn alone. None where nothing tells it.
    """
    points = [found for vertebra in report if (found := film_points(vertebra)) is not None]
    caudal, dorsal = np.zeros(2), np.zeros(2)
    for six in points:
        caudal += six[_INFERIOR].mean(axis=0) - six[_SUPERIOR].mean(axis=0)
        dorsal += six[_POSTERIOR].mean(axis=0) - six[_ANTERIOR].mean(axis=0)
    middles = np.array([_middle(vertebra) for vertebra in report if vertebra.box_px is not None])
    if len(middles) > 1:
        caudal = middles[-1] - middles[0]
    if not caudal.any():
        return None
    poses = [pose for pose in ALL_POSES if dorsal.any() or not pose.mirrored]
    return max(poses, key=lambda pose: _agreement(pose, caudal, dorsal))


def film_points(vertebra: Vertebra) -> FloatArray | None:
    """The six points as pixel centres [row, column], shape (6, 2); None where they are not in an image."""
    if vertebra.six_points is None:
        return None
    points = vertebra.six_points.to_array()
    return points if points.shape[1] == 2 else None


def _agreement(pose: FilmPose, caudal: FloatArray, dorsal: FloatArray) -> float:
    """How well rows run to the feet and columns to the back of the film that the pose turns upright."""
    origin, down, right = pose.as_stored(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), (1, 1))
    feet, back = _unit(caudal), _unit(dorsal)
    # The spine's length decides over the bodies' depth.
    return float(2 * (down - origin) @ feet + (right - origin) @ back)


def _unit(vector: FloatArray) -> FloatArray:
    length = float(np.linalg.norm(vector))
    unit: FloatArray = vector / length if length > 0 else vector
    return unit


def _middle(vertebra: Vertebra) -> tuple[float, float]:
    assert vertebra.box_px is not None
    rows, columns = vertebra.box_px.rows, vertebra.box_px.columns
    return (rows[0] + rows[1]) / 2, (columns[0] + columns[1]) / 2


def _outlines(
    label_map: LabelMap, place: tuple[slice, ...], label: int, shape: tuple[int, int]
) -> tuple[FloatArray, ...]:
    rows, columns = place
    corner = np.array([rows.start, columns.start], dtype=np.float64)
    body = label_map.labels[0][rows, columns] == label
    limits = np.array(shape, dtype=np.float64)
    return tuple(
        _corners(np.clip(polygon + corner, 0, limits))
        for polygon in outlines_of(body.astype(np.float64), None)
    )


def _corners(polygon: FloatArray) -> FloatArray:
    """The same closed line without the points inside its straight stretches: films are large."""
    steps = np.diff(polygon, axis=0)
    before = np.roll(steps, 1, axis=0)
    turns = np.abs(before[:, 0] * steps[:, 1] - before[:, 1] * steps[:, 0]) > 1e-9
    kept = polygon[:-1][turns]
    return np.concatenate([kept, kept[:1]])


def _box(
    vertebra: Vertebra,
    image: ImageReference,
    outlines: tuple[FloatArray, ...],
    points: FloatArray | None,
) -> FloatArray | None:
    """First and last edge (row, column), shape (2, 2): the report's box, else what is drawn of the body."""
    box = vertebra.box_px
    if box is not None and box.sop_instance_uid == image.sop_instance_uid:
        return np.array([(box.rows[0], box.columns[0]), (box.rows[1] + 1, box.columns[1] + 1)])
    if outlines:
        corners = np.concatenate(outlines)
        return np.stack([corners.min(axis=0), corners.max(axis=0)])
    if points is not None:
        return np.stack([points.min(axis=0), points.max(axis=0)]) + 0.5
    return None
