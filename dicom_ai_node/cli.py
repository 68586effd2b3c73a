"""`dicom-ai-node`: one command per module of `commands`, imported when it is asked for.

Exit codes: 0 done, 2 wrong use (also of node.toml), 3 the input could not be analysed, 1 fault.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Final

import typer
from typer.core import TyperGroup

from dicom_ai_node import __version__
from dicom_ai_node.errors import ConfigurationError, InputError, NodeError

COMMANDS: Final = (
    "serve",
    "process",
    "route",
    "phantom",
    "train",
    "evaluate",
    "models",
    "jobs",
    "demo",
    "doctor",
    "bench",
)
"""Each is a module of `dicom_ai_node.commands` with a function `command`, or a group of commands `app`."""

WRONG_USE: Final = 2
NOT_ANALYSABLE: Final = 3
FAULT: Final = 1


def exit_code(error: NodeError) -> int:
    """The exit code that an error ends the program with."""
    if isinstance(error, ConfigurationError):
        return WRONG_USE
    return NOT_ANALYSABLE if isinstance(error, InputError) else FAULT


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        return _command(import_module(f"dicom_ai_node.commands.{cmd_name}"), cmd_name)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NodeError as error:
            typer.secho(f"{ctx.info_name}: {error}", err=True, fg="red")
            raise typer.Exit(exit_code(error)) from error


def _command(module: ModuleType, name: str) -> Any:
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False, pretty_exceptions_show_locals=False)
        group.command(name=name)(module.command)
    found = typer.main.get_command(group)
    found.name = name
    return found


app = typer.Typer(
    cls=_Commands,
    name="dicom-ai-node",
    help="A DICOM node that reads spines. For research use.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback's local variables could hold what a header says of a patient.
    pretty_exceptions_show_locals=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    del version


if __name__ == "__main__":
    app()
