"""Where the node keeps what it received and made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import FilePath


class StorageSettings(Section):
    """`[storage]`: where the node keeps what it received and made, and for how long."""

    folder: FilePath = Path("dicom-ai-node-data")
    minimum_free_mb: Annotated[int, Field(ge=0)] = 2048
    keep_days: Annotated[float, Field(ge=0)] = 7.0

    @property
    def spool_folder(self) -> Path:
        """The journal: instances as received."""
        return self.folder / "spool"

    @property
    def results_folder(self) -> Path:
        """Encoded results, one folder per series and generation."""
        return self.folder / "results"

    @property
    def database_path(self) -> Path:
        """The workflow's SQLite file."""
        return self.folder / "workflow.sqlite"
