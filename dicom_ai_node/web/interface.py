"""The HTTP interface whole: the server, the watch that feeds its events, and what fetches for it."""

from __future__ import annotations

from dicom_ai_node.config import Settings
from dicom_ai_node.intake.spool import Spool
from dicom_ai_node.node.store import Receiver
from dicom_ai_node.web.fetch import Fetcher
from dicom_ai_node.web.inside import Inside
from dicom_ai_node.web.server import HttpServer
from dicom_ai_node.workflow.coordinator import Coordinator
from dicom_ai_node.workflow.ledger import Ledger
from dicom_ai_node.workflow.watch import StateWatch


class HttpInterface:
    """What a node has beside its receiver where [http] enabled says so.

    Args:
        settings: all of node.toml.

    Raises:
        ConfigurationError: there is no token, or certificate and key are of no use.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server = HttpServer(settings)
        self._inside: Inside | None = None

    @property
    def url(self) -> str:
        """Where the interface is."""
        return self._server.url

    def start(self, spool: Spool, ledger: Ledger, coordinator: Coordinator) -> None:
        """Listen, in the background.

        Raises:
            ConfigurationError: the address cannot be listened on.
        """
        self._inside = inside = Inside(
            settings=self._settings,
            spool=spool,
            receiver=Receiver(self._settings, spool),
            ledger=ledger,
            coordinator=coordinator,
            watch=StateWatch(self._settings, spool, ledger),
            fetcher=Fetcher(self._settings.http.dicomweb, self._settings.storage.folder / "fetches"),
        )
        inside.watch.start()
        inside.fetcher.start(inside)
        self._server.start(inside)

    def stop(self) -> None:
        """Take no more requests, end what still runs."""
        if self._inside is not None:
            self._inside.fetcher.stop()
            # Followers end when the watch does; the server waits for them.
            self._inside.watch.stop()
        self._server.stop()
