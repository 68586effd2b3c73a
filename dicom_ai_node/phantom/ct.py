"""CT of a digital spine: how the scanner is set, and what it sees.

Physics: Hounsfield units of tissues at the tube voltage, contrast agent, slice profile (averaged sub-slices),
in-plane resolution and edge enhancement of the kernel, correlated noise, table, reconstruction circle,
streaks of metal (`ct_streaks`), motion, tilted gantry. Sagittal and coronal series: `ct_reformat`. Scatter
and the hardening of the beam by the patient's own bones are not simulated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.ct_palette import CtPalette
from dicom_ai_node.phantom.ct_signal import add_noise, blur, motion_along, moved_apart, randomised, table_top
from dicom_ai_node.phantom.ct_streaks import Beam, add_streaks
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.painting import paint
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.slice_profile import subslices
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.truth import truth

Array = npt.NDArray[np.float64]

SUBSLICE_MM = 1.3
SLAB_VOXELS = 9_000_000


@dataclass(frozen=True)
class CtAcquisition:
    """One CT series.

    Attributes:
        shape: (slices, rows, columns).
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres; any invertible affine.
        slice_thickness_mm: width of the slice profile; may differ from the distance of the slices.
        palette: Hounsfield units of the tissues.
        resolution_mm: in-plane full width at half maximum of the kernel.
        enhancement: edge enhancement, 0 for a soft kernel, up to about 1.5 for a sharp one.
        noise_hu: standard deviation of the noise.
        noise_grain_mm: correlation length of the noise in the plane.
        table: whether the patient lies on one.
        circle: whether voxels outside the reconstruction circle are padded.
        padding_hu: value of padded voxels.
        seed: of the noise and the randomisation.
        randomise: 0 for a realistic image; above, the strength of the randomisation for training.
        streaks: how strong those of metal are, 1 for a scanner without any correction. They lie in the
            gantry's plane, so slices across the patient have them; sagittal series get them by `reformatted`.
        motion_mm: how far the patient moves during a rotation where he moves most.
    """

    shape: tuple[int, int, int]
    affine: Array
    slice_thickness_mm: float
    palette: CtPalette = field(default_factory=CtPalette)
    resolution_mm: float = 1.2
    enhancement: float = 0.0
    noise_hu: float = 12.0
    noise_grain_mm: float = 1.0
    table: bool = True
    circle: bool = False
    padding_hu: int = -1024
    seed: int = 0
    randomise: float = 0.0
    streaks: float = 0.7
    motion_mm: float = 0.0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(edges[0]), float(edges[1]), float(edges[2])


def _nothing() -> npt.NDArray[np.uint8]:
    return np.zeros((0, 0, 0), dtype=np.uint8)


@dataclass(frozen=True)
class CtPhantom:
    """A rendered CT.

    Attributes:
        hu: int16, (slices, rows, columns).
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres.
        labels: uint8, vertebral bodies as VerSe numbers (S1 is 26).
        whole_labels: uint8, whole vertebrae (bodies and arches; 26 is the whole sacrum).
        truth: see `truth`.
        structures: uint8, spinal canal (100) and discs (200 + VerSe number of the vertebra above).
        lesions: uint8, numbers of `LesionKind`; 0 is no lesion. Both are empty where nobody painted them.
    """

    hu: npt.NDArray[np.int16]
    affine: Array
    labels: npt.NDArray[np.uint8]
    whole_labels: npt.NDArray[np.uint8]
    truth: dict[str, Any]
    structures: npt.NDArray[np.uint8] = field(default_factory=_nothing)
    lesions: npt.NDArray[np.uint8] = field(default_factory=_nothing)


def render_ct(spine: Spine, acquisition: CtAcquisition, *, device: str | torch.device = "cpu") -> CtPhantom:
    """The CT of a person; the same arguments give the same bytes on a CPU.

    Only what the grid touches is evaluated, so that a thin oblique slab costs little.
    """
    where = torch.device(device)
    grid = Grid(acquisition.shape, np.asarray(acquisition.affine, dtype=np.float64), where)
    slices, rows, columns = acquisition.shape
    hu = np.empty(acquisition.shape, dtype=np.int16)
    maps = [np.empty(acquisition.shape, dtype=np.uint8) for _ in range(4)]
    per_slab = max(1, SLAB_VOXELS // max(1, rows * columns * _subslices_of(acquisition)[0]))
    noise = stream(acquisition.seed, "noise")
    for first in range(0, slices, per_slab):
        part = slice(first, min(slices, first + per_slab))
        value, painted = _slab(spine, acquisition, grid.slab(first, part.stop - first), first)
        add_noise(value, noise, acquisition.noise_hu, acquisition.noise_grain_mm, acquisition.spacing_mm)
        value = randomised(value, acquisition.randomise, acquisition.seed)
        _pad(value, acquisition)
        hu[part] = value.round_().clamp_(-32768, 32767).to(torch.int16).cpu().numpy()
        for labels, painted_labels in zip(maps, painted, strict=True):
            labels[part] = painted_labels.cpu().numpy()
    return CtPhantom(
        hu, np.asarray(acquisition.affine), maps[0], maps[1], truth(spine, grid), maps[2], maps[3]
    )


def _subslices_of(acquisition: CtAcquisition) -> tuple[int, int]:
    return subslices(acquisition.spacing_mm[0], acquisition.slice_thickness_mm, SUBSLICE_MM)


def _slab(
    spine: Spine, acquisition: CtAcquisition, grid: Grid, first: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    per_step, averaged = _subslices_of(acquisition)
    count = grid.shape[0]
    fine_affine = grid.affine.copy()
    fine_affine[:3, 0] /= per_step
    fine_affine[:3, 3] -= 0.5 * (averaged - 1) * fine_affine[:3, 0]
    fine = Grid(((count - 1) * per_step + averaged, *grid.shape[1:]), fine_affine, grid.device)
    painting = paint(spine, fine, acquisition.palette)
    value = painting.value
    if acquisition.table:
        table_top(value, fine, spine.trunk, acquisition.palette)
    if averaged > 1 or per_step > 1:
        stacked = value[0 : (count - 1) * per_step + 1 : per_step].clone()
        for k in range(1, averaged):
            stacked += value[k : k + (count - 1) * per_step + 1 : per_step]
        value = stacked.div_(averaged)
    middle = (averaged - 1) // 2
    labels = slice(middle, middle + (count - 1) * per_step + 1, per_step)
    _, row_mm, column_mm = acquisition.spacing_mm
    if acquisition.motion_mm > 0:
        count_all = acquisition.shape[0]
        burst = motion_along(acquisition.motion_mm, acquisition.seed, count_all)[first : first + count]
        moved_apart(value, burst, (row_mm, column_mm))
    if spine.implanted and _transversal(acquisition):
        beam = Beam(acquisition.palette.kvp, acquisition.seed, acquisition.streaks)
        add_streaks(value, (row_mm, column_mm), beam, first)
    value = blur(value, acquisition.resolution_mm, acquisition.enhancement, (row_mm, column_mm))
    return value, tuple(painted[labels] for painted in painting[1:])


def _transversal(acquisition: CtAcquisition) -> bool:
    """Whether the slices lie in the gantry's plane (up to a tilt of 35 degrees)."""
    normal = np.cross(acquisition.affine[:3, 1], acquisition.affine[:3, 2])
    return bool(abs(normal[2]) > 0.82 * np.linalg.norm(normal))


def _pad(value: Tensor, acquisition: CtAcquisition) -> None:
    value.clamp_(-1024.0, 3071.0)
    if not acquisition.circle:
        return
    _, rows, columns = value.shape
    y = (torch.arange(rows, device=value.device) - (rows - 1) / 2) / (rows / 2)
    x = (torch.arange(columns, device=value.device) - (columns - 1) / 2) / (columns / 2)
    outside = (y[:, None] ** 2 + x[None, :] ** 2) > 1.0
    value.masked_fill_(outside, float(acquisition.padding_hu))


def sample_ct_acquisition(
    seed: int,
    spine: Spine,
    *,
    training: bool = False,
    max_voxels: int = 256 * 256 * 500,
    artefacts: bool = False,
) -> CtAcquisition:
    """A plausible CT series of this person.

    Args:
        seed: same seed, same series.
        spine: who is scanned; the field of view is chosen about the spine.
        training: randomise contrast, noise, blur and tissue values beyond what scanners do.
        max_voxels: the matrix is made coarser until it fits.
        artefacts: a tenth of the series with a tilted gantry, another with a patient who moves, and scanners
            that correct metal more or less; all other draws stay the same.
    """
    generator = stream(seed, "acquisition")
    top, bottom = scan_range(spine, generator)
    thickness = float(generator.choice([0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0]))
    step = thickness * float(generator.choice([0.5, 0.8, 1.0, 1.0, 1.0]))
    slices = max(8, int((top - bottom) / step))
    edge = between(generator, 150.0, 260.0) if generator.random() < 0.4 else between(generator, 320.0, 480.0)
    matrix = int(generator.choice([256, 320, 512]))
    while slices * matrix * matrix > max_voxels and matrix > 160:
        matrix = int(matrix * 0.8)
    pixel = edge / matrix
    trunk = spine.trunk.frame[:3, 3]
    ahead = between(generator, 0.0, 40.0) if edge < 300 else between(generator, 60.0, 110.0)
    center = trunk + np.array([between(generator, -15.0, 15.0), -ahead, 0.0])
    affine = np.eye(4)
    # DICOM's usual order: first slice at the head or at the feet, rows to posterior, columns to the left.
    downwards = generator.random() < 0.7
    affine[:3, :3] = np.array(
        [[0.0, 0.0, pixel], [0.0, pixel, 0.0], [-step if downwards else step, 0.0, 0.0]]
    )
    affine[:3, 3] = [center[0] - edge / 2, center[1] - edge / 2, top if downwards else bottom]
    sharp = generator.random() < 0.45
    acquisition = CtAcquisition(
        shape=(slices, matrix, matrix),
        affine=affine,
        slice_thickness_mm=thickness,
        palette=CtPalette.sample(stream(seed, "palette"), training=training),
        resolution_mm=between(generator, 0.6, 1.0) if sharp else between(generator, 1.0, 1.8),
        enhancement=between(generator, 0.3, 1.4) if sharp else between(generator, 0.0, 0.3),
        noise_hu=between(generator, 15.0, 45.0) if sharp else between(generator, 6.0, 22.0),
        noise_grain_mm=between(generator, 0.5, 0.9) if sharp else between(generator, 0.9, 1.8),
        table=bool(generator.random() < 0.9),
        circle=bool(generator.random() < 0.4),
        padding_hu=int(generator.choice([-1024, -1024, -2000, -3024])),
        seed=int(generator.integers(2**31)),
    )
    if artefacts:
        acquisition = with_artefacts(acquisition, stream(seed, "artefacts"))
    return for_training(acquisition, stream(seed, "training")) if training else acquisition


def with_artefacts(acquisition: CtAcquisition, generator: np.random.Generator) -> CtAcquisition:
    """The same series with what goes wrong at times: a tilted gantry, motion, more or less streaky metal."""
    streaks = between(generator, 0.25, 1.1)
    if generator.random() < 0.1:
        acquisition = tilted(acquisition, between(generator, -22.0, 22.0))
    motion = between(generator, 1.0, 7.0) if generator.random() < 0.1 else 0.0
    return replace(acquisition, streaks=streaks, motion_mm=motion)


def tilted(acquisition: CtAcquisition, degrees: float) -> CtAcquisition:
    """The same series with the gantry tilted about the left-right axis; the table still moves along z.

    Slices then lie askew on each other: the affine is sheared (PS3.3 C.8.2.1.1, Gantry/Detector Tilt).
    Positive angles turn the posterior edge of the slices towards the head.
    """
    affine = np.asarray(acquisition.affine, dtype=np.float64).copy()
    middle = (np.array(acquisition.shape) - 1) / 2
    center = affine[:3, :3] @ middle + affine[:3, 3]
    angle = np.deg2rad(degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine[:3, 1:3] = turn @ affine[:3, 1:3]
    affine[:3, 3] = center - affine[:3, :3] @ middle
    return replace(acquisition, affine=affine)


def for_training(acquisition: CtAcquisition, generator: np.random.Generator) -> CtAcquisition:
    """The same series with noise, blur and slice profile beyond realism, and contrast curves switched on."""
    return replace(
        acquisition,
        noise_hu=acquisition.noise_hu * float(generator.choice([1.0, 1.0, 2.0, 4.0])),
        noise_grain_mm=between(generator, 0.4, 3.0),
        resolution_mm=acquisition.resolution_mm * float(generator.choice([1.0, 1.0, 2.0, 3.0])),
        slice_thickness_mm=acquisition.slice_thickness_mm * float(generator.choice([1.0, 1.0, 2.0, 3.0])),
        randomise=1.0 if generator.random() < 0.35 else 0.0,
    )


def scan_range(spine: Spine, generator: np.random.Generator) -> tuple[float, float]:
    """(top, bottom) z in LPS mm of a scan: lumbar, thoracic, thoracolumbar, abdomen, chest, whole trunk."""
    z = {v.level.value: float(v.frame[2, 3]) for v in spine.vertebrae}
    hip = z["S1"] - 150.0
    ranges = {
        "lumbar": (z["T12"] if "T12" in z else z["T11"], z["S1"] - 20.0),
        "thoracic": (z["T1"], z["L1"]),
        "thoracolumbar": (z["T8"], z["S1"] - 20.0),
        "abdomen": (z["T9"], hip),
        "chest": (z["C6"], z["L2"]),
        "trunk": (z["C6"], hip),
    }
    names = list(ranges)
    name = str(generator.choice(names, p=[0.2, 0.12, 0.18, 0.22, 0.13, 0.15]))
    top, bottom = ranges[name]
    top, bottom = top + between(generator, -10.0, 55.0), bottom - between(generator, -10.0, 45.0)
    return (top, bottom) if top - bottom > 60.0 else (bottom + 60.0, bottom)
