"""MR of a digital spine: how one series is set, and what the scanner sees.

Physics: signals of water and fat by the sequence's equation (`mr_sequence`, `mr_palette`), fine anatomy
(`mr_detail`), slice profile (averaged sub-slices), coil and saturation (`mr_coil`), wrap-around, chemical
shift, ringing, ghosts, motion and noise by way of k-space (`mr_kspace`). Not simulated: cross-talk of slices,
susceptibility about metal, parallel imaging's uneven noise, flow within a slice beyond its loss of signal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dicom_ai_node.phantom.ct_signal import smoothed
from dicom_ai_node.phantom.grid import Grid
from dicom_ai_node.phantom.mr_coil import Coil, fat_returning, saturation, sensitivity, uneven_field
from dicom_ai_node.phantom.mr_detail import MrDetail
from dicom_ai_node.phantom.mr_kspace import Plane, Readout, read_out
from dicom_ai_node.phantom.mr_moving import pulsing_share
from dicom_ai_node.phantom.mr_palette import CHANNELS, SCALE, MrPalette
from dicom_ai_node.phantom.mr_together import joined
from dicom_ai_node.phantom.painting import paint
from dicom_ai_node.phantom.randomness import between, stream
from dicom_ai_node.phantom.slice_profile import subslices
from dicom_ai_node.phantom.spine import Spine
from dicom_ai_node.phantom.texture import grain
from dicom_ai_node.phantom.truth import truth

Array = npt.NDArray[np.float64]

SUBSLICE_MM: Final = 1.5
SLAB_VOXELS: Final = 5_000_000


@dataclass(frozen=True)
class MrAcquisition:
    """One stack of parallel slices of one series.

    Attributes:
        series: short name of the series, unique in a study but for the planes of a localizer.
        plane: how the slices lie.
        shape: (slices, rows, columns).
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres, as the scanner believes.
        slice_thickness_mm: width of the slice profile; the distance of slices is larger where there are gaps.
        palette: person, scanner and sequence.
        readout: how k-space is read.
        coil: sensitivity of the receiver.
        saturation_ahead_mm: where a saturation band begins in front of the spine; None for none.
        wrap: share of the field of view, on both sides along the phase axis, from which tissue folds in.
        transmit: strength of the uneven transmit field.
        fat_return: how far fat saturation fails where the field is uneven.
        belly_blur_mm: standard deviation of what breathing blurs in front of the spine.
        motion: 4x4, where the patient has moved since the first series (LPS mm -> LPS mm).
        white: stored value of the brightest tissue.
        texture: relative strength of the texture of all tissue.
        subslice_mm: the slice profile is averaged from sub-slices about so far apart.
        seed: of noise and artefacts.
        randomise: 0 for a realistic image; above, the strength of the randomisation for training.
    """

    series: str
    plane: str
    shape: tuple[int, int, int]
    affine: Array
    slice_thickness_mm: float
    palette: MrPalette
    readout: Readout
    coil: Coil = field(default_factory=Coil)
    saturation_ahead_mm: float | None = None
    wrap: float = 0.0
    transmit: float = 0.0
    fat_return: float = 0.0
    belly_blur_mm: float = 0.0
    motion: Array = field(default_factory=lambda: np.eye(4))
    white: int = 1500
    texture: float = 0.03
    subslice_mm: float = SUBSLICE_MM
    seed: int = 0
    randomise: float = 0.0

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns."""
        edges = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(edges[0]), float(edges[1]), float(edges[2])


@dataclass(frozen=True)
class MrPhantom:
    """A rendered stack.

    Attributes:
        pixels: uint16, (slices, rows, columns), arbitrary units.
        affine: float64 4x4, (slice, row, column, 1) -> patient LPS millimetres.
        labels: uint8, vertebral bodies as VerSe numbers (S1 is 26), where the patient lay in this series.
        whole_labels: uint8, whole vertebrae (bodies and arches; 26 is the whole sacrum).
        structures: uint8, `painting.CANAL_LABEL` and `painting.DISC_LABEL` plus the VerSe number of the
            vertebra above.
        lesions: uint8, numbers of `lesion.LesionKind`.
        truth: see `truth`; points where the patient lay in this series.
    """

    pixels: npt.NDArray[np.uint16]
    affine: Array
    labels: npt.NDArray[np.uint8]
    whole_labels: npt.NDArray[np.uint8]
    structures: npt.NDArray[np.uint8]
    lesions: npt.NDArray[np.uint8]
    truth: dict[str, Any]


def render_mr(spine: Spine, acquisition: MrAcquisition, *, device: str | torch.device = "cpu") -> MrPhantom:
    """The MR of a person; the same arguments give the same bytes on a CPU.

    Raises:
        ValueError: the readout does not fit the image (see `mr_kspace.read_out`).
    """
    return render_mr_together(spine, [acquisition], device=device)[0]


def render_mr_together(
    spine: Spine, acquisitions: Sequence[MrAcquisition], *, device: str | torch.device = "cpu"
) -> list[MrPhantom]:
    """Several series on one grid, for which the person is painted once; see `render_mr`.

    Raises:
        ValueError: they differ in grid, slice profile, motion or wrap, or as `render_mr` and
            `mr_together.joined`.
    """
    where = torch.device(device)
    acquisitions = [replace(one, palette=replace(one.palette, device=str(where))) for one in acquisitions]
    first_one = acquisitions[0]
    if any(_placed(one) != _placed(first_one) for one in acquisitions):
        raise ValueError("series that are painted together lie on one grid, with one slice profile")
    affine: Array = np.linalg.inv(first_one.motion).astype(np.float64) @ np.asarray(
        first_one.affine, dtype=np.float64
    )
    grid = Grid(first_one.shape, affine, where)
    wide, margin = _with_margin(first_one, grid)
    core = (
        slice(margin[0], margin[0] + grid.shape[1]),
        slice(margin[1], margin[1] + grid.shape[2]),
    )
    center = affine[:3, :3] @ ((np.array(first_one.shape) - 1) / 2) + affine[:3, 3]
    loops = [sensitivity(one.coil, wide, spine, center) for one in acquisitions]
    fading = _fading(wide, margin)
    noises = [stream(one.seed, "noise") for one in acquisitions]
    palette = joined([one.palette for one in acquisitions])
    detail = MrDetail(spine, palette)
    slices = grid.shape[0]
    images = [torch.empty(grid.shape, dtype=torch.float32, device=where) for _ in acquisitions]
    # Bodies, whole vertebrae, structures, lesions.
    maps = np.empty((4, *grid.shape), dtype=np.uint8)
    per_step, averaged = _subslices_of(first_one)
    apart = averaged * 3 < per_step * 2
    area = wide.shape[1] * wide.shape[2]
    per_slab = 1 if apart else max(1, SLAB_VOXELS // (area * per_step))
    for first in range(0, slices, per_slab):
        part = slice(first, min(slices, first + per_slab))
        slab = wide.slab(first, part.stop - first)
        values, labels = _painted(spine, palette, slab, detail, (per_step, averaged))
        maps[:, part] = labels[:, :, core[0], core[1]].cpu().numpy()
        for number, one in enumerate(acquisitions):
            value = values[CHANNELS * number : CHANNELS * (number + 1)]
            plane = _received(spine, one, slab, value, (loops[number] * fading, center))
            plane = _folded(plane, margin, grid.shape)
            images[number][part] = read_out(plane, one.readout, noises[number])
    bodies, whole, structures, lesions = maps
    about = moved(truth(spine, grid), first_one.motion)
    made = []
    for image, one, loop in zip(images, acquisitions, loops, strict=True):
        seen = loop[:, core[0], core[1]].clamp(min=0.05)
        evened = image / seen**one.coil.evened if one.coil.evened else image
        pixels = _stored(_randomised(evened, one, grid), one.white)
        made.append(MrPhantom(pixels, np.asarray(one.affine), bodies, whole, structures, lesions, about))
    return made


def _placed(one: MrAcquisition) -> tuple[object, ...]:
    """What series that are painted together have in common."""
    return (
        one.shape, one.affine.tolist(), one.motion.tolist(), one.slice_thickness_mm, one.subslice_mm,
        one.wrap, one.readout.phase_axis if one.wrap else None,
    )  # fmt: skip


def moved(about: dict[str, Any], motion: Array) -> dict[str, Any]:
    """A truth whose points and axes are those of a patient who has moved (4x4, LPS mm -> LPS mm)."""
    if np.array_equal(motion, np.eye(4)):
        return about

    def place(point: list[float]) -> list[float]:
        return [round(float(x), 3) for x in motion[:3, :3] @ np.array(point) + motion[:3, 3]]

    vertebrae = []
    for entry in about["vertebrae"]:
        points = entry["six_points"]
        axes = {
            name: [round(float(x), 6) for x in motion[:3, :3] @ np.array(axis)]
            for name, axis in entry["axes"].items()
        }
        vertebrae.append(
            {
                **entry,
                "center_mm": place(entry["center_mm"]),
                "six_points": None if points is None else {name: place(p) for name, p in points.items()},
                "corners": {name: place(p) for name, p in entry["corners"].items()},
                "axes": axes,
            }
        )
    return {**about, "vertebrae": vertebrae}


def _subslices_of(acquisition: MrAcquisition) -> tuple[int, int]:
    return subslices(acquisition.spacing_mm[0], acquisition.slice_thickness_mm, acquisition.subslice_mm)


def _with_margin(acquisition: MrAcquisition, grid: Grid) -> tuple[Grid, tuple[int, int]]:
    """The grid with what folds in along the phase axis, and its margin in (rows, columns)."""
    if acquisition.wrap <= 0:
        return grid, (0, 0)
    by_rows = acquisition.readout.phase_axis == "rows"
    rows = round(acquisition.wrap * grid.shape[1]) if by_rows else 0
    columns = 0 if by_rows else round(acquisition.wrap * grid.shape[2])
    affine = grid.affine.copy()
    affine[:3, 3] -= rows * affine[:3, 1] + columns * affine[:3, 2]
    shape = (grid.shape[0], grid.shape[1] + 2 * rows, grid.shape[2] + 2 * columns)
    return Grid(shape, affine, grid.device), (rows, columns)


def _fading(grid: Grid, margin: tuple[int, int]) -> Tensor:
    """How much the receiver's filter lets through outside the field of view: less and less outwards."""
    out = torch.ones((1, 1, 1), dtype=torch.float32, device=grid.device)
    for axis, width in zip((1, 2), margin, strict=True):
        if width:
            place = torch.arange(grid.shape[axis], dtype=torch.float32, device=grid.device)
            inwards = torch.minimum(place + 1.0, grid.shape[axis] - place) / width
            out = out * inwards.clamp(max=1.0).reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
    return out


def _painted(
    spine: Spine, palette: MrPalette, grid: Grid, detail: MrDetail, profile: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """(value (2, slices, rows, columns), four label maps) of slices with their thickness."""
    per_step, averaged = profile
    count = grid.shape[0]
    affine = grid.affine.copy()
    affine[:3, 0] /= per_step
    affine[:3, 3] -= 0.5 * (averaged - 1) * affine[:3, 0]
    fine = Grid(((count - 1) * per_step + averaged, *grid.shape[1:]), affine, grid.device)
    painting = paint(spine, fine, palette, detail)
    last = (count - 1) * per_step + 1
    value = painting.value[:, 0:last:per_step].clone()
    for k in range(1, averaged):
        value += painting.value[:, k : k + last : per_step]
    value /= averaged
    middle = (averaged - 1) // 2
    labels = torch.stack([painting.bodies, painting.whole, painting.structures, painting.lesions])
    return value, labels[:, middle : middle + last : per_step]


def _received(
    spine: Spine, acquisition: MrAcquisition, grid: Grid, value: Tensor, receiver: tuple[Tensor, Array]
) -> Plane:
    """What the coil receives of a painted slab: brightness of places, and what moves.

    `receiver` is the coil's sensitivity and the middle of the field of view (LPS mm).
    """
    loops, center = receiver
    generator = stream(acquisition.seed, "field")
    phase = (between(generator, 0, 6.3), between(generator, 0, 6.3), between(generator, 0, 6.3))
    tilt = between(generator, -0.35, 0.35)
    factor = loops
    if acquisition.transmit:
        factor = factor * uneven_field(grid, center, acquisition.transmit, phase)
    if acquisition.saturation_ahead_mm is not None:
        band = saturation(grid, center, acquisition.saturation_ahead_mm, tilt, between(generator, 0.05, 0.3))
        factor = factor * band
    if acquisition.texture:
        points = grid.coordinates(spine.trunk.frame)
        fine = 1.0 + acquisition.texture * grain(spine.trunk.seed, points, grid.device, cell_mm=1.3)
        factor = factor * fine
    fat = value[1] * factor
    if acquisition.palette.sequence.fat == "saturated" and acquisition.fat_return:
        fat = fat * fat_returning(grid, center, acquisition.fat_return, phase)
    water = value[0] * factor
    if acquisition.belly_blur_mm > 0:
        # The belly moves all the time while k-space is read: it is seen where it mostly is, and blurred.
        _, y, _ = grid.coordinates(np.eye(4))
        ahead = torch.sigmoid((float(center[1]) - 45.0 - y) / 8.0)
        water, fat = (_blurred(part, ahead, acquisition) for part in (water, fat))
    breathing = pulsing = None
    if acquisition.readout.breathing > 0:
        _, y, _ = grid.coordinates(np.eye(4))
        ahead = torch.sigmoid((float(center[1]) - 60.0 - y) / 8.0)
        breathing = (water + fat) * ahead
    if acquisition.readout.pulsation > 0:
        share = pulsing_share(spine, grid)
        if share is not None:
            # Blood that is seen as a void still sends on its way through the slice.
            pulsing = share * factor * (0.25 * SCALE * _blood(acquisition) + water.abs())
    return Plane(water, fat, breathing, pulsing)


def _blurred(part: Tensor, ahead: Tensor, acquisition: MrAcquisition) -> Tensor:
    smooth = part
    for axis, pixel in zip((1, 2), acquisition.spacing_mm[1:], strict=True):
        smooth = smoothed(smooth, axis, acquisition.belly_blur_mm / pixel)
    return part + ahead * (smooth - part)


def _blood(acquisition: MrAcquisition) -> float:
    return abs(acquisition.palette.sequence.signal(1500.0, 200.0, 50.0))


def _folded(plane: Plane, margin: tuple[int, int], shape: tuple[int, int, int]) -> Plane:
    if margin == (0, 0):
        return plane
    return Plane(
        _wrapped(plane.water, margin, shape),
        _wrapped(plane.fat, margin, shape),
        None if plane.breathing is None else _wrapped(plane.breathing, margin, shape),
        None if plane.pulsing is None else _wrapped(plane.pulsing, margin, shape),
    )


def _wrapped(value: Tensor, margin: tuple[int, int], shape: tuple[int, int, int]) -> Tensor:
    """What lies in the margin, folded onto the other side of the field of view."""
    rows, columns = margin
    if rows:
        kept = value[:, rows : rows + shape[1]].clone()
        kept[:, shape[1] - rows :] += value[:, :rows]
        kept[:, :rows] += value[:, rows + shape[1] :]
        value = kept
    if columns:
        kept = value[:, :, columns : columns + shape[2]].clone()
        kept[:, :, shape[2] - columns :] += value[:, :, :columns]
        kept[:, :, :columns] += value[:, :, columns + shape[2] :]
        value = kept
    return value


def _stored(image: Tensor, white: int) -> npt.NDArray[np.uint16]:
    values: npt.NDArray[np.float32] = image.cpu().numpy()
    brightest = float(np.percentile(values[:, ::3, ::3], 99.6))
    scaled = values * np.float32(white / max(brightest, 1e-6))
    stored: npt.NDArray[np.uint16] = np.clip(np.rint(scaled), 0, 65535).astype(np.uint16)
    return stored


def _randomised(image: Tensor, acquisition: MrAcquisition, grid: Grid) -> Tensor:
    """Beyond realism, for training: a random contrast curve, at times inverted, and a cloudy background."""
    strength = acquisition.randomise
    if strength <= 0:
        return image
    generator = stream(acquisition.seed, "contrast")
    top = float(np.percentile(image[:, ::3, ::3].cpu().numpy(), 99.5)) or 1.0
    steps = np.exp(strength * 0.8 * generator.standard_normal(8))
    curve = np.concatenate([[0.0], np.cumsum(steps)])
    curve /= curve[-1]
    if generator.random() < 0.3:
        curve = 1.0 - curve
    table = torch.from_numpy(np.interp(np.linspace(0, 8, 2049), np.arange(9), curve).astype(np.float32))
    index = (image * (2048.0 / top)).clamp(0.0, 2048.0).to(torch.int64)
    image = table.to(image.device)[index] * top
    x, y, z = grid.coordinates(np.eye(4))
    for axis in (x, y, z):
        length, start = between(generator, 40.0, 200.0), between(generator, 0.0, 6.3)
        image = image * torch.exp(0.25 * strength * torch.sin(axis / length + start))
    return image
