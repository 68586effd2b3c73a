"""What one MR series is: its stacks, each of one kind of image in one plane, with the reasons.

One Series Instance UID may hold several kinds (the four images of a Dixon, two echoes, magnitude with phase)
and several planes (a localizer). They are told apart here, from headers alone; nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_ai_node.imaging.header import read_header_and_end, reading_quietly
from dicom_ai_node.imaging.mr_contrast import MAGNITUDE_CONTRASTS, MrIdentity, identify
from dicom_ai_node.imaging.mr_tags import MR_TAGS, MrTags, tags_of
from dicom_ai_node.imaging.slices import SLICE_TAGS, Slice, slices_of
from dicom_ai_node.imaging.stack import stacks
from dicom_ai_node.report import Reason

Plane = Literal["sagittal", "coronal", "axial", "oblique"]

_PLANES: Final[tuple[Plane, ...]] = ("sagittal", "coronal", "axial")
_OBLIQUE_COSINE: Final = 0.766
_SAME_ECHO_MS: Final = 2.0
_LOCALIZER_SLICES: Final = 9
"""Three planes in one series, with no more slices than this in each, are there to plan others by."""


@dataclass(frozen=True)
class MrStack:
    """Slices of one kind in one plane at equal steps, in ascending order along their normal."""

    identity: MrIdentity
    tags: MrTags
    slices: tuple[Slice, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files of the slices, each once."""
        return tuple(dict.fromkeys(item.path for item in self.slices))

    @cached_property
    def normal(self) -> npt.NDArray[np.float64]:
        """Shape (3,): unit normal of the planes, LPS."""
        first = self.slices[0]
        normal: npt.NDArray[np.float64] = np.cross(first.row_cosines, first.column_cosines)
        return normal / np.linalg.norm(normal)

    @property
    def plane(self) -> Plane:
        """The patient plane that the slices lie in; oblique from 40 degrees off every one."""
        along = np.abs(self.normal)
        axis = int(np.argmax(along))
        return _PLANES[axis] if along[axis] > _OBLIQUE_COSINE else "oblique"

    @property
    def spacing_mm(self) -> float:
        """Distance of neighbouring slices, 0 for a single one."""
        if len(self.slices) < 2:
            return 0.0
        places = np.array([item.position for item in self.slices]) @ self.normal
        return float(np.median(np.diff(places)))

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """4x4, (slice, row, column, 1) to LPS millimetres; a single slice has its thickness as step."""
        first, last = self.slices[0], self.slices[-1]
        out = np.eye(4)
        steps = len(self.slices) - 1
        out[:3, 0] = (
            np.subtract(last.position, first.position) / steps
            if steps
            else self.normal * (first.thickness or 1.0)
        )
        out[:3, 1] = np.multiply(first.column_cosines, first.pixel_spacing[0])
        out[:3, 2] = np.multiply(first.row_cosines, first.pixel_spacing[1])
        out[:3, 3] = first.position
        return out

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return len(self.slices), self.slices[0].rows, self.slices[0].columns

    @property
    def coverage_mm(self) -> float:
        """How much of the patient from head to feet lies in the images."""
        steps = np.abs(self.affine[2, :3]) * self.shape
        return float(steps.max())

    def in_words(self) -> str:
        """`15 sagittal slices, 4.4 mm apart, 300 mm from head to feet`."""
        count = len(self.slices)
        apart = f", {self.spacing_mm:.3g} mm apart" if count > 1 else ""
        return (
            f"{count} {self.plane} slice{'s' if count > 1 else ''}{apart}, "
            f"{self.coverage_mm:.0f} mm from head to feet"
        )


def mr_stacks(paths: Iterable[Path]) -> list[MrStack]:
    """The stacks of one MR series, largest first; the same whatever the order of the files.

    Raises:
        UnreadableInstance, InconsistentGeometry, NotAnalysable: as `slices.read_slices`, for single files.
    """
    images: list[tuple[Slice, MrTags]] = []
    with reading_quietly():
        for path in paths:
            header, end = read_header_and_end(Path(path), (*SLICE_TAGS, *MR_TAGS))
            images += images_of(header, Path(path), header_end=end)
    return split(images)


def images_of(header: Dataset, path: Path, *, header_end: int | None = None) -> list[tuple[Slice, MrTags]]:
    """Place and account of every frame of one file; errors as `slices.slices_of`."""
    return list(zip(slices_of(header, path, header_end=header_end), tags_of(header), strict=True))


def split(images: Sequence[tuple[Slice, MrTags]]) -> list[MrStack]:
    """The stacks that the images of one series fall into by kind, echo and geometry, largest first."""
    known: dict[MrTags, MrIdentity] = {}
    groups: dict[tuple[object, ...], list[tuple[Slice, MrTags]]] = {}
    echoes = _echo_groups([tags.echo_ms for _, tags in images])
    ordered = sorted(images, key=lambda image: (image[0].sop_instance_uid, image[0].frame))
    for item, tags in ordered:
        if tags not in known:
            known[tags] = identify(tags)
        about = known[tags]
        key = (about.kind, about.weighting, tags.component, echoes[tags.echo_ms], tags.b_value)
        groups.setdefault(key, []).append((item, tags))
    found: list[MrStack] = []
    for group in groups.values():
        tags_by_slice = {(item.sop_instance_uid, item.frame): tags for item, tags in group}
        for slices in stacks([item for item, _ in group]):
            if slices:
                tags = tags_by_slice[slices[0].sop_instance_uid, slices[0].frame]
                found.append(MrStack(known[tags], tags, slices))
    found = _three_planes(found)
    return sorted(
        found,
        key=lambda one: (
            one.identity.kind not in MAGNITUDE_CONTRASTS,
            -len(one.slices),
            one.identity.kind,
            one.tags.echo_ms or 0.0,
            one.slices[0].position,
            one.slices[0].sop_instance_uid,
        ),
    )


def _echo_groups(echoes: Iterable[float | None]) -> dict[float | None, int]:
    """Echo times that are one but for rounding and the scanner's own adjustment get one number."""
    groups: dict[float | None, int] = {None: -1}
    last = -np.inf
    number = -1
    for echo in sorted({echo for echo in echoes if echo is not None}):
        if echo - last > max(_SAME_ECHO_MS if echo > 10.0 else 0.3, 0.06 * echo):
            number += 1
        groups[echo] = number
        last = echo
    return groups


def _three_planes(found: list[MrStack]) -> list[MrStack]:
    """Few slices in planes that cross at right angles are a localizer, whatever they are called."""
    sizes = {one.plane: 0 for one in found}
    for one in found:
        sizes[one.plane] += len(one.slices)
    crossing = {plane for plane in sizes if plane != "oblique"}
    if len(crossing) < 2 or max(sizes.values()) > _LOCALIZER_SLICES:
        return found
    names = ", ".join(sorted(crossing))
    reason = f"{names} slices in one series, {max(sizes.values())} in a plane: a localizer"
    return [
        one
        if one.identity.kind not in MAGNITUDE_CONTRASTS | {"unknown", "t2-star"}
        else replace(
            one,
            identity=MrIdentity(
                "localizer", one.identity.weighting, "likely", (reason, *one.identity.reasons)
            ),
        )
        for one in found
    ]


_REFUSED: Final[dict[str, str]] = {
    "phase": "these are phase images, whose pixels are angles and no signal",
    "complex": "these are real or imaginary images, whose pixels are no magnitude",
    "mosaic": "these are mosaics, many slices in one picture",
    "localizer": "this is a localizer, too coarse to measure in",
    "diffusion": "these are diffusion-weighted images",
    "adc": "this is a map of apparent diffusion coefficients",
    "angiography": "this is an angiography",
    "myelography": "this is a myelography, in which bone does not show",
    "derived": "these are calculated images",
    "t2-star": "this is a gradient echo with T2* contrast",
    "flair": "these are images in which fluid is nulled",
}


def unsuited(one: MrStack) -> Reason | None:
    """Why no vertebra can be measured in these images, as a coded reason; None where they may serve.

    What is refused: images that are no magnitude of T1, T2, proton density or short inversion time; a single
    slice; planes other than sagittal, unless slices are as fine as pixels.
    """
    kind = one.identity.kind
    why = "; ".join(one.identity.reasons[:2])
    if kind in _REFUSED:
        return Reason("modality-mismatch", f"not analysed: {_REFUSED[kind]} ({why})")
    if len(one.slices) < 2:
        return Reason(
            "coverage", f"one {one.plane} slice only ({one.slices[0].path.name}); send the whole series"
        )
    if one.plane != "sagittal" and not reformattable(one):
        return Reason(
            "orientation",
            f"{one.in_words()}: vertebrae are measured in sagittal slices; send a sagittal series, or a "
            "volume with slices as fine as its pixels",
        )
    return None


_FINE_MM: Final = 1.6
"""Slices no thicker than this can be cut anew in another plane without losing an endplate."""


def reformattable(one: MrStack) -> bool:
    """Whether sagittal images as good as measured ones can be cut out of slices in another plane."""
    return (
        len(one.slices) >= 20
        and 0 < one.spacing_mm <= _FINE_MM
        and max(one.slices[0].pixel_spacing) <= _FINE_MM
    )
