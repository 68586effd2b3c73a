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
from dicom_ai_node.results.language import ENGLISH, Language
from dicom_ai_node.results.views import VertebraView

FloatArray = npt.NDArray[np.float64]
Place = tuple[FloatArray, str]
"""Top left and bottom right (row, column) as shown, and the justification of the text in this box."""

TEXT_HEIGHT_SHARE: Final = 0.028
"""Height of a label by height of the image."""
_WIDTH_OF_A_LETTER: Final = 0.55
"""By its height."""
_TIERS: Final = 6
"""Rows of labels over a spine that lies."""


def labels(
    views: Sequence[VertebraView],
    drawn: Sequence[VertebraView],
    canvas: Canvas,
    language: Language = ENGLISH,
) -> list[Dataset]:
    """One text object for each of `drawn`, beside all that is drawn of `views` on the same image."""
    extents = [_extent(view, canvas) for view in views]
    words = [_words(view, language) for view in views]
    corners = np.array(extents)
    place = _above_or_below if _lies(corners) else _before_or_behind
    places = place(corners, words, canvas)
    wanted = {id(view) for view in drawn}
    return [
        _text(said, *found, canvas)
        for view, said, found in zip(views, words, places, strict=True)
        if id(view) in wanted
    ]


def label_text(vertebra: Vertebra, language: Language = ENGLISH) -> str:
    """``L1 G2 -31% acute``, ``L3 OVCF``, ``T9 malignant?``; the level alone where nothing is to add."""
    short, level = language.picture, vertebra.level.value
    if vertebra.status != "analysed":
        return f"{level} {short.not_judged}"
    words = [level]
    if vertebra.genant_grade and vertebra.height_loss is not None:
        words.append(f"G{vertebra.genant_grade} -{100 * vertebra.height_loss:.0f}%")
        words += [] if vertebra.acuity is None else [short.acuities[vertebra.acuity[0]]]
    elif vertebra.ungraded_fracture:
        words.append(language.classes["fractured"])
        words += [] if vertebra.acuity is None else [short.acuities[vertebra.acuity[0]]]
    if vertebra.diseases:
        words.append(", ".join(short.diseases[name] for name in vertebra.diseases))
    if vertebra.malignant is not None:
        # An opinion that is to be checked, and the shortest way to say so on a picture.
        words.append(f"{short.malignancies['malignant' if vertebra.malignant else 'benign']}?")
    elif vertebra.abnormal and not vertebra.genant_grade:
        words.append(short.abnormal)
    return " ".join(words)


def notice(language: Language = ENGLISH) -> Dataset:
    """What every image says."""
    item = Dataset()
    item.BoundingBoxAnnotationUnits = "DISPLAY"
    item.UnformattedTextValue = language.picture.notice.format(research_use=language.research_use)
    item.BoundingBoxTopLeftHandCorner = [0.02, 0.01]
    item.BoundingBoxBottomRightHandCorner = [0.98, 0.045]
    item.BoundingBoxTextHorizontalJustification = "LEFT"
    return item


def _words(view: VertebraView, language: Language) -> str:
    said = label_text(view.vertebra, language)
    return f"{said} {language.picture.off_plane}" if view.off_plane else said


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


def _before_or_behind(corners: FloatArray, words: Sequence[str], canvas: Canvas) -> list[Place]:
    """Beside each vertebra, never on it or another: where there is more room, smaller if need be."""
    rows, columns = canvas.shown_shape
    tall = max(8.0, TEXT_HEIGHT_SHARE * rows)
    gap = tall / 3
    places: list[Place] = []
    for extent, said in zip(corners, words, strict=True):
        wanted = _WIDTH_OF_A_LETTER * tall * len(said)
        middle = float(extent[:, 0].mean())
        # Below the notice.
        above = float(np.clip(middle - tall / 2, 0.05 * rows, rows - tall))
        beside = corners[(corners[:, 0, 0] < above + tall) & (corners[:, 1, 0] > above)]
        left, right = min([extent[0, 1], *beside[:, 0, 1]]), max([extent[1, 1], *beside[:, 1, 1]])
        before, after = left - gap, columns - right - gap
        # Before the vertebra are vessels and bowel, behind it are the arches: before is better to read.
        ahead = before >= min(wanted, after)
        choices = []
        for front in (ahead, not ahead):
            width = max(1.0, min(wanted, before if front else after))
            height = max(4.0, tall * width / wanted)
            first = max(0.0, left - gap - width) if front else min(right + gap, columns - width)
            top = float(np.clip(middle - height / 2, 0.05 * rows, rows - height))
            box = np.array([(top, first), (top + height, first + width)])
            choices.append((box, "RIGHT" if front else "LEFT", width >= 0.7 * wanted))
        (box, justification, _), (other, opposite, fits) = choices
        if fits and any(_meet(box, on) for on, _ in places) and not any(_meet(other, on) for on, _ in places):
            box, justification = other, opposite
        places.append((box, justification))
    return places


def _above_or_below(corners: FloatArray, words: Sequence[str], canvas: Canvas) -> list[Place]:
    """A spine that lies: labels stand over it, in several rows where they would meet, else below it."""
    rows, columns = canvas.shown_shape
    height = max(8.0, TEXT_HEIGHT_SHARE * rows, 0.4 * TEXT_HEIGHT_SHARE * columns)
    # Short ones first: the levels stand in one row, and what is longer stands over them.
    taken: dict[int, FloatArray] = {}
    for number in sorted(range(len(words)), key=lambda number: (len(words[number]), number)):
        width = min(_WIDTH_OF_A_LETTER * height * len(words[number]), columns)
        first = float(np.clip(corners[number, :, 1].mean() - width / 2, 0, columns - width))
        over = corners[(corners[:, 0, 1] < first + width) & (corners[:, 1, 1] > first)]
        gap = height / 3
        tiers = np.arange(_TIERS) * (height + gap)
        candidates = [*(over[:, 0, 0].min() - gap - height - tiers), *(over[:, 1, 0].max() + gap + tiers)]
        boxes = [np.array([(top, first), (top + height, first + width)]) for top in candidates]
        free = [
            box
            for box in boxes
            # Below the notice, and on no other label.
            if 0.05 * rows <= box[0, 0] <= rows - height and not any(_meet(box, on) for on in taken.values())
        ]
        taken[number] = free[0] if free else np.clip(boxes[0], 0, [rows, columns])
    return [(taken[number], "CENTER") for number in range(len(words))]


def _meet(box: FloatArray, other: FloatArray) -> bool:
    return bool((box[0] < other[1]).all() and (other[0] < box[1]).all())
