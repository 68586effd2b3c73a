"""What each kind of network was trained to see, as `metadata.json` of its bundle says it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class MetadataPart(BaseModel):
    """A frozen part of `metadata.json`; unknown names in it are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(MetadataPart):
    """What the network was trained to see.

    Attributes:
        spacing_mm: edge of a voxel or pixel.
        size: of a crop or plane in voxels, or of the overlapping patches that a volume is seen in; None
            where any size will do.
        clip_hu: intensities are cut off here, then standardised.
        marker_sigma_mm: of the Gaussian in the second channel of a crop.
        smoothing_mm: of the Gaussian filter between the two; 0 for none.
        standardised: with mean and deviation of what the network is shown at once, or of the whole volume.
    """

    spacing_mm: float
    size: tuple[int, ...] | None = None
    clip_hu: tuple[float, float]
    marker_sigma_mm: float | None = None
    smoothing_mm: float = 0.0
    standardised: Literal["input", "volume"] = "input"


class FilmPreprocessing(MetadataPart):
    """What a network of radiographs was trained to see.

    Attributes:
        size: rows and columns of the picture.
        percentiles: of the picture that become 0 and 1 (`networks.film_intensity.film_contrast`).
        margin: edge of a crop over the edge of the box; None where the whole film is fitted in.
        marker_sigma: of the Gaussian in the second channel of a crop, in pixels of the crop.
    """

    size: tuple[int, int]
    percentiles: tuple[float, float] = (1.0, 99.0)
    margin: float | None = None
    marker_sigma: float | None = None


class MrPreprocessing(MetadataPart):
    """What a network of MR was trained to see.

    Attributes:
        spacing_mm: edge of a pixel.
        percentiles: of the series that become black and white (`networks.mr_intensity.mr_contrast`).
        size: rows and columns of a plane; None where any size will do.
        outline_at: probability at which a body's outline lies, 0 to 1; it counts as one half from there on.
    """

    spacing_mm: float
    percentiles: tuple[float, float]
    size: tuple[int, int] | None = None
    outline_at: Annotated[float, Field(gt=0, lt=1)] = 0.5


class MriPatchPreprocessing(MetadataPart):
    """What a classifier of vertebrae on paired MR series was trained to see (`networks.mri_patch`).

    Attributes:
        series: whose slices are its channels, three of each, in this order.
        size: of the square patch in pixels.
        margin: edge of the patch over the longer edge of the body's box.
        behind: how far the patch lies behind the body, as a share of that edge.
    """

    series: tuple[Literal["t1", "t2", "stir"], ...]
    size: int
    margin: float
    behind: float


class SlicePreprocessing(MetadataPart):
    """What a detector on sagittal CT slices was trained to see (`networks.slice_frame`).

    Attributes:
        plane: of the slices.
        spacing_mm: edge of a frame's pixel; None for the slice's own pixels.
        size: rows and columns of a frame; with a spacing frames grow with the slice from there on.
        clip_hu: become black and white.
    """

    plane: Literal["sagittal"]
    spacing_mm: float | None
    size: tuple[int, int]
    clip_hu: tuple[float, float]


class CtPatchPreprocessing(MetadataPart):
    """What a classifier of vertebrae on sagittal CT slices was trained to see (`networks.ct_patch`).

    Attributes:
        size: of the square patches in pixels.
        scales: smallest and largest edge of a patch over the longer edge of the body's box.
        shift: how far a patch is moved at most, as a share of its edge.
        windows_hu: become black and white in each channel.
    """

    size: int
    scales: tuple[float, float]
    shift: float
    windows_hu: tuple[tuple[float, float], ...]


AnyPreprocessing = (
    Preprocessing
    | FilmPreprocessing
    | MrPreprocessing
    | MriPatchPreprocessing
    | SlicePreprocessing
    | CtPatchPreprocessing
)
