"""How a radiograph is taken: geometry, exposure, processing; and what is plausible for a person.

The patient stands or lies as the spine says; the tube and the detector are turned about it, which is the
same as a patient who stands crooked. Exposure values: European guidelines on quality criteria (EUR 16260),
lumbar lateral 80-95 kV, chest-to-detector grid, detector dose of speed class 400.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level
from dicom_ai_node.phantom.column import rotation
from dicom_ai_node.phantom.radiograph_arms import Arms
from dicom_ai_node.phantom.radiograph_cone import Cone
from dicom_ai_node.phantom.radiograph_palette import MineralPalette, WaterPalette
from dicom_ai_node.phantom.radiograph_processing import Processing, sample_processing
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.spine import Spine

Array = npt.NDArray[np.float64]

View = Literal["lateral", "frontal"]
Side = Literal["left", "right", "front", "back"]


@dataclass(frozen=True)
class RadiographAcquisition:
    """One exposure.

    Attributes:
        view: what was meant to be taken.
        center: patient LPS mm, the point that the central ray is aimed at.
        toward: which side of the patient lies next to the detector.
        facing: to which side of the picture the patient looks (lateral), or where the patient's left is
            (frontal; "right" as convention has it).
        matrix: (rows, columns).
        pixel_mm: pixel edge on the detector.
        source_detector_mm: from the focal spot to the detector.
        source_object_mm: from the focal spot to `center`.
        turn, lean, tilt: degrees by which the patient is off the true view: about the body's axis, out of the
            detector's plane, and in it.
        offset_mm: (down, across) on the detector, from its middle to where the central ray falls.
        kvp: tube voltage.
        mas: tube current times time.
        filter_mm: aluminium in the beam.
        quanta: photons counted per pixel behind the spine: the noise.
        focus_mm: size of the focal spot.
        detector_blur_px: standard deviation of the detector's point spread.
        scatter: scattered over primary radiation behind the thickest part, after the grid.
        collimation: (top, bottom, left, right) of the exposed field in pixels.
        collimator_tilt: degrees of the field against the detector.
        arms: where they are: hanging beside the torso, held forward, or out of the beam.
        marker: letter of lead on the detector, or None.
        buckle, cable: whether there is one.
        annotation: text burnt into the image by the workstation, or None.
        processing: what the workstation does.
        water, mineral: palettes.
        seed: of noise and of where odd things lie.
    """

    view: View
    center: Array
    toward: Side = "left"
    facing: Literal["left", "right"] = "left"
    matrix: tuple[int, int] = (2048, 1024)
    pixel_mm: float = 0.2
    source_detector_mm: float = 1150.0
    source_object_mm: float = 900.0
    turn: float = 0.0
    lean: float = 0.0
    tilt: float = 0.0
    offset_mm: tuple[float, float] = (0.0, 0.0)
    kvp: float = 85.0
    mas: float = 40.0
    filter_mm: float = 3.0
    quanta: float = 1500.0
    focus_mm: float = 1.0
    detector_blur_px: float = 0.6
    scatter: float = 0.6
    collimation: tuple[int, int, int, int] = (0, 2048, 0, 1024)
    collimator_tilt: float = 0.0
    arms: Arms = "away"
    marker: Literal["L", "R"] | None = None
    buckle: bool = False
    cable: bool = False
    annotation: str | None = None
    processing: Processing = field(default_factory=Processing)
    water: WaterPalette = field(default_factory=WaterPalette)
    mineral: MineralPalette = field(default_factory=MineralPalette)
    seed: int = 0

    @property
    def magnification(self) -> float:
        """Of things at `center`."""
        return self.source_detector_mm / self.source_object_mm

    @property
    def cone(self) -> Cone:
        """The exposure's geometry in patient space."""
        normal = {
            "left": [1.0, 0.0, 0.0],
            "right": [-1.0, 0.0, 0.0],
            "front": [0.0, -1.0, 0.0],
            "back": [0.0, 1.0, 0.0],
        }[self.toward]
        if self.view == "lateral":
            across = [0.0, 1.0, 0.0] if self.facing == "left" else [0.0, -1.0, 0.0]
        else:
            across = [1.0, 0.0, 0.0] if self.facing == "right" else [-1.0, 0.0, 0.0]
        # The columns of the turned system; the order is that of the words: first about the body's axis.
        basis = np.array([normal, across, [0.0, 0.0, -1.0]]).T
        lean, tilt = np.radians(self.lean), np.radians(self.tilt)
        about = (lean, tilt) if self.view == "frontal" else (tilt, lean)
        turned = rotation(about[0], about[1], float(np.radians(self.turn))) @ basis
        rows, columns = self.matrix
        return Cone(
            source=np.asarray(self.center) - self.source_object_mm * turned[:, 0],
            normal=turned[:, 0],
            across=turned[:, 1],
            down=turned[:, 2],
            distance=self.source_detector_mm,
            origin=(
                (columns - 1) / 2 + self.offset_mm[1] / self.pixel_mm,
                (rows - 1) / 2 + self.offset_mm[0] / self.pixel_mm,
            ),
            pixel=self.pixel_mm,
            matrix=self.matrix,
        )


def sample_radiograph_acquisition(
    seed: int, spine: Spine, *, view: View = "lateral", training: bool = False, max_pixels: int = 2048 * 1024
) -> RadiographAcquisition:
    """A plausible radiograph of this person.

    Args:
        seed: same seed, same exposure.
        spine: who is taken; the field is chosen about the spine.
        view: lateral or frontal.
        training: contrast, texture, noise and blur beyond what radiography does.
        max_pixels: pixels are made larger until the matrix has no more.
    """
    generator = stream(seed, "radiograph", view)
    top, bottom = _levels(spine, generator)
    # The central ray is aimed at the middle of the levels wanted, seldom quite.
    inside = [v.frame[:3, 3] for v in spine.vertebrae if bottom - 5.0 <= v.frame[2, 3] <= top + 5.0]
    front = np.ptp([point[1] for point in inside])
    center = np.array(
        [np.mean([p[0] for p in inside]), np.mean([p[1] for p in inside]), 0.5 * (top + bottom)]
    )
    center[1] += between(generator, -15.0, 10.0)
    center[2] += around(generator, 0.0, 10.0)
    wide = generator.random() < 0.5
    half = 0.5 * front + (between(generator, 75.0, 120.0) if wide else between(generator, 50.0, 75.0))
    half = between(generator, 80.0, 150.0) if view == "frontal" else half
    distance = float(generator.choice([1000.0, 1100.0, 1150.0, 1200.0, 1500.0, 1800.0]))
    gap = between(generator, 160.0, 280.0) if view == "lateral" else between(generator, 90.0, 160.0)
    scale = distance / (distance - gap)
    height, width = (top - bottom) * scale, 2.0 * half * scale
    pixel = float(generator.choice([0.139, 0.143, 0.148, 0.15, 0.175, 0.2]))
    while height * width / pixel**2 > max_pixels:
        pixel *= 1.1
    pixel = round(pixel, 4)
    rows, columns = int(height / pixel), int(width / pixel)
    collimation, slant = _collimation(rows, columns, generator)
    lateral = view == "lateral"
    toward: Side = (
        ("left" if generator.random() < 0.65 else "right")
        if lateral
        else ("back" if generator.random() < 0.75 else "front")
    )
    acquisition = RadiographAcquisition(
        view=view,
        center=center,
        toward=toward,
        facing=("left" if generator.random() < 0.6 else "right") if lateral else "right",
        matrix=(rows, columns),
        pixel_mm=pixel,
        source_detector_mm=distance,
        source_object_mm=distance - gap,
        turn=around(generator, 0.0, 4.0),
        lean=around(generator, 0.0, 1.8),
        tilt=around(generator, 0.0, 2.0),
        offset_mm=(around(generator, 0.0, 8.0), around(generator, 0.0, 5.0)),
        kvp=float(generator.choice([73, 77, 81, 85, 90, 96])),
        mas=round(between(generator, 15.0, 120.0), 1),
        filter_mm=between(generator, 2.5, 4.5),
        quanta=float(np.exp(between(generator, np.log(450.0), np.log(3000.0)))),
        focus_mm=float(generator.choice([0.6, 1.0, 1.2])),
        detector_blur_px=between(generator, 0.25, 0.65),
        scatter=between(generator, 0.25, 1.4),
        collimation=collimation,
        collimator_tilt=slant,
        arms=("forward" if generator.random() < 0.75 else "away") if lateral else "hanging",
        marker=None if generator.random() < 0.4 or not lateral else ("L" if toward == "left" else "R"),
        buckle=bool(generator.random() < 0.06),
        cable=bool(generator.random() < 0.08),
        annotation=None
        if generator.random() < 0.8
        else str(generator.choice(["LAT", "ERECT", "1/1", "L-SP"])),
        processing=sample_processing(stream(seed, "processing", view)),
        seed=int(generator.integers(2**31)),
    )
    return for_training(acquisition, stream(seed, "training", view)) if training else acquisition


def for_training(acquisition: RadiographAcquisition, generator: np.random.Generator) -> RadiographAcquisition:
    """The same exposure with contrast, noise, blur, turn and tissues beyond realism."""
    return replace(
        acquisition,
        turn=acquisition.turn * between(generator, 1.0, 2.2),
        lean=acquisition.lean * between(generator, 1.0, 2.0),
        tilt=acquisition.tilt * between(generator, 1.0, 5.0),
        quanta=acquisition.quanta * float(generator.choice([1.0, 0.4, 0.15])),
        detector_blur_px=acquisition.detector_blur_px * float(generator.choice([1.0, 1.0, 2.0, 3.0])),
        scatter=acquisition.scatter * between(generator, 0.5, 2.5),
        kvp=between(generator, 60.0, 110.0),
        processing=sample_processing(generator, training=True),
        water=WaterPalette.sample(generator, training=True),
        mineral=MineralPalette(float(np.exp(around(generator, 0.0, 0.3)))),
    )


def _levels(spine: Spine, generator: np.random.Generator) -> tuple[float, float]:
    """(top, bottom) z in LPS mm: lumbar, thoracolumbar, thoracic, or the whole spine from T1."""
    z = {v.level: float(v.frame[2, 3]) for v in spine.vertebrae}
    above = z.get(Level.T12, z[Level.T11])
    ranges = (
        (above + 45.0, z[Level.S1] - 70.0),
        (z[Level.T9] + 10.0, z[Level.S1] - 20.0),
        (z[Level.T8], z[Level.L4]),
        (z[Level.T1] + 20.0, z[Level.L2] - 10.0),
        (z[Level.T1] + 10.0, z[Level.S1] - 60.0),
    )
    top, bottom = ranges[int(generator.choice(5, p=[0.42, 0.2, 0.14, 0.14, 0.1]))]
    return top + between(generator, -15.0, 35.0), bottom - between(generator, -20.0, 40.0)


def _collimation(
    rows: int, columns: int, generator: np.random.Generator
) -> tuple[tuple[int, int, int, int], float]:
    if generator.random() < 0.35:
        return (0, rows, 0, columns), 0.0
    top, bottom = (int(rows * between(generator, 0.0, 0.06)) for _ in range(2))
    left, right = (int(columns * between(generator, 0.0, 0.1)) for _ in range(2))
    slant = around(generator, 0.0, 1.0) if generator.random() < 0.4 else 0.0
    return (top, rows - bottom, left, columns - right), slant
