"""The small archive of `dicom-ai-node demo`: a storage SCP that writes what it gets into one folder.

    python -m dicom_ai_node.commands.demo_archive FOLDER

It takes any free port on loopback and says which on its first line. It ends with its standard input.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.presentation import build_context

from dicom_ai_node.node.scu import VERIFICATION_SOP_CLASS

AE_TITLE: Final = "DEMO_ARCHIVE"


class DemoArchive:
    """Files in `folder`, named by modality and number; an instance that comes again replaces itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def store(self, event: evt.Event) -> int:
        """C-STORE: the bytes as they came, with a file header (PS3.10 section 7)."""
        uid = str(event.dataset.SOPInstanceUID)
        modality = str(event.dataset.get("Modality", "") or "object").lower()
        with self._lock:
            if uid not in self._names:
                self._counts[modality] += 1
                self._names[uid] = f"{modality}-{self._counts[modality]}.dcm"
            (self._folder / self._names[uid]).write_bytes(event.encoded_dataset())
        return 0x0000


def main() -> None:
    """Serve until standard input ends."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    archive = DemoArchive(folder)
    entity = AE(AE_TITLE)
    entity.supported_contexts = [*AllStoragePresentationContexts, build_context(VERIFICATION_SOP_CLASS)]
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, archive.store)]
    )
    assert server is not None
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
