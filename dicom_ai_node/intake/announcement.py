"""What a sender said about a series beyond its instances: that nothing more will come.

C-STORE has no word for it; the HTTP interface has. The word is a file beside the instances, so that it
outlives a restart like they do, and it speaks of the instances that were there, or of a number of them: what
comes later waits for its own quiet time.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ANNOUNCEMENT_FILE: Final = "complete.json"


@dataclass(frozen=True)
class Announcement:
    """That a series is complete.

    Attributes:
        generation: the set of instances that were there when it was said.
        instances: how many there are in all, where the sender knew.
    """

    generation: str
    instances: int | None = None

    def covers(self, generation: str, count: int) -> bool:
        """Whether these instances are all that the sender spoke of."""
        return generation == self.generation if self.instances is None else count >= self.instances


def announce(folder: Path, announcement: Announcement) -> None:
    """Keep what was said in the folder of the series; when this returns, it survives a power cut.

    Raises:
        OSError: the folder is gone, or the disk is full.
    """
    part = folder / f".{ANNOUNCEMENT_FILE}-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with part.open("x", encoding="utf-8") as file:
            json.dump({"generation": announcement.generation, "instances": announcement.instances}, file)
            file.flush()
            os.fsync(file.fileno())
        part.rename(folder / ANNOUNCEMENT_FILE)
    finally:
        part.unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def announced(folder: Path) -> Announcement | None:
    """What was said about the series in this folder; None where nothing was."""
    try:
        said = json.loads((folder / ANNOUNCEMENT_FILE).read_text(encoding="utf-8"))
        return Announcement(str(said["generation"]), said["instances"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, OSError):
        # A word that cannot be read was not said: the quiet time decides.
        return None


def withdraw(folder: Path) -> None:
    """Forget what was said, also what was left half written."""
    for path in folder.glob(f"*{ANNOUNCEMENT_FILE}*"):
        path.unlink(missing_ok=True)
