"""`dicom-ai-node phantom`: images of a digital spine as DICOM, with the truth about it.

Each case is a folder: ``dicom/`` with the series, ``truth.json`` (see `phantom.truth`) and ``labels.nii.gz``
(vertebral bodies, VerSe numbers, on the grid of the series); an MR study has one of each per series, see
`phantom_mr`; films have their truth in pixels, see `phantom_radiograph`. The same arguments write the same
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_ai_node.anatomy import Level
from dicom_ai_node.commands.phantom_mr import write_mr_case
from dicom_ai_node.commands.phantom_radiograph import write_radiograph_case
from dicom_ai_node.report import Deformity

if TYPE_CHECKING:
    from dicom_ai_node.phantom.ct import CtAcquisition
    from dicom_ai_node.phantom.spine import Spine

Fractures = Mapping[Level, tuple[Deformity, int]]

_ATTEMPTS: Final = 40
_SEED_STEP: Final = 1_000_003


class Kind(StrEnum):
    """What kind of images to make."""

    CT = "ct"
    RADIOGRAPH = "radiograph"
    MR = "mr"
    STUDY = "study"


def command(
    *,
    kind: Annotated[
        Kind, typer.Option(help="What kind of images to make; this version makes ct, mr and radiograph.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write to.", file_okay=False)],
    seed: Annotated[int, typer.Option(min=0, help="Which person; the same seed writes the same bytes.")] = 0,
    fracture: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEVEL:TYPE:GRADE",
            help="A fracture, such as L1:wedge:2 (types wedge, biconcave, crush; grades 1 to 3); may be "
            "repeated. 'none' makes a spine without any. Without this option chance decides.",
        ),
    ] = None,
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LEVEL:TYPE:GRADE]...", help="Further fractures after --fracture."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="How many persons, with seeds from SEED on.")] = 1,
) -> None:
    """Write the images of a digital spine as DICOM, with the truth about it."""
    writers = {Kind.CT: write_ct_case, Kind.MR: write_mr_case, Kind.RADIOGRAPH: write_radiograph_case}
    if kind not in writers:
        raise typer.BadParameter(
            f"this version makes no {kind} phantom; use --kind ct, mr or radiograph", param_hint="--kind"
        )
    fractures = parse_fractures([*(fracture or []), *(more or [])])
    folders = [out if count == 1 else out / f"case-{seed + k:04d}" for k in range(count)]
    taken = next((folder for folder in folders if _holds_files(folder / "dicom")), None)
    if taken is not None:
        raise typer.BadParameter(
            f"{taken / 'dicom'} holds files already, and two series in one folder are one too many; "
            "name another folder",
            param_hint="--out",
        )
    with _progress(count) as step:
        for k, folder in enumerate(folders):
            step(writers[kind](folder, seed + k, fractures))


def parse_fractures(texts: Sequence[str]) -> Fractures | None:
    """``["L1:wedge:2"]`` as `sample_spine` takes it; ``["none"]`` is an empty mapping, no text None.

    Raises:
        typer.BadParameter: a text that names no fracture, or one level twice.
    """
    if not texts:
        return None
    if list(texts) == ["none"]:
        return {}
    found: dict[Level, tuple[Deformity, int]] = {}
    kinds = {kind: kind for kind in get_args(Deformity) if kind != "none"}
    for text in texts:
        level, _, rest = text.partition(":")
        kind, _, grade = rest.partition(":")
        if level not in set(Level) or kind not in kinds or grade not in {"1", "2", "3"}:
            raise typer.BadParameter(
                f"{text!r} is no fracture; write LEVEL:TYPE:GRADE, such as L1:wedge:2, with a type of "
                f"{', '.join(kinds)} and a grade of 1, 2 or 3",
                param_hint="--fracture",
            )
        if Level(level) in found:
            raise typer.BadParameter(f"{level} can break in one way only", param_hint="--fracture")
        found[Level(level)] = (kinds[kind], int(grade))
    return found


def write_ct_case(folder: Path, seed: int, fractures: Fractures | None) -> str:
    """One person's CT: series, truth and label map.

    Returns:
        One line about what was written.

    Raises:
        typer.BadParameter: this person cannot have such a fracture.
    """
    # Imported here: the command's help and refusals need no torch.
    from dicom_ai_node.imaging.nifti import write_label_map  # noqa: PLC0415
    from dicom_ai_node.imaging.write_ct import CtHeader, write_ct_series  # noqa: PLC0415
    from dicom_ai_node.phantom.ct import render_ct  # noqa: PLC0415
    from dicom_ai_node.phantom.spine import sample_spine  # noqa: PLC0415

    try:
        spine = sample_spine(seed, fractures=fractures)
    except ValueError as error:
        raise typer.BadParameter(f"seed {seed}: {error}", param_hint="--fracture") from error
    acquisition = _showing(spine, seed, fractures or {})
    case = render_ct(spine, acquisition)
    sharp = acquisition.enhancement > 0.3
    header = CtHeader(
        patient_name=f"Phantom^Seed {seed}",
        patient_age=round(spine.age),
        series_description=f"Spine {acquisition.slice_thickness_mm:g} mm {'bone' if sharp else 'soft'}",
        kernel="B60s" if sharp else "B30s",
        slice_thickness_mm=acquisition.slice_thickness_mm,
        pixel_padding_value=acquisition.padding_hu + 1024
        if acquisition.circle and acquisition.padding_hu < -1024
        else None,
    )
    paths = write_ct_series(case.hu, case.affine, folder / "dicom", seed=seed, header=header)
    (folder / "truth.json").write_text(json.dumps(case.truth, indent=2) + "\n")
    write_label_map(folder / "labels.nii.gz", case.labels, case.affine)
    seen = [item for item in case.truth["vertebrae"] if item["visible"] > 0.99]
    broken = [
        f"{item['level']} {item['deformity']} {item['genant_grade']}" for item in seen if item["fractured"]
    ]
    return (
        f"{folder}: {len(paths)} slices of {case.hu.shape[1]}x{case.hu.shape[2]}, "
        f"{seen[0]['level']} to {seen[-1]['level']}, {', '.join(broken) or 'no fracture'}"
        if seen
        else f"{folder}: {len(paths)} slices, no whole vertebra"
    )


def _showing(spine: Spine, seed: int, fractures: Fractures) -> CtAcquisition:
    """The first plausible acquisition that shows every fracture that was asked for, else the best of many."""
    import torch  # noqa: PLC0415

    from dicom_ai_node.phantom.ct import sample_ct_acquisition  # noqa: PLC0415
    from dicom_ai_node.phantom.grid import Grid  # noqa: PLC0415
    from dicom_ai_node.phantom.truth import visible_share  # noqa: PLC0415

    def least_seen(acquisition: CtAcquisition) -> float:
        grid = Grid(acquisition.shape, acquisition.affine, torch.device("cpu"))
        return min(
            (visible_share(item, grid) for item in spine.vertebrae if item.level in fractures), default=1.0
        )

    best = sample_ct_acquisition(seed, spine)
    for k in range(1, _ATTEMPTS):
        if least_seen(best) >= 1.0:
            break
        best = max(best, sample_ct_acquisition(seed + k * _SEED_STEP, spine), key=least_seen)
    return best


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


@contextmanager
def _progress(count: int) -> Iterator[Callable[[str], None]]:
    """A bar on a terminal, where there is more than one case; the cases' lines in any case."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Phantoms", total=count)

        def step(line: str) -> None:
            bar.advance(task)
            bar.console.print(line, highlight=False, soft_wrap=True, markup=False)

        yield step
