"""All of `node.toml`, and what must hold between its sections."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import model_validator

from dicom_ai_node.config.analysis import ModelSettings, WorkflowSettings
from dicom_ai_node.config.archives import PriorSettings, QuerySettings
from dicom_ai_node.config.destinations import AnyDestination
from dicom_ai_node.config.http import HttpSettings
from dicom_ai_node.config.node import NodeSettings, SecuritySettings, Sender
from dicom_ai_node.config.results import ResultSettings, check_compression
from dicom_ai_node.config.routes import Routes
from dicom_ai_node.config.section import Section
from dicom_ai_node.config.storage import StorageSettings
from dicom_ai_node.config.values import AS_TUPLE


class Settings(Section):
    """All of `node.toml`; `Settings()` is the node without a file."""

    node: NodeSettings = NodeSettings()
    senders: Annotated[tuple[Sender, ...], AS_TUPLE] = ()
    routes: Routes = Routes()
    destinations: Annotated[tuple[AnyDestination, ...], AS_TUPLE] = ()
    query: QuerySettings | None = None
    http: HttpSettings = HttpSettings()
    priors: PriorSettings | None = None
    storage: StorageSettings = StorageSettings()
    workflow: WorkflowSettings = WorkflowSettings()
    security: SecuritySettings = SecuritySettings()
    models: ModelSettings = ModelSettings()
    results: ResultSettings = ResultSettings()

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [destination.name for destination in self.destinations]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"destinations have the same name: {', '.join(doubled)}; give each its own")
        return self

    @model_validator(mode="after")
    def _holdable_everywhere(self) -> Self:
        for item in self.destinations:
            try:
                check_compression(
                    item.segmentation or self.results.segmentation,
                    item.compression or self.results.compression,
                )
            except ValueError as error:
                raise ValueError(f"destination {item.name}: {error}") from error
        return self
