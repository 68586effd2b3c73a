"""Phantom patients for mri-classify: who has what where, seen about the ill vertebrae alone.

A patient is a pure function of the seed. T1, T2 and STIR of one vertebra lie on one grid, as registration
leaves them, so that the person is painted once for all three; only some 10 cm about the body are rendered.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicom_ai_node.anatomy import Level, verse_label
from dicom_ai_node.networks.mri_classes import FEATURES
from dicom_ai_node.networks.mri_patch import PIXEL_MM
from dicom_ai_node.phantom.disease import BENIGN, BENIGN_COUNTS, MALIGNANT, MALIGNANT_COUNTS, Disease
from dicom_ai_node.phantom.fracturing import FRACTURE_LEVELS
from dicom_ai_node.phantom.mr import MrAcquisition, MrPhantom, render_mr_together
from dicom_ai_node.phantom.mr_sequence import SeriesKind
from dicom_ai_node.phantom.mr_study import sample_mr_series, stack_affine
from dicom_ai_node.phantom.randomness import around, between, stream
from dicom_ai_node.phantom.spine import Spine, SpineOptions, Vertebra, sample_spine
from dicom_ai_node.training.mri_crops import Kind, MrExample, body_slices

Floats = npt.NDArray[np.float64]
Ill = dict[Level, tuple[Disease, ...]]

_ABNORMAL: Final = 4
"""Ill vertebrae per patient of a training pool: all of them cost one person."""

_WILD_SHARE: Final = 0.2
"""Of the patients of a training pool whose relaxation times and contrast no person and no scanner has; few,
because it is the signal of marrow that tells the diseases apart."""

_FIELD: Final = 2.7
"""Edge of what is rendered over the body's; the wide box, turned, needs no more."""

_MARGIN: Final = 6
"""Pixels cut off at each edge: an image by way of k-space is periodic, tissue is not."""

_BENIGN_KINDS: Final[tuple[tuple[tuple[Disease, ...], Kind, float], ...]] = (
    ((Disease.OVCF,), "fresh", 0.61),
    ((Disease.OF,), "old", 0.31),
    ((Disease.KD,), "kuemmell", 0.05),
    ((Disease.OF, Disease.KD), "kuemmell", 0.03),
)
"""P4, table 1: 48 of 140 without changed marrow, 8 with a cleft."""

_ATTEMPTS: Final = 20
_KINDS: Final[tuple[SeriesKind, ...]] = ("t1", "t2", "stir")


def mri_patient(seed: int, *, training: bool = True) -> list[MrExample]:
    """The examples of one patient.

    Args:
        seed: decides everything.
        training: four ill vertebrae and a healthy one, every second patient with metastases (of whom some
            have benign fractures beside them), some beyond what scanners do. Else P4's patient: the one
            vertebra that was chosen, benign for even seeds and malignant for odd ones, always realistic.
    """
    generator = stream(seed, "mri-classify")
    spine, chosen = _person(seed, generator, training=training)
    wild = training and bool(generator.random() < _WILD_SHARE)
    series = [sample_mr_series(seed, spine, kind, region="lumbar", training=wild) for kind in _KINDS]
    if training:
        chosen = [*chosen, *_healthy(spine, generator)]
    return [
        _example(f"{seed:05d}", spine, vertebra, series, generator)
        for vertebra in spine.vertebrae
        if vertebra.level in chosen
    ]


def evaluation_person(seed: int) -> tuple[Spine, Level]:
    """P4's patient of a seed, as `mri_patient` without training has him, and the vertebra that was chosen."""
    spine, chosen = _person(seed, stream(seed, "mri-classify"), training=False)
    return spine, chosen[0]


def _person(seed: int, generator: np.random.Generator, *, training: bool) -> tuple[Spine, list[Level]]:
    """(a person, the levels to be shown)."""
    for _ in range(_ATTEMPTS):
        ill, shown = _plan(generator, training=training, malignant=seed % 2 == 1)
        options = SpineOptions(
            age=between(generator, 40.0, 90.0), diseases=ill, degeneration="realistic", supernumerary="none"
        )
        try:
            return sample_spine(seed, options=options), shown
        except ValueError:  # one of these bodies cannot break as far as is wanted: others may
            continue
    raise ValueError(f"seed {seed}: none of {_ATTEMPTS} plans of diseases could be built")


def _plan(generator: np.random.Generator, *, training: bool, malignant: bool) -> tuple[Ill, list[Level]]:
    """(diseases, levels to be shown)."""
    levels = list(FRACTURE_LEVELS)
    weights = np.sqrt(np.array(list(FRACTURE_LEVELS.values())))
    order = [levels[k] for k in generator.choice(len(levels), 8, replace=False, p=weights / weights.sum())]
    ill: Ill = {}
    if malignant:
        more = generator.random() < MALIGNANT_COUNTS["skip_lesion"] / MALIGNANT
        for _ in range(1 + (int(generator.integers(1, 3)) if more else 0)):
            ill[order[len(ill)]] = (Disease.MALIGNANT,)
    shown = [order[0]]
    if not malignant or training:
        for level in order[len(ill) : _ABNORMAL if training else 1]:
            ill[level] = _benign(generator)
        shown = order[:_ABNORMAL] if training else shown
    skip = BENIGN_COUNTS["skip_lesion"] / BENIGN
    # In training they are shown as look-alikes, too: twice as often.
    if generator.random() < (2 * skip if training else 0.0 if malignant else skip):
        ill[order[-1]] = (Disease.HAEMANGIOMA,)
        if training:
            shown = [*shown, order[-1]]
    return ill, shown


def _benign(generator: np.random.Generator) -> tuple[Disease, ...]:
    shares = np.array([share for _, _, share in _BENIGN_KINDS])
    return _BENIGN_KINDS[int(generator.choice(len(shares), p=shares))][0]


def _healthy(spine: Spine, generator: np.random.Generator) -> list[Level]:
    sound = [
        vertebra.level
        for vertebra in spine.vertebrae
        if vertebra.level in FRACTURE_LEVELS
        and not vertebra.diseases
        and (grading := spine.gradings.get(vertebra.level)) is not None
        and grading.grade == 0
    ]
    return [sound[int(generator.integers(len(sound)))]] if sound else []


def kind_of(vertebra: Vertebra) -> Kind:
    """What a vertebra of the phantom has, as the classifier's truth says it."""
    ill = set(vertebra.diseases)
    if Disease.MALIGNANT in ill:
        return "malignant"
    if Disease.KD in ill:
        return "kuemmell"
    if Disease.OVCF in ill or Disease.OF in ill:
        return "old" if Disease.OF in ill else "fresh"
    return "haemangioma" if Disease.HAEMANGIOMA in ill else "healthy"


def features_of(vertebra: Vertebra) -> npt.NDArray[np.float32]:
    """P4's features of a vertebra, shape (15,), 0 or 1; NaN where a look-alike leaves them open.

    A healthy vertebra has neither collapse nor changed marrow; whether there are nodules elsewhere is asked
    of fractures alone, and whether a haemangioma is a nodule nobody has scored.
    """
    if vertebra.features is not None:
        return np.array([float(asdict(vertebra.features)[name]) for name in FEATURES], dtype=np.float32)
    known = dict.fromkeys(FEATURES, 0.0)
    known |= {"absence_of_collapse": 1.0, "homogeneous_marrow": 1.0, "skip_lesion": float("nan")}
    if kind_of(vertebra) == "haemangioma":
        known |= dict.fromkeys(("homogeneous_marrow", "dark_patch", "diffuse_change", "mass"), float("nan"))
    return np.array([known[name] for name in FEATURES], dtype=np.float32)


def _example(
    patient: str,
    spine: Spine,
    vertebra: Vertebra,
    series: list[MrAcquisition],
    generator: np.random.Generator,
) -> MrExample:
    placed = _about(vertebra, series, generator)
    made = render_mr_together(spine, placed)
    inner = (slice(None), slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    body = made[0].labels[inner] == verse_label(vertebra.level)
    rows, columns = np.flatnonzero(body.any(axis=(0, 2))), np.flatnonzero(body.any(axis=(0, 1)))
    box = np.array([rows[0], columns[0], rows[-1], columns[-1]], dtype=np.float64)
    through = body_slices(body.sum(axis=(1, 2)))
    images = np.stack(
        [
            _eight_bits((one.pixels if kind == "t2" else _as_registered(one, generator))[inner])
            for kind, one in zip(_KINDS, made, strict=True)
        ]
    )
    return MrExample(
        patient=patient,
        level=vertebra.level,
        kind=kind_of(vertebra),
        features=features_of(vertebra),
        images=images,
        pixel_mm=PIXEL_MM,
        step_mm=round(placed[0].spacing_mm[0], 3),
        box=box,
        slices=through,
        lesion_slices=_showing(made[0].lesions[inner], box, through),
    )


def _about(
    vertebra: Vertebra, series: list[MrAcquisition], generator: np.random.Generator
) -> list[MrAcquisition]:
    """The series of a study on a common grid about one vertebra; slices and tilt are those of T2."""
    t2 = series[_KINDS.index("t2")]
    low, high = (np.asarray(corner, dtype=np.float64) for corner in vertebra.body.extent)
    edge = _FIELD * float((high - low)[1:].max())
    matrix = round(edge / PIXEL_MM) + 2 * _MARGIN
    step = t2.spacing_mm[0]
    slices = int(np.clip(round(34.0 / step) + 1, 7, 13))
    axes = t2.affine[:3, :3] / np.array(t2.spacing_mm)
    middle = (vertebra.frame @ np.append(0.5 * (low + high), 1.0))[:3]
    shift = axes @ np.array(
        [
            between(generator, -0.5, 0.5) * step,
            between(generator, -0.5, 0.5) * PIXEL_MM,
            # Posterior elements reach further than what lies in front of a body.
            0.08 * edge,
        ]
    )
    shape = (slices, matrix, matrix)
    affine = stack_affine(middle + shift, axes, shape, (step, PIXEL_MM))
    return [_placed(one, affine, shape, t2.slice_thickness_mm) for one in series]


def _placed(
    one: MrAcquisition, affine: Floats, shape: tuple[int, int, int], thickness: float
) -> MrAcquisition:
    finest = np.array(one.readout.matrix) / np.array(one.shape[1:]) * PIXEL_MM / one.spacing_mm[1]
    sampled = [int(np.clip(round(shape[1] * share), shape[1] // 2, shape[1])) for share in finest]
    return replace(
        one,
        shape=shape,
        affine=affine,
        slice_thickness_mm=thickness,
        readout=replace(one.readout, matrix=(sampled[0], sampled[1])),
        wrap=0.0,
        motion=np.eye(4),
        subslice_mm=2.0,
    )


def _as_registered(made: MrPhantom, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """The image as registration to another series leaves it: a little off, its slices mixed a little."""
    image = made.pixels.astype(np.float32)
    if generator.random() < 0.3:
        return image
    share = np.float32(abs(around(generator, 0.0, 0.12)))
    beside = np.concatenate([image[:1], image, image[-1:]])
    image = (1 - share) * image + share / 2 * (beside[:-2] + beside[2:])
    shifted: npt.NDArray[np.float32] = image
    for axis in (1, 2):
        off = around(generator, 0.0, 0.5) / PIXEL_MM
        whole = int(np.floor(off))
        part = np.float32(off - whole)
        # What comes in at the other edge is cut off with the margin.
        shifted = (1 - part) * np.roll(shifted, whole, axis) + part * np.roll(shifted, whole + 1, axis)
    return shifted


def _eight_bits(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The image with its brightest 0.2 % at 255."""
    top = max(1.0, float(np.percentile(image, 99.8)))
    stored: npt.NDArray[np.uint8] = np.clip(np.rint(image * (255.0 / top)), 0, 255).astype(np.uint8)
    return stored


def _showing(lesions: npt.NDArray[np.uint8], box: Floats, through: tuple[int, ...]) -> tuple[int, ...]:
    """The slices through a body that show at least a quarter as much of its lesions as the best one."""
    row, column, last_row, last_column = box.astype(int)
    area = (lesions[:, row : last_row + 1, column : last_column + 1] > 0).sum(axis=(1, 2))
    most = max((int(area[k]) for k in through), default=0)
    return tuple(k for k in through if area[k] >= max(1, 0.25 * most)) if most else through
