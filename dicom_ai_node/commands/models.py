"""`dicom-ai-node models`: which bundles there are, whether they are whole, and copies of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import typer
from rich.console import Console
from rich.table import Table

from dicom_ai_node.errors import ConfigurationError, ModelError

if TYPE_CHECKING:
    from dicom_ai_node.inference.bundle import Metadata

app = typer.Typer(no_args_is_help=True, help="List, show, verify and export model bundles.")

ModelsOption = Annotated[
    Path | None, typer.Option("--models", help="Folder of bundles (default: as the node finds it).")
]
NameArgument = Annotated[str, typer.Argument(help="Name of a bundle.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(models: ModelsOption = None, as_json: JsonOption = False) -> None:
    """Every bundle with its version, its network and the device that it was trained on."""
    found = [(folder, _metadata(folder)) for folder in _folders(models)]
    if as_json:
        typer.echo(json.dumps([item.model_dump(mode="json") for _, item in found], indent=2))
        return
    table = Table("name", "version", "network", "trained on", "description", box=None)
    for _, item in found:
        table.add_row(item.name, item.version, item.network.architecture, item.trained_on, item.description)
    Console(highlight=False).print(table)


@app.command()
def show(name: NameArgument, models: ModelsOption = None, as_json: JsonOption = False) -> None:
    """The model card of one bundle, or its metadata as JSON."""
    folder = _folder(name, models)
    if as_json:
        typer.echo(json.dumps(_metadata(folder).model_dump(mode="json"), indent=2))
        return
    card = folder / "README.md"
    if not card.is_file():
        raise ModelError(f"{card} is missing; copy the whole bundle again")
    typer.echo(card.read_text("utf-8"))


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Bundles (default: all).")] = None,
    models: ModelsOption = None,
) -> None:
    """Check that the weights of bundles have the hashes that their metadata names."""
    from dicom_ai_node.inference.bundle import verify as verified  # noqa: PLC0415 - waits for torch

    folders = [_folder(name, models) for name in names] if names else _folders(models)
    for folder in folders:
        metadata = verified(folder)
        typer.echo(f"{metadata.name} {metadata.version}: whole")


@app.command()
def export(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", help="A folder to make, or a .zip file.")],
    models: ModelsOption = None,
) -> None:
    """Copy one verified bundle to a folder or a zip file, for another node."""
    from dicom_ai_node.inference.bundle import verify as verified  # noqa: PLC0415

    folder = _folder(name, models)
    metadata = verified(folder)
    files = ["metadata.json", "README.md", *(entry.file for entry in metadata.weights)]
    if not (folder / "README.md").is_file():
        raise ModelError(f"{folder / 'README.md'} is missing; copy the whole bundle again")
    if out.exists():
        raise ConfigurationError(f"{out} exists already; name a new file or folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".export-") as scratch:
        copy = Path(scratch) / name
        copy.mkdir()
        for file in files:
            shutil.copyfile(folder / file, copy / file)
        verified(copy)
        if out.suffix == ".zip":
            _zip(copy, files, Path(scratch) / "bundle.zip").rename(out)
        else:
            copy.rename(out)
    typer.echo(f"{metadata.name} {metadata.version} -> {out}")


def _zip(folder: Path, files: list[str], target: Path) -> Path:
    with ZipFile(target, "w") as archive:
        for file in files:
            # A fixed date: the same bundle gives the same bytes.
            archive.writestr(ZipInfo(f"{folder.name}/{file}"), (folder / file).read_bytes(), ZIP_DEFLATED)
    return target


def _folders(models: Path | None) -> list[Path]:
    from dicom_ai_node.inference.bundle import find_models_dir  # noqa: PLC0415

    root = find_models_dir(models)
    found = sorted(path.parent for path in root.glob("*/metadata.json"))
    if not found:
        raise ModelError(f"{root} holds no bundle; train one, or copy one there")
    return found


def _folder(name: str, models: Path | None) -> Path:
    folders = _folders(models)
    for folder in folders:
        if folder.name == name:
            return folder
    raise ConfigurationError(f"no bundle {name!r}; there are: {', '.join(item.name for item in folders)}")


def _metadata(folder: Path) -> Metadata:
    from dicom_ai_node.inference.bundle import read_metadata  # noqa: PLC0415

    return read_metadata(folder)
