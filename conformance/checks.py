"""What other people's programs say about result objects; each check returns its complaints, none if content.

A check that needs a program raises `ToolMissing` where that is not installed.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

import highdicom
import numpy as np
import numpy.typing as npt
import pydicom
import SimpleITK

from conformance.false_positives import unexplained
from dicom_ai_node.anatomy import Level, code, verse_label
from dicom_ai_node.report import Analysis, Vertebra
from dicom_ai_node.results import codes
from dicom_ai_node.results.rendition import SEGMENTATION_SOP_CLASSES
from dicom_ai_node.results.source import SourceSeries
from dicom_ai_node.results.validate import dciodvfy_errors


class Analysed(Protocol):
    """A study with what is known of it."""

    @property
    def source(self) -> SourceSeries:
        """The images."""

    @property
    def analysis(self) -> Analysis:
        """What results say."""


class ToolMissing(Exception):
    """A program that a check needs is not installed."""


def run_tool(name: str, *arguments: object) -> tuple[int, str]:
    """Exit code and all output of a program on the PATH or beside this Python."""
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if path is None:
        raise ToolMissing(name)
    done = subprocess.run(  # noqa: S603 - a fixed program, no shell
        [path, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        errors="replace",
    )
    return done.returncode, done.stdout + done.stderr


def dciodvfy(path: Path) -> list[str]:
    """What dicom3tools' IOD validator says, but for its known false positives.

    It does not know the SOP class of label maps: of these only the errors that are not due to that count.
    """
    _, output = run_tool("dciodvfy", path)
    if SEGMENTATION_SOP_CLASSES["labelmap"].encode() in path.read_bytes():
        return dciodvfy_errors(output, label_map=True)
    return unexplained(output.splitlines())


def dcmpschk(path: Path) -> list[str]:
    """Errors of DCMTK's presentation state checker."""
    status, output = run_tool("dcmpschk", path)
    passed = status == 0 and "Test passed" in output
    return (
        []
        if passed
        else [line for line in output.splitlines() if line.startswith(("E:", "F:"))] or ["failed"]
    )


def dsrdump(path: Path) -> list[str]:
    """Whether DCMTK reads the report and prints it without a warning."""
    status, output = run_tool("dsrdump", path)
    complaints = [line for line in output.splitlines() if line.startswith(("E:", "F:", "W:"))]
    return complaints if complaints or status == 0 else [f"exit code {status}"]


def highdicom_reads(folder: Path) -> list[str]:
    """Whether highdicom parses the segmentation and the report, and finds each segment's group in the report.

    The groups of a volume are volumetric regions, those of a film planar ones.
    """
    report: Any = highdicom.sr.srread(folder / "sr.dcm").content
    if not (folder / "seg.dcm").exists():
        return []
    segmentation = highdicom.seg.segread(folder / "seg.dcm")
    in_space = "FrameOfReferenceUID" in segmentation
    groups = (
        report.get_volumetric_roi_measurement_groups()
        if in_space
        else [
            item for item in report.get_planar_roi_measurement_groups() if item.referenced_segmentation_frame
        ]
    )
    labels = [
        segmentation.get_segment_description(number).segment_label for number in segmentation.segment_numbers
    ]
    tracked = [group.tracking_identifier for group in groups]
    return [] if labels == tracked else [f"segments {labels}, measurement groups {tracked}"]


def same_masks(study: Analysed, segmentation: Path) -> list[str]:
    """Dcmqi's masks against the label map, voxel by voxel in patient space.

    ITK images cannot be sheared: of a tilted series dcmqi keeps the pixels but not the place of each slice,
    so that there the rows of voxels are compared by slice.
    """
    label_map, volume = study.analysis.label_map, study.source.volume
    assert label_map is not None
    assert volume is not None
    complaints = []
    with tempfile.TemporaryDirectory() as folder:
        status, output = run_tool(
            "segimage2itkimage", "--inputDICOM", segmentation, "--outputDirectory", folder, "-t", "nii"
        )
        if status != 0:
            return [output[-300:]]
        dataset = pydicom.dcmread(segmentation, stop_before_pixels=True)
        for item in dataset.SegmentSequence:
            if item.SegmentNumber == dataset.get("PixelPaddingValue"):
                # The background of a label map.
                continue
            # Of a label map dcmqi makes one image with the numbers of the segments as values.
            together = dataset.SegmentationType == "LABELMAP"
            name = 1 if together else item.SegmentNumber
            image = SimpleITK.ReadImage(str(Path(folder) / f"{name}.nii.gz"))
            image = image == item.SegmentNumber if together else image
            expected = label_map.labels == verse_label(Level(item.SegmentLabel))
            if not np.array_equal(_on_source_grid(image, volume.affine, expected.shape), expected):
                complaints.append(f"{item.SegmentLabel}: other voxels than in the label map")
    return complaints


def _on_source_grid(
    image: Any, affine: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    mask = SimpleITK.GetArrayFromImage(image) > 0
    # ITK counts x, y, z; arrays are z, y, x.
    voxels = np.argwhere(mask)[:, ::-1]
    steps = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    unsheared = affine.copy()
    normal = np.cross(affine[:3, 2], affine[:3, 1])
    normal /= np.linalg.norm(normal)
    unsheared[:3, 0] = normal * (affine[:3, 0] @ normal)
    where = voxels @ steps.T + image.GetOrigin()
    seen = np.zeros(shape, bool)
    if np.allclose(unsheared, affine, atol=1e-6):
        index = np.linalg.solve(affine[:3, :3], (where - affine[:3, 3]).T).T
    else:
        index = np.column_stack(
            [((where - affine[:3, 3]) @ normal) / np.linalg.norm(unsheared[:3, 0]), voxels[:, 1::-1]]
        )
    nearest = np.rint(index).astype(int)
    if np.abs(index - nearest).max() > 0.01 or (nearest < 0).any() or (nearest >= shape).any():
        return seen
    seen[tuple(nearest.T)] = True
    return seen


def same_numbers(study: Analysed, report: Path) -> list[str]:
    """Dcmqi's reading of the report against the analysis: sites, segments, values, units."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "report.json"
        status, output = run_tool("tid1500reader", "--inputDICOM", report, "--outputMetadata", written)
        if status != 0:
            return [output[-300:]]
        groups = json.loads(written.read_text(encoding="utf-8"))["Measurements"]
    in_space = study.source.volume is not None
    with_segment = {
        group["TrackingIdentifier"]: group
        for group in groups
        # Of a film's group dcmqi does not tell the frame.
        if ("ReferencedSegment" in group if in_space else group.get("measurementItems"))
    }
    vertebrae = study.analysis.report.vertebrae
    if list(with_segment) != [vertebra.level for vertebra in vertebrae]:
        return [f"groups for {list(with_segment)}"]
    complaints = []
    for number, vertebra in enumerate(vertebrae, start=1):
        group = with_segment[vertebra.level]
        if in_space and group["ReferencedSegment"] != number:
            complaints.append(f"{vertebra.level}: segment {group['ReferencedSegment']}")
        if group["FindingSite"]["CodeValue"] != code(vertebra.level).value:
            complaints.append(f"{vertebra.level}: finding site {group['FindingSite']}")
        read = {
            item["quantity"]["CodeMeaning"]: (float(item["value"]), item["units"]["CodeValue"])
            for item in group["measurementItems"]
        }
        expected = expected_numbers(vertebra)
        if read.keys() != expected.keys() or any(
            abs(read[name][0] - value) > 0.0051 or read[name][1] != unit
            for name, (value, unit) in expected.items()
        ):
            complaints.append(f"{vertebra.level}: {read}, not {expected}")
    return complaints


def expected_numbers(vertebra: Vertebra) -> dict[str, tuple[float, str]]:
    """What a reader must find for a vertebra: name of the measurement -> (value, UCUM unit)."""
    numbers = {"Confidence of vertebral level": (100 * vertebra.level_confidence, "%")}
    heights = vertebra.heights_mm
    if heights is not None:
        numbers["Anterior vertebral body height"] = (heights.anterior, "mm")
        numbers["Middle vertebral body height"] = (heights.middle, "mm")
        numbers["Posterior vertebral body height"] = (heights.posterior, "mm")
        numbers["Reference height for vertebral height loss"] = (heights.reference, "mm")
    if vertebra.height_loss is not None:
        numbers["Vertebral body height loss"] = (100 * vertebra.height_loss, "%")
    if vertebra.fracture_probability is not None:
        numbers["Probability of vertebral fracture"] = (100 * vertebra.fracture_probability, "%")
    if vertebra.mean_hu is not None:
        numbers["Attenuation Coefficient"] = (vertebra.mean_hu, "[hnsf'U]")
    for plane in vertebra.planes:
        where = {-1: "right of the middle", 0: "middle plane", 1: "left of the middle"}[
            int(np.sign(plane.aside_mm))
        ]
        for part in ("anterior", "middle", "posterior"):
            name = f"{part.capitalize()} vertebral body height, {where}"
            numbers[name] = (getattr(plane.heights_mm, part), "mm")
        if plane.height_loss is not None:
            numbers[f"Vertebral body height loss, {where}"] = (100 * plane.height_loss, "%")
    for classes in vertebra.classes.values():
        for name, share in classes.items():
            meaning = codes.ACUITIES[name][0] if name in codes.ACUITIES else codes.MALIGNANCIES[name]
            numbers[meaning.meaning] = (100 * share, "%")
    for name, share in vertebra.features.items():
        numbers[codes.MR_FEATURES[name].meaning] = (100 * share, "%")
    for series, ratios in vertebra.signal.items():
        for against, ratio in ratios.items():
            numbers[codes.SIGNALS[series, against].meaning] = (ratio, "{ratio}")
    return numbers


def same_bytes_through_pydicom(path: Path) -> list[str]:
    """Whether reading and writing an object again changes nothing."""
    again = io.BytesIO()
    dataset = pydicom.dcmread(path)
    for _ in dataset.iterall():
        pass
    dataset.save_as(again, enforce_file_format=True)
    return [] if again.getvalue() == path.read_bytes() else ["pydicom writes other bytes"]
