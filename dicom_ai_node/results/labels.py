"""The texts of a presentation state: level and finding beside each vertebra, and the notice.

Texts are placed in the image as it is shown, where they are read; what is written are the same corners in
the image as stored, from the shown top left to the shown bottom right (PS3.3 C.10.5.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_ai_node.report import Vertebra
from dicom_ai_node.results.canvas import Canvas
from dicom_ai_node.results.modules import RESEARCH_USE_ONLY
from dicom_ai_node.results.views import VertebraView

FloatArray = npt.NDArray[np.float64]

TEXT_HEIGHT_SHARE: Final = 0.028
"""Height of a label by height of the image."""
_WIDTH_OF_A_LETTER: Final = 0.55
"""By its height."""


def labels(views: Sequence[VertebraView], drawn: Sequence[VertebraView], canvas: Canvas) -> list[Dataset]:
    """One text object for each of `drawn`, beside all that is drawn of `views` on the same image."""
    extents = {id(view): _extent(view, canvas) for view in views}
    corners = np.array(list(extents.values()))
    place = _above_or_below if _lies(corners) else _before_or_behind
    items = []
    for view in drawn:
        words = label_text(view.vertebra) + (" off plane" if view.off_plane else "")
        items.append(_text(words, *place(extents[id(view)], corners, words, canvas), canvas))
    return items


def label_text(vertebra: Vertebra) -> str:
    """``L1 G2 -31% acute``; the level alone where there is nothing to add."""
    if vertebra.status != "analysed":
        return f"{vertebra.level.value} not judged"
    if not vertebra.genant_grade or vertebra.height_loss is None:
        return vertebra.level.value
    words = f"{vertebra.level.value} G{vertebra.genant_grade} -{100 * vertebra.height_loss:.0f}%"
    kind = vertebra.acuity
    return words if kind is None else f"{words} {kind[0]}"


def notice() -> Dataset:
    """What every image says."""
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.UnformattedTextValue = f"AI - {RESEARCH_USE_ONLY}"
    item.BoundingBoxTopLeftHandCorner = [0.02, 0.01]
    item.BoundingBoxBottomRightHandCorner = [0.98, 0.045]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item


def _text(words: str, box: FloatArray, justification: str, canvas: Canvas) -> Dataset:
    stored = canvas.to_stored(box)
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "PIXEL"
    item.UnformattedTextValue = words
    item.BoundingBoxTopLeftHandCorner = [round(float(value), 2) for value in stored[0, ::-1]]
    item.BoundingBoxBottomRightHandCorner = [round(float(value), 2) for value in stored[1, ::-1]]
    item.BoundingBoxTextHorizontalJustification = justification
    return item


def _extent(view: VertebraView, canvas: Canvas) -> FloatArray:
    """Top left and bottom right (row, column) of what is drawn of the vertebra, as shown, shape (2, 2)."""
    if view.rows is not None and view.columns is not None:
        corners = np.stack([view.rows, view.columns], axis=1)
    else:
        corners = np.concatenate(view.outlines)
    shown = canvas.to_shown(corners)
    return np.stack([shown.min(axis=0), shown.max(axis=0)])


def _lies(corners: FloatArray) -> bool:
    """Whether the spine lies across the image; `corners` has shape (n, 2, 2)."""
    height, width = np.ptp(corners.mean(axis=1), axis=0)
    return bool(width > height)


def _before_or_behind(
    extent: FloatArray, corners: FloatArray, words: str, canvas: Canvas
) -> tuple[FloatArray, str]:
    """Beside the vertebra, never on it or another: where there is more room, smaller if need be."""
    (top, left), (bottom, right) = extent
    rows, columns = canvas.shown_shape
    height = max(8.0, TEXT_HEIGHT_SHARE * rows)
    gap = height / 3
    wanted = _WIDTH_OF_A_LETTER * height * len(words)
    # Below the notice.
    above = float(np.clip((top + bottom - height) / 2, 0.05 * rows, rows - height))
    beside = corners[(corners[:, 0, 0] < above + height) & (corners[:, 1, 0] > above)]
    left, right = min([left, *beside[:, 0, 1]]), max([right, *beside[:, 1, 1]])
    before, after = left - gap, columns - right - gap
    # Before the vertebra are vessels and bowel, behind it are the arches: before is better to read.
    ahead = before >= min(wanted, after)
    width = max(1.0, min(wanted, before if ahead else after))
    height = max(4.0, height * width / wanted)
    first = max(0.0, left - gap - width) if ahead else min(right + gap, columns - width)
    above = float(np.clip((top + bottom - height) / 2, 0.05 * rows, rows - height))
    box = np.array([(above, first), (above + height, first + width)])
    return box, "RIGHT" if ahead else "LEFT"


def _above_or_below(
    extent: FloatArray, corners: FloatArray, words: str, canvas: Canvas
) -> tuple[FloatArray, str]:
    """A spine that lies: labels stand over it, each no wider than the way to the next vertebra."""
    rows, columns = canvas.shown_shape
    middles = np.sort(corners.mean(axis=1)[:, 1])
    pitch = float(np.median(np.diff(middles)))
    height = max(8.0, TEXT_HEIGHT_SHARE * rows)
    wanted = _WIDTH_OF_A_LETTER * height * len(words)
    width = max(1.0, min(wanted, 0.95 * pitch, columns))
    height = max(4.0, height * width / wanted)
    first = float(np.clip(extent[:, 1].mean() - width / 2, 0, columns - width))
    over = corners[(corners[:, 0, 1] < first + width) & (corners[:, 1, 1] > first)]
    top, bottom = min([extent[0, 0], *over[:, 0, 0]]), max([extent[1, 0], *over[:, 1, 0]])
    gap = height / 3
    upper = top - gap - height
    above = upper if upper >= 0.05 * rows else min(bottom + gap, rows - height)
    box = np.array([(above, first), (above + height, first + width)])
    return box, "CENTER"
