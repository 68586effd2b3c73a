"""How analyses are run: how many at once, on what device, with which weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dicom_ai_node.config.section import Section
from dicom_ai_node.config.values import FilePath, Seconds


class WorkflowSettings(Section):
    """`[workflow]`: how many studies are analysed at once, and where the record of jobs is kept."""

    database_url: str | None = None
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    analysis_timeout_seconds: Seconds = 1800.0
    analysis_attempts: Annotated[int, Field(ge=1)] = 4
    analysis_retry_seconds: Seconds = 15.0


class ModelSettings(Section):
    """`[models]`: which weights run where."""

    models_dir: FilePath | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "half"] = "float32"
    cuda_graphs: bool = True
    threads: Annotated[int, Field(ge=0)] = 0
