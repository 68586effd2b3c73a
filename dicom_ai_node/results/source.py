"""The images that a result speaks of: their instances, one header to copy from, and their geometry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from dicom_ai_node.errors import EncodingError, UnreadableInstance
from dicom_ai_node.imaging.header import read_header, reading_quietly
from dicom_ai_node.imaging.radiograph import Radiograph
from dicom_ai_node.imaging.slices import MULTI_FRAME_SOP_CLASSES
from dicom_ai_node.imaging.volume import Volume
from dicom_ai_node.report import BoxPx
from dicom_ai_node.results.copied import read_clean_header

_REFERENCE_TAGS: Final = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class SourceSeries:
    """What was analysed: the files, and the volume or the radiograph that was made of them.

    Attributes:
        paths: all files of the series.
        volume: where the files form one.
        radiograph: where one of the files is a film; that file alone is then the analysed image.
    """

    paths: tuple[Path, ...]
    volume: Volume | None = None
    radiograph: Radiograph | None = None


@dataclass(frozen=True)
class ImageReference:
    """One image, or one frame of a multi-frame image (`frame` counts from 1; None means the whole image)."""

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None = None

    def item(self) -> Dataset:
        """An item of a sequence with the Image SOP Instance Reference macro (PS3.3 table 10-3)."""
        dataset = Dataset()
        dataset.ReferencedSOPClassUID = self.sop_class_uid
        dataset.ReferencedSOPInstanceUID = self.sop_instance_uid
        if self.frame is not None:
            dataset.ReferencedFrameNumber = self.frame
        return dataset

    def instance(self) -> ImageReference:
        """The whole instance, without the frame."""
        return ImageReference(self.sop_class_uid, self.sop_instance_uid)


@dataclass(frozen=True)
class SourceImages:
    """The source as the encoders see it.

    Attributes:
        header: the first instance's data set without pixels; patient and study are copied from it.
        series: (Series Instance UID, its instances), in the order of the slices.
        partners: (data set of one instance, its series) of other series that took part, as the T1 beside the
            T2 on which results are drawn.
        slices: one per slice of the volume, with the frame where the image is multi-frame; None where a
            slice was not sent but interpolated. A radiograph is one slice. Empty without either.
        paths: the file of each slice, in the same order.
        affine: 4x4, (slice, row, column, 1) to LPS millimetres; None without a volume.
        shape: slices, rows, columns; (1, rows, columns) of a radiograph, None without either.
    """

    header: Dataset
    series: tuple[tuple[str, tuple[ImageReference, ...]], ...]
    partners: tuple[tuple[Dataset, tuple[str, tuple[ImageReference, ...]]], ...] = ()
    slices: tuple[ImageReference | None, ...] = ()
    paths: tuple[Path, ...] = ()
    affine: npt.NDArray[np.float64] | None = None
    shape: tuple[int, int, int] | None = None

    @property
    def instances(self) -> Iterator[ImageReference]:
        """All instances of the series that results are drawn on."""
        for _, references in self.series:
            yield from references

    @property
    def everything(self) -> Iterator[ImageReference]:
        """All instances that took part."""
        yield from self.instances
        for _, (_, references) in self.partners:
            yield from references

    @property
    def study_instance_uid(self) -> str:
        """The study that was analysed."""
        return str(self.header.StudyInstanceUID)

    @property
    def frame_of_reference_uid(self) -> str | None:
        """The space of the images; None for a projection image, whose pixels have no place in any space."""
        if self.is_film:
            return None
        return str(self.header.get("FrameOfReferenceUID") or "") or None

    @property
    def is_film(self) -> bool:
        """Whether the source is one radiograph: results then lie in its pixels."""
        return self.shape is not None and self.affine is None

    def nearest_slice(self, point: Sequence[float]) -> int:
        """Index of the slice nearest to a point in LPS millimetres."""
        assert self.affine is not None
        assert self.shape is not None
        index = np.linalg.solve(self.affine, np.array([*point, 1.0]))[0]
        return int(np.clip(np.rint(index), 0, self.shape[0] - 1))

    def image_of(self, told: BoxPx) -> ImageReference | None:
        """The image that a box of a report lies on; None where it is none of the slices."""
        index = self.slice_of(told)
        return None if index is None else self.slices[index]

    def slice_of(self, told: BoxPx) -> int | None:
        """Index of the slice that a box of a report lies on; None where it is none of them."""
        for index, image in enumerate(self.slices):
            if (
                image is not None
                and image.sop_instance_uid == told.sop_instance_uid
                and (image.frame or 1) == told.frame
            ):
                return index
        return None

    def reference(self, slice_index: int) -> ImageReference | None:
        """The image of a slice; None where it was interpolated."""
        return self.slices[slice_index]


def read_source(source: SourceSeries) -> SourceImages:
    """Looks at the source series once, for all encoders.

    Raises:
        EncodingError: not one of the files can be read, so that nobody knows whose result this would be.
    """
    if source.radiograph is not None:
        return _from_radiograph(source.radiograph)
    if source.volume is None:
        return _from_paths(source.paths)
    volume = source.volume
    header = read_clean_header(volume.instances[0].path)
    slices = tuple(
        None
        if index in volume.interpolated
        else ImageReference(
            item.sop_class_uid,
            item.sop_instance_uid,
            item.frame if item.sop_class_uid in MULTI_FRAME_SOP_CLASSES else None,
        )
        for index, item in enumerate(volume.instances)
    )
    instances = tuple(dict.fromkeys(item.instance() for item in slices if item is not None))
    return SourceImages(
        header=header,
        series=((volume.series_instance_uid, instances),),
        partners=_partners(source.paths, volume),
        slices=slices,
        paths=tuple(item.path for item in volume.instances),
        affine=volume.affine,
        shape=volume.shape,
    )


def _partners(
    paths: Sequence[Path], volume: Volume
) -> tuple[tuple[Dataset, tuple[str, tuple[ImageReference, ...]]], ...]:
    """The other series among the files of one MR study."""
    own = {item.path for item in volume.instances}
    others: dict[str, list[Path]] = {}
    if volume.modality == "MR":
        for path in paths:
            if path not in own:
                header = read_header(path, _REFERENCE_TAGS)
                others.setdefault(str(header.SeriesInstanceUID), []).append(path)
    found = []
    for uid, files in others.items():
        if uid == volume.series_instance_uid:
            continue
        headers = [read_header(path, _REFERENCE_TAGS) for path in files]
        references = tuple(
            ImageReference(str(item.SOPClassUID), str(item.SOPInstanceUID)) for item in headers
        )
        found.append((read_clean_header(files[0]), (uid, references)))
    return tuple(found)


def _from_radiograph(film: Radiograph) -> SourceImages:
    # No frame number even where the class allows frames: a film has one.
    reference = ImageReference(film.instance.sop_class_uid, film.instance.sop_instance_uid)
    return SourceImages(
        header=read_clean_header(film.instance.path),
        series=((film.series_instance_uid, (reference,)),),
        slices=(reference,),
        paths=(film.instance.path,),
        shape=(1, *film.shape),
    )


def _from_paths(paths: Sequence[Path]) -> SourceImages:
    header: Dataset | None = None
    series: dict[str, dict[ImageReference, None]] = {}
    for path in paths:
        try:
            found = read_clean_header(path) if header is None else read_header(path, _REFERENCE_TAGS)
            with reading_quietly():
                reference = ImageReference(str(found.SOPClassUID), str(found.SOPInstanceUID))
                series_uid, study_uid = str(found.SeriesInstanceUID), str(found.StudyInstanceUID)
        except (UnreadableInstance, AttributeError):
            # Counted among the reasons of the report; a result can only refer to what has a name.
            continue
        if header is None:
            header = found
        if study_uid == header.StudyInstanceUID:
            series.setdefault(series_uid, {})[reference] = None
    if header is None:
        names = ", ".join(path.name for path in paths[:3]) or "no file"
        raise EncodingError(
            f"No result can be made for {names}: none of the {len(paths)} files names its patient, study and "
            "instance. Send the images with their full header."
        )
    return SourceImages(header, tuple((uid, tuple(found)) for uid, found in series.items()))
