"""One MR series onto the grid of another of the same patient: what the headers say, then what the images say.

The patient lies still for minutes, not for an hour: series of one study are a few millimetres apart although
they share a frame of reference. A rigid motion is searched by mutual information and then checked by means of
its own; a motion that fails a check is refused, never used. Few thick sagittal slices do not hold an affine
one: on phantoms stretched by 3 to 4 % it changed lengths by 9 to 30 %, the rigid one stayed within 2 mm.

Sources: Mattes et al., IEEE Trans Med Imaging 2003; 22:120 (mutual information); Christensen, Johnson, IEEE
Trans Med Imaging 2001; 20:568 (inverse consistency).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import SimpleITK

from dicom_ai_node.errors import NotAnalysable
from dicom_ai_node.imaging.resample import HasGrid, resample_to_grid

Matrix = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

# The package has no type information.
SITK: Any = SimpleITK

_BINS: Final = 32
_GRIDS_MM: Final = (5.0, 2.5)
"""In-plane pixels of the two stages; slices are kept, they are coarse enough."""
_SAMPLES: Final = 20_000
_SEED: Final = 1


@dataclass(frozen=True)
class RegistrationLimits:
    """What a motion must keep to be believed.

    Attributes:
        largest_move_mm: of any corner of the common field of view.
        largest_turn_deg: of the rotation.
        least_overlap: share of the fixed field of view, its patient that is, that the other image covers.
        largest_inverse_error_mm: how far apart, on average, the motion and the inverse of the one that was
            found in the opposite direction put a point; what is used lies halfway.
        least_peak: how much the mutual information must fall, as a share of itself, when the found place is
            left by `peak_step_mm` in any direction of the slices.
    """

    largest_move_mm: float = 20.0
    largest_turn_deg: float = 10.0
    least_overlap: float = 0.5
    largest_inverse_error_mm: float = 3.0
    least_peak: float = 0.03
    peak_step_mm: float = 8.0


@dataclass(frozen=True)
class RegistrationCheck:
    """What was measured about a found motion; mutual information in nats, lengths in millimetres."""

    similarity_before: float
    similarity_after: float
    peak: float
    largest_move_mm: float
    turn_deg: float
    overlap: float
    inverse_error_mm: float

    def in_words(self) -> str:
        """One line for the report."""
        return (
            f"moved by up to {self.largest_move_mm:.1f} mm, turned by {self.turn_deg:.1f} degrees, mutual "
            f"information {self.similarity_before:.3f} before and {self.similarity_after:.3f} after, "
            f"there and back {self.inverse_error_mm:.1f} mm off"
        )


@dataclass(frozen=True, eq=False)
class Registration:
    """How a point of the fixed image is found in the moving one."""

    transform: Matrix
    """4x4, LPS millimetres of the fixed image to LPS millimetres of the moving image."""
    check: RegistrationCheck

    def onto(self, moving: HasGrid, fixed: HasGrid) -> tuple[Image, npt.NDArray[np.bool_]]:
        """The moving image on the fixed grid, 0 where it does not reach, and the mask of where it does."""
        return resampled(moving, fixed, self.transform)


def register(
    fixed: HasGrid,
    moving: HasGrid,
    *,
    limits: RegistrationLimits | None = None,
) -> Registration:
    """The motion of the patient between two series of one frame of reference.

    Args:
        fixed: the series whose grid counts, such as the T2; any real voxels (slices, rows, columns).
        moving: the other one.
        limits: what is believed.

    Raises:
        NotAnalysable: code "registration": the images hardly overlap, one is empty, or the found motion
            fails a check; the text says which.
    """
    allowed = limits or RegistrationLimits()
    _, inside = resampled(moving, _coarse(fixed, _GRIDS_MM[0]), np.eye(4))
    covered = float(inside.mean())
    if covered < allowed.least_overlap:
        raise NotAnalysable(
            "registration",
            f"The two series have only {covered:.0%} of their field of view in common "
            f"({allowed.least_overlap:.0%} are the least); they were not brought together.",
        )
    pyramid = [(_coarse(fixed, size), _coarse(moving, size)) for size in _GRIDS_MM]
    if any(float(np.ptp(image.voxels)) <= 0 for image in pyramid[-1]):
        raise NotAnalysable("registration", "One of the two series is empty; they were not brought together.")
    there = _search(pyramid)
    back = np.linalg.inv(_search([(other, one) for one, other in pyramid])).astype(np.float64)
    # Each direction has errors of its own: the motion between the two has less.
    found = _between(there, back, _middle(pyramid[-1][0]))
    disagreement = _distance(there, back, pyramid[-1][0])
    still = np.eye(4)
    if similarity(*pyramid[-1], still) >= similarity(*pyramid[-1], found):
        # The patient did not move, and the search only adds its own error: what the headers say stands.
        found, disagreement = still, 0.0
    check = _check(*pyramid[-1], found, disagreement, allowed)
    _refuse(check, allowed)
    return Registration(found, check)


def resampled(moving: HasGrid, fixed: HasGrid, transform: Matrix) -> tuple[Image, npt.NDArray[np.bool_]]:
    """The moving image on the fixed grid by trilinear interpolation.

    Args:
        transform: 4x4, LPS millimetres of the fixed image to those of the moving image.

    Returns:
        float32 of the fixed shape, 0 where the moving image does not reach; and where it does.
    """
    target = transform @ fixed.affine
    values = resample_to_grid(
        np.asarray(moving.voxels, dtype=np.float32),
        moving.affine,
        target,
        fixed.voxels.shape,
        antialias=False,
        fill=float("nan"),
    ).numpy()
    inside = ~np.isnan(values)
    return np.where(inside, values, np.float32(0)), inside


@dataclass(frozen=True, eq=False)
class _Coarse:
    voxels: Image
    affine: Matrix


def _coarse(image: HasGrid, pixel_mm: float) -> _Coarse:
    """The image with larger pixels and the same slices, averaged, its values between 0 and 1."""
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    shape = np.array(image.voxels.shape)
    factors = np.maximum(1.0, [2.0 / steps[0], pixel_mm / steps[1], pixel_mm / steps[2]])
    size = np.maximum(1, np.floor(shape / factors + 1e-6)).astype(int)
    affine = image.affine.copy()
    affine[:3, :3] = image.affine[:3, :3] * factors
    # The middle of the grid stays where it is.
    affine[:3, 3] += image.affine[:3, :3] @ ((shape - 1) / 2) - affine[:3, :3] @ ((size - 1) / 2)
    values = resample_to_grid(
        np.asarray(image.voxels, dtype=np.float32), image.affine, affine, size.tolist(), fill=0.0
    ).numpy()
    low, high = np.percentile(values, (1.0, 99.0))
    # The square root evens out what lies near the coil and what does not.
    scaled = np.sqrt(np.clip((values - low) / max(float(high - low), 1e-6), 0.0, 1.0))
    return _Coarse(scaled.astype(np.float32), affine)


def _search(pyramid: list[tuple[_Coarse, _Coarse]]) -> Matrix:
    """The motion that makes mutual information largest, from the coarse to the fine grid."""
    first = pyramid[0][0]
    center = _middle(first)
    transform: Any = SITK.Euler3DTransform()
    transform.SetCenter(center.tolist())
    for stage, (fixed, moving) in enumerate(pyramid):
        transform = _optimised(fixed, moving, transform, first_step_mm=4.0 if stage == 0 else 1.0)
    return _as_matrix(transform)


def _optimised(fixed: _Coarse, moving: _Coarse, start: Any, *, first_step_mm: float) -> Any:
    method = SITK.ImageRegistrationMethod()
    # Sums in one order: the same images give the same motion.
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(_BINS)
    share = min(1.0, _SAMPLES / fixed.voxels.size)
    if share < 1.0:
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricSamplingPercentage(share, _SEED)
    method.SetInterpolator(SITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=first_step_mm,
        minStep=0.03,
        numberOfIterations=40,
        relaxationFactor=0.6,
        gradientMagnitudeTolerance=1e-6,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(start, inPlace=False)
    try:
        found = method.Execute(_as_sitk(fixed), _as_sitk(moving))
    except RuntimeError as error:
        raise NotAnalysable(
            "registration", f"The two series could not be brought together ({_last_line(error)})."
        ) from error
    return _plain(found)


def _plain(found: Any) -> Any:
    """The transform itself, where it comes wrapped in a composite of one."""
    if found.GetTransformEnum() == SITK.sitkComposite:
        found = SITK.CompositeTransform(found).GetNthTransform(0)
    return SITK.Euler3DTransform(found)


def _as_sitk(image: _Coarse) -> Any:
    """With SimpleITK's axes (column, row, slice)."""
    out = SITK.GetImageFromArray(image.voxels)
    steps = np.linalg.norm(image.affine[:3, :3], axis=0)
    out.SetSpacing(steps[::-1].tolist())
    out.SetOrigin(image.affine[:3, 3].tolist())
    out.SetDirection((image.affine[:3, :3] / steps)[:, ::-1].ravel().tolist())
    return out


def _as_matrix(transform: Any) -> Matrix:
    """4x4 of a transform about a centre."""
    out = np.eye(4)
    out[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    center, shift = np.array(transform.GetCenter()), np.array(transform.GetTranslation())
    out[:3, 3] = center + shift - out[:3, :3] @ center
    return out


def _between(one: Matrix, other: Matrix, middle: Matrix) -> Matrix:
    """The motion halfway between two that differ little, about the middle of the field of view."""
    out = np.eye(4)
    out[:3, :3] = 0.5 * (one[:3, :3] + other[:3, :3])
    left, _, right = np.linalg.svd(out[:3, :3])
    out[:3, :3] = left @ right
    goal = 0.5 * ((one[:3, :3] + other[:3, :3]) @ middle + one[:3, 3] + other[:3, 3])
    out[:3, 3] = goal - out[:3, :3] @ middle
    return out


def _distance(one: Matrix, other: Matrix, image: _Coarse) -> float:
    """How far apart, on average, two motions put the points of the part of an image that a spine fills."""
    points = _points(image, (0.15, 0.85))
    difference = one - other
    return float(np.linalg.norm(points @ difference[:3, :3].T + difference[:3, 3], axis=1).mean())


def _check(
    fixed: _Coarse, moving: _Coarse, found: Matrix, disagreement: float, allowed: RegistrationLimits
) -> RegistrationCheck:
    corners = _points(fixed, (0.0, 1.0))
    moved = corners @ found[:3, :3].T + found[:3, 3]
    turn = np.degrees(np.arccos(np.clip((np.trace(found[:3, :3]) - 1.0) / 2.0, -1.0, 1.0)))
    before = similarity(fixed, moving, np.eye(4))
    after, overlap = _similarity_and_overlap(fixed, moving, found)
    beside = 0.0
    for axis in (1, 2):
        direction = fixed.affine[:3, axis] / np.linalg.norm(fixed.affine[:3, axis])
        for sign in (-1.0, 1.0):
            shifted = found.copy()
            shifted[:3, 3] += sign * allowed.peak_step_mm * direction
            beside = max(beside, similarity(fixed, moving, shifted))
    return RegistrationCheck(
        similarity_before=before,
        similarity_after=after,
        peak=1.0 - beside / after if after > 0 else 0.0,
        largest_move_mm=float(np.linalg.norm(moved - corners, axis=1).max()),
        turn_deg=float(turn),
        overlap=overlap,
        inverse_error_mm=disagreement,
    )


def similarity(fixed: HasGrid, moving: HasGrid, transform: Matrix) -> float:
    """Mutual information, in nats, of two images where both are; 0 where they are independent."""
    return _similarity_and_overlap(fixed, moving, transform)[0]


def _similarity_and_overlap(fixed: HasGrid, moving: HasGrid, transform: Matrix) -> tuple[float, float]:
    there, inside = resampled(moving, fixed, transform)
    here = np.asarray(fixed.voxels, dtype=np.float32)[inside]
    if here.size < _BINS * _BINS:
        return 0.0, float(inside.mean())
    joint, _, _ = np.histogram2d(here, there[inside], bins=_BINS)
    joint /= joint.sum()
    apart = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    full = joint > 0
    return float((joint[full] * np.log(joint[full] / apart[full])).sum()), float(inside.mean())


def _refuse(check: RegistrationCheck, allowed: RegistrationLimits) -> None:
    failures = [
        text
        for failed, text in (
            (
                check.peak < allowed.least_peak,
                f"{allowed.peak_step_mm:g} mm beside the found place the images agree nearly as well "
                f"({1 - check.peak:.0%})",
            ),
            (
                check.largest_move_mm > allowed.largest_move_mm,
                f"a motion of {check.largest_move_mm:.0f} mm ({allowed.largest_move_mm:g} are the most)",
            ),
            (
                check.turn_deg > allowed.largest_turn_deg,
                f"a turn of {check.turn_deg:.0f} degrees ({allowed.largest_turn_deg:g} are the most)",
            ),
            (check.overlap < allowed.least_overlap, f"only {check.overlap:.0%} in common"),
            (
                check.inverse_error_mm > allowed.largest_inverse_error_mm,
                f"there and back ends {check.inverse_error_mm:.1f} mm off "
                f"({allowed.largest_inverse_error_mm:g} are the most)",
            ),
        )
        if failed
    ]
    if failures:
        raise NotAnalysable(
            "registration", f"The two series could not be brought together: {'; '.join(failures)}."
        )


def _middle(image: _Coarse) -> Matrix:
    middle: Matrix = image.affine[:3, :3] @ ((np.array(image.voxels.shape) - 1) / 2) + image.affine[:3, 3]
    return middle


def _points(image: _Coarse, shares: tuple[float, float]) -> Matrix:
    """Shape (8, 3): the points at these shares of an image's extent in every direction, LPS millimetres."""
    ends = np.array([[i, j, k] for i in shares for j in shares for k in shares])
    indices = ends * (np.array(image.voxels.shape) - 1)
    points: Matrix = indices @ image.affine[:3, :3].T + image.affine[:3, 3]
    return points


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"
