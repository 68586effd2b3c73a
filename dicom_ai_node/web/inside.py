"""The parts of the running node that the HTTP interface speaks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from dicom_ai_node.config import Settings
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.node.store import Receiver
from dicom_ai_node.workflow.coordinator import Coordinator
from dicom_ai_node.workflow.ledger import Ledger
from dicom_ai_node.workflow.watch import StateWatch

if TYPE_CHECKING:
    from dicom_ai_node.web.fetch import Fetcher


@dataclass(frozen=True)
class Inside:
    """What an answer may be made from."""

    settings: Settings
    spool: Spool
    receiver: Receiver
    ledger: Ledger
    coordinator: Coordinator
    watch: StateWatch
    fetcher: Fetcher

    @property
    def largest_instance(self) -> int:
        """Bytes."""
        return self.settings.node.max_instance_mb * 1_000_000


def _inside(request: Request) -> Inside:
    found: Inside = request.app.state.inside
    return found


NodeInside = Annotated[Inside, Depends(_inside)]
