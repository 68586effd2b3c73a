"""The node whole: what listens, what decides and what works, started and stopped together."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dicom_ai_node.config import Settings
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.log import logger
from dicom_ai_node.node.scp import StorageScp
from dicom_ai_node.web.interface import HttpInterface
from dicom_ai_node.workflow.coordinator import Coordinator, Judgement, judgement_of
from dicom_ai_node.workflow.durable import Engine
from dicom_ai_node.workflow.ledger import Ledger, database_url
from dicom_ai_node.workflow.steps import NODE_STEPS


class Node:
    """Receiver, coordinator and engine over one storage folder; one per process.

    Args:
        settings: all of `node.toml`.
        factory: `module:function` that makes the `Steps` in the analysis process.
        judgement: completeness and routing; default: as the settings say.

    Raises:
        ConfigurationError: the HTTP interface is switched on and has no token, or no usable certificate.
    """

    def __init__(
        self, settings: Settings, factory: str = NODE_STEPS, judgement: Judgement | None = None
    ) -> None:
        self._settings = settings
        self._spool = Spool(
            settings.storage.spool_folder, minimum_free_bytes=settings.storage.minimum_free_mb * 1_000_000
        )
        self._receiver = StorageScp(settings, self._spool)
        self._http = HttpInterface(settings) if settings.http.enabled else None
        self._engine = Engine(settings, factory)
        self._judgement = judgement if judgement is not None else judgement_of(settings)
        self._ledger: Ledger | None = None
        self._coordinator: Coordinator | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._receiver.port

    @property
    def url(self) -> str | None:
        """Where the HTTP interface is; None where it is switched off."""
        return None if self._http is None else self._http.url

    def start(self) -> None:
        """Take up what was left unfinished, then listen.

        Raises:
            ConfigurationError: the database or the port cannot be had.
        """
        self._engine.start()
        self._ledger = Ledger(database_url(self._settings))
        self._coordinator = Coordinator(
            self._settings, self._spool, self._ledger, self._judgement, self._engine.run_ended
        )
        self._coordinator.start()
        self._receiver.start()
        if self._http is not None:
            self._http.start(self._spool, self._ledger, self._coordinator)
        logger().info("ready", ae_title=self._settings.node.ae_title, port=self.port)

    def stop(self) -> None:
        """Stop listening, then working; what is unfinished is taken up by the next start."""
        if self._http is not None:
            self._http.stop()
        self._receiver.stop()
        if self._coordinator is not None:
            self._coordinator.stop()
        self._engine.stop()
        if self._ledger is not None:
            self._ledger.close()
        logger().info("stopped")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
