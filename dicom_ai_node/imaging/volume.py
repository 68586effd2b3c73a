"""`load_volume`: the files of one CT series to one array of Hounsfield units with exact geometry.

Reads headers first, decides on the geometry, and only then decodes, slice by slice into the final array,
so that memory is that of the result. Which files belong together is the router's decision. `mr_volume` does
the same for the signal of one MR stack.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.header import name_of, reading_quietly
from dicom_ai_node.imaging.pixels import read_hounsfield
from dicom_ai_node.imaging.slices import Slice, read_slices
from dicom_ai_node.imaging.stack import Stack, stack, stacks
from dicom_ai_node.report import Reason

MAX_VOXELS: Final = 2**31
"""4 GiB of 16-bit voxels: 8,000 slices of 512 x 512."""


UNSIGNED_OFFSET_HU: Final = 1024
"""What scanners add to HU to store them without a sign."""


@dataclass(frozen=True)
class SliceRef:
    """The instance, and the frame in it (from 1), that one slice of a volume came from."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int
    path: Path


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT or MR volume in patient space.

    Slices stand in ascending order along the normal of their planes (row cosines x column cosines), which
    need not be the order of their numbers.
    """

    voxels: npt.NDArray[Any]
    """Shape (slices, rows, columns): Hounsfield units (int16), or MR signal in no unit (float32)."""
    affine: npt.NDArray[np.float64]
    """4x4, (slice, row, column, 1) to LPS millimetres; sheared where the gantry was tilted."""
    instances: tuple[SliceRef, ...]
    """One per slice; at `interpolated` slices the nearest one that was sent."""
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str | None
    modality: str
    interpolated: frozenset[int] = frozenset()
    """Slices that were not sent and were interpolated from their neighbours."""
    notes: tuple[Reason, ...] = ()
    """What was tolerated, for the report's limitations."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        slices, rows, columns = self.voxels.shape
        return slices, rows, columns

    @property
    def spacing_mm(self) -> npt.NDArray[np.float64]:
        """Shape (3,): length of one step in slice, row and column direction."""
        lengths: npt.NDArray[np.float64] = np.linalg.norm(self.affine[:3, :3], axis=0)
        return lengths

    @property
    def direction(self) -> npt.NDArray[np.float64]:
        """Shape (3, 3): unit vectors (as columns) of the slice, row and column steps in LPS."""
        directions: npt.NDArray[np.float64] = self.affine[:3, :3] / self.spacing_mm
        return directions


def load_volume(paths: Sequence[Path], *, max_gap_mm: float | None = None) -> Volume:
    """Reads one CT series: classic, enhanced or legacy-converted enhanced, in any decodable transfer syntax.

    Args:
        paths: the files of the series, in any order; copies are taken once.
        max_gap_mm: neighbouring slices up to this far apart may have missing slices between them, which
            are then interpolated linearly and noted; None refuses a series with missing slices.

    Raises:
        UnreadableInstance: a file is no DICOM, is cut short, lacks a needed tag, or cannot be decoded.
        InconsistentGeometry: the slices do not form one volume; names the files and the tag.
        NotAnalysable: no image, one slice only, another modality, or more than can be held.
    """
    if not paths:
        raise NotAnalysable("coverage", "The series holds no image. Send its images.")
    with reading_quietly():
        slices = [item for path in paths for item in read_slices(Path(path))]
        found = stack(slices, max_gap_mm=max_gap_mm)
        voxels = _voxels(found)
        notes = _value_notes(found, voxels)
    first = found.slices[0]
    return Volume(
        voxels=voxels,
        affine=found.affine,
        instances=tuple(
            SliceRef(item.sop_class_uid, item.sop_instance_uid, item.frame, item.path)
            for item in found.slices
        ),
        study_instance_uid=first.study_instance_uid,
        series_instance_uid=first.series_instance_uid,
        frame_of_reference_uid=first.frame_of_reference_uid,
        modality=first.modality,
        interpolated=found.interpolated,
        notes=(*found.notes, *notes),
    )


def split_stacks(paths: Sequence[Path]) -> list[tuple[SliceRef, ...]]:
    """The stacks that the files of a mixed series fall into, largest first, from headers alone.

    For a router that decides to analyse the largest: `load_volume` itself never chooses.

    Raises:
        UnreadableInstance, InconsistentGeometry, NotAnalysable: as `load_volume`, for single files.
    """
    with reading_quietly():
        slices = [item for path in paths for item in read_slices(Path(path))]
    return [
        tuple(SliceRef(item.sop_class_uid, item.sop_instance_uid, item.frame, item.path) for item in group)
        for group in stacks(slices)
    ]


def _voxels(found: Stack) -> npt.NDArray[np.int16]:
    first = found.slices[0]
    shape = (len(found.slices), first.rows, first.columns)
    if np.prod(shape, dtype=np.int64) > MAX_VOXELS:
        raise NotAnalysable(
            "unreadable",
            f"The series has {shape[0]} slices of {shape[1]}x{shape[2]} pixels "
            f"({name_of('Rows')}, {name_of('Columns')}), more than {MAX_VOXELS} voxels. "
            "Send a reconstruction with fewer slices.",
        )
    voxels = np.empty(shape, dtype=np.int16)
    sent = [k for k in range(len(found.slices)) if k not in found.interpolated]

    def decode(k: int) -> None:
        read_hounsfield(found.slices[k], voxels[k])

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        # Consumed as they come: the first failure is raised, and the rest is not waited for.
        try:
            for _ in pool.map(decode, sent):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _interpolate(voxels, sent)
    return voxels


def _interpolate(voxels: npt.NDArray[np.int16], sent: list[int]) -> None:
    for before, after in itertools.pairwise(sent):
        for k in range(before + 1, after):
            weight = (k - before) / (after - before)
            voxels[k] = np.rint(voxels[before] * (1 - weight) + voxels[after] * weight)


def _value_notes(found: Stack, voxels: npt.NDArray[np.int16]) -> list[Reason]:
    """What is said of a CT without rescale; values of which none is below 0 are brought to HU in place."""
    bare: list[Slice] = [item for item in found.slices if not item.pixels.rescaled]
    if not bare or found.slices[0].modality != "CT":
        return []
    told = "stored values were taken as Hounsfield units."
    if len(bare) == len(found.slices) and int(voxels.min()) >= 0:
        # Air is -1000 HU: a scanner that stores none below 0 counts from -1024.
        voxels -= UNSIGNED_OFFSET_HU
        told = f"no stored value is below 0, so {UNSIGNED_OFFSET_HU} was taken off to have Hounsfield units."
    return [
        Reason(
            "modality-mismatch",
            f"{bare[0].path.name}{f' and {len(bare) - 1} more' if len(bare) > 1 else ''}: "
            f"{name_of('RescaleIntercept')} or {name_of('RescaleSlope')} is missing; {told}",
        )
    ]
