"""`dicom-ai-node serve`: the node, until it is told to stop."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from dicom_ai_node.config import Settings, load_settings
from dicom_ai_node.log import configure_logging
from dicom_ai_node.workflow.steps import NODE_STEPS

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="node.toml; without one, the defaults of deploy/node.toml.")
]


def command(config: ConfigOption = None) -> None:
    """Receive studies, analyse them, send the results back; SIGTERM or Ctrl-C stops it."""
    settings = load_settings(config)
    configure_logging(as_json=not sys.stderr.isatty(), identifiers=settings.security.log_identifiers)
    serve(settings)


def serve(settings: Settings, factory: str = NODE_STEPS) -> None:
    """Run the node until SIGTERM or SIGINT; one line on standard output says when it listens."""
    from dicom_ai_node.workflow.service import Node  # noqa: PLC0415 - the help text does not need it

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    node = Node(settings, factory)
    node.start()
    typer.echo(f"ready: {settings.node.ae_title} at {settings.node.host} port {node.port}")
    if node.url is not None:
        typer.echo(f"HTTP: {node.url}")
    sys.stdout.flush()
    stop.wait()
    node.stop()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # A delivery in mid-object may hold its thread for minutes; the record says where to go on.
    os._exit(0)
