"""Small studies of known truth in every geometry: a spine of plain blocks, cut by any grid, as real files.

The spine is described once in patient millimetres; a grid only says where its voxels lie. Masks, heights
and points are therefore known exactly, whatever the direction or the order of the slices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from conformance.ct_files import write_classic_ct, write_enhanced_ct
from conformance.grids import GRIDS, Grid
from conformance.spines import SPINE, Block
from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.report import (
    Algorithm,
    Analysis,
    HeightsMm,
    LabelMap,
    PlaneMeasures,
    Reason,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.results.source import SourceSeries

__all__ = ["GRIDS", "SPINE", "UNJUDGED", "Block", "Grid", "Study", "make_study", "voxel_points"]

Array = npt.NDArray[np.float64]

UNJUDGED: Final = Level.L5
"""The vertebra that the analysis could not judge."""


@dataclass(frozen=True)
class Study:
    """A written study with what an analysis of it says."""

    source: SourceSeries
    analysis: Analysis
    grid: Grid
    points: Array
    """Shape (slices, rows, columns, 3): where each voxel of the source volume lies, LPS millimetres."""
    spine: tuple[Block, ...] = SPINE

    def truth(self, level: Level) -> npt.NDArray[np.bool_]:
        """Which voxels of the source volume lie in that body."""
        return next(block for block in self.spine if block.level is level).contains(self.points)


def make_study(
    grid: Grid,
    folder: Path,
    *,
    patient: str = "Conformance^Spine",
    spine: tuple[Block, ...] = SPINE,
    lost: tuple[int, ...] = (),
) -> Study:
    """Writes the CT of the block spine on that grid and analyses it by looking at the truth.

    Args:
        spine: what the patient has.
        lost: slices that were not sent, by their number in the order of the grid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    points = voxel_points(grid.shape, grid.affine)
    hu = np.full(grid.shape, -1000, dtype=np.int16)
    hu[np.hypot(points[..., 0], (points[..., 1] - 10) / 1.2) < 60] = 40
    for block in spine:
        hu[block.contains(points)] = 180 + 20 * block.grade
    paths = (write_enhanced_ct if grid.multi_frame else write_classic_ct)(hu, grid, folder, patient)
    paths = [path for number, path in enumerate(paths) if number not in lost]
    volume = load_volume(paths, max_gap_mm=2.5 * float(np.linalg.norm(grid.affine[:3, 0])) if lost else None)
    # The volume has its own order of slices: the truth follows it.
    points = voxel_points(volume.shape, volume.affine)
    labels = np.zeros(volume.shape, dtype=np.uint8)
    for block in spine:
        labels[block.contains(points)] = verse_label(block.level)
    report = SpineReport(
        status="analysed",
        source=Source(
            volume.study_instance_uid, (volume.series_instance_uid,), "CT", volume.frame_of_reference_uid
        ),
        limitations=(
            Reason("research-use", "Results are for research use and were not validated clinically."),
            Reason("thresholds", "Genant: loss from 20 % grade 1, over 25 % grade 2, over 40 % grade 3."),
        ),
        algorithms=(
            Algorithm("block-spine-segment", "1.0", hashlib.sha256(b"segment").hexdigest(), "2.25.11"),
            Algorithm("block-spine-points", "1.0", hashlib.sha256(b"points").hexdigest(), "2.25.12"),
        ),
        vertebrae=tuple(_vertebra(block) for block in spine),
    )
    analysis = Analysis(report, LabelMap(labels, volume.affine))
    return Study(SourceSeries(tuple(paths), volume), analysis, grid, points, spine)


def voxel_points(shape: tuple[int, int, int], affine: Array) -> Array:
    """Centres of all voxels in LPS millimetres, shape (slices, rows, columns, 3)."""
    index = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def _vertebra(block: Block) -> Vertebra:
    if block.level is UNJUDGED:
        return Vertebra(
            level=block.level,
            level_confidence=0.91,
            center_mm=block.centre,
            status="not-analysable",
            reasons=(Reason("coverage", "The lower endplate lies outside the field of view."),),
        )
    reference = max(block.anterior, block.middle, block.posterior, 25.0 if block.deformity == "crush" else 0)
    loss = 1 - min(block.anterior, block.middle, block.posterior) / reference
    return Vertebra(
        level=block.level,
        level_confidence=0.97,
        level_alternatives={"T12": 0.03} if block.level is Level.L1 else {},
        center_mm=block.centre,
        six_points=SixPoints.from_array(block.six_points()),
        heights_mm=HeightsMm(block.anterior, block.middle, block.posterior, reference),
        height_loss=loss,
        genant_grade=block.grade,
        deformity=block.deformity,
        fractured=block.grade > 0,
        fracture_probability=0.03 + 0.3 * block.grade,
        mean_hu=180.0 + 20 * block.grade,
        planes=_planes(block) if block.deformity == "wedge" else (),
    )


def _planes(block: Block) -> tuple[PlaneMeasures, ...]:
    """The middle plane, which counts, between two that are a millimetre lower and higher in front."""
    planes = []
    for aside, lower in ((-10.0, 1.0), (0.0, 0.0), (10.0, -1.0)):
        points = block.six_points() + np.array([aside, 0.0, 0.0])
        points[0, 2] -= lower
        anterior = block.anterior - lower
        heights = HeightsMm(anterior, block.middle, block.posterior, block.posterior)
        loss = 1 - anterior / block.posterior
        planes.append(PlaneMeasures(aside, aside == 0.0, SixPoints.from_array(points), heights, loss))
    return tuple(planes)
