"""`load_mr_volume`: one stack of an MR series to one array of signal with exact geometry.

Headers first, then pixels, slice by slice into the final array. What the stack shows, and that it may be
measured in, was decided before (`mr_series`).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pydicom

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.header import reading_quietly
from dicom_ai_node.imaging.mr_series import MrStack, mr_stacks, unsuited
from dicom_ai_node.imaging.mr_tags import PHILIPS_SCALE_SLOPE, private_number
from dicom_ai_node.imaging.pixels import read_signal
from dicom_ai_node.imaging.slices import Slice
from dicom_ai_node.imaging.stack import stack
from dicom_ai_node.imaging.volume import MAX_VOXELS, SliceRef, Volume
from dicom_ai_node.report import Reason

_SAME_SCALE: Final = 1e-4


def load_mr_series(paths: Sequence[Path]) -> Volume:
    """The largest stack of a series that vertebrae can be measured in.

    Args:
        paths: the files of one series, in any order: classic, enhanced or legacy-converted enhanced.

    Raises:
        UnreadableInstance: a file is no DICOM, is cut short, lacks a needed tag, or cannot be decoded.
        InconsistentGeometry: the slices do not form one volume.
        NotAnalysable: nothing in the series may be measured in: one slice, another plane than sagittal,
            phase, complex or mosaic images, a localizer and the like.
    """
    if not paths:
        raise NotAnalysable("coverage", "The series holds no image. Send its images.")
    found = mr_stacks(paths)
    refusals = [unsuited(one) for one in found]
    for one, refusal in zip(found, refusals, strict=True):
        if refusal is None:
            return load_mr_volume(one)
    first = next(refusal for refusal in refusals if refusal is not None)
    raise NotAnalysable(first.code, first.text)


def load_mr_volume(one: MrStack, *, max_gap_mm: float | None = None) -> Volume:
    """The signal of one stack.

    Values are the rescaled ones (modality LUT, PS3.3 C.11.1). Philips scales every image by itself; where
    that scale differs between the slices, it is taken back, and noted. Slices stand in ascending order along
    the normal of their planes; a gap between slices (their distance is more than their thickness) is part of
    the affine.

    Args:
        one: from `mr_series.mr_stacks`.
        max_gap_mm: as `volume.load_volume`.

    Returns:
        float32 voxels of shape (slices, rows, columns).

    Raises:
        UnreadableInstance: an image cannot be decoded.
        InconsistentGeometry: the slices do not form one volume.
        NotAnalysable: one slice only, or more than can be held.
    """
    with reading_quietly():
        laid = stack(one.slices, max_gap_mm=max_gap_mm)
        first = laid.slices[0]
        shape = (len(laid.slices), first.rows, first.columns)
        if np.prod(shape, dtype=np.int64) > MAX_VOXELS // 2:
            raise NotAnalysable("unreadable", f"The series has {'x'.join(map(str, shape))} voxels: too many.")
        factors, notes = _scales(one, laid.slices)
        voxels = np.empty(shape, dtype=np.float32)
        sent = [k for k in range(shape[0]) if k not in laid.interpolated]
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            list(pool.map(lambda k: read_signal(laid.slices[k], voxels[k], factors[k]), sent))
    _fill(voxels, sent)
    return Volume(
        voxels=voxels,
        affine=laid.affine,
        instances=tuple(
            SliceRef(item.sop_class_uid, item.sop_instance_uid, item.frame, item.path) for item in laid.slices
        ),
        study_instance_uid=first.study_instance_uid,
        series_instance_uid=first.series_instance_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        modality="MR",
        interpolated=laid.interpolated,
        notes=(*laid.notes, *notes),
    )


def _fill(voxels: npt.NDArray[np.float32], sent: list[int]) -> None:
    """Slices that were not sent, as weighted means of their neighbours."""
    for before, after in itertools.pairwise(sent):
        for k in range(before + 1, after):
            weight = (k - before) / (after - before)
            voxels[k] = voxels[before] * (1 - weight) + voxels[after] * weight


def _scales(one: MrStack, slices: Sequence[Slice]) -> tuple[list[float], list[Reason]]:
    """By what to multiply each slice's rescaled values so that all are on one scale.

    Signal is the displayed value divided by rescale slope and scale slope (Chenevert et al., Transl Oncol
    2014; 7:65).
    """
    slopes = {item.pixels.slope for item in slices}
    if one.tags.make != "philips" or len(slopes) == 1:
        return [1.0] * len(slices), []
    own = _scale_slopes(slices)
    products = [
        item.pixels.slope * own[item.path, item.frame] if (item.path, item.frame) in own else 0.0
        for item in slices
    ]
    if min(products) <= 0 or max(products) / min(products) - 1 < _SAME_SCALE:
        return [1.0] * len(slices), []
    middle = float(np.median(products))
    note = Reason(
        "partial", "The scanner scaled its slices differently; they were brought to one scale (2005,100E)."
    )
    return [middle / product for product in products], [note]


def _scale_slopes(slices: Sequence[Slice]) -> dict[tuple[Path, int], float]:
    found: dict[tuple[Path, int], float] = {}
    for path in {item.path for item in slices}:
        header = pydicom.dcmread(path, stop_before_pixels=True, force=True)
        frames = header.get("PerFrameFunctionalGroupsSequence") or []
        if not frames:
            value = private_number(header, PHILIPS_SCALE_SLOPE)
            if value is not None:
                found[path, 1] = value
        for number, group in enumerate(frames, start=1):
            private = group.get((0x2005, 0x140F))
            value = private_number(private.value[0], PHILIPS_SCALE_SLOPE) if private else None
            if value is not None:
                found[path, number] = value
    return found
