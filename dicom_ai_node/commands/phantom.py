"""`dicom-ai-node phantom`: images of a digital spine as DICOM, with the truth about it.

Each case is a folder: ``dicom/`` with the series, ``truth.json`` (see `phantom.truth`) and label maps. What
each kind writes: `phantom_ct`, `phantom_mr`, `phantom_radiograph`, and all of them for one person:
`phantom_study`. The same arguments write the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_ai_node.commands.phantom_ct import write_ct_case
from dicom_ai_node.commands.phantom_mr import write_mr_case
from dicom_ai_node.commands.phantom_person import Amount, PersonWish, parse_diseases, parse_fractures
from dicom_ai_node.commands.phantom_radiograph import write_radiograph_case
from dicom_ai_node.commands.phantom_study import write_study_case


class Kind(StrEnum):
    """What kind of images to make."""

    CT = "ct"
    RADIOGRAPH = "radiograph"
    MR = "mr"
    STUDY = "study"


_WRITERS: Final[dict[Kind, Callable[[Path, int, PersonWish], str]]] = {
    Kind.CT: write_ct_case,
    Kind.MR: write_mr_case,
    Kind.RADIOGRAPH: write_radiograph_case,
    Kind.STUDY: write_study_case,
}


def command(
    *,
    kind: Annotated[Kind, typer.Option(help="What kind of images to make; study makes all three.")],
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
    disease: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LEVEL:DISEASE",
            help="A disease, such as L1:KD or T12:malignant (OVCF, OF, SN, KD, PS, malignant, haemangioma, "
            "Scheuermann, cupids-bow, limbus, short-height); may be repeated. There are then no others.",
        ),
    ] = None,
    diseases: Annotated[
        Amount, typer.Option(help="How many diseases chance gives, where --disease names none.")
    ] = Amount.REALISTIC,
    degeneration: Annotated[
        Amount, typer.Option(help="Wear of discs, endplates and joints.")
    ] = Amount.REALISTIC,
    count: Annotated[int, typer.Option(min=1, help="How many persons, with seeds from SEED on.")] = 1,
) -> None:
    """Write the images of a digital spine as DICOM, with the truth about it."""
    fractures = parse_fractures([*(fracture or []), *(more or [])])
    wish = PersonWish(fractures, parse_diseases(disease) if disease else diseases, degeneration)
    folders = [out if count == 1 else out / f"case-{seed + k:04d}" for k in range(count)]
    taken = next((path for folder in folders for path in _parts(folder) if _holds_files(path)), None)
    if taken is not None:
        raise typer.BadParameter(
            f"{taken} holds files already, and two series in one folder are one too many; "
            "name another folder",
            param_hint="--out",
        )
    with _progress(count) as step:
        for k, folder in enumerate(folders):
            step(_WRITERS[kind](folder, seed + k, wish))


def _parts(folder: Path) -> list[Path]:
    """Where the files of any kind go."""
    return [folder / "dicom", *(folder / part / "dicom" for part in ("ct", "radiograph", "mr"))]


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
