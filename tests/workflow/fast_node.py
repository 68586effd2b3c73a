"""`dicom-ai-node serve` with the steps of `fast_steps`.

python fast_node.py node.toml            until it is stopped
python fast_node.py node.toml nursery    forks a node for every line on standard input and prints its pid;
                                         a node that is killed often need not import everything each time
"""

import os
import sys
from pathlib import Path

from dicom_ai_node.commands.serve import serve
from dicom_ai_node.config import load_settings
from dicom_ai_node.log import configure_logging
from dicom_ai_node.workflow import service  # noqa: F401 - imported before the fork


def run() -> None:
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
