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
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.imaging.volume import load_volume
from dicom_ai_node.report import (
    Algorithm,
    Analysis,
    Deformity,
    HeightsMm,
    LabelMap,
    Reason,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.results.source import SourceSeries

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Block:
    """One vertebral body: a block with its own anterior, middle and posterior height, in LPS millimetres."""

    level: Level
    centre: tuple[float, float, float]
    anterior: float
    middle: float
    posterior: float
    deformity: Deformity
    grade: int
    half_width: float = 20.0
    half_depth: float = 15.0

    def half_height(self, y: Array) -> Array:
        """Half the height at patient y; the heights stand at front, middle and back, lines between them."""
        middle = self.centre[1]
        places = (middle - self.half_depth, middle, middle + self.half_depth)
        return np.interp(y, places, (self.anterior / 2, self.middle / 2, self.posterior / 2))

    def contains(self, points: Array) -> npt.NDArray[np.bool_]:
        """Which of the points, shape (..., 3), lie in the body."""
        offset = points - np.array(self.centre)
        inside: npt.NDArray[np.bool_] = (
            (np.abs(offset[..., 0]) <= self.half_width)
            & (np.abs(offset[..., 1]) <= self.half_depth)
            & (np.abs(offset[..., 2]) <= self.half_height(points[..., 1]))
        )
        return inside

    def six_points(self) -> Array:
        """Shape (6, 3) in the order of `report.SIX_POINT_NAMES`."""
        x, y, z = self.centre
        return np.array(
            [
                (x, y + depth, z + sign * height / 2)
                for depth, height in (
                    (-self.half_depth, self.anterior),
                    (0.0, self.middle),
                    (self.half_depth, self.posterior),
                )
                for sign in (1, -1)
            ]
        )


SPINE: Final[tuple[Block, ...]] = (
    Block(Level.T11, (4.0, 5.0, 100.0), 25, 25, 25, "none", 0),
    Block(Level.T12, (6.0, 1.0, 66.0), 14, 14, 15, "crush", 3),
    Block(Level.L1, (6.0, -4.0, 32.0), 18, 22, 26, "wedge", 2),
    Block(Level.L2, (4.0, -9.0, -3.0), 27, 26.5, 27, "none", 0),
    Block(Level.L3, (1.0, -11.0, -38.0), 27, 21, 27, "biconcave", 1),
    Block(Level.L4, (-2.0, -9.0, -73.0), 28, 28, 27, "none", 0),
    Block(Level.L5, (-4.0, -4.0, -108.0), 29, 28, 26, "none", 0),
)
"""A spine with a slight scoliosis and lordosis, and one fracture of each kind."""

UNJUDGED: Final = Level.L5
"""The vertebra that the analysis could not judge."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a study lie: name, shape (slices, rows, columns) and affine to LPS millimetres."""

    name: str
    shape: tuple[int, int, int]
    affine: Array
    multi_frame: bool = False
    reversed_numbers: bool = False


def _grid(
    name: str,
    steps: tuple[tuple[float, float, float], ...],
    shape: tuple[int, int, int],
    *,
    multi_frame: bool = False,
    reversed_numbers: bool = False,
) -> Grid:
    """A grid centred on the spine from its slice, row and column steps."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(steps).T
    affine[:3, 3] = np.array((1.0, 8.0, -4.0)) - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return Grid(name, shape, affine, multi_frame, reversed_numbers)


def _turned(angles: tuple[float, float, float], steps: tuple[float, float, float]) -> Array:
    """Axial steps (slice, row, column) turned about x, y and z by degrees; one step per row."""
    a, b, c = np.radians(angles)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    axial = np.array([[0, 0, steps[0]], [0, steps[1], 0], [steps[2], 0, 0]], dtype=np.float64)
    turned: Array = axial @ (about_x @ about_y @ about_z).T
    return turned


def _steps(turned: Array) -> tuple[tuple[float, float, float], ...]:
    return tuple((float(x), float(y), float(z)) for x, y, z in turned)


_SHEAR = 3.0 * np.tan(np.radians(15.0))

GRIDS: Final[tuple[Grid, ...]] = (
    _grid("axial", ((0, 0, 3), (0, 1.5, 0), (1.5, 0, 0)), (90, 72, 64)),
    _grid(
        "axial, numbered from the feet",
        ((0, 0, 3), (0, 1.5, 0), (1.5, 0, 0)),
        (90, 72, 64),
        reversed_numbers=True,
    ),
    _grid("axial, column cosine negated", ((0, 0, -3), (0, -1.5, 0), (1.5, 0, 0)), (90, 72, 64)),
    _grid("axial, row cosine negated", ((0, 0, -3), (0, 1.5, 0), (-1.5, 0, 0)), (90, 72, 64)),
    _grid("axial, both cosines negated", ((0, 0, 3), (0, -1.5, 0), (-1.5, 0, 0)), (90, 72, 64)),
    _grid("axial, odd size, unequal spacing", ((0, 0, 4.25), (0, 1.3, 0), (1.7, 0, 0)), (63, 83, 57)),
    _grid("axial, gantry tilted 15 degrees", ((0, _SHEAR, 3), (0, 1.5, 0), (1.5, 0, 0)), (90, 110, 64)),
    _grid("oblique axial", _steps(_turned((12, -8, 20), (3, 1.5, 1.5))), (96, 96, 90)),
    _grid("sagittal", ((3, 0, 0), (0, 0, -1.5), (0, 1.5, 0)), (20, 190, 72)),
    _grid("sagittal, row cosine negated", ((-3, 0, 0), (0, 0, -1.5), (0, -1.5, 0)), (20, 190, 72)),
    _grid("sagittal, column cosine negated", ((-3, 0, 0), (0, 0, 1.5), (0, 1.5, 0)), (20, 190, 72)),
    _grid("coronal", ((0, -3, 0), (0, 0, -1.5), (1.5, 0, 0)), (24, 190, 64)),
    _grid(
        "axial, enhanced multi-frame", ((0, 0, 3), (0, 1.5, 0), (1.5, 0, 0)), (90, 72, 64), multi_frame=True
    ),
    _grid(
        "sagittal, enhanced multi-frame",
        ((3, 0, 0), (0, 0, -1.5), (0, 1.5, 0)),
        (20, 190, 72),
        multi_frame=True,
    ),
)
"""Every way in which a CT's voxels may lie; slices step along row cosines x column cosines."""


@dataclass(frozen=True)
class Study:
    """A written study with what an analysis of it says."""

    source: SourceSeries
    analysis: Analysis
    grid: Grid
    points: Array
    """Shape (slices, rows, columns, 3): where each voxel of the source volume lies, LPS millimetres."""

    def truth(self, level: Level) -> npt.NDArray[np.bool_]:
        """Which voxels of the source volume lie in that body."""
        return next(block for block in SPINE if block.level is level).contains(self.points)


def make_study(grid: Grid, folder: Path, *, patient: str = "Conformance^Spine") -> Study:
    """Writes the CT of the block spine on that grid and analyses it by looking at the truth."""
    folder.mkdir(parents=True, exist_ok=True)
    points = voxel_points(grid.shape, grid.affine)
    hu = np.full(grid.shape, -1000, dtype=np.int16)
    hu[np.hypot(points[..., 0], (points[..., 1] - 10) / 1.2) < 60] = 40
    for block in SPINE:
        hu[block.contains(points)] = 180 + 20 * block.grade
    paths = (write_enhanced_ct if grid.multi_frame else write_classic_ct)(hu, grid, folder, patient)
    volume = load_volume(paths)
    # The volume has its own order of slices: the truth follows it.
    points = voxel_points(volume.shape, volume.affine)
    labels = np.zeros(volume.shape, dtype=np.uint8)
    for block in SPINE:
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
        vertebrae=tuple(_vertebra(block) for block in SPINE),
    )
    analysis = Analysis(report, LabelMap(labels, volume.affine))
    return Study(SourceSeries(tuple(paths), volume), analysis, grid, points)


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
    )


def _uid(*parts: object) -> str:
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _decimals(values: npt.ArrayLike) -> list[DSfloat]:
    return [DSfloat(round(float(value), 9) + 0.0, auto_format=True) for value in np.asarray(values).ravel()]


def _header(grid: Grid, sop_class_uid: str, sop_instance_uid: str, patient: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(_uid("writer"))
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_instance_uid
    dataset.StudyInstanceUID = _uid(grid.name, "study")
    dataset.SeriesInstanceUID = _uid(grid.name, "series")
    dataset.FrameOfReferenceUID = _uid(grid.name, "space")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20240131"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "083000"
    dataset.PatientName, dataset.PatientID = patient, "CONF-1"
    dataset.PatientBirthDate, dataset.PatientSex = "19500101", "F"
    dataset.ReferringPhysicianName, dataset.StudyID, dataset.AccessionNumber = "", "1", "A1"
    dataset.Modality, dataset.SeriesNumber = "CT", 2
    dataset.Manufacturer, dataset.ManufacturerModelName = "Block Scanner Works", "One"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    dataset.KVP, dataset.AcquisitionNumber = 120, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.Rows, dataset.Columns = grid.shape[1:]
    return dataset


def _measures(grid: Grid) -> tuple[list[DSfloat], list[DSfloat], DSfloat]:
    """Pixel spacing, orientation and distance between slices."""
    row_step, column_step = grid.affine[:3, 1], grid.affine[:3, 2]
    lengths = np.linalg.norm(row_step), np.linalg.norm(column_step)
    cosines = np.concatenate([column_step / lengths[1], row_step / lengths[0]])
    distance = abs(float(np.cross(cosines[:3], cosines[3:]) @ grid.affine[:3, 0]))
    return _decimals(lengths), _decimals(cosines), DSfloat(distance, auto_format=True)


def write_classic_ct(hu: npt.NDArray[np.int16], grid: Grid, folder: Path, patient: str) -> list[Path]:
    """One CT Image per slice."""
    spacing, orientation, distance = _measures(grid)
    paths = []
    for index, plane in enumerate(hu):
        dataset = _header(grid, CTImageStorage, _uid(grid.name, "instance", index), patient)
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.InstanceNumber = len(hu) - index if grid.reversed_numbers else index + 1
        dataset.PixelSpacing, dataset.ImageOrientationPatient = spacing, orientation
        dataset.SliceThickness = distance
        dataset.ImagePositionPatient = _decimals(grid.affine[:3, 3] + index * grid.affine[:3, 0])
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
        dataset.WindowCenter, dataset.WindowWidth = 300, 1500
        dataset.PixelData = (plane.astype(np.int32) + 1024).astype(np.uint16).tobytes()
        paths.append(folder / f"{dataset.InstanceNumber:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def write_enhanced_ct(hu: npt.NDArray[np.int16], grid: Grid, folder: Path, patient: str) -> list[Path]:
    """One Enhanced CT Image with a frame per slice."""
    spacing, orientation, distance = _measures(grid)
    dataset = _header(grid, EnhancedCTImageStorage, _uid(grid.name, "instance"), patient)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber, dataset.NumberOfFrames = 1, len(hu)
    measures, plane_orientation, rescale, window = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = spacing, distance
    plane_orientation.ImageOrientationPatient = orientation
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = -1024, 1, "HU"
    window.WindowCenter, window.WindowWidth = 300, 1500
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane_orientation]
    shared.PixelValueTransformationSequence, shared.FrameVOILUTSequence = [rescale], [window]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = []
    for index in range(len(hu)):
        position, content, groups = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = _decimals(grid.affine[:3, 3] + index * grid.affine[:3, 0])
        content.DimensionIndexValues = [index + 1]
        groups.PlanePositionSequence, groups.FrameContentSequence = [position], [content]
        dataset.PerFrameFunctionalGroupsSequence.append(groups)
    dataset.PixelData = (hu.astype(np.int32) + 1024).astype(np.uint16).tobytes()
    path = folder / "enhanced.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return [path]
