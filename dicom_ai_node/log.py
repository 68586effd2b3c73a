"""One way for every process of the node to write log lines: structlog, one event a line, no patient data.

Lines are JSON where a program reads them and `key=value` text where a person does. Libraries that log on
their own (DBOS, pynetdicom) are heard from warnings upwards and come out in the same form.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, Final, TextIO

import structlog

QUIET_LIBRARIES: Final = ("dbos", "pynetdicom", "pydicom", "highdicom", "sqlalchemy", "httpx")
"""Libraries whose own chatter below a warning never reaches the log."""


UID: Final = re.compile(r"\b[0-2](?:\.(?:0|[1-9]\d*)){5,}\b")
"""What looks like a UID (PS3.5 section 9.1) and not like a version or an address."""


def configure_logging(
    *, as_json: bool, identifiers: bool = False, stream: TextIO | None = None, level: int = logging.INFO
) -> None:
    """Send structlog's and the standard library's records to `stream` (default: standard error).

    Args:
        as_json: one JSON object a line (`event`, `level`, `timestamp`, keys); otherwise text for people.
        identifiers: leave UIDs in; else each is replaced, wherever in a line it stands.
        stream: where the lines go.
        level: the lowest level that is written.
    """
    target = stream if stream is not None else sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([] if identifiers else [without_uids]),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=target.isatty(), sort_keys=False)
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET_LIBRARIES:
        library = logging.getLogger(name)
        library.setLevel(logging.WARNING)
        # A handler of its own keeps DBOS from adding one that writes past structlog.
        library.handlers[:] = [handler]
        library.propagate = False


def logger(**context: Any) -> Any:
    """A structlog logger with `context` bound to every line."""
    return structlog.get_logger("dicom_ai_node", **context)


def without_uids(_logger: Any, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: UIDs lead to patients, so a log goes without them."""
    return {key: UID.sub("<UID>", value) if isinstance(value, str) else value for key, value in line.items()}
