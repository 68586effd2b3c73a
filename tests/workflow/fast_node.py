"""`dicom-ai-node serve` with the steps of `fast_steps`.

python fast_node.py node.toml            until it is stopped
python fast_node.py node.toml nursery    forks a node for every line on standard input and prints its pid;
                                         a node that is killed often need not import everything each time
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from dicom_ai_node.commands.serve import serve
from dicom_ai_node.config import load_settings
from dicom_ai_node.log import configure_logging
from dicom_ai_node.workflow import service  # noqa: F401 - imported before the fork


def report_outside(event: str, arguments: tuple[Any, ...]) -> None:
    """A log line for every address beyond this machine that anything in the process asks for."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in (None, "", "127.0.0.1", "0.0.0.0", "localhost", "::1"):
        sys.stderr.write(json.dumps({"event": "outside", "host": str(host)}) + "\n")


def run() -> None:
    sys.addaudithook(report_outside)
    configure_logging(as_json=True)
    serve(load_settings(Path(sys.argv[1])), "fast_steps:fast_steps")


def nursery() -> None:
    child = 0
    while sys.stdin.readline():
        if child:
            os.waitpid(child, 0)
        child = os.fork()
        if child == 0:
            # The node's own standard input is nobody's.
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            run()
        print(child, flush=True)  # noqa: T201


if __name__ == "__main__":
    nursery() if len(sys.argv) > 2 else run()
